"""Near-duplicates by MinHash (Broder 1997), with datasketch: boilerplate would fill clusters and leak into held-out text."""

from __future__ import annotations

import re
import zlib
from typing import Iterable

from coterie_experts.errors import Refused
from coterie_experts.progress import bar

DEFAULT_THRESHOLD = 0.8  # Jaccard similarity of the sets of shingles
SHINGLE_WORDS = 5
N_PERMUTATIONS = 64  # the estimate's standard error is 1/sqrt(64) at worst
_SEED = 1


def shingles(text: str) -> set[bytes]:
    """Runs of five words; of a shorter text its words."""
    words = re.findall(r"\w+", text.lower())
    if len(words) < SHINGLE_WORDS:
        return {w.encode() for w in words} or {b""}
    return {" ".join(words[i:i + SHINGLE_WORDS]).encode() for i in range(len(words) - SHINGLE_WORDS + 1)}


def kept(texts: Iterable[str], threshold: float = DEFAULT_THRESHOLD) -> list[bool]:
    """For each text whether it stays: the first of those that are alike does."""
    try:
        import datasketch
    except ImportError as error:
        raise Refused("near-duplicates are found with the package datasketch, which is not installed; install it, "
                      "or say --near-duplicates 0 to keep them") from error
    index = datasketch.MinHashLSH(threshold=threshold, num_perm=N_PERMUTATIONS)
    blank = datasketch.MinHash(num_perm=N_PERMUTATIONS, seed=_SEED, hashfunc=zlib.crc32)
    stays = []
    for number, text in enumerate(bar(list(texts), what="near-duplicates", unit="chunk")):
        sketch = blank.copy()
        sketch.update_batch(shingles(text))
        alike = index.query(sketch)
        stays.append(not alike)
        if not alike:
            index.insert(str(number), sketch)
    return stays
