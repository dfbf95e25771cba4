{{/* Small Postgres, Redis and MinIO for a trial: what they need to run. Data of worth belongs into kept ones, named by Secrets. */}}
{{- define "darkroom.trials" -}}
{{- $secret := printf "%s-trial" (include "darkroom.fullname" .) -}}
{{- if .Values.database.trial }}
postgres:
  user: 999
  port: 5432
  data: /var/lib/postgresql/data
  scratch: /var/run/postgresql
  probe: {exec: {command: [pg_isready, --username=darkroom, --dbname=darkroom]}}
  env:
    - {name: POSTGRES_USER, value: darkroom}
    - {name: POSTGRES_DB, value: darkroom}
    - {name: PGDATA, value: /var/lib/postgresql/data/pgdata}
    - {name: POSTGRES_PASSWORD, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: postgres-password}}}
{{- end }}
{{- if .Values.redis.trial }}
redis:
  user: 999
  port: 6379
  data: /data
  command: [redis-server, --dir, /data, --appendonly, "yes", --save, "", --requirepass, $(REDISCLI_AUTH)]
  probe: {exec: {command: [redis-cli, ping]}}
  env:
    - {name: REDISCLI_AUTH, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: redis-password}}}
{{- end }}
{{- if .Values.storage.trial }}
minio:
  user: 1000
  port: 9000
  data: /data
  # a folder at the top is a bucket
  command: [sh, -c, mkdir -p /data/darkroom && exec minio server /data --address :9000]
  probe: {httpGet: {path: /minio/health/ready, port: main}}
  env:
    - {name: HOME, value: /tmp}
    - {name: MINIO_ROOT_USER, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: access-key}}}
    - {name: MINIO_ROOT_PASSWORD, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: secret-key}}}
{{- end }}
{{- end }}
