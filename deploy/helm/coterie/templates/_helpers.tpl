{{/* Names, labels and the parts that pods share. */}}
{{- define "coterie.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "coterie.selector" -}}
app.kubernetes.io/name: coterie
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "coterie.labels" -}}
{{ include "coterie.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end }}

{{- define "coterie.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}

{{- define "coterie.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "coterie.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "coterie.storeClaim" -}}
{{- .Values.store.existingClaim | default (printf "%s-store" (include "coterie.name" .)) }}
{{- end }}

{{/* Above containers in a pod's spec. */}}
{{- define "coterie.pod" -}}
serviceAccountName: {{ include "coterie.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .Values.podSecurityContext.runAsUser }}
  runAsGroup: {{ .Values.podSecurityContext.runAsGroup }}
  fsGroup: {{ .Values.podSecurityContext.fsGroup }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.models.source.image }}
initContainers:
  - name: models
    image: {{ . | quote }}
    imagePullPolicy: {{ $.Values.image.pullPolicy }}
    command: [cp, -r, /models/., /copied/]
    securityContext: {{- include "coterie.containerSecurity" $ | nindent 6 }}
    resources:
      requests: {cpu: 100m, memory: 64Mi}
      limits: {memory: 512Mi}
    volumeMounts:
      - {name: models, mountPath: /copied}
{{- end }}
{{- end }}

{{- define "coterie.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "coterie.volumes" -}}
- name: models
{{- with .Values.models.source }}
{{- if .existingClaim }}
  persistentVolumeClaim: {claimName: {{ .existingClaim }}, readOnly: true}
{{- else if .imageVolume }}
  image: {reference: {{ .imageVolume | quote }}, pullPolicy: {{ $.Values.image.pullPolicy }}}
{{- else if .hostPath }}
  hostPath: {path: {{ .hostPath | quote }}, type: Directory}
{{- else }}
  emptyDir: {sizeLimit: {{ $.Values.models.copyLimit }}}
{{- end }}
{{- end }}
- name: store
  persistentVolumeClaim: {claimName: {{ include "coterie.storeClaim" . }}}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
{{- end }}

{{/* An image volume is mounted at its root; the models are its folder /models. */}}
{{- define "coterie.mounts" -}}
- {name: models, mountPath: /models, readOnly: true{{ if .Values.models.source.imageVolume }}, subPath: models{{ end }}}
- {name: store, mountPath: /store}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{/* {a: 1, b: [x, y], c: true} as arguments. Numbers come as floats, and 1e+06 is no number of tokens. */}}
{{- define "coterie.flags" -}}
{{- range $flag, $value := . }}
{{- $text := toString $value }}
{{- if kindIs "slice" $value }}{{ $text = join "," $value }}{{ end }}
{{- if and (kindIs "float64" $value) (eq (floor $value) (float64 $value)) }}{{ $text = printf "%.0f" $value }}{{ end }}
- {{ printf "--%s=%s" $flag $text | quote }}
{{- end }}
{{- end }}

{{/* Traces and logs as arguments. Workers trace what gateways trace. */}}
{{- define "coterie.seen" -}}
{{- with .values.tracing.endpoint }}
- {{ printf "--otlp-endpoint=%s" . | quote }}
{{- if $.samples }}
- {{ printf "--trace-sample=%v" $.values.tracing.sample | quote }}
{{- end }}
{{- end }}
{{- if ne .values.logFormat "text" }}
- --log-format={{ .values.logFormat }}
{{- end }}
{{- end }}

{{- define "coterie.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: {matchLabels: {{ .labels | toJson }}}
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: {matchLabels: {{ .labels | toJson }}}
{{- end }}

{{- define "coterie.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
