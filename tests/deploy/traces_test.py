"""One trace through a client, a gateway and its workers, as OpenTelemetry's own Python package reads what an OTLP receiver got: a cold adapter
and a fail-over are in it, and JSON logs carry its id. Usage: traces_test.py BIN. Needs opentelemetry-proto."""

from __future__ import annotations

import http.server
import json
import pathlib
import sys
import threading
import time
import unittest
import urllib.request

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

import cluster as deployed

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PATIENCE_SECONDS = 60
LOAD_SECONDS = 0.3


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps the spans that it is sent, each with the service it is of."""

    def __init__(self):
        self.spans: list[tuple[str, Span]] = []
        self.arrived = threading.Condition()
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def wait_for(self, *names: str) -> dict[str, list[Span]]:
        """Everything of the trace by name, once there is one of each of these."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self.arrived:
            while not set(names) <= {span.name for _, span in self.spans} and (left := deadline - time.monotonic()) > 0:
                self.arrived.wait(left)
            found: dict[str, list[Span]] = {}
            for _, span in self.spans:
                found.setdefault(span.name, []).append(span)
            return found


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf", (self.path, self.headers)
        with self.server.arrived:
            for of in request.resource_spans:
                service = next(a.value.string_value for a in of.resource.attributes if a.key == "service.name")
                self.server.spans += [(service, span) for scope in of.scope_spans for span in scope.spans]
            self.server.arrived.notify_all()
        body = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def attribute(span, key: str):
    for one in span.attributes:
        if one.key == key:
            return getattr(one.value, one.value.WhichOneof("value"))
    return None


class TracesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.receiver = Receiver()
        cls.addClassCleanup(cls.receiver.shutdown)
        flags = [f"--otlp-endpoint=http://127.0.0.1:{cls.receiver.server_port}", "--log-format=json"]
        cls.cluster = deployed.Cluster(pathlib.Path(sys.argv[1]).resolve(), gateway_flags=[*flags, "--trace-sample=0"],
                                       worker_flags=[*flags, f"--fake-load-time={LOAD_SECONDS}s"])
        cls.addClassCleanup(cls.cluster.close)

    def ask_and_kill(self) -> str:
        """Asks for an expert that no worker holds; the worker that answers is killed in the middle. Its id."""
        body = json.dumps({"model": "sea", "prompt": "boat wave fish", "max_tokens": 200, "stream": True}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.cluster.http}/v1/completions", body,
                                         {"Content-Type": "application/json", "traceparent": f"00-{TRACE}-{CALLER}-01"})
        lost, n_chunks = "", 0
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            for line in answer:
                if not line.startswith(b"data: {"):
                    continue
                chunk = json.loads(line[6:])
                n_chunks += 1
                if n_chunks == 1:
                    lost = chunk["coterie"]["worker"]
                    self.cluster.workers[int(lost.removeprefix("worker-"))].child.kill()
        self.assertGreater(n_chunks, 100)
        return lost

    def test_a_cold_adapter_and_a_fail_over_are_in_one_trace(self):
        lost = self.ask_and_kill()
        spans = self.receiver.wait_for("Generate", "sequence")
        for _, span in self.receiver.spans:
            self.assertEqual(span.trace_id.hex(), TRACE)
            self.assertLessEqual(span.start_time_unix_nano, span.end_time_unix_nano)
        [root] = spans["Generate"]
        self.assertEqual(root.parent_span_id.hex(), CALLER)
        self.assertEqual(root.kind, Span.SPAN_KIND_SERVER)
        self.assertEqual(root.status.code, Status.STATUS_CODE_UNSET)
        self.assertEqual(attribute(root, "coterie.expert"), "sea")
        self.assertEqual(attribute(root, "coterie.answer_tokens"), 200)
        self.assertTrue({"fail-over", "first token"} <= {event.name for event in root.events})
        for name in ("admission", "tokenise", "route", "place", "attempt"):
            self.assertEqual({span.parent_span_id for span in spans[name]}, {root.span_id}, name)

        first, second = sorted(spans["attempt"], key=lambda span: span.start_time_unix_nano)
        self.assertEqual(attribute(first, "coterie.worker"), lost)
        self.assertEqual(first.status.code, Status.STATUS_CODE_ERROR)
        self.assertNotEqual(attribute(second, "coterie.worker"), lost)
        # What the first worker had recorded died with it.
        [sequence] = spans["sequence"]
        self.assertEqual(sequence.parent_span_id, second.span_id)
        self.assertEqual(attribute(sequence, "coterie.worker"), attribute(second, "coterie.worker"))
        [queue], [load] = spans["queue"], spans["adapter load"]
        self.assertEqual(queue.parent_span_id, sequence.span_id)
        self.assertEqual(load.parent_span_id, queue.span_id)
        self.assertGreater(load.end_time_unix_nano - load.start_time_unix_nano, LOAD_SECONDS * 1e9 / 4)
        for name in ("prefill", "decode"):
            self.assertEqual(spans[name][0].parent_span_id, sequence.span_id, name)
        self.assertEqual({service for service, span in self.receiver.spans if span.name == "sequence"}, {"coterie-worker"})
        self.check_logs(root)

    def check_logs(self, root):
        """The gateway says of the fail-over whose it was; every line is an object of named values."""
        lines = [json.loads(line) for line in (self.cluster.folder / "coterie-gateway-0.log").read_text().splitlines()]
        self.assertTrue(all({"time", "level", "program", "message"} <= set(line) for line in lines))
        [moved] = [line for line in lines if "continues on" in line["message"]]
        self.assertEqual((moved["trace_id"], moved["span_id"]), (TRACE, root.span_id.hex()))
        self.assertIn("worker", moved)
        worker = [json.loads(line) for line in (self.cluster.folder / "coterie-worker-0.log").read_text().splitlines()]
        self.assertTrue(any("gateway" in line for line in worker), worker)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
