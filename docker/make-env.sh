#!/bin/sh
# make-env.sh > docker/.env: compose.env.example with a secret drawn for each line that has none.
set -eu
umask 077
while IFS= read -r line; do
    case $line in
        ADMIN_KEY=) echo "ADMIN_KEY=dk_$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" ;;
        [A-Z]*=) echo "$line$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" ;;
        *) echo "$line" ;;
    esac
done < "$(dirname "$0")/compose.env.example"
