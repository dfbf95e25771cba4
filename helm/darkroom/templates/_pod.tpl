{{/* Parts of every pod: who it runs as, where it may run, how it ends. */}}

{{/* In: root, optional user and group. `restricted` of the Pod Security Standards. */}}
{{- define "darkroom.podSecurity" -}}
runAsNonRoot: true
{{- if .root.Values.securityContext.fixedIds }}
runAsUser: {{ .user | default 10001 }}
runAsGroup: {{ .user | default 10001 }}
fsGroup: {{ .user | default 10001 }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "darkroom.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* In: root, account. The head of every pod's spec. Service links would set variables named DARKROOM_*, as settings are. */}}
{{- define "darkroom.podHead" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .account }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- include "darkroom.podSecurity" . | nindent 2 }}
{{- end }}

{{/* In: root, place (nodeSelector, tolerations ...), selector (of the pods, for the spread). */}}
{{- define "darkroom.place" -}}
{{- with .place.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .place.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .place.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .place.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .place.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .place.topologySpread }}
topologySpreadConstraints:
  {{- range . }}
  - {{ merge (dict "labelSelector" (dict "matchLabels" ($.selector | fromYaml))) . | toYaml | nindent 4 | trim }}
  {{- end }}
{{- end }}
{{- end }}

{{/* In: drain, name. Seconds from the end's announcement to the kill: everybody forgets the pod, what runs finishes, the longest
step after that ends, and five for the process itself. */}}
{{- define "darkroom.grace" -}}
{{- $needed := add .drain.preStop .drain.lead .drain.seconds .drain.step 5 | int -}}
{{- if and .drain.grace (lt (int .drain.grace) $needed) -}}
{{- fail (printf "%s: drain.grace is %d seconds, but drain.preStop (%d), drain.lead (%d), drain.seconds (%d), drain.step (%d) and 5 for the process need %d: raise drain.grace, or set it to 0 to have it computed." .name (int .drain.grace) (int .drain.preStop) (int .drain.lead) (int .drain.seconds) (int .drain.step) $needed) -}}
{{- end -}}
{{- .drain.grace | default $needed | int -}}
{{- end }}

{{/* In: seconds. While it sleeps the process serves on, and the pod leaves its Services. */}}
{{- define "darkroom.preStop" -}}
preStop:
  exec: {command: [sleep, {{ . | quote }}]}
{{- end }}

{{- define "darkroom.tmp" -}}
- name: tmp
  emptyDir: {sizeLimit: {{ . | quote }}}
{{- end }}
