"""Two gateways over one PostgreSQL, one Redis and one store of pictures: what one begins the other knows."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import httpx
import pytest
from PIL import Image

pytestmark = [pytest.mark.anyio, pytest.mark.postgres, pytest.mark.redis]
ADMIN = "dk_two-gateways-admin-key-0123456789abcdef"


def ask(**params: Any) -> dict[str, Any]:
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(out, "PNG")
    return {"image": base64.b64encode(out.getvalue()).decode(), **params}


@pytest.fixture
async def pair(
    launch: Any, postgres: Any, redis_server: Any, tmp_path: Path
) -> AsyncIterator[tuple[Any, httpx.AsyncClient, httpx.AsyncClient]]:
    """The service (which takes two at once) and a client of each of its two gateways, with the admin key."""
    toy = launch("toy", capacity="2")
    shared = {
        "services": json.dumps({"toy": [toy.url]}),
        "database_url": await postgres.create(),
        "redis_url": redis_server.url,
        "storage_url": f"file://{tmp_path / 'pictures'}",
        "replicas": "2",
        "secret": "two gateways share this secret",
        "admin_key": ADMIN,
        "job_attempts": "1",
        "health_interval": "0.2",
    }
    gateways = [launch(name, **shared) for name in ("gateway-a", "gateway-b")]
    headers = {"authorization": f"Bearer {ADMIN}"}
    async with (
        httpx.AsyncClient(base_url=gateways[0].url, headers=headers, timeout=30) as first,
        httpx.AsyncClient(base_url=gateways[1].url, headers=headers, timeout=30) as second,
    ):
        yield toy, first, second


async def submit(client: httpx.AsyncClient, **params: Any) -> str:
    answer = await client.post("/v1/jobs", json={"operation": "stamp", "params": ask(**params)})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def follow(client: httpx.AsyncClient, job_id: str, seconds: float = 20) -> list[str]:
    """The kinds of its events, to the end."""
    async with asyncio.timeout(seconds):
        lines = (await client.get(f"/v1/jobs/{job_id}/events")).text.splitlines()
    return [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]


async def test_what_one_gateway_was_given_the_other_follows_shows_and_cancels(pair: Any) -> None:
    _, first, second = pair
    job_id = await submit(first, number=258, steps=8, pause=0.1)
    kinds = [kind for kind in await follow(second, job_id) if kind not in ("snapshot", "queued")]
    assert kinds[0] == "accepted"
    assert kinds.count("done") == 1
    assert kinds.count("result") == 1
    assert kinds.count("progress") >= 3
    job = (await second.get(f"/v1/jobs/{job_id}")).json()
    for client in (first, second):
        shown = await client.get(job["pictures"][0]["url"])
        with Image.open(io.BytesIO(shown.content)) as image:
            assert image.getpixel((0, 0)) == (1, 2, 77)

    for by, other in ((first, second), (second, first)):
        job_id = await submit(by, steps=1000)
        following = asyncio.create_task(follow(by, job_id))
        while (await other.get(f"/v1/jobs/{job_id}")).json()["state"] != "running":
            await asyncio.sleep(0.05)
        assert (await other.delete(f"/v1/jobs/{job_id}")).status_code == 200
        assert (await following)[-1] == "error"
        assert (await by.get(f"/v1/jobs/{job_id}")).json()["state"] == "cancelled"


async def test_both_feed_one_service_and_its_capacity_costs_no_job_its_attempt(pair: Any) -> None:
    toy, first, second = pair
    clients = (first, second)
    ids = await asyncio.gather(*(submit(clients[n % 2], number=n, steps=3) for n in range(60)))
    most = 0
    until = time.monotonic() + 40
    while True:
        most = max(most, (await first.get(f"{toy.url}/darkroom/v1/describe")).json()["in_flight"])
        jobs = (await first.get("/v1/jobs", params={"limit": "100"})).json()["jobs"]
        if all(job["state"] not in ("queued", "running") for job in jobs):
            break
        assert time.monotonic() < until, [job["state"] for job in jobs]
        await asyncio.sleep(0.05)
    assert most == 2
    assert sorted(job["id"] for job in jobs) == sorted(ids)
    assert {(job["state"], job["attempt"], len(job["pictures"])) for job in jobs} == {("succeeded", 1, 1)}
    page = (await second.get("/v1/assets", params={"limit": "200"})).json()
    assert sum(asset["kind"] == "result" for asset in page["assets"]) == 60


async def granted(first: httpx.AsyncClient, second: httpx.AsyncClient, secret: str, count: int) -> int:
    """How many of `count` quick requests, to both in turn, are within the key's rate."""
    headers = {"authorization": f"Bearer {secret}"}
    answers = await asyncio.gather(
        *((first, second)[n % 2].get("/v1/operations", headers=headers) for n in range(count))
    )
    assert {answer.status_code for answer in answers} <= {200, 429}
    return sum(answer.status_code == 200 for answer in answers)


