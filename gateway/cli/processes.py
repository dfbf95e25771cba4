"""Child processes of `darkroom up`: each starts in a session of its own, is noted, and is stopped as a group.

In goes a `Spec`; out comes a `Child` with its note in `run/NAME.json` and its words in `logs/NAME.log`. The
note names the process by pid, start time and a token in its environment, so that what a killed supervisor
left behind can be told from a stranger that got the same pid.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from gateway.cli.console import USAGE, Stop

TOKEN = "DARKROOM_SUPERVISED"
KEPT_LOGS = 3
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Spec:
    """What to start: `ready` is asked again and again until it answers None, else it says what is missing."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    address: str
    ready: Callable[[], str | None]
    grace: float = 10.0  # seconds between SIGTERM and SIGKILL


@dataclass(slots=True)
class Child:
    """One running process and what the supervisor knows of it."""

    spec: Spec
    process: subprocess.Popen[bytes]
    started: float
    restarts: int = 0
    is_ready: bool = False
    waits_for: str = "starting"
    restart_at: float | None = None
    gave_up: bool = False
    seen: list[float] = field(default_factory=list)  # when it crashed

    @property
    def alive(self) -> bool:
        return self.process.poll() is None


def free_port() -> int:
    """A loopback port that nobody holds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_taken(host: str, port: int) -> bool:
    """Whether a server could not listen there now; a port in TIME_WAIT is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise Stop(
                    f"{host} is no address of this machine: set DARKROOM_HOST to one, such as 127.0.0.1 or 0.0.0.0.",
                    USAGE,
                ) from error
            if error.errno == errno.EACCES:
                raise Stop(f"Port {port} is not yours to take: set DARKROOM_PORT to 1024 or more.") from error
            return True
    return False


class Processes:
    """The children of one data folder, and their notes and logs."""

    def __init__(self, data: Path) -> None:
        self.run, self.logs = data / "run", data / "logs"
        self.run.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        self.token = secrets.token_hex(8)

    def start(self, spec: Spec, *, fresh_log: bool = True) -> Child:
        log = self.logs / f"{spec.name}.log"
        if fresh_log:
            _rotate(log)
        with log.open("ab") as sink:
            process = subprocess.Popen(
                list(spec.command),
                env={**spec.env, TOKEN: self.token},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )
        self._note(spec, process.pid)
        return Child(spec, process, time.monotonic())

    def _note(self, spec: Spec, pid: int) -> None:
        try:
            started = psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:
            started = 0.0  # it is dead already; the note then fits nobody
        note = {
            "name": spec.name,
            "pid": pid,
            "started": started,
            "token": self.token,
            "address": spec.address,
            "supervisor": os.getpid(),
        }
        path = self.run / f"{spec.name}.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(note, indent=1) + "\n")
        fresh.replace(path)

    def stop(self, children: Sequence[Child], hurry: Callable[[], bool]) -> list[str]:
        """SIGTERM to each, SIGKILL to the whole group of what outlives its grace; says who was killed."""
        killed = []
        for child in children:
            if child.alive:
                child.process.terminate()
        ends = {child.spec.name: time.monotonic() + child.spec.grace for child in children}
        for child in children:
            while child.alive and time.monotonic() < ends[child.spec.name] and not hurry():
                time.sleep(0.02)
            if child.alive:
                killed.append(child.spec.name)
            sweep(child.process.pid)
            child.process.wait()
            (self.run / f"{child.spec.name}.json").unlink(missing_ok=True)
        return killed

    def clean_stale(self) -> list[str]:
        """End what a killed supervisor left behind: only processes that a note here really describes."""
        cleaned = []
        for path in sorted(self.run.glob("*.json")):
            try:
                note = json.loads(path.read_text())
                left = list(_described(int(note["pid"]), float(note["started"]), str(note["token"])))
            except (ValueError, KeyError, TypeError):
                left = []  # a note that was cut off in writing describes nobody
            for process in left:
                process.kill()
            if left:
                psutil.wait_procs(left, timeout=5)
                cleaned.append(path.stem)
            path.unlink(missing_ok=True)
        return cleaned

    def last_words(self, name: str, lines: int = 8) -> list[str]:
        """The end of its log."""
        log = self.logs / f"{name}.log"
        if not log.exists():
            return []
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            written = file.read().decode(errors="replace").splitlines()
        return [_sentence(line) for line in written[-lines:]]


def _sentence(line: str) -> str:
    """What a person needs of a log line: of a JSON one its message, and of a traceback in there the end."""
    try:
        return str(json.loads(line)["message"]).strip().splitlines()[-1]
    except (ValueError, KeyError, TypeError, IndexError):
        return line


def noted(data: Path) -> list[dict[str, Any]]:
    """The notes of a data folder, as they are."""
    found = []
    for path in sorted((data / "run").glob("*.json")):
        try:
            note = json.loads(path.read_text())
        except (OSError, ValueError):
            continue  # it goes away just now
        if isinstance(note, dict) and {"name", "address"} <= set(note):
            found.append(note)
    return found


def sweep(group: int) -> None:
    """SIGKILL to everything that is still in a child's session, its workers too."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # nobody is left (macOS says EPERM for a group of zombies)


def _described(pid: int, started: float, token: str) -> Iterator[psutil.Process]:
    """The noted process itself, and members of its session that carry the note's token."""
    for process in psutil.process_iter():
        try:
            if process.pid == pid:
                if abs(process.create_time() - started) < 0.05:
                    yield process
            elif os.getsid(process.pid) == pid and process.environ().get(TOKEN) == token:
                yield process
        except (psutil.Error, ProcessLookupError, PermissionError):
            continue  # it went away meanwhile, or is another user's and so not ours


def make_was_interrupted() -> bool:
    """Whether our parent is a make that got SIGINT for itself alone: it then waits for us and tells us nothing.

    A terminal's Ctrl-C reaches us directly. What a program sends to make does not; but while make waits, it blocks
    SIGINT and has ceased to catch it, and Linux shows that.
    """
    try:
        status = Path(f"/proc/{os.getppid()}/status").read_text()
    except OSError:
        return False
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    if fields.get("Name") not in ("make", "gmake"):
        return False
    sigint = 1 << (signal.SIGINT - 1)
    return bool(int(fields["SigBlk"], 16) & sigint) and not int(fields["SigCgt"], 16) & sigint


def _die_with_parent() -> Callable[[], None] | None:
    """On Linux a child gets SIGTERM when the supervisor dies, however it dies."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the request was in
            os._exit(1)

    return ask


def _rotate(log: Path) -> None:
    """x.log becomes x.log.1, and so on; the oldest goes."""
    for age in range(KEPT_LOGS, 0, -1):
        older = log.with_name(f"{log.name}.{age}")
        newer = log.with_name(f"{log.name}.{age - 1}") if age > 1 else log
        if newer.exists():
            newer.replace(older)
