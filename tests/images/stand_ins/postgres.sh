#!/bin/sh
# As the official image does: a cluster with its password and database at the first start, then the server.
set -eu
data=/var/lib/postgresql/data/cluster
if [ ! -f "$data/PG_VERSION" ]; then
    echo "$POSTGRES_PASSWORD" > /tmp/password
    initdb --pgdata="$data" --username="$POSTGRES_USER" --pwfile=/tmp/password --auth=scram-sha-256 --encoding=UTF8
    rm /tmp/password
    echo "CREATE DATABASE $POSTGRES_DB;" | postgres --single -D "$data" postgres
    echo "host all all all scram-sha-256" >> "$data/pg_hba.conf"
fi
exec postgres -D "$data" -c listen_addresses='*' -c unix_socket_directories=/tmp
