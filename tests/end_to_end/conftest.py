"""The whole embedded profile, started once by `darkroom up` as a person would, for every end-to-end test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import pytest

DARKROOM = Path(sys.executable).with_name("darkroom")
START_SECONDS = 60.0
STOP_SECONDS = 45.0


@dataclass
class Stack:
    """A supervisor and all that it started."""

    port: int
    data: Path
    process: subprocess.Popen[bytes]
    env: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        """What the supervisor printed so far."""
        return (self.data / "up.out").read_text()

    def ready(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def wait(self, holds: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Until something holds; what the processes said is in the failure."""
        until = time.monotonic() + seconds
        while not holds():
            if self.process.poll() is not None or time.monotonic() > until:
                logs = [
                    f"── {log.name}\n{log.read_text()[-2000:]}" for log in (self.data / "logs").glob("*.log")
                ]
                state = f"the supervisor's exit code is {self.process.poll()}"
                pytest.fail("\n".join([f"It did not come to hold; {state}.", self.said, *logs]))
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """The exit code of the supervisor."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


Start = Callable[..., Stack]


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_stack(data: Path, *only: str, port: int | None = None, **settings: str) -> Stack:
    """`darkroom up` in a session of its own; `settings` are DARKROOM_* variables without their prefix."""
    port = port or unused_port()
    data.mkdir(parents=True, exist_ok=True)
    mine = {"DARKROOM_HOST", "DARKROOM_PORT", "DARKROOM_DATA", "DARKROOM_URL", "DARKROOM_KEY"}
    env = {name: value for name, value in os.environ.items() if name not in mine}
    env |= {"DARKROOM_PORT": str(port), "DARKROOM_DATA": str(data), "DARKROOM_METRICS_PORT": "0"}
    env |= {f"DARKROOM_{name.upper()}": value for name, value in settings.items()}
    with (data / "up.out").open("wb") as sink:
        process = subprocess.Popen(
            [DARKROOM, "up", *only],
            env=env,
            cwd=data,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Stack(port, data, process, env)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Gateway and services, ready; shared by all, so leave it as you found it."""
    started = start_stack(tmp_path_factory.mktemp("darkroom"))
    try:
        started.wait(lambda: "Darkroom is ready" in started.said)
        yield started
    finally:
        started.stop()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts stacks of a test's own, and stops what it left running."""
    started: list[Stack] = []

    def begin(*only: str, data: Path | None = None, port: int | None = None, **settings: str) -> Stack:
        stack = start_stack(data or tmp_path / "data", *only, port=port, **settings)
        started.append(stack)
        return stack

    yield begin
    for stack in started:
        stack.stop()
