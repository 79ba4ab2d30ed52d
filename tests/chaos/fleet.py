"""Gateways and workers as real processes on fixed ports, so that what was killed comes back where it was. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/deploy"), str(ROOT / "tests/testing")]

from cluster import DATA, EXPERTS, free_port, get, questions  # noqa: E402
from served_process import PATIENCE_SECONDS, Process  # noqa: E402

# One core each is what a small machine has for them.
WORKER_FLAGS = ("--max-seqs=16", "--adapter-slots=8", "--reattach-grace=20s")


class Fleet(contextlib.ExitStack):
    """`with Fleet(bin) as fleet:` workers that compute nothing (`--fake`) at a pace of our choice; their tokens depend on all that real ones' do."""

    def __init__(self, bin_folder: pathlib.Path, n_workers=2, n_gateways=1, step_ms=20, worker_flags=(), gateway_flags=(), experts=("law", "sea"),
                 store: pathlib.Path | None = None, hosts=("127.0.0.1",), launchers=((),), computes=False):
        """`hosts` and `launchers`: of each worker its address and the command it is started by; the last holds for all further ones.
        `computes`: workers run the tiny model in earnest, which reads its adapters; its answers are over in no time."""
        super().__init__()
        self.bin = bin_folder
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory(prefix="coterie-chaos-")))
        self.store = store or self.folder / "store"
        self.store.mkdir(exist_ok=True)
        self.worker_flags, self.gateway_flags = list(worker_flags), list(gateway_flags)
        self.hosts, self.launchers = hosts, launchers
        self.computing = ["--threads=1"] if computes else ["--fake", f"--fake-step-time={step_ms}ms"]
        self.worker_ports = [free_port() for _ in range(n_workers)]
        self.gateway_ports = [{name: free_port() for name in ("grpc", "admin", "http", "metrics")} for _ in range(n_gateways)]
        self.workers: list[Process | None] = [None] * n_workers
        self.gateways: list[Process | None] = [None] * n_gateways
        self.n_starts = 0
        try:
            for n in range(n_workers):
                self.start_worker(n)
            for n in range(n_gateways):
                self.start_gateway(n)
            self.callback(self._stop)
            for n in range(n_gateways):
                self.wait_ready(gateway=n)
            for name in experts:
                self.publish(name)
            for url in self.urls():  # each reads the catalogue in its own time
                self.wait(lambda url=url: self.names(url) >= set(experts), f"{url} knows {', '.join(experts)}")
        except BaseException:
            self._stop()
            self.close()
            raise

    def _stop(self):
        for process in [*self.gateways, *self.workers]:
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    process.child.send_signal(signal.SIGCONT)
                process.stop()

    def _of(self, table, n):
        return table[min(n, len(table) - 1)]

    def start_worker(self, n: int):
        self.n_starts += 1
        self.workers[n] = Process(
            [*self._of(self.launchers, n), self.bin / "coterie-worker", *self.computing, f"--model={DATA / 'tiny-llama'}", f"--store={self.store}",
             f"--listen={self._of(self.hosts, n)}:{self.worker_ports[n]}", "--insecure-listen", "--metrics-port=-1", f"--id=worker-{n}",
             *WORKER_FLAGS, *self.worker_flags], self.folder / f"worker-{n}-{self.n_starts}.log", 1)

    def start_gateway(self, n: int = 0):
        self.n_starts += 1
        ports = self.gateway_ports[n]
        addresses = ",".join(f"{self._of(self.hosts, w)}:{port}" for w, port in enumerate(self.worker_ports))
        self.gateways[n] = Process(
            [self.bin / "coterie-gateway", f"--model={DATA / 'tiny-llama'}", f"--embedder={DATA / 'tiny-bert'}", f"--store={self.store}",
             f"--workers={addresses}", f"--listen=127.0.0.1:{ports['grpc']}", f"--admin-listen=127.0.0.1:{ports['admin']}",
             f"--http-listen=127.0.0.1:{ports['http']}", f"--metrics-port={ports['metrics']}", "--shadow-share=0", "--catalogue-poll=100ms",
             "--embedder-threads=1", *self.gateway_flags], self.folder / f"gateway-{n}-{self.n_starts}.log", 1)

    def wait_ready(self, n_workers: int | None = None, gateway: int = 0):
        wanted = len(self.workers) if n_workers is None else n_workers
        self.wait(lambda: self.n_ready(gateway) >= wanted, f"{wanted} workers ready")

    def n_ready(self, gateway: int = 0) -> int:
        try:
            workers = json.loads(get(f"http://127.0.0.1:{self.gateway_ports[gateway]['http']}/v1/cluster", timeout=10))["workers"]
        except (urllib.error.URLError, OSError):
            return -1
        return sum(worker["health"] == "ready" for worker in workers)

    @staticmethod
    def wait(condition, what: str, seconds=PATIENCE_SECONDS):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError(f"not in {seconds} s: {what}")
            time.sleep(0.03)

    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{ports['http']}" for ports in self.gateway_ports]

    def names(self, url: str = "") -> set[str]:
        """The models of one gateway, the first by default."""
        return {model["id"] for model in json.loads(get(f"{url or self.urls()[0]}/v1/models"))["data"]}

    def metric(self, name: str, gateway: int = 0) -> float:
        lines = get(f"http://127.0.0.1:{self.gateway_ports[gateway]['metrics']}/metrics").splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def coterie(self, *arguments, check=True) -> subprocess.CompletedProcess:
        ports = self.gateway_ports[0]
        done = subprocess.run([self.bin / "coterie", *map(str, arguments), f"--gateway=127.0.0.1:{ports['grpc']}", f"--admin=127.0.0.1:{ports['admin']}"],
                              capture_output=True, text=True, timeout=120)
        if check and done.returncode != 0:
            raise RuntimeError(f"coterie {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")
        return done

    def expert_folder(self, name: str, adapter: str = "") -> pathlib.Path:
        """`name` of EXPERTS, or any other with `adapter`."""
        folder = self.folder / "experts" / name
        if not folder.exists():
            shutil.copytree(DATA / "tiny-adapters" / (adapter or EXPERTS[name][0]), folder)
            (folder / "expert.yaml").write_text(f"name: {name}\nversion: '1'\ndescription: about {name}\n")
        return folder

    def publish(self, name: str, adapter: str = "", check=True) -> subprocess.CompletedProcess:
        examples = self.folder / f"{name}.txt"
        examples.write_text("\n".join(questions(name) if name in EXPERTS else [f"{name} {adapter}"]) + "\n")
        return self.coterie("experts", "publish", self.expert_folder(name, adapter), "--examples", examples, check=check)

    def object_of(self, name: str) -> pathlib.Path:
        """The folder of the store that holds the weights of an expert's live version."""
        models = json.loads(get(f"{self.urls()[0]}/v1/models"))["data"]
        digest = next(model["root"] for model in models if model["id"] == name)
        return next(path for path in (self.store / "objects").iterdir() if path.name.startswith(digest))


def usage(process: Process) -> dict[str, float]:
    """What a process holds now."""
    proc = pathlib.Path(f"/proc/{process.child.pid}")
    return {"resident_mb": round(process.resident_mb(), 1), "threads": len(list((proc / "task").iterdir())), "descriptors": len(os.listdir(proc / "fd"))}
