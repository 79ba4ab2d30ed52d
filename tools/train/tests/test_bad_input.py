"""What cannot be used is refused in one line that names it, and nothing is published by halves."""

import json
import pathlib
import resource
import unittest
import unittest.mock

from coterie_experts import files
from coterie_experts.corpus.sources import Source
from coterie_experts.errors import Refused
from coterie_experts.product import binaries
from coterie_experts.publishing import folders
from coterie_experts.run import making, manifest
from coterie_experts.training import sets
from hand_made import embed, write_run
from support import LEARNER, LONG, MODEL, Folder, passage

BASE = {"name": "b", "digest": "b" * 64, "file_sha256": ""}
EMBEDDER = {"name": "e", "digest": "e" * 64}


class CorpusTest(Folder):
    def make(self, folder: pathlib.Path, **settings):
        return making.make_run([Source("s", folder)], making.Settings(**{"n_clusters": 2, **settings}), embed, BASE, EMBEDDER)

    def test_an_empty_folder_and_one_of_nothing_readable_are_named_with_the_reasons(self):
        (self.path / "none").mkdir()
        with self.assertRaisesRegex(Refused, "source s: no file under .*none matches"):
            self.make(self.path / "none")
        self.write("bad/a.txt", "")
        self.write("bad/b.bin", b"\0" * 500)
        self.write("bad/c.md", "short")
        with self.assertRaisesRegex(Refused, r"source s .*bad\) holds no readable text: 1 empty .*1 binary .*1 without prose"):
            self.make(self.path / "bad")

    def test_one_document_is_too_few(self):
        self.write("one/a.md", LONG * 20)
        with self.assertRaisesRegex(Refused, "1 document: at least 2 are needed"):
            self.make(self.path / "one")

    def test_more_clusters_than_documents_are_refused(self):
        for number in range(5):
            self.write(f"few/{number}.md", passage("chess", number))
        with self.assertRaisesRegex(Refused, r"--clusters 16 is more than the 3 documents to train on \(5 in all\)"):
            self.make(self.path / "few", n_clusters=16)

    def test_more_clusters_than_different_texts_are_refused(self):
        for number in range(8):
            self.write(f"same/{number}.md", LONG * 3)
        with self.assertRaisesRegex(Refused, "--clusters 2 is more than the 1 chunks that differ"):
            self.make(self.path / "same", near_duplicates=0.0)

    def test_a_corpus_held_out_altogether_is_refused(self):
        folder = self.write("a/x.md", LONG).parent
        self.write("a/y.md", LONG + "And more.")
        with self.assertRaisesRegex(Refused, "every source is held out"):
            making.make_run([Source("s", folder, holdout=True)], making.Settings(), embed, BASE, EMBEDDER)

    def test_options_out_of_bounds_say_their_limits(self):
        run = self.command("cluster", self.path, "--out", self.path / "run", "--clusters", "0", expect=2)
        self.assertIn("--clusters: '0' is not a number from 1 to 100000", run.stderr)
        self.assertIn("leave less than a tenth", self.refused("cluster", self.path, "--out", self.path / "run", "--held-out", 0.6, "--validation", 0.4))
        self.assertIn("nowhere is not there", self.refused("cluster", self.path / "nowhere", "--out", self.path / "run"))

    def test_a_missing_model_or_program_is_named_with_what_to_do(self):
        folder = self.write("a/x.md", LONG).parent
        self.assertIn("run tools/fetch-models", self.refused("cluster", folder, "--out", self.path / "run", "--model", self.path / "no.gguf"))
        self.assertIn("has no coterie-gateway; build it", self.refused(
            "cluster", folder, "--out", self.path / "run", "--model", MODEL, "--embedder", MODEL, "--bin", self.path))


class BaseNameTest(unittest.TestCase):
    def test_a_base_is_called_by_its_model_and_not_by_its_packing(self):
        names = {"SmolLM2-135M-Instruct.Q4_1.gguf": "SmolLM2-135M-Instruct", "Llama-3.2-1B.gguf": "Llama-3.2-1B",
                 "Qwen2.5-0.5B-Q4_K_M.gguf": "Qwen2.5-0.5B", "Qwen2.5-1.5B": "Qwen2.5-1.5B", "tiny.BF16.gguf": "tiny"}
        self.assertEqual({name: binaries.base_name(name) for name in names}, names)


