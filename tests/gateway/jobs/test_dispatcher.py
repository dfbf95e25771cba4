"""The dispatcher with a real store, a real pool and stub services on real sockets."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest
from sqlalchemy import func, select, update

from bench.stub import Behaviour, Stub
from gateway.assets import Assets
from gateway.jobs.dispatcher import Dispatcher
from gateway.jobs.events import MemoryEvents
from gateway.jobs.job import Job, NewJob
from gateway.jobs.queue import JobQueue
from gateway.metrics import Metrics
from gateway.settings import Settings
from gateway.signing import Signer
from gateway.state import GatewayState
from gateway.store.database import Database
from gateway.store.tables import assets as asset_rows
from gateway.store.tables import jobs as job_rows
from gateway.upstream import Upstream

pytestmark = pytest.mark.anyio
Begin = Callable[..., Awaitable[GatewayState]]


async def _source() -> AsyncIterator[bytes]:
    yield b"a picture"


async def _submit(state: GatewayState, owner: str = "key_a", operation: str = "cleanup", **more: Any) -> Job:
    """A job as the door makes it: its pictures are assets."""
    picture = await state.assets.put(_source(), owner=owner, media_type="image/png", kind="input")
    params: dict[str, Any] = {"image": f"asset:{picture.id}"}
    if operation == "cleanup":
        params["mask"] = f"asset:{picture.id}"
    new = NewJob(owner, operation, more.pop("service", operation), params | more.pop("params", {}), **more)
    return (await state.queue.submit(new))[0]


async def _ended(state: GatewayState, job: Job, seconds: float = 15.0) -> Job:
    async with asyncio.timeout(seconds):
        while True:
            now = await state.queue.get(job.id)
            assert now is not None
            if now.final:
                return now
            await asyncio.sleep(0.02)


async def _running(state: GatewayState, job: Job) -> None:
    async with asyncio.timeout(10):
        while (await state.queue.get(job.id)).state != "running":  # type: ignore[union-attr]
            await asyncio.sleep(0.02)


async def _results(state: GatewayState) -> int:
    async with state.db.read() as conn:
        rows = select(func.count()).select_from(asset_rows).where(asset_rows.c.kind == "result")
        return int((await conn.execute(rows)).scalar_one())


@pytest.fixture
async def begin(database: Database, settings: Settings) -> AsyncIterator[Begin]:
    """`await begin({"cleanup": stub})` gives the state of a gateway whose dispatcher runs."""
    async with AsyncExitStack() as stack:

        async def make(services: dict[str, Any], *, dispatch: bool = True, **more: Any) -> GatewayState:
            addresses = {name: [getattr(one, "address", one)] for name, one in services.items()}
            fast = {"health_interval": 0.1, "first_byte_timeout": 2.0, "idle_timeout": 2.0, "lease": 1.5}
            mine = settings.model_copy(update={"services": addresses, **fast, **more})
            metrics = Metrics()
            upstream = Upstream(mine, metrics)
            await upstream.start()
            stack.push_async_callback(upstream.close)
            queue = JobQueue(database, mine)
            unused: Any = None
            state = GatewayState(
                settings=mine,
                db=database,
                keys=unused,
                limits=unused,
                metrics=metrics,
                upstream=upstream,
                queue=queue,
                events=MemoryEvents(queue.get),
                assets=Assets(mine, database),
                signer=Signer(b"x" * 32),
            )
            if dispatch:
                dispatcher = Dispatcher(state)
                await dispatcher.start()
                stack.push_async_callback(dispatcher.stop, 0.5)
            return state

        yield make


@pytest.fixture
async def stub() -> AsyncIterator[Callable[..., Awaitable[Stub]]]:
    async with AsyncExitStack() as stack:

        async def start(port: int = 0, **behaviour: Any) -> Stub:
            made = await Stub(Behaviour(**behaviour), keep_bodies=True).start(port)
            stack.push_async_callback(made.stop)
            return made

        yield start


async def test_a_job_is_carried_to_its_service_and_its_picture_is_kept(begin: Begin, stub: Any) -> None:
    service = await stub(pictures=5000, steps=3)
    state = await begin({"cleanup": service})
    job = await _ended(state, await _submit(state))
    assert job.state == "succeeded"
    assert (job.model, job.attempt, job.pictures[0]["bytes"], job.pictures[0]["seed"]) == ("stub", 1, 5000, 1)
    assert job.timing is not None and job.timing["queued_ms"] >= 0
    assert job.progress == {"step": 3, "total": 3}
    assert b"a picture" in service.seen.bodies[0][1]
    kinds = [event.kind async for event in state.events.follow(job.id) if event is not None]
    assert kinds == ["accepted", "progress", "progress", "progress", "result", "done"]


async def test_what_an_operation_says_becomes_the_jobs_data(begin: Begin, stub: Any) -> None:
    state = await begin({"caption": await stub()})
    job = await _ended(state, await _submit(state, operation="caption"))
    assert (job.state, job.data) == ("succeeded", {"caption": "a grey square"})


async def test_a_service_without_an_endpoint_keeps_its_jobs_waiting(begin: Begin, stub: Any) -> None:
    service = await stub(pictures=100)
    port = service.port
    await service.stop()
    state = await begin({"cleanup": f"http://127.0.0.1:{port}"})
    job = await _submit(state)
    await asyncio.sleep(1.0)
    waiting = await state.queue.get(job.id)
    assert waiting is not None and (waiting.state, waiting.attempt) == ("queued", 0)
    await stub(port=port, pictures=100)
    assert (await _ended(state, job)).state == "succeeded"


async def test_a_fault_that_another_attempt_may_cure_is_retried_and_then_told(
    begin: Begin, stub: Any
) -> None:
    service = await stub(fail="break")
    state = await begin({"cleanup": service}, job_attempts=2, breaker_failures=50)
    job = await _ended(state, await _submit(state))
    assert (job.state, job.attempt) == ("failed", 2)
    assert job.error is not None and job.error["type"] == "urn:darkroom:problem:bad-upstream"
    service.behaviour.fail, service.behaviour.pictures = "", 100
    assert (await _ended(state, await _submit(state))).state == "succeeded"


async def test_an_error_of_the_caller_is_told_at_once(begin: Begin, stub: Any) -> None:
    state = await begin({"cleanup": await stub(fail="frame")})
    job = await _ended(state, await _submit(state))
    assert (job.state, job.attempt) == ("failed", 1)
    assert job.error is not None and job.error["type"] == "urn:darkroom:problem:bad-picture"
    last = [event async for event in state.events.follow(job.id) if event is not None][-1]
    assert (last.kind, last.data["type"]) == ("error", "urn:darkroom:problem:bad-picture")


async def test_a_picture_that_is_gone_fails_the_job_with_the_reason(begin: Begin, stub: Any) -> None:
    state = await begin({"cleanup": await stub(pictures=1)})
    new = NewJob("key_a", "cleanup", "cleanup", {"image": "asset:ast_gone", "mask": "asset:ast_gone"})
    job = await _ended(state, (await state.queue.submit(new))[0])
    assert job.error is not None and job.error["type"] == "urn:darkroom:problem:not-found"


async def test_an_answer_without_a_picture_is_no_answer(begin: Begin, stub: Any) -> None:
    state = await begin({"cleanup": await stub()}, job_attempts=1)
    job = await _ended(state, await _submit(state))
    assert job.error is not None and job.error["type"] == "urn:darkroom:problem:bad-upstream"


async def test_cancelling_a_running_job_hangs_up_on_the_service_at_once(begin: Begin, stub: Any) -> None:
    service = await stub(hang="middle")
    state = await begin({"cleanup": service}, lease=30.0, idle_timeout=30.0)
    job = await _submit(state)
    await _running(state, job)
    async with asyncio.timeout(5):
        while not service.seen.in_flight:  # a job runs a moment before the service hears of it
            await asyncio.sleep(0.01)
    began = time.monotonic()
    await state.queue.cancel(job.id)
    assert (await _ended(state, job)).state == "cancelled"
    assert time.monotonic() - began < 5.0  # of the 30 s that the service would hang
    async with asyncio.timeout(5):
        while not service.seen.cancelled:
            await asyncio.sleep(0.01)


async def test_the_lease_is_renewed_while_the_work_takes_longer(begin: Begin, stub: Any) -> None:
    state = await begin({"cleanup": await stub(delay=2.2, pictures=10)}, lease=0.9, idle_timeout=10.0)
    job = await _ended(state, await _submit(state))
    assert (job.state, job.attempt) == ("succeeded", 1)


async def test_results_of_an_attempt_whose_lease_was_lost_are_deleted(begin: Begin, stub: Any) -> None:
    state = await begin({"cleanup": await stub(delay=0.6, pictures=10)}, lease=30.0)
    job = await _submit(state)
    await _running(state, job)
    async with state.db.write() as conn:  # as a sweep and another gateway's claim would
        await conn.execute(update(job_rows).where(job_rows.c.id == job.id).values(lease_token="another"))
    await asyncio.sleep(1.2)
    assert await _results(state) == 0
    assert (await state.queue.get(job.id)).state == "running"  # type: ignore[union-attr]


async def test_a_stopping_gateway_hands_its_jobs_back_without_cost(begin: Begin, stub: Any) -> None:
    service = await stub(hang="middle")
    state = await begin({"cleanup": service}, dispatch=False, idle_timeout=30.0)
    dispatcher = Dispatcher(state)
    await dispatcher.start()
    job = await _submit(state)
    await _running(state, job)
    await dispatcher.stop(0.2)
    back = await state.queue.get(job.id)
    assert back is not None and (back.state, back.attempt) == ("queued", 0)
    assert dispatcher.running == 0
    service.behaviour.hang, service.behaviour.pictures = "", 10
    again = Dispatcher(state)
    await again.start()
    assert (await _ended(state, job)).state == "succeeded"
    await again.stop()


async def test_a_job_of_a_dead_gateway_is_taken_over(begin: Begin, stub: Any) -> None:
    state = await begin({"cleanup": await stub(pictures=10)}, dispatch=False, lease=0.5)
    job = await _submit(state)
    assert await state.queue.claim("cleanup", "a gateway that dies now") is not None
    dispatcher = Dispatcher(state)
    await dispatcher.start()
    ended = await _ended(state, job)
    assert (ended.state, ended.attempt) == ("succeeded", 2)
    await dispatcher.stop()


async def test_two_gateways_share_two_hundred_jobs_and_each_is_done_once(begin: Begin, stub: Any) -> None:
    service = await stub(pictures=10, capacity=8)
    state = await begin({"cleanup": service})
    await begin({"cleanup": service})
    picture = await state.assets.put(_source(), owner="key_a", media_type="image/png", kind="input")
    params = {"image": f"asset:{picture.id}", "mask": f"asset:{picture.id}"}
    made = [(await state.queue.submit(NewJob("key_a", "cleanup", "cleanup", params)))[0] for _ in range(200)]
    for job in made:
        assert (await _ended(state, job, 40)).state == "succeeded"
    assert await _results(state) == 200
    assert service.seen.calls == 200


async def test_a_chain_hands_its_picture_on_and_shows_only_the_last(begin: Begin, stub: Any) -> None:
    portrait, sdxl = await stub(pictures=3000, steps=1), await stub(pictures=70_000, steps=1)
    state = await begin({"portrait": portrait, "sdxl": sdxl})
    job = await _submit(state, operation="portrait", params={"style": "an oil painting"})
    ended = await _ended(state, job)
    assert ended.state == "succeeded"
    assert [picture["bytes"] for picture in ended.pictures] == [70_000]
    assert (portrait.seen.calls, sdxl.seen.calls) == (1, 1)
    assert b"an oil painting" in sdxl.seen.bodies[0][1]
    assert bytes(3000) in sdxl.seen.bodies[0][1]
    kinds = [event.kind async for event in state.events.follow(job.id) if event is not None]
    assert kinds == ["accepted", "progress", "progress", "result", "done"]


@pytest.mark.slow
@pytest.mark.postgres
async def test_a_restart_of_postgres_in_the_middle_loses_no_job_and_doubles_none(
    postgres: Any, settings: Settings, stub: Any
) -> None:
    database = Database(await postgres.create())
    await database.open()
    service = await stub(delay=0.05, pictures=10, capacity=4)
    mine = settings.model_copy(update={"services": {"cleanup": [service.address]}, "lease": 3.0})
    queue, metrics, unused = JobQueue(database, mine), Metrics(), cast(Any, None)
    upstream = Upstream(mine, metrics)
    await upstream.start()
    state = GatewayState(
        settings=mine,
        db=database,
        keys=unused,
        limits=unused,
        metrics=metrics,
        upstream=upstream,
        queue=queue,
        events=MemoryEvents(queue.get),
        assets=Assets(mine, database),
        signer=unused,
    )
    made = [await _submit(state) for _ in range(60)]
    dispatcher = Dispatcher(state)
    await dispatcher.start()
    await asyncio.sleep(0.3)
    await asyncio.to_thread(postgres.stop, signal.SIGQUIT)
    await asyncio.sleep(0.5)
    await asyncio.to_thread(postgres.start)
    await database.open()
    for job in made:
        assert (await _ended(state, job, 40)).state == "succeeded"
    owned = select(asset_rows.c.job_id, func.count()).where(asset_rows.c.kind == "result")
    async with database.read() as conn:
        results = dict([tuple(row) for row in await conn.execute(owned.group_by(asset_rows.c.job_id))])
    shown = {job.id: len((await queue.get(job.id)).pictures) for job in made}  # type: ignore[union-attr]
    assert shown == {job.id: 1 for job in made}
    assert set(results) == set(shown)
    await dispatcher.stop()
    await upstream.close()
    await database.close()
