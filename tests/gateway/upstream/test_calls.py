"""Whole calls against stub services on real sockets: what comes back, and what becomes of a call that is left."""

import asyncio
import gc
import random
import sys
import time

import pytest

from services.errors import (
    BadPicture,
    BadUpstream,
    DeadlineExceeded,
    Draining,
    LineFull,
    NoEndpoint,
    NotConfigured,
    ServiceFault,
)

pytestmark = pytest.mark.anyio


async def test_a_call_gives_its_events_in_order_and_every_byte_of_its_picture(stub, upstream, run):
    service = await stub(pictures=4_000_000, steps=3)
    pool = (await upstream({"caption": [service]})).pool("caption")
    events, size, address = await run(pool)
    assert [e.kind for e in events] == ["accepted", "progress", "progress", "progress", "result", "done"]
    assert size == 4_000_000
    assert address == service.address


async def test_connections_are_used_again(stub, upstream, run):
    service = await stub()
    pool = (await upstream({"caption": [service]})).pool("caption")
    before = service.seen.connections
    for _ in range(20):
        await run(pool)
    assert service.seen.connections == before + 1


async def test_the_request_tells_id_schema_and_time_left(stub, upstream, run):
    service = await stub(keep_bodies=True)
    await run((await upstream({"caption": [service]})).pool("caption"), seconds=7)
    headers, _ = service.seen.bodies[0]
    assert headers["x-request-id"] == "request-1"
    assert headers["x-darkroom-schema"] in service.behaviour.operations["caption"]
    assert 6 < float(headers["x-darkroom-timeout"]) <= 7


async def test_an_unknown_service_is_not_configured(upstream):
    with pytest.raises(NotConfigured):
        (await upstream({})).pool("caption")


async def test_a_problem_before_the_first_frame_is_raised_as_it_is(stub, upstream, run):
    service = await stub(refuse=422)
    pool = (await upstream({"caption": [service]})).pool("caption")
    with pytest.raises(BadPicture, match="the stub refuses"):
        await run(pool)
    assert service.seen.calls == 1


async def test_an_error_frame_is_raised_as_its_exception_and_not_retried(stub, upstream, run):
    service = await stub(fail="frame")
    pool = (await upstream({"caption": [service]})).pool("caption")
    with pytest.raises(BadPicture, match="dislikes"):
        await run(pool)
    assert service.seen.calls == 1


async def test_a_stream_that_breaks_midway_is_bad_upstream_and_not_retried(stub, upstream, run):
    broken, good = await stub(fail="break"), await stub(ready=False)
    pool = (await upstream({"caption": [broken, good]})).pool("caption")
    with pytest.raises(BadUpstream):
        await run(pool)
    assert (broken.seen.calls, good.seen.calls) == (1, 0)


async def test_a_service_that_falls_silent_midway_exceeds_the_idle_timeout(stub, upstream, run):
    pool = (await upstream({"caption": [await stub(hang="middle")]}, idle_timeout=0.2)).pool("caption")
    with pytest.raises(DeadlineExceeded, match="silent"):
        await run(pool)


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
async def test_a_call_that_its_own_deadline_ended_says_so_and_blames_no_service(stub, upstream, run):
    """On the loop of production, whose timers are rounded to milliseconds and may be early."""
    pool = (await upstream({"caption": [await stub(hang="middle")]})).pool("caption")
    for at in range(40):
        with pytest.raises(DeadlineExceeded, match="deadline"):
            await run(pool, seconds=0.02 + at * 0.00013)
    assert {endpoint.breaker.state for endpoint in pool.endpoints} == {"closed"}


async def test_the_deadline_ends_a_call_that_works_too_long(stub, upstream, run, until):
    service = await stub(delay=30)
    pool = (await upstream({"caption": [service]})).pool("caption")
    with pytest.raises(DeadlineExceeded):
        await run(pool, seconds=0.3)
    await until(lambda: service.seen.cancelled == 1)


