"""Routing prototypes: spherical K-means centroids of an expert's questions and answers, embedded."""

from __future__ import annotations

import pathlib

import numpy as np
from safetensors.numpy import save_file

EMBEDDER_NAME = "all-MiniLM-L6-v2"
ANSWER_CHARACTERS = 250  # a sentence or two: as much as a question says


def load_embedder(models: pathlib.Path):
    import sentence_transformers

    folder = models / EMBEDDER_NAME
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not there; set COTERIE_MODELS to the folder that holds {EMBEDDER_NAME}")
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu")


def embed(embedder, texts: list[str]) -> np.ndarray:
    """[n_texts, embed_dim] float32, unit norm."""
    return embedder.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False).astype(np.float32)


def spherical_kmeans(points: np.ndarray, n_clusters: int, seed: int, n_rounds: int = 50) -> np.ndarray:
    """Centroids [n_clusters, embed_dim] of unit norm that maximise the summed cosine (k-means++ start)."""
    rng = np.random.default_rng(seed)
    n_clusters = min(n_clusters, len(np.unique(points, axis=0)))
    centroids = [points[rng.integers(len(points))]]
    while len(centroids) < n_clusters:
        distance = np.clip(1 - (points @ np.stack(centroids).T).max(axis=1), 0, None)
        centroids.append(points[rng.choice(len(points), p=distance / distance.sum())])
    centroids = np.stack(centroids)
    for _ in range(n_rounds):
        owner = (points @ centroids.T).argmax(axis=1)
        sums = np.stack([points[owner == c].sum(axis=0) if (owner == c).any() else centroids[c] for c in range(n_clusters)])
        moved = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        if np.allclose(moved, centroids, atol=1e-6):
            break
        centroids = moved
    return centroids.astype(np.float32)


def make_prototypes(embedder, questions: list, n_prototypes: int, seed: int, extra: list[str] = ()) -> np.ndarray:
    """Half the points are questions, half the beginnings of the sections that answer them; `extra` are pilot questions."""
    texts = [q.question for q in questions] + [q.answer[:ANSWER_CHARACTERS] for q in questions] + list(extra)
    return spherical_kmeans(embed(embedder, texts), n_prototypes, seed)


def save_prototypes(path: pathlib.Path, prototypes: np.ndarray) -> None:
    save_file({"prototypes": np.ascontiguousarray(prototypes, dtype=np.float32)}, str(path),
              metadata={"embedder": EMBEDDER_NAME, "method": "spherical k-means of questions and section beginnings"})
