#!/usr/bin/env python3
"""How much of the time to the first token goes to routing a conversation: a gateway and a worker of this process's own, the
shipped experts, one conversation after the other as their people would hold them, each question with all that was said before.

    tests/bench/conversations/first_token.py [--bin build/release/bin] [--conversations 20]

Prints a line of JSON for a first question and one for questions with history: the medians of the gateway's own times (routing:
embedding and search; first token: from the request's arrival) and of their ratio, each taken within one request, so that a busy
machine slows both. A third line is of conversations that come with six earlier questions the gateway has never seen, as after it was
started anew. Needs the real models (tools/fetch-models) and the Python of tools/train (numpy, grpc)."""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE), str(ROOT / "tools" / "train")]
import make_conversations as made  # noqa: E402
from coterie_experts.product import binaries  # noqa: E402
from coterie_experts.product.gateway import own_cluster  # noqa: E402

NEVER_SEEN = 7  # messages


class Asker:
    """Sends a conversation's next question and keeps what the gateway says of its times."""

    def __init__(self, gateway) -> None:
        self._gateway, self.samples = gateway, collections.defaultdict(list)

    def ask(self, kind: str, conversation: dict, n_turns: int, salt: str = "") -> None:
        p = self._gateway.protocol
        messages = [p.ChatMessage(role="system", content=conversation["system"])] if conversation["system"] else []
        for turn, answer in zip(conversation["turns"][:n_turns], [*conversation["answers"], ""]):
            messages += [p.ChatMessage(role="user", content=turn["text"]), p.ChatMessage(role="assistant", content=answer)]
        request = p.GenerateRequest(chat=p.Chat(messages=messages[:-1]), expert="auto", sampling=p.SamplingParams(max_tokens=1),
                                    context=p.RequestContext(cache_salt=salt))
        decision = timings = None
        for event in self._gateway.stream("GenerationService.Generate", request):
            decision = event.route if event.HasField("route") else decision
            timings = event.finish.timings if event.HasField("finish") else timings
        routing = decision.embed_seconds + decision.search_seconds
        self.samples[kind].append((routing, timings.first_token_seconds))

    def report(self, kind: str) -> dict:
        samples = self.samples[kind]
        return {"kind": kind, "requests": len(samples), "routing, median ms": round(1e3 * statistics.median(r for r, _ in samples), 2),
                "first token, median ms": round(1e3 * statistics.median(f for _, f in samples), 2),
                "routing's share, median %": round(100 * statistics.median(r / f for r, f in samples), 2)}


def measure(asker: Asker, conversations: list[dict]) -> None:
    first, later, unseen = "a first question", "a question with history", f"{NEVER_SEEN} messages never seen"
    for conversation in conversations:
        for n in range(1, len(conversation["turns"]) + 1):
            asker.ask(first if n == 1 else later, conversation, n)
    for n, conversation in enumerate(c for c in conversations if len(c["turns"]) >= NEVER_SEEN):
        asker.ask(unseen, conversation, NEVER_SEEN, salt=f"never seen {n}")
    for kind in (first, later, unseen):
        print(json.dumps(asker.report(kind)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/release/bin")
    parser.add_argument("--conversations", type=int, default=20, help="how many short ones of the chosen set, beside five long ones (default 20)")
    args = parser.parse_args()
    of_set = [conversation for conversation in made.make() if conversation["set"] == made.CHOSEN]
    short = [c for c in of_set if c["kind"] != made.LONG]
    picked = short[::max(1, len(short) // args.conversations)][:args.conversations] + [c for c in of_set if c["kind"] == made.LONG][:5]
    with tempfile.TemporaryDirectory() as folder:
        store = pathlib.Path(folder) / "store"
        store.mkdir()
        with own_cluster(binaries.find_base(None), binaries.find_embedder(None), store, bin_folder=args.bin) as gateway:
            subprocess.run([args.bin / "coterie", "experts", "publish", f"--admin={gateway.admin_address}", *sorted((ROOT / "experts").iterdir())],
                           check=True, stdout=subprocess.DEVNULL)
            time.sleep(1)  # the catalogue is looked at every half second
            measure(Asker(gateway), picked)


if __name__ == "__main__":
    main()
