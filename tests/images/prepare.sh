#!/bin/sh
# prepare.sh [FOLDER]: from a bare Debian 12 to `make images-test`, where no registry of images can be reached.
# As root. It installs and starts an engine where none runs, fetches the plugins `buildx` and `compose`, makes the two
# bases that stand for python:3.11-slim-bookworm, and opens pip's way to its packages for builds. Packages come from where
# this machine's apt and pip have them. What stands already is left alone. At the end FOLDER/env has the variables:
#
#   tests/images/prepare.sh /var/tmp/darkroom-images
#   . /var/tmp/darkroom-images/env && make images-test
#   tests/images/prepare.sh --stop /var/tmp/darkroom-images    ends what it started
#
# BASE and BUILDER give the bases other names, REMAKE=1 makes them anew.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

end() { # a process whose number a file holds
    [ -f "$1" ] || return 0
    kill "$(cat "$1")" 2> /dev/null || true
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
        kill -0 "$(cat "$1")" 2> /dev/null || break
        sleep 1
    done
    rm -f "$1"
}

if [ "${1:-}" = --stop ]; then
    folder=${2:-/var/tmp/darkroom-images}
    end "$folder/pip.pid"
    end "$folder/engine.pid"
    exit
fi
case ${1:-} in -*) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2 ;; esac
[ "$(id -u)" = 0 ] || { echo "this script installs packages and starts an engine: run it as root" >&2; exit 1; }
folder=${1:-/var/tmp/darkroom-images}
base=${BASE:-darkroom-test/python:bookworm}
builder=${BUILDER:-darkroom-test/python:bookworm-build}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
export DOCKER_CONFIG="${DOCKER_CONFIG:-$folder/docker}"

say() { echo "── $*" >&2; }
await() { # PROCESS COMMAND...: until it succeeds, for a minute, as long as the process lives that is to bring it about
    process=$1 left=60
    shift
    until "$@" > /dev/null 2>&1; do
        left=$((left - 1))
        kill -0 "$process" 2> /dev/null || { "$@" > /dev/null 2>&1 && return; left=0; }
        [ "$left" -gt 0 ] || { echo "$*: still fails" >&2; return 1; }
        sleep 1
    done
}

# ── an engine ───────────────────────────────────────────────────────────────────────────────────────────────────────
apt() { DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@" > "$folder/apt.log" 2>&1; }
missing=
command -v docker > /dev/null && command -v dockerd > /dev/null || missing="$missing docker.io"
command -v mmdebstrap > /dev/null || missing="$missing mmdebstrap"
command -v python3 > /dev/null || missing="$missing python3"
if [ -n "$missing" ]; then
    say "installing$missing"
    apt-get update > "$folder/apt.log" 2>&1
    apt $missing || { tail "$folder/apt.log" >&2; exit 1; }
fi
if ! docker info > /dev/null 2>&1; then
    start() {
        say "starting an engine: dockerd $*; $folder/engine.log"
        nohup dockerd "$@" > "$folder/engine.log" 2>&1 &
        echo $! > "$folder/engine.pid"
        await $! docker info
    }
    start --storage-driver=overlay2 || {
        say "it does not start with a bridge and iptables, so without: its networks are not kept apart, which a test then says"
        end "$folder/engine.pid"
        start --storage-driver=overlay2 --bridge=none --iptables=false --ip-masq=false || { tail "$folder/engine.log" >&2; exit 1; }
    }
fi

# ── its plugins, which Debian has since 13 ──────────────────────────────────────────────────────────────────────────
mirror_of() { apt-get indextargets --format '$(REPO_URI)' "Codename: $1" 'Component: main' 'Created-By: Packages' | head -n 1; }
mirror=$(mirror_of bookworm)
[ -n "$mirror" ] || { apt-get update > "$folder/apt.log" 2>&1; mirror=$(mirror_of bookworm); }
[ -n "$mirror" ] || { echo "apt knows of no Debian 12 (bookworm): this script is for it" >&2; exit 1; }
plugin() { # NAME PACKAGE
    docker "$1" version > /dev/null 2>&1 && return
    say "fetching $2"
    own="$folder/trixie"
    mkdir -p "$own/lists/partial" "$own/cache/archives/partial" "$DOCKER_CONFIG/cli-plugins"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" > "$own/sources.list"
    set -- "$1" "$2" -o Dir::Etc::SourceList="$own/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$own/lists" -o Dir::Cache="$own/cache"
    name=$1 package=$2
    shift 2
    apt-get "$@" update > "$folder/apt.log" 2>&1 || { tail "$folder/apt.log" >&2; exit 1; }
    (cd "$own" && apt-get "$@" -o APT::Sandbox::User=root download "$package" > "$folder/apt.log" 2>&1) || { tail "$folder/apt.log" >&2; exit 1; }
    dpkg-deb --fsys-tarfile "$own/$package"_*.deb | tar --extract --to-stdout --wildcards "*/cli-plugins/docker-$name" > "$own/plugin"
    install -m 755 "$own/plugin" "$DOCKER_CONFIG/cli-plugins/docker-$name"
    docker "$name" version > /dev/null || { echo "docker $name does not run" >&2; exit 1; }
}
plugin buildx docker-buildx
plugin compose docker-compose

# ── the bases: Debian's Python 3.11 and what python:3.11-slim leaves out left out; the builder has pip and strip too ──────
make_base() { # NAME PACKAGES
    [ -z "${REMAKE:-}" ] && docker image inspect "$1" > /dev/null 2>&1 && return
    say "making $1"
    mmdebstrap --quiet --variant=minbase --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --aptopt='Apt::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/lintian/*' \
        --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/var/cache/debconf/*-old "$1"/var/log/*.log' \
        --include="$2" bookworm "$folder/base.tar" "$mirror" > "$folder/base.log" 2>&1 || { tail "$folder/base.log" >&2; exit 1; }
    docker import --change 'CMD ["python3"]' "$folder/base.tar" "$1" > /dev/null
    rm "$folder/base.tar"
}
make_base "$base" usr-is-merged,python3,ca-certificates
make_base "$builder" usr-is-merged,python3,python3-venv,python3-pip,ca-certificates,binutils

# ── pip's way ───────────────────────────────────────────────────────────────────────────────────────────────────────
end "$folder/pip.pid"
rm -f "$folder/pip.conf"
nohup python3 "$here/pip_for_builds.py" "$folder/pip.conf" > "$folder/pip.log" 2>&1 &
echo $! > "$folder/pip.pid"
await $! test -s "$folder/pip.conf" || { cat "$folder/pip.log" >&2; exit 1; }

certificates=$(sed -n 's/^# certificates: //p' "$folder/pip.conf")
{
    echo "export DOCKER_CONFIG='$DOCKER_CONFIG' BASE='$base' BUILDER='$builder' NETWORK=host"
    echo "export PIP_CONF='$folder/pip.conf' CA_CERTS='$certificates'"
    # PyTorch's own index, where it cannot be reached, costs minutes of retries: pip has its wheels from elsewhere
    getent hosts download.pytorch.org > /dev/null || echo "export TORCH_CPU_INDEX="
} > "$folder/env"
say "next: . $folder/env && make images-test"
