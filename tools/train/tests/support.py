"""What the tests share: scratch folders, text of three fields, and the small models of tests/data."""

from __future__ import annotations

import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
MODEL = ROOT / "tests/data/tiny-llama"
EMBEDDER = ROOT / "tests/data/tiny-bert"
LONG = "This sentence is long enough to count as the text of a section. "
LEARNER = "bigram_learner:BigramLearner"  # trains without torch

FIELDS = {
    "cooking": "onion garlic butter simmer saucepan oven dough flour whisk roast pepper basil broth recipe".split(),
    "sailing": "mast rudder harbour anchor windward keel jib halyard tiller starboard tide buoy hull rigging".split(),
    "chess": "bishop knight pawn castle opening gambit endgame checkmate rook diagonal tempo sacrifice queen board".split(),
}
_GRAMMAR = "the of and to in with for is on that".split()


def passage(field: str, seed: int, n_words: int = 120) -> str:
    rng = random.Random(f"{field}{seed}")
    words = [rng.choice(FIELDS[field] if rng.random() < 0.5 else _GRAMMAR) for _ in range(n_words)]
    return " ".join(words).capitalize() + "."


class Folder(unittest.TestCase):
    """A scratch folder for each test."""

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.path = pathlib.Path(scratch.name)

    def write(self, name: str, content: str | bytes) -> pathlib.Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def write_fields(self, n_documents: int = 6) -> list[pathlib.Path]:
        """A folder for each field; returns them."""
        for field in FIELDS:
            for number in range(n_documents):
                text = "\n\n".join(passage(field, 10 * number + part) for part in range(3))
                self.write(f"{field}/{number}.md", f"# {field} {number}\n\n{text}\n")
        return [self.path / field for field in FIELDS]

    def command(self, *words, expect: int | None = 0, environment: dict | None = None, **more) -> subprocess.CompletedProcess:
        """Runs coterie-experts in a process of its own."""
        run = subprocess.run([sys.executable, "-m", "coterie_experts", *map(str, words)], capture_output=True, text=True,
                             env=self.environment(environment), timeout=300, **more)
        if expect is not None:
            self.assertEqual(run.returncode, expect, run.stderr)
        self.assertNotIn("Traceback", run.stderr)
        return run

    def refused(self, *words, **more) -> str:
        """The one line of a command that is refused."""
        return self.command(*words, expect=1, **more).stderr.strip().splitlines()[-1]

    def environment(self, more: dict | None = None) -> dict:
        paths = [str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "COTERIE_CACHE": str(self.path / "cache"), **(more or {})}
