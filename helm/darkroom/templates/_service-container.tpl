{{/* In: root, track. The one container of a service's pod, without its name, and the volumes that it mounts. */}}

{{- define "darkroom.serviceContainer" -}}
{{- $track := .track -}}
{{- $kind := $track.kindOf -}}
image: {{ include "darkroom.image" (dict "root" .root "image" $track.image "gpu" $track.gpu.count) }}
imagePullPolicy: {{ $track.image.pullPolicy | default .root.Values.image.pullPolicy }}
{{- with concat $track.args (include "darkroom.tfArguments" $track | fromJsonArray) }}
args: {{ toJson . }}
{{- end }}
env: {{- include "darkroom.serviceEnv" . | nindent 2 }}
ports:
  {{- range $name, $number := $kind.ports }}
  - {name: {{ $name }}, containerPort: {{ $number }}}
  {{- end }}
startupProbe:
  {{- toYaml (include "darkroom.readyProbe" $track | fromYaml) | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: {{ div (add $track.startupSeconds 4) 5 }}
readinessProbe:
  {{- toYaml (include "darkroom.readyProbe" $track | fromYaml) | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
livenessProbe:
  {{- toYaml $kind.live | nindent 2 }}
  periodSeconds: 15
  timeoutSeconds: 10
  failureThreshold: 4
lifecycle: {{- include "darkroom.preStop" (ternary $track.drain.preStop (add $track.drain.preStop $track.drain.lead) (eq $track.kind "darkroom")) | nindent 2 }}
securityContext: {{- include "darkroom.containerSecurity" . | nindent 2 }}
resources: {{- include "darkroom.resources" . | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- include "darkroom.serviceMounts" . | nindent 2 }}
{{- end }}

{{/* In: a track. TensorFlow Serving says over REST what its first model is doing. */}}
{{- define "darkroom.readyProbe" -}}
{{- if eq .kind "tensorflow-serving" -}}
httpGet: {path: /v1/models/{{ keys .tensorflowServing.models | sortAlpha | first | default "creatures" }}, port: rest}
{{- else -}}
{{ toYaml .kindOf.ready }}
{{- end -}}
{{- end }}

{{- define "darkroom.serviceEnv" -}}
{{- $track := .track -}}
- {name: HOME, value: /tmp}
{{- if eq $track.kind "darkroom" }}
- {name: SERVICE, value: {{ $track.service }}}
- {name: DARKROOM_MODELS_PATH, value: /models}
- {name: DARKROOM_DRAIN_LEAD, value: {{ $track.drain.lead | quote }}}
- {name: DARKROOM_DRAIN, value: {{ $track.drain.seconds | quote }}}
{{- with .root.Values.telemetry.endpoint }}
- {name: DARKROOM_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- with $track.iopaint }}
- {name: DARKROOM_IOPAINT_URL, value: "http://{{ include "darkroom.fullname" $.root }}-{{ . }}:8080"}
{{- end }}
{{- include "darkroom.settings" $track.settings }}
{{- end }}
{{- with $track.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Whether there is a folder of models for this kind of server. */}}
{{- define "darkroom.hasModels" -}}
{{- if or (ne .root.Values.models.cache.kind "none") (eq .track.kind "iopaint") }}true{{ end -}}
{{- end }}

{{- define "darkroom.serviceMounts" -}}
{{- if include "darkroom.hasModels" . }}
- {name: models, mountPath: /models{{ if ne .track.kind "iopaint" }}, readOnly: true{{ end }}}
{{- end }}
{{- if .track.tensorflowServing.models }}
- {name: config, mountPath: /config, readOnly: true}
{{- end }}
{{- with .track.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "darkroom.serviceVolumes" -}}
{{- if eq .track.kind "iopaint" }}
- name: models
  emptyDir: {sizeLimit: {{ .root.Values.models.cache.sizeLimit | quote }}}
{{- else if include "darkroom.hasModels" . }}
{{ include "darkroom.modelVolume" .root }}
{{- end }}
{{- if .track.tensorflowServing.models }}
- name: config
  configMap: {name: {{ .track.name }}-config}
{{- end }}
{{- with .track.volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
