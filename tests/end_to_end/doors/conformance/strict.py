"""A gateway with keys, whose services fail as they are told to: for what a stack that works and asks for no key cannot
show."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[4]
ADMIN = "an-admin-key-of-more-than-24-letters"
# the statuses with which the services of these operations refuse
FAILING = {"caption": 500, "rmbg": 503}


@dataclass(frozen=True)
class Strict:
    """Where it is, and keys."""

    url: str
    grpc: str
    user: str  # may use it
    rated: str  # may use it a thousand times a second
    slow: str  # once in two seconds


@contextmanager
def strict_gateway(begin_stack: Any, folder: Path) -> Iterator[Strict]:
    with ExitStack() as stack:
        services = {name: [stack.enter_context(_stub(name, status))] for name, status in FAILING.items()}
        started = begin_stack(folder, "gateway", admin_key=ADMIN, services=json.dumps(services))
        stack.callback(started.stop)
        started.wait(started.ready)
        with httpx.Client(base_url=started.url, headers={"x-api-key": ADMIN}) as admin:

            def key(**wanted: Any) -> str:
                answer = admin.post("/v1/admin/keys", json=wanted)
                assert answer.status_code == 201, answer.text
                return str(answer.json()["secret"])

            yield Strict(
                started.url,
                started.grpc,
                user=key(name="user"),
                rated=key(name="rated", rate=1000),
                slow=key(name="slow", rate=0.5),
            )


@contextmanager
def _stub(name: str, status: int) -> Iterator[str]:
    command = [sys.executable, "-m", "bench.stub", "--service", name, "--refuse", str(status)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait(10)