class FullDiskTest(Folder):
    """The limit on a file's size stands for the disk's end: the write fails half-way, as there."""

    def limited(self, n_bytes: int):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, before)

    def test_a_file_that_does_not_fit_leaves_the_one_before(self):
        path = self.write("a", "before")
        self.limited(1000)
        with self.assertRaisesRegex(Refused, r"cannot write .*/a \(5000 bytes\): File too large"):
            files.write_atomically(path, b"x" * 5000)
        self.assertEqual(path.read_text(), "before")
        self.assertEqual([p.name for p in self.path.iterdir()], ["a"])

    def test_a_folder_that_does_not_fit_leaves_the_one_before(self):
        self.write("f/old", "before")
        self.limited(1000)
        with self.assertRaisesRegex(Refused, "cannot write"):
            with files.folder_in_making(self.path / "f") as folder:
                (folder / "new").write_bytes(b"x" * 100)
                (folder / "large").write_bytes(b"x" * 5000)
        self.assertEqual([str(p.relative_to(self.path)) for p in self.path.rglob("*")], ["f", "f/old"])

    def test_a_folder_takes_the_place_of_the_one_before_in_one_step(self):
        self.write("f/old", "before")
        with files.folder_in_making(self.path / "f") as folder:
            (folder / "new").write_text("after")
        self.assertEqual([str(p.relative_to(self.path)) for p in self.path.rglob("*")], ["f", "f/new"])

    def test_a_run_is_not_begun_by_halves(self):
        run = write_run(self.path, 3)
        (run / manifest.MANIFEST).unlink()
        self.assertIn("holds no manifest.json", self.refused("train", run))

    def test_a_training_that_meets_a_full_disk_says_so_and_goes_on_when_there_is_room(self):
        run = write_run(self.path, 3)
        words = ("train", run, "--model", MODEL, "--learner", LEARNER, "--tokens-per-expert", 3000, "--batch-tokens", 300,
                 "--checkpoint-steps", 2, "--index", 0)
        said = self.refused(*words, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)))
        self.assertIn("field-0.checkpoint", said)
        self.assertIn("File too large", said)
        self.assertFalse((run / "sets/experts/field-0").exists())
        self.command(*words)
        self.assertTrue((run / "sets/experts/field-0/adapter_model.safetensors").is_file())

    def test_no_expert_folder_is_left_when_its_prototypes_do_not_fit(self):
        run = write_run(self.path, 3)
        self.command("train", run, "--model", MODEL, "--learner", LEARNER, "--tokens-per-expert", 3000)
        adapters = sets.open_set(manifest.load(run), "experts")
        full = OSError(28, "No space left on device")
        with unittest.mock.patch("coterie_experts.files.os.fsync", side_effect=full), self.assertRaisesRegex(Refused, "No space left on device"):
            folders.write_experts(adapters, self.path / "experts", prefix="", version="1", n_prototypes=2)
        self.assertEqual(list((self.path / "experts").iterdir()), [])


class ManifestTest(Folder):
    def test_another_format_and_torn_files_are_refused(self):
        run = write_run(self.path, 3)
        values = json.loads((run / "manifest.json").read_text())
        files.write_json(run / "manifest.json", {**values, "format": 99})
        with self.assertRaisesRegex(Refused, "has format 99, this version reads 1"):
            manifest.load(run)
        (run / "manifest.json").write_text("{")
        with self.assertRaisesRegex(Refused, "is no JSON"):
            manifest.load(run)
        files.write_json(run / "manifest.json", {"format": 1})
        with self.assertRaisesRegex(Refused, "no run that this version reads"):
            manifest.load(run)

    def test_text_with_every_kind_of_line_end_is_read_as_it_was_written(self):
        odd = "One\x85two\u2028three\x0bfour\x0cfive\x1csix\u2029 " + LONG
        for number in range(4):
            self.write(f"odd/{number}.md", f"{odd}{number}")
        made = making.make_run([Source("s", self.path / "odd")], making.Settings(n_clusters=1, near_duplicates=0.0), embed, BASE, EMBEDDER)
        manifest.save(self.path / "run", *made)
        self.assertEqual([c.text for c in manifest.load(self.path / "run").chunks], [c.text for c in made[1]])
        self.assertIn("\u2028", made[1][0].text)

    def test_vectors_of_another_run_are_refused(self):
        run = write_run(self.path, 3)
        (run / "embeddings.npy").write_bytes(b"other")
        with self.assertRaisesRegex(Refused, "embeddings.npy is not the file that manifest.json was written with"):
            manifest.load(run).embeddings()


if __name__ == "__main__":
    unittest.main()
