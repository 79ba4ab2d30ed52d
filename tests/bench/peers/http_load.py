#!/usr/bin/env python3
"""A burst of streaming completions against llama-server over HTTP; prints one JSON object. Standard library only.

The twin of `coterie bench --concurrency N --requests N`: all requests start at once, each prompt is another list of
token ids, and times count from the start."""

import argparse
import http.client
import json
import math
import random
import statistics
import threading
import time


START_PATIENCE_SECONDS = 60  # until every request is connected
NOT_STARTED = "not every request could connect"  # of the others


class Request(threading.Thread):
    def __init__(self, port: int, body: dict, start: threading.Barrier):
        super().__init__()
        self.port, self.body, self.start_line = port, body, start
        self.first = self.last = 0.0
        self.n_tokens, self.error = 0, None

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        try:
            connection.connect()
            payload = json.dumps(self.body)
            self.start_line.wait(START_PATIENCE_SECONDS)
            self.begin = time.monotonic()
            connection.request("POST", "/completion", payload, {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                self.error = f"{response.status}: {response.read()[:300]!r}"
                return
            for line in response:
                if not line.startswith(b"data: "):
                    continue
                event = json.loads(line[6:])
                now = time.monotonic() - self.begin
                if event.get("stop"):
                    self.n_tokens = event.get("tokens_predicted", self.n_tokens)
                    break
                self.first = self.first or now
                self.last = now
            else:
                self.error = "the stream ended before the answer did"
            self.total = time.monotonic() - self.begin
        except threading.BrokenBarrierError:
            self.error = NOT_STARTED
        except (OSError, ValueError, http.client.HTTPException) as problem:
            self.error = str(problem) or repr(problem)
            self.start_line.abort()  # whoever waits there would wait for this one
        finally:
            connection.close()


def percentile(values: list, share: float) -> float:
    """By nearest rank, like `coterie bench`."""
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--requests", type=int, default=16)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--output-tokens", type=int, default=64)
    parser.add_argument("--vocabulary", type=int, default=40000)
    parser.add_argument("--adapters", type=int, default=0, help="request i uses adapter i modulo this; 0: the base")
    parser.add_argument("--mute", action="store_true",
                        help="adapters are loaded: a request for the base names one at scale 0. Without any `lora` field llama-server puts no "
                             "two requests into one batch while adapters are loaded, and gets a third of the tokens")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    barrier = threading.Barrier(options.requests)
    requests = []
    for i in range(options.requests):
        body = {"prompt": [draw.randrange(1000, options.vocabulary) for _ in range(options.prompt_tokens)],
                "n_predict": options.output_tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False, "stream": True}
        if options.adapters:
            body["lora"] = [{"id": i % options.adapters, "scale": 1.0}]
        elif options.mute:
            body["lora"] = [{"id": 0, "scale": 0.0}]
        requests.append(Request(options.port, body, barrier))
    begin = time.monotonic()
    for request in requests:
        request.start()
    for request in requests:
        request.join()
    wall = time.monotonic() - begin
    if errors := sorted((r.error for r in requests if r.error), key=lambda error: error == NOT_STARTED):
        raise SystemExit(f"{len(errors)} of {len(requests)} requests failed; the first: {errors[0]}")
    first = [r.first for r in requests]
    per_token = [(r.last - r.first) / (r.n_tokens - 1) for r in requests if r.n_tokens > 1]
    tokens = sum(r.n_tokens for r in requests)
    print(json.dumps({"completion_tokens": tokens, "wall_seconds": wall, "completion_tokens_per_second": tokens / wall,
                      "first_token_median_seconds": percentile(first, 0.5), "first_token_p90_seconds": percentile(first, 0.9),
                      "per_output_token_median_seconds": statistics.median(per_token) if per_token else 0}))


if __name__ == "__main__":
    main()
