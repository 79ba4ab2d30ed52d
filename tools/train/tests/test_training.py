"""Plans, checkpoints, sets of adapters and the loop, with a learner that needs no torch."""

import json
import math
import os
import signal
import subprocess
import sys
import time
import unittest

import yaml

from bigram_learner import BigramLearner
from coterie_experts import files
from coterie_experts.errors import Refused
from coterie_experts.training import checkpoint as checkpoints
from coterie_experts.training import loop, plan
from coterie_experts.training.checkpoint import Checkpoint
from coterie_experts.training.settings import Settings, divide_tokens
from hand_made import write_run
from support import LEARNER, MODEL, ROOT, Folder, passage


class SettingsTest(unittest.TestCase):
    def test_modules_and_layers_are_words_or_names(self):
        self.assertEqual(len(Settings().module_names()), 7)
        self.assertEqual(Settings(modules="q_proj,v_proj").module_names(), ["q_proj", "v_proj"])
        self.assertEqual(Settings(layers="upper:10").upper_layers(), 10)
        self.assertIsNone(Settings().upper_layers())

    def test_what_is_neither_is_refused_with_what_may_be_said(self):
        for wrong, said in (({"modules": "q proj"}, "--modules 'q proj'"), ({"layers": "upper:0"}, "--layers 'upper:0'"),
                            ({"layers": "lower:3"}, "neither all nor upper:K"), ({"share": "fair"}, "--share 'fair'")):
            with self.assertRaisesRegex(Refused, said):
                Settings(**wrong)

    def test_tokens_are_divided_equally_or_by_text(self):
        self.assertEqual(divide_tokens(Settings(tokens_per_expert=7), [1, 2]), [7, 7])
        self.assertEqual(divide_tokens(Settings(total_tokens=90, share="equal"), [100, 200]), [45, 45])
        self.assertEqual(divide_tokens(Settings(total_tokens=90), [100, 200]), [45, 60])  # none less than a step or an equal share
        self.assertEqual(divide_tokens(Settings(total_tokens=90, batch_tokens=8), [100, 200, 1]), [29, 59, 8])
        with self.assertRaisesRegex(Refused, "--total-tokens 2 are fewer than there are clusters, 3"):
            divide_tokens(Settings(total_tokens=2), [1, 1, 1])


class PlanTest(unittest.TestCase):
    EXAMPLES = [tuple(range(n)) for n in range(30, 130)]

    def test_a_plan_holds_the_tokens_asked_for_and_repeats_short_text(self):
        for wanted in (1000, 5000, 20_000):
            made = plan.make_plan(self.EXAMPLES, wanted, 512, seed=1)
            held = sum(len(e) for batch in made.batches for e in batch)
            self.assertEqual(held, made.n_tokens)
            self.assertTrue(wanted <= held < wanted + 130)
            self.assertTrue(all(sum(map(len, b)) < 512 + 130 for b in made.batches))

    def test_no_example_comes_twice_before_all_came_once(self):
        made = plan.make_plan(self.EXAMPLES, made_tokens := sum(map(len, self.EXAMPLES)), 512, seed=1)
        self.assertEqual(sorted(e for b in made.batches for e in b), sorted(self.EXAMPLES))
        self.assertEqual(made.n_distinct, made_tokens)

    def test_the_seed_decides_the_order(self):
        one, same, other = (plan.make_plan(self.EXAMPLES, 3000, 512, seed) for seed in (1, 1, 2))
        self.assertEqual(one, same)
        self.assertNotEqual(one, other)

    def test_long_chunks_are_cut_and_crumbs_left_out(self):
        self.assertEqual([len(e) for e in plan.examples_of([list(range(300)), list(range(10))], 256)], [256, 44])
        with self.assertRaisesRegex(Refused, "no training text of 24 tokens"):
            plan.make_plan([], 100, 512, 1)


class RateTest(unittest.TestCase):
    def test_it_warms_up_and_falls_to_a_twentieth(self):
        settings = Settings(learning_rate=1.0, warmup=0.1)
        rates = [loop.rate_at(settings, step, 100) for step in range(100)]
        self.assertEqual(max(rates), 1.0)
        self.assertEqual(rates[:10], [(i + 1) / 10 for i in range(10)])
        self.assertTrue(0.05 <= rates[-1] < 0.06)