async def test_a_caller_who_leaves_closes_the_connection_and_the_service_sees_it(stub, upstream, call, until):
    service = await stub(delay=30)
    pool = (await upstream({"caption": [service]})).pool("caption")
    asked = call()
    async with pool.turn(key_id="a", deadline=asked.deadline) as turn, turn.send(asked) as stream:
        assert (await anext(stream)).kind == "accepted"
    await until(lambda: service.seen.cancelled == 1)
    assert pool.status().in_flight == 0


async def test_a_cancelled_task_closes_the_connection_and_frees_its_slot(stub, upstream, run, until):
    service = await stub(delay=30)
    pool = (await upstream({"caption": [service]})).pool("caption")
    task = asyncio.create_task(run(pool))
    await until(lambda: service.seen.in_flight == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: service.seen.cancelled == 1)
    assert pool.status().in_flight == 0


async def test_a_full_line_refuses_synchronous_calls_but_not_jobs(stub, upstream, run, call, until):
    service = await stub(delay=0.3, capacity=1)
    pool = (await upstream({"caption": [service]}, line_length=2)).pool("caption")
    tasks = [asyncio.create_task(run(pool)) for _ in range(3)]
    await until(lambda: pool.status().waiting == 2)
    with pytest.raises(LineFull) as refused:
        await run(pool)
    assert refused.value.retry_after
    async with pool.turn(key_id="job", deadline=call().deadline, bounded=False) as turn:
        assert turn.endpoint.in_flight == 1
    await asyncio.gather(*tasks)


async def test_nothing_up_is_503_after_the_deadline_and_a_busy_service_is_504(stub, upstream, run, call):
    loading, busy = await stub(ready=False), await stub(capacity=1, delay=5)
    built = await upstream({"caption": [loading], "cleanup": [busy]})
    with pytest.raises(NoEndpoint) as nothing:
        await run(built.pool("caption"), seconds=0.2)
    assert nothing.value.retry_after
    async with built.pool("cleanup").turn(key_id="a", deadline=call().deadline):
        with pytest.raises(DeadlineExceeded):
            await run(built.pool("cleanup"), seconds=0.2)


async def test_a_call_waits_for_a_service_that_is_still_loading(stub, upstream, run):
    service = await stub(ready=False)
    pool = (await upstream({"caption": [service]})).pool("caption")
    task = asyncio.create_task(run(pool))
    await asyncio.sleep(0.1)
    service.behaviour.ready = True
    events, _, _ = await task
    assert events[-1].kind == "done"


async def test_drain_refuses_new_turns_and_lets_running_and_waiting_calls_finish(stub, upstream, run, until):
    service = await stub(delay=0.2, capacity=1)
    built = await upstream({"caption": [service]})
    pool = built.pool("caption")
    tasks = [asyncio.create_task(run(pool)) for _ in range(3)]
    await until(lambda: pool.status().waiting == 2)
    draining = asyncio.create_task(built.drain(5))
    await asyncio.sleep(0.01)
    with pytest.raises(Draining):
        await run(pool)
    await draining
    assert [(await task)[0][-1].kind for task in tasks] == ["done"] * 3


async def test_drain_gives_up_on_those_who_still_wait_when_its_time_is_over(stub, upstream, run, until):
    service = await stub(delay=1, capacity=1)
    built = await upstream({"caption": [service]})
    tasks = [asyncio.create_task(run(built.pool("caption"))) for _ in range(2)]
    await until(lambda: built.pool("caption").status().waiting == 1)
    await built.drain(0.05)
    with pytest.raises(Draining):
        await tasks[1]
    assert (await tasks[0])[0][-1].kind == "done"


