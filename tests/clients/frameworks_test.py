"""langchain-openai and litellm, unchanged against a gateway."""

import os
import pathlib
import sys
import unittest

from served_gateway import ServedGateway

BIN = pathlib.Path(sys.argv.pop(1))
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches prices, and waits where there is no network


def setUpModule():
    global gateway
    gateway = ServedGateway(BIN)


def tearDownModule():
    gateway.stop()


class LangChain(unittest.TestCase):
    def chat(self, **more):
        from langchain_openai import ChatOpenAI
        return ChatOpenAI(base_url=f"{gateway.url}/v1", api_key="any", model="base", seed=3, max_tokens=16, max_retries=0, **more)

    def test_chats_whole_streamed_and_in_batches(self):
        whole = self.chat().invoke("tell me")
        self.assertEqual(whole.response_metadata["finish_reason"], "length")
        self.assertEqual(whole.usage_metadata["output_tokens"], 16)
        self.assertEqual("".join(part.content for part in self.chat().stream("tell me")), whole.content)
        with_usage = list(self.chat(stream_usage=True).stream("tell me"))
        self.assertEqual(sum(part.usage_metadata["output_tokens"] for part in with_usage if part.usage_metadata), 16)
        self.assertEqual([answer.content for answer in self.chat().batch(["tell me"] * 3)], [whole.content] * 3)

    def test_logprobs_and_roles(self):
        answer = self.chat(logprobs=True, top_logprobs=2).invoke([("system", "be short"), ("human", "hi")])
        self.assertEqual(len(answer.response_metadata["logprobs"]["content"]), 16)

    def test_embeddings(self):
        from langchain_openai import OpenAIEmbeddings
        embed = OpenAIEmbeddings(base_url=f"{gateway.url}/v1", api_key="any", model="embedder", check_embedding_ctx_length=False)
        self.assertEqual(len(embed.embed_documents(["one", "two"])), 2)

    def test_completions(self):
        from langchain_openai import OpenAI
        plain = OpenAI(base_url=f"{gateway.url}/v1", api_key="any", model="base", seed=3, max_tokens=8, max_retries=0)
        self.assertEqual(plain.invoke("tell"), "".join(plain.stream("tell")))


class LiteLlm(unittest.TestCase):
    def ask(self, **more):
        import litellm
        return litellm.completion(model="openai/base", api_base=f"{gateway.url}/v1", api_key="any", num_retries=0,
                                  messages=[{"role": "user", "content": "tell me"}], seed=3, max_tokens=16, **more)

    def test_chats_whole_and_streamed(self):
        whole = self.ask()
        self.assertEqual(whole.usage.completion_tokens, 16)
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in self.ask(stream=True))
        self.assertEqual(streamed, whole.choices[0].message.content)

    def test_errors_have_their_class(self):
        import litellm
        with self.assertRaises(litellm.BadRequestError):
            self.ask(temperature=-1)
        with self.assertRaises(litellm.NotFoundError):
            litellm.completion(model="openai/nobody", api_base=f"{gateway.url}/v1", api_key="any", num_retries=0,
                               messages=[{"role": "user", "content": "x"}])

    def test_embeddings(self):
        import litellm
        answer = litellm.embedding(model="openai/embedder", api_base=f"{gateway.url}/v1", api_key="any", input=["one"], encoding_format="float")
        self.assertEqual(len(answer.data), 1)


if __name__ == "__main__":
    unittest.main()
