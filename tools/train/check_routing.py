#!/usr/bin/env python3
"""Sends questions through the experts' prototypes and says how many reach the right one.

    check_routing.py --experts experts/ --corpora corpora/

Two sets: the natural questions of questions.yaml, and headings of held-out documents turned into questions as in
training. An expert's score is its best cosine with any of its prototypes; the highest wins. Routing is by the same
rule as the server's nearest-prototype policy, without its thresholds. Questions under `none` belong to no expert:
the report says how near they come.

--write-thresholds puts `thresholds.min_score` into each card: a little under the least score that a rightly routed
natural question of the field had. Below it the server lets the base answer.
"""

from __future__ import annotations

import argparse
import pathlib
import random
import sys

import numpy as np
import yaml
from safetensors.numpy import load_file

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import base_model  # noqa: E402
import card as card_file  # noqa: E402
import documents as corpus  # noqa: E402
import examples as ex  # noqa: E402
import prototypes as proto  # noqa: E402
from train_all import load_recipes  # noqa: E402


def load_experts(folder: pathlib.Path) -> dict[str, np.ndarray]:
    found = {p.parent.name: load_file(str(p))["prototypes"] for p in sorted(folder.glob("*/prototypes.safetensors"))}
    if not found:
        raise ValueError(f"no */prototypes.safetensors under {folder}")
    return found


def route(experts: dict[str, np.ndarray], embeddings: np.ndarray) -> np.ndarray:
    """[n_questions, n_experts] scores, experts in the order of the dictionary."""
    return np.stack([(embeddings @ p.T).max(axis=1) for p in experts.values()], axis=1)


def report(title: str, experts: dict, embedder, questions: dict[str, list[str]], verbose: bool) -> float:
    names, right, total = list(experts), 0, 0
    print(title)
    for name, texts in questions.items():
        if name not in experts or not texts:
            continue
        scores = route(experts, proto.embed(embedder, texts))
        chosen = scores.argmax(axis=1)
        own = names.index(name)
        right += int((chosen == own).sum())
        total += len(texts)
        ranked = np.sort(scores, axis=1)
        print(f"  {name:14} {(chosen == own).mean():6.1%} of {len(texts)}   score {scores[:, own].mean():.2f}, margin {(ranked[:, -1] - ranked[:, -2]).mean():.3f}")
        for text, choice, row in zip(texts, chosen, scores):
            if verbose and choice != own:
                print(f"      -> {names[choice]} ({row[choice]:.2f}, own {row[own]:.2f}): {text}")
    print(f"  all            {right / total:6.1%} of {total}")
    return right / total


def report_strangers(experts: dict, cards: dict, embedder, texts: list[str]) -> None:
    """Questions of no field: the best score each gets, and whether a card's min_score would turn it away."""
    names, scores = list(experts), route(experts, proto.embed(embedder, texts))
    kept = 0
    for text, row in zip(texts, scores):
        best = int(row.argmax())
        limit = cards[names[best]].get("thresholds", {}).get("min_score")
        kept += limit is None or row[best] >= limit
    print(f"questions of no field: best score {scores.max(axis=1).mean():.2f} on average, {scores.max():.2f} at most; "
          f"{kept} of {len(texts)} would reach an expert")


def write_thresholds(folder: pathlib.Path, experts: dict, embedder, questions: dict[str, list[str]]) -> None:
    names = list(experts)
    for name in names:
        scores = route(experts, proto.embed(embedder, questions[name]))
        own = scores[scores.argmax(axis=1) == names.index(name), names.index(name)]
        least = float(np.clip(own.min() - 0.02, 0.2, 0.5)) if len(own) else 0.2
        path = folder / name / "expert.yaml"
        card = card_file.read_card(path)
        card["thresholds"] = {"min_score": round(least, 2)}
        card_file.write_card(path, card)
        print(f"  {name:14} min_score {least:.2f}")


def held_out_questions(recipe, per_expert: int) -> list[str]:
    documents = corpus.read_corpus(pathlib.Path(recipe.source), recipe.globs, recipe.max_documents)
    _, held = ex.split_documents(documents, recipe.held_out, recipe.training.get("seed", 1))
    questions = [q.question for d in held for q in ex.questions_of(d, recipe.questions)]
    return random.Random(1).sample(questions, min(per_expert, len(questions)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experts", type=pathlib.Path, default=HERE.parent.parent / "experts")
    parser.add_argument("--corpora", type=pathlib.Path, help="also check headings of held-out documents (folder corpora.py filled)")
    parser.add_argument("--per-expert", type=int, default=100, help="held-out questions of each expert")
    parser.add_argument("--verbose", action="store_true", help="list the questions that went elsewhere")
    parser.add_argument("--write-thresholds", action="store_true", help="put thresholds.min_score into the cards")
    parser.add_argument("--at-least", type=float, default=0.0, help="fail when fewer natural questions than this share arrive")
    arguments = parser.parse_args()
    try:
        experts = load_experts(arguments.experts)
    except ValueError as error:
        print(f"check_routing: {error}", file=sys.stderr)
        return 1
    embedder = proto.load_embedder(base_model.models_folder())
    natural = {name: [entry["demo"], *entry["questions"]]
               for name, entry in yaml.safe_load((HERE / "questions.yaml").read_text(encoding="utf-8")).items()}
    strangers = natural.pop("none", [])
    if arguments.write_thresholds:
        write_thresholds(arguments.experts, experts, embedder, natural)
    share = report("natural questions", experts, embedder, natural, arguments.verbose)
    if strangers:
        cards = {name: card_file.read_card(arguments.experts / name / "expert.yaml") for name in experts}
        report_strangers(experts, cards, embedder, strangers)
    if arguments.corpora:
        recipes = load_recipes(HERE / "experts.yaml", arguments.corpora)
        report("headings of held-out documents", experts, embedder,
               {r.name: held_out_questions(r, arguments.per_expert) for r in recipes if r.name in experts}, arguments.verbose)
    return 0 if share >= arguments.at_least else 1


if __name__ == "__main__":
    sys.exit(main())
