"""What a training will see, step by step, known before it starts: a run taken up again at step n goes on with batch n."""

from __future__ import annotations

import dataclasses
import random

from coterie_experts.errors import Refused

MIN_EXAMPLE_TOKENS = 24


@dataclasses.dataclass(frozen=True)
class Plan:
    batches: list[list[tuple[int, ...]]]  # batches[step]: token ids of each example
    n_tokens: int                         # trained on, repeats included
    n_distinct: int                       # of the cluster's own text


def examples_of(token_ids: list[list[int]], max_tokens: int) -> list[tuple[int, ...]]:
    """Chunks cut to at most `max_tokens`; a remainder too short to learn from is left out."""
    return [tuple(piece) for ids in token_ids for start in range(0, len(ids), max_tokens)
            if len(piece := ids[start:start + max_tokens]) >= MIN_EXAMPLE_TOKENS]


def make_plan(examples: list[tuple[int, ...]], n_tokens: int, batch_tokens: int, seed: int) -> Plan:
    """About `n_tokens` tokens in batches of about `batch_tokens`, like lengths together, in a seeded order.

    With less text than tokens the examples repeat, each pass in a new order; with more, a seeded sample is taken.
    """
    if not examples:
        raise Refused(f"no training text of {MIN_EXAMPLE_TOKENS} tokens or more")
    rng = random.Random(seed)
    drawn, total = [], 0
    while total < n_tokens:
        for example in rng.sample(examples, len(examples)):
            drawn.append(example)
            total += len(example)
            if total >= n_tokens:
                break
    drawn.sort(key=len)
    batches, batch, held = [], [], 0
    for example in drawn:
        batch.append(example)
        held += len(example)
        if held >= batch_tokens:
            batches.append(batch)
            batch, held = [], 0
    if batch:
        batches.append(batch)
    rng.shuffle(batches)
    return Plan(batches, total, sum(map(len, examples)))
