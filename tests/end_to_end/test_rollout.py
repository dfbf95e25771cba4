"""Processes are replaced under load, as a Deployment replaces its pods: no request fails, and no job is lost.

First the new one is up and ready, then the old one is told to stop; or the other way round, where there is no second
GPU, and calls wait in line. Services are reached at two addresses, of which one has nobody at a time; the
gateways stand behind a balancer that learns of readiness as late as a cluster's does.
"""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from PIL import Image

pytestmark = pytest.mark.anyio
ROUNDS = [2, pytest.param(10, marks=[pytest.mark.slow, pytest.mark.timeout(400)])]
LEAD = {"drain_lead": "2"}
# a look falls well within the lead, as with the defaults of 1 s and 5 s
SETTINGS = {**LEAD, "health_interval": "0.4", "job_attempts": "1"}
ADMIN = "dk_rollout-admin-key-0123456789abcdef012"
Ask = Callable[[int], dict[str, Any]]


def picture(colour: str = "red") -> str:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def spot() -> str:
    out, mask = io.BytesIO(), Image.new("L", (16, 16))
    mask.putpixel((8, 8), 255)
    mask.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def stamp(number: int) -> dict[str, Any]:
    """Every tenth takes longer than the lead, so that something is in flight whenever a process has to leave."""
    return {"image": picture(), "number": number, "steps": 50 if number % 10 == 0 else 3, "pause": 0.05}


def cleanup(number: int) -> dict[str, Any]:
    return {"image": picture(), "mask": spot(), "format": "png"}


OPERATIONS: dict[str, tuple[str, Ask]] = {"toy": ("stamp", stamp), "cleanup": ("cleanup", cleanup)}


class Load:
    """Calls and jobs at an even rate, from the beginning of the block to its end; then it says what became of them."""

    def __init__(self, ask: Callable[..., Awaitable[httpx.Response]], operation: str, params: Ask) -> None:
        self._ask, self._operation, self._params = ask, operation, params
        self.failed: list[str] = []
        self.answered = 0
        self.jobs: list[str] = []

    @asynccontextmanager
    async def running(self, calls: float = 12, jobs: float = 3) -> AsyncIterator[None]:
        work = [
            asyncio.create_task(self._keep(self._call, calls)),
            asyncio.create_task(self._keep(self._job, jobs)),
        ]
        try:
            yield
            await asyncio.sleep(1)
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _keep(self, one: Callable[[int], Awaitable[None]], rate: float) -> None:
        begun = set()
        began = time.monotonic()
        try:
            for number in itertools.count():
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                task = asyncio.create_task(one(number))  # type: ignore[arg-type]
                begun.add(task)
                task.add_done_callback(begun.discard)
        finally:
            await asyncio.shield(asyncio.gather(*begun))

    async def _call(self, number: int) -> None:
        await self._one("call", 200, f"/v1/{self._operation}", self._params(number))

    async def _job(self, number: int) -> None:
        body = {"operation": self._operation, "params": self._params(number)}
        answer = await self._one("job", 202, "/v1/jobs", body)
        if answer is not None:
            self.jobs.append(answer.json()["id"])

    async def _one(self, what: str, wanted: int, path: str, body: dict[str, Any]) -> httpx.Response | None:
        try:
            answer = await self._ask("POST", path, json=body)
        except httpx.TransportError as error:
            self.failed.append(f"{what}: {error!r}")
            return None
        if answer.status_code != wanted:
            self.failed.append(f"{what}: {answer.status_code} {answer.text[:200]}")
            return None
        self.answered += 1
        return answer

    async def settle(self, seconds: float = 40) -> None:
        """Every call was answered, and every job that was taken has succeeded at its first attempt."""
        assert self.failed == []
        until = time.monotonic() + seconds
        for job_id in self.jobs:
            while True:
                job = (await self._ask("GET", f"/v1/jobs/{job_id}")).json()
                if job["state"] not in ("queued", "running"):
                    break
                assert time.monotonic() < until, f"{job_id} is {job['state']} still"
                await asyncio.sleep(0.1)
            assert (job["state"], job["attempt"]) == ("succeeded", 1), job
        print(
            f"{self.answered} answers, {len(self.jobs)} of them to jobs that have succeeded; nothing failed"
        )


async def ready(process: Any, path: str) -> None:
    until = time.monotonic() + 60
    while (await asyncio.to_thread(process.get, path))[0] != 200:
        assert time.monotonic() < until, process.said[-2000:]
        await asyncio.sleep(0.05)


async def started(process: Any, path: str = "/readyz") -> None:
    await asyncio.to_thread(process.begin)
    await ready(process, path)


async def ended(process: Any) -> None:
    """Told to stop, it says so at once, and leaves in peace."""
    process.signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 40) == 0


