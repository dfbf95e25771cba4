{{/* Parts of the NetworkPolicies. */}}

{{/* In: root, component or role. Pods of this release. */}}
{{- define "darkroom.pods" -}}
podSelector:
  matchLabels:
    app.kubernetes.io/name: darkroom
    app.kubernetes.io/instance: {{ .root.Release.Name }}
    {{- with .component }}
    app.kubernetes.io/component: {{ . }}
    {{- end }}
    {{- with .role }}
    darkroom/role: {{ . }}
    {{- end }}
{{- end }}

{{/* In: cidrs, port. A server outside of the chart; without cidrs wherever it is. */}}
{{- define "darkroom.outside" -}}
{{- if .cidrs }}
- to: {{ range .cidrs }}{{ printf "\n    - ipBlock: {cidr: %s}" . }}{{ end }}
  ports: [{port: {{ .port }}, protocol: TCP}]
{{- else }}
- ports: [{port: {{ .port }}, protocol: TCP}]
{{- end }}
{{- end }}

{{/* In: root, ports. The public internet, and nothing private. */}}
{{- define "darkroom.internet" -}}
- to:
    - ipBlock: {cidr: 0.0.0.0/0, except: {{ toJson .root.Values.networkPolicy.privateV4 }}}
    - ipBlock: {cidr: "::/0", except: {{ toJson .root.Values.networkPolicy.privateV6 }}}
  ports: {{ .ports }}
{{- end }}

{{- define "darkroom.telemetryEgress" -}}
{{- with .Values.telemetry }}
{{- if .endpoint }}
- to: {{- toYaml .peers | nindent 4 }}
  ports: [{port: {{ .port }}, protocol: TCP}]
{{- end }}
{{- end }}
{{- end }}

{{/* In: root, port. Prometheus. */}}
{{- define "darkroom.scraped" -}}
{{- if .root.Values.monitoring.enabled }}
- from: {{- toYaml .root.Values.monitoring.peers | nindent 4 }}
  ports: [{port: {{ .port }}, protocol: TCP}]
{{- end }}
{{- end }}
