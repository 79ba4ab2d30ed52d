"""HDBSCAN (Campello and others 2013) with scikit-learn: as many clusters as the text's density shows."""

from __future__ import annotations

import numpy as np

from coterie_experts.clustering import spherical
from coterie_experts.errors import Refused


def hdbscan(points: np.ndarray, min_cluster_size: int) -> np.ndarray:
    """Centroids [n_found, dim] float32 of unit norm. On unit vectors Euclidean distance orders as the cosine does.

    Points between the dense regions belong to none of them here; whoever assigns by nearest centroid gives them one.
    """
    try:
        from sklearn.cluster import HDBSCAN
    except ImportError as error:
        raise Refused("--method hdbscan needs scikit-learn 1.3 or newer, which is not installed; install it, or take kmeans") from error
    if len(points) < max(2, min_cluster_size):
        raise Refused(f"{len(points)} chunks are fewer than --min-cluster-size {min_cluster_size}")
    labels = HDBSCAN(min_cluster_size=min_cluster_size, metric="euclidean", copy=True).fit_predict(points.astype(np.float64))
    n_found = int(labels.max()) + 1
    if n_found == 0:
        raise Refused(f"HDBSCAN finds no cluster of {min_cluster_size} chunks or more among {len(points)}; lower --min-cluster-size, or take kmeans")
    inside = labels >= 0
    return spherical.means(points[inside], labels[inside], n_found)
