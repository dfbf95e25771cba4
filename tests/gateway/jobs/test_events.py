"""The log of events: followers resume without a gap, and where the log is lost the store fills in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.jobs.events import EVENTS_OF_A_JOB, Follower, MemoryEvents
from gateway.jobs.job import Job
from gateway.jobs.redis_events import RedisEvents
from services.errors import BadInput

pytestmark = pytest.mark.anyio

RUNNING = Job(
    id="job_x",
    owner="k",
    operation="cleanup",
    service="cleanup",
    state="running",
    params={},
    priority=0,
    weight=1.0,
    attempt=1,
    attempts_allowed=3,
    not_before=None,
    cancel_asked=False,
    model=None,
    progress={"step": 3},
    pictures=[],
    data=None,
    error=None,
    timing=None,
    webhook=None,
    request_id="",
    created_at=0.0,
    started_at=0.0,
    finished_at=None,
)


class Store:
    def __init__(self) -> None:
        self.job: Job | None = RUNNING

    async def look(self, _job_id: str) -> Job | None:
        return self.job


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def log(request: pytest.FixtureRequest, store: Store) -> AsyncIterator[Any]:
    made: Follower
    if request.param == "memory":
        made = MemoryEvents(store.look)
    else:
        made = RedisEvents(request.getfixturevalue("redis_url"), store.look)
        await made._redis.flushall()
    yield made
    await made.close()  # type: ignore[attr-defined]


async def _all(log: Any, after: str | None = None) -> list[tuple[str | None, str]]:
    async with asyncio.timeout(20):
        return [(event.id, event.kind) async for event in log.follow("job_x", after) if event is not None]


async def test_a_follower_gets_every_event_and_then_the_end(log: Any) -> None:
    await log.append("job_x", 1, "accepted", {"model": "m"})
    follower = asyncio.create_task(_all(log))
    await asyncio.sleep(0.1)
    await log.append("job_x", 1, "progress", {"step": 1})
    await log.append("job_x", 1, "done", {})
    assert await follower == [("1.0", "accepted"), ("1.1", "progress"), ("1.2", "done")]


async def test_a_follower_resumes_after_the_event_it_saw_last(log: Any) -> None:
    for kind in ("accepted", "progress", "progress", "done"):
        await log.append("job_x", 1, kind, {})
    assert await _all(log, "1.1") == [("1.2", "progress"), ("1.3", "done")]


async def test_numbers_start_again_with_each_attempt_and_the_past_attempt_is_silenced(log: Any) -> None:
    await log.append("job_x", 1, "accepted", {})
    assert await log.append("job_x", 2, "accepted", {}) == "2.0"
    assert await log.append("job_x", 1, "progress", {}) is None
    await log.append("job_x", 2, "done", {})
    assert await _all(log) == [("1.0", "accepted"), ("2.0", "accepted"), ("2.1", "done")]


async def test_an_unknown_position_gives_a_snapshot_first(log: Any) -> None:
    await log.append("job_x", 1, "done", {})
    assert await _all(log, "7.99") == [(None, "snapshot"), ("1.0", "done")]


async def test_an_empty_log_gives_a_snapshot_and_the_end_that_the_store_knows(log: Any, store: Store) -> None:
    store.job = replace(RUNNING, state="succeeded", finished_at=1.0)
    assert await _all(log) == [(None, "snapshot"), (None, "done")]


async def test_a_job_that_ends_without_an_event_ends_its_followers(log: Any, store: Store) -> None:
    await log.append("job_x", 1, "accepted", {})
    follower = asyncio.create_task(_all(log))
    await asyncio.sleep(0.1)
    store.job = replace(RUNNING, state="cancelled", finished_at=1.0)
    assert await follower == [("1.0", "accepted"), (None, "error")]


async def test_a_purged_job_ends_its_followers(log: Any, store: Store) -> None:
    store.job = None
    assert await _all(log) == []


async def test_the_log_of_a_job_is_bounded_and_a_trimmed_past_gives_a_snapshot(log: Any) -> None:
    for step in range(EVENTS_OF_A_JOB + 50):
        await log.append("job_x", 1, "progress", {"step": step})
    await log.append("job_x", 1, "done", {})
    events = await _all(log)
    assert events[0] == (None, "snapshot")
    assert len(events) == EVENTS_OF_A_JOB + 1
    assert events[-1][1] == "done"
    assert await _all(log, f"1.{EVENTS_OF_A_JOB + 48}") == [("1.305", "progress"), ("1.306", "done")]


async def test_a_follower_who_came_first_hears_of_the_first_event_at_once(log: Any) -> None:
    async def first() -> float:
        async for event in log.follow("job_x"):
            if event is not None and event.kind == "accepted":
                return asyncio.get_running_loop().time()
        raise AssertionError("the stream ended")

    followers = [asyncio.create_task(first()) for _ in range(3)]
    await asyncio.sleep(0.1)
    told = asyncio.get_running_loop().time()
    await log.append("job_x", 1, "accepted", {})
    for heard in await asyncio.gather(*followers):
        assert heard - told < 0.7


async def test_ten_followers_all_get_everything(log: Any) -> None:
    followers = [asyncio.create_task(_all(log)) for _ in range(10)]
    await asyncio.sleep(0.05)
    for kind in ("accepted", "progress", "done"):
        await log.append("job_x", 1, kind, {})
    for seen in await asyncio.gather(*followers):
        assert [event for event in seen if event[1] != "snapshot"] == [
            ("1.0", "accepted"),
            ("1.1", "progress"),
            ("1.2", "done"),
        ]


@pytest.mark.parametrize("wrong", ["x", "1", "1.x", "1.2.3", "-1.2", "²·1"])
async def test_an_id_that_is_none_is_refused(store: Store, wrong: str) -> None:
    with pytest.raises(BadInput):
        await anext(aiter(MemoryEvents(store.look).follow("job_x", wrong)))


async def test_the_memory_that_all_logs_take_is_bounded(store: Store) -> None:
    log = MemoryEvents(store.look, limit=100_000)
    for number in range(100):
        await log.append(f"job_{number}", 1, "preview", {"picture": "x" * 10_000})
    assert log._size <= 100_000
    assert sum(kept.size for kept in log._jobs.values()) == log._size


async def test_without_redis_jobs_go_on_and_followers_watch_the_store(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    log = RedisEvents("redis://127.0.0.1:1/0", store.look)
    for _ in range(5):
        assert await log.append("job_x", 1, "progress", {}) is None
    assert len([r for r in caplog.records if "Redis is away" in r.message]) == 1
    follower = asyncio.create_task(_all(log))
    await asyncio.sleep(0.3)
    store.job = replace(RUNNING, state="succeeded", finished_at=1.0)
    seen = await follower
    assert {seen[0], seen[-1]} == {(None, "snapshot"), (None, "done")}
    await log.close()
