{{/* TensorFlow Serving's files, in its protos' text form, and the arguments that name them. */}}

{{/* In: a track. JSON list; nothing where the image's own configuration serves. */}}
{{- define "darkroom.tfArguments" -}}
{{- if and (eq .kind "tensorflow-serving") .tensorflowServing.models -}}
{{- list "--model_config_file=/config/models.config" "--model_config_file_poll_wait_seconds=60" "--allow_version_labels_for_unavailable_models=true" "--enable_batching=true" "--batching_parameters_file=/config/batching.config" "--monitoring_config_file=/config/monitoring.config" | toJson -}}
{{- else }}[]{{ end -}}
{{- end }}

{{/* In: tensorflowServing. The data of its ConfigMap. */}}
{{- define "darkroom.tfConfig" -}}
models.config: |
  {{- include "darkroom.tfModels" .models | nindent 2 }}
batching.config: |
  max_batch_size { value: {{ .batching.maxBatchSize }} }
  batch_timeout_micros { value: {{ .batching.timeoutMicros }} }
  max_enqueued_batches { value: {{ .batching.maxEnqueued }} }
  {{- with .batching.threads }}
  num_batch_threads { value: {{ . }} }
  {{- end }}
monitoring.config: |
  prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }
{{- end }}

{{- define "darkroom.tfModels" -}}
model_config_list {
{{- range $name, $model := . }}
  config {
    name: {{ $name | quote }}
    base_path: {{ $model.basePath | quote }}
    model_platform: "tensorflow"
    {{- with $model.versions }}
    model_version_policy {
      specific {
        {{- range . }}
        versions: {{ . }}
        {{- end }}
      }
    }
    {{- end }}
    {{- range $label, $version := $model.labels }}
    version_labels {
      key: {{ $label | quote }}
      value: {{ $version }}
    }
    {{- end }}
  }
{{- end }}
}
{{- end }}
