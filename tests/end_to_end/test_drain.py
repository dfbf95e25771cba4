"""SIGTERM with work in flight: nothing fails that could be finished, nothing is lost, nothing is left behind."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

pytestmark = pytest.mark.anyio


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(out, "PNG")
    return out.getvalue()


def ask(**params: Any) -> dict[str, Any]:
    return {"image": base64.b64encode(picture()).decode(), **params}


def services(*toys: Any) -> str:
    return json.dumps({"toy": [toy.url for toy in toys]})


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30) as client:
        yield client


async def until(holds: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < end, f"it did not come to hold within {seconds:g} s"
        await asyncio.sleep(0.05)


async def in_flight(http: httpx.AsyncClient, toy: Any, count: int) -> None:
    async def so_many() -> bool:
        return (await http.get(f"{toy.url}/darkroom/v1/describe")).json()["in_flight"] == count

    await until(so_many)


async def submit(http: httpx.AsyncClient, gateway: Any, **params: Any) -> str:
    answer = await http.post(f"{gateway.url}/v1/jobs", json={"operation": "stamp", "params": ask(**params)})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def ended(http: httpx.AsyncClient, gateway: Any, job_id: str, seconds: float = 15.0) -> dict[str, Any]:
    document: dict[str, Any] = {}

    async def final() -> bool:
        document.update((await http.get(f"{gateway.url}/v1/jobs/{job_id}")).json())
        return document["state"] in ("succeeded", "failed", "cancelled")

    await until(final, seconds)
    return document


async def test_a_call_in_flight_finishes_and_nothing_new_is_begun(
    launch: Any, http: httpx.AsyncClient
) -> None:
    toy = launch("toy", capacity="4")
    gateway = launch("gateway", services=services(toy))
    call = asyncio.create_task(http.post(f"{gateway.url}/v1/stamp", json=ask(number=7, steps=40, pause=0.05)))
    await in_flight(http, toy, 1)
    gateway.signal(signal.SIGTERM)
    await asyncio.sleep(0.1)
    readiness = await http.get(f"{gateway.url}/readyz")
    assert readiness.status_code == 503
    assert "the gateway is shutting down" in readiness.json()["reasons"]
    refused = await http.post(f"{gateway.url}/v1/stamp", json=ask())
    assert refused.status_code == 503
    assert refused.json()["type"] == "urn:darkroom:problem:draining"
    assert int(refused.headers["retry-after"]) > 0
    answer = await call
    assert answer.status_code == 200
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.getpixel((0, 0)) == (0, 7, 77)
    assert await asyncio.to_thread(gateway.wait, 5) == 0


async def test_a_service_that_is_away_need_not_count_for_readiness(
    launch: Any, http: httpx.AsyncClient
) -> None:
    gateway = launch("gateway", services=json.dumps({"toy": ["http://127.0.0.1:9"]}))
    asked = {
        query: await http.get(f"{gateway.url}/readyz{query}")
        for query in ("", "?exclude=services", "?exclude=toy")
    }
    assert asked[""].status_code == 503
    assert asked["?exclude=services"].status_code == asked["?exclude=toy"].status_code == 200
    assert asked["?exclude=toy"].json()["services"]["toy"]["ready"] is False
    assert (await http.get(f"{gateway.url}/readyz?exclude=cleanup")).status_code == 503
    gateway.signal(signal.SIGTERM)
    assert await asyncio.to_thread(gateway.wait, 5) == 0


async def test_a_call_that_would_take_too_long_ends_with_the_drain(
    launch: Any, http: httpx.AsyncClient
) -> None:
    toy = launch("toy", capacity="4")
    gateway = launch("gateway", services=services(toy), drain="1")
    call = asyncio.create_task(http.post(f"{gateway.url}/v1/stamp", json=ask(steps=1000)))
    await in_flight(http, toy, 1)
    gateway.signal(signal.SIGTERM)
    began = time.monotonic()
    assert await asyncio.to_thread(gateway.wait, 15) == 0
    assert time.monotonic() - began < 6
    answer = await call
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:darkroom:problem:draining")
    await in_flight(http, toy, 0)  # the work was given up with the call


async def test_a_job_is_handed_back_at_its_next_step_and_the_next_start_finishes_it(
    launch: Any, http: httpx.AsyncClient
) -> None:
    toy = launch("toy", capacity="4")
    gateway = launch("gateway", services=services(toy))
    family = psutil.Process(gateway.pid).children(recursive=True)
    job_id = await submit(http, gateway, number=5, steps=60, pause=0.05)
    await in_flight(http, toy, 1)
    await asyncio.sleep(0.3)
    gateway.signal(signal.SIGTERM)
    began = time.monotonic()
    assert await asyncio.to_thread(gateway.wait, 10) == 0
    assert time.monotonic() - began < 2
    await in_flight(http, toy, 0)
    with sqlite3.connect(f"{gateway.env['DARKROOM_DATA']}/darkroom.db") as database:
        row = database.execute("SELECT state, attempt, lease_token FROM jobs").fetchone()
    database.close()
    assert row == ("queued", 0, None)
    assert not [process for process in family if process.is_running()]
    gateway.begin()
    job = await ended(http, gateway, job_id)
    assert (job["state"], job["attempt"], len(job["pictures"])) == ("succeeded", 1, 1)


async def test_event_streams_end_with_the_drain_and_resume_after_it(
    launch: Any, http: httpx.AsyncClient
) -> None:
    toy = launch("toy", capacity="4")
    gateway = launch("gateway", services=services(toy))
    running, waiting = [await submit(http, gateway, steps=60, pause=0.05) for _ in range(2)]

    async def follow(job_id: str) -> list[str]:
        address = f"{gateway.url}/v1/jobs/{job_id}/events"
        lines = (await http.get(address)).text.splitlines()
        return [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]

    followers = [asyncio.create_task(follow(job_id)) for job_id in (running, waiting)]
    await in_flight(http, toy, 2)
    await asyncio.sleep(0.3)
    gateway.signal(signal.SIGTERM)
    began = time.monotonic()
    for kinds in await asyncio.gather(*followers):
        assert "done" not in kinds
    assert await asyncio.to_thread(gateway.wait, 10) == 0
    assert time.monotonic() - began < 3
    gateway.begin()
    assert (await follow(running))[-1] == "done"


async def test_a_service_is_replaced_under_load_and_no_call_fails(
    launch: Any, http: httpx.AsyncClient
) -> None:
    old, other = launch("toy", capacity="4"), launch("toy", capacity="4")
    gateway = launch("gateway", services=services(old, other), health_interval="0.2")
    calls: list[asyncio.Task[httpx.Response]] = []
    body, began = ask(steps=3, pause=0.05), time.monotonic()
    replaced: asyncio.Task[None] | None = None

    async def replace() -> None:
        for toy in (old, other):
            toy.signal(signal.SIGTERM)
            assert await asyncio.to_thread(toy.wait, 10) == 0
            await asyncio.to_thread(toy.begin)
            await asyncio.sleep(1.0)  # a rollout waits until the new one is seen to be ready

    for number in range(240):
        await asyncio.sleep(max(0.0, began + number / 20 - time.monotonic()))
        calls.append(asyncio.create_task(http.post(f"{gateway.url}/v1/stamp", json=body)))
        if number == 30:
            replaced = asyncio.create_task(replace())
    assert replaced is not None
    await replaced
    answers = await asyncio.gather(*calls)
    assert [answer.text for answer in answers if answer.status_code != 200] == []


async def test_a_service_without_an_endpoint_keeps_its_jobs_and_lets_calls_wait(
    launch: Any, http: httpx.AsyncClient
) -> None:
    toy = launch("toy", begun=False)
    gateway = launch(
        "gateway", services=services(toy), health_interval="0.2", job_attempts="1", deadline="20"
    )
    job_id = await submit(http, gateway, number=3)
    began = time.monotonic()
    refused = await http.post(f"{gateway.url}/v1/stamp", json=ask(), headers={"prefer": "wait=1"})
    assert refused.status_code == 503
    assert refused.json()["type"] == "urn:darkroom:problem:no-endpoint"
    assert int(refused.headers["retry-after"]) > 0
    assert 0.9 < time.monotonic() - began < 3
    call = asyncio.create_task(http.post(f"{gateway.url}/v1/stamp", json=ask(number=4)))
    await asyncio.sleep(1)
    assert (await http.get(f"{gateway.url}/v1/jobs/{job_id}")).json()["state"] == "queued"
    await asyncio.to_thread(toy.begin)
    assert (await call).status_code == 200
    job = await ended(http, gateway, job_id)
    assert (job["state"], job["attempt"]) == ("succeeded", 1)
