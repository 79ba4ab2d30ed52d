#!/usr/bin/env python3
"""How well conversations are routed: by nothing but the last question, with one earlier turn, with all of them, and by the
product's own rule (router/conversation.h), by a real gateway with the shipped experts.

    tests/bench/conversations/measure.py [--bin build/release/bin] [--wrong]

Prints a line of JSON for each set and way (make_conversations.py says what the sets are), and with --wrong every turn of the
product's rule that went astray in the sets that may be looked at. first_token.py measures what it costs. Needs the real models (tools/fetch-models) and the Python of tools/train (numpy, grpc)."""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE), str(ROOT / "tools" / "train")]
import make_conversations as made  # noqa: E402
from coterie_experts.product import binaries  # noqa: E402
from coterie_experts.product.gateway import own_gateway  # noqa: E402

WAYS = ("0 earlier turns", "1 earlier turn", "all earlier turns", "rule")


class Router:
    """A gateway that holds the shipped experts, asked for routes alone."""

    def __init__(self, gateway) -> None:
        self._gateway, self._alone = gateway, {}

    def _route(self, **request) -> str:
        p = self._gateway.protocol
        decision = self._gateway.call("GenerationService.Route", p.RouteRequest(expert="auto", **request)).decision
        return decision.experts[0].name if decision.experts else made.BASE

    def text(self, text: str) -> str:
        if text not in self._alone:
            self._alone[text] = self._route(prompt=text)
        return self._alone[text]

    def chat(self, conversation: dict, n_turns: int) -> str:
        p = self._gateway.protocol
        messages = [p.ChatMessage(role="system", content=conversation["system"])] if conversation["system"] else []
        for turn, answer in zip(conversation["turns"][:n_turns], [*conversation["answers"], ""]):
            messages += [p.ChatMessage(role="user", content=turn["text"]), p.ChatMessage(role="assistant", content=answer)]
        return self._route(chat=p.Chat(messages=messages[:-1]))

    def by(self, way: str, conversation: dict, n_turns: int) -> str:
        texts = [turn["text"] for turn in conversation["turns"][:n_turns]]
        if way == "rule":
            return self.chat(conversation, n_turns)
        return self.text("\n".join({"0 earlier turns": texts[-1:], "1 earlier turn": texts[-2:]}.get(way, texts)))


def judge_long(router: Router, way: str, conversation: dict):
    """Of a long one only the last turn, and whether it has the field that all of it is about."""
    question, turns = conversation["turns"][0], conversation["turns"]
    if router.text(question["text"]) == question["expect"]:
        reached = router.by(way, conversation, len(turns))
        yield f"after {len(turns)} turns", reached == question["expect"], [reached] * len(turns)


def judge(router: Router, way: str, conversation: dict, small_talk: set[str]):
    """(kind, right, routes) of every turn that can be judged. A follow-up is right where it stays or reaches the field it is
    about; a question counts where it reaches its field when it stands alone, for the rest is the experts' matter."""
    if conversation["kind"] == made.LONG:
        yield from judge_long(router, way, conversation)
        return
    routes, topic = [], None
    for n, turn in enumerate(conversation["turns"]):
        text, expect = turn["text"], turn["expect"]
        routes.append(router.by(way, conversation, n + 1))
        if text in small_talk:
            yield "small talk", routes[-1] == (routes[-2] if n else made.BASE), routes
        elif expect == made.SAME:
            yield "follow-up", routes[-1] in (routes[-2], topic), routes
        else:
            topic = expect
            alone = router.text(text)
            if n == 0:
                yield "single question", routes[-1] == alone, routes
            elif alone == expect:
                yield ("to the base" if expect == made.BASE else "switch"), routes[-1] == expect, routes


def measure(router: Router, wrong: bool) -> None:
    conversations = made.make()
    for way, name in itertools.product(WAYS, made.SETS):
        small_talk = set(made.sources(name)[1]["small_talk"])
        counts = collections.defaultdict(lambda: [0, 0])
        of_set = [conversation for conversation in conversations if conversation["set"] == name]
        for conversation in of_set:
            for kind, right, routes in judge(router, way, conversation, small_talk):
                counts[kind][0] += right
                counts[kind][1] += 1
                if wrong and way == "rule" and not right and name != made.HELD_OUT:
                    turns = [turn["text"] for turn in conversation["turns"][:len(routes)]]
                    print(json.dumps({"set": name, "kind": kind, "turns": turns, "routes": list(routes)}, ensure_ascii=False))
        print(json.dumps({"way": way, "set": name, "conversations": len(of_set),
                          **{kind: f"{right} of {n} ({100 * right / n:.1f} %)" for kind, (right, n) in sorted(counts.items())}}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/release/bin")
    parser.add_argument("--wrong", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as store, \
            own_gateway(binaries.find_base(None), binaries.find_embedder(None), bin_folder=args.bin, store=pathlib.Path(store) / "store") as gateway:
        subprocess.run([args.bin / "coterie", "experts", "publish", f"--admin={gateway.admin_address}", *sorted((ROOT / "experts").iterdir())],
                       check=True, stdout=subprocess.DEVNULL)
        time.sleep(1)  # the catalogue is looked at every half second
        measure(Router(gateway), args.wrong)


if __name__ == "__main__":
    main()
