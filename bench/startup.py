"""How long until the first picture: a fresh clone with a warm package cache, the second start, the gateway alone.

    python -m bench.startup [--skip-fresh] [--only-gateway]

The first figure runs `make up` in a `git clone` of this repository's last commit, with whatever pip has cached; it
ends with the first picture's last byte. The other two use the environment that the clone then has.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from bench.load import form
from bench.processes import ROOT, free_port, running

PATIENCE = 900.0
WITHOUT_GRPC = {"DARKROOM_GRPC_PORT": "0", "DARKROOM_INFERENCE_PORT": "0"}


def environment(data: Path, port: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    return kept | {"DARKROOM_DATA": str(data), "DARKROOM_PORT": str(port)}


@contextmanager
def started(command: list[str], folder: Path, data: Path, port: int) -> Iterator[float]:
    """`command`, ended by Ctrl-C after the block; gives the time at which it began."""
    with (data.parent / "said").open("ab") as said:
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(data, port),
            stdout=said,
            stderr=said,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield began
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)


def answers(port: int, path: str = "/readyz") -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            urlopen(f"http://127.0.0.1:{port}{path}", timeout=2).close()
            return
        except (URLError, OSError):
            time.sleep(0.02)
    raise SystemExit(f"nothing was ready within {PATIENCE:g} s")


def first_picture(port: int) -> int:
    photo = sorted((ROOT / "docs" / "samples").glob("*.jpg"))[0].read_bytes()
    asked = form({"image": photo}, "/v1/remove-background")
    request = Request(f"http://127.0.0.1:{port}{asked.path}", asked.body, asked.headers)
    with urlopen(request, timeout=120) as answer:
        return len(answer.read())


def alone(python: str, data: Path, port: int, more: dict[str, str]) -> float:
    began = time.monotonic()
    given = environment(data, port) | more
    with running([python, "-m", "gateway"], core=None, port=port, environment=given):
        answers(port)
        return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.startup", description=__doc__)
    parser.add_argument(
        "--skip-fresh", action="store_true", help="use this environment instead of a fresh one"
    )
    parser.add_argument("--only-gateway", action="store_true", help="start nothing but the gateway")
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="darkroom-startup-") as name:
        folder, port = Path(name), free_port()
        clone, data = folder / "clone", folder / "data"
        up = [str(Path(sys.executable).with_name("darkroom")), "up"]
        if not given.skip_fresh and not given.only_gateway:
            subprocess.run(["git", "clone", "--quiet", "--depth", "1", f"file://{ROOT}", clone], check=True)
            up = ["make", "--no-print-directory", "up"]
            with started(up, clone, data, port) as began:
                answers(port)
                ready = time.monotonic() - began
                size = first_picture(port)
                took = time.monotonic() - began
            print(
                f"  make up in a fresh clone, warm package cache   ready {ready:6.1f} s   first picture {took:6.1f} s"
            )
            assert size > 0
        where = clone if clone.exists() else folder
        for turn in () if given.only_gateway else ("second", "third"):
            with started(up, where, data, port) as began:
                answers(port)
                ready = time.monotonic() - began
                first_picture(port)
                took = time.monotonic() - began
            print(
                f"  the {turn} make up                             ready {ready:6.1f} s   first picture {took:6.1f} s"
            )
        python = str(clone / ".venv/bin/python") if clone.exists() else sys.executable
        for what, more in (("", {}), (", without gRPC", WITHOUT_GRPC)):
            taken = sorted(alone(python, data, port, more) for _ in range(5))
            print(f"  the gateway alone{what:<29} ready {taken[2]:6.2f} s (median of 5)")


if __name__ == "__main__":
    main()
