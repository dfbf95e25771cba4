"""Processes of a benchmark: started on a core, waited for, looked at, and ended again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
TICK = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Running:
    process: subprocess.Popen[bytes]
    port: int
    log: IO[bytes] | None = None

    @property
    def said(self) -> str:
        """What it wrote so far."""
        assert self.log is not None
        return os.pread(self.log.fileno(), 2**24, 0).decode(errors="replace")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _family(self) -> list[int]:
        pids, at = [self.process.pid], 0
        while at < len(pids):
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pids[at]}/task").iterdir():
                    pids += [int(child) for child in (task / "children").read_text().split()]
            at += 1
        return pids

    def cpu_seconds(self) -> float:
        """User and system time of the process and its children."""
        total = 0
        for pid in self._family():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
        return total / TICK

    def resident(self) -> int:
        """Bytes of memory that are its own (and its children's), as a person watching would count them."""
        total = 0
        for pid in self._family():
            with contextlib.suppress(OSError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return total


@contextlib.contextmanager
def running(
    command: list[str],
    *,
    core: int | None,
    port: int,
    environment: Mapping[str, str] | None = None,
    patience: float = 30,
) -> Iterator[Running]:
    """`command` on one core, until the block ends; it must listen on `port`."""
    pinned = ["taskset", "-c", str(core)] if core is not None and shutil.which("taskset") else []
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [*pinned, *command],
            cwd=ROOT,
            env={"DARKROOM_DRAIN_LEAD": "0", **os.environ, **(environment or {})},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            until = time.monotonic() + patience
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
                    break
                if process.poll() is not None or time.monotonic() > until:
                    said.seek(0)
                    sys.stderr.write(said.read().decode(errors="replace")[-4000:])
                    raise RuntimeError(f"{' '.join(command)} did not start")
                time.sleep(0.05)
            yield Running(process, port, said)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