class LoopTest(Folder):
    SETTINGS = Settings(tokens_per_expert=12_000, batch_tokens=500, checkpoint_steps=4)

    def train(self, learner, name="a"):
        ids = learner.encode([passage("chess", i) for i in range(10)])
        made = plan.make_plan(plan.examples_of(ids, 256), 12_000, 500, 1)
        return loop.train(learner, made, self.SETTINGS, self.path / f"{name}.checkpoint", "same", loop.Progress(self.path / f"{name}.progress"))

    def test_an_interrupted_training_goes_on_to_the_same_state_and_the_loss_falls(self):
        whole = BigramLearner(MODEL, self.SETTINGS)
        result = self.train(whole)
        self.assertLess(result.loss, math.log(256) - 0.5)

        class Interrupted(BigramLearner):
            left = 10

            def step(self, batch, rate):
                self.left -= 1
                if self.left < 0:
                    raise KeyboardInterrupt
                return super().step(batch, rate)

        with self.assertRaises(KeyboardInterrupt):
            self.train(Interrupted(MODEL, self.SETTINGS), "b")
        self.assertEqual(checkpoints.load(self.path / "b.checkpoint", "same").step, 8)
        resumed = BigramLearner(MODEL, self.SETTINGS)
        self.train(resumed, "b")
        self.assertEqual(whole.state(), resumed.state())
        seen = json.loads((self.path / "b.progress").read_text())
        self.assertEqual(seen["step"], result.steps)

    def test_a_loss_that_is_no_number_ends_the_training(self):
        class Broken(BigramLearner):
            def step(self, batch, rate):
                return math.nan

        with self.assertRaisesRegex(Refused, "the loss is nan at step 0: lower --learning-rate"):
            self.train(Broken(MODEL, self.SETTINGS))


class CheckpointTest(Folder):
    def test_a_torn_or_foreign_checkpoint_is_not_used(self):
        path = self.path / "c"
        self.assertIsNone(checkpoints.load(path, "f"))
        checkpoints.save(path, Checkpoint("f", 7, 1.5, 2.0, b"state\nwith lines"))
        self.assertEqual(checkpoints.load(path, "f").state, b"state\nwith lines")
        self.assertIsNone(checkpoints.load(path, "other"))
        path.write_bytes(path.read_bytes()[:-1])
        self.assertIsNone(checkpoints.load(path, "f"))
        path.write_bytes(b"\xff\xfe")
        self.assertIsNone(checkpoints.load(path, "f"))


