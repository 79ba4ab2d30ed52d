"""The official openai client, sync and async, unchanged against a gateway."""

import asyncio
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest
from typing import Literal, Optional

import openai
import pydantic

from served_gateway import ServedGateway

BIN = pathlib.Path(sys.argv.pop(1))
QUESTION = [{"role": "user", "content": "tell me a story"}]


def setUpModule():
    global gateway, client
    gateway = ServedGateway(BIN)
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0, timeout=60)


def tearDownModule():
    client.close()
    gateway.stop()


def ask(**more):
    return client.chat.completions.create(**{"model": "base", "messages": QUESTION, "seed": 7, "max_tokens": 24, **more})


def text_of(stream) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


class Chats(unittest.TestCase):
    def test_whole_and_streamed_answers_are_the_same(self):
        whole = ask()
        self.assertEqual(whole.choices[0].finish_reason, "length")
        self.assertEqual(whole.usage.completion_tokens, 24)
        self.assertEqual(whole.usage.total_tokens, whole.usage.prompt_tokens + 24)
        self.assertGreaterEqual(whole.usage.prompt_tokens_details.cached_tokens, 0)
        self.assertTrue(whole.system_fingerprint)
        self.assertEqual(text_of(ask(stream=True)), whole.choices[0].message.content)

    def test_usage_of_streams(self):
        chunks = list(ask(stream=True, stream_options={"include_usage": True}))
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.completion_tokens, 24)
        self.assertTrue(all(chunk.usage is None for chunk in chunks[:-1]))
        self.assertEqual([c.choices[0].finish_reason for c in chunks[:-1]][-1], "length")

    def test_choices_seeds_and_stops(self):
        two = ask(n=2)
        self.assertEqual([c.index for c in two.choices], [0, 1])
        self.assertEqual(two.choices[0].message.content, ask().choices[0].message.content)
        whole = ask().choices[0].message.content
        stopped = ask(stop=whole[5:8])
        self.assertEqual(stopped.choices[0].message.content, whole[:whole.index(whole[5:8])])
        self.assertEqual(stopped.choices[0].finish_reason, "stop")

    def test_roles_parts_and_harmless_fields(self):
        answer = ask(messages=[{"role": "developer", "content": "be short"},
                               {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "there"}]}],
                     max_tokens=openai.NOT_GIVEN, max_completion_tokens=3, store=False, metadata={"a": "b"}, user="me")
        self.assertEqual(answer.usage.completion_tokens, 3)

    def test_parsed_and_raw_responses(self):
        raw = client.chat.completions.with_raw_response.create(model="base", messages=QUESTION, max_tokens=2)
        self.assertEqual(raw.headers["x-coterie-expert"], "base")
        self.assertTrue(raw.headers["x-request-id"])
        self.assertEqual(raw.parse().choices[0].finish_reason, "length")

    def test_the_stream_helper(self):
        text = ask().choices[0].message.content
        # An answer that ends by its length is an error to the helper.
        with client.chat.completions.stream(model="base", messages=QUESTION, seed=7, max_tokens=24, stop=text[5:8]) as stream:
            for _ in stream:
                pass
            self.assertEqual(stream.get_final_completion().choices[0].finish_reason, "stop")

    def test_our_own_fields_reach_the_router(self):
        answer = ask(extra_body={"coterie": {"tags": ["law"]}, "top_k": 5})
        self.assertEqual(answer.model, "base")
        self.assertIn("worker", answer.coterie)


