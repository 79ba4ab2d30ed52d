"""The chart: linted, rendered over a table of values, held against Kubernetes' own schemas and our policy, its refusals in words, and
its command lines run as processes. Usage: chart_test.py BIN HELM [unittest's arguments]. Needs PyYAML, kubernetes-validate, grpcio."""

import functools
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error

import grpc
import kubernetes_validate
import yaml

import chart_policy
import cluster
from chart_cases import GOOD, REFUSED, group, values

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/coterie"
KUBERNETES = ("1.29", "1.33", "1.37")
# Kinds of others, which Kubernetes' schemas do not know.
FOREIGN = {"PodMonitor", "PrometheusRule", "HTTPRoute", "ScaledObject"}
# Cases that between them use every kind; the others are tried with the newest only.
SEVERAL = {"defaults", "two device classes", "HPA on both", "ingress with TLS", "values-gpu.yaml"}
BIN, HELM = (pathlib.Path(a).resolve() for a in sys.argv[1:3])


def helm(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([HELM, *map(str, arguments)], capture_output=True, text=True, timeout=300)


@functools.cache
def _render(text: str, kubernetes: str, monitoring: bool) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(text)
        file.flush()
        done = helm("template", "try", CHART, "--namespace", "ns", "-f", file.name, "--kube-version", kubernetes,
                    *(["--api-versions", "monitoring.coreos.com/v1"] if monitoring else []))
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return done.stdout


def render(said: dict, kubernetes=KUBERNETES[-1], monitoring=True) -> list[dict]:
    return [m for m in yaml.load_all(_render(json.dumps(said), kubernetes, monitoring), yaml.CSafeLoader) if m]


def of_kind(manifests, kind: str, ending="") -> dict:
    return next(m for m in manifests if m["kind"] == kind and m["metadata"]["name"].endswith(ending))


@functools.cache
def help_of() -> dict[str, str]:
    programs = {p: [BIN / p, "--help"] for p in ("coterie-gateway", "coterie-worker")} | {"coterie ask": [BIN / "coterie", "ask", "--help"]}
    return {name: subprocess.run(command, capture_output=True, text=True, check=True).stdout for name, command in programs.items()}


class ChartTest(unittest.TestCase):
    def test_lint_finds_nothing(self):
        for file in ("values-laptop.yaml", "values-gpu.yaml"):
            done = helm("lint", "--strict", CHART, "-f", CHART / file)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_kubernetes_takes_what_is_rendered(self):
        profiles = {p.name: yaml.safe_load(p.read_text()) for p in CHART.glob("values-*.yaml")}
        self.assertGreaterEqual(len(GOOD), 20)
        for name, said in (GOOD | profiles).items():
            for version in KUBERNETES if name in SEVERAL else KUBERNETES[-1:]:
                with self.subTest(name, kubernetes=version):
                    manifests = render(said, version)
                    for m in manifests:
                        if m["kind"] in FOREIGN:
                            continue
                        kubernetes_validate.validate(m, version, strict=True)

    def test_policy_holds_whatever_the_values(self):
        for name, said in GOOD.items():
            manifests = render(said)
            for rule in (chart_policy.security, chart_policy.resources, chart_policy.mounts, chart_policy.ports, chart_policy.references, chart_policy.ending):
                self.assertEqual(list(rule(manifests)), [], name)
            self.assertEqual(list(chart_policy.flags(manifests, help_of())), [], name)

    def test_policy_notices_what_it_is_for(self):
        def broken(change):
            manifests = render(values())
            change(of_kind(manifests, "Deployment")["spec"]["template"]["spec"], manifests)
            return [p for rule in (chart_policy.security, chart_policy.resources, chart_policy.mounts, chart_policy.ports, chart_policy.references, chart_policy.ending,
                                   lambda m: chart_policy.flags(m, help_of())) for p in rule(manifests)]
        for change, word in (
                (lambda pod, _: pod["securityContext"].pop("runAsNonRoot"), "nobody special"),
                (lambda pod, _: pod["containers"][0]["securityContext"].pop("readOnlyRootFilesystem"), "more than it needs"),
                (lambda pod, _: pod["containers"][0]["resources"].pop("limits"), "no limit"),
                (lambda pod, _: pod["containers"][0]["args"].append("--max-lora=3"), "no flag --max-lora"),
                (lambda pod, _: pod["containers"][0]["args"].append("--store=/b"), "given twice"),
                (lambda pod, _: pod["containers"][0]["ports"].pop(), "listens on"),
                (lambda pod, _: pod["containers"][0].pop("startupProbe"), "no startupProbe"),
                (lambda pod, _: pod["containers"][0]["volumeMounts"].append({"name": "x", "mountPath": "/x"}), "mounts"),
                (lambda pod, _: pod.update(terminationGracePeriodSeconds=30), "before its drain"),
                (lambda _, all_: of_kind(all_, "Service", "-workers")["metadata"].update(name="w"), "no Service"),
                (lambda _, all_: of_kind(all_, "NetworkPolicy", "-gateway")["spec"]["ingress"][0]["ports"].append({"port": "ssh"}), "ssh")):
            try:
                found = broken(change)
            except KeyError as error:
                found = [f"no {error.args[0]}"]
            self.assertIn(word, " ".join(found))

    def test_bad_values_are_refused_with_words(self):
        for name, (said, words) in REFUSED.items():
            with self.subTest(name):
                with self.assertRaises(AssertionError) as refusal:
                    render(said)
                for word in words:
                    self.assertIn(word, str(refusal.exception))

    def test_a_cluster_without_the_monitoring_api_gets_all_else(self):
        kinds = {m["kind"] for m in render(values(), monitoring=False)}
        self.assertFalse(kinds & {"PodMonitor", "PrometheusRule"})
        self.assertTrue({"Deployment", "StatefulSet", "ConfigMap"} <= kinds)

    def test_probes_speak_tls_where_flags_name_a_certificate(self):
        certificate = {"tls-cert": "/secrets/tls/tls.crt", "tls-key": "/secrets/tls/tls.key"}
        secrets = [{"name": "tls", "secretName": "coterie-tls", "mountPath": "/secrets/tls"}]
        manifests = render(values({"gateway": {"flags": certificate, "secrets": secrets}, "workers": {"groups": [group(flags=certificate)], "secrets": secrets}}))
        self.assertEqual(list(chart_policy.ports(manifests)) + list(chart_policy.mounts(manifests)), [])
        gateway = of_kind(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]
        worker = of_kind(manifests, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
        self.assertEqual({gateway[kind]["httpGet"]["scheme"] for kind in chart_policy.PROBES}, {"HTTPS"})
        self.assertTrue(all("tcpSocket" in worker[kind] for kind in chart_policy.PROBES))

    def test_a_new_version_of_the_chart_alone_restarts_no_pod(self):
        text = json.dumps([chart_policy.pod_of(m) for m in render(values()) if m["kind"] in ("Deployment", "StatefulSet")])
        self.assertNotIn("helm.sh/chart", text)
        self.assertNotIn("app.kubernetes.io/version", text)

    def test_alerts_and_dashboards_arrive_whole(self):
        manifests = render(values())
        rules = yaml.safe_load((CHART / "files/alerts.yaml").read_text())
        self.assertEqual(of_kind(manifests, "PrometheusRule")["spec"], rules)
        for file in (CHART / "files/dashboards").glob("*.json"):
            data = of_kind(manifests, "ConfigMap", file.stem.removeprefix("coterie"))["data"]
            self.assertEqual(json.loads(data[file.name]), json.loads(file.read_text()))

    def test_devices_flags_and_secrets_reach_the_pods(self):
        gpu = of_kind(render(GOOD["two device classes"]), "StatefulSet", "-h200")["spec"]["template"]["spec"]
        self.assertIn("--device=cuda:0", gpu["containers"][0]["args"])
        self.assertEqual(gpu["containers"][0]["resources"]["limits"], {"memory": "64Gi", "nvidia.com/gpu": 1})
        self.assertIn({"name": "NVIDIA_DRIVER_CAPABILITIES", "value": "compute,utility"}, gpu["containers"][0]["env"])
        cpu = of_kind(render(GOOD["two device classes"]), "StatefulSet", "-cpu")["spec"]["template"]["spec"]
        self.assertNotIn("nvidia.com/gpu", cpu["containers"][0]["resources"]["limits"])
        arguments = of_kind(render(GOOD["flags of every type"]), "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
        self.assertTrue({"--max-running=1000000", "--min-score=0.25", "--strict-serves=true"} <= set(arguments), arguments)
        self.assertIn("--serves=law-*,med-*", of_kind(render(GOOD["groups by experts"]), "StatefulSet", "-law")["spec"]["template"]["spec"]["containers"][0]["args"])
        traced = render(GOOD["traces and JSON logs"])
        gateway, worker = (of_kind(traced, kind)["spec"]["template"]["spec"]["containers"][0]["args"] for kind in ("Deployment", "StatefulSet"))
        both = {"--otlp-endpoint=http://otel-collector.monitoring.svc:4318", "--log-format=json"}
        self.assertTrue(both | {"--trace-sample=1"} <= set(gateway) and both <= set(worker), (gateway, worker))
        self.assertFalse([a for a in worker if a.startswith("--trace-sample")])
        text = json.dumps(render(GOOD["secrets by reference"]))
        self.assertIn('"secretName": "coterie-keys"', text)
        self.assertNotIn('"kind": "Secret"', text)


class Running:
    """A container's command line as a process: only addresses and folders are others."""

    def __init__(self, test, container: dict, paths: dict[str, str], workers=()):
        self.ports = {p["name"]: cluster.free_port() for p in container["ports"]}
        by_number = {p["containerPort"]: self.ports[p["name"]] for p in container["ports"]}
        arguments = []
        for a in container["args"]:
            for before, after in paths.items():
                a = a.replace(before, after)
            a = re.sub(r"dns:///\S+", ",".join(workers), a).replace("$(POD_NAME)", "try-0").replace("--device=cuda:0", "--device=cpu")
            a = re.sub(r"(?:0\.0\.0\.0|\[::\]):(\d+)", lambda m: f"127.0.0.1:{by_number[int(m.group(1))]}", a)
            a = re.sub(r"^(--metrics-port=)(\d+)$", lambda m: m.group(1) + str(by_number[int(m.group(2))]), a)
            arguments.append(a.replace("--metrics-host=0.0.0.0", "--metrics-host=127.0.0.1"))
        log = tempfile.NamedTemporaryFile("w+", suffix=".log")
        test.addCleanup(log.close)
        self.container = container
        self.child = cluster.Process([BIN / container["command"][0], *arguments], pathlib.Path(log.name), 1)
        test.addCleanup(self.child.stop)

    def probe(self, kind: str) -> bool:
        """As the kubelet asks."""
        probe = self.container[kind]
        try:
            if "httpGet" in probe:
                cluster.get(f"http://127.0.0.1:{self.ports[probe['httpGet']['port']]}{probe['httpGet']['path']}", timeout=20)
                return True
            if "tcpSocket" in probe:
                cluster.socket.create_connection(("127.0.0.1", self.ports[probe["tcpSocket"]["port"]]), 20).close()
                return True
            with grpc.insecure_channel(f"127.0.0.1:{self.ports['grpc']}") as channel:
                return channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20) == b"\x08\x01"
        except (urllib.error.URLError, OSError, grpc.RpcError):
            return False


class CommandLineTest(unittest.TestCase):
    def start(self, said: dict):
        manifests = render(said)
        store = self.enterContext(tempfile.TemporaryDirectory())
        base = manifests and said["models"]["model"]
        paths = {f"/models/{base}": str(cluster.DATA / "tiny-llama"), f"/models/{said['models']['embedder']}": str(cluster.DATA / "tiny-bert"), "--store=/store": f"--store={store}"}
        worker = Running(self, of_kind(manifests, "StatefulSet")["spec"]["template"]["spec"]["containers"][0], paths)
        gateway = Running(self, of_kind(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0], paths, [f"127.0.0.1:{worker.ports['grpc']}"])
        deadline = time.monotonic() + 120
        while not gateway.probe("readinessProbe"):
            self.assertLess(time.monotonic(), deadline, "never ready")
            time.sleep(0.1)
        return manifests, worker, gateway

    def said(self, file: str) -> dict:
        said = yaml.safe_load((CHART / file).read_text())
        for one in said["workers"]["groups"]:
            one.setdefault("flags", {}).update({"fake": True, "fake-step-time": "20ms"})
        return said

    def test_both_profiles_start_and_every_probe_answers(self):
        for file in ("values-laptop.yaml", "values-gpu.yaml"):
            with self.subTest(file):
                manifests, worker, gateway = self.start(self.said(file))
                for process in (worker, gateway):
                    for kind in chart_policy.PROBES:
                        self.assertTrue(process.probe(kind), f"{process.container['command']} {kind}")
                    self.assertIn("coterie_", cluster.get(f"http://127.0.0.1:{process.ports['metrics']}/metrics"))
                ask = next(m for m in manifests if m["kind"] == "Pod")["spec"]["containers"][0]
                words = [re.sub(r"--gateway=\S+", f"--gateway=127.0.0.1:{gateway.ports['grpc']}", a) for a in ask["args"]]
                done = subprocess.run([BIN / ask["command"][0], *words], capture_output=True, text=True, timeout=180)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertTrue(done.stdout.strip())

    def test_a_gateway_that_drains_is_unready_alive_and_ends_its_answers(self):
        _, worker, gateway = self.start(self.said("values-laptop.yaml"))
        answer: dict = {}
        body = {"model": "base", "prompt": "a b c", "max_tokens": 100, "ignore_eos": True}
        thread = threading.Thread(target=lambda: answer.update(json.loads(cluster.get(f"http://127.0.0.1:{gateway.ports['http']}/v1/completions", body, 120))))
        thread.start()
        while float(re.search(r"^coterie_requests_running (\S+)", cluster.get(f"http://127.0.0.1:{gateway.ports['metrics']}/metrics"), re.MULTILINE).group(1)) == 0:
            time.sleep(0.02)
        gateway.child.child.send_signal(signal.SIGTERM)
        while gateway.probe("readinessProbe"):
            self.assertIsNone(gateway.child.child.poll(), "ended before it was unready")
            time.sleep(0.02)
        thread.join()
        self.assertEqual(answer["usage"]["completion_tokens"], 100)
        self.assertEqual(gateway.child.child.wait(60), 0)
        worker.child.child.send_signal(signal.SIGTERM)
        self.assertEqual(worker.child.child.wait(60), 0)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
