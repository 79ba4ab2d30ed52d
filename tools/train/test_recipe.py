#!/usr/bin/env python3
"""Tests of the recipe: python3 -m unittest test_recipe (in this folder). What needs torch is skipped without it."""

import contextlib
import gzip
import importlib.util
import io
import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import documents as corpus  # noqa: E402
import examples as ex  # noqa: E402

HAS_TORCH = all(importlib.util.find_spec(m) for m in ("torch", "peft", "transformers"))
TINY_LLAMA = HERE.parent.parent / "tests/data/tiny-llama"
LONG = "This sentence is long enough to count as the text of a section. "


class Folder(unittest.TestCase):
    def setUp(self):
        self._scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self._scratch.cleanup)
        self.path = pathlib.Path(self._scratch.name)

    def write(self, name: str, text: str) -> pathlib.Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path


class DocumentsTest(Folder):
    def read(self, name: str, text: str) -> corpus.Document:
        return corpus.read_document(self.write(name, text), name)

    def test_html_headings_start_sections_and_navigation_is_left_out(self):
        document = self.read("a.html", f"<html><head><title>T</title><script>var x;</script></head><body><nav>menu</nav><h1>Top\u00b6</h1>"
                                       f"<p>{LONG}</p><div class='navfooter'>Prev</div><h2>2.1. Sub</h2><pre>keep\n  this</pre><p>{LONG}</p></body></html>")
        self.assertEqual([s.heading for s in document.sections], ["Top", "Sub"])
        self.assertIn("keep\n  this", document.sections[1].text)
        self.assertNotIn("menu", document.sections[0].text + document.sections[1].text)
        self.assertNotIn("Prev", document.sections[0].text)

    def test_man_pages_lose_their_macros_and_keep_their_prose(self):
        document = self.read("ls.1", f'.TH LS 1 "2022" "GNU"\n.SH NOM\nls \\- affiche\n.PP\n{LONG}\n.SH "LES OPTIONS"\n.TP\n\\fB\\-a\\fR, \\fB\\-\\-all\\fR\n{LONG}\n')
        self.assertEqual(document.title, "ls(1)")
        self.assertEqual([s.heading for s in document.sections], ["NOM", "LES OPTIONS"])
        self.assertIn("-a, --all", document.sections[1].text)
        self.assertNotIn("\\f", document.sections[1].text)

    def test_markdown_fences_hide_headings(self):
        document = self.read("a.md", f"# One\n{LONG}\n```\n# not a heading\n```\n## Two\n{LONG}\n")
        self.assertEqual([s.heading for s in document.sections], ["One", "Two"])

    def test_gzipped_files_are_read(self):
        path = self.path / "a.txt.gz"
        with gzip.open(path, "wt") as out:
            out.write(LONG)
        self.assertIsNotNone(corpus.read_document(path, "a"))

    def test_binary_and_short_files_are_no_documents(self):
        path = self.path / "a.bin"
        path.write_bytes(b"\0\1\2" * 100)
        self.assertIsNone(corpus.read_document(path, "a"))
        self.assertIsNone(self.read("b.txt", "short"))

    def test_an_empty_folder_a_missing_one_and_unreadable_files_are_named(self):
        with self.assertRaisesRegex(ValueError, "no file under .* matches"):
            corpus.read_corpus(self.path, ["**/*"])
        with self.assertRaisesRegex(ValueError, "neither a folder"):
            corpus.read_corpus(self.path / "nowhere", ["**/*"])
        self.write("a.txt", "short")
        with self.assertRaisesRegex(ValueError, "none of the 1 files"):
            corpus.read_corpus(self.path, ["**/*"])

    def test_a_list_of_documents_is_a_source_too(self):
        path = self.write("docs/a.md", LONG)
        listing = self.write("list.txt", f"{path}\n\n")
        self.assertEqual(len(corpus.read_corpus(listing, [])), 1)
        with self.assertRaisesRegex(ValueError, "is not a file"):
            corpus.read_corpus(self.write("bad.txt", "/no/such/file\n"), [])

    def test_a_limit_samples_the_whole_corpus(self):
        for number in range(20):
            self.write(f"{number:02}.md", LONG)
        names = [d.name for d in corpus.read_corpus(self.path, ["*.md"], limit=4)]
        self.assertEqual(names, ["00.md", "05.md", "10.md", "15.md"])


