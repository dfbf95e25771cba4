"""Endpoints that break in the ways that endpoints break: who suffers, how long, and how often is it tried again."""

import asyncio
import re
import socket
from collections import Counter

import aiohttp
import pytest

from gateway.upstream import Silent
from gateway.upstream.transport import ours
from services.errors import AtCapacity, BadUpstream, DeadlineExceeded, NoEndpoint, SchemaMismatch

pytestmark = pytest.mark.anyio


class Counts(Silent):
    def __init__(self) -> None:
        self.retries: Counter[str] = Counter()
        self.refused_retries = 0
        self.breaker: list[str] = []
        self.outcomes: Counter[str] = Counter()

    def upstream_retry(self, service, reason) -> None:
        self.retries[reason] += 1

    def upstream_retry_refused(self, service) -> None:
        self.refused_retries += 1

    def upstream_breaker(self, service, state) -> None:
        self.breaker.append(state)

    def upstream_finished(self, service, outcome, seconds) -> None:
        self.outcomes[outcome] += 1


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_connection_that_breaks_before_the_first_frame_is_repeated_elsewhere(stub, upstream, run):
    broken, good = await stub(fail="early"), await stub()
    counts = Counts()
    pool = (await upstream({"caption": [broken, good]}, metrics=counts)).pool("caption")
    for _ in range(4):
        _, _, address = await run(pool)
        assert address == good.address
    assert counts.retries["broken"] == broken.seen.calls > 0
    assert counts.outcomes == {"done": 4}


@pytest.mark.parametrize("hang", ["all", "run"])
async def test_of_two_endpoints_one_that_never_answers_costs_a_few_calls_a_little_time(
    stub, upstream, run, hang, until
):
    """`all`: the whole process hangs, its health checks too; `run`: only its work does."""
    black, good = await stub(capacity=64), await stub(capacity=64)
    pool = (
        await upstream(
            {"caption": [black, good]}, first_byte_timeout=10, health_interval=0.2, breaker_pause=2
        )
    ).pool("caption")
    for _ in range(10):
        await run(pool)
    black.behaviour.hang = hang
    loop = asyncio.get_running_loop()

    async def timed() -> float:
        began = loop.time()
        await run(pool)
        return loop.time() - began

    tasks = []
    for _ in range(60):
        tasks.append(asyncio.create_task(timed()))
        await asyncio.sleep(0.05)
    times = await asyncio.gather(*tasks)
    assert max(times) < 4
    assert sum(seconds > 0.2 for seconds in times[-20:]) <= 1  # what a half-open breaker tries


async def test_an_endpoint_that_hangs_from_the_start_is_never_chosen_and_delays_no_look_at_another(
    stub, upstream, run
):
    black, good = await stub(hang="all"), await stub()
    pool = (await upstream({"caption": [black, good]})).pool("caption")
    async with asyncio.timeout(1):
        for _ in range(20):
            assert (await run(pool))[2] == good.address
    good.behaviour.ready = False
    await asyncio.sleep(0.3)
    assert {e.address: e.health for e in pool.status().endpoints}[good.address] == "loading"


async def test_the_only_endpoint_gets_the_whole_first_byte_timeout_and_no_second_try(stub, upstream, run):
    service = await stub(hang="run")
    pool = (await upstream({"caption": [service]}, first_byte_timeout=0.3)).pool("caption")
    with pytest.raises(DeadlineExceeded, match="in time"):
        await run(pool)
    assert service.seen.calls == 1


async def test_a_breaker_opens_after_failures_in_a_row_and_closes_after_a_success(stub, upstream, run):
    service = await stub(refuse=500)
    counts = Counts()
    pool = (await upstream({"caption": [service]}, metrics=counts, breaker_failures=3)).pool("caption")
    for _ in range(3):
        with pytest.raises(Exception, match="refuses"):
            await run(pool)
    assert pool.status().endpoints[0].breaker == "open"
    calls = service.seen.calls
    service.behaviour.refuse = 0
    await run(pool)  # waits out the pause, and is the one that is let through
    assert service.seen.calls == calls + 1
    assert counts.breaker == ["open", "half-open", "closed"]


