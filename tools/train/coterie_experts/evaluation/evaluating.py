"""One evaluation: samples, scores, policies, figures."""

from __future__ import annotations

import dataclasses
from typing import Callable

import numpy as np

from coterie_experts.clustering.spherical import means
from coterie_experts.corpus.splits import TRAIN
from coterie_experts.evaluation import measures, policies, routing, samples, scores
from coterie_experts.product.gateway import Gateway
from coterie_experts.run.manifest import Run

DEFAULT_MIN_SCORE, DEFAULT_TEMPERATURE = 0.2, 0.1  # the gateway's own
BASE, EVERYTHING, ORACLE, RANDOM = "base", "everything", "oracle", "random expert"
BY_PRODUCT, MIXING = "routed by the product", "c-BTM"
COMPARED = (BASE, EVERYTHING, BY_PRODUCT, ORACLE)  # domain by domain


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Who is scored: the experts in order of their clusters, then the base, then the adapter trained on everything."""
    experts: list[str]             # published names
    digests: dict[str, str]        # of each name, the base's included
    prototypes: list[np.ndarray]   # of each expert, [n_prototypes, dim]
    has_everything: bool


def routings(run: Run, candidates: Candidates, questions: np.ndarray, product: np.ndarray) -> dict[str, np.ndarray]:
    """Weights [n_samples, n_experts + 1] of each policy, for `questions` [n_samples, dim]; `product` is what Route gave."""
    n = len(candidates.experts)
    train = [i for i, chunk in enumerate(run.chunks) if chunk.split == TRAIN]
    points, labels = run.embeddings()[train], np.array([run.chunks[i].cluster for i in train])
    by_centroid = policies.expert_scores(questions, [c[None] for c in means(points, labels, n)])
    by_prototypes = policies.expert_scores(questions, candidates.prototypes)
    return {
        BY_PRODUCT: product,
        "nearest centroid": policies.nearest(by_centroid),
        "nearest of several prototypes": policies.nearest(by_prototypes),
        f"nearest, abstaining below {DEFAULT_MIN_SCORE}": policies.abstaining(policies.nearest(by_prototypes), by_prototypes, DEFAULT_MIN_SCORE),
        "classifier": policies.classifier(points, labels, questions, n),
        **{f"{MIXING}, top {k}": policies.top_k(by_centroid, k, DEFAULT_TEMPERATURE) for k in (2, 4) if k <= n},
    }


def best_policy(losses: dict[str, float], mixing: bool = False) -> str:
    """The policy of least loss on validation text, among those that run one expert for a question or, with `mixing`, among all."""
    able = [name for name in losses if name not in (BASE, EVERYTHING, ORACLE, RANDOM) and (mixing or not name.startswith(MIXING))]
    return min(able, key=losses.__getitem__)


def figures(logprobs: list[np.ndarray], weights: dict[str, np.ndarray], domains: list[str], n_experts: int, has_everything: bool) -> dict:
    """{policies, matrix, tokens} of samples whose `logprobs` are [n_candidates, n_tokens], candidates as in Candidates."""
    n_tokens = np.array([of_sample.shape[1] for of_sample in logprobs])
    n_candidates = n_experts + 1 + has_everything
    alone = np.array([-of_sample.sum(axis=1, dtype=np.float64) for of_sample in logprobs])  # [n_samples, n_candidates]
    of_base, of_oracle = alone[:, n_experts], alone[:, :n_experts].min(axis=1)
    losses = {BASE: of_base, RANDOM: alone[:, :n_experts].mean(axis=1), ORACLE: of_oracle}
    if has_everything:
        losses[EVERYTHING] = alone[:, n_experts + 1]
    told = {}
    for name, chosen in weights.items():
        padded = np.pad(chosen, ((0, 0), (0, n_candidates - chosen.shape[1])))
        losses[name] = measures.sample_losses(logprobs, padded)
        told[name] = float((chosen[:, -1] > 0.5).mean())
    result = {name: {**measures.summary(l, of_base, of_oracle, n_tokens), "by_domain": measures.by_domain(l, n_tokens, domains),
                     **({"to_base": told[name]} if name in told else {}),
                     **({"minus_everything": measures.difference(l, losses[EVERYTHING], n_tokens, domains)} if has_everything else {})} for name, l in losses.items()}
    return {"policies": result, "matrix": [measures.by_domain(alone[:, c], n_tokens, domains) for c in range(n_candidates)], "tokens": int(n_tokens.sum())}


def evaluate(gateway: Gateway, run: Run, candidates: Candidates, split: str, *, per_domain: int, prompt_characters: int, seed: int, numerics: str,
             cache: scores.ScoreCache, embed: Callable[[list[str]], np.ndarray]) -> dict:
    """figures() of a split, with the matrix by name, the number of samples, and the samples themselves under "drawn"."""
    drawn = samples.draw(run, split, per_domain, prompt_characters, seed)
    names = [*candidates.experts, BASE, *([EVERYTHING] if candidates.has_everything else [])]
    logprobs = scores.collect(gateway, {name: candidates.digests[name] for name in names}, drawn, numerics, cache)
    product, _ = routing.routed(gateway, candidates.experts, drawn)
    weights = routings(run, candidates, embed([s.prompt for s in drawn]), product)
    found = figures(logprobs, weights, [s.domain for s in drawn], len(candidates.experts), candidates.has_everything)
    found["matrix"] = dict(zip(names, found["matrix"]))
    return {**found, "samples": len(drawn), "drawn": drawn}
