"""The telling terms of a cluster, by class-based TF-IDF (Grootendorst 2022), and a name made of them."""

from __future__ import annotations

import collections
import math
import re
import unicodedata

_WORD = re.compile(r"[^\W\d_]{3,24}")
MAX_NAME_CHARACTERS = 48  # an expert's name has at most 64; a prefix may come before it
_TERMS_IN_NAME = 3
_LONG_WORD = 6   # letters
_MIN_LIFT = 1.2


def words_of(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _is_grammar(word: str, n_texts_with: int, n_texts: int) -> bool:
    """A short word in every third passage holds sentences together and tells nothing, in whatever language."""
    return len(word) < _LONG_WORD and n_texts_with * 3 > n_texts


def telling_terms(texts: list[list[str]], n_terms: int = 10) -> list[list[str]]:
    """For each cluster, given its texts, the terms with the largest tf * log(1 + mean words of a cluster / occurrences)."""
    words = [[words_of(text) for text in cluster] for cluster in texts]
    counts = [collections.Counter(w for text in cluster for w in text) for cluster in words]
    spread = [collections.Counter(w for text in cluster for w in set(text)) for cluster in words]
    everywhere: collections.Counter = sum(counts, collections.Counter())
    mean_words = everywhere.total() / max(1, len(counts))

    def rank(cluster: int) -> list[str]:
        count, total = counts[cluster], counts[cluster].total()
        weights = {word: n / total * math.log(1 + mean_words / everywhere[word]) for word, n in count.items()
                   if not _is_grammar(word, spread[cluster][word], len(words[cluster]))
                   # As frequent elsewhere: tells this cluster from no other.
                   and (len(counts) == 1 or n / total > _MIN_LIFT * everywhere[word] / everywhere.total())}
        return sorted(weights, key=lambda word: (-weights[word], word))[:n_terms]

    return [rank(cluster) for cluster in range(len(texts))]


def _plain(word: str) -> str:
    """As an expert's name may be written: a to z and digits."""
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKD", word.casefold()).encode("ascii", "ignore").decode())


def names_of(terms: list[list[str]]) -> list[str]:
    """A name for each cluster, no two alike, each a valid name of an expert."""
    names: list[str] = []
    for number, of_cluster in enumerate(terms):
        said: list[str] = []
        for word in filter(None, map(_plain, of_cluster)):
            # "index" says nothing beside "indexes"
            if not any(word.startswith(s[:5]) or s.startswith(word[:5]) for s in said):
                said.append(word)
            if len(said) == _TERMS_IN_NAME:
                break
        name = "-".join(said)[:MAX_NAME_CHARACTERS].rstrip("-") or f"cluster-{number}"
        names.append(name if name not in names else f"{name}-{number}")
    return names


def name_of_label(label: str) -> str:
    """A source's own name as an expert's name."""
    name = re.sub(r"[^a-z0-9._-]+", "-", unicodedata.normalize("NFKD", label.casefold()).encode("ascii", "ignore").decode())
    return name.strip("-._")[:MAX_NAME_CHARACTERS] or "source"
