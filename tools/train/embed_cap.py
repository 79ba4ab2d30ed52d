#!/usr/bin/env python3
"""How many tokens of a long prompt the router needs to read: the share of prompts that reach the right expert when
only so many of their tokens are embedded, taken from the head, from the tail, or half from each.

    embed_cap.py --corpora corpora/

Prompts are made of held-out documents, each longer than 128 tokens of the encoder: a passage alone, a question before
its passage, and a passage before the question. The gateway's default (--embed-tokens) was chosen by this table.
"""

from __future__ import annotations

import argparse
import pathlib
import random
import sys

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import base_model  # noqa: E402
import check_routing  # noqa: E402
import documents as corpus  # noqa: E402
import examples as ex  # noqa: E402
import prototypes as proto  # noqa: E402
from train_all import load_recipes  # noqa: E402

CAPS = (16, 24, 32, 48, 64, 96, 128, 256)  # with [CLS] and [SEP]
PARTS = ("head", "tail", "both")
MIN_TOKENS = 128


def cut(ids: list[int], cap: int, part: str) -> list[int]:
    room = cap - 2
    if len(ids) <= room:
        return ids
    if part == "head":
        return ids[:room]
    if part == "tail":
        return ids[-room:]
    return ids[: room - room // 2] + ids[len(ids) - room // 2:]


def embed_ids(embedder, texts: list[list[int]]) -> np.ndarray:
    """[n_texts, embed_dim] of unit norm; `texts` are ids without [CLS] and [SEP]."""
    tokenizer, out = embedder.tokenizer, []
    for begin in range(0, len(texts), 32):
        rows = [[tokenizer.cls_token_id, *ids, tokenizer.sep_token_id] for ids in texts[begin:begin + 32]]
        width = max(map(len, rows))
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        with torch.no_grad():
            features = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
            out.append(torch.nn.functional.normalize(embedder(features)["sentence_embedding"]).numpy())
    return np.concatenate(out)


def prompts_of(recipe, tokenizer, per_expert: int) -> dict[str, list[list[int]]]:
    documents = corpus.read_corpus(pathlib.Path(recipe.source), recipe.globs, recipe.max_documents)
    _, held = ex.split_documents(documents, recipe.held_out, recipe.training.get("seed", 1))
    pairs = [(q.question, q.answer) for d in held for q in ex.questions_of(d, recipe.questions)]
    pairs = [p for p in pairs if len(p[1]) > 4 * MIN_TOKENS]
    prompts: dict[str, list[list[int]]] = {"passage": [], "question first": [], "question last": []}
    for question, answer in random.Random(1).sample(pairs, min(per_expert, len(pairs))):
        for kind, text in (("passage", answer), ("question first", f"{question}\n\n{answer}"), ("question last", f"{answer}\n\n{question}")):
            ids = tokenizer.encode(text[:4000], add_special_tokens=False, truncation=False)
            if len(ids) >= MIN_TOKENS:
                prompts[kind].append(ids)
    return prompts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experts", type=pathlib.Path, default=HERE.parent.parent / "experts")
    parser.add_argument("--corpora", type=pathlib.Path, required=True, help="folder that corpora.py filled")
    parser.add_argument("--per-expert", type=int, default=40, help="held-out sections of each expert")
    parser.add_argument("--caps", type=int, nargs="+", default=CAPS, help="tokens to read, with [CLS] and [SEP]")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    experts = check_routing.load_experts(arguments.experts)
    embedder = proto.load_embedder(base_model.models_folder())
    names = list(experts)
    prompts: dict[str, list[tuple[int, list[int]]]] = {}
    for recipe in load_recipes(HERE / "experts.yaml", arguments.corpora):
        if recipe.name not in experts:
            continue
        for kind, found in prompts_of(recipe, embedder.tokenizer, arguments.per_expert).items():
            prompts.setdefault(kind, []).extend((names.index(recipe.name), ids) for ids in found)
    for kind, labelled in prompts.items():
        own = np.array([label for label, _ in labelled])
        print(f"{kind}: {len(labelled)} prompts, {np.median([len(ids) for _, ids in labelled]):.0f} tokens in the median")
        print("  tokens  " + "  ".join(f"{part:>6}" for part in arguments.parts))
        for cap in arguments.caps:
            shares = []
            for part in arguments.parts:
                chosen = check_routing.route(experts, embed_ids(embedder, [cut(ids, cap, part) for _, ids in labelled])).argmax(axis=1)
                shares.append(f"{(chosen == own).mean():6.1%}")
            print(f"  {cap:6}  " + "  ".join(shares), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
