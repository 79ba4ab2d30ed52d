"""Questions in the open or closed loop over HTTP, and what became of each: its text, its longest silence, its end. Standard library only."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import threading
import time
import urllib.parse


@dataclasses.dataclass
class Outcome:
    question: int
    text: str = ""
    error: str = ""            # empty: it ended as it should
    code: int = 0              # HTTP status; 0: none came
    first_seconds: float = 0.0  # until the first text
    longest_gap_seconds: float = 0.0  # between two texts
    seconds: float = 0.0
    ended: float = 0.0  # monotonic
    n_notices: int = 0         # its worker was lost on the way
    n_tries: int = 1
    n_broken: int = 0          # of the tries before, those that had begun to answer


async def ask(url: str, body: dict, patience: float) -> Outcome:
    """One streamed answer."""
    outcome, began = Outcome(-1), time.monotonic()
    parsed = urllib.parse.urlsplit(url)
    writer = None
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection(parsed.hostname, parsed.port, limit=1 << 20)
            payload = json.dumps({**body, "stream": True}).encode()
            writer.write(f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
                         f"Content-Length: {len(payload)}\r\n\r\n".encode() + payload)
            await writer.drain()
            outcome.code = int((await reader.readuntil(b"\r\n")).split()[1])
            await reader.readuntil(b"\r\n\r\n")
            if outcome.code != 200:
                outcome.error = f"{outcome.code} {(await reader.read(400)).decode(errors='replace')}"
                return outcome
            last = None
            outcome.error = "the stream broke off"
            async for line in reader:
                if line.startswith(b": ") and not line.startswith(b": keep-alive"):
                    outcome.n_notices += 1
                if not line.startswith(b"data: "):
                    continue
                if line.startswith(b"data: [DONE]"):
                    outcome.error = ""
                    break
                data = json.loads(line[6:])
                if "error" in data:
                    outcome.error = data["error"]["message"]
                    break
                if text := data["choices"][0]["text"]:
                    now = time.monotonic()
                    if last is None:
                        outcome.first_seconds = now - began
                    else:
                        outcome.longest_gap_seconds = max(outcome.longest_gap_seconds, now - last)
                    last = now
                    outcome.text += text
    except (OSError, asyncio.IncompleteReadError, ValueError, IndexError) as problem:
        outcome.error = f"{type(problem).__name__}: {problem}"
    except TimeoutError:
        outcome.error = f"gave up after {patience} s"
    finally:
        outcome.ended = time.monotonic()
        outcome.seconds = outcome.ended - began
        if writer is not None:
            writer.close()
    return outcome


def make_questions(models: list[str], n: int, n_tokens: int) -> list[dict]:
    """Every second one is drawn at a temperature: the text must be the same all the same."""
    return [{"model": models[i % len(models)], "prompt": f"question {i} of many", "seed": 1000 + i, "max_tokens": n_tokens, "ignore_eos": True,
             "temperature": 0.8 if i % 2 else 0} for i in range(n)]


class Load:
    """`with Load(urls, questions, 12) as load:` so many streams at any time, one after the other, until the block is left; then `outcomes`."""

    def __init__(self, urls: list[str], questions: list[dict], n_streams: int, patience=120.0, n_tries=1):
        self.urls, self.questions, self.n_streams, self.patience, self.n_tries = urls, questions, n_streams, patience, n_tries
        self.outcomes: list[Outcome] = []
        self.stopping = False
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join()

    async def _run(self):
        await asyncio.gather(*(self._stream(n) for n in range(self.n_streams)))

    async def _stream(self, n: int):
        i = n
        while not self.stopping:
            i += self.n_streams
            self.outcomes.append(await self._persist(i % len(self.questions)))

    async def _persist(self, question: int) -> Outcome:
        """As clients of OpenAI's do: a broken answer is asked for again, whole, after a moment, at the next gateway."""
        n_broken = 0
        for n in range(self.n_tries):
            outcome = await ask(self.urls[(question + n) % len(self.urls)], self.questions[question], self.patience)
            outcome.question, outcome.n_tries, outcome.n_broken = question, n + 1, n_broken
            n_broken += bool(outcome.error and outcome.text)
            if not outcome.error or outcome.code in (400, 403, 404):
                break
            await asyncio.sleep(min(2.0, 0.1 * 2 ** n) * random.uniform(0.75, 1))
        return outcome


def ask_each(urls: list[str], questions: list[dict], at_once=12) -> list[Outcome]:
    """Every question once, in order."""
    async def run():
        gate = asyncio.Semaphore(at_once)

        async def one(i):
            async with gate:
                outcome = await ask(urls[i % len(urls)], questions[i], 120)
                outcome.question = i
                return outcome
        return await asyncio.gather(*(one(i) for i in range(len(questions))))
    return asyncio.run(run())


def open_loop(url: str, questions: list[dict], per_second: float, seconds: float, patience: float) -> list[Outcome]:
    """Questions at fixed moments, whether earlier ones have ended or not."""
    async def run():
        begun, tasks = time.monotonic(), []
        for i in range(int(per_second * seconds)):
            await asyncio.sleep(max(0.0, begun + i / per_second - time.monotonic()))
            tasks.append(asyncio.create_task(ask(url, questions[i % len(questions)], patience)))
        return await asyncio.gather(*tasks)
    return asyncio.run(run())
