"""Spherical K-means (Dhillon and Modha 2001): clusters of unit vectors by cosine, centroids of unit norm."""

from __future__ import annotations

import numpy as np

_MAX_ROUNDS, _MOVED = 100, 1e-6
_ROWS = 1 << 14  # of points scored at once: 16,384 x 64 clusters x 4 bytes = 4 MB


def assign(points: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(nearest centroid [n_points] int64, its cosine [n_points] float32)."""
    owners, cosines = [], []
    for start in range(0, len(points), _ROWS):
        scores = points[start:start + _ROWS] @ centroids.T
        owner = scores.argmax(axis=1)
        owners.append(owner)
        cosines.append(scores[np.arange(len(owner)), owner])
    return np.concatenate(owners), np.concatenate(cosines)


def _spread(points: np.ndarray, n_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """The k-means++ start: each next centroid drawn by its distance 1 - cosine from those there are."""
    chosen = [points[rng.integers(len(points))]]
    nearest = points @ chosen[0]
    while len(chosen) < n_clusters:
        distance = np.clip(1.0 - nearest.astype(np.float64), 0.0, None)
        chosen.append(points[rng.choice(len(points), p=distance / distance.sum())])
        nearest = np.maximum(nearest, points @ chosen[-1])
    return np.stack(chosen)


def normalised(rows: np.ndarray) -> np.ndarray:
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def means(points: np.ndarray, owner: np.ndarray, n_clusters: int) -> np.ndarray:
    """[n_clusters, dim]: each cluster's normalised mean; zeros for an empty one."""
    sums = np.zeros((n_clusters, points.shape[1]), np.float64)
    present, first = np.unique(np.sort(owner), return_index=True)
    sums[present] = np.add.reduceat(points[np.argsort(owner, kind="stable")].astype(np.float64), first)
    return normalised(sums)


def _refine(points: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, float]:
    for _ in range(_MAX_ROUNDS):
        owner, cosine = assign(points, centroids)
        moved = means(points, owner, len(centroids))
        for empty in np.flatnonzero(np.bincount(owner, minlength=len(centroids)) == 0):
            farthest = int(cosine.argmin())  # a cluster that lost all its points starts anew at the worst served one
            moved[empty], cosine[farthest] = points[farthest], 1.0
        if np.abs(moved - centroids).max() < _MOVED:
            break
        centroids = moved
    return centroids, float(assign(points, centroids)[1].sum())


def spherical_kmeans(points: np.ndarray, n_clusters: int, seed: int, n_starts: int = 4) -> np.ndarray:
    """Centroids [n_clusters, dim] float32 of unit norm: the best of `n_starts` by the summed cosine.

    `points` [n_points, dim] are of unit norm. With fewer distinct points than clusters there are only so many centroids.
    """
    n_clusters = min(n_clusters, len(np.unique(points, axis=0)))
    rng = np.random.default_rng(seed)
    starts = [_spread(points, n_clusters, rng) for _ in range(n_starts)]
    return max((_refine(points, start) for start in starts), key=lambda found: found[1])[0]
