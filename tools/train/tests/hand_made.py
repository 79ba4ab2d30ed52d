"""A run without a gateway: three fields, each its own cluster, embedded as a unit vector of its own."""

from __future__ import annotations

import pathlib

import numpy as np

from coterie_experts.clustering.spherical import normalised
from coterie_experts.corpus.sources import Source
from coterie_experts.run import making, manifest
from support import FIELDS, passage


def embed(texts: list[str]) -> np.ndarray:
    """[n_texts, 8]: how much of each field's words a text holds."""
    counts = np.array([[sum(text.lower().count(w) for w in words) for words in FIELDS.values()] for text in texts], dtype=np.float32)
    return normalised(np.pad(counts + 0.01, ((0, 0), (0, 5))))


def write_run(path: pathlib.Path, n_clusters: int, **settings) -> pathlib.Path:
    """Makes path/corpus and the run path/run, whose clusters are called field-0, field-1, …"""
    sources = []
    for field in FIELDS:
        folder = path / "corpus" / field
        folder.mkdir(parents=True)
        for number in range(6):
            (folder / f"{number}.md").write_text("\n\n".join(passage(field, 10 * number + part) for part in range(3)))
        sources.append(Source(field, folder, licence=f"{field} licence"))
    base = {"name": "tiny-llama", "digest": "b" * 64, "file_sha256": ""}
    made = making.make_run(sources, making.Settings(n_clusters=n_clusters, **settings), embed, base, {"name": "hand", "digest": "e" * 64})
    for cluster in made[0].clusters:
        cluster.name = f"field-{cluster.index}"
    manifest.save(path / "run", *made)
    return path / "run"
