"""Real processes to load: one gateway and one worker on loopback, with what they cost in time to start, memory and CPU."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time
import urllib.request

from measuring import ROOT, run_json

sys.path.insert(0, str(ROOT / "tests/testing"))
from served_process import PATIENCE_SECONDS, Process  # noqa: E402


class Serving:
    """`with Serving(...) as s:` one gateway before one worker. Experts are folders to publish."""

    def __init__(self, bin_folder, model, embedder, folder, experts=(), worker_flags=(), with_store=True, gateway_flags=()):
        self.bin, self.model, self.embedder = pathlib.Path(bin_folder), model, embedder
        self.folder, self.experts = pathlib.Path(folder), list(experts)
        self.worker_flags, self.with_store, self.gateway_flags = list(worker_flags), with_store, list(gateway_flags)
        self.worker = self.gateway = None
        threads = [int(f.split("=")[1]) for f in self.worker_flags if f.startswith("--threads=")]
        self.n_compute_threads = (threads and threads[0]) or len(os.sched_getaffinity(0))
        self.n_bursts = 0

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_):
        for process in (self.gateway, self.worker):
            if process:
                process.stop()

    def _start(self):
        store = self.folder / "store"
        store.mkdir(parents=True)
        store_flags = [f"--store={store}"] if self.with_store else []
        self.worker = Process([self.bin / "coterie-worker", f"--model={self.model}", "--listen=127.0.0.1:0", "--metrics-port=0",
                               "--id=worker-1", *store_flags, *self.worker_flags], self.folder / "worker.log", 2)
        self.worker_metrics_port = int(self.worker.words[3])
        self.gateway = Process([self.bin / "coterie-gateway", f"--model={self.model}", f"--embedder={self.embedder}",
                                f"--workers={self.worker.words[1]}", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0",
                                "--http-listen=", "--metrics-port=-1", *store_flags, *self.gateway_flags], self.folder / "gateway.log", 1)
        self.address = f"127.0.0.1:{self.gateway.words[1]}"
        self.admin = f"127.0.0.1:{self.gateway.words[3]}"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            workers = run_json([self.bin / "coterie", "status", f"--gateway={self.address}", "--json"])["workers"]
            if any(w["health"].lower().endswith("ready") for w in workers):
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"the worker is not ready: {workers}; logs in {self.folder}")
            time.sleep(0.02)
        self.resident_loaded_mb = self.worker.resident_mb()
        if self.experts:
            subprocess.run([self.bin / "coterie", "experts", "publish", f"--gateway={self.address}", f"--admin={self.admin}",
                            *self.experts], check=True, stdout=subprocess.DEVNULL)

    def bench(self, *flags) -> dict:
        """One `coterie bench`, with the CPU time it cost both processes. Every call asks with other texts.

        The worker's busiest threads, as many as compute, hold the kernels and the step loop; what its other threads take
        (`worker_cpu_beside_compute…`) and what the gateway takes is the cost of serving, sampling and scheduling left out."""
        self.n_bursts += 1
        worker, threads, gateway = self.worker.cpu_seconds(), self.worker.thread_cpu_seconds(), self.gateway.cpu_seconds()
        report = run_json([self.bin / "coterie", "bench", f"--gateway={self.address}", f"--admin={self.admin}", "--json",
                           f"--seed={self.n_bursts}", *flags], timeout=600)
        worker, gateway = self.worker.cpu_seconds() - worker, self.gateway.cpu_seconds() - gateway
        by_thread = sorted((now - threads.get(name, 0) for name, now in self.worker.thread_cpu_seconds().items()), reverse=True)
        compute = sum(by_thread[:self.n_compute_threads])
        milliseconds = 1e3 / max(1, report["completion_tokens"])
        report["worker_cpu_milliseconds_per_token"] = worker * milliseconds
        report["worker_cpu_beside_compute_milliseconds_per_token"] = max(0.0, worker - compute) * milliseconds
        report["gateway_cpu_milliseconds_per_token"] = gateway * milliseconds
        return report

    def metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.worker_metrics_port}/metrics", timeout=10) as page:
            lines = page.read().decode().splitlines()
        return {line.split()[0]: float(line.split()[1]) for line in lines if line and not line.startswith("#") and "{" not in line}

    def memory(self) -> dict:
        """The worker's resident memory and the bound it must keep: weights, KV, adapters and 150 MB."""
        time.sleep(0.6)  # the metrics page is refreshed twice a second
        m = self.metrics()
        weights, kv, adapters = (m[f"coterie_worker_{n}_bytes"] / 1e6 for n in ("weights", "kv_cache", "adapter_memory"))
        resident, bound = self.worker.resident_mb(), weights + kv + adapters + 150
        return {"worker_resident_loaded_mb": self.resident_loaded_mb, "worker_resident_mb": resident, "weights_mb": weights,
                "kv_cache_mb": kv, "adapters_mb": adapters, "bound_mb": bound, "beyond_what_is_counted_mb": resident - bound + 150,
                "within_bound": resident <= bound, "gateway_resident_mb": self.gateway.resident_mb(),
                "worker_load_to_ready_seconds": self.worker.ready_seconds, "gateway_load_to_ready_seconds": self.gateway.ready_seconds}