async def test_in_flight_returns_to_zero_and_never_below_under_random_cancellation(
    stub, upstream, run, until
):
    services = [await stub(delay=0.01, capacity=7, enforce=6), await stub(pictures=100_000, capacity=5)]
    pool = (await upstream({"caption": services}, line_length=1000)).pool("caption")
    dice = random.Random(7)
    lowest, most = 0, 0

    async def watch() -> None:
        nonlocal lowest, most
        while True:
            counts = [e.in_flight for e in pool.status().endpoints]
            lowest, most = min(lowest, *counts), max(most, *counts)
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    tasks = []
    for _ in range(400):
        tasks.append(asyncio.create_task(run(pool, key=str(dice.randrange(5)))))
        if dice.random() < 0.5:
            asyncio.get_running_loop().call_later(dice.random() * 0.05, dice.choice(tasks).cancel)
        if dice.random() < 0.3:
            await asyncio.sleep(0.001)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    watching.cancel()
    assert {type(r) for r in results} <= {tuple, asyncio.CancelledError}
    assert lowest == 0
    assert 0 < most <= 7
    assert pool.status().in_flight == 0
    assert pool.status().waiting == 0
    assert (await run(pool))[0][-1].kind == "done"


@pytest.fixture
async def stub_process():
    """A stub in a process of its own, so that a loop's time is the gateway's alone."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.stub", "--delay", "4", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
def calm():
    """The collector as `python -m gateway` has it: a full collection walks all that pytest has imported, for 200 ms."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


async def test_two_thousand_calls_at_once_all_end_while_the_loop_stays_quick(
    stub_process, calm, upstream, run
):
    pool = (
        await upstream({"caption": [stub_process]}, line_length=4096, first_byte_timeout=60, idle_timeout=60)
    ).pool("caption")
    looks: list[float] = []
    stop = False

    async def healthz() -> None:
        # in CPU seconds of this thread: how long the loop kept it waiting, whatever else this machine does
        while not stop:
            began = time.thread_time()
            await asyncio.sleep(0.005)
            looks.append(time.thread_time() - began)

    watching = asyncio.create_task(healthz())
    most = 0

    async def come(after: float) -> str:
        nonlocal most
        await asyncio.sleep(after)
        most = max(most, sum(e.in_flight for e in pool.endpoints))
        events, _, _ = await run(pool, seconds=60)
        return events[-1].kind

    # they arrive within two seconds, as over sockets, and are then all in flight together
    kinds = await asyncio.gather(*(come(n / 1000) for n in range(2000)))
    stop = True
    await watching
    assert kinds == ["done"] * 2000
    assert most >= 1999
    assert sorted(looks)[len(looks) * 99 // 100] < 0.1


async def test_callers_of_a_dead_service_do_not_starve_those_of_a_live_one(stub, upstream, run, until):
    dead, live = await stub(hang="run"), await stub()
    built = await upstream({"caption": [dead], "cleanup": [live]})
    waiting = [asyncio.create_task(run(built.pool("caption"), seconds=60)) for _ in range(256)]
    await until(lambda: dead.seen.calls == 256)
    async with asyncio.timeout(1):
        for _ in range(16):
            await run(built.pool("cleanup"))
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_service_fault_before_the_first_frame_is_not_repeated(stub, upstream, run):
    services = [await stub(refuse=500), await stub(refuse=500)]
    with pytest.raises(ServiceFault):
        await run((await upstream({"caption": services})).pool("caption"))
    assert sum(s.seen.calls for s in services) == 1


async def test_a_slot_that_falls_free_as_its_next_caller_is_cancelled_goes_to_the_one_behind(
    stub, upstream, run, call
):
    pool = (await upstream({"caption": [await stub(capacity=1)]})).pool("caption")
    async with pool.turn(key_id="a", deadline=call().deadline) as turn:
        first, second = asyncio.create_task(run(pool)), asyncio.create_task(run(pool))
        await asyncio.sleep(0.02)
        assert pool.status().waiting == 2
        first.cancel()
        turn.let_go()
    assert (await second)[0][-1].kind == "done"
    assert pool.status().in_flight == 0
