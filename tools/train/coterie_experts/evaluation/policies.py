"""Routing policies as weights: [n_samples, n_experts + 1], the base last, each row with sum 1.

All are functions of unit vectors, as the product's own policies are (docs/architecture.md); one expert is a row with a
single 1. c-BTM (Gururangan and others 2023) mixes the experts' distributions of each next token by such weights.
"""

from __future__ import annotations

import numpy as np


def expert_scores(questions: np.ndarray, prototypes: list[np.ndarray]) -> np.ndarray:
    """[n_samples, n_experts]: the largest cosine with any of an expert's prototypes [n_prototypes, dim]."""
    return np.stack([(questions @ p.T).max(axis=1) for p in prototypes], axis=1)


def nearest(scores: np.ndarray) -> np.ndarray:
    weights = np.zeros((len(scores), scores.shape[1] + 1))
    weights[np.arange(len(scores)), scores.argmax(axis=1)] = 1
    return weights


def abstaining(weights: np.ndarray, scores: np.ndarray, min_score: float, min_margin: float = 0.0) -> np.ndarray:
    """The base answers where the best score is below `min_score`, or nearer to the next than `min_margin`."""
    ranked = np.sort(scores, axis=1)
    margin = ranked[:, -1] - ranked[:, -2] if scores.shape[1] > 1 else np.full(len(scores), np.inf)
    to_base = (ranked[:, -1] < min_score) | (margin < min_margin)
    result = weights.copy()
    result[to_base] = 0
    result[to_base, -1] = 1
    return result


def top_k(scores: np.ndarray, k: int, temperature: float) -> np.ndarray:
    """c-BTM: the k best, weighed by softmax(-|e - c|^2 / T), which is softmax(2 cos / T) for unit vectors."""
    k = min(k, scores.shape[1])
    logits = 2 * scores / temperature
    kept = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    mass = np.exp(np.take_along_axis(logits, kept, axis=1) - logits.max(axis=1, keepdims=True))
    weights = np.zeros((len(scores), scores.shape[1] + 1))
    np.put_along_axis(weights, kept, mass / mass.sum(axis=1, keepdims=True), axis=1)
    return weights


def always(choice: np.ndarray, n_experts: int) -> np.ndarray:
    """One given candidate for each sample: `choice` [n_samples], n_experts for the base."""
    weights = np.zeros((len(choice), n_experts + 1))
    weights[np.arange(len(choice)), choice] = 1
    return weights


def classifier(train: np.ndarray, labels: np.ndarray, questions: np.ndarray, n_experts: int) -> np.ndarray:
    """Multinomial logistic regression on embeddings `train` [n, dim] of experts `labels` [n]."""
    import threadpoolctl  # of scikit-learn
    from sklearn.linear_model import LogisticRegression

    if len(set(labels.tolist())) < 2:
        return always(np.full(len(questions), labels[0]), n_experts)
    with threadpoolctl.threadpool_limits(1):  # beside other work, threads that spin for each other took twenty times as long
        return always(LogisticRegression(max_iter=1000).fit(train, labels).predict(questions), n_experts)
