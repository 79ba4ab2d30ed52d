"""Losses, regret and the share of the oracle's gain, from log-probabilities and weights. All losses are nats per token."""

from __future__ import annotations

import math

import numpy as np


def sample_losses(logprobs: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """[n_samples]: summed loss of each completion under the mixture of its weights.

    `logprobs`: for each sample [n_candidates, n_tokens]; `weights` [n_samples, n_candidates]. The mixture is one of
    distributions: p(x) = sum of w_i p_i(x) at every token, every candidate seeing the same text before it.
    """
    losses = []
    for of_sample, row in zip(logprobs, weights):
        used = np.flatnonzero(row)
        terms = of_sample[used].astype(np.float64) + np.log(row[used])[:, None]
        best = terms.max(axis=0)
        losses.append(-float((best + np.log(np.exp(terms - best).sum(axis=0))).sum()))
    return np.array(losses)


def oracle(logprobs: list[np.ndarray], n_experts: int) -> np.ndarray:
    """[n_samples]: for each sample the expert of least loss; it knows the answer. Experts come first among the candidates."""
    return np.array([of_sample[:n_experts].sum(axis=1).argmax() for of_sample in logprobs])


def per_token(losses: np.ndarray, n_tokens: np.ndarray) -> float:
    return float(losses.sum() / n_tokens.sum())


def summary(losses: np.ndarray, base: np.ndarray, best: np.ndarray, n_tokens: np.ndarray) -> dict:
    """A policy beside the base and the oracle, each [n_samples] of summed losses.

    regret: what a better choice would save. kept: share of the oracle's gain over the base that the policy keeps; None
    where the oracle gains nothing.
    """
    loss, of_base, of_best = (per_token(l, n_tokens) for l in (losses, base, best))
    gain = of_base - of_best
    return {"loss": loss, "perplexity": math.exp(loss), "perplexity_below_base": 1 - math.exp(loss - of_base), "regret": loss - of_best,
            "kept": (of_base - loss) / gain if gain > 1e-9 else None}


def difference(losses: np.ndarray, others: np.ndarray, n_tokens: np.ndarray, domains: list[str]) -> tuple[float, float | None]:
    """losses minus others, per token, and its standard error over passages drawn from each of these domains (a stratified
    sample's, of a ratio of sums); None where a domain has a single one."""
    names, variance, mean = np.array(domains), 0.0, per_token(losses - others, n_tokens)
    for name in sorted(set(domains)):
        l, n = (losses - others)[names == name], n_tokens[names == name]
        if len(n) < 2:
            return mean, None
        variance += float(((l - per_token(l, n) * n) ** 2).sum()) * len(n) / (len(n) - 1)
    return mean, math.sqrt(variance) / float(n_tokens.sum())


def by_domain(losses: np.ndarray, n_tokens: np.ndarray, domains: list[str]) -> dict[str, float]:
    names = np.array(domains)
    return {name: per_token(losses[names == name], n_tokens[names == name]) for name in sorted(set(domains))}
