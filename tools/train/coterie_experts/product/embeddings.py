"""Texts to unit vectors through the product's own embedder, each text once: what was embedded is remembered by content."""

from __future__ import annotations

import hashlib
import pathlib

import numpy as np

from coterie_experts.files import cache_folder
from coterie_experts.float_cache import FloatCache
from coterie_experts.product.gateway import Gateway
from coterie_experts.progress import bar

BATCH_TEXTS = 64  # of one call; the product allows 256, and a smaller batch loses less when it is interrupted


class EmbeddingCache(FloatCache):
    """Vectors by the digest of their text, for one embedder. An interrupted run keeps every batch that was finished."""

    def __init__(self, embedder_digest: str, folder: pathlib.Path | None = None) -> None:
        path = (folder or cache_folder() / "embeddings") / f"{embedder_digest[:16]}.sqlite"
        super().__init__(path, "embedding cache", table="vectors", key="text", key_type="BLOB", value="vector")


def key_of(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()


def _ask(gateway: Gateway, texts: list[str]) -> np.ndarray:
    """[n_texts, dim] float32 of unit norm."""
    response = gateway.call("GenerationService.Embed", gateway.protocol.EmbedRequest(texts=texts), timeout_seconds=300)
    return np.array([e.values for e in response.embeddings], dtype=np.float32)


def embed(gateway: Gateway, texts: list[str], cache: EmbeddingCache) -> np.ndarray:
    """[n_texts, dim] float32 of unit norm, in the order of `texts`."""
    keys = [key_of(text) for text in texts]
    known = {key: vector for key in dict.fromkeys(keys) if (vector := cache.find(key)) is not None}
    # Like lengths together: a batch is as slow as its longest text.
    missing = sorted({k: t for k, t in zip(keys, texts) if k not in known}.items(), key=lambda item: len(item[1]))
    with bar(total=len(keys), what="embedding", unit="chunk") as progress:
        progress.update(len(keys) - len(missing))
        for start in range(0, len(missing), BATCH_TEXTS):
            part = missing[start:start + BATCH_TEXTS]
            vectors = _ask(gateway, [text for _, text in part])
            cache.keep([key for key, _ in part], vectors)
            known.update(zip((key for key, _ in part), vectors))
            progress.update(len(part))
    return np.stack([known[key] for key in keys])
