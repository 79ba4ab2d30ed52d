"""What every manifest of the chart must hold, whatever the values: functions from manifests to sentences about what is wrong."""

from __future__ import annotations

import re

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def pod_of(manifest: dict) -> tuple[dict, dict] | None:
    """Labels and spec of the pods that a manifest makes."""
    if manifest["kind"] == "Pod":
        return manifest["metadata"].get("labels", {}), manifest["spec"]
    if manifest["kind"] in ("Deployment", "StatefulSet"):
        template = manifest["spec"]["template"]
        return template["metadata"]["labels"], template["spec"]
    return None


def pods(manifests) -> list[tuple[str, dict, dict]]:
    return [(m["kind"] + " " + m["metadata"]["name"], *pod) for m in manifests if (pod := pod_of(m))]


def security(manifests):
    for where, _, spec in pods(manifests):
        pod = spec.get("securityContext", {})
        if not pod.get("runAsNonRoot") or pod.get("runAsUser", 0) < 1 or pod.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{where}: pods run as nobody special, with the runtime's seccomp profile"
        if spec.get("automountServiceAccountToken") is not False or spec.get("hostNetwork") or spec.get("hostPID"):
            yield f"{where}: no token of the API, and nothing of the host"
        for c in spec["containers"] + spec.get("initContainers", []):
            context = c.get("securityContext", {})
            if (context.get("allowPrivilegeEscalation") is not False or not context.get("readOnlyRootFilesystem")
                    or context.get("capabilities") != {"drop": ["ALL"]} or context.get("privileged")):
                yield f"{where}: container {c['name']} may more than it needs"
            if c["image"].endswith(":latest") or not re.search(r"[:@]", c["image"]):
                yield f"{where}: image {c['image']} says no version"


def resources(manifests):
    for where, _, spec in pods(manifests):
        for c in spec["containers"] + spec.get("initContainers", []):
            r = c.get("resources", {})
            if not {"cpu", "memory"} <= set(r.get("requests", {})) and "cpu" not in r.get("requests", {}) or "memory" not in r.get("limits", {}):
                yield f"{where}: container {c['name']} has no request, or no limit of memory"
        for v in spec.get("volumes", []):
            if "emptyDir" in v and "sizeLimit" not in v["emptyDir"]:
                yield f"{where}: volume {v['name']} may fill the node"


def mounts(manifests):
    for where, _, spec in pods(manifests):
        volumes = {v["name"] for v in spec.get("volumes", [])}
        for c in spec["containers"] + spec.get("initContainers", []):
            names = [m["name"] for m in c.get("volumeMounts", [])]
            paths = [m["mountPath"] for m in c.get("volumeMounts", [])]
            if not set(names) <= volumes or len(set(paths)) != len(paths):
                yield f"{where}: container {c['name']} mounts {names} at {paths}, of {volumes}"


def flags(manifests, help_of):
    """`help_of`: program -> its --help."""
    for where, _, spec in pods(manifests):
        for c in spec["containers"]:
            program = c["command"][0]
            words = list(c["args"])
            if program == "coterie":
                program += " " + words.pop(0)
            known = set(re.findall(r"^  (--[a-z0-9-]+)", help_of[program], re.MULTILINE))
            names = [w.split("=")[0] for w in words if w.startswith("--")]
            for name in names:
                if name not in known:
                    yield f"{where}: {program} has no flag {name}"
            for name in {n for n in names if names.count(n) > 1}:
                yield f"{where}: {name} is given twice"


def listens(container) -> dict[str, int]:
    """Port name -> the port that the command line opens."""
    found = {}
    flags = dict(a[2:].split("=", 1) for a in container["args"] if a.startswith("--") and "=" in a)
    for flag, port in (("listen", "grpc"), ("http-listen", "http"), ("admin-listen", "admin"), ("metrics-port", "metrics")):
        if flags.get(flag):
            found[port] = int(flags[flag].rsplit(":", 1)[-1])
    return found


