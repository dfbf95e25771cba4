"""Debian's PostgreSQL and Redis for tests: on free ports, in temporary folders, killed and restarted at will."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import asyncpg


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, seconds: float, name: str) -> None:
    until = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if time.monotonic() > until:
            raise RuntimeError(f"{name} did not start within {seconds:g} s")
        time.sleep(0.05)


class PostgresServer:
    """Debian's PostgreSQL, run as the user postgres because it refuses to run as root."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._data, self.port = binaries, folder / "data", free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._user = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        if self._user:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        self._run("initdb", "-D", str(self._data), "-U", "darkroom", "-A", "trust", "-E", "UTF8", "--no-sync")

    def _options(self) -> dict[str, Any]:
        who = (
            {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if self._user else {}
        )
        return {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": self._data.parent, **who}

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run([self._binaries / name, *arguments], check=True, timeout=60, **self._options())

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                self._binaries / "postgres",
                *("-D", str(self._data), "-p", str(self.port), "-h", "127.0.0.1", "-k", ""),
                *("-c", "max_connections=60", "-c", "shared_buffers=64MB"),
                # processes are killed here, machines are not: what the kernel has been given is safe, and a recovery
                # that synced each file of a hundred test databases would take minutes on a busy disk
                *("-c", "fsync=off", "-c", "full_page_writes=off"),
            ],
            **self._options(),
        )
        wait_for_port(self.port, 30, "PostgreSQL")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT is a fast shutdown, SIGQUIT an immediate one, which recovers at the next start."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def url(self, name: str = "postgres") -> str:
        return f"postgresql+asyncpg://darkroom@127.0.0.1:{self.port}/{name}"

    async def create(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        until = time.monotonic() + 20
        while True:
            try:
                connection = await asyncpg.connect(self.url().replace("+asyncpg", ""), timeout=5)
                break
            except (asyncpg.CannotConnectNowError, OSError):
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.1)
        try:
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()
        return self.url(name)


class RedisServer:
    """Debian's Redis, which keeps nothing on disk: killed, it has forgotten everything."""

    def __init__(self, binary: str, folder: Path) -> None:
        self._binary, self._folder, self.port = binary, folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                self._binary,
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
                self._folder,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_port(self.port, 10, "Redis")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(10)
            self._process = None
