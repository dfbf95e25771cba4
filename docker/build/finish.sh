#!/bin/sh
# The last stage's part that is the same everywhere: the user that runs it, and the base's own pip taken away.
set -eu
groupadd --gid 10001 darkroom
useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin darkroom
rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/ensurepip \
    /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/site-packages/setuptools* \
    /usr/local/lib/python3*/site-packages/wheel*
install -d -o 10001 -g 10001 /models
for folder in "$@"; do
    install -d -o 10001 -g 10001 "$folder"
done
