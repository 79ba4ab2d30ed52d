#!/usr/bin/env python3
"""Sentence embeddings by sentence-transformers: of the real embedder and of the tiny one.

Writes
  embedding_texts.json   list of strings
  embeddings.bin         (layout in golden_io.py) `minilm` f16 [n_texts, 384], `tiny-bert` f32 [n_texts, 32]: unit vectors.

float16 keeps a unit vector of 384 dimensions to a cosine of 1 - 1e-7; compare by cosine, >= 0.9999. Texts longer than
the model's max_seq_length are cut there, [SEP] kept, as sentence-transformers does.
"""

from __future__ import annotations

import json
import random

import numpy as np
import yaml

from golden_io import DATA, HERE, ROOT, write_arrays
from coterie_experts.product import binaries
from coterie_experts.training import base_model
from make_tokens import SENTENCES, make_strings
from texts import BASE_TEXTS

CONTROL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def make_texts() -> list[str]:
    questions = yaml.safe_load((ROOT / "tests/golden/questions.yaml").read_text(encoding="utf-8"))
    texts = [q for field, entry in questions.items() if field != "none" for q in (entry["demo"], *entry["questions"])]
    texts += [t for t in BASE_TEXTS.values() if isinstance(t, str)]
    texts += [turn["content"] for t in BASE_TEXTS.values() if not isinstance(t, str) for turn in t]
    texts += SENTENCES
    # sentence-transformers makes control tokens of such words; our encoder leaves a user's words words.
    plain = [s for s in make_strings() if isinstance(s, str) and not any(c in s for c in CONTROL_TOKENS)]
    texts += random.Random(4).sample(plain, 330)
    prose = " ".join(s for s in SENTENCES if s.isascii())
    texts += [prose[:n] for n in (300, 600, 900, 1100, 1500, 3000)] + [prose * 4, "word " * 254, "word " * 253 + "x y z", "", " ", "a"]
    return list(dict.fromkeys(texts))


def main() -> None:
    import sentence_transformers
    import torch

    torch.set_num_threads(1)
    texts = make_texts()
    assert len(texts) >= 500, len(texts)
    lines = ",\n".join(json.dumps(t, separators=(",", ":")) for t in texts)
    (HERE / "embedding_texts.json").write_text(f"[{lines}]\n")
    arrays = {}
    for name, folder, kind in (("minilm", binaries.models_folder() / "all-MiniLM-L6-v2", "<f2"), ("tiny-bert", DATA / "tiny-bert", "<f4")):
        model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
        vectors = model.encode(texts, batch_size=16, show_progress_bar=False)
        norms = np.linalg.norm(vectors, axis=1)
        near = (vectors @ vectors.T)[np.triu_indices(len(texts), 1)]
        print(f"{name}: {vectors.shape}, reads {model.max_seq_length} tokens, norms {norms.min():.6f}..{norms.max():.6f}, cosine of two texts {near.mean():.2f} +- {near.std():.2f}")
        arrays[name] = vectors.astype(kind)
    write_arrays(HERE / "embeddings.bin", arrays)


if __name__ == "__main__":
    main()
