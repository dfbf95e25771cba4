{{/* Names, labels, images and values as text: what every template shares. */}}

{{/* The release's name; a long one is cut and told apart by its hash, so that `NAME-SERVICE-canary-headless` fits 63. */}}
{{- define "darkroom.fullname" -}}
{{- $name := .Values.fullnameOverride | default .Release.Name -}}
{{- if le (len $name) 24 }}{{ $name }}{{ else }}{{ $name | trunc 17 | trimSuffix "-" }}-{{ sha1sum $name | trunc 6 }}{{ end -}}
{{- end }}

{{/* In: root, component, optional track. What selects pods, and never changes for a release. */}}
{{- define "darkroom.selector" -}}
app.kubernetes.io/name: darkroom
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .track }}
darkroom/track: {{ . }}
{{- end }}
{{- end }}

{{/* In: root, component, role (gateway, service, state, job), optional track. */}}
{{- define "darkroom.labels" -}}
{{ include "darkroom.selector" . }}
darkroom/role: {{ .role }}
app.kubernetes.io/part-of: darkroom
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* In: root, component, role, optional track, more (labels of the pod's own). No version, so that a chart alone restarts nothing. */}}
{{- define "darkroom.podLabels" -}}
{{ include "darkroom.selector" . }}
darkroom/role: {{ .role }}
app.kubernetes.io/part-of: darkroom
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- with .more }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* In: root, image, optional gpu (a count). An image of Darkroom's own; one with a digest needs no tag. */}}
{{- define "darkroom.image" -}}
{{- $image := .image -}}
{{- $registry := $image.registry | default .root.Values.image.registry -}}
{{- $repository := ternary $image.repository (printf "%s/%s" $registry $image.repository) (empty $registry) -}}
{{- $tag := $image.tag | default (printf "%s%s" (.root.Values.image.tag | default .root.Chart.AppVersion) (ternary .root.Values.image.gpuSuffix "" (gt (int .gpu) 0))) -}}
{{- if $image.digest }}{{ $repository }}@{{ $image.digest }}{{ else }}{{ $repository }}:{{ $tag }}{{ end -}}
{{- end }}

{{/* A value as an environment variable has it: lists with commas, objects as JSON, numbers without exponents. */}}
{{- define "darkroom.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else if kindIs "slice" . }}{{ join "," . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end }}

{{/* In: a map of settings in the words of docs/settings.md. Out: entries of `env`. */}}
{{- define "darkroom.settings" -}}
{{- range $name, $value := . }}
- name: DARKROOM_{{ upper $name }}
  value: {{ include "darkroom.text" $value | quote }}
{{- end }}
{{- end }}

{{/* The Secret with the first admin key and the secret that signs links. */}}
{{- define "darkroom.keys" -}}
{{ .Values.keys.existingSecret | default (printf "%s-keys" (include "darkroom.fullname" .)) }}
{{- end }}

{{/* Whether the gateway keeps anything on a disk of its own; empty where Postgres and a store have all. */}}
{{- define "darkroom.keepsData" -}}
{{- $database := or .Values.database.existingSecret .Values.database.trial -}}
{{- if not (and $database (or .Values.storage.url .Values.storage.trial)) }}true{{ end -}}
{{- end }}

{{/* How many gateways there may be at a time. */}}
{{- define "darkroom.gateways" -}}
{{- $gateway := .Values.gateway -}}
{{- ternary $gateway.autoscaling.max $gateway.replicas $gateway.autoscaling.enabled | int -}}
{{- end }}
