"""The database: one schema on both engines, durable writes, and failures that say what they are."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, func, insert, select, text
from sqlalchemy.exc import IntegrityError

from gateway.store.database import Database
from gateway.store.tables import lines, metadata
from services.errors import Unavailable

pytestmark = pytest.mark.anyio


async def _count(db: Database) -> int:
    async with db.read() as conn:
        return int((await conn.execute(select(func.count()).select_from(lines))).scalar_one())


def _line(name: str) -> dict[str, Any]:
    return {"service": name, "clock": 0.0, "queued": 0}


async def test_migrations_give_the_schema_that_the_tables_describe(database: Database) -> None:
    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    async with database.write() as conn:
        assert await conn.run_sync(differences) == []


async def test_the_conditions_of_partial_indexes_are_those_of_the_tables(database: Database) -> None:
    expected = {
        index.name
        for table in metadata.tables.values()
        for index in table.indexes
        if index.dialect_options["sqlite"]["where"] is not None
    }
    query = (
        "SELECT indexname FROM pg_indexes WHERE indexdef LIKE '% WHERE %'"
        if database.postgres
        else "SELECT name FROM sqlite_master WHERE type = 'index' AND sql LIKE '% WHERE %'"
    )
    async with database.read() as conn:
        assert set((await conn.execute(text(query))).scalars()) == expected


async def test_several_gateways_that_start_together_migrate_once(database_url: str) -> None:
    several = [Database(database_url) for _ in range(4)]
    await asyncio.gather(*(db.open() for db in several))
    assert await _count(several[3]) == 0
    await asyncio.gather(*(db.close() for db in several))


async def test_what_a_block_wrote_is_gone_when_it_fails(database: Database) -> None:
    with pytest.raises(RuntimeError, match="on purpose"):
        async with database.write() as conn:
            await conn.execute(insert(lines), _line("a"))
            raise RuntimeError("on purpose")
    assert await _count(database) == 0


async def test_a_broken_rule_is_our_mistake_and_not_an_outage(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.write() as conn:
            await conn.execute(insert(lines), _line("a"))
            await conn.execute(insert(lines), _line("a"))


async def test_a_hundred_writers_at_once_all_succeed(database: Database) -> None:
    async def write(number: int) -> None:
        async with database.write() as conn:
            await conn.execute(insert(lines), _line(f"s{number}"))

    await asyncio.gather(*(write(number) for number in range(100)))
    assert await _count(database) == 100


async def test_a_cancelled_writer_holds_up_nobody(database: Database) -> None:
    async def hang() -> None:
        async with database.write() as conn:
            await conn.execute(insert(lines), _line("lost"))
            await asyncio.sleep(60)

    task = asyncio.create_task(hang())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.write() as conn:
        await conn.execute(insert(lines), _line("kept"))
    assert await _count(database) == 1


def test_what_was_committed_survives_kill_9(tmp_path: Path) -> None:
    script = f"""
        import asyncio, os, signal
        from sqlalchemy import insert
        from gateway.store.database import Database
        from gateway.store.tables import lines

        async def main():
            db = Database("sqlite+aiosqlite:///{tmp_path}/d.db")
            await db.open()
            async with db.write() as conn:
                await conn.execute(insert(lines), {{"service": "a", "clock": 0.0, "queued": 0}})
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], timeout=60)
    assert ended.returncode == -signal.SIGKILL

    async def look() -> int:
        db = Database(f"sqlite+aiosqlite:///{tmp_path}/d.db")
        try:
            return await _count(db)
        finally:
            await db.close()

    assert asyncio.run(look()) == 1


@pytest.mark.postgres
async def test_after_a_restart_of_postgres_the_same_database_object_works_again(postgres: Any) -> None:
    db = Database(await postgres.create())
    await db.open()
    await asyncio.gather(*(_count(db) for _ in range(8)))
    await asyncio.to_thread(postgres.stop, signal.SIGQUIT)
    with pytest.raises(Unavailable):
        await _count(db)
    await asyncio.to_thread(postgres.start)
    await db.open(patience=60)  # waits until it has recovered, on a busy disk too
    async with db.write() as conn:
        await conn.execute(insert(lines), _line("a"))
    assert await asyncio.gather(*(_count(db) for _ in range(8))) == [1] * 8
    await db.close()


@pytest.mark.parametrize("url", ["mysql://x", "sqlite:///x", "nonsense", "postgresql+asyncpg://host:port/x"])
def test_an_address_that_cannot_be_used_says_so(url: str) -> None:
    with pytest.raises(Unavailable, match="DARKROOM_DATABASE_URL"):
        Database(url)


async def test_a_server_that_is_not_there_is_reported_within_the_patience() -> None:
    db = Database("postgresql+asyncpg://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable, match="does not answer"):
        await db.open(patience=0.5)
    await db.close()


@pytest.mark.postgres
async def test_a_database_that_does_not_exist_is_not_waited_for(postgres: Any) -> None:
    db = Database(postgres.url("no_such_database"))
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable, match=r"refuses us.*no_such_database"):
            await db.open(patience=60)
    await db.close()


async def test_a_gateway_that_waits_starts_when_another_has_migrated(database_url: str) -> None:
    waiting, migrating = Database(database_url), Database(database_url)
    opened = asyncio.create_task(waiting.open(patience=20, migrate=False))
    try:
        done, _ = await asyncio.wait([opened], timeout=1)
        assert not done
        await migrating.open()
        await asyncio.wait_for(opened, 5)
        assert await _count(waiting) == 0
    finally:
        opened.cancel()
        await waiting.close()
        await migrating.close()


async def test_who_waits_in_vain_for_a_migration_says_what_to_do(database_url: str) -> None:
    database = Database(database_url)
    try:
        with pytest.raises(Unavailable, match="not up to date") as refused:
            await database.open(patience=0.1, migrate=False)
        assert "darkroom migrate" in refused.value.what_to_do
    finally:
        await database.close()


async def test_a_schema_of_a_newer_release_is_none_to_wait_for(database_url: str) -> None:
    """While a release is rolled out its migration has run and the gateways before it still start."""
    database = Database(database_url)
    try:
        await database.open()
        async with database.write() as conn:
            await conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        await database.open(patience=1, migrate=False)
    finally:
        await database.close()
