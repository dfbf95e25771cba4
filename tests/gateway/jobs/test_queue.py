"""The queue: durable, leased, fair between keys, ordered within a key; on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy import func, select, update

from gateway.jobs.job import Claim, Job, NewJob, Outcome
from gateway.jobs.queue import JobQueue
from gateway.settings import Settings
from gateway.store.database import Database
from gateway.store.tables import idempotency, jobs, lanes, lines, webhooks
from services.errors import IdempotencyMismatch, LineFull, ServiceFault, TooManyRequests

pytestmark = pytest.mark.anyio
Make = Callable[..., NewJob]
DONE = Outcome("succeeded", pictures=[{"id": "ast_1", "role": "picture"}])


async def _submit(queue: JobQueue, new: NewJob) -> Job:
    return (await queue.submit(new))[0]


async def _claim(queue: JobQueue, service: str = "cleanup", owner: str = "worker") -> Claim:
    claim = await queue.claim(service, owner)
    assert claim is not None
    return claim


async def _order(queue: JobQueue) -> list[str]:
    """The owners in the order in which their jobs are claimed."""
    owners = []
    while (claim := await queue.claim("cleanup", "worker")) is not None:
        owners.append(claim.job.owner)
    return owners


async def check_counts(db: Database) -> None:
    """What `lines` and `lanes` count is what `jobs` holds."""
    ready = (jobs.c.state == "queued") & jobs.c.not_before.is_(None)
    unfinished = jobs.c.state.in_(["queued", "running"])
    async with db.read() as conn:
        for condition, column in ((ready, lanes.c.ready), (unfinished, lanes.c.unfinished)):
            truth = select(jobs.c.service, jobs.c.owner, func.count()).where(condition)
            counted = (await conn.execute(truth.group_by(jobs.c.service, jobs.c.owner))).all()
            noted = await conn.execute(select(lanes.c.service, lanes.c.key_id, column).where(column > 0))
            assert sorted(map(tuple, counted)) == sorted(map(tuple, noted.all()))
        waiting = (
            select(jobs.c.service, func.count()).where(jobs.c.state == "queued").group_by(jobs.c.service)
        )
        noted = await conn.execute(select(lines.c.service, lines.c.queued).where(lines.c.queued > 0))
        assert sorted(map(tuple, (await conn.execute(waiting)).all())) == sorted(map(tuple, noted.all()))


async def test_a_job_is_claimed_finished_and_read(queue: JobQueue, new: Make, database: Database) -> None:
    job = await _submit(queue, new(params={"model": "auto"}, webhook="https://example.org/hook"))
    assert job.state == "queued"
    claim = await _claim(queue)
    assert (claim.job.id, claim.job.state, claim.job.attempt) == (job.id, "running", 1)
    assert await queue.renew(claim, progress={"step": 1, "total": 4}, model="telea") == "held"
    assert await queue.finish(claim, Outcome("succeeded", data={"caption": "x"}, timing={"run_ms": 3}))
    read = await queue.get(job.id)
    assert read is not None
    assert (read.state, read.model, read.data, read.params) == (
        "succeeded",
        "telea",
        {"caption": "x"},
        {"model": "auto"},
    )
    assert read.finished_at is not None
    await check_counts(database)


async def test_the_document_has_what_the_interface_promises(queue: JobQueue, new: Make) -> None:
    from gateway.documents import JobDocument

    job = await _submit(queue, new())
    document = job.document("/darkroom")
    assert document["links"] == {
        "self": f"/darkroom/v1/jobs/{job.id}",
        "events": f"/darkroom/v1/jobs/{job.id}/events",
    }
    assert JobDocument.model_validate(document).state == "queued"


async def test_ids_sort_by_time_and_cannot_be_guessed(queue: JobQueue, new: Make) -> None:
    ids = [(await _submit(queue, new())).id for _ in range(5)]
    assert ids == sorted(ids)
    assert len({one[-16:] for one in ids}) == 5


async def test_an_idempotency_key_gives_the_first_job_again(queue: JobQueue, new: Make) -> None:
    ask = new(idempotency_key="once", body_hash="h")
    (first, fresh), (second, again) = await queue.submit(ask), await queue.submit(ask)
    assert (first.id, fresh, again) == (second.id, True, False)
    with pytest.raises(IdempotencyMismatch):
        await queue.submit(new(idempotency_key="once", body_hash="other"))
    assert (await queue.submit(new("key_b", idempotency_key="once", body_hash="other")))[1]


async def test_an_idempotency_key_sent_twenty_times_at_once_makes_one_job(queue: JobQueue, new: Make) -> None:
    answers = await asyncio.gather(
        *(queue.submit(new(idempotency_key="once", body_hash="h")) for _ in range(20))
    )
    assert len({job.id for job, _ in answers}) == 1
    assert sum(created for _, created in answers) == 1


async def test_an_idempotency_key_is_free_again_after_a_day(
    queue: JobQueue, new: Make, database: Database
) -> None:
    ask = new(idempotency_key="once", body_hash="h")
    await queue.submit(ask)
    async with database.write() as conn:
        await conn.execute(update(idempotency).values(created_at=time.time() - 86_401))
    assert (await queue.submit(new(idempotency_key="once", body_hash="other")))[1]


async def test_a_full_line_and_a_key_with_too_many_jobs_are_refused(
    database: Database, settings: Settings, new: Make
) -> None:
    queue = JobQueue(database, settings.model_copy(update={"queue_limit": 3}))
    for _ in range(2):
        await queue.submit(new(concurrent_jobs=2))
    with pytest.raises(TooManyRequests, match="may have 2"):
        await queue.submit(new(concurrent_jobs=2))
    await queue.submit(new("key_b"))
    with pytest.raises(LineFull):
        await queue.submit(new("key_c"))
    assert await queue.unfinished("key_a") == 2
    await queue.finish(await _claim(queue), DONE)
    await queue.submit(new(concurrent_jobs=2))
    await check_counts(database)


async def test_within_a_key_priority_goes_first_and_then_age(queue: JobQueue, new: Make) -> None:
    ids = [(await _submit(queue, new(priority=p))).id for p in (0, 5, 0, -3, 5)]
    claimed = [(await _claim(queue)).job.id for _ in ids]
    assert claimed == [ids[1], ids[4], ids[0], ids[2], ids[3]]


async def test_priority_does_not_help_against_another_key(queue: JobQueue, new: Make) -> None:
    for _ in range(4):
        await queue.submit(new("key_a", priority=100))
        await queue.submit(new("key_b", priority=-100))
    assert Counter((await _order(queue))[:4]) == {"key_a": 2, "key_b": 2}


async def test_a_crowd_of_one_key_delays_another_keys_job_by_one(queue: JobQueue, new: Make) -> None:
    for _ in range(60):
        await queue.submit(new("greedy"))
    for _ in range(20):
        await _claim(queue)
    await queue.submit(new("single"))
    assert "single" in (await _order(queue))[:2]


async def test_weights_share_the_line_in_proportion(queue: JobQueue, new: Make) -> None:
    for _ in range(40):
        await queue.submit(new("heavy", weight=3.0))
        await queue.submit(new("light", weight=1.0))
    count = Counter((await _order(queue))[:40])
    assert abs(count["heavy"] - 30) <= 1


async def test_a_key_that_was_idle_has_saved_nothing_up(queue: JobQueue, new: Make) -> None:
    await queue.submit(new("idle"))
    await queue.finish(await _claim(queue), DONE)
    for _ in range(40):
        await queue.submit(new("busy"))
    for _ in range(20):
        await _claim(queue)
    for _ in range(20):
        await queue.submit(new("idle"))
    count = Counter((await _order(queue))[:20])
    assert abs(count["idle"] - 10) <= 1


async def test_a_key_cannot_jump_the_line_by_sending_one_job_at_a_time(queue: JobQueue, new: Make) -> None:
    for _ in range(30):
        await queue.submit(new("steady"))
    order = []
    await queue.submit(new("sly"))
    for _ in range(20):
        claim = await _claim(queue)
        order.append(claim.job.owner)
        await queue.finish(claim, DONE)
        if claim.job.owner == "sly":
            await queue.submit(new("sly"))
    assert abs(Counter(order)["sly"] - 10) <= 1


async def test_a_job_that_was_put_back_keeps_its_place_and_its_attempts(
    queue: JobQueue, new: Make, database: Database
) -> None:
    for owner in ("key_a", "key_b", "key_a"):
        await queue.submit(new(owner))
    for _ in range(5):
        claim = await _claim(queue)
        assert (claim.job.owner, claim.job.attempt) == ("key_a", 1)
        assert await queue.release(claim, costs_attempt=False) is not None
    await check_counts(database)
    # five put-backs were charged to nobody
    assert await _order(queue) == ["key_a", "key_b", "key_a"]


async def test_attempts_are_bounded_and_the_last_one_says_why(
    queue: JobQueue, new: Make, database: Database
) -> None:
    job = await _submit(queue, new(webhook="https://example.org/hook"))
    for attempt in (1, 2, 3):
        claim = await _claim(queue)
        assert claim.job.attempt == attempt
        after = await queue.release(claim, costs_attempt=True, reason=ServiceFault("The tensor broke."))
    assert after is not None
    assert after.state == "failed"
    assert after.error is not None
    assert after.error["detail"] == "The tensor broke."
    assert await queue.claim("cleanup", "worker") is None
    async with database.read() as conn:
        assert (await conn.execute(select(webhooks.c.job_id, webhooks.c.job_state))).all() == [
            (job.id, "failed")
        ]
    await check_counts(database)


async def test_a_paused_job_waits_its_pause_out(queue: JobQueue, new: Make, database: Database) -> None:
    await queue.submit(new())
    await queue.release(await _claim(queue), costs_attempt=True, pause=0.2)
    await queue.sweep()
    assert await queue.claim("cleanup", "worker") is None
    assert (await queue.depths())["cleanup"].queued == 1
    await check_counts(database)
    await asyncio.sleep(0.25)
    assert [job.state for job in await queue.sweep()] == ["queued"]
    assert (await _claim(queue)).job.attempt == 2
    await check_counts(database)


async def test_a_lease_that_ran_out_gives_the_job_to_another_and_silences_the_first(
    queue: JobQueue, new: Make, database: Database
) -> None:
    await queue.submit(new())
    first = await _claim(queue)
    await asyncio.sleep(0.6)
    await queue.sweep()
    second = await _claim(queue, owner="another")
    assert second.job.attempt == 2
    assert await queue.renew(first) == "lost"
    assert not await queue.finish(first, DONE)
    assert await queue.release(first, costs_attempt=False) is None
    assert await queue.finish(second, DONE)
    assert await queue.finish(second, DONE), "a repeat, after an answer that was lost, is told the same"
    assert not await queue.finish(first, DONE)
    await check_counts(database)


async def test_a_job_whose_workers_always_fall_silent_fails_with_the_reason(
    queue: JobQueue, new: Make
) -> None:
    job = await _submit(queue, new())
    for _ in range(3):
        await _claim(queue)
        await asyncio.sleep(0.55)
        changed = await queue.sweep()
    assert [one.state for one in changed] == ["failed"]
    read = await queue.get(job.id)
    assert read is not None and read.error is not None
    assert "fell silent" in read.error["detail"]


async def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_at_its_next_step(
    queue: JobQueue, new: Make, database: Database
) -> None:
    running, waiting, paused = [await _submit(queue, new()) for _ in range(3)]
    claim = await _claim(queue)
    assert claim.job.id == running.id
    cancelled = await queue.cancel(waiting.id)
    assert cancelled is not None and cancelled.state == "cancelled"
    await queue.release(await _claim(queue), costs_attempt=True, pause=60)
    assert (await queue.cancel(paused.id)).state == "cancelled"  # type: ignore[union-attr]
    asked = await queue.cancel(running.id)
    assert asked is not None and (asked.state, asked.cancel_asked) == ("running", True)
    assert await queue.cancellations("worker") == {running.id}
    assert await queue.renew(claim) == "cancelled"
    assert await queue.finish(claim, Outcome("cancelled"))
    assert (await queue.cancel(running.id)).state == "cancelled"  # type: ignore[union-attr]
    assert await queue.cancel("job_none") is None
    assert await queue.unfinished("key_a") == 0
    await check_counts(database)


async def test_a_cancelled_job_whose_worker_died_is_not_run_again(queue: JobQueue, new: Make) -> None:
    job = await _submit(queue, new())
    await _claim(queue)
    await queue.cancel(job.id)
    await asyncio.sleep(0.55)
    assert [one.state for one in await queue.sweep()] == ["cancelled"]


async def test_depths_count_what_waits_and_runs(queue: JobQueue, new: Make) -> None:
    for _ in range(3):
        await queue.submit(new())
    await queue.submit(new(service="rmbg"))
    await _claim(queue)
    await asyncio.sleep(0.05)
    depths = await queue.depths()
    assert (depths["cleanup"].queued, depths["cleanup"].running, depths["rmbg"].queued) == (2, 1, 1)
    assert 0.04 < depths["cleanup"].oldest_seconds < 5


async def test_a_list_goes_from_the_newest_and_by_page(queue: JobQueue, new: Make) -> None:
    ids = [(await _submit(queue, new())).id for _ in range(5)]
    await queue.submit(new("key_b"))
    first = await queue.list("key_a", limit=3)
    assert [job.id for job in first] == ids[:1:-1]
    assert [job.id for job in await queue.list("key_a", before=first[-1].id)] == ids[1::-1]
    assert len(await queue.list()) == 6
    assert await queue.list("key_a", state="running") == []
    assert await queue.list(operation="caption") == []


async def test_waiting_for_work_ends_when_a_job_comes(queue: JobQueue, new: Make) -> None:
    waiting = asyncio.create_task(queue.wait("cleanup", 30))
    await asyncio.sleep(0.05)
    await queue.submit(new())
    async with asyncio.timeout(5):
        await waiting


async def test_old_jobs_are_forgotten_with_all_that_hangs_on_them(
    queue: JobQueue, new: Make, database: Database
) -> None:
    await queue.submit(new(webhook="https://example.org", idempotency_key="x", body_hash="h"))
    kept = await _submit(queue, new("key_b"))
    await queue.finish(await _claim(queue), DONE)
    assert await queue.purge(time.time() - 60) == 0
    assert await queue.purge(time.time() + 60) == 1
    assert [job.id for job in await queue.list()] == [kept.id]
    async with database.read() as conn:
        assert (await conn.execute(select(func.count()).select_from(webhooks))).scalar_one() == 0
    await check_counts(database)


async def test_many_workers_at_once_never_share_a_job(
    queue: JobQueue, new: Make, database: Database, settings: Settings
) -> None:
    """Two gateways' queues, eight workers each, a hundred jobs of five keys."""
    other = JobQueue(database, settings)
    for number in range(100):
        await queue.submit(new(f"key_{number % 5}"))
    claimed: list[str] = []

    async def work(where: JobQueue, name: str) -> None:
        while (claim := await where.claim("cleanup", name)) is not None:
            claimed.append(claim.job.id)
            assert await where.finish(claim, DONE)

    await asyncio.gather(*(work(where, f"w{n}") for n in range(8) for where in (queue, other)))
    assert len(claimed) == len(set(claimed)) == 100
    await check_counts(database)


async def test_how_far_a_job_came_is_kept_at_its_end(queue: JobQueue, new: Make) -> None:
    for told, kept in (({"step": 4, "total": 4}, {"step": 4, "total": 4}), (None, {"step": 1, "total": 4})):
        job = await _submit(queue, new())
        claim = await _claim(queue)
        await queue.renew(claim, progress={"step": 1, "total": 4})
        await queue.finish(claim, Outcome("succeeded", progress=told))
        ended = await queue.get(job.id)
        assert ended is not None and ended.progress == kept
