{{/* What the schema cannot see: values that contradict each other. */}}
{{- define "coterie.refusals" -}}
{{- include "coterie.refuseFlags" (dict "where" "gateway.flags" "flags" .Values.gateway.flags "own" (list "model" "embedder" "store" "workers" "listen" "http-listen" "admin-listen" "metrics-host" "metrics-port" "drain-timeout" "otlp-endpoint" "trace-sample" "log-format")) }}
{{- $sources := list }}
{{- range $kind, $value := .Values.models.source }}{{ if $value }}{{ $sources = append $sources $kind }}{{ end }}{{ end }}
{{- if ne (len $sources) 1 }}
{{- fail (printf "models.source: give exactly one of existingClaim, image, imageVolume and hostPath (there %s)" (ternary "is none" (printf "are %s" (join ", " $sources)) (empty $sources))) }}
{{- end }}
{{- $pods := int .Values.gateway.replicas }}
{{- $names := dict }}
{{- range .Values.workers.groups }}
{{- if hasKey $names .name }}{{ fail (printf "workers.groups: two groups are called %q; a name is a StatefulSet's" .name) }}{{ end }}
{{- $_ := set $names .name true }}
{{- $pods = add $pods (int .replicas) }}
{{- include "coterie.refuseFlags" (dict "where" (printf "workers.groups %s: flags" .name) "flags" .flags "own" (list "model" "store" "device" "id" "serves" "listen" "metrics-port" "drain-timeout" "list-devices" "otlp-endpoint" "log-format")) }}
{{- if and (eq .device "cpu") (hasKey ((.resources | default dict).limits | default dict) "nvidia.com/gpu") }}
{{- fail (printf "workers.groups %s: device is cpu, and resources ask for nvidia.com/gpu, which would lie idle; device: cuda adds it" .name) }}
{{- end }}
{{- if and .runtimeClassName (eq .device "cpu") (eq .runtimeClassName "nvidia") }}
{{- fail (printf "workers.groups %s: device is cpu, and runtimeClassName is nvidia; which of the two is meant?" .name) }}
{{- end }}
{{- end }}
{{- $shared := or (has "ReadWriteMany" .Values.store.accessModes) .Values.store.singleNode .Values.store.existingClaim }}
{{- if not $shared }}
{{- fail (printf "store.accessModes is %s, and %d pods on any nodes share the store: use ReadWriteMany, or say store.singleNode: true where all run on one node" (join ", " .Values.store.accessModes) $pods) }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) }}
{{- fail "ingress.enabled without ingress.host: name the host that clients ask" }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.tlsSecret) (not .Values.ingress.insecure) }}
{{- fail "ingress.enabled without ingress.tlsSecret: questions, answers and keys would cross the network in the clear; name a TLS secret, or say ingress.insecure: true where something before it has TLS" }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- fail "httpRoute.enabled without httpRoute.parentRefs: name the Gateway that carries it" }}
{{- end }}
{{- if and .Values.workers.autoscaling.hpa.enabled .Values.workers.autoscaling.keda.enabled }}
{{- fail "workers.autoscaling: hpa and keda would pull the same StatefulSet in two directions; enable one" }}
{{- end }}
{{- range $name, $range := dict "gateway.autoscaling" .Values.gateway.autoscaling "workers.autoscaling.hpa" .Values.workers.autoscaling.hpa "workers.autoscaling.keda" .Values.workers.autoscaling.keda }}
{{- if gt (int $range.minReplicas) (int $range.maxReplicas) }}{{ fail (printf "%s: minReplicas %d is above maxReplicas %d" $name (int $range.minReplicas) (int $range.maxReplicas)) }}{{ end }}
{{- end }}
{{- $mounts := dict }}
{{- range .Values.gateway.secrets }}
{{- if hasKey $mounts .mountPath }}{{ fail (printf "gateway.secrets: %s is mounted twice" .mountPath) }}{{ end }}
{{- $_ := set $mounts .mountPath true }}
{{- end }}
{{- end }}

{{/* Flags that other values say: two of them would be two truths. */}}
{{- define "coterie.refuseFlags" -}}
{{- range $flag, $_ := .flags }}
{{- if has $flag $.own }}{{ fail (printf "%s: the chart sets --%s itself, by other values (models, store, device, serves, listenAddress, drainSeconds, tracing, logFormat); say it there" $.where $flag) }}{{ end }}
{{- end }}
{{- end }}
