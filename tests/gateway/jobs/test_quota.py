"""A job counts its pictures when it is submitted, and gives back those that it did not make."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.callers import Caller
from gateway.jobs.job import NewJob, Outcome
from gateway.jobs.queue import JobQueue
from gateway.limits import Limits
from gateway.settings import Settings
from gateway.store.database import Database
from services.errors import QuotaExceeded

pytestmark = pytest.mark.anyio
CALLER = Caller("key", "key", daily_pictures=3)


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[tuple[Limits, JobQueue]]:
    settings = Settings(data=tmp_path)
    db = Database(settings.database)
    await db.open()
    yield Limits(db, settings), JobQueue(db, settings)
    await db.close()


async def submit(limits: Limits, queue: JobQueue, count: int) -> str:
    reservation = await limits.reserve_pictures(CALLER, count)
    new = NewJob("key", "text-to-image", "sdxl", {"prompt": "x", "count": count})
    job, _ = await queue.submit(new)
    limits.settle(reservation, count)
    return job.id


@pytest.mark.parametrize("end", ["cancelled while it waits", "failed"])
async def test_pictures_of_a_job_that_made_none_may_be_asked_for_again(
    parts: tuple[Limits, JobQueue], end: str
) -> None:
    limits, queue = parts
    job_id = await submit(limits, queue, 3)
    with pytest.raises(QuotaExceeded):
        await limits.reserve_pictures(CALLER, 1)
    if end == "failed":
        claim = await queue.claim("sdxl", "worker")
        assert claim is not None
        await queue.finish(claim, Outcome("failed", error={"detail": "x"}))
    else:
        await queue.cancel(job_id)
    await limits.reserve_pictures(CALLER, 3)


async def test_pictures_that_were_made_stay_counted(parts: tuple[Limits, JobQueue]) -> None:
    limits, queue = parts
    await submit(limits, queue, 2)
    claim = await queue.claim("sdxl", "worker")
    assert claim is not None
    await queue.finish(claim, Outcome("succeeded"))
    with pytest.raises(QuotaExceeded):
        await limits.reserve_pictures(CALLER, 2)