async def test_a_half_open_breaker_lets_one_call_through(stub, upstream, run):
    service = await stub(refuse=500)
    pool = (await upstream({"caption": [service]}, breaker_failures=1)).pool("caption")
    with pytest.raises(Exception, match="refuses"):
        await run(pool)
    service.behaviour.refuse, service.behaviour.hang = 0, "run"
    calls = service.seen.calls
    tasks = [asyncio.create_task(run(pool)) for _ in range(8)]
    await asyncio.sleep(0.8)
    assert service.seen.calls == calls + 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_when_all_fails_retries_stay_within_their_budget(stub, upstream, run):
    services = [await stub(fail="early") for _ in range(2)]
    counts = Counts()
    pool = (
        await upstream({"caption": services}, metrics=counts, retry_budget=0.1, breaker_failures=10**6)
    ).pool("caption")
    for _ in range(200):
        with pytest.raises(BadUpstream):
            await run(pool)
    # what 100 calls may save up, and a tenth of the calls
    assert sum(counts.retries.values()) <= 10 + 20
    assert sum(s.seen.calls for s in services) <= 230
    assert counts.refused_retries


async def test_without_a_retry_budget_nothing_is_repeated(stub, upstream, run):
    services = [await stub(fail="early") for _ in range(2)]
    pool = (await upstream({"caption": services}, retry_budget=0)).pool("caption")
    with pytest.raises(BadUpstream):
        await run(pool)
    assert sum(s.seen.calls for s in services) == 1


async def test_429_of_a_service_puts_calls_back_in_line_until_each_has_its_turn(stub, upstream, run):
    service = await stub(capacity=16, enforce=2, delay=0.02)
    counts = Counts()
    pool = (await upstream({"caption": [service]}, metrics=counts)).pool("caption")
    done = await asyncio.gather(*(run(pool) for _ in range(20)))
    assert len(done) == 20
    assert service.seen.most_in_flight == 2
    assert counts.retries["at-capacity"] > 0
    assert pool.status().endpoints[0].breaker == "closed"


async def test_429_without_end_ends_with_the_deadline(stub, upstream, run):
    service = await stub(refuse=429)
    pool = (await upstream({"caption": [service]})).pool("caption")
    with pytest.raises((DeadlineExceeded, AtCapacity)):
        await run(pool, seconds=0.6)
    assert service.seen.calls < 10


async def test_an_endpoint_of_another_schema_is_passed_over(stub, upstream, run):
    other, same = await stub(operations={"caption": ["000000000000"]}), await stub()
    pool = (await upstream({"caption": [other, same]})).pool("caption")
    for _ in range(4):
        assert (await run(pool))[2] == same.address
    assert other.seen.calls == 0


async def test_when_no_endpoint_knows_the_schema_the_call_says_so(stub, upstream, run):
    services = [await stub(operations={"caption": ["000000000000"]}) for _ in range(2)]
    with pytest.raises(SchemaMismatch):
        await run((await upstream({"caption": services})).pool("caption"))


async def test_a_refused_connection_takes_an_endpoint_out_at_once_and_it_comes_back(
    stub, upstream, run, free_port, until
):
    service = await stub(port=free_port)
    pool = (await upstream({"caption": [service]}, health_interval=0.2)).pool("caption")
    await run(pool)
    await service.stop()
    waiting = asyncio.create_task(run(pool))
    await until(lambda: pool.status().endpoints[0].health == "down")
    await stub(port=free_port)
    assert (await waiting)[0][-1].kind == "done"


async def test_a_service_that_is_down_says_why(upstream, run, free_port):
    pool = (await upstream({"caption": [f"http://127.0.0.1:{free_port}"]})).pool("caption")
    with pytest.raises(NoEndpoint, match="Nothing of the service 'caption' is up"):
        await run(pool, seconds=0.1)
    assert not pool.status().ready


