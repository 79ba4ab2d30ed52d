"""What users say to the chart: values that must render into manifests that Kubernetes takes, and values that must be refused, with
words of the refusal."""

import copy

MODELS = {"models": {"source": {"existingClaim": "models"}}}


def values(*more: dict) -> dict:
    """MODELS and more, maps merged."""
    out: dict = {}
    for one in (MODELS, *more):
        merge(out, one)
    return out


def merge(into: dict, more: dict):
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)


def group(**more) -> dict:
    return {"name": "cpu", "replicas": 1, "device": "cpu", **more}


RESOURCES = {"requests": {"cpu": "8", "memory": "64Gi"}, "limits": {"memory": "64Gi"}}
GOOD = {
    "defaults": values(),
    "model copied from an image": {"models": {"source": {"image": "registry.example/models:1"}, "copyLimit": "1Gi"}},
    "model as an image volume": {"models": {"source": {"imageVolume": "registry.example/models:1"}}},
    "model on the node": {"models": {"source": {"hostPath": "/srv/models"}}},
    "no embedder": values({"models": {"embedder": ""}}),
    "store of somebody": values({"store": {"existingClaim": "shared-store"}}),
    "store of a class": values({"store": {"storageClass": "nfs", "size": "1Ti", "keep": False}}),
    "one node": values({"store": {"accessModes": ["ReadWriteOnce"], "singleNode": True}}),
    "digest and pull secrets": values({"image": {"repository": "r.example/c", "digest": "sha256:" + "0" * 64}, "imagePullSecrets": [{"name": "pull"}]}),
    "two device classes": values({"workers": {"groups": [group(replicas=2), group(name="h200", device="cuda", replicas=8, runtimeClassName="nvidia",
        resources=RESOURCES, tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}], shm="8Gi", startupSeconds=1800)]}}),
    "groups by experts": values({"workers": {"groups": [group(name="law", serves=["law-*", "med-*"]), group(name="rest", replicas=3)]}}),
    "no replicas of a group": values({"workers": {"groups": [group(replicas=0)]}}),
    "flags of every type": values({"gateway": {"flags": {"max-running": 1000000, "min-score": 0.25, "strict-serves": True, "policy": "top_k", "shadow-share": 0}},
        "workers": {"groups": [group(flags={"kv-tokens": 65536, "mode": "exact", "adapter-bytes": "1GiB"})]}}),
    "secrets by reference": values({"gateway": {"secrets": [{"name": "keys", "secretName": "coterie-keys", "mountPath": "/secrets/keys"}]}}),
    "a worker's secrets": values({"workers": {"secrets": [{"name": "gateways", "secretName": "coterie-gateways", "mountPath": "/secrets/gateways"}]},
        "test": {"apiKeySecret": {"name": "coterie-test", "key": "key"}}, "monitoring": {"podMonitor": {"tlsConfig": {"insecureSkipVerify": True}}}}),
    "ingress with TLS": values({"ingress": {"enabled": True, "className": "nginx", "host": "llm.example", "tlsSecret": "llm-tls",
        "annotations": {"nginx.ingress.kubernetes.io/proxy-buffering": "off"}}}),
    "ingress behind something with TLS": values({"ingress": {"enabled": True, "host": "llm.example", "insecure": True}}),
    "HTTPRoute": values({"httpRoute": {"enabled": True, "hostnames": ["llm.example"], "parentRefs": [{"name": "gateway", "namespace": "infra"}]}}),
    "no network policy": values({"networkPolicy": {"enabled": False}}),
    "network policy with peers": values({"networkPolicy": {"questionsFrom": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}],
        "adminFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]}}),
    "HPA on both": values({"gateway": {"autoscaling": {"enabled": True}}, "workers": {"autoscaling": {"hpa": {"enabled": True}}}}),
    "KEDA": values({"workers": {"autoscaling": {"keda": {"enabled": True, "maxReplicas": 4}}}}),
    "no monitoring": values({"monitoring": {"podMonitor": {"enabled": False}, "alerts": {"enabled": False}, "dashboards": {"enabled": False}}}),
    "monitoring with labels": values({"monitoring": {"podMonitor": {"labels": {"release": "prometheus"}}, "alerts": {"labels": {"release": "prometheus"}}}}),
    "a load balancer": values({"gateway": {"service": {"type": "LoadBalancer", "annotations": {"a.example/internal": "true"}}, "admin": {"enabled": False}}}),
    "both address families": values({"listenAddress": "[::]"}),
    "traces and JSON logs": values({"tracing": {"endpoint": "http://otel-collector.monitoring.svc:4318", "sample": 1}, "logFormat": "json"}),
    "traces over TLS": values({"tracing": {"endpoint": "https://otlp.example/tempo", "sample": 0.000001}, "gateway": {"flags": {"otlp-ca": "/secrets/otlp/ca.crt"},
        "secrets": [{"name": "otlp", "secretName": "otlp-ca", "mountPath": "/secrets/otlp"}]}}),
    "long drains": values({"gateway": {"drainSeconds": 600, "preStopSeconds": 15}, "workers": {"groups": [group(drainSeconds=600)]}}),
    "another account and no budget": values({"serviceAccount": {"create": False, "name": "mine"}, "podDisruptionBudget": {"enabled": False}, "topologySpread": False}),
    "affinity": values({"gateway": {"nodeSelector": {"pool": "cpu"}, "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}}]}}, "podAnnotations": {"a": "b"}}}),
}

# name -> values, words that the refusal has.
REFUSED = {
    "unknown key": (values({"gatway": {}}), ["gatway"]),
    "unknown key below": (values({"gateway": {"replica": 3}}), ["replica", "gateway"]),
    "text for a number": (values({"gateway": {"replicas": "three"}}), ["replicas", "integer"]),
    "no replicas": (values({"gateway": {"replicas": 0}}), ["replicas", "minimum"]),
    "unknown device": (values({"workers": {"groups": [group(device="tpu")]}}), ["device", "cuda"]),
    "no groups": (values({"workers": {"groups": []}}), ["groups"]),
    "group without a name": (values({"workers": {"groups": [{"replicas": 1, "device": "cpu"}]}}), ["name"]),
    "upper case": (values({"workers": {"groups": [group(name="GPU")]}}), ["name"]),
    "flag of the chart's own": (values({"gateway": {"flags": {"listen": "0.0.0.0:1"}}}), ["gateway.flags", "--listen itself"]),
    "flag of the chart's own, of a group": (values({"workers": {"groups": [group(flags={"device": "cuda:1"})]}}), ["groups cpu", "--device itself"]),
    "flag with dashes": (values({"gateway": {"flags": {"--max-running": 1}}}), ["--max-running"]),
    "traces without a scheme": (values({"tracing": {"endpoint": "collector:4318"}}), ["endpoint"]),
    "traces by gRPC": (values({"tracing": {"endpoint": "grpc://collector:4317"}}), ["endpoint"]),
    "a password in the endpoint": (values({"tracing": {"endpoint": "https://me:secret@collector:4318"}}), ["endpoint"]),
    "more than all": (values({"tracing": {"sample": 2}}), ["sample", "maximum"]),
    "log format of its own": (values({"logFormat": "xml"}), ["logFormat"]),
    "traces by a flag": (values({"gateway": {"flags": {"otlp-endpoint": "http://collector:4318"}}}), ["gateway.flags", "tracing"]),
    "latest": (values({"image": {"tag": "latest"}}), ["tag"]),
    "digest cut": (values({"image": {"digest": "sha256:0123"}}), ["digest"]),
    "memory without a limit": (values({"gateway": {"resources": {"requests": {"cpu": "1"}, "limits": {"memory": None}}}}), ["memory"]),
    "not a quantity": (values({"store": {"size": "much"}}), ["size"]),
    "root": (values({"podSecurityContext": {"runAsUser": 0}}), ["runAsUser"]),
    "model out of its folder": (values({"models": {"model": "../etc/passwd"}}), ["model"]),
    "a secret's value in place of its name": (values({"gateway": {"secrets": [{"name": "keys", "value": "sk-123"}]}}), ["value"]),
    "no models": ({}, ["models.source", "exactly one", "none"]),
    "models twice": (values({"models": {"source": {"image": "x:1"}}}), ["exactly one", "existingClaim", "image"]),
    "two groups of one name": (values({"workers": {"groups": [group(), group()]}}), ["two groups", "cpu"]),
    "replicas without a shared store": (values({"store": {"accessModes": ["ReadWriteOnce"]}}), ["ReadWriteMany", "singleNode"]),
    "CPU group with GPUs": (values({"workers": {"groups": [group(resources={"requests": {"cpu": "1"}, "limits": {"memory": "1Gi", "nvidia.com/gpu": 1}})]}}), ["device is cpu", "nvidia.com/gpu"]),
    "ingress without TLS": (values({"ingress": {"enabled": True, "host": "a.example"}}), ["tlsSecret", "in the clear"]),
    "ingress without a host": (values({"ingress": {"enabled": True, "tlsSecret": "t"}}), ["host"]),
    "route without a gateway": (values({"httpRoute": {"enabled": True}}), ["parentRefs"]),
    "HPA and KEDA": (values({"workers": {"autoscaling": {"hpa": {"enabled": True}, "keda": {"enabled": True}}}}), ["enable one"]),
    "bounds crossed": (values({"gateway": {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 2}}}), ["minReplicas 5", "maxReplicas 2"]),
    "mounted twice": (values({"gateway": {"secrets": [{"name": n, "secretName": n, "mountPath": "/secrets/a"} for n in ("a", "b")]}}), ["/secrets/a", "twice"]),
}
