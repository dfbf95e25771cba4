"""Docker for tests: the command, running containers, and compose's topology with stand-ins for a registry's images.

A container's own address is reachable from the machine that runs it, so nothing here needs a published port.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
VERSION = os.environ.get("VERSION", "0.1.0")
SERVERS = "darkroom-test/servers"
START = 240.0  # seconds, on a machine that has other things to do


def image(name: str) -> str:
    return f"{os.environ.get('REGISTRY', '')}darkroom/{name}:{VERSION}"


def docker(
    *arguments: str, env: dict[str, str] | None = None, seconds: float = 300, check: bool = True
) -> str:
    """What `docker ARGUMENTS` says; where it fails, its words are the error."""
    done = subprocess.run(
        ["docker", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | (env or {}),
        timeout=seconds,
        check=False,
    )
    if check and done.returncode:
        raise RuntimeError(f"docker {' '.join(arguments)}: {done.stderr[-3000:]}")
    return done.stdout.strip()


def inspect(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("inspect", name))[0]
    return found


def addresses(name: str) -> dict[str, str]:
    """A container's address in each network."""
    networks = inspect(name)["NetworkSettings"]["Networks"]
    return {network: told["IPAddress"] for network, told in networks.items()}


def until(holds: Callable[[], Any], seconds: float, what: str) -> Any:
    end = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(0.1)
    return found


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@dataclass
class Composed:
    """compose.yaml, running."""

    project: str
    files: list[str]
    env: dict[str, str] = field(default_factory=dict)

    def compose(self, *arguments: str, seconds: float = 600, check: bool = True) -> str:
        files = [argument for file in self.files for argument in ("--file", file)]
        return docker(
            "compose",
            "--project-name",
            self.project,
            *files,
            *arguments,
            env=self.env,
            seconds=seconds,
            check=check,
        )

    def container(self, service: str) -> str:
        return f"{self.project}-{service}-1"

    def address(self, service: str, network: str) -> str:
        return addresses(self.container(service))[f"{self.project}_{network}"]

    @property
    def url(self) -> str:
        return f"http://{self.address('gateway', 'front')}:8080"

    def client(self, seconds: float = 180) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.env['ADMIN_KEY']}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=seconds)


@contextmanager
def composed(project: str, env: dict[str, str]) -> Iterator[Composed]:
    drawn = subprocess.run(
        [ROOT / "docker" / "make-env.sh"], capture_output=True, text=True, check=True
    ).stdout
    secrets = dict(line.split("=", 1) for line in drawn.splitlines() if line[:1].isupper())
    files = [str(ROOT / "docker" / "compose.yaml"), str(Path(__file__).with_name("stand-ins.yaml"))]
    made = Composed(project, files, secrets | env)
    try:
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "10", check=False)
