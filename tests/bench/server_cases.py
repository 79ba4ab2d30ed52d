"""The whole server under load: one gateway and one worker as processes, clients over gRPC, experts made for the purpose.

Every case is a burst or a closed loop of 128-token prompts and 64-token answers, 16 in flight."""

from __future__ import annotations

import contextlib
import json
import pathlib
import statistics
import subprocess

from serving import Serving

IN_FLIGHT = 16
SHAPE = ["--raw", "--prompt-words=128", "--output-tokens=64", "--warmup=0"]
LOAD = [*SHAPE, f"--concurrency={IN_FLIGHT}"]
KV_TOKENS = 8192  # sixteen sequences of 192, and room for prefixes


def means(*figures: dict) -> dict:
    return {key: statistics.mean(f[key] for f in figures) for key in figures[0]}


class ServerCases:
    """`with ServerCases(...) as s: s.round()` runs every case once and gives its figures."""

    def __init__(self, bin_folder, model, embedder, folder, threads: int = 0, published: int = 0, small: bool = False):
        self.bin, self.model, self.embedder, self.folder = pathlib.Path(bin_folder), model, embedder, pathlib.Path(folder)
        self.threads, self.published = threads, published
        self.n_many = 4 * IN_FLIGHT
        self.burst = 4 if small else IN_FLIGHT
        self.shape = ["--raw", "--prompt-words=16", "--output-tokens=8", "--warmup=0"] if small else SHAPE
        self.load = [*self.shape, f"--concurrency={self.burst}"]
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *details):
        return self.stack.__exit__(*details)

    def _make(self, rank: int, count: int, *flags) -> list[pathlib.Path]:
        folder = self.folder / "experts" / f"r{rank}{''.join(flags)}"
        subprocess.run([self.bin / "bench_experts", self.model, folder, f"--count={count}", f"--rank={rank}",
                        f"--embed-dim={self._embed_dim()}", f"--seed={rank}", *flags], check=True, stdout=subprocess.DEVNULL)
        return sorted(folder.iterdir())

    def _embed_dim(self) -> int:
        return json.loads((pathlib.Path(self.embedder) / "config.json").read_text())["hidden_size"]

    def _serve(self, name: str, experts, *flags, with_store=True) -> Serving:
        folder = self.folder / name
        folder.mkdir(parents=True)
        flags = [f"--kv-tokens={KV_TOKENS}", f"--threads={self.threads}", f"--max-seqs={IN_FLIGHT}", "--adapter-bytes=2G", *flags]
        return self.stack.enter_context(
            Serving(self.bin, self.model, self.embedder, folder, experts, flags, with_store=with_store))

    def _start(self):
        self.by_rank = {4: self._make(4, self.burst), 8: self._make(8, self.n_many), 16: self._make(16, self.burst)}
        every = [e for experts in self.by_rank.values() for e in experts]
        # One with a slot for every expert, one with a quarter of that, one that knows no experts at all.
        self.main = self._serve("resident", every, f"--adapter-slots={len(every)}")
        self.few_slots = self._serve("few-slots", self.by_rank[8], f"--adapter-slots={IN_FLIGHT}")
        self.no_store = self._serve("no-store", [], with_store=False)
        self.crowded = None
        if self.published > self.burst:
            crowd = self._make(2, self.published - self.burst, "--attention-only")
            self.crowded = self._serve("crowded", self.by_rank[16] + crowd, f"--adapter-slots={len(every)}")

    def _burst(self, serving: Serving, experts: list[str], requests: int = 0) -> dict:
        report = serving.bench(*self.load, f"--requests={requests or self.burst}", f"--experts={','.join(experts)}")
        if report["errors"]:
            raise RuntimeError(f"the load had errors: {report['errors']}")
        first, token = report["first_token_seconds"], report["per_output_token_seconds"]
        beside, gateway = report["worker_cpu_beside_compute_milliseconds_per_token"], report["gateway_cpu_milliseconds_per_token"]
        compute = report["worker_cpu_milliseconds_per_token"] - beside
        return {"completion_tokens_per_second": report["completion_tokens_per_second"],
                "first_token_median_seconds": first["p50"], "first_token_p90_seconds": first["p90"],
                "per_output_token_median_seconds": token["p50"], "per_output_token_p90_seconds": token["p90"],
                "message_gap_p99_seconds": report["message_gap_seconds"]["p99"],
                "worker_cpu_milliseconds_per_token": report["worker_cpu_milliseconds_per_token"],
                "worker_cpu_beside_compute_milliseconds_per_token": beside, "gateway_cpu_milliseconds_per_token": gateway,
                "serving_to_compute_cpu_ratio": (beside + gateway) / compute if compute > 0 else 0.0,
                "prompt_tokens_mean": report["prompt_tokens"] / report["ok"],
                "cached_prompt_tokens": report["cached_prompt_tokens"]}

    def _in_turn(self, one: Serving, other: Serving, experts: list[str]) -> tuple[dict, dict]:
        """Means of both: first and last against the two between, since a first burst finds caches as another program left them.

        Four times as long as others, too: bursts of a second differed by more than what is looked for.
        """
        first, *between, last = [self._burst(serving, experts, 4 * self.burst) for serving in (one, other, other, one)]
        return means(first, last), means(*between)

    def _at_once(self, rank: int) -> str:
        return f"{self.burst}_experts_r{rank}"

    def _among_many(self) -> str:
        return f"{self._at_once(16)}_of_{self.published}_published"

    def warm_up(self):
        """Loads every expert that a case wants resident, and ends first-time costs; not measured."""
        names = [e.name for experts in self.by_rank.values() for e in experts]
        self._burst(self.main, names, len(names))
        for serving in (self.few_slots, self.no_store):
            self._burst(serving, ["base"])
        if self.crowded:
            self._burst(self.crowded, [e.name for e in self.by_rank[16]])

    def round(self) -> dict:
        names = {rank: [e.name for e in experts] for rank, experts in self.by_rank.items()}
        figures = dict(zip(("base", "base_without_a_store"), self._in_turn(self.main, self.no_store, ["base"])))
        for rank in (4, 8, 16):
            some = names[rank][:self.burst]
            figures[f"one_expert_r{rank}"] = self._burst(self.main, some[:1])
            if rank == 16 and self.crowded:
                figures[self._at_once(rank)], figures[self._among_many()] = self._in_turn(self.main, self.crowded, some)
            else:
                figures[self._at_once(rank)] = self._burst(self.main, some)
        # A closed loop in which no two of 64 requests in a row share an expert: every slot changes hands, twice.
        figures["64_experts_r8_resident"] = self._burst(self.main, names[8], 2 * self.n_many)
        figures["64_experts_r8_16_slots"] = self._burst(self.few_slots, names[8], 2 * self.n_many)
        alone = self.main.bench(*self.shape, "--concurrency=1", "--requests=6", "--expert=auto")
        figures["routed_alone"] = {"routing_median_seconds": alone["routing_seconds"]["p50"],
                                   "first_token_median_seconds": alone["first_token_seconds"]["p50"],
                                   "per_output_token_median_seconds": alone["per_output_token_seconds"]["p50"]}
        return figures

    def memory(self) -> dict:
        return {"resident": self.main.memory(), "few_slots": self.few_slots.memory(), "no_store": self.no_store.memory()}

    def ratios(self) -> dict:
        """For measuring.ratios: what to divide by what inside a round."""
        n, rate, first = self.burst, "completion_tokens_per_second", "first_token_median_seconds"
        wanted = {"server_routing_to_first_token": ("server.routed_alone.routing_median_seconds", f"server.routed_alone.{first}"),
                  "server_one_expert_r16_to_base": (f"server.one_expert_r16.{rate}", f"server.base.{rate}"),
                  "server_base_with_unused_experts_to_no_store": (f"server.base.{rate}", f"server.base_without_a_store.{rate}"),
                  "server_first_token_64_experts_16_slots_to_resident":
                      (f"server.64_experts_r8_16_slots.{first}", f"server.64_experts_r8_resident.{first}")}
        for rank in (4, 8, 16):
            wanted[f"server_{n}_experts_to_one_r{rank}"] = (f"server.{self._at_once(rank)}.{rate}", f"server.one_expert_r{rank}.{rate}")
        if self.crowded:
            wanted[f"server_{self.published}_published_to_{n}"] = (
                f"server.{self._among_many()}.{rate}", f"server.{self._at_once(16)}.{rate}")
        return wanted
