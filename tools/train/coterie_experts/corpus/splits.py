"""The split by document: no chunk of a held-out page was seen in training, and every source has its share of each part."""

from __future__ import annotations

import hashlib

TRAIN, VALIDATION, HELD_OUT, OUTSIDE = "train", "validation", "held_out", "outside"
SPLITS = (TRAIN, VALIDATION, HELD_OUT, OUTSIDE)


def _stable_number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def split_documents(names: list[str], held_out: float, validation: float, seed: int) -> list[str]:
    """The part of each document of one source; the order of `names` plays no role.

    Of two documents one is held out, of three one is for validation: a part whose share is above 0 gets its first
    document before training gets a second. A single document is trained on.
    """
    order = sorted(range(len(names)), key=lambda i: _stable_number(f"{seed}:{names[i]}"))
    spare = len(names) - 1
    n_held = min(spare, max(1, round(held_out * len(names)))) if held_out else 0
    n_validation = min(spare - n_held, max(1, round(validation * len(names)))) if validation else 0
    parts = [TRAIN] * len(names)
    for place, document in enumerate(order[:n_held + n_validation]):
        parts[document] = HELD_OUT if place < n_held else VALIDATION
    return parts
