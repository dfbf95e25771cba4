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
from pathlib import Path
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

    async def counts(self) -> Counter[str]:
        states: Counter[str] = Counter()
        before: dict[str, str] = {}
        while True:
            page = (await self.persist("GET", "/v1/jobs", params={"limit": "200", **before})).json()
            states.update(job["state"] for job in page["jobs"])
            if page["next"] is None:
                return states
            before = {"before": page["next"]}

    async def until(self, succeeded: int, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while (counts := await self.counts())["succeeded"] < succeeded:
            assert time.monotonic() < until, f"{seconds:g} s later the jobs are {dict(counts)}"
            await asyncio.sleep(0.1)

    async def settle(self) -> None:
        """Every job has one result, its own, and nothing of the attempts that were lost is left."""
        await self.until(self.wanted)
        assert await self.counts() == {"succeeded": self.wanted}  # an Idempotency-Key made no second job
        results = await self.results()
        for number, job_id in self.ids.items():
            job = (await self.persist("GET", f"/v1/jobs/{job_id}")).json()
            assert job["state"] == "succeeded"
            assert [made["id"] for made in job["pictures"]] == results.pop(job_id)
            kinds = await self.log_of(job_id)
            assert kinds.count("done") == 1, kinds
            assert kinds[-1] == "done"
            if number % 10 == 0:
                shown = await self.persist("GET", job["pictures"][0]["url"])
                with Image.open(io.BytesIO(shown.content)) as image:
                    assert image.getpixel((0, 0)) == (number >> 8, number & 255, 77)
        assert results == {}
        assert all(kinds.count("done") == 1 for kinds in self.told.values())

    async def results(self) -> dict[str, list[str]]:
        """The result pictures that exist, by job."""
        found: dict[str, list[str]] = {}
        before: dict[str, str] = {}
        while True:
            page = (await self.persist("GET", "/v1/assets", params={"limit": "200", **before})).json()
            for asset in page["assets"]:
                if asset["kind"] == "result":
                    found.setdefault(asset["job"], []).append(asset["id"])
            if page["next"] is None:
                return found
            before = {"before": page["next"]}

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


def pid_of(stack: Any, name: str) -> int:
    return int(json.loads((stack.data / "run" / f"{name}.json").read_text())["pid"])


def kill(stack: Any, name: str) -> None:
    os.kill(pid_of(stack, name), signal.SIGKILL)


def ready(stack: Any) -> None:
    stack.wait(lambda: "Darkroom is ready" in stack.said)


def bytes_kept(data: Path) -> int:
    return sum(path.is_file() for path in (data / "assets").rglob("ast_*"))


async def test_five_hundred_jobs_outlive_their_gateway_and_their_service(
    start: Any, toy: dict[str, str]
) -> None:
    stack = start("gateway", "toy", also=toy, **SETTINGS)
    ready(stack)
    async with crowd(stack, 500, steps=2) as many:
        await many.until(60)
        kill(stack, "gateway")  # while the later ones are still handed in
        await many.until(180)
        kill(stack, "toy")
        await many.until(300)
        kill(stack, "gateway")
        kill(stack, "toy")
        await many.settle()
    assert stack.said.count("was killed by SIGKILL; it starts again") == 4


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


@pytest.mark.postgres
@pytest.mark.redis
@pytest.mark.parametrize("jobs", [100, pytest.param(500, marks=pytest.mark.slow)])
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
