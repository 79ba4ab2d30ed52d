"""Log-probabilities of the samples under every candidate, by the product's own Score; what was scored once is remembered."""

from __future__ import annotations

import concurrent.futures
import pathlib

import numpy as np

from coterie_experts.evaluation.samples import Sample
from coterie_experts.files import sha256
from coterie_experts.float_cache import FloatCache
from coterie_experts.product.gateway import Gateway
from coterie_experts.progress import bar

BASE = "base"


class ScoreCache(FloatCache):
    """[n_tokens] float32 by (base, numerics, candidate's digest, prompt, completion)."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__(path, "cache of scores", table="scores", key="asked", key_type="TEXT", value="logprobs")


def _ask(gateway: Gateway, candidate: str, sample: Sample) -> np.ndarray:
    """[n_tokens] float32: of each token of the completion after the prompt, in nats."""
    request = gateway.protocol.ScoreRequest(prompt=sample.prompt, completion=sample.completion, expert=candidate)
    answer = gateway.call("GenerationService.Score", request, timeout_seconds=600)
    return np.array([t.chosen.logprob for t in answer.tokens], dtype=np.float32)


def collect(gateway: Gateway, candidates: dict[str, str], samples: list[Sample], numerics: str, cache: ScoreCache,
            n_at_once: int = 16) -> list[np.ndarray]:
    """For each sample [n_candidates, n_tokens] float32, the candidates in order of `candidates`: {name or name@digest: digest}.

    `numerics` and the digests tell one result from another in the cache.
    """
    def key(sample: Sample, digest: str) -> str:
        return sha256("\0".join((numerics, digest, sample.prompt, sample.completion)))

    asked = [(i, name, key(sample, digest)) for i, sample in enumerate(samples) for name, digest in candidates.items()]
    known = {k: found for _, _, k in asked if (found := cache.find(k)) is not None}
    missing = [(i, name, k) for i, name, k in asked if k not in known]
    with bar(total=len(asked), what="scoring", unit="text") as progress, concurrent.futures.ThreadPoolExecutor(n_at_once) as pool:
        progress.update(len(asked) - len(missing))
        futures = {pool.submit(_ask, gateway, name, samples[i]): k for i, name, k in missing}
        try:
            for future in concurrent.futures.as_completed(futures):
                known[futures[future]] = future.result()
                cache.keep([futures[future]], [known[futures[future]]])
                progress.update()
        finally:
            pool.shutdown(cancel_futures=True)
    return [np.stack([known[key(sample, digest)] for digest in candidates.values()]) for sample in samples]