def ports(manifests):
    for where, _, spec in pods(manifests):
        for c in spec["containers"]:
            if c["command"][0] == "coterie":
                continue
            declared = {p["name"]: p["containerPort"] for p in c["ports"]}
            if declared != listens(c):
                yield f"{where}: ports {declared}, and the command line listens on {listens(c)}"
            for kind in PROBES:
                probe = c.get(kind)
                if probe is None:
                    yield f"{where}: no {kind}"
                    continue
                port = next(probe[p]["port"] for p in ("httpGet", "grpc", "tcpSocket") if p in probe)
                if port not in declared and port not in declared.values():
                    yield f"{where}: {kind} asks port {port}"
                certificate = any(a.startswith("--tls-cert=") for a in c["args"])
                if ("grpc" in probe and certificate) or probe.get("httpGet", {"scheme": None}).get("scheme", "HTTP") == ("HTTP" if certificate else "HTTPS"):
                    yield f"{where}: {kind} does not speak what the listener speaks"
                if "grpc" in probe and port != declared["grpc"]:
                    yield f"{where}: {kind} speaks gRPC to {port}"
            if c["startupProbe"]["periodSeconds"] * c["startupProbe"]["failureThreshold"] < 60:
                yield f"{where}: a model may take longer to load than the startup probe waits"


def _matches(selector: dict, labels: dict) -> bool:
    return selector.items() <= labels.items()


def references(manifests):
    """Services, policies, budgets and scalers meet the pods they are for, by labels, ports and names."""
    all_pods = pods(manifests)
    by_name = {(m["kind"], m["metadata"]["name"]): m for m in manifests}
    if len(by_name) != len(manifests):
        yield "two manifests have one kind and name"
    for m in manifests:
        kind, name = m["kind"], m["metadata"]["name"]
        if len(name) > 63 or (kind == "StatefulSet" and len(name) > 52):
            yield f"{kind} {name}: the name is too long for what is made of it"
        spec = m.get("spec", {})
        selector = {"Service": lambda: spec["selector"], "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"],
                    "PodDisruptionBudget": lambda: spec["selector"]["matchLabels"], "Deployment": lambda: spec["selector"]["matchLabels"],
                    "StatefulSet": lambda: spec["selector"]["matchLabels"], "PodMonitor": lambda: spec["selector"]["matchLabels"]}.get(kind, lambda: None)()
        if selector is not None:
            chosen = [p for p in all_pods if _matches(selector, p[1])]
            if not chosen:
                yield f"{kind} {name}: its selector meets no pod"
            if kind in ("Deployment", "StatefulSet") and len(chosen) != 1:
                yield f"{kind} {name}: its selector meets the pods of {[c[0] for c in chosen]}"
            named = {p["name"] for c in chosen for container in c[2]["containers"] for p in container.get("ports", [])}
            wanted = {"Service": lambda: [p["targetPort"] for p in spec["ports"]],
                      "NetworkPolicy": lambda: [p["port"] for rule in spec["ingress"] for p in rule.get("ports", [])],
                      "PodMonitor": lambda: [e["port"] for e in spec["podMetricsEndpoints"]]}.get(kind, list)()
            for port in wanted:
                if port not in named:
                    yield f"{kind} {name}: no container names a port {port}"
        if kind in ("HorizontalPodAutoscaler", "ScaledObject"):
            target = spec["scaleTargetRef"]
            found = by_name.get((target["kind"], target["name"]))
            if found is None:
                yield f"{kind} {name}: scales {target}, which is not there"
            elif "replicas" in found["spec"]:
                yield f"{kind} {name}: {target['name']} has replicas of its own, which every upgrade would set again"
        if kind == "StatefulSet" and ("Service", spec["serviceName"]) not in by_name:
            yield f"{kind} {name}: no Service {spec['serviceName']}"
    for where, _, spec in all_pods:
        for c in spec["containers"]:
            for service, port in re.findall(r"(?:dns:///|--gateway=)([a-z0-9-]+)[a-z0-9.-]*:(\d+)", " ".join(c["args"])):
                found = by_name.get(("Service", service))
                if found is None or int(port) not in [p["port"] for p in found["spec"]["ports"]]:
                    yield f"{where}: goes to {service}:{port}, which no Service is"


def ending(manifests):
    """A pod has the time that its drain may take, and liveness never asks what a drain answers with no."""
    for where, _, spec in pods(manifests):
        for c in spec["containers"]:
            drain = next((int(a.split("=")[1].rstrip("s")) for a in c["args"] if a.startswith("--drain-timeout=")), None)
            if drain is None:
                continue
            before = int(c.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])[1])
            if spec["terminationGracePeriodSeconds"] < drain + before + 10:
                yield f"{where}: killed before its drain of {drain} s is over"
            if "grpc" in c["livenessProbe"] or c["livenessProbe"].get("httpGet", {}).get("path") == "/ready":
                yield f"{where}: its liveness probe would kill it while it drains"
