{{/* What `services` of values.yaml says, with its defaults, as tracks: each is one Deployment with all that belongs to it. */}}

{{/* Ports, paths and protocol of each kind of server. */}}
{{- define "darkroom.kinds" -}}
darkroom:
  scheme: dns+http
  port: {name: http, number: 3000}
  ports: {http: 3000}
  ready: {httpGet: {path: /readyz, port: http}}
  live: {httpGet: {path: /livez, port: http}}
  metrics: {port: http, path: /metrics}
tensorflow-serving:
  scheme: dns+grpc
  port: {name: grpc, number: 8500}
  ports: {grpc: 8500, rest: 8501}
  live: {tcpSocket: {port: grpc}}
  metrics: {port: rest, path: /monitoring/prometheus/metrics}
iopaint:
  port: {name: http, number: 8080}
  ports: {http: 8080}
  ready: {httpGet: {path: /api/v1/model, port: http}}
  live: {tcpSocket: {port: http}}
{{- end }}

{{/* JSON list of tracks: an entry of `services` over `serviceDefaults`, with service, track, name, component, selector. */}}
{{- define "darkroom.tracks" -}}
{{- $root := . -}}
{{- $kinds := include "darkroom.kinds" . | fromYaml -}}
{{- $tracks := list -}}
{{- range $service, $entry := .Values.services -}}
{{- $stable := mergeOverwrite (deepCopy $root.Values.serviceDefaults) (deepCopy ($entry | default dict)) -}}
{{- if $stable.enabled -}}
{{- $canary := $stable.canary -}}
{{- $base := dict "service" $service "kindOf" (get $kinds $stable.kind) -}}
{{- $stable = merge $base $stable -}}
{{- $_ := unset $stable "canary" -}}
{{- if and $canary $canary.weight -}}
{{- $second := mergeOverwrite (deepCopy $stable) (omit $canary "weight") -}}
{{- if and (dig "image" "tag" "" $canary) (not (dig "image" "digest" "" $canary)) -}}
{{- $_ := set $second.image "digest" "" -}}
{{- end -}}
{{- $_ := set $second "autoscaling" (dict "kind" "none") -}}
{{- $_ := set $second "replicas" ($canary.replicas | default 1) -}}
{{- $_ := set $second "weight" $canary.weight -}}
{{- $tracks = append $tracks (merge (dict "track" "canary" "name" (printf "%s-%s-canary" (include "darkroom.fullname" $root) $service)) $second) -}}
{{- end -}}
{{- $tracks = append $tracks (merge (dict "track" "stable" "name" (printf "%s-%s" (include "darkroom.fullname" $root) $service)) $stable) -}}
{{- end -}}
{{- end -}}
{{- $tracks | toJson -}}
{{- end }}

{{/* In: root, track. */}}
{{- define "darkroom.trackLabels" -}}
{{ include "darkroom.labels" (dict "root" .root "component" .track.service "role" "service" "track" .track.track) }}
{{- end }}

{{- define "darkroom.trackSelector" -}}
{{ include "darkroom.selector" (dict "root" .root "component" .track.service "track" .track.track) }}
{{- end }}

{{/* DARKROOM_SERVICES: where the gateway finds each service, a canary with its weight. */}}
{{- define "darkroom.addresses" -}}
{{- $found := deepCopy .Values.gateway.otherServices -}}
{{- range $track := include "darkroom.tracks" . | fromJsonArray -}}
{{- if $track.kindOf.scheme -}}
{{- $address := printf "%s://%s-headless:%d" $track.kindOf.scheme $track.name (int $track.kindOf.port.number) -}}
{{- if eq $track.track "canary" -}}
{{- $address = printf "%s#track=canary&weight=%s" $address (toJson $track.weight) -}}
{{- end -}}
{{- range $service := prepend $track.also $track.service -}}
{{- $_ := set $found $service (append (get $found $service | default list) $address) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $found | toRawJson -}}
{{- end }}

{{/* JSON list of every model that an enabled service wants fetched. */}}
{{- define "darkroom.models" -}}
{{- $names := list -}}
{{- range include "darkroom.tracks" . | fromJsonArray }}{{ $names = concat $names .models }}{{ end -}}
{{- $names | uniq | sortAlpha | toJson -}}
{{- end }}

{{/* In: root, track. The rolling update: without a spare GPU the old pod goes first. */}}
{{- define "darkroom.strategy" -}}
{{- $spare := or (eq (int .track.gpu.count) 0) (ternary .root.Values.gpu.spare .track.gpu.spare (kindIs "invalid" .track.gpu.spare)) -}}
type: RollingUpdate
rollingUpdate: {{ ternary "{maxSurge: 1, maxUnavailable: 0}" "{maxSurge: 0, maxUnavailable: 1}" $spare }}
{{- end }}

{{/* In: root, track. Requests and limits, with the GPU among them. */}}
{{- define "darkroom.resources" -}}
{{- $resources := deepCopy .track.resources -}}
{{- if gt (int .track.gpu.count) 0 -}}
{{- $gpu := dict (.track.gpu.resource | default .root.Values.gpu.resource) (int .track.gpu.count) -}}
{{- $resources = mergeOverwrite $resources (dict "limits" $gpu "requests" $gpu) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end }}

{{/* In: root, track. Its own placement; a pod with a GPU takes what `gpu` says where it says nothing itself. */}}
{{- define "darkroom.trackPlace" -}}
{{- $place := pick .track "nodeSelector" "tolerations" "affinity" "priorityClassName" "runtimeClassName" "topologySpread" -}}
{{- if gt (int .track.gpu.count) 0 -}}
{{- $gpu := .root.Values.gpu -}}
{{- range $field := list "nodeSelector" "tolerations" "runtimeClassName" -}}
{{- if and (not (get $place $field)) (get $gpu $field) }}{{ $_ := set $place $field (get $gpu $field) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- include "darkroom.place" (dict "root" .root "place" $place "selector" (include "darkroom.trackSelector" .)) -}}
{{- end }}

{{/* In: root, track. PromQL: what its pods work on, what waits in the gateways' lines, and the jobs of the store, which every
gateway reports alike. A gateway that runs reports all three, so that nothing found means that nobody knows. */}}
{{- define "darkroom.demand" -}}
{{- $services := prepend .track.also .track.service | join "|" -}}
{{- $where := printf `{namespace="%s",service=~"%s"}` .root.Release.Namespace $services -}}
sum(darkroom_upstream_in_flight{{ $where }}) + sum(darkroom_upstream_waiting{{ $where }}) + sum(max by (service) (darkroom_jobs_queued{{ $where }}) or vector(0))
{{- end }}
