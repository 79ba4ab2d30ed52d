"""llama.cpp measured with its own tools: llama-batched-bench for the kernels, llama-server over HTTP for the whole."""

from __future__ import annotations

import contextlib
import http.client
import json
import pathlib
import socket
import subprocess
import sys
import time

from gguf_adapter import convert
from measuring import run_json

HERE = pathlib.Path(__file__).resolve().parent
CONTEXT_PER_SLOT = 256  # 128 in and 64 out fit
# What a user can turn that moves the figures on a CPU; every round runs all of them and the best is taken.
SETTINGS = {"fa": ["-fa", "on"], "nofa": ["-fa", "off"]}


class LlamaCpp:
    NEEDED = ("llama-batched-bench", "llama-quantize", "llama-server")

    def __init__(self, folder, threads: int, work):
        self.folder, self.threads, self.work = pathlib.Path(folder), threads, pathlib.Path(work)

    def problem(self) -> str | None:
        missing = [name for name in self.NEEDED if not (self.folder / name).exists()]
        return f"{self.folder} lacks {', '.join(missing)}" if missing else None

    def version(self) -> str:
        run = subprocess.run([self.folder / "llama-server", "--version"], capture_output=True, text=True)
        return " ".join((run.stdout + run.stderr).split("\n")[0].split())

    def make_format(self, model: pathlib.Path, name: str) -> pathlib.Path:
        """The same weights in another format, as llama.cpp itself makes it from the file; kept in the work folder."""
        out = self.work / f"{model.stem}-as-{name}.gguf"
        if not out.exists():
            part = out.with_suffix(".part")
            subprocess.run([self.folder / "llama-quantize", "--allow-requantize", model, part, name, str(self.threads)], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            part.rename(out)
        return out

    def _batched_bench(self, model, setting: str, npp: int, ntg: int, npl: str, context: int) -> dict[int, dict]:
        run = subprocess.run([self.folder / "llama-batched-bench", "-m", model, "-c", str(context), "-b", "2048", "-ub", "512",
                              "-npp", str(npp), "-ntg", str(ntg), "-npl", npl, "-t", str(self.threads), "-tb", str(self.threads),
                              *SETTINGS[setting], "--output-format", "jsonl"], capture_output=True, text=True)
        lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
        if run.returncode != 0 or not lines:
            raise RuntimeError(f"llama-batched-bench ended with {run.returncode}: {run.stderr[-1500:]}")
        return {line["pl"]: line for line in lines}

    def kernels(self, model) -> dict:
        """{setting: {case: tokens/s}}, cases named as those of bench_decode."""
        figures = {}
        for setting in SETTINGS:
            decode = self._batched_bench(model, setting, 64, 32, "1,4,8,16", 2048)
            one = self._batched_bench(model, setting, 512, 1, "1", 1024)
            sixteen = self._batched_bench(model, setting, 128, 1, "16", 4096)
            figures[setting] = {f"decode_b{n}_tokens_per_second": decode[n]["speed_tg"] for n in (1, 4, 8, 16)}
            figures[setting]["prefill_512_tokens_per_second"] = one[1]["speed_pp"]
            figures[setting]["prefill_16x128_tokens_per_second"] = sixteen[16]["speed_pp"]
        return figures

    def embed_milliseconds(self, encoder, n_tokens: int) -> float:
        """One text on one thread, as llama-bench times it (the tokeniser not included)."""
        runs = json.loads(subprocess.run([self.folder / "llama-bench", "-m", encoder, "-p", str(n_tokens), "-n", "0", "-t", "1", "-r", "20",
                                          "--embeddings", "1", "-o", "json"], check=True, capture_output=True, text=True).stdout)
        return runs[0]["avg_ns"] / 1e6

    @contextlib.contextmanager
    def server(self, model, setting: str, experts: list[pathlib.Path], lora_type: str):
        """llama-server with sixteen slots and every adapter loaded, applied only where a request names it."""
        adapters = []
        for expert in experts:
            adapters.append(self.work / f"{pathlib.Path(model).stem}-{expert.name}-{lora_type}.gguf")
            if not adapters[-1].exists():
                convert(expert, adapters[-1], lora_type)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        flags = ["--lora", ",".join(map(str, adapters)), "--lora-init-without-apply"] if adapters else []
        with open(self.work / "llama-server.log", "wb") as log:
            child = subprocess.Popen([self.folder / "llama-server", "-m", model, "--host", "127.0.0.1", "--port", str(port), "-np", "16",
                                      "-c", str(16 * CONTEXT_PER_SLOT), "-t", str(self.threads), "-tb", str(self.threads),
                                      "-b", "2048", "-ub", "512", "--cont-batching", "--cache-ram", "0", *SETTINGS[setting], *flags], stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 300
            while not self._healthy(port):
                if child.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"llama-server did not start: {(self.work / 'llama-server.log').read_text()[-1500:]}")
                time.sleep(0.1)
            mute = ["--mute"] if adapters else []
            yield lambda n_adapters, seed, *flags: run_json([sys.executable, HERE / "http_load.py", f"--port={port}", f"--adapters={n_adapters}",
                                                             f"--seed={seed}", *mute, *flags], timeout=1200)
        finally:
            child.terminate()
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    @staticmethod
    def _healthy(port: int) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
