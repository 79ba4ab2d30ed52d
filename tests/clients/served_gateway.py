"""A gateway and a worker that computes nothing, as real processes on ports of their own. Standard library only."""

from __future__ import annotations

import pathlib
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "tests/data"
sys.path.insert(0, str(ROOT / "tests/testing"))
from served_process import PATIENCE_SECONDS, Process  # noqa: E402


class ServedGateway:
    """Of the binaries in `bin_folder`; `url` is that of its HTTP listener."""

    def __init__(self, bin_folder: pathlib.Path, worker_flags=(), gateway_flags=()):
        self.folder = tempfile.TemporaryDirectory(prefix="coterie-clients-")
        folder = pathlib.Path(self.folder.name)
        self.children = []
        try:
            model, store = DATA / "tiny-llama", folder / "store"
            store.mkdir()
            worker = self._start([bin_folder / "coterie-worker", "--fake", f"--model={model}", f"--store={store}",
                                  "--listen=127.0.0.1:0", "--metrics-port=-1", "--fake-step-time=4ms", *worker_flags], folder / "worker.log")
            gateway = self._start([bin_folder / "coterie-gateway", f"--model={model}", f"--embedder={DATA / 'tiny-bert'}",
                                   f"--store={store}", f"--workers={worker.words[1]}", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0",
                                   "--metrics-port=-1", "--http-listen=127.0.0.1:0", "--shadow-share=0", *gateway_flags], folder / "gateway.log")
            self.url = f"http://127.0.0.1:{gateway.words[gateway.words.index('http') + 1]}"
            self._wait_ready()
        except BaseException:
            self.stop()
            raise

    def _start(self, command, log) -> Process:
        self.children.append(Process(command, log, 1))
        return self.children[-1]

    def _wait_ready(self):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/ready", timeout=10):
                    return
            except urllib.error.HTTPError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def metric(self, name: str) -> float:
        """The sum over all labels."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def stop(self):
        for child in reversed(self.children):
            child.stop()
        self.children = []
        self.folder.cleanup()