class SplitTest(unittest.TestCase):
    DOCUMENTS = [corpus.Document(f"d{i}", "t", (corpus.Section("h", LONG),)) for i in range(30)]

    def test_no_document_is_on_both_sides_and_order_does_not_matter(self):
        train, held = ex.split_documents(self.DOCUMENTS, 0.2, seed=1)
        self.assertEqual((len(train), len(held)), (24, 6))
        self.assertFalse({d.name for d in train} & {d.name for d in held})
        again = ex.split_documents(self.DOCUMENTS[::-1], 0.2, seed=1)
        self.assertEqual([d.name for d in held], [d.name for d in again[1]])

    def test_one_document_is_refused_and_two_are_enough(self):
        with self.assertRaisesRegex(ValueError, "at least 2"):
            ex.split_documents(self.DOCUMENTS[:1], 0.2, seed=1)
        train, held = ex.split_documents(self.DOCUMENTS[:2], 0.01, seed=1)
        self.assertEqual((len(train), len(held)), (1, 1))

    def test_short_material_repeats_until_the_steps_are_full(self):
        pairs = [ex.Example("pair", tuple(range(50)), 10)]
        batches = ex.batches(pairs, [], n_steps=5, batch_tokens=200, seed=1)
        self.assertEqual(len(batches), 5)
        self.assertEqual(batches, ex.batches(pairs, [], n_steps=5, batch_tokens=200, seed=1))
        with self.assertRaisesRegex(ValueError, "no example"):
            ex.batches([], [], n_steps=5, batch_tokens=200, seed=1)


@unittest.skipUnless(HAS_TORCH and TINY_LLAMA.is_dir(), "needs torch, transformers, peft and tests/data/tiny-llama")
class TrainingTest(Folder):
    def train(self, is_killed: bool):
        import torch
        import transformers

        import training

        settings = training.Settings(steps=6, checkpoint_every=3, learning_rate=5e-3, seed=3)
        torch.set_num_threads(1)
        base = transformers.AutoModelForCausalLM.from_pretrained(TINY_LLAMA, dtype=torch.float32).requires_grad_(False)
        model = training.wrap_base(base, settings)
        examples = [ex.Example("chunk", tuple((7 * i + j) % 300 for j in range(40)), 1) for i in range(12)]
        plan = ex.batches([], examples, settings.steps, 160, seed=3)
        if is_killed:
            class Killed(Exception):
                pass

            save = training._save

            def save_and_die(path, state):
                save(path, state)
                raise Killed

            training._save = save_and_die
            try:
                with self.assertRaises(Killed):
                    training.train(model, plan, settings, self.path / "checkpoint", "same")
            finally:
                training._save = save
            return None
        training.train(model, plan, settings, self.path / "checkpoint", "same")
        return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}

    def test_a_killed_run_goes_on_to_the_same_adapter(self):
        import torch

        with contextlib.redirect_stdout(io.StringIO()) as output:
            whole = self.train(is_killed=False)
            (self.path / "checkpoint").unlink()
            self.train(is_killed=True)  # at its first checkpoint
            resumed = self.train(is_killed=False)
        self.assertIn("taken up again at step 3", output.getvalue())
        self.assertTrue(all(torch.equal(whole[name], resumed[name]) for name in whole))
        self.assertTrue(any(p.abs().sum() > 0 for name, p in whole.items() if "lora_B" in name))


class CommandTest(Folder):
    @unittest.skipUnless(HAS_TORCH, "needs torch")
    def test_errors_are_one_line_and_no_trace(self):
        run = subprocess.run([sys.executable, HERE / "make_expert.py", "--name", "x", "--source", self.path, "--out", self.path / "out"],
                             capture_output=True, text=True)
        self.assertEqual(run.returncode, 1)
        self.assertIn("no file under", run.stderr)
        self.assertNotIn("Traceback", run.stderr)
        self.assertFalse((self.path / "out").exists())


if __name__ == "__main__":
    unittest.main()
