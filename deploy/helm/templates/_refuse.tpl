{{/* What the schema cannot say, or not in words that help. */}}
{{- define "wc.refuse" -}}
{{- $maps := dict "settings" .Values.settings "nats.settings" .Values.nats.settings "assistant.settings" .Values.assistant.settings }}
{{- range $side := list "provision" "edge" "forwarder" "connector" "pool" }}
{{- $_ := set $maps (printf "%s.settings" $side) (index $.Values $side "settings") }}
{{- end }}
{{- range $where, $settings := $maps }}
{{- range $secret := list "API_KEY" "HTTP_TOKEN" "MEDIA_URL_SECRET" "SESSION_KEY" "TRANSCRIBE_API_KEY" "WHATSAPP_WEBHOOK_SECRET" "NATS_PASSWORD" "NATS_TOKEN" "NATS_NKEY" }}
{{- if hasKey $settings $secret }}
{{- fail (printf "%s.%s is a secret, and would stand in a manifest: name its Secret in `secrets` of the side that needs it" $where $secret) }}
{{- end }}
{{- end }}
{{- if and (ne $where "settings") (hasKey $settings "HTTP_ADDR") }}
{{- fail (printf "%s.HTTP_ADDR: it belongs into `settings`, because the Services and the probes are for all alike" $where) }}
{{- end }}
{{- range $name := list "WHATSAPP_ACCOUNTS" "SESSION_STORE" "SESSION_KEY_FILE" }}
{{- if and (hasKey $settings $name) (or (eq $.Values.mode "pool") (eq $name "WHATSAPP_ACCOUNTS")) }}
{{- fail (printf "%s.%s: with mode=pool the chart sets it, from pool.accounts and pool.sessionKeySecret; in other modes there is no pool" $where $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- if eq .Values.mode "pool" }}
{{- include "wc.refusePool" . }}
{{- end }}
{{- with .Values.scaling }}
{{- if gt (int .min) (int .max) }}
{{- fail (printf "scaling.min=%d is more than scaling.max=%d" (int .min) (int .max)) }}
{{- end }}
{{- if and (eq .by "keda") (or (lt (int .keda.fallback) (int .min)) (gt (int .keda.fallback) (int .max))) }}
{{- fail (printf "scaling.keda.fallback=%d is not between scaling.min=%d and scaling.max=%d" (int .keda.fallback) (int .min) (int .max)) }}
{{- end }}
{{- end }}
{{- end }}

{{/* A pool that would not start, or would never grow. */}}
{{- define "wc.refusePool" -}}
{{- with .Values.pool }}
{{- if not .sessionKeySecret }}
{{- fail "pool.sessionKeySecret is empty: the sessions of a pool are on the bus, encrypted. Name a Secret with the key session.key (openssl rand -base64 32)" }}
{{- end }}
{{- range $where, $secrets := dict "pool.secrets" .secrets "provision.secrets" $.Values.provision.secrets }}
{{- if hasKey $secrets "SESSION_KEY" }}
{{- fail (printf "%s.SESSION_KEY: name its Secret in pool.sessionKeySecret" $where) }}
{{- end }}
{{- end }}
{{- if gt (int .scaling.min) (int .scaling.max) }}
{{- fail (printf "pool.scaling.min=%d is more than pool.scaling.max=%d" (int .scaling.min) (int .scaling.max)) }}
{{- end }}
{{- $capacity := .settings.EDGE_CAPACITY | default $.Values.settings.EDGE_CAPACITY | default "100" }}
{{- if and (eq .scaling.by "hpa") (ge (int .scaling.accounts) (int $capacity)) }}
{{- fail (printf "pool.scaling.accounts=%d has to be less than EDGE_CAPACITY=%s: no edge takes more, so none would be added" (int .scaling.accounts) $capacity) }}
{{- end }}
{{- end }}
{{- end }}
