"""A small cluster of real processes with experts and load, and a real Prometheus that scrapes it. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "tests/data"
sys.path.insert(0, str(ROOT / "tests/testing"))

from served_process import Process

SCRAPE_SECONDS = 1
# Expert -> its adapter and questions of its field. Words of a few letters: the tiny encoder knows no others.
EXPERTS = {"law": ("llama-qv", "judge court law case"), "sea": ("llama-all-linear", "boat wave fish salt"),
           "food": ("llama-rslora", "rice soup bread oil"), "moon": ("llama-regex", "star orbit night rock")}
GPU = ("device cc=90 name=StandIn pci=0000:3B:00.0 memory_mb=81920 used_mb=30720 temperature=61 "
       "busy=40 memory_busy=20 power_mw=310000 power_limit_mw=700000 sm_mhz=1830 memory_mhz=2619 throttle=4 ecc_corrected=2 ecc_uncorrected=0\n")


def questions(name: str) -> list[str]:
    words = EXPERTS[name][1].split()
    return [f"{a} {b} {c}" for a in words for b in words for c in words if len({a, b, c}) == 3]


def get(url: str, body=None, timeout=60):
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return answer.read().decode()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Cluster(contextlib.ExitStack):
    """One gateway and three workers that compute nothing, the first on a stand-in for a GPU; four experts, one with a canary."""

    def __init__(self, bin_folder: pathlib.Path, gateway_flags=(), worker_flags=()):
        super().__init__()
        self.bin = bin_folder
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory(prefix="coterie-deploy-")))
        self.targets: dict[str, list[str]] = {"coterie-gateway": [], "coterie-worker": []}
        (self.folder / "store").mkdir()
        model = DATA / "tiny-llama"
        self.workers = []
        for n, device in enumerate(("auto", "cpu", "cpu")):
            port = free_port()
            flags = ["--fake", f"--model={model}", f"--store={self.folder / 'store'}", "--listen=127.0.0.1:0", f"--metrics-port={port}",
                     f"--id=worker-{n}", f"--device={device}", "--adapter-slots=2", "--adapter-bytes=3MiB", "--max-seqs=8", "--fake-step-time=3ms", "--fake-load-time=30ms", *worker_flags]
            self.workers.append(self._start("coterie-worker", flags, self._driver() if n == 0 else {}))
            self.targets["coterie-worker"].append(f"127.0.0.1:{port}")
        metrics, self.http, self.grpc, self.admin = free_port(), free_port(), free_port(), free_port()
        self._start("coterie-gateway", [
            f"--model={model}", f"--embedder={DATA / 'tiny-bert'}", f"--store={self.folder / 'store'}", f"--listen=127.0.0.1:{self.grpc}",
            f"--admin-listen=127.0.0.1:{self.admin}", f"--metrics-port={metrics}", f"--http-listen=127.0.0.1:{self.http}",
            "--workers=" + ",".join(w.words[1] for w in self.workers), "--shadow-share=1", "--catalogue-poll=50ms", *gateway_flags], {})
        self.targets["coterie-gateway"].append(f"127.0.0.1:{metrics}")
        self._publish()

    def _driver(self) -> dict[str, str]:
        folder = self.folder / "driver"
        shutil.copytree(self.bin / "drivers", folder)
        (folder / "driver.txt").write_text(GPU)
        return {"COTERIE_DRIVER_FOLDER": str(folder)}

    def _start(self, program: str, flags: list[str], environment: dict[str, str]) -> Process:
        log = self.folder / f"{program}-{len(self.targets[program])}.log"
        command = ["env", *(f"{k}={v}" for k, v in environment.items()), self.bin / program, *flags]
        child = Process(command, log, 1)
        self.callback(child.stop)
        return child

    def _publish(self):
        for name, (adapter, _) in EXPERTS.items():
            examples = self.folder / f"{name}.txt"
            examples.write_text("\n".join(questions(name)) + "\n")
            folder = self.folder / "experts" / name
            shutil.copytree(DATA / "tiny-adapters" / adapter, folder)
            (folder / "expert.yaml").write_text(f"name: {name}\nversion: '1'\ndescription: about {name}\nrouting: {{mean_score: 0.9, std_score: 0.05, n: 100}}\n")
            self.coterie("experts", "publish", folder, "--examples", examples)
        self.coterie("experts", "publish", DATA / "tiny-adapters/llama-top-layers", "--name", "law", "--description", "about law", "--version", "2",
                     "--examples", self.folder / "law.txt", "--canary", "0.4")

    def coterie(self, *arguments):
        done = subprocess.run([self.bin / "coterie", *map(str, arguments), "--gateway", f"127.0.0.1:{self.grpc}", "--admin", f"127.0.0.1:{self.admin}"],
                              capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise RuntimeError(f"coterie {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")

    def ask(self, text: str, model="auto") -> bool:
        try:
            get(f"http://127.0.0.1:{self.http}/v1/completions", {"model": model, "prompt": text, "max_tokens": 12}, timeout=120)
            return True
        except urllib.error.HTTPError as error:
            error.read()
            return False

    def fill_the_shadow(self):
        """Some routed questions, and a silence in which idle workers score them under other experts."""
        for question in [q for name in EXPERTS for q in questions(name)[:6]] * 2:
            self.ask(question)
        get(f"http://127.0.0.1:{self.http}/v1/embeddings", {"input": ["a", "b"]})
        deadline = time.monotonic() + 60
        while "coterie_shadow_canary_difference_nats{" not in get(f"http://{self.targets['coterie-gateway'][0]}/metrics") and time.monotonic() < deadline:
            time.sleep(0.2)

    def load(self, until, n_threads=4):
        """Questions of all fields, and some that are wrong, until `until()`; a worker dies in the middle."""
        def loop(n):
            everything = [(name, q) for name in EXPERTS for q in questions(name)]
            i = n * 7
            while not until():
                i += 1
                name, question = everything[i * 11 % len(everything)]
                self.ask(question, model="nobody" if i % 17 == 0 else name if i % 5 == 0 else "auto")
                if i % 9 == 0:
                    self.ask("zzz qqq", "base" if i % 2 else "auto")
        threads = [threading.Thread(target=loop, args=(n,)) for n in range(n_threads)]
        for thread in threads:
            thread.start()
        return threads


class Prometheus:
    """The real program over these targets."""

    def __init__(self, program: pathlib.Path, folder: pathlib.Path, targets: dict[str, list[str]], rules: pathlib.Path | None = None):
        config = {"global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": "1s"},
                  "rule_files": [str(rules)] if rules else [],
                  "scrape_configs": [{"job_name": job, "static_configs": [{"targets": t}]} for job, t in targets.items()]}
        (folder / "prometheus.json").write_text(json.dumps(config))  # JSON is YAML
        self.url = f"http://127.0.0.1:{free_port()}"
        self.process = subprocess.Popen([program, f"--config.file={folder / 'prometheus.json'}", f"--storage.tsdb.path={folder / 'tsdb'}",
                                         f"--web.listen-address={self.url.removeprefix('http://')}"], stderr=open(folder / "prometheus.log", "wb"))
        deadline = time.monotonic() + 120
        while True:
            try:
                get(f"{self.url}/-/ready", timeout=5)
                return
            except (urllib.error.URLError, OSError):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError((folder / "prometheus.log").read_text()[-2000:]) from None
                time.sleep(0.1)

    def api(self, path: str, **parameters):
        answer = json.loads(get(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"))
        if answer["status"] != "success":
            raise RuntimeError(answer)
        return answer["data"]

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