class CommandTest(Folder):
    """`train` as it is typed, over a run that was written by hand."""

    def setUp(self):
        super().setUp()
        self.run_folder = write_run(self.path, n_clusters=3)

    def train(self, *words, **more):
        return self.command("train", self.run_folder, "--model", MODEL, "--learner", "bigram_learner:BigramLearner", "--tokens-per-expert", "9000",
                            "--batch-tokens", "300", "--checkpoint-steps", "2", *words, **more)

    def adapters(self, name="experts"):
        return {p.parent.name: p.read_bytes() for p in self.run_folder.glob(f"sets/{name}/*/adapter_model.safetensors")}

    def test_one_adapter_a_cluster_the_same_for_any_number_of_jobs_and_a_second_run_does_nothing(self):
        self.train("--jobs", "3")
        self.train("--set", "again", "--jobs", "1")
        self.assertEqual(len(self.adapters()), 3)
        self.assertEqual(self.adapters(), self.adapters("again"))
        self.assertEqual(len(set(self.adapters().values())), 3)
        self.assertIn("3 adapters, 3 are there", self.train().stderr)

    def test_everything_trains_one_adapter_with_the_tokens_of_all(self):
        self.train("--everything")
        record = json.loads((self.run_folder / "sets/everything/everything/training.json").read_text())
        self.assertTrue(27_000 <= record["tokens"] < 27_300)

    def test_an_index_trains_that_cluster_alone_from_the_option_or_from_kubernetes(self):
        self.train("--index", "1")
        self.train(environment={"JOB_COMPLETION_INDEX": "2"})
        self.assertEqual(sorted(self.adapters()), ["field-1", "field-2"])
        self.assertIn("--index 9: set 'experts' has 3 adapters", self.train("--index", "9", expect=1).stderr)

    def test_the_job_for_kubernetes_is_indexed_and_its_command_is_understood(self):
        job = yaml.safe_load((ROOT / "deploy/training/job.yaml").read_text())
        self.assertEqual(job["spec"]["completionMode"], "Indexed")
        trainer = job["spec"]["template"]["spec"]["containers"][0]
        words = [str(self.run_folder) if w == "/runs/mine" else str(MODEL) if w.endswith(".gguf") else w for w in trainer["args"]]
        words[words.index("--tokens-per-expert") + 1] = "3000"
        self.command(*words, "--learner", LEARNER, environment={"JOB_COMPLETION_INDEX": "0"})
        self.assertEqual(sorted(self.adapters()), ["field-0"])

    def test_a_killed_trainer_goes_on_and_ends_in_the_same_bytes(self):
        self.train("--set", "whole")
        command = [sys.executable, "-m", "coterie_experts", "train", str(self.run_folder), "--model", str(MODEL), "--learner",
                   "bigram_learner:BigramLearner", "--tokens-per-expert", "9000", "--batch-tokens", "300", "--checkpoint-steps", "2", "--jobs", "2"]
        child = subprocess.Popen(command, env=self.environment({"COTERIE_TEST_STEP_SECONDS": "0.1"}), stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not list(self.run_folder.glob("sets/experts/work/*.checkpoint")):
            self.assertLess(time.monotonic(), deadline, "no checkpoint was written")
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        self.assertFalse(self.adapters())
        # The trainers end with their starter, so that nothing holds their locks.
        for _ in range(200):
            if self.train("--jobs", "2", expect=None).returncode == 0:
                break
            time.sleep(0.1)
        self.assertEqual(self.adapters(), self.adapters("whole"))
        self.assertIn("taken up again at step", "".join(p.read_text() for p in self.run_folder.glob("sets/experts/work/*.log")))
        self.assertFalse(list(self.run_folder.glob("sets/experts/.*")))

    def test_a_corpus_that_changed_is_an_error_that_names_the_file(self):
        changed = next(self.path.glob("corpus/*/0.md"))
        changed.write_text(changed.read_text() + "more")
        self.assertIn(f"{changed} has changed since the manifest was made", self.train(expect=1).stderr)
        self.assertFalse((self.run_folder / "sets").exists())
        changed.unlink()
        self.assertIn(f"{changed}, of which the manifest was made, cannot be read", self.train(expect=1).stderr)

    def test_a_changed_run_another_base_and_other_settings_are_refused(self):
        self.train()
        self.assertIn("was begun with other settings (rank 4, not 8)", self.train("--rank", "8", expect=1).stderr)
        manifest = json.loads((self.run_folder / "manifest.json").read_text())
        manifest["base"]["file_sha256"] = "0" * 64
        files.write_json(self.run_folder / "manifest.json", manifest)
        self.assertIn("is not the one that", self.train("--set", "new", expect=1).stderr)
        (self.run_folder / "chunks.jsonl").write_text("{}\n")
        self.assertIn("chunks.jsonl is not the file that manifest.json was written with", self.train(expect=1).stderr)
        self.assertIn("holds no manifest.json", self.refused("train", self.path / "nowhere"))

    def test_a_training_that_fails_is_named_with_its_last_words_and_the_others_go_on(self):
        run = self.train("--jobs", "2", expect=1, environment={"COTERIE_TEST_FAIL_ON": "checkmate"})
        self.assertRegex(run.stderr, "not trained: field-[012];")
        self.assertIn("cannot learn 'checkmate', as it was told", run.stderr)
        self.assertEqual(len(self.adapters()), 2)
        self.train()
        self.assertEqual(len(self.adapters()), 3)


if __name__ == "__main__":
    unittest.main()
