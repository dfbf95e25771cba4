"""The container images: how large they are and of what, how soon one is ready and has stopped (the drain's lead is
in that), what memory it takes.

    python -m bench.images [NAME ...]

`make images` has to have built them. One container runs at a time, with two cores and OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from urllib.error import URLError
from urllib.request import urlopen

READY = {"gateway": ":8080/healthz", "pix2pix": ":8501/v1/models/creatures/metadata"}
NAMES = ["gateway", "rmbg", "cleanup", "portrait", "caption", "diffusion", "pix2pix"]
PATIENCE = 300.0
NETWORK = "darkroom-bench"


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def parts(image: str) -> tuple[float, float, float, float]:
    """Megabytes in all, of the base, of the packages, of this project's code and models."""
    whole = int(docker("image", "inspect", "--format", "{{.Size}}", image)) / 1e6
    lines = docker("history", "--no-trunc", "--human=false", "--format", "{{.Size}}\t{{.CreatedBy}}", image)
    sizes = {"/opt/venv": 0.0, "/opt/darkroom": 0.0}
    for line in lines.splitlines():
        size, _, made = line.partition("\t")
        for folder in sizes:
            if f"COPY {folder} {folder}" in made:
                sizes[folder] = int(size) / 1e6
    packages, code = sizes.values()
    return whole, whole - packages - code, packages, code


def ready(url: str) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            urlopen(url, timeout=2).close()
            return
        except (URLError, OSError):
            time.sleep(0.02)
    raise SystemExit(f"{url} was not ready within {PATIENCE:g} s")


def life(name: str, image: str) -> tuple[float, float, float]:
    """Seconds to be ready and to stop, and megabytes of memory between the two."""
    told = {"DARKROOM_ADMIN_KEY": "dk_bench-admin-key-0123456789abcdef", "OMP_NUM_THREADS": "1"}
    environment = [part for key, value in told.items() for part in ("--env", f"{key}={value}")]
    container = docker(
        *("create", "--network", NETWORK, "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
        *("--no-healthcheck", "--cpus", str(min(2, os.cpu_count() or 1))),
        *("--tmpfs", "/var/lib/darkroom:uid=10001,gid=10001", *environment, image),
    )
    try:
        began = time.monotonic()
        docker("start", container)
        address = docker(
            "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container
        )
        ready(f"http://{address}{READY.get(name, ':3000/readyz')}")
        start = time.monotonic() - began
        used = json.loads(docker("stats", "--no-stream", "--format", "{{json .}}", container))["MemUsage"]
        began = time.monotonic()
        docker("stop", "--time", "50", container)
        stop = time.monotonic() - began
        code = docker("inspect", "--format", "{{.State.ExitCode}}", container)
        if code != "0":
            raise SystemExit(f"{image} ended with {code}: {docker('logs', '--tail', '20', container)}")
        return start, stop, megabytes(used.split("/")[0].strip())
    finally:
        docker("rm", "--force", "--volumes", container)


def megabytes(told: str) -> float:
    number = float(told.rstrip("KMGiB"))
    return number * {"K": 0.001024, "M": 1.048576, "G": 1073.741824}.get(told.lstrip("0123456789.")[0], 1e-6)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.images", description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, help="the images; all if none is named")
    parser.add_argument("--version", default="0.1.0")
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| image | MB | base | packages | code, models | ready, s | memory, MB | stopped, s |")
    print("|---|---|---|---|---|---|---|---|")
    docker("network", "create", "--internal", NETWORK)
    try:
        for name in given.names:
            image = f"darkroom/{name}:{given.version}"
            sizes = " | ".join(f"{size:.0f}" for size in parts(image))
            start, stop, memory = life(name, image)
            print(f"| {name} | {sizes} | {start:.1f} | {memory:.0f} | {stop:.1f} |", flush=True)
    finally:
        docker("network", "rm", NETWORK)


if __name__ == "__main__":
    main()