async def test_a_rate_is_shared_until_redis_goes_and_again_when_it_is_back(
    pair: Any, redis_server: Any
) -> None:
    _, first, second = pair
    wanted = {"name": "limited", "scopes": ["use"], "rate": 10}
    secret = (await first.post("/v1/admin/keys", json=wanted)).json()["secret"]
    await granted(first, second, secret, 2)  # both gateways know the key now
    await asyncio.sleep(1.2)

    async def burst() -> tuple[int, float]:
        began = time.monotonic()
        return await granted(first, second, secret, 80), time.monotonic() - began

    within, seconds = await burst()
    assert 10 <= within <= 11 + 10 * seconds
    redis_server.stop(signal.SIGKILL)
    try:
        job_id = await submit(first, number=1, steps=2)
        kinds = await follow(second, job_id)  # the log is away, the store is not
        assert kinds[-1] == "done"
        assert set(kinds) <= {"snapshot", "done"}
        within, seconds = await burst()
        assert 20 <= within <= 22 + 20 * seconds  # each gateway grants the whole rate
    finally:
        redis_server.start()
    await asyncio.sleep(1.5)  # the pause in which it is left alone
    await burst()  # connections that were kept since before are found dead
    await asyncio.sleep(1.5)
    within, seconds = await burst()
    assert 10 <= within <= 11 + 10 * seconds
    job_id = await submit(second, number=2, steps=6, pause=0.1)
    kinds = await follow(first, job_id)
    assert "progress" in kinds
    assert kinds[-1] == "done"


# ── pictures in S3 ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[str]:
    """The address of moto's server, which stands in for an object store, with the bucket `pictures`."""
    server = Path(sys.executable).with_name("moto_server")
    with (tmp_path / "moto.log").open("wb") as sink:
        process = subprocess.Popen(
            [server, "-H", "127.0.0.1", "-p", "0"], stdout=sink, stderr=sink, start_new_session=True
        )
    try:
        until = time.monotonic() + 30
        said = ""
        while "Running on http://127.0.0.1:" not in said:
            assert process.poll() is None, said
            assert time.monotonic() < until, said
            time.sleep(0.1)
            said = (tmp_path / "moto.log").read_text()
        address = "http://127.0.0.1:" + said.split("Running on http://127.0.0.1:")[1].split()[0].strip(
            "/\x1b[0m"
        )
        urlopen(Request(f"{address}/pictures", method="PUT"), timeout=10).close()
        yield address
    finally:
        process.kill()
        process.wait()


async def test_pictures_are_kept_in_s3(launch: Any, s3: str, samples: Path) -> None:
    rmbg = launch("rmbg")
    options = {
        "endpoint": s3,
        "region": "us-east-1",
        "access_key_id": "any",
        "secret_access_key": "any",
        "allow_http": "true",
    }
    shared = {
        "services": json.dumps({"rmbg": [rmbg.url]}),
        "storage_url": "s3://pictures/studio",
        "storage_options": json.dumps(options),
    }
    gateway = launch("gateway", **shared)
    photo = sorted(samples.glob("*.jpg"))[0].read_bytes()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        answer = await client.post(
            "/v1/remove-background", files={"image": photo}, headers={"accept": "application/json"}
        )
        assert answer.status_code == 200, answer.text
        made = answer.json()["pictures"][0]
        shown = await client.get(made["url"])
        with Image.open(io.BytesIO(shown.content)) as image:
            assert image.size == (made["width"], made["height"])
        assert len(shown.content) == made["bytes"]
        part = await client.get(made["url"], headers={"range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, shown.content[10:20])
        stored = urlopen(f"{s3}/pictures?list-type=2&prefix=studio/", timeout=10).read().decode()
        assert made["id"] in stored
        large = os.urandom(100_000)
        out = io.BytesIO()
        Image.frombytes("RGB", (1500, 2000), (large * 91)[: 1500 * 2000 * 3]).save(
            out, "PNG", compress_level=0
        )
        kept = await client.post(
            "/v1/assets", content=out.getvalue(), headers={"content-type": "image/png"}
        )  # goes up in parts
        assert kept.status_code == 201, kept.text
        assert (await client.get(kept.json()["url"])).content == out.getvalue()
        assert (await client.delete(made["url"])).status_code == 204
        assert (await client.get(made["url"])).status_code == 404
        stored = urlopen(f"{s3}/pictures?list-type=2&prefix=studio/", timeout=10).read().decode()
        assert made["id"] not in stored


@pytest.mark.parametrize(
    ("url", "options"),
    [("nowhere://bucket", "{}"), ("s3://bucket", '{"colour": "red"}')],
)
async def test_a_store_that_cannot_be_used_stops_the_start_with_a_sentence(
    launch: Any, url: str, options: str
) -> None:
    gateway = launch("gateway", begun=False, storage_url=url, storage_options=options)
    said = await asyncio.to_thread(
        subprocess.run, gateway.command, env=gateway.env, capture_output=True, text=True, timeout=30
    )
    assert said.returncode == 2
    assert said.stderr.startswith("DARKROOM_STORAGE_URL or DARKROOM_STORAGE_OPTIONS cannot be used: ")
    assert "Traceback" not in said.stderr