# ── services ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("service", ["toy", "cleanup"])
async def test_a_service_is_replaced_and_no_call_fails(launch: Any, service: str, rounds: int) -> None:
    old, new = (launch(service, begun=False, capacity="8", **LEAD) for _ in range(2))
    await started(old)
    gateway = launch("gateway", services=json.dumps({service: [old.url, new.url]}), **SETTINGS)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        load = Load(client.request, *OPERATIONS[service])
        async with load.running():
            await asyncio.sleep(0.5)
            for number in range(rounds):
                if number % 2 == 0:
                    await started(new)
                    await asyncio.sleep(1)  # as long as a gateway takes to know of it
                    await ended(old)
                else:
                    await ended(old)
                    await started(new)
                old, new = new, old
        await load.settle()


async def test_a_service_that_is_told_to_stop_says_so_and_serves_on_for_its_lead(launch: Any) -> None:
    toy = launch("toy", drain_lead="1.5")
    await ready(toy, "/readyz")
    toy.signal(signal.SIGTERM)
    began = time.monotonic()
    while (said := json.loads(toy.get("/darkroom/v1/describe")[1]))["ready"]:
        assert time.monotonic() < began + 1
        await asyncio.sleep(0.02)
    assert (said["draining"], toy.get("/readyz")[0], toy.get("/livez")[0]) == (True, 503, 200)
    ask = {"ask": json.dumps({"image": "part:image", "steps": 1})}
    async with httpx.AsyncClient() as client:
        image = base64.b64decode(picture())
        answer = await client.post(f"{toy.url}/darkroom/v1/run/stamp", data=ask, files={"image": image})
    assert answer.status_code == 200
    assert b'"kind":"done"' in answer.content
    assert await asyncio.to_thread(toy.wait, 10) == 0
    assert time.monotonic() - began > 1.4


async def test_a_second_signal_does_not_wait_for_the_lead(launch: Any) -> None:
    toy = launch("toy", drain_lead="30")
    await ready(toy, "/readyz")
    began = time.monotonic()
    toy.signal(signal.SIGTERM)
    await asyncio.sleep(0.3)
    toy.signal(signal.SIGTERM)
    assert await asyncio.to_thread(toy.wait, 10) == 0
    assert time.monotonic() - began < 5


# ── gateways ──────────────────────────────────────────────────────────────────────────────────────────────────


class Balancer:
    """Asks each gateway twice a second whether it is ready, keeps connections, and repeats nothing."""

    def __init__(self, gateways: list[Any]) -> None:
        headers = {"authorization": f"Bearer {ADMIN}"}
        self._clients = {
            gateway.url: httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=60)
            for gateway in gateways
        }
        self._ready: list[str] = []
        self._turn = itertools.count()
        self.answers: Counter[str] = Counter()

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[Balancer]:
        task = asyncio.create_task(self._look())
        try:
            yield self
        finally:
            task.cancel()
            for client in self._clients.values():
                await client.aclose()

    async def _look(self) -> None:
        async with httpx.AsyncClient(timeout=5) as probe:
            while True:
                found = []
                for url in self._clients:
                    try:
                        if (await probe.get(f"{url}/readyz")).status_code == 200:
                            found.append(url)
                    except httpx.TransportError:
                        pass
                self._ready = found
                await asyncio.sleep(0.5)

    async def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        url = self._ready[next(self._turn) % len(self._ready)]
        answer = await self._clients[url].request(method, path, **more)
        self.answers[url] += 1
        return answer

    async def sees(self, count: int) -> None:
        until = time.monotonic() + 30
        while len(self._ready) != count:
            assert time.monotonic() < until
            await asyncio.sleep(0.05)


@pytest.mark.postgres
@pytest.mark.redis
@pytest.mark.parametrize("rounds", ROUNDS)
async def test_gateways_are_replaced_and_no_call_fails_and_no_job_is_lost(
    launch: Any, postgres: Any, redis_server: Any, tmp_path: Any, rounds: int
) -> None:
    toy = launch("toy", capacity="8")
    shared = {
        "services": json.dumps({"toy": [toy.url]}),
        "database_url": await postgres.create(),
        "redis_url": redis_server.url,
        "storage_url": f"file://{tmp_path / 'pictures'}",
        "replicas": "2",
        "secret": "the gateways of a rollout share this",
        "admin_key": ADMIN,
        **SETTINGS,
    }
    gateways = [launch(f"gateway-{name}", begun=False, **shared) for name in "abc"]
    for gateway in gateways[:2]:
        await started(gateway)
    async with Balancer(gateways).looking() as balancer:
        await balancer.sees(2)
        load = Load(balancer.request, "stamp", stamp)
        async with load.running():
            for _ in range(rounds):
                oldest, *rest = gateways
                *_, new = rest
                await started(new)
                await balancer.sees(3)
                await ended(oldest)
                await balancer.sees(2)
                gateways = [*rest, oldest]
        await load.settle()
    assert all(balancer.answers[gateway.url] for gateway in gateways)
