{{/* The gateway's environment and what it mounts. */}}

{{/* What Postgres, Redis and the store are reached by: from Secrets, never from values. Also for the migration. */}}
{{- define "darkroom.databaseEnv" -}}
{{- $name := include "darkroom.fullname" . -}}
{{- if .Values.database.existingSecret }}
- name: DARKROOM_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.database.existingSecret }}, key: {{ .Values.database.key }}}}
{{- else if .Values.database.trial }}
- name: DARKROOM_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ $name }}-trial, key: database-url}}
{{- end }}
{{- end }}

{{- define "darkroom.stateEnv" -}}
{{- $name := include "darkroom.fullname" . -}}
{{- include "darkroom.databaseEnv" . }}
{{- if .Values.redis.existingSecret }}
- name: DARKROOM_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.redis.existingSecret }}, key: {{ .Values.redis.key }}}}
{{- else if .Values.redis.trial }}
- name: DARKROOM_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ $name }}-trial, key: redis-url}}
{{- end }}
{{- with .Values.storage }}
{{- if .url }}
- {name: DARKROOM_STORAGE_URL, value: {{ .url | quote }}}
- {name: DARKROOM_STORAGE_OPTIONS, value: {{ toJson .options | quote }}}
{{- else if .trial }}
- {name: DARKROOM_STORAGE_URL, value: "s3://darkroom/pictures"}
- {name: DARKROOM_STORAGE_OPTIONS, value: '{"endpoint":"http://{{ $name }}-minio:9000","region":"us-east-1","allow_http":"true"}'}
{{- end }}
{{- if or .existingSecret .trial }}
{{- $secret := .existingSecret | default (printf "%s-trial" $name) }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ ternary .accessKey "access-key" (not (empty .existingSecret)) }}}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ ternary .secretKey "secret-key" (not (empty .existingSecret)) }}}}
{{- end }}
{{- end }}
{{- end }}

{{- define "darkroom.gatewayEnv" -}}
{{- $name := include "darkroom.fullname" . -}}
{{- $gateway := .Values.gateway -}}
- {name: HOME, value: /tmp}
- {name: DARKROOM_HOST, value: 0.0.0.0}
- {name: DARKROOM_PORT, value: "8080"}
- {name: DARKROOM_GRPC_PORT, value: {{ ternary "8081" "0" $gateway.grpc | quote }}}
- {name: DARKROOM_INFERENCE_PORT, value: {{ ternary "8082" "0" $gateway.inference | quote }}}
- {name: DARKROOM_METRICS_PORT, value: "9464"}
- {name: DARKROOM_DATA, value: /var/lib/darkroom}
- {name: DARKROOM_REPLICAS, value: {{ include "darkroom.gateways" . | quote }}}
- {name: DARKROOM_DRAIN_LEAD, value: {{ $gateway.drain.lead | quote }}}
- {name: DARKROOM_DRAIN, value: {{ $gateway.drain.seconds | quote }}}
- {name: DARKROOM_SERVICES, value: {{ include "darkroom.addresses" . | quote }}}
- name: DARKROOM_ADMIN_KEY
  valueFrom: {secretKeyRef: {name: {{ include "darkroom.keys" . }}, key: {{ .Values.keys.adminKey }}}}
- name: DARKROOM_SECRET
  valueFrom: {secretKeyRef: {name: {{ include "darkroom.keys" . }}, key: {{ .Values.keys.secret }}}}
{{- include "darkroom.stateEnv" . }}
{{- if .Values.database.existingSecret }}
- {name: DARKROOM_MIGRATE, value: wait}
{{- end }}
{{- range include "darkroom.tracks" . | fromJsonArray }}
{{- if and (eq .kind "tensorflow-serving") (eq .track "stable") }}
- {name: DARKROOM_PIX2PIX_REST, value: "http://{{ .name }}:8501"}
{{- if and .tensorflowServing.models (not $gateway.settings.pix2pix_models) }}
- {name: DARKROOM_PIX2PIX_MODELS, value: {{ keys .tensorflowServing.models | sortAlpha | join "," | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.telemetry.endpoint }}
- {name: DARKROOM_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- if $gateway.tls.existingSecret }}
- {name: DARKROOM_TLS_CERT, value: /tls/tls.crt}
- {name: DARKROOM_TLS_KEY, value: /tls/tls.key}
{{- end }}
{{- include "darkroom.settings" $gateway.settings }}
{{- with $gateway.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "darkroom.gatewayVolumes" -}}
{{- include "darkroom.tmp" .Values.gateway.tmpSize }}
- name: data
  {{- if include "darkroom.keepsData" . }}
  persistentVolumeClaim: {claimName: {{ .Values.gateway.persistence.existingClaim | default (printf "%s-data" (include "darkroom.fullname" .)) }}}
  {{- else }}
  emptyDir: {sizeLimit: {{ .Values.gateway.persistence.size | quote }}}
  {{- end }}
{{- with .Values.gateway.tls.existingSecret }}
- name: tls
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- with .Values.gateway.volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* One that keeps data on a disk of its own cannot have a second beside it, not even for a moment. */}}
{{- define "darkroom.gatewayStrategy" -}}
{{- if include "darkroom.keepsData" . -}}
type: Recreate
{{- else -}}
type: RollingUpdate
rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
{{- end -}}
{{- end }}
