#!/bin/sh
# dependencies.sh EXTRA [OPTION ...]: what an extra of pyproject.toml needs, in /opt/venv, and the list of it in /sbom.
# OPTIONs go to pip. Neither pip nor anything else that builds is in that environment.
set -eu
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
extra=$1
shift
cd /src

python3 /build/requirements.py pyproject.toml "$extra" > /tmp/requirements.txt
python3 -m venv --without-pip /opt/venv
python3 -m pip --python /opt/venv/bin/python3 install --prefer-binary "$@" \
    ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -r /tmp/requirements.txt

# left out: what only C++ programs built against a package would read, the packages' own tests, symbols for debuggers
site=$(/opt/venv/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
rm -rf "$site"/torch/include "$site"/torch/share/cmake "$site"/torch/bin/protoc* "$site"/torch/lib/*.a \
    "$site"/torch/test "$site"/torch/bin/*[Tt]est*
find "$site" -type d -name tests -prune -exec rm -rf {} +
command -v strip > /dev/null || { apt-get update && apt-get install --yes --no-install-recommends binutils; }
python3 /build/strip.py "$site"

python3 -m venv /tmp/sbom
/tmp/sbom/bin/pip install --quiet "cyclonedx-bom>=7,<8"
mkdir /sbom
/tmp/sbom/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml --mc-type application \
    --output-file /sbom/python.cdx.json /opt/venv/bin/python3
