{{/* A process with a session. Takes root, side, name, container (its name) and command. Never more than one replica on
one session: a StatefulSet ends the old pod before it starts the new one. */}}
{{- define "wc.session" -}}
{{- $both := eq .command "run" }}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "wc.selector" .name | nindent 4 }}
    {{- include "wc.labels" .root | nindent 4 }}
spec:
  replicas: 1
  serviceName: {{ .name }}
  # An edge that is not linked is not ready, and may stay so for days: an update must not wait for it.
  podManagementPolicy: Parallel
  updateStrategy: {type: RollingUpdate}
  # The session is worth more than the disk.
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: Retain}
  selector:
    matchLabels:
      {{- include "wc.selector" .name | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "wc.selector" .name | nindent 8 }}
        whatsapp-connector/talks-to-whatsapp: "yes"
        {{- if $both }}
        whatsapp-connector/asks-assistant: "yes"
        {{- end }}
      annotations:
        checksum/settings: {{ include "wc.checksum" (dict "root" .root "assistant" $both "pool" false) | quote }}
        {{- with .side.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: whatsapp-connector
      {{- include "wc.pod" . | nindent 6 }}
      terminationGracePeriodSeconds: {{ include "wc.grace" . }}
      {{- if not $both }}
      # A node that dies should not take the edge and its standby with it.
      affinity:
        podAntiAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - weight: 100
              podAffinityTerm:
                topologyKey: kubernetes.io/hostname
                labelSelector:
                  matchExpressions:
                    - {key: app.kubernetes.io/component, operator: In, values: [edge, edge-standby]}
      {{- end }}
      securityContext:
        {{- include "wc.podSecurity" . | nindent 8 }}
        # `Always` would open the session's files to the group at each start, and the edge refuses that.
        fsGroupChangePolicy: OnRootMismatch
      containers:
        - name: {{ .container }}
          args: [{{ .command }}]
          {{- include "wc.container" . | nindent 10 }}
          envFrom:
            - configMapRef: {name: whatsapp-connector}
            {{- if $both }}
            - configMapRef: {name: whatsapp-assistant}
            {{- end }}
          env:
            {{- include "wc.env" . | nindent 12 }}
            {{- if and $both .root.Values.assistant.routesSecret }}
            - {name: ROUTES_FILE, value: /etc/routes/routes.toml}
            {{- end }}
          {{- include "wc.probes" . | nindent 10 }}
          volumeMounts:
            - {name: session, mountPath: /var/lib/whatsapp}
            {{- if .side.natsSecret }}
            - {name: nats, mountPath: /etc/nats, readOnly: true}
            {{- end }}
            {{- if and $both .root.Values.assistant.routesSecret }}
            - {name: routes, mountPath: /etc/routes, readOnly: true}
            {{- end }}
            - {name: tmp, mountPath: /tmp}
      volumes:
        {{- if .side.natsSecret }}
        - name: nats
          secret: {secretName: {{ .side.natsSecret }}, defaultMode: 0440}
        {{- end }}
        {{- if and $both .root.Values.assistant.routesSecret }}
        - name: routes
          secret: {secretName: {{ .root.Values.assistant.routesSecret }}, defaultMode: 0440}
        {{- end }}
        - name: tmp
          emptyDir: {sizeLimit: 64Mi}
  volumeClaimTemplates:
    - metadata:
        name: session
        {{- if eq .name "edge-standby" }}
        labels: {app.kubernetes.io/component: edge-standby}
        {{- end }}
      spec:
        accessModes: [{{ .side.storage.accessMode }}]
        {{- with .side.storage.className }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests: {storage: {{ .side.storage.size }}}
---
{{ include "wc.service" . }}
{{- end }}
