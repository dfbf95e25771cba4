"""Real servers for the tests of the gateway: PostgreSQL and Redis on free ports, in a temporary folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from gateway.settings import Settings
from gateway.store.database import Database


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PostgresServer:
    """Debian's PostgreSQL, run as the user postgres because it refuses to run as root."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._data, self.port = binaries, folder / "data", free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._user = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        if self._user:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        self._run("initdb", "-D", str(self._data), "-U", "darkroom", "-A", "trust", "-E", "UTF8", "--no-sync")

    def _options(self) -> dict[str, object]:
        who = (
            {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if self._user else {}
        )
        return {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": self._data.parent, **who}

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run([self._binaries / name, *arguments], check=True, timeout=60, **self._options())  # type: ignore[call-overload]

    def start(self) -> None:
        self._process = subprocess.Popen(  # type: ignore[call-overload]
            [
                self._binaries / "postgres",
                *("-D", str(self._data), "-p", str(self.port), "-h", "127.0.0.1", "-k", ""),
                *("-c", "max_connections=60", "-c", "shared_buffers=64MB"),
            ],
            **self._options(),
        )
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if time.monotonic() > until:
                raise RuntimeError("PostgreSQL did not start within 30 s")
            time.sleep(0.05)

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


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="darkroom-postgres-"))
    server = PostgresServer(found[-1].parent, folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("Redis is not installed: apt-get install redis-server")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="darkroom-redis-") as folder:
        process = subprocess.Popen(
            [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
        process.terminate()
        process.wait(10)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'darkroom.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return await server.create()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open, migrated database; every test that uses it runs on SQLite and on PostgreSQL."""
    db = Database(database_url)
    await db.open()
    yield db
    await db.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path, lease=0.5, job_attempts=3, _env_file=None)  # type: ignore[call-arg]