class Others(unittest.TestCase):
    def test_completions(self):
        whole = client.completions.create(model="base", prompt=["a", "b"], max_tokens=5, seed=1, echo=True)
        self.assertEqual([c.text[0] for c in whole.choices], ["a", "b"])
        streamed = {0: "", 1: ""}
        for chunk in client.completions.create(model="base", prompt=["a", "b"], max_tokens=5, seed=1, echo=True, stream=True):
            streamed[chunk.choices[0].index] += chunk.choices[0].text
        self.assertEqual(list(streamed.values()), [c.text for c in whole.choices])

    def test_an_echoed_prompt_is_scored(self):
        # As lm-eval-harness asks what a text costs.
        answer = client.completions.create(model="base", prompt="tell me a story", max_tokens=1, logprobs=1, echo=True, temperature=0)
        choice = answer.choices[0]
        self.assertTrue(choice.text.startswith("tell me a story"))
        values = choice.logprobs.token_logprobs
        self.assertEqual(len(values), answer.usage.prompt_tokens + 1)
        self.assertIsNone(values[0])
        self.assertTrue(all(value <= 0 for value in values[1:]))
        self.assertEqual(len(choice.logprobs.top_logprobs), len(values))
        only = client.completions.create(model="base", prompt="tell me a story", max_tokens=0, logprobs=1, echo=True)
        self.assertEqual(only.choices[0].logprobs.token_logprobs, values[:-1])
        self.assertEqual(only.choices[0].text, "tell me a story")

    def test_embeddings(self):
        # The client asks for base64 and decodes it.
        answer = client.embeddings.create(model="embedder", input=["one", "two"])
        self.assertEqual(len(answer.data), 2)
        self.assertAlmostEqual(math.fsum(x * x for x in answer.data[0].embedding), 1, places=4)
        plain = client.embeddings.create(model="embedder", input="one", encoding_format="float")
        for a, b in zip(plain.data[0].embedding, answer.data[0].embedding):
            self.assertAlmostEqual(a, b, places=5)
        self.assertGreater(answer.usage.prompt_tokens, 0)

    def test_models(self):
        self.assertEqual([model.id for model in client.models.list()][:2], ["auto", "base"])
        self.assertEqual(client.models.retrieve("base").owned_by, "coterie")
        with self.assertRaises(openai.NotFoundError):
            client.models.retrieve("gpt-4o")


class Animal(pydantic.BaseModel):
    kind: Literal["cat", "dog"]
    legs: int = pydantic.Field(ge=0, le=4)
    tags: list[str] = pydantic.Field(max_length=2)
    mother: Optional["Animal"]