async def test_a_canary_gets_its_share_one_call_at_a_time_and_many_at_once(stub, upstream, run):
    main, canary = await stub(delay=0.001), await stub(delay=0.001)
    pool = (await upstream({"caption": [main, f"{canary.address}#weight=0.1"]})).pool("caption")
    for _ in range(110):
        await run(pool)
    assert canary.seen.calls == 10
    await asyncio.gather(*(run(pool) for _ in range(220)))
    assert canary.seen.calls == pytest.approx(30, abs=2)


async def test_calls_go_where_the_fewest_are(stub, upstream, run, until):
    slow, quick = await stub(delay=1), await stub(delay=0.01)
    pool = (await upstream({"caption": [slow, quick]})).pool("caption")
    tasks = []
    for _ in range(40):
        tasks.append(asyncio.create_task(run(pool)))
        await asyncio.sleep(0.012)
    await asyncio.gather(*tasks)
    assert slow.seen.calls <= 5


async def test_names_are_resolved_again_and_endpoints_that_vanish_finish_their_work(
    stub, upstream, run, until
):
    old, new = await stub(delay=0.5), await stub()
    known = {"here": ["127.0.0.1"]}

    async def resolve(name: str, port: int) -> list[str]:
        if not known[name]:
            raise OSError("no such name")
        return known[name]

    first = f"dns+http://here:{old.port}"
    pool = (await upstream({"caption": [first]}, resolve=resolve)).pool("caption")
    assert pool.status().endpoints[0].address == old.address
    running = asyncio.create_task(run(pool))
    await until(lambda: old.seen.in_flight == 1)
    known["here"] = ["127.0.0.2"]
    await until(lambda: any("127.0.0.2" in e.address for e in pool.status().endpoints))
    assert (await running)[2] == old.address
    await until(lambda: [e.address for e in pool.status().endpoints] == [f"http://127.0.0.2:{old.port}"])
    known["here"] = []  # a resolver that is away takes nothing away
    await asyncio.sleep(0.3)
    assert len(pool.status().endpoints) == 1
    assert new.seen.calls == 0


async def test_a_service_that_is_scaled_to_zero_has_no_endpoint_and_comes_back(stub, upstream, run, until):
    service = await stub()
    known = {"here": ["127.0.0.1"]}

    async def resolve(name: str, port: int) -> list[str]:
        if not known[name]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known[name]

    pool = (await upstream({"caption": [f"dns+http://here:{service.port}"]}, resolve=resolve)).pool("caption")
    known["here"] = []
    await asyncio.sleep(0.3)
    assert len(pool.endpoints) == 1  # it answers still: a name that is wrong for a moment takes nothing away
    await service.stop()
    await until(lambda: not pool.endpoints)
    waiting = asyncio.create_task(run(pool))
    await asyncio.sleep(0.1)
    assert pool.status().waiting == 1  # which is what wakes the service
    await service.start(service.port)
    known["here"] = ["127.0.0.1"]
    assert (await waiting)[0][-1].kind == "done"


async def test_when_an_endpoint_drains_its_successor_is_looked_for_at_once(stub, upstream, run, until):
    """Long before the next resolution would come of itself."""
    old = await stub()
    known = ["127.0.0.1"]

    async def resolve(name: str, port: int) -> list[str]:
        return known

    pool = (
        await upstream({"caption": [f"dns+http://here:{old.port}"]}, resolve=resolve, resolve_interval=60)
    ).pool("caption")
    known = ["127.0.0.1", "127.0.0.2"]
    await asyncio.sleep(1.2)
    assert len(pool.endpoints) == 1
    old.behaviour.draining = True
    await until(lambda: len(pool.endpoints) == 2)


async def test_an_endpoint_that_dies_in_the_middle_breaks_only_its_own_calls(stub, upstream, run, until):
    dying, good = await stub(delay=5, capacity=4), await stub(delay=0.01, capacity=4)
    pool = (await upstream({"caption": [dying, good]})).pool("caption")
    tasks = [asyncio.create_task(run(pool)) for _ in range(30)]
    await until(lambda: dying.seen.in_flight == 4)
    await dying.stop()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(r, BadUpstream) for r in results) == 4
    assert sum(isinstance(r, tuple) for r in results) == 26


