{{/* What the schema cannot say, or not in words that help. */}}
{{- define "wc.refuse" -}}
{{- $maps := dict "settings" .Values.settings "nats.settings" .Values.nats.settings "assistant.settings" .Values.assistant.settings }}
{{- range $side := list "provision" "edge" "forwarder" "connector" }}
{{- $_ := set $maps (printf "%s.settings" $side) (index $.Values $side "settings") }}
{{- end }}
{{- range $where, $settings := $maps }}
{{- range $secret := list "API_KEY" "HTTP_TOKEN" "MEDIA_URL_SECRET" "TRANSCRIBE_API_KEY" "WHATSAPP_WEBHOOK_SECRET" "NATS_PASSWORD" "NATS_TOKEN" "NATS_NKEY" }}
{{- if hasKey $settings $secret }}
{{- fail (printf "%s.%s is a secret, and would stand in a manifest: name its Secret in `secrets` of the side that needs it" $where $secret) }}
{{- end }}
{{- end }}
{{- if and (ne $where "settings") (hasKey $settings "HTTP_ADDR") }}
{{- fail (printf "%s.HTTP_ADDR: it belongs into `settings`, because the Services and the probes are for all alike" $where) }}
{{- end }}
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
