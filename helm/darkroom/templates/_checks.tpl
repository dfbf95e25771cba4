{{/* What the schema cannot say in a sentence: values that do not fit together. Renders nothing, or fails. */}}

{{- define "darkroom.check" -}}
{{- include "darkroom.checkState" . -}}
{{- include "darkroom.checkServices" . -}}
{{- include "darkroom.checkModels" . -}}
{{- include "darkroom.checkDoors" . -}}
{{- end }}

{{- define "darkroom.checkState" -}}
{{- range $what := list "database" "redis" "storage" -}}
{{- $of := get $.Values $what -}}
{{- if and $of.trial (or $of.existingSecret $of.url) -}}
{{- fail (printf "%s: choose one: %s.trial starts a small server in the release, %s names one that exists. Unset the other." $what $what (ternary "storage.url" (printf "%s.existingSecret" $what) (eq $what "storage"))) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.storage.existingSecret (not .Values.storage.url) -}}
{{- fail "storage.existingSecret has the keys of a store, but storage.url does not say which: set storage.url to s3://bucket/prefix." -}}
{{- end -}}
{{- if gt (include "darkroom.gateways" . | int) 1 -}}
{{- $missing := list -}}
{{- range $what := list "database" "redis" "storage" -}}
{{- $of := get $.Values $what -}}
{{- if not (or $of.trial $of.existingSecret $of.url) }}{{ $missing = append $missing $what }}{{ end -}}
{{- end -}}
{{- if $missing -}}
{{- fail (printf "%s gateways need what they share, and %s is not given: name an existing one, or set trial, for each." (include "darkroom.gateways" .) (join ", " $missing)) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "darkroom.checkServices" -}}
{{- $tracks := include "darkroom.tracks" . | fromJsonArray -}}
{{- if not (or $tracks .Values.gateway.otherServices) -}}
{{- fail "services: none is enabled, so that the gateway could do nothing." -}}
{{- end -}}
{{- $by := dict -}}
{{- range $track := $tracks -}}
{{- $at := printf "services.%s" $track.service -}}
{{- if eq $track.track "stable" -}}
{{- range $service := prepend $track.also $track.service -}}
{{- if hasKey $by $service -}}
{{- fail (printf "services: %s is performed by %s and by %s. Take it out of `also`, or disable one of the two." $service (get $by $service) $track.service) -}}
{{- end -}}
{{- $_ := set $by $service $track.service -}}
{{- end -}}
{{- end -}}
{{- if not $track.image.repository -}}
{{- fail (printf "%s.image.repository: say which image performs it." $at) -}}
{{- end -}}
{{- if and (eq $track.kind "tensorflow-serving") (ne $track.service "pix2pix") -}}
{{- fail (printf "%s.kind: TensorFlow Serving performs pix2pix alone." $at) -}}
{{- end -}}
{{- if and (eq $track.autoscaling.kind "keda") (not $.Values.keda.prometheus) -}}
{{- fail (printf "%s.autoscaling.kind is keda, which asks Prometheus for the queue's depth: set keda.prometheus to its address." $at) -}}
{{- end -}}
{{- if gt (int $track.autoscaling.min) (int $track.autoscaling.max) -}}
{{- fail (printf "%s.autoscaling: min is above max." $at) -}}
{{- end -}}
{{- if and (eq $track.autoscaling.kind "hpa") (lt (int $track.autoscaling.min) 1) -}}
{{- fail (printf "%s.autoscaling.min: only keda scales to zero; hpa needs at least 1." $at) -}}
{{- end -}}
{{- with $track.iopaint -}}
{{- $other := get $.Values.services . | default dict -}}
{{- if not (and $other (eq ($other.kind | default "") "iopaint") (ne (toString $other.enabled) "false")) -}}
{{- fail (printf "%s.iopaint: services has no enabled entry %q of the kind iopaint." $at .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "darkroom.checkModels" -}}
{{- $cache := .Values.models.cache -}}
{{- $models := include "darkroom.models" . | fromJsonArray -}}
{{- if and $models (eq $cache.kind "none") -}}
{{- fail (printf "services name models to fetch (%s), but models.cache.kind is none: set it to claim, emptyDir, hostPath or image." (join ", " $models)) -}}
{{- end -}}
{{- if eq $cache.kind "image" -}}
{{- if not $cache.image.reference }}{{ fail "models.cache.image.reference: name the image that holds the models." }}{{ end -}}
{{- if semverCompare "<1.31.0-0" .Capabilities.KubeVersion.Version -}}
{{- fail (printf "models.cache.kind is image, which Kubernetes has since 1.31; this is %s." .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "darkroom.checkDoors" -}}
{{- $gateway := .Values.gateway -}}
{{- if and $gateway.ingress.enabled (not $gateway.ingress.hosts) -}}
{{- fail "gateway.ingress.hosts: name at least one host." -}}
{{- end -}}
{{- if and $gateway.httpRoute.enabled (not $gateway.httpRoute.parentRefs) -}}
{{- fail "gateway.httpRoute.parentRefs: name the Gateway that the route belongs to." -}}
{{- end -}}
{{- range $door, $on := dict "grpc" $gateway.grpc "inference" $gateway.inference -}}
{{- with get $gateway.grpcRoutes $door -}}
{{- if and .enabled (not .parentRefs) -}}
{{- fail (printf "gateway.grpcRoutes.%s.parentRefs: name the Gateway that the route belongs to." $door) -}}
{{- end -}}
{{- if and .enabled (not $on) -}}
{{- fail (printf "gateway.grpcRoutes.%s leads to a door that gateway.%s closes." $door $door) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
