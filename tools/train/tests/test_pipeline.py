"""From text to a running cluster, with the product's own gateway, its small models, and a learner without torch."""

import json
import os
import pathlib
import signal
import socket
import sqlite3
import subprocess
import time
import unittest

import numpy as np
import safetensors.numpy
import yaml

from coterie_experts.product import binaries
from coterie_experts.product.gateway import Gateway, own_gateway
from coterie_experts.run import manifest
from support import EMBEDDER, LEARNER, MODEL, Folder

BIN = pathlib.Path(os.environ.get("COTERIE_BIN") or binaries._CHECKOUT_BIN)
HAS_PRODUCT = all((BIN / name).is_file() for name in ("coterie", "coterie-gateway", "coterie-worker"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@unittest.skipUnless(HAS_PRODUCT, f"{BIN} has no coterie, coterie-gateway and coterie-worker: the pipeline is not tested")
class PipelineTest(Folder):
    MODELS = ("--model", MODEL, "--embedder", EMBEDDER, "--bin", BIN)

    def cluster(self, *words, **more):
        return self.command("cluster", *self.write_fields(), "--out", self.path / "run", "--clusters", 3, *self.MODELS, *words, **more)

    def train(self, *words):
        return self.command("train", self.path / "run", "--model", MODEL, "--learner", LEARNER, "--tokens-per-expert", 3000, *words)

    def test_text_becomes_experts_that_a_running_cluster_routes_to(self):
        self.cluster("--labels", "--licence", "MIT")
        self.train()
        with self.running_cluster() as (address, admin):
            published = self.command("publish", self.path / "run", "--gateway", address, "--admin", admin, *self.MODELS)
            self.assertIn("cooking@", published.stderr)
            again = self.command("publish", self.path / "run", "--gateway", address, "--admin", admin, *self.MODELS)
            self.assertEqual(again.stderr.count("was already live"), 3)
            gateway = Gateway(address, admin)
            listed = gateway.admin_call("ExpertService.List", gateway.protocol.ListExpertsRequest())
            self.assertEqual([e.name for e in listed.experts], ["chess", "cooking", "sailing"])
            self.assertEqual({e.licence for e in listed.experts}, {"MIT"})
            run = manifest.load(self.path / "run")
            prototype = next(c for c in run.chunks if c.split == "train")
            route = gateway.call("GenerationService.Route", gateway.protocol.RouteRequest(prompt=prototype.text, expert="auto"))
            self.assertTrue(route.decision.candidates)
            answer = gateway.call("GenerationService.Score", gateway.protocol.ScoreRequest(prompt="a", completion=" b c", expert="chess"))
            self.assertEqual([e.name for e in answer.route.experts], ["chess"])
            gateway.close()

    def test_a_second_clustering_embeds_nothing_and_writes_the_same(self):
        first = self.cluster()
        before = {p.name: p.read_bytes() for p in (self.path / "run").iterdir()}
        again = self.cluster(environment={"COTERIE_CACHE": str(self.path / "cache")})
        after = {p.name: p.read_bytes() for p in (self.path / "run").iterdir()}
        self.assertIn("54/54", first.stderr)
        self.assertIn("54/54", again.stderr)
        for name in ("chunks.jsonl", "embeddings.npy", "centroids.npy"):
            self.assertEqual(before[name], after[name], name)
        self.assertEqual(self.drop_time(before["manifest.json"]), self.drop_time(after["manifest.json"]))

    @staticmethod
    def drop_time(content: bytes) -> dict:
        values = json.loads(content)
        del values["made"]
        return values

    def test_the_vectors_of_a_run_are_those_that_the_gateway_gives(self):
        self.cluster()
        run = manifest.load(self.path / "run")
        with own_gateway(MODEL, EMBEDDER, bin_folder=BIN) as gateway:
            texts = [c.text for c in run.chunks[:5]]
            answer = gateway.call("GenerationService.Embed", gateway.protocol.EmbedRequest(texts=texts))
        np.testing.assert_array_equal(run.embeddings()[:5], np.array([e.values for e in answer.embeddings], np.float32))

    def test_a_source_held_out_is_in_no_cluster_and_no_document_is_on_two_sides(self):
        self.cluster("--holdout-source", "sailing", "--clusters", 2)
        run = manifest.load(self.path / "run")
        outside = [c for c in run.chunks if c.split == "outside"]
        self.assertEqual({run.manifest.documents[c.document].source for c in outside}, {"sailing"})
        self.assertEqual({c.cluster for c in outside}, {-1})
        self.assertEqual({c.document for c in run.chunks if c.split == "train"} & {c.document for c in run.chunks if c.split == "held_out"}, set())
        self.assertNotIn("sailing", {s for c in run.manifest.clusters for s in c.sources})

    def test_a_sample_limits_training_text_and_leaves_no_split_empty(self):
        self.write_fields(n_documents=20)
        self.cluster("--max-chunks-per-source", 25, "--clusters", 2)
        run = manifest.load(self.path / "run")
        for field in ("cooking", "sailing", "chess"):
            splits = [c.split for c in run.chunks if run.manifest.documents[c.document].source == field]
            self.assertEqual([splits.count(s) for s in ("train", "validation", "held_out")], [25, 3, 6])

    def test_folders_are_written_whole_with_card_and_prototypes(self):
        self.cluster()
        self.train()
        self.command("publish", self.path / "run", "--out", self.path / "experts", "--prefix", "t-", "--prototypes", 4, "--routing-reference")
        folders = sorted((self.path / "experts").iterdir())
        self.assertEqual(len(folders), 3)
        for folder in folders:
            card = yaml.safe_load((folder / "expert.yaml").read_text())
            self.assertEqual(card["name"], folder.name)
            self.assertTrue(folder.name.startswith("t-"))
            self.assertEqual(len(card["base_digest"]), 64)
            self.assertNotIn("thresholds", card)  # the gateway's own
            self.assertGreater(card["training"]["tokens"], 0)
            self.assertEqual(sorted(p.name for p in folder.iterdir()),
                             ["adapter_config.json", "adapter_model.safetensors", "expert.yaml", "prototypes.safetensors"])
            vectors = safetensors.numpy.load_file(folder / "prototypes.safetensors")["prototypes"]
            np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
            self.assertEqual(vectors.shape[0], 4)
            run = manifest.load(self.path / "run")
            cluster = next(c.index for c in run.manifest.clusters if "t-" + c.name == folder.name)
            scores = [max(run.embeddings()[i] @ v for v in vectors) for i in run.chunks_of(cluster, "validation")]
            self.assertEqual(card["routing"]["n"], len(scores))
            self.assertAlmostEqual(card["routing"]["mean_score"], float(np.mean(scores)), places=3)
            self.assertAlmostEqual(card["routing"]["std_score"], float(np.std(scores)), places=3)
        self.command("publish", self.path / "run", "--store", self.path / "store", *self.MODELS)
        self.assertTrue((self.path / "store/catalogue.json").is_file())
        self.command("publish", self.path / "run", "--out", self.path / "experts", "--prefix", "t-", "--min-score", 0.31)
        for folder in folders:
            self.assertEqual(yaml.safe_load((folder / "expert.yaml").read_text())["thresholds"], {"min_score": 0.31})
        refused = self.command("publish", self.path / "run", "--out", self.path / "experts", "--min-score", 1.5, expect=2)
        self.assertIn("'1.5' is not a number from -1 to 1", refused.stderr)

    def test_one_command_makes_experts_and_done_again_changes_nothing(self):
        words = ("make", *self.write_fields(), "--out", self.path / "mixture", "--quick", "--clusters", 3, "--tokens-per-expert", 3000,
                 "--learner", LEARNER, "--rank", 2, *self.MODELS)
        self.command(*words)
        before = {p: p.read_bytes() for p in (self.path / "mixture/experts").rglob("*") if p.is_file()}
        self.assertEqual(len(before), 12)
        self.assertIn("3 adapters, 3 are there", self.command(*words).stderr)
        self.assertEqual(before, {p: p.read_bytes() for p in before})
        self.assertIn("was made with other settings", self.refused(*words, "--clusters", 2))

    def test_without_torch_making_ends_before_it_begins(self):
        said = self.refused("make", *self.write_fields(), "--out", self.path / "mixture", "--learner", "no_such_module:X", *self.MODELS)
        self.assertIn("training needs no_such_module, which is not installed: pip install 'coterie-experts[train]'", said)
        self.assertFalse((self.path / "mixture").exists())

    def test_an_evaluation_is_scored_by_the_product_once_and_calibration_reaches_the_cards(self):
        self.cluster("--holdout-source", "sailing", "--clusters", 2, "--chunk-characters", 350)
        self.train()
        self.train("--everything")
        words = ("evaluate", self.path / "run", "--everything-set", "everything", "--samples", 2, "--prompt-characters", 100,
                 "--worker-threads", 1, *self.MODELS)
        self.command(*words)
        found = json.loads((self.path / "run/sets/experts/report/evaluation.json").read_text())
        self.assertEqual(found["samples"], 4)
        self.assertEqual(sorted(found["policies"]["base"]["by_domain"]), ["chess", "cooking"])
        self.assertEqual(list(found["outside"]["base"]["by_domain"]), ["sailing"])
        self.assertEqual(len(found["matrix"]), 4)  # two experts, the base, everything
        self.assertLessEqual(found["policies"]["oracle"]["loss"], found["policies"]["random expert"]["loss"])
        self.assertTrue(0 < found["first_token"]["routing_share"] < 1)
        self.assertIn("<h1>", (self.path / "run/sets/experts/report/evaluation.html").read_text())
        with sqlite3.connect(self.path / "run/scores.sqlite") as cache:  # what is read again is what is remembered
            rows = cache.execute("SELECT asked, logprobs FROM scores").fetchall()
            self.assertEqual(len(rows), 40)  # passages: 4 held out, 4 of validation, 2 of no field; 4 candidates
            cache.executemany("UPDATE scores SET logprobs = ? WHERE asked = ?",
                              [(np.full(len(logprobs) // 4, -2, "<f4").tobytes(), asked) for asked, logprobs in rows])
        self.command(*words)
        again = json.loads((self.path / "run/sets/experts/report/evaluation.json").read_text())
        for name, figures in again["policies"].items():
            self.assertAlmostEqual(figures["loss"], 2, msg=name)
        self.command("calibrate", self.path / "run", "--samples", 2, "--prompt-characters", 100, "--worker-threads", 1, *self.MODELS)
        chosen = json.loads((self.path / "run/sets/experts/calibration.json").read_text())
        self.command("publish", self.path / "run", "--out", self.path / "experts")
        for card in (self.path / "experts").glob("*/expert.yaml"):
            self.assertEqual(yaml.safe_load(card.read_text())["thresholds"], {"min_score": chosen["min_score"]})

    def test_a_study_of_several_settings_ends_in_a_document_and_done_again_makes_nothing_twice(self):
        scored = ("--samples", 2, "--prompt-characters", 100, "--worker-threads", 1)
        words = ("study", *self.write_fields(), "--holdout-source", "chess", "--chunk-characters", 350, "--settings", "1,2,labels", "--total-tokens", 4000, "--out", self.path / "study",
                 "--document", self.path / "docs/help.md", *scored, "--embedder-threads", 1, "--learner", LEARNER, *self.MODELS)
        self.command(*words)
        document = (self.path / "docs/help.md").read_text()
        self.assertEqual(sorted(p.name for p in (self.path / "docs/help").iterdir()), ["domains.svg", "evaluation.html", "settings.svg"])
        found = {name: json.loads((self.path / "study" / name / "sets/experts/report/evaluation.json").read_text()) for name in ("k2", "labels")}
        for name, result in found.items():
            self.assertIn(f"{result['policies']['routed by the product']['loss']:.3f}", document, name)
            self.assertIn("nearest centroid", result["validation_loss"], name)
        self.assertRegex(document, r"one adapter on everything \(1 cluster\) \| \d\.\d{3}")
        self.assertRegex(document, r"text of no field .*(reached|missed)")
        again = self.command(*words)
        self.assertEqual(again.stderr.count("report is there"), 2)
        self.assertNotIn("scoring", again.stderr)
        self.assertEqual((self.path / "docs/help.md").read_text(), document)
        self.assertIn("Kept out of training altogether: chess.", document)
        self.command("evaluate", self.path / "study/k2", *scored, *self.MODELS)  # without the adapter on everything
        again = self.command(*words)
        self.assertEqual(again.stderr.count("report is there"), 1)
        self.assertEqual((self.path / "docs/help.md").read_text().count("minus everything's"), 2)
        self.command("train", self.path / "study/k2", "--set", "other-seed", "--total-tokens", 4000, "--seed", 7, "--learner", LEARNER, "--model", MODEL)
        self.command("evaluate", self.path / "study/k2", "--set", "other-seed", "--everything-set", "everything", *scored, *self.MODELS)
        self.command(*words)
        self.assertRegex((self.path / "docs/help.md").read_text(), r"\n\| (\*\*)?2 clusters, other-seed(\*\*)? \| \d\.\d{3} \| [-+]\d\.\d{3}")  # compared
        self.command("evaluate", self.path / "study/k2", "--set", "other-seed", "--everything-set", "everything", *scored, "--prototypes", 5, *self.MODELS)
        self.command(*words)
        self.assertIn("| k2: 2 clusters, other-seed |", (self.path / "docs/help.md").read_text())  # only listed
        fewer = self.command(*words, "--samples", 1)
        self.assertNotIn("report is there", fewer.stderr)
        self.command(*("2" if word == "1,2,labels" else word for word in words))
        self.assertRegex((self.path / "docs/help.md").read_text(), r"\| labels: 2 sources as labels \| 1,999 \| ")  # of an earlier study

    def test_a_report_that_cannot_be_read_is_refused_before_a_study_trains(self):
        self.cluster()
        (self.path / "study").mkdir()
        (self.path / "run").rename(self.path / "study/pilot")
        report = self.path / "study/pilot/sets/small/report"
        report.mkdir(parents=True)
        (report / "evaluation.json").write_text('{"policies": {"base": {}}}')
        refused = self.command("study", *self.write_fields(), "--settings", "2", "--total-tokens", 4000, "--out", self.path / "study", "--chunk-characters", 350,
                               "--embedder-threads", 1, "--learner", LEARNER, *self.MODELS, expect=1)
        self.assertIn("evaluation.json has no figures of 'routed by the product'", refused.stderr)
        self.assertFalse((self.path / "study/k2/sets").exists())

    def test_a_study_of_one_cluster_alone_is_refused(self):
        refused = self.command("study", self.path, "--settings", "1", "--out", self.path / "study", expect=2)
        self.assertIn("name another", refused.stderr)

    def test_a_run_of_another_base_is_not_published_and_nothing_is_written(self):
        self.cluster()
        self.train()
        path = self.path / "run/manifest.json"
        path.write_text(path.read_text().replace(manifest.load(self.path / "run").manifest.base["digest"], "0" * 64))
        said = self.refused("publish", self.path / "run", "--store", self.path / "store", *self.MODELS)
        self.assertIn("the run was made with the base 000000000000…, the gateway at", said)
        self.assertFalse(list((self.path / "store").glob("catalogue.json")))

    def test_half_a_set_is_not_published(self):
        self.cluster()
        self.train("--index", 0)
        said = self.refused("publish", self.path / "run", "--out", self.path / "experts")
        self.assertIn("2 of 3 adapters of set 'experts' are not trained yet", said)
        self.assertFalse((self.path / "experts").exists())

    def running_cluster(self):
        return _Cluster(self.path)


class _Cluster:
    """A gateway and a worker by `coterie up`."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path, self.address, self.admin = path, f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"

    def __enter__(self) -> tuple[str, str]:
        self.log = self.path / "up.log"
        command = [BIN / "coterie", "up", f"--model={MODEL}", f"--embedder={EMBEDDER}", f"--store={self.path / 'up-store'}", "--workers=1",
                   f"--listen={self.address}", f"--admin-listen={self.admin}", "--http-listen=", f"--worker-port={free_port()}", "--metrics-port=-1", f"--log-dir={self.path / 'log'}"]
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen([str(c) for c in command], stderr=log, stdout=log)
        deadline = time.monotonic() + 60
        while "ready" not in self.log.read_text():
            if self.child.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise AssertionError(self.log.read_text())
            time.sleep(0.05)
        return self.address, self.admin

    def __exit__(self, *_) -> None:
        self.child.send_signal(signal.SIGTERM)
        self.child.wait(30)


if __name__ == "__main__":
    unittest.main()
