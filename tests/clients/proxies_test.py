"""The official openai client through a real nginx and a real Envoy, with the configurations of deploy/proxies as they are."""

import concurrent.futures
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

import openai

from served_gateway import ROOT, ServedGateway

BIN, NGINX, ENVOY = (pathlib.Path(sys.argv.pop(1)) for _ in range(3))
QUESTION = [{"role": "user", "content": "tell me a story"}]
PATIENCE_SECONDS = 60


def setUpModule():
    global gateway
    gateway = ServedGateway(BIN)


def tearDownModule():
    gateway.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Proxy:
    """One of them in front of `gateway`; the tests are the same."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="coterie-proxy-")
        cls.port = free_port()
        folder = pathlib.Path(cls.folder.name)
        config = (ROOT / "deploy/proxies" / cls.config).read_text()
        config = config.replace("8080", str(cls.port)).replace("7080", gateway.url.rsplit(":", 1)[1])
        (folder / cls.config).write_text(config)
        with open(folder / "log", "wb") as log:
            cls.child = subprocess.Popen([str(word) for word in cls.command(folder)], stdout=log, stderr=log)
        cls.url = f"http://127.0.0.1:{cls.port}"
        cls.client = openai.OpenAI(base_url=f"{cls.url}/v1", api_key="any", max_retries=0, timeout=60)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{cls.url}/ready", timeout=10):
                    return
            except (urllib.error.URLError, ConnectionError) as problem:
                if time.monotonic() > deadline or cls.child.poll() is not None:
                    cls.tearDownClass()
                    raise RuntimeError(f"{cls.config}: {problem}") from None
                time.sleep(0.1)

    @classmethod
    def tearDownClass(cls):
        print((pathlib.Path(cls.folder.name) / "log").read_text()[-2000:] if cls.child.poll() is not None else "", end="")
        cls.child.terminate()
        cls.child.wait(30)
        cls.client.close()
        cls.folder.cleanup()

    def ask(self, **more):
        return self.client.chat.completions.create(**{"model": "base", "messages": QUESTION, "seed": 7, "max_tokens": 24, **more})

    def wait_idle(self):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while gateway.metric("coterie_requests_running") > 0:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def test_whole_and_streamed_answers_are_the_same(self):
        whole = self.ask()
        self.assertEqual(whole.choices[0].finish_reason, "length")
        stream = self.ask(stream=True, stream_options={"include_usage": True})
        chunks = list(stream)
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), whole.choices[0].message.content)
        self.assertEqual(chunks[-1].usage.completion_tokens, 24)

    def test_events_come_while_the_answer_is_written(self):
        stream = self.ask(stream=True, max_tokens=400)
        next(iter(stream))
        self.assertGreater(gateway.metric("coterie_requests_running"), 0)  # 400 tokens of 4 ms each are still to come
        stream.close()
        self.wait_idle()

    def test_closing_cancels_through_the_proxy(self):
        before = gateway.metric("coterie_generated_tokens_total")
        with self.assertRaises(openai.APITimeoutError):
            self.ask(max_tokens=4000, timeout=openai.Timeout(60, read=0.3))
        self.wait_idle()
        self.assertLess(gateway.metric("coterie_generated_tokens_total") - before, 3000)

    def test_errors_headers_and_limits_come_through(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            self.ask(model="nobody")
        self.assertEqual(caught.exception.param, "model")
        with self.assertRaises(openai.BadRequestError) as caught:
            self.ask(temperature=-1, stream=True)
        self.assertEqual(caught.exception.param, "temperature")
        raw = self.client.chat.completions.with_raw_response.create(
            model="base", messages=QUESTION, max_tokens=2, extra_headers={"x-request-id": "my-own-id"})
        self.assertEqual(raw.headers["x-coterie-expert"], "base")
        self.assertEqual(raw.headers["x-request-id"], "my-own-id")
        with self.assertRaises(openai.APIStatusError) as caught:
            self.client.completions.create(model="base", prompt="x" * (5 << 20), max_tokens=1)
        self.assertEqual(caught.exception.status_code, 413)

    def test_other_endpoints(self):
        self.assertEqual([model.id for model in self.client.models.list()][:2], ["auto", "base"])
        self.assertEqual(len(self.client.embeddings.create(model="embedder", input=["one", "two"]).data), 2)

    def test_many_at_once(self):
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            whole = list(pool.map(lambda seed: self.ask(seed=seed).choices[0].message.content, range(16)))
            streamed = list(pool.map(lambda seed: "".join(c.choices[0].delta.content or "" for c in self.ask(seed=seed, stream=True)), range(16)))
        self.assertEqual(streamed, whole)


class Nginx(Proxy, unittest.TestCase):
    config = "nginx.conf"

    @classmethod
    def command(cls, folder):
        # What /etc/nginx/nginx.conf has around the files of conf.d, with all that is written below `folder`.
        temporary = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (folder / "main.conf").write_text(
            f"pid {folder}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}\ninclude {folder}/{cls.config};\n}}\n")
        return [NGINX, "-p", folder, "-c", folder / "main.conf", "-g", "daemon off; master_process off;"]


class Envoy(Proxy, unittest.TestCase):
    config = "envoy.yaml"

    @classmethod
    def command(cls, folder):
        return [ENVOY, "--config-path", folder / cls.config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]


if __name__ == "__main__":
    unittest.main()
