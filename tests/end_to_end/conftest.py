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
START_SECONDS = 110.0  # PyTorch takes its time on a busy machine
STOP_SECONDS = 45.0


@dataclass
class Stack:
    """A supervisor and all that it started."""

    port: int
    data: Path
    process: subprocess.Popen[bytes]
    env: dict[str, str] = field(default_factory=dict)

    @property
    def grpc(self) -> str:
        """Where its gRPC is."""
        return f"127.0.0.1:{self.env['DARKROOM_GRPC_PORT']}"

    @property
    def inference(self) -> str:
        """Where the Open Inference Protocol's gRPC is."""
        return f"127.0.0.1:{self.env['DARKROOM_INFERENCE_PORT']}"

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


def start_stack(
    data: Path, *only: str, port: int | None = None, also: dict[str, str] | None = None, **settings: str
) -> Stack:
    """`darkroom up` in a session of its own; `settings` are DARKROOM_* variables without their prefix."""
    port = port or unused_port()
    data.mkdir(parents=True, exist_ok=True)
    mine = {"DARKROOM_HOST", "DARKROOM_PORT", "DARKROOM_DATA", "DARKROOM_URL", "DARKROOM_KEY"}
    env = {name: value for name, value in os.environ.items() if name not in mine}
    env |= {"DARKROOM_PORT": str(port), "DARKROOM_DATA": str(data), "DARKROOM_METRICS_PORT": "0"}
    env |= {"DARKROOM_GRPC_PORT": str(unused_port()), "DARKROOM_INFERENCE_PORT": str(unused_port())}
    env |= {f"DARKROOM_{name.upper()}": value for name, value in settings.items()} | (also or {})
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


@pytest.fixture(scope="session")
def begin_stack() -> Start:
    """For fixtures that share a stack of their own settings; they stop it themselves."""
    return start_stack


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts stacks of a test's own, and stops what it left running."""
    started: list[Stack] = []

    def begin(
        *only: str,
        data: Path | None = None,
        port: int | None = None,
        also: dict[str, str] | None = None,
        **settings: str,
    ) -> Stack:
        stack = start_stack(data or tmp_path / "data", *only, port=port, also=also, **settings)
        started.append(stack)
        return stack

    yield begin
    for stack in started:
        stack.stop()


# ── a toy service, quick and telling: each result shows the number that its job was given ─────────────────────

TOY_OPERATIONS = '''
from pydantic import Field

from services.operations import Operation
from services.pictures import Picture


class Stamp(Operation, service="toy"):
    """Paint a number, after some steps."""

    image: Picture
    number: int = Field(0, ge=0, lt=65536)
    steps: int = Field(2, ge=0, le=10000)
    pause: float = Field(0.05, ge=0, le=60, description="Seconds a step.")
'''
TOY_SERVICE = """
from PIL import Image

from services.serving import Service


class ToyService(Service):
    def stamp(self, ask, job):
        for step in range(ask.steps):
            job.progress(step + 1, ask.steps)
            job.sleep(ask.pause)
        if ask.steps:
            job.check()
        return Image.new("RGB", (8, 8), (ask.number >> 8, ask.number & 255, 77))
"""


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which every process knows the operation `stamp` and the service `toy`."""
    folder = tmp_path_factory.mktemp("extension")
    package = folder / "toybox"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "operations.py").write_text(TOY_OPERATIONS)
    (package / "service.py").write_text(TOY_SERVICE)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return {"DARKROOM_EXTENSIONS": "toybox", "PYTHONPATH": path}


@dataclass
class Process:
    """A gateway or a service started by itself, as a cluster starts it."""

    name: str
    port: int
    command: list[str]
    env: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def said(self) -> str:
        return self.log.read_text()

    def begin(self, seconds: float = START_SECONDS) -> Process:
        """Started, and answering on its port."""
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                self.command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        path = "/readyz" if self.name.startswith("gateway") else "/darkroom/v1/describe"
        until = time.monotonic() + seconds
        while self.get(path)[0] == 0:
            if self.process.poll() is not None or time.monotonic() > until:
                pytest.fail(f"{self.name} did not start:\n{self.said[-3000:]}")
            time.sleep(0.05)
        return self

    def get(self, path: str) -> tuple[int, str]:
        """Status (0: nobody answers) and body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def signal(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(how)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL, and until the process is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


Launch = Callable[..., Process]


@pytest.fixture
def launch(tmp_path: Path, toy: dict[str, str]) -> Iterator[Launch]:
    """`launch("gateway", data=..., ...)` and `launch("toy", ...)`: single processes; further arguments are settings."""
    launched: list[Process] = []

    def begin(name: str, *, port: int | None = None, begun: bool = True, **settings: str) -> Process:
        port = port or unused_port()
        command = [sys.executable, "-m"]
        command += (
            ["gateway"] if name.startswith("gateway") else ["services.serve", name, "--port", str(port)]
        )
        log = tmp_path / f"{name}-{port}.log"
        env = {key: value for key, value in os.environ.items() if not key.startswith("DARKROOM_")} | toy
        env |= {"DARKROOM_PORT": str(port), "DARKROOM_DATA": str(tmp_path / f"{name}-{port}")}
        env |= {"DARKROOM_GRPC_PORT": "0", "DARKROOM_INFERENCE_PORT": "0"}
        env |= {"DARKROOM_DRAIN_LEAD": "0"}  # who asks for a lead waits for it
        env |= {f"DARKROOM_{key.upper()}": value for key, value in settings.items()}
        made = Process(name, port, command, env, log)
        launched.append(made)
        return made.begin() if begun else made

    yield begin
    for process in launched:
        process.kill()