# The fake model chooses anything it may, so texts may be cut by max_tokens: those that end are what was asked for.
class Constrained(unittest.TestCase):
    def finished(self, **more):
        """Texts of answers that ended by themselves, at least three of them."""
        texts = []
        for seed in range(60):
            choice = ask(seed=seed, temperature=1, max_tokens=400, **more).choices[0]
            if choice.finish_reason == "stop":
                texts.append(choice.message.content)
            if len(texts) == 3:
                return texts
        self.fail(f"only {texts} ended")

    def test_json_object(self):
        for text in self.finished(response_format={"type": "json_object"}):
            self.assertIsInstance(json.loads(text), dict)

    def test_json_schema(self):
        schema = {"type": "object", "properties": {"z": {"type": "boolean"}, "a": {"enum": [1, "two"]}}, "required": ["z", "a"]}
        for text in self.finished(response_format={"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}):
            value = json.loads(text)
            self.assertEqual(list(value), ["z", "a"])
            self.assertIn(value["a"], [1, "two"])

    def test_parse_gives_the_class(self):
        parsed = []
        for seed in range(60):
            try:
                answer = client.chat.completions.parse(model="base", messages=QUESTION, seed=seed, temperature=1, max_tokens=400,
                                                       response_format=Animal)
            except openai.LengthFinishReasonError:
                continue
            parsed.append(answer.choices[0].message.parsed)
            if len(parsed) == 3:
                break
        self.assertEqual(len(parsed), 3)
        for animal in parsed:
            self.assertIsInstance(animal, Animal)

    def test_regex_and_choice(self):
        for text in self.finished(extra_body={"guided_regex": "[a-c]{2,4}"}):
            self.assertRegex(text, "^[a-c]{2,4}$")
        for text in self.finished(extra_body={"structured_outputs": {"choice": ["yes", "no"]}}):
            self.assertIn(text, ["yes", "no"])

    def test_streams_say_the_same(self):
        more = {"response_format": {"type": "json_object"}, "temperature": 1, "seed": 3}
        self.assertEqual(text_of(ask(stream=True, **more)), ask(**more).choices[0].message.content)


class Errors(unittest.TestCase):
    def test_each_has_its_class(self):
        for expected, param, fields in [(openai.NotFoundError, "model", {"model": "gpt-4o"}),
                                        (openai.BadRequestError, "temperature", {"temperature": -1}),
                                        (openai.BadRequestError, "tools", {"tools": [{"type": "function", "function": {"name": "f"}}]}),
                                        (openai.BadRequestError, "response_format.json_schema.schema", {"response_format": {
                                            "type": "json_schema", "json_schema": {"name": "x", "schema": {"uniqueItems": True}}}})]:
            for stream in (False, True):
                with self.assertRaises(expected) as caught:
                    ask(stream=stream, **fields)
                self.assertEqual(caught.exception.param, param)
                self.assertTrue(caught.exception.request_id)

    def test_what_is_refused_for_good_is_not_tried_again(self):
        patient = client.with_options(max_retries=5)
        before = gateway.metric("coterie_http_requests_total")
        with self.assertRaises(openai.NotFoundError):
            patient.chat.completions.create(model="nobody", messages=QUESTION)
        self.assertEqual(gateway.metric("coterie_http_requests_total") - before, 2)  # it, and the page before

    def test_closing_a_stream_cancels_it(self):
        stream = ask(stream=True, max_tokens=200, messages=[{"role": "user", "content": "long"}])
        next(iter(stream))
        stream.close()
        deadline = time.monotonic() + 30
        while gateway.metric("coterie_requests_running") > 0:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)


class Keys(unittest.TestCase):
    """Another gateway, which asks who its clients are."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="coterie-keys-")
        cls.file = pathlib.Path(cls.folder.name) / "keys.json"
        cls.keys = {name: cls.add(name, *flags) for name, *flags in [
            ("ann",), ("few", "--requests-per-minute=1"), ("late", "--expires=2020-01-01"), ("none", "--experts=law-*")]}
        cls.gateway = ServedGateway(BIN, gateway_flags=[f"--keys={cls.file}"])

    @classmethod
    def tearDownClass(cls):
        cls.gateway.stop()
        cls.folder.cleanup()

    @classmethod
    def keys_command(cls, *args) -> str:
        return subprocess.run([BIN / "coterie", "keys", *args, f"--file={cls.file}"], check=True, capture_output=True,
                              text=True, timeout=60).stdout.strip()

    @classmethod
    def add(cls, name, *flags) -> str:
        return cls.keys_command("add", name, *flags)

    def client(self, key):
        return openai.OpenAI(base_url=f"{self.gateway.url}/v1", api_key=key, max_retries=0, timeout=60)

    def ask(self, key, model="base"):
        with self.client(key) as one:
            return one.chat.completions.create(model=model, messages=QUESTION, max_tokens=3).usage.completion_tokens

    def test_a_key_opens_the_door(self):
        self.assertEqual(self.ask(self.keys["ann"]), 3)
        with self.client(self.keys["ann"]) as one:
            self.assertIn("base", [model.id for model in one.models.list()])

    def test_wrong_expired_and_forbidden_have_their_classes(self):
        for key in ("wrong", self.keys["late"]):
            with self.assertRaises(openai.AuthenticationError) as caught:
                self.ask(key)
            self.assertEqual(caught.exception.code, "invalid_api_key")
            self.assertNotIn(key, str(caught.exception))
        with self.assertRaises(openai.PermissionDeniedError):
            self.ask(self.keys["none"], model="medicine")

    def test_a_quota_is_a_rate_limit(self):
        self.ask(self.keys["few"])
        with self.assertRaises(openai.RateLimitError) as caught:
            self.ask(self.keys["few"])
        self.assertGreater(int(caught.exception.response.headers["retry-after"]), 0)

    def test_a_revoked_key_is_refused_while_the_gateway_runs(self):
        key = self.add("gone")
        deadline = time.monotonic() + 30
        while True:  # until the gateway has seen it
            try:
                self.ask(key)
                break
            except openai.AuthenticationError:
                self.assertLess(time.monotonic(), deadline)
        self.keys_command("revoke", "gone")
        with self.assertRaises(openai.AuthenticationError):
            while time.monotonic() < deadline:
                self.ask(key)


class Async(unittest.TestCase):
    def test_many_at_once_over_kept_connections(self):
        async def run():
            async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as many:
                async def one(seed):
                    parts = []
                    stream = await many.chat.completions.create(model="base", messages=QUESTION, seed=seed, max_tokens=20, stream=True)
                    async for chunk in stream:
                        parts.append(chunk.choices[0].delta.content or "")
                    whole = await many.chat.completions.create(model="base", messages=QUESTION, seed=seed, max_tokens=20)
                    return "".join(parts), whole.choices[0].message.content

                for _ in range(2):
                    for streamed, whole in await asyncio.gather(*(one(seed) for seed in range(12))):
                        self.assertEqual(streamed, whole)

        asyncio.run(run())


if __name__ == "__main__":
    unittest.main()