async def test_calls_that_are_moved_from_an_endpoint_that_was_taken_out_cost_no_retry_budget(
    stub, upstream, run, until
):
    black, good = await stub(hang="run", capacity=64), await stub(capacity=64)
    pool = (
        await upstream({"caption": [black, good]}, retry_budget=0.05, breaker_failures=5, breaker_pause=5)
    ).pool("caption")
    results = await asyncio.gather(*(run(pool) for _ in range(120)), return_exceptions=True)
    assert black.seen.calls > 50
    assert sum(isinstance(r, tuple) for r in results) == 120
    assert pool.status().in_flight == 0


async def test_a_call_that_was_moved_goes_back_where_it_was_when_that_is_all_that_is_up(
    stub, upstream, run, until
):
    """Two endpoints on a machine that is short of processor, each silent for a moment, one after the other."""
    services = [await stub(hang="run"), await stub(hang="run")]
    pool = (await upstream({"caption": services})).pool("caption")
    task = asyncio.create_task(run(pool))
    await until(lambda: sum(service.seen.calls for service in services) == 1)
    first, second = sorted(pool.endpoints, key=lambda endpoint: -endpoint.in_flight)
    by_address = {service.address: service for service in services}
    first.went_down("it does not answer within 1 s")
    pool.move_from(first)
    await until(lambda: by_address[second.address.text].seen.calls == 1 and first.health == "up")
    by_address[first.address.text].behaviour.hang = ""
    second.went_down("it does not answer within 1 s")
    pool.move_from(second)
    assert (await task)[2] == first.address.text


async def test_a_call_that_gave_one_endpoint_up_has_all_its_patience_for_the_other(
    stub, upstream, run, monkeypatch
):
    """Or both that are slow for a moment would be given up in turn, with nowhere else to go."""
    monkeypatch.setattr("gateway.upstream.pool._LEAST_PATIENCE", 0.1)
    services = [await stub(hang="run"), await stub(hang="run")]
    pool = (await upstream({"caption": services}, first_byte_timeout=2)).pool("caption")
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(DeadlineExceeded, match="in time"):
        await run(pool)
    assert loop.time() - began > 0.5 + 2  # a quarter for the first, all for the second
    assert [service.seen.calls for service in services] == [1, 1]


async def test_the_only_endpoint_of_a_service_keeps_its_calls_when_its_health_check_is_late(
    stub, upstream, run, until
):
    service = await stub(hang="run")
    pool = (await upstream({"caption": [service]})).pool("caption")
    task = asyncio.create_task(run(pool))
    await until(lambda: service.seen.calls == 1)
    pool.endpoints[0].went_down("its health check was late")
    pool.move_from(pool.endpoints[0])
    await asyncio.sleep(0.1)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_service_that_dies_in_its_answer_is_told_in_our_words(stub, upstream, run):
    pool = (await upstream({"caption": [await stub(fail="break", steps=2)]})).pool("caption")
    with pytest.raises(BadUpstream) as caught:
        await run(pool)
    assert "the call may be repeated" in caught.value.detail
    assert not re.search("payload|Transfer|Error|400|Errno", caught.value.detail)


@pytest.mark.parametrize(
    ("foreign", "words"),
    [
        (
            aiohttp.ClientPayloadError(
                "Response payload is not completed: <TransferEncodingError: 400, ...>"
            ),
            "middle",
        ),
        (aiohttp.ServerDisconnectedError(), "before it answered"),
        (ConnectionResetError(104, "Connection reset by peer"), "(Connection reset by peer)"),
    ],
)
def test_how_a_connection_ended_is_told_in_our_words(foreign: Exception, words: str):
    error = ours(foreign)
    assert isinstance(error, BadUpstream)
    assert words in error.detail
    assert error.detail.endswith("; the call may be repeated.")
    assert not re.search("payload|Transfer|Error|400|Errno", error.detail)
