"""Services for the tests: a toy one on a thread, the real ones as processes."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from PIL import Image

from services.frames import Event, FrameDecoder
from services.operations import OPERATIONS, Operation
from services.serving import Service, ServiceApp
from services.settings import ServiceSettings

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Answer:
    """What a service said: a problem, or its frames."""

    status: int
    problem: dict[str, Any] = field(default_factory=dict)
    frames: list[tuple[Event, bytes]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def kinds(self) -> list[str]:
        return [event.kind for event, _ in self.frames]

    @property
    def error(self) -> dict[str, Any]:
        """The problem, wherever it came."""
        if self.problem:
            return self.problem
        last = self.frames[-1][0]
        found: dict[str, Any] = last["problem"] if last.kind == "error" else {}
        return found

    @property
    def done(self) -> Event:
        assert self.kinds()[-1] == "done", self.error
        return self.frames[-1][0]

    def picture(self, at: int = 0) -> Image.Image:
        assert self.done
        bodies = [body for event, body in self.frames if event.kind == "result"]
        return Image.open(io.BytesIO(bodies[at]))


class Caller:
    """Speaks to a service as the gateway does."""

    def __init__(self, url: str, operations: dict[str, type[Operation]]) -> None:
        self.url = url
        self.operations = operations
        self.http = httpx.Client(timeout=60)

    def request(
        self, operation: str, fields: dict[str, Any], pictures: dict[str, bytes], headers: dict[str, str]
    ) -> dict[str, Any]:
        ask = fields | {name: f"part:{name}" for name in pictures}
        parts = [("ask", (None, json.dumps(ask), "application/json"))]
        parts += [(name, (name, data, "application/octet-stream")) for name, data in pictures.items()]  # type: ignore[misc]
        sent = {"x-request-id": "a-test", "x-darkroom-timeout": "30"}
        if operation in self.operations:
            sent["x-darkroom-schema"] = self.operations[operation].digest()
        return {
            "method": "POST",
            "url": f"{self.url}/darkroom/v1/run/{operation}",
            "files": parts,
            "headers": sent | headers,
        }

    def run(
        self,
        operation: str,
        fields: dict[str, Any] | None = None,
        pictures: dict[str, bytes] | None = None,
        **headers: str,
    ) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.http.request(**self.request(operation, fields or {}, pictures or {}, named))
        if response.status_code != 200:
            return Answer(response.status_code, problem=response.json(), headers=dict(response.headers))
        return Answer(200, frames=read_frames(response.content), headers=dict(response.headers))

    def describe(self) -> dict[str, Any]:
        described: dict[str, Any] = self.http.get(f"{self.url}/darkroom/v1/describe").json()
        return described

    def wait(self, until: Callable[[dict[str, Any]], bool], seconds: float = 20) -> dict[str, Any]:
        """Until `describe` is as wanted."""
        end = time.monotonic() + seconds
        said: dict[str, Any] = {}
        while time.monotonic() < end:
            try:
                said = self.describe()
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if until(said):
                return said
            time.sleep(0.02)
        raise AssertionError(f"never came to be: {said}")


def read_frames(content: bytes) -> list[tuple[Event, bytes]]:
    found: list[tuple[Event, bytes]] = []
    for item in FrameDecoder().feed(content):
        if isinstance(item, Event):
            found.append((item, b""))
        else:
            found[-1] = (found[-1][0], found[-1][1] + bytes(item))
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(
    kind: type[Service], settings: ServiceSettings | None = None
) -> Iterator[tuple[Caller, ServiceApp]]:
    """A service's ASGI app on a thread of this process."""
    app = ServiceApp(kind, settings or ServiceSettings(capacity=2), catalogue=[])
    server = uvicorn.Server(
        uvicorn.Config(app.asgi, port=(port := free_port()), log_level="error", lifespan="on")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    caller = Caller(f"http://127.0.0.1:{port}", app.operations)
    try:
        caller.wait(lambda said: said["service"] == app.name)
        yield caller, app
    finally:
        app.stop_work()
        caller.http.close()
        server.should_exit = True
        thread.join(10)


@contextmanager
def process(name: str, **environment: str) -> Iterator[tuple[Caller, subprocess.Popen[bytes]]]:
    """`python -m services.serve NAME`, ready."""
    port = free_port()
    started = subprocess.Popen(
        [sys.executable, "-m", "services.serve", name, "--port", str(port)],
        cwd=ROOT,
        env=os.environ | {"DARKROOM_DRAIN_LEAD": "0"} | environment,
        stderr=subprocess.PIPE,
    )
    caller = Caller(f"http://127.0.0.1:{port}", OPERATIONS)
    try:
        caller.wait(lambda said: bool(said["ready"]))
        yield caller, started
    finally:
        caller.http.close()
        if started.poll() is None:
            started.send_signal(signal.SIGTERM)
            started.wait(10)
        if started.stderr is not None:
            started.stderr.close()


@pytest.fixture(scope="session")
def cleanup() -> Iterator[Caller]:
    with process("cleanup") as (caller, _):
        yield caller


@pytest.fixture(scope="session")
def rmbg() -> Iterator[Caller]:
    with process("rmbg") as (caller, _):
        yield caller


@pytest.fixture(scope="session")
def start_service() -> Callable[..., Any]:
    return process


@pytest.fixture(scope="session")
def serve_toy() -> Callable[..., Any]:
    return serving


@pytest.fixture(scope="session")
def frames_of() -> Callable[[bytes], list[tuple[Event, bytes]]]:
    return read_frames
