"""Limits: the rate in memory and in Redis, the quota in SQL, what is counted."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from gateway.callers import Caller
from gateway.limits import Limits
from gateway.metrics import Metrics
from gateway.settings import Settings
from gateway.store.database import Database
from services.errors import QuotaExceeded, RateLimited

pytestmark = pytest.mark.anyio

# most of it is the same on any store, and a new database on PostgreSQL takes a second
both = pytest.mark.parametrize(
    "database_url", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)


@pytest.fixture
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if getattr(request, "param", "sqlite") == "postgres":
        return str(await request.getfixturevalue("postgres").create())
    return f"sqlite+aiosqlite:///{tmp_path / 'darkroom.db'}"


def settings(folder: Path, **given: object) -> Settings:
    return Settings(data=folder, _env_file=None, **given)  # type: ignore[arg-type]


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    db = Database(f"sqlite+aiosqlite:///{tmp_path / 'limits.db'}")
    await db.open()
    yield db
    await db.close()


@pytest.fixture
def redis_process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A Redis of its own, because the test stops it."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("Redis is not installed: apt-get install redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.02)
    yield process, f"redis://127.0.0.1:{port}/0"
    os.kill(process.pid, signal.SIGCONT)
    process.terminate()
    process.wait(10)


async def granted(limits: Limits, caller: Caller, times: int) -> int:
    count = 0
    for _ in range(times):
        try:
            await limits.admit(caller)
            count += 1
        except RateLimited:
            pass
    return count


async def test_a_key_without_a_rate_is_never_limited_and_gets_no_headers(
    sqlite: Database, tmp_path: Path
) -> None:
    limits = Limits(sqlite, settings(tmp_path))
    for _ in range(1000):
        assert await limits.admit(Caller("k", "k")) is None


async def test_a_rate_lets_a_burst_of_one_second_through_and_then_refills(
    sqlite: Database, tmp_path: Path
) -> None:
    limits, caller = Limits(sqlite, settings(tmp_path)), Caller("k", "k", rate=10)
    assert await granted(limits, caller, 30) == 10
    with pytest.raises(RateLimited) as caught:
        await limits.admit(caller)
    assert 0 < (caught.value.retry_after or 0) <= 0.1
    await asyncio.sleep(0.25)
    assert await granted(limits, caller, 10) in (2, 3)


async def test_one_keys_rate_is_not_anothers(sqlite: Database, tmp_path: Path) -> None:
    limits = Limits(sqlite, settings(tmp_path))
    assert await granted(limits, Caller("a", "a", rate=1), 5) == 1
    assert await granted(limits, Caller("b", "b", rate=1), 5) == 1


async def test_the_standing_says_what_is_left(sqlite: Database, tmp_path: Path) -> None:
    standing = await Limits(sqlite, settings(tmp_path)).admit(Caller("k", "k", rate=5))
    assert standing is not None
    assert dict(standing.headers()) == {
        b"ratelimit-limit": b"5",
        b"ratelimit-remaining": b"4",
        b"ratelimit-reset": b"1",
    }


async def test_a_rate_below_one_a_second_works(sqlite: Database, tmp_path: Path) -> None:
    limits, caller = Limits(sqlite, settings(tmp_path)), Caller("k", "k", rate=0.1)
    assert await granted(limits, caller, 3) == 1
    with pytest.raises(RateLimited) as caught:
        await limits.admit(caller)
    assert 9 < (caught.value.retry_after or 0) <= 10


async def test_admission_in_memory_costs_microseconds(sqlite: Database, tmp_path: Path) -> None:
    limits, caller = Limits(sqlite, settings(tmp_path)), Caller("k", "k", rate=1e6)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(2000):
            await limits.admit(caller)
        best = min(best, (time.perf_counter() - began) / 2000)
    # 2 microseconds on an idle core; the bound only catches a change of kind
    assert best < 50e-6


@pytest.mark.redis
async def test_two_gateways_share_one_rate_in_redis(sqlite: Database, tmp_path: Path, redis_url: str) -> None:
    first, second = (Limits(sqlite, settings(tmp_path, redis_url=redis_url)) for _ in range(2))
    caller = Caller("shared", "shared", rate=10)
    began = time.monotonic()
    count = 0
    for _ in range(10):
        count += await granted(first, caller, 1) + await granted(second, caller, 1)
    assert 10 <= count <= 10 + 10 * (time.monotonic() - began) + 1
    with pytest.raises(RateLimited) as caught:
        for _ in range(20):
            await second.admit(caller)
    assert 0 < (caught.value.retry_after or 0) <= 0.1
    await first.close()
    await second.close()


@pytest.mark.redis
async def test_a_redis_that_hangs_costs_one_short_wait_one_warning_and_limits_go_on_locally(
    sqlite: Database,
    tmp_path: Path,
    redis_process: tuple[subprocess.Popen[bytes], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    process, url = redis_process
    metrics = Metrics()
    limits, caller = Limits(sqlite, settings(tmp_path, redis_url=url), metrics), Caller("k", "k", rate=20)
    await limits.admit(caller)
    os.kill(process.pid, signal.SIGSTOP)
    with caplog.at_level(logging.INFO, "darkroom.limits"):
        began = time.monotonic()
        assert 20 <= await granted(limits, caller, 60) <= 30
        assert time.monotonic() - began < 0.5
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        os.kill(process.pid, signal.SIGCONT)
        await asyncio.sleep(1.1)
        await limits.admit(caller)
        assert caplog.records[-1].getMessage() == "Redis is back: rate limits are shared again"
    assert b'darkroom_dependency_errors_total{dependency="redis"} 1.0' in generate_latest(metrics.registry)
    await limits.close()


@pytest.mark.redis
async def test_a_redis_that_is_not_there_at_the_start_stops_nobody(sqlite: Database, tmp_path: Path) -> None:
    limits = Limits(sqlite, settings(tmp_path, redis_url="redis://127.0.0.1:1/0"))
    assert await granted(limits, Caller("k", "k", rate=5), 10) == 5
    await limits.close()


@both
async def test_a_quota_is_never_overdrawn_by_calls_at_the_same_moment(
    database: Database, tmp_path: Path
) -> None:
    limits, caller = Limits(database, settings(tmp_path)), Caller("k", "k", daily_pictures=10)
    answers = await asyncio.gather(
        *(limits.reserve_pictures(caller, 3) for _ in range(8)), return_exceptions=True
    )
    assert sum(isinstance(answer, QuotaExceeded) for answer in answers) == 5
    await limits.flush()
    (used,) = await limits.usage("k")
    assert used.pictures == 9


@both
async def test_what_a_failed_call_did_not_make_can_be_used_again(database: Database, tmp_path: Path) -> None:
    limits, caller = Limits(database, settings(tmp_path)), Caller("k", "k", daily_pictures=4)
    reservation = await limits.reserve_pictures(caller, 4)
    with pytest.raises(QuotaExceeded) as caught:
        await limits.reserve_pictures(caller, 1)
    assert 0 < (caught.value.retry_after or 0) <= 86400
    limits.settle(reservation, 1)
    limits.settle(await limits.reserve_pictures(caller, 3), 3)
    with pytest.raises(QuotaExceeded):
        await limits.reserve_pictures(caller, 1)


async def test_more_than_a_days_quota_in_one_call_is_refused(database: Database, tmp_path: Path) -> None:
    with pytest.raises(QuotaExceeded):
        await Limits(database, settings(tmp_path)).reserve_pictures(Caller("k", "k", daily_pictures=2), 3)


@both
async def test_requests_and_pictures_are_written_every_second_and_at_the_end(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.limits.FLUSH_INTERVAL", 0.05)
    limits, caller = Limits(database, settings(tmp_path)), Caller("k", "k")
    await limits.start()
    for _ in range(5):
        await limits.admit(caller)
        limits.settle(await limits.reserve_pictures(caller, 2), 2)
    await asyncio.sleep(0.2)
    (used,) = await limits.usage("k")
    assert (used.requests, used.pictures) == (5, 10)
    await limits.admit(caller)
    await limits.admit(Caller("other", "other"))
    await limits.close()
    assert {(row.key_id, row.requests) for row in await limits.usage()} == {("k", 6), ("other", 1)}


async def test_usage_that_could_not_be_written_is_kept_until_it_can(tmp_path: Path) -> None:
    path = tmp_path / "usage.db"
    db = Database(f"sqlite+aiosqlite:///{path}")
    await db.open()
    limits = Limits(db, settings(tmp_path))
    await limits.admit(Caller("k", "k"))
    await db.close()
    path.rename(tmp_path / "away.db")
    path.mkdir()
    await limits.flush()
    path.rmdir()
    (tmp_path / "away.db").rename(path)
    await limits.admit(Caller("k", "k"))
    await limits.flush()
    (used,) = await limits.usage("k")
    assert used.requests == 2
    await db.close()
