#!/usr/bin/env python3
"""Loss of mixed text under one expert and under several: mixtures, blends, gates.

    build/release/bin/coterie up --arrow-gates            elsewhere: the shipped experts over the shipped base
    tests/bench/several_experts.py --http 127.0.0.1:8080

A document has two halves from two fields (tests/golden/texts.py; short, and sentences of some stand in the manuals that
experts were trained on: a comparison of ways, not of experts). It is scored over HTTP (`echo` with `logprobs`) under the base, each expert of its fields, the two together in each way there is, and all
experts under the gates. Printed is the mean loss in nats per token, every document weighing the same, with how often a way
beats the better of the two experts; --json has each document. `noisy` draws by a seed: it is scored under three.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import statistics
import sys
import urllib.error
import urllib.request

from measuring import ROOT, machine

sys.path.insert(0, str(ROOT / "tests/golden"))
from texts import EXPERT_TEXTS  # noqa: E402

NOISE_SEEDS = (1, 2, 3)


def loss(address: str, text: str, fields: dict) -> float:
    """Nats per token of `text`, from its second token on."""
    body = {"model": "auto", "prompt": text, "max_tokens": 0, "echo": True, "logprobs": 1, "temperature": 0, **fields}
    request = urllib.request.Request(f"http://{address}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            choice = json.load(answer)["choices"][0]
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{fields}: {error.read().decode(errors='replace')}") from None
    values = [v for v in choice["logprobs"]["token_logprobs"] if v is not None]
    return -statistics.fmean(values)


def together(members: list[str], **fields) -> dict:
    return {"coterie": {"collaboration": {"members": members, **fields}}}


def ways(a: str, b: str, everyone: list[str]) -> dict[str, list[dict]]:
    """Fields of the request by the name of the way; several are averaged."""
    def noisy(members, top_k):
        return [{"seed": seed, **together(members, gate="noisy", top_k=top_k)} for seed in NOISE_SEEDS]

    n = len(everyone)
    return {
        "base": [{"model": "base"}],
        "first expert": [{"model": a}],
        "second expert": [{"model": b}],
        "mixture of 2": [together([a, b], mode="mixture")],
        "blend of 2": [together([a, b], mode="blend")],
        "gateless, 2": [together([a, b], gate="gateless")],
        "noisy, 1 of 2": noisy([a, b], 1),
        "noisy, 2 of 2": noisy([a, b], 2),
        "arrow, 1 of 2": [together([a, b], gate="arrow", top_k=1)],
        "arrow, 2 of 2": [together([a, b], gate="arrow", top_k=2)],
        f"gateless, {n}": [together(everyone, gate="gateless")],
        f"noisy, 2 of {n}": noisy(everyone, 2),
        f"arrow, 1 of {n}": [together(everyone, gate="arrow", top_k=1)],
        f"arrow, 2 of {n}": [together(everyone, gate="arrow", top_k=2)],
        f"arrow, {n} of {n}": [together(everyone, gate="arrow", top_k=n)],
    }


def summary(documents: list[dict]) -> list[tuple[str, float, float]]:
    """For each way its mean loss and the share of documents on which it beats the better of the two experts."""
    losses = {}
    for document in documents:
        best = min(document["losses"]["first expert"], document["losses"]["second expert"])
        for way, value in {**document["losses"], "better expert": best}.items():
            losses.setdefault(way, []).append((value, value < best))
    return [(way, statistics.fmean(v for v, _ in all_), statistics.fmean(b for _, b in all_)) for way, all_ in losses.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--http", default="127.0.0.1:8080", metavar="HOST:PORT", help="a gateway's --http-listen")
    parser.add_argument("--pairs", type=int, default=0, help="only so many pairs of fields; 0: all")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write every document's losses")
    flags = parser.parse_args()
    with urllib.request.urlopen(f"http://{flags.http}/v1/models", timeout=60) as page:
        served = {model["id"] for model in json.load(page)["data"]}
    fields = sorted(f for f in EXPERT_TEXTS if f in served)
    if len(fields) < 2:
        raise SystemExit(f"the gateway serves {sorted(served)}; two of {sorted(EXPERT_TEXTS)} are needed")
    pairs = list(itertools.combinations(fields, 2))[:flags.pairs or None]
    documents = []
    for a, b in pairs:
        text = EXPERT_TEXTS[a]["plain"] + "\n\n" + EXPERT_TEXTS[b]["plain"]
        losses = {way: statistics.fmean(loss(flags.http, text, f) for f in asks) for way, asks in ways(a, b, fields).items()}
        documents.append({"fields": [a, b], "losses": losses})
        print(f"\r{len(documents)} of {len(pairs)} documents", end="", file=sys.stderr)
    print(file=sys.stderr)
    print(f"{len(documents)} documents of two fields, experts {', '.join(fields)}; {machine()['cpu']}, {machine()['cores']} cores")
    for way, value, share in sorted(summary(documents), key=lambda row: row[1]):
        print(f"{way:>16}  {value:.4f}  {100 * share:5.1f} % below the better expert")
    if flags.json:
        flags.json.write_text(json.dumps({"machine": machine(), "documents": documents}, indent=1) + "\n")


if __name__ == "__main__":
    main()
