"""Routing prototypes: spherical K-means centroids of an expert's own training chunks, as the product embedded them."""

from __future__ import annotations

import json
import pathlib
import struct

import numpy as np

from coterie_experts.clustering.spherical import spherical_kmeans
from coterie_experts.files import write_atomically

DEFAULT_COUNT = 8
_SAMPLE = 20_000  # chunks; more move the centroids by less than their own spread


def make_prototypes(points: np.ndarray, n_prototypes: int, seed: int) -> np.ndarray:
    """[at most n_prototypes, dim] float32 of unit norm, of `points` [n_chunks, dim]."""
    if len(points) > _SAMPLE:
        points = points[np.random.default_rng(seed).choice(len(points), _SAMPLE, replace=False)]
    return spherical_kmeans(points, n_prototypes, seed)


def routing_reference(points: np.ndarray, prototypes: np.ndarray) -> dict:
    """How texts the expert was made for, but not trained on, score: `points` [n, dim], n > 0, against [n_prototypes, dim]."""
    scores = (points @ prototypes.T).max(axis=1)
    return {"mean_score": round(float(scores.mean()), 4), "std_score": round(float(scores.std()), 4), "n": len(scores)}


def _safetensors(name: str, array: np.ndarray, metadata: dict[str, str]) -> bytes:
    """One F32 tensor. The package safetensors writes its metadata in another order each time, and the card's revision
    is a digest of these bytes: publishing the same again would look like something new."""
    data = np.ascontiguousarray(array, dtype="<f4").tobytes()
    header = json.dumps({"__metadata__": metadata, name: {"dtype": "F32", "shape": list(array.shape), "data_offsets": [0, len(data)]}}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data


def save_prototypes(path: pathlib.Path, prototypes: np.ndarray, embedder: dict) -> None:
    """`embedder`: {name, digest} of what made them."""
    write_atomically(path, _safetensors("prototypes", prototypes, {"embedder": embedder["name"], "embedder_digest": embedder["digest"],
                                                                   "method": "spherical k-means of training chunks"}))
