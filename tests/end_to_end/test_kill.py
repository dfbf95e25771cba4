"""Hundreds of jobs while things die beneath them: none is lost, none shows two results, none is stuck."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
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
# one job is at most in the way of every kill
SETTINGS = {"lease": "1.5", "job_attempts": "5", "capacity": "8"}


def picture() -> str:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


class Crowd:
    """Submits jobs, follows some of them, and says at the end what became of all."""

    def __init__(self, client: httpx.AsyncClient, jobs: int, steps: int) -> None:
        self.client, self.wanted, self.steps = client, jobs, steps
        self.ids: dict[int, str] = {}
        self.told: dict[int, list[str]] = {}
        self._image = picture()

    async def persist(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask until there is an answer that is none of a system in trouble."""
        until = time.monotonic() + 40
        while True:
            try:
                answer = await self.client.request(method, path, **more)
                if answer.status_code not in (429, 503):
                    return answer
                trouble = answer.text
            except httpx.TransportError as error:
                trouble = repr(error)
            assert time.monotonic() < until, f"{method} {path}: {trouble}"
            await asyncio.sleep(0.2)

    async def submit(self) -> None:
        """Eight at a time; an answer that is lost on the way is asked for again, under the same Idempotency-Key."""
        numbers = iter(range(self.wanted))

        async def some() -> None:
            for number in numbers:
                params = {"image": self._image, "number": number, "steps": self.steps}
                answer = await self.persist(
                    "POST",
                    "/v1/jobs",
                    json={"operation": "stamp", "params": params},
                    headers={"idempotency-key": f"number-{number}"},
                )
                assert answer.status_code in (200, 202), answer.text
                self.ids[number] = answer.json()["id"]

        await asyncio.gather(*(some() for _ in range(8)))

    async def follow(self, number: int) -> None:
        """The kinds of all events of one job, over as many connections as it takes."""
        while number not in self.ids:
            await asyncio.sleep(0.05)
        last, kinds = "", self.told.setdefault(number, [])
        while "done" not in kinds:
            headers = {"last-event-id": last} if last else {}
            try:
                async with self.client.stream(
                    "GET", f"/v1/jobs/{self.ids[number]}/events", headers=headers
                ) as answer:
                    async for line in answer.aiter_lines():
                        name, _, value = line.partition(": ")
                        if name == "id":
                            last = value
                        elif name == "event":
                            kinds.append(value)
            except httpx.TransportError:
                pass  # its gateway was killed
            await asyncio.sleep(0.1)

    async def every(self, path: str, what: str) -> list[dict[str, Any]]:
        """All pages of a list."""
        found: list[dict[str, Any]] = []
        query = {"limit": "200"}
        while True:
            page = (await self.persist("GET", path, params=query)).json()
            found += page[what]
            if page["next"] is None:
                return found
            query["before"] = page["next"]

    async def counts(self) -> Counter[str]:
        return Counter(job["state"] for job in await self.every("/v1/jobs", "jobs"))

    async def until(self, succeeded: int, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while (counts := await self.counts())["succeeded"] < succeeded:
            assert time.monotonic() < until, f"{seconds:g} s later the jobs are {dict(counts)}"
            await asyncio.sleep(0.1)

    async def settle(self) -> None:
        """Every job has one result, its own, and nothing of the attempts that were lost is left."""
        await self.until(self.wanted)
        jobs = {job["id"]: job for job in await self.every("/v1/jobs", "jobs")}
        assert sorted(jobs) == sorted(self.ids.values())  # an Idempotency-Key made no second job
        assert {job["state"] for job in jobs.values()} == {"succeeded"}
        shown = sorted(made["id"] for job in jobs.values() for made in job["pictures"])
        assert len(shown) == self.wanted
        until = time.monotonic() + 5
        while (kept := await self.results()) != shown:
            assert time.monotonic() < until, f"{len(kept)} results are kept, {len(shown)} are to be seen"
            await asyncio.sleep(0.2)
        for number in range(0, self.wanted, 5):
            job = jobs[self.ids[number]]
            kinds = await self.log_of(job["id"])
            assert kinds.count("done") == 1, kinds
            assert kinds[-1] == "done"
            answer = await self.persist("GET", job["pictures"][0]["url"])
            with Image.open(io.BytesIO(answer.content)) as image:
                assert image.getpixel((0, 0)) == (number >> 8, number & 255, 77)

    async def results(self) -> list[str]:
        """The result pictures that exist."""
        return sorted(
            asset["id"] for asset in await self.every("/v1/assets", "assets") if asset["kind"] == "result"
        )

    async def log_of(self, job_id: str) -> list[str]:
        text = (await self.persist("GET", f"/v1/jobs/{job_id}/events")).text
        return [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]


@asynccontextmanager
async def crowd(stack: Any, jobs: int, steps: int) -> AsyncIterator[Crowd]:
    async with httpx.AsyncClient(base_url=stack.url, timeout=20) as client:
        many = Crowd(client, jobs, steps)
        work = [asyncio.create_task(many.submit())]
        work += [asyncio.create_task(many.follow(number)) for number in range(0, jobs, max(1, jobs // 12))]
        yield many
        await asyncio.wait_for(asyncio.gather(*work), 30)
        assert {kinds.count("done") for kinds in many.told.values()} == {1}


def pid_of(stack: Any, name: str) -> int:
    return int(json.loads((stack.data / "run" / f"{name}.json").read_text())["pid"])


def kill(stack: Any, name: str) -> None:
    os.kill(pid_of(stack, name), signal.SIGKILL)


def ready(stack: Any) -> None:
    stack.wait(lambda: "Darkroom is ready" in stack.said)


async def upheaval(
    stack: Any, jobs: int, blows: list[Callable[[], None] | Callable[[], Awaitable[None]]], steps: int = 2
) -> None:
    """Something dies each time when a further share of the jobs is done."""
    async with crowd(stack, jobs, steps) as many:
        for number, blow in enumerate(blows, start=1):
            await many.until(jobs * number // (len(blows) + 2))
            done = blow()
            if done is not None:
                await done
        await many.settle()


SOME = [120, pytest.param(500, marks=pytest.mark.slow)]


@pytest.mark.parametrize("jobs", SOME)
async def test_jobs_outlive_their_gateway_and_their_service(
    start: Any, toy: dict[str, str], jobs: int
) -> None:
    stack = start("gateway", "toy", also=toy, **SETTINGS)
    ready(stack)

    def both() -> None:
        kill(stack, "gateway")
        kill(stack, "toy")

    # the first comes while the later jobs are still handed in
    await upheaval(stack, jobs, [lambda: kill(stack, "gateway"), lambda: kill(stack, "toy"), both])
    assert stack.said.count("was killed by SIGKILL; it starts again") == 4


@pytest.mark.postgres
@pytest.mark.redis
@pytest.mark.parametrize("jobs", SOME)
async def test_jobs_outlive_postgres_redis_gateway_and_service(
    start: Any, toy: dict[str, str], postgres: Any, redis_server: Any, jobs: int
) -> None:
    database = await postgres.create()
    stack = start("gateway", "toy", also=toy, **SETTINGS, database_url=database, redis_url=redis_server.url)
    ready(stack)

    async def restart_postgres(how: signal.Signals) -> None:
        await asyncio.to_thread(postgres.stop, how)
        await asyncio.sleep(1.0)
        await asyncio.to_thread(postgres.start)

    async def restart_redis() -> None:
        await asyncio.to_thread(redis_server.stop, signal.SIGKILL)
        await asyncio.sleep(1.0)
        await asyncio.to_thread(redis_server.start)

    await upheaval(
        stack,
        jobs,
        [
            lambda: kill(stack, "gateway"),
            lambda: restart_postgres(signal.SIGINT),
            lambda: kill(stack, "toy"),
            restart_redis,
            lambda: restart_postgres(signal.SIGQUIT),
        ],
    )
