#!/bin/sh
# code.sh [WEIGHTS ...]: this project's code from /src into /opt/darkroom, beside /opt/venv, which finds it there.
# Of the weights in the repository only the folders that are named stay: an image holds what its service loads.
set -eu
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
cd /src

python3 -m pip --python /opt/venv/bin/python3 install --quiet --no-deps --target /opt/darkroom .
[ -d gateway ] || rm -rf /opt/darkroom/bin  # the command is the gateway's
/opt/venv/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))' | while read -r site; do
    echo /opt/darkroom > "$site/darkroom.pth"
done

cd /opt/darkroom
mkdir /tmp/kept
for folder in "$@"; do
    mkdir -p "/tmp/kept/$(dirname "$folder")"
    mv "$folder" "/tmp/kept/$folder"
done
rm -rf services/*/weights tf_serving/models
cp -a /tmp/kept/. .
