{{/* The models' folder: its volume, how a service mounts it, and what fills it or waits for it. */}}

{{- define "darkroom.modelVolume" -}}
{{- $cache := .Values.models.cache -}}
- name: models
  {{- if eq $cache.kind "claim" }}
  persistentVolumeClaim: {claimName: {{ $cache.claim.existing | default (printf "%s-models" (include "darkroom.fullname" .)) }}}
  {{- else if eq $cache.kind "hostPath" }}
  hostPath: {path: {{ $cache.hostPath }}, type: Directory}
  {{- else if eq $cache.kind "image" }}
  image: {{- $cache.image | toYaml | nindent 4 }}
  {{- else }}
  emptyDir: {sizeLimit: {{ $cache.sizeLimit | quote }}}
  {{- end }}
{{- end }}

{{/* What `darkroom models` reads: where the folder is, which hub, and its token. */}}
{{- define "darkroom.hubEnv" -}}
{{- $hub := .Values.models.hub -}}
- {name: HOME, value: /tmp}
- {name: DARKROOM_MODELS_PATH, value: /models}
{{- with $hub.url }}
- {name: DARKROOM_HUB, value: {{ . | quote }}}
{{- end }}
{{- if $hub.existingSecret }}
- name: DARKROOM_HUB_TOKEN
  valueFrom: {secretKeyRef: {name: {{ $hub.existingSecret }}, key: {{ $hub.key }}}}
{{- end }}
{{- end }}

{{/* In: root, verb (pull or wait), models. A container of the gateway's image, which has the command. */}}
{{- define "darkroom.modelContainer" -}}
- name: models
  image: {{ include "darkroom.image" (dict "root" .root "image" .root.Values.gateway.image) }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: [darkroom, models, {{ .verb }}]
  args: {{ toJson .models }}
  env: {{- include "darkroom.hubEnv" .root | nindent 4 }}
  securityContext: {{- include "darkroom.containerSecurity" . | nindent 4 }}
  resources: {{- toYaml .root.Values.models.resources | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: models, mountPath: /models{{ if eq .verb "wait" }}, readOnly: true{{ end }}}
{{- end }}

{{/* In: root, track. Whether the pod itself fetches its models, for want of a folder that all share. */}}
{{- define "darkroom.pullsItself" -}}
{{- if and .track.models (has .root.Values.models.cache.kind (list "emptyDir" "hostPath")) }}true{{ end -}}
{{- end }}

{{/* In: root, track. In front of a service: wait for the Job that fills the shared folder, or fill one's own. */}}
{{- define "darkroom.modelInit" -}}
{{- $kind := .root.Values.models.cache.kind -}}
{{- if and .track.models (ne $kind "image") }}
initContainers:
  {{- $verb := ternary "pull" "wait" (eq "true" (include "darkroom.pullsItself" .)) }}
  {{- include "darkroom.modelContainer" (dict "root" .root "verb" $verb "models" .track.models) | nindent 2 }}
{{- end }}
{{- end }}
