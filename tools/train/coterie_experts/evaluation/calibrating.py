"""Thresholds from validation text: when the base should answer, and how sharply several experts are weighed."""

from __future__ import annotations

import dataclasses

import numpy as np

from coterie_experts.evaluation import measures, policies

TEMPERATURES = (0.02, 0.05, 0.1, 0.2, 0.5)
MARGINS = (0.0, 0.01, 0.02, 0.05, 0.1)
_QUANTILES = 51  # of the best scores: candidates for the threshold


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What the gateway is told: --min-score (or each card's thresholds.min_score), --min-margin, --route-temperature."""
    min_score: float
    min_margin: float
    temperature: float
    kept: float     # share of the gain over the base that routing keeps with these thresholds, of what it has without
    to_base: float  # share of the validation text that the base then answers


def calibrate(logprobs: list[np.ndarray], scores: np.ndarray, keep: float) -> Calibration:
    """The strictest thresholds that keep `keep` of the gain that nearest-prototype routing has without any.

    Text of a field gains by its expert, so validation text alone would set no threshold at all; a strict one costs it little
    and sends text of no field to the base. `logprobs`: for each sample [n_experts + 1, n_tokens], the base last; `scores`
    [n_samples, n_experts], the cosines by which the product routes.
    """
    n_experts = scores.shape[1]
    nearest = policies.nearest(scores)
    of_base = measures.sample_losses(logprobs, policies.always(np.full(len(scores), n_experts), n_experts))

    saved = of_base - measures.sample_losses(logprobs, nearest)  # [n_samples], by the expert instead of the base
    whole, best = float(saved.sum()), scores.max(axis=1)

    def gain(weights: np.ndarray) -> float:
        """Of routing that leaves some samples to the base."""
        return float(saved[weights[:, -1] == 0].sum())

    chosen = (float(np.floor(best.min() * 100) / 100), 0.0)  # below every score: nothing abstains
    if whole > 0:
        grid = [(float(s), m) for s in np.unique(np.floor(np.quantile(best, np.linspace(0, 0.5, _QUANTILES)) * 100) / 100) for m in MARGINS]
        fit = [pair for pair in grid if gain(policies.abstaining(nearest, scores, *pair)) >= keep * whole]
        # The one that sends most to the base; of those alike the one with the smaller margin.
        chosen = max(fit, key=lambda pair: (policies.abstaining(nearest, scores, *pair)[:, -1].sum(), -pair[1]), default=chosen)
    weights = policies.abstaining(nearest, scores, *chosen)
    sharpest = min(TEMPERATURES, key=lambda t: measures.sample_losses(logprobs, policies.top_k(scores, 2, t)).sum())
    return Calibration(round(chosen[0], 2), chosen[1], sharpest, gain(weights) / whole if whole > 0 else 1.0, float(weights[:, -1].mean()))
