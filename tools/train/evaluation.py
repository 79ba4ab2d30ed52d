"""Held-out loss in nats per token, over pairs, chunks and both together."""

from __future__ import annotations

import torch

from examples import Example, IGNORED


def collate(examples: list[Example]):
    """(ids, labels), each [n_examples, longest]; labels already shifted to predict the next token.

    Padding is on the right, where causal attention keeps it from every counted position: no mask is needed.
    """
    longest = max(len(e.ids) for e in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    labels = torch.full((len(examples), longest), IGNORED)
    for row, example in enumerate(examples):
        n = len(example.ids)
        ids[row, :n] = torch.tensor(example.ids)
        first = max(example.first_counted, 1)
        labels[row, first - 1:n - 1] = ids[row, first:n]
    return ids, labels


def summed_loss(model, examples: list[Example]):
    """(sum of the loss over counted tokens, their number). Logits only where they count: the head is a third of the work."""
    ids, labels = collate(examples)
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    with torch.autocast("cpu", torch.bfloat16):
        hidden = causal.model(input_ids=ids, use_cache=False).last_hidden_state
        counted = labels != IGNORED
        logits = causal.lm_head(hidden[counted])
    losses = torch.nn.functional.cross_entropy(logits.float(), labels[counted], reduction="sum")
    return losses, int(counted.sum())


@torch.no_grad()
def held_out_loss(model, examples: list[Example], batch_size: int = 8) -> dict:
    """{'pair': loss, 'chunk': loss, 'total': loss, 'tokens': counted} over the examples; a kind that is absent is left out."""
    sums: dict[str, list] = {}
    for kind in ("pair", "chunk"):
        of_kind = sorted((e for e in examples if e.kind == kind), key=lambda e: len(e.ids))
        for start in range(0, len(of_kind), batch_size):
            loss, tokens = summed_loss(model, of_kind[start:start + batch_size])
            entry = sums.setdefault(kind, [0.0, 0])
            entry[0] += float(loss)
            entry[1] += tokens
    if not sums:
        raise ValueError("no held-out example of 24 tokens or more; give more or longer documents")
    result = {kind: loss / tokens for kind, (loss, tokens) in sums.items()}
    result["total"] = sum(s[0] for s in sums.values()) / sum(s[1] for s in sums.values())
    result["tokens"] = sum(s[1] for s in sums.values())
    return result
