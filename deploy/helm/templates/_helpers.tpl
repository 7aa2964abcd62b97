{{/* Labels of every object. Those of pods are elsewhere: a new version of the chart is no reason to restart the edge. */}}
{{- define "wc.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Labels by which pods are selected. Takes the component's name. */}}
{{- define "wc.selector" -}}
app.kubernetes.io/name: whatsapp-connector
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- define "wc.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* Of what the ConfigMaps say: pods do not notice by themselves when it changes. Takes root, assistant and pool. */}}
{{- define "wc.checksum" -}}
{{- $shared := list .root.Values.settings }}
{{- if .assistant }}{{ $shared = append $shared .root.Values.assistant.settings }}{{ end }}
{{- if .pool }}{{ $shared = append $shared .root.Values.pool.accounts }}{{ end }}
{{- $shared | toJson | sha256sum | trunc 16 }}
{{- end }}

{{/* SHUTDOWN_GRACE and 15 s more, in seconds. Takes root and side. */}}
{{- define "wc.grace" -}}
{{- $given := .side.settings.SHUTDOWN_GRACE | default .root.Values.settings.SHUTDOWN_GRACE | default "25s" }}
{{- $unit := ternary 60 1 (hasSuffix "m" $given) }}
{{- add (mul (regexFind "^[0-9]+" $given | atoi) $unit) 15 }}
{{- end }}

{{/* What the edges of a pool and the job `provision` share. */}}
{{- define "wc.poolSettings" -}}
WHATSAPP_ACCOUNTS: {{ .Values.pool.accounts | quote }}
SESSION_STORE: nats
{{- end }}

{{/* The variables of one side. Takes root, side, and inline: with the settings of all, where there is no ConfigMap yet. */}}
{{- define "wc.env" -}}
{{- $settings := merge (dict) .side.settings .root.Values.nats.settings }}
{{- if .inline }}{{ $settings = merge $settings .root.Values.settings }}{{ end }}
{{- if and .inline (eq .root.Values.mode "pool") }}{{ $settings = merge (include "wc.poolSettings" .root | fromYaml) $settings }}{{ end }}
{{- range $name, $value := $settings }}
{{- if not (hasKey $.side.secrets $name) }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- range $name, $from := .side.secrets }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {{ $from | toJson }}
{{- end }}
{{- end }}

{{/* What all pods have. Takes root and side. */}}
{{- define "wc.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .side.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .side.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- end }}

{{- define "wc.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* What all containers have. Takes root and side. */}}
{{- define "wc.container" -}}
image: {{ include "wc.image" .root }}
{{- with .root.Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
resources: {{ toJson .side.resources }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Over the zones and the nodes that there are. Takes the component's name. */}}
{{- define "wc.spread" -}}
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "wc.selector" $ | nindent 6 }}
{{- end }}
{{- end }}

{{/* Who is not linked, or has no assistant, is not ready, and never dead: liveness never asks /readyz. */}}
{{- define "wc.probes" -}}
ports:
  - {name: http, containerPort: 8080}
livenessProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end }}

{{/* For metrics only; nobody calls the connector. Takes root and name. */}}
{{- define "wc.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "wc.selector" .name | nindent 4 }}
    {{- include "wc.labels" .root | nindent 4 }}
spec:
  clusterIP: None
  # What is not ready is what one wants to see.
  publishNotReadyAddresses: true
  selector:
    {{- include "wc.selector" .name | nindent 4 }}
  ports:
    - {name: http, port: 8080, targetPort: http}
{{- end }}
