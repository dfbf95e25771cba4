"""The one way to the database: connections for reading and writing come out, and failures as `Unavailable`.

SQLite runs in WAL mode with synchronous=NORMAL: what was committed survives the death of the process, kill -9
too; a power cut may take the last moments before it, but never damages the file. Who needs those too takes
PostgreSQL, where the server's own `synchronous_commit` decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson
from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    InvalidRequestError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from services.errors import Unavailable

if TYPE_CHECKING:
    from alembic.config import Config

log = logging.getLogger("darkroom.store")

STATEMENT_SECONDS = 10.0  # a statement, a connection, a place among the writers: none may take longer
MIGRATION_SECONDS = 600.0
WAIT_SECONDS = 60.0  # for another's migration; who starts us begins anew then
POOL_SIZE = 12
_MIGRATION_LOCK = 0x6461726B  # any number that nobody else locks in this database
_WRITES = "darkroom_writes"


class Database:
    """`url` is SQLAlchemy's: `sqlite+aiosqlite:///path` or `postgresql+asyncpg://...`."""

    def __init__(self, url: str) -> None:
        self.postgres = url.startswith("postgresql")
        try:
            self._engine = _postgres(url) if self.postgres else _sqlite(url)
        except (ArgumentError, InvalidRequestError, ValueError) as error:
            raise Unavailable(
                f"DARKROOM_DATABASE_URL cannot be used: {error}",
                help="Write postgresql://user:password@host/name.",
            ) from error
        self._reader = (
            self._engine.execution_options(isolation_level="AUTOCOMMIT") if self.postgres else self._engine
        )
        self._writer = self._engine.execution_options(**{_WRITES: True})
        # SQLite has one writer; a fair line in front of it is quicker than its own polling for the lock
        self._turn = asyncio.Lock()

    async def open(self, patience: float | None = None, *, migrate: bool = True) -> None:
        """Bring the schema up to date, under a lock, or wait until another has. A server that still starts is waited
        for."""
        if patience is None:
            patience = 15.0 if migrate else WAIT_SECONDS
        until = asyncio.get_running_loop().time() + patience
        told = False
        while True:
            try:
                await (self._migrate() if migrate else self._check_migrated())
                return
            except Unavailable as error:
                if not error.retryable or asyncio.get_running_loop().time() > until:
                    raise
                if isinstance(error, _Behind) and not told:
                    log.warning("waiting: %s %s", error.detail, error.what_to_do)
                    told = True
            await asyncio.sleep(0.3)

    async def close(self) -> None:
        await self._engine.dispose()

    async def ping(self) -> None:
        """Raises `Unavailable` where the database does not answer."""
        async with self.read() as conn:
            await conn.execute(text("SELECT 1"))

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose every statement sees what is committed when it starts."""
        with _translated():
            async with self._reader.connect() as conn:
                yield conn

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed at the end of the block, or rolled back by whatever leaves it."""
        with _translated():
            if self.postgres:
                async with self._writer.begin() as conn:
                    yield conn
                return
            async with asyncio.timeout(STATEMENT_SECONDS):
                await self._turn.acquire()
            try:
                async with self._writer.begin() as conn:
                    yield conn
            finally:
                self._turn.release()

    async def _migrate(self) -> None:
        with _translated():
            async with asyncio.timeout(MIGRATION_SECONDS), self._writer.begin() as conn:
                if self.postgres:
                    # the lock ends with the transaction; BEGIN IMMEDIATE is SQLite's
                    await conn.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _MIGRATION_LOCK})
                await conn.run_sync(upgrade)

    async def _check_migrated(self) -> None:
        async with self.read() as conn:
            await conn.run_sync(check)


def upgrade(connection: Connection) -> None:
    """Run the migrations that this database has not seen, within the transaction of `connection`."""
    from alembic import command  # a third of a second to import, and needed only here

    config = _alembic()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def check(connection: Connection) -> None:
    """Raises `Unavailable` where the schema is older than this code. A newer one is that of a release beside us."""
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_alembic())
    known = {script.revision for script in scripts.walk_revisions()}
    at = set(MigrationContext.configure(connection).get_current_heads())
    if not at or (at <= known and at != set(scripts.get_heads())):
        raise _Behind("The database's schema is not up to date.")


def _alembic() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _sqlite(url: str) -> AsyncEngine:
    if not url.startswith("sqlite+aiosqlite:"):
        raise ValueError("it must start with postgresql:// or sqlite+aiosqlite:///")
    if name := make_url(url).database:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=STATEMENT_SECONDS,
        connect_args={"timeout": STATEMENT_SECONDS},
        **_JSON,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, so that a writer can say IMMEDIATE
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={int(STATEMENT_SECONDS * 1000)}",
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "temp_store=MEMORY",
            "cache_size=-16000",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        # a reader needs no BEGIN: each of its statements is a snapshot of its own
        if connection.get_execution_options().get(_WRITES):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _postgres(url: str) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=STATEMENT_SECONDS,
        pool_pre_ping=True,  # after a restart of the server the first to notice is the pool, not a caller
        connect_args={
            "timeout": STATEMENT_SECONDS,
            "command_timeout": STATEMENT_SECONDS,
            # a plan made while a table was small must not outlive its smallness
            "server_settings": {"plan_cache_mode": "force_custom_plan", "application_name": "darkroom"},
        },
        **_JSON,
    )


_JSON: dict[str, Any] = {
    "json_serializer": lambda value: orjson.dumps(value).decode(),
    "json_deserializer": orjson.loads,
}


_HELP = (
    "Try again in a moment. If it stays: DARKROOM_DATABASE_URL names the database, without it it is in DARKROOM_DATA, "
    "which must be writable; `darkroom doctor` tries both."
)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (IntegrityError, ProgrammingError, DataError):
        raise  # a mistake of ours, not of the database
    except (
        DBAPIError,
        PoolTimeout,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        sqlite3.Error,
        OSError,
    ) as error:
        origin = getattr(error, "orig", None) or error
        driver = getattr(origin, "driver_exception", None) or origin  # what asyncpg itself raised
        reason = (str(driver).splitlines() or [type(driver).__name__])[0]
        if isinstance(driver, _REFUSALS):
            raise _Refused(f"The database refuses us: {reason}") from error
        raise Unavailable(f"The database does not answer: {reason}", retry_after=1, help=_HELP) from error


_HELP = (
    "Try again in a moment. If it stays: DARKROOM_DATABASE_URL names the database, else it lies in DARKROOM_DATA, "
    "which must be writable. `darkroom doctor` tries both."
)
_REFUSALS = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)


class _Behind(Unavailable):
    help = "`darkroom migrate` brings it up to date; DARKROOM_MIGRATE=start has the gateway do it itself."


class _Refused(Unavailable):
    help = "Check the user, password and name in DARKROOM_DATABASE_URL; `darkroom doctor` tries them."
    retryable = False
