#!/usr/bin/env python3
"""What the measuring scripts compute, on figures made up here: a wrong ratio would look like a result."""

import contextlib
import http.server
import importlib.machinery
import importlib.util
import json
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE), str(HERE / "peers"), str(HERE.parent / "testing")]
import gguf_adapter  # noqa: E402
import measuring  # noqa: E402
import several_experts  # noqa: E402
from served_process import Process  # noqa: E402


def load_script(path: pathlib.Path):
    loader = importlib.machinery.SourceFileLoader(path.parent.name + "_run", str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@contextlib.contextmanager
def serving_http(handler):
    """A server of `handler` on loopback; its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


class Measuring(unittest.TestCase):
    ROUNDS = [{"a": {"x": 10.0, "y": 5.0, "name": "n"}}, {"a": {"x": 90.0, "y": 10.0}}, {"a": {"x": 40.0, "y": 20.0}, "b": {"z": 1}}]

    def test_medians_are_over_the_rounds_in_which_a_figure_occurs(self):
        medians = measuring.medians(self.ROUNDS)
        self.assertEqual(medians["a.x"], {"median": 40.0, "min": 10.0, "max": 90.0, "n": 3})
        self.assertEqual(medians["b.z"]["n"], 1)
        self.assertNotIn("a.name", medians)

    def test_ratios_are_taken_inside_a_round(self):
        ratios = measuring.ratios(self.ROUNDS, {"r": ("a.x", "a.y"), "absent": ("a.x", "c.q")})
        self.assertEqual(ratios["r"]["median"], 2.0)  # of 2, 9 and 2, where the medians' own ratio is 4
        self.assertEqual((ratios["r"]["min"], ratios["r"]["max"]), (2.0, 9.0))
        self.assertNotIn("absent", ratios)


class SeveralExperts(unittest.TestCase):
    def test_each_way_is_held_against_the_better_of_the_two_experts(self):
        documents = [{"losses": {"base": 3.0, "first expert": 2.0, "second expert": 2.5, "blend": 1.5}},
                     {"losses": {"base": 2.0, "first expert": 2.5, "second expert": 2.25, "blend": 3.0}}]
        rows = {way: (value, share) for way, value, share in several_experts.summary(documents)}
        self.assertEqual(rows["base"], (2.5, 0.5))
        self.assertEqual(rows["better expert"], (2.125, 0.0))
        self.assertEqual(rows["first expert"], (2.25, 0.0))
        self.assertEqual(rows["blend"], (2.25, 0.5))

    def test_every_way_asks_for_the_experts_of_the_document_or_for_all(self):
        for way, asks in several_experts.ways("a", "b", ["a", "b", "c"]).items():
            for fields in asks:
                collaboration = fields.get("coterie", {}).get("collaboration", {})
                self.assertIn(collaboration.get("members", ["a", "b"]), (["a", "b"], ["a", "b", "c"]), way)
                self.assertEqual(len(asks), 3 if collaboration.get("gate") == "noisy" else 1, way)


class Peers(unittest.TestCase):
    def test_the_best_peer_is_faithful_and_has_the_best_median(self):
        peers = load_script(HERE / "peers/run")

        def round_of(ours, shipped, shipped_nofa, q8, q4_0):
            rates = {"ours": ours, "llama.cpp as shipped fa": shipped, "llama.cpp as shipped nofa": shipped_nofa,
                     "OpenVINO Q8_0": q8, "llama.cpp Q4_0 fa": q4_0}
            return {"kernels": {who: {"decode_b1_tokens_per_second": rate} for who, rate in rates.items()}}

        rounds = [round_of(300, 100, 120, 150, 900), round_of(330, 110, 100, 150, 900), round_of(240, 90, 120, 160, 900)]
        compared = peers.compare(rounds, "kernels", "decode_b1", "tokens_per_second", False)
        self.assertEqual(compared["ours_to_same_file"]["peer"], "llama.cpp as shipped nofa")
        self.assertEqual(compared["ours_to_same_file"]["median"], 2.5)  # of 2.5, 3.3 and 2
        self.assertEqual(compared["ours_to_best"]["peer"], "OpenVINO Q8_0")
        self.assertEqual(compared["ours_to_best"]["median"], 2.0)  # of 2, 2.2 and 1.5
        self.assertEqual(compared["medians"]["llama.cpp Q4_0 fa"], 900)

    def test_of_times_the_least_is_the_best(self):
        peers = load_script(HERE / "peers/run")
        case = {"16_on_16_adapters": {"first_token_median_seconds": 1.0}}
        slow = {"16_on_16_adapters": {"first_token_median_seconds": 10.0}}
        slower = {"16_on_16_adapters": {"first_token_median_seconds": 20.0}}
        rounds = [{"server": {"ours": case, "llama.cpp as shipped": slower, "llama.cpp BF16": slow}}]
        compared = peers.compare(rounds, "server", "16_on_16_adapters", "first_token_median_seconds", True)
        self.assertAlmostEqual(compared["ours_to_best"]["median"], 0.1)
        self.assertAlmostEqual(compared["ours_to_same_file"]["median"], 0.05)

    def test_without_any_peer_says_what_is_skipped_and_measures_nothing(self):
        run = subprocess.run([sys.executable, HERE / "peers/run"], capture_output=True, text=True)
        self.assertEqual(run.returncode, 0)
        for peer in ("llama.cpp", "OpenVINO GenAI"):
            self.assertIn(f"SKIPPED {peer}", run.stderr)
        self.assertEqual(run.stdout, "")

    def test_an_adapter_keeps_its_numbers_in_the_other_container(self):
        values = [0.5, -1.25, 3.0, 0.0078125]  # exact in bfloat16 and in float16
        data = b"".join(struct.pack("<f", v)[2:] for v in values)
        name = "base_model.model.model.layers.3.self_attn.k_proj.lora_A.weight"
        header = json.dumps({name: {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, len(data)]}}).encode()
        with tempfile.TemporaryDirectory() as folder:
            expert, out = pathlib.Path(folder), pathlib.Path(folder) / "out.gguf"
            (expert / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)
            (expert / "adapter_config.json").write_text('{"lora_alpha": 16}')
            gguf_adapter.convert(expert, out, "f16")
            file = out.read_bytes()
        self.assertEqual(file[:8], b"GGUF\x03\0\0\0")
        self.assertIn(b"blk.3.attn_k.weight.lora_a", file)
        self.assertEqual(len(file) % gguf_adapter.ALIGNMENT, 0)
        self.assertEqual(list(struct.unpack("<4e", file[-32:-24])), values)

    def ask_fake_server(self, *flags) -> tuple[dict, list[dict]]:
        """What http_load prints of a server that answers every request with three tokens, and the bodies it sent."""
        asked = []

        class FakeServer(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()
                for _ in range(3):
                    self.wfile.write(b'data: {"content": "x", "stop": false}\n\n')
                self.wfile.write(b'data: {"content": "", "stop": true, "tokens_predicted": 3}\n\n')

            def log_message(self, *_):
                pass

        with serving_http(FakeServer) as port:
            figures = measuring.run_json([sys.executable, HERE / "peers/http_load.py", f"--port={port}", "--requests=4",
                                          "--prompt-tokens=5", "--output-tokens=3", *flags])
        return figures, asked

    def test_the_http_load_counts_every_token_of_every_request(self):
        figures, asked = self.ask_fake_server("--adapters=2", "--mute")
        self.assertEqual(figures["completion_tokens"], 12)
        self.assertGreater(figures["first_token_median_seconds"], 0)
        self.assertEqual(sorted(body["lora"][0]["id"] for body in asked), [0, 0, 1, 1])
        self.assertEqual(len({tuple(body["prompt"]) for body in asked}), 4, "equal prompts would measure a cache")

    def test_a_request_for_the_base_silences_an_adapter_where_some_are_loaded(self):
        for flags, lora in ((("--mute",), [{"id": 0, "scale": 0.0}]), ((), None)):
            _, asked = self.ask_fake_server(*flags)
            self.assertEqual([body.get("lora") for body in asked], [lora] * 4)

    def http_load_fails(self, port: int, *flags) -> str:
        run = subprocess.run([sys.executable, HERE / "peers/http_load.py", f"--port={port}", "--requests=4", *flags], timeout=100,
                             capture_output=True, text=True)
        self.assertNotEqual(run.returncode, 0)
        return run.stderr

    def test_the_http_load_calls_a_stream_that_breaks_off_an_error(self):
        class BreaksOff(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b'data: {"content": "x", "stop": false}\n\n')

            def log_message(self, *_):
                pass

        with serving_http(BreaksOff) as port:
            self.assertIn("4 of 4 requests failed; the first: the stream ended", self.http_load_fails(port))

    def test_the_http_load_ends_when_a_request_cannot_connect(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))  # nobody listens
            self.assertIn("4 of 4 requests failed; the first: [Errno", self.http_load_fails(probe.getsockname()[1]))


class Processes(unittest.TestCase):
    def start(self, script: str, n_lines: int, patience_seconds: float) -> Process:
        with tempfile.TemporaryDirectory() as folder:
            return Process([sys.executable, "-c", script], pathlib.Path(folder) / "log", n_lines, patience_seconds)

    def test_the_words_of_the_lines_are_read_however_they_come(self):
        script = "import time; print('listening 1\\nmet', end='', flush=True); time.sleep(.2); print('rics 2', flush=True); time.sleep(60)"
        process = self.start(script, 2, 50)
        process.child.kill()
        process.stop()
        self.assertEqual(process.words, ["listening", "1", "metrics", "2"])

    def test_one_that_never_listens_is_ended_and_one_that_ended_is_said(self):
        with self.assertRaisesRegex(RuntimeError, "printed . of 2 lines in 1 s"):
            self.start("import time; print('a', flush=True); time.sleep(60)", 2, 1)
        with self.assertRaisesRegex(RuntimeError, "ended with 3: why"):
            self.start("import sys; print('why', file=sys.stderr); sys.exit(3)", 1, 50)


if __name__ == "__main__":
    unittest.main()
