"""Rollouts of the containers under load: replacing a service or the gateway fails no call and loses no job.

`DARKROOM_ROUNDS=10` makes ten rounds of each, else there are two.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from services.operations import OPERATIONS
from tests.images.cluster import Cluster, Deployment, Load
from tests.images.engine import SERVERS, docker, image, until
from tests.images.test_stack import ASKED

pytestmark = [pytest.mark.images, pytest.mark.anyio, pytest.mark.timeout(3000)]
ROUNDS = int(os.environ.get("DARKROOM_ROUNDS", "2"))
KEY = "dk_rolling-admin-key-0123456789abcdef"
CALLERS, PAUSE = 3, 0.7
# an operation of each image, quick enough that many calls meet each replacement
OPERATION = {
    "rmbg": "remove-background",
    "cleanup": "cleanup",
    "portrait": "portrait",
    "caption": "caption",
    "diffusion": "text-to-image",
    "pix2pix": "sketch-to-image",
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A network with PostgreSQL, Redis and a store in it."""
    made = Cluster(f"darkroom-roll-{secrets.token_hex(3)}", tmp_path_factory.mktemp("cluster"))
    try:
        database = {"POSTGRES_USER": "darkroom", "POSTGRES_DB": "darkroom", "POSTGRES_PASSWORD": "trial"}
        kept = ["--volume", "/var/lib/postgresql/data"]
        postgres = made.start(SERVERS, "postgres.sh", options=["--user", "999:999", *kept], **database)
        redis = made.start(
            SERVERS,
            "redis-server",
            "--save",
            "",
            "--bind",
            "0.0.0.0",
            "--protected-mode",
            "no",
            "--dir",
            "/tmp",
        )
        store = made.start(SERVERS, "moto_server", "--host=0.0.0.0", "--port=9000")
        for name, container in (("postgres", postgres), ("redis", redis), ("minio", store)):
            made.point(name, [made.address(container)])
        until(
            lambda: docker("exec", postgres, "pg_isready", "--host=127.0.0.1", check=False).endswith(
                "accepting connections"
            ),
            120,
            "PostgreSQL",
        )
        until(
            lambda: not docker("exec", store, "bucket.py", check=False).strip() and bucket(made, store),
            60,
            "S3",
        )
        made.parts = {"postgres": postgres, "redis": redis}
        yield made
    finally:
        made.close()


def bucket(cluster: Cluster, store: str) -> bool:
    try:
        return httpx.get(f"http://{cluster.address(store)}:9000/darkroom", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def service(cluster: Cluster, name: str) -> Deployment:
    told = {"SERVICE": "controlnet", "OMP_NUM_THREADS": "1"}
    ready = ":8501/v1/models/creatures/metadata" if name == "pix2pix" else ":3000/readyz"
    return Deployment(cluster, f"{name}-headless", lambda: cluster.start(image(name), **told), ready)


def gateway(cluster: Cluster, name: str) -> Deployment:
    scheme, port = ("dns+grpc", 8500) if name == "pix2pix" else ("dns+http", 3000)
    at = [f"{scheme}://{name}-headless:{port}"]
    options = {"endpoint": "http://minio:9000", "region": "us-east-1", "allow_http": "true"}
    options |= {"access_key_id": "any", "secret_access_key": "any"}
    told = {
        "DARKROOM_SERVICES": json.dumps(
            {"sdxl": at, "controlnet": at} if name == "diffusion" else {name: at}
        ),
        "DARKROOM_DATABASE_URL": "postgresql://darkroom:trial@postgres:5432/darkroom",
        "DARKROOM_REDIS_URL": "redis://redis:6379/0",
        "DARKROOM_STORAGE_URL": "s3://darkroom/pictures",
        "DARKROOM_STORAGE_OPTIONS": json.dumps(options),
        "DARKROOM_SECRET": "two gateways share this secret",
        "DARKROOM_ADMIN_KEY": KEY,
        "DARKROOM_REPLICAS": "2",
    }
    data = ["--tmpfs", "/var/lib/darkroom:uid=10001,gid=10001"]
    start = lambda: cluster.start(image("gateway"), options=data, **told)  # noqa: E731
    # as a preStop hook gives a balancer the time to learn of it
    return Deployment(cluster, "gateway", start, ":8080/readyz", leaving=1.0)


def load(operation: str) -> Load:
    fields, pictures = ASKED[operation]
    encoded = {name: base64.b64encode(data).decode() for name, data in pictures.items()}

    async def ask(http: httpx.AsyncClient) -> httpx.Response:
        parts = [(name, (None, str(value))) for name, value in fields.items()]
        files = [(name, (name, data, "image/png")) for name, data in pictures.items()]
        forms = files + parts or [("none", (None, ""))]
        return await http.post(f"/v1/{operation}", files=forms)

    async def submit(http: httpx.AsyncClient) -> httpx.Response:
        return await http.post("/v1/jobs", json={"operation": operation, "params": fields | encoded})

    return Load(KEY, ask, submit)


@pytest.fixture
async def running(
    cluster: Cluster, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[Deployment, Deployment, Load]]:
    """Two replicas of a service, two gateways, and the load that knows them."""
    name = request.param
    assert OPERATIONS[OPERATION[name]]
    behind, front, calls = service(cluster, name), gateway(cluster, name), load(OPERATION[name])
    front.changed = calls.point
    try:
        await asyncio.to_thread(behind.scale, 2)
        await asyncio.to_thread(front.scale, 2)
        yield behind, front, calls
    finally:
        await calls.close()
        if calls.seen.failures:
            for gateway_ in front.pods:  # what it learned of its endpoints, for whoever reads of the failure
                told = docker("logs", gateway_, check=False).splitlines()
                print(
                    "\n".join(
                        line for line in told if '"darkroom.upstream"' in line or '"access"' not in line
                    )
                )
        for container in [*behind.pods, *front.pods]:
            docker("rm", "--force", "--volumes", container, check=False)


async def all_done(calls: Load, what: str) -> None:
    seen, ended = calls.seen, await calls.settled()
    attempts = max((job["attempt"] for job in ended.values()), default=0)
    states = {job["state"] for job in ended.values()}
    print(
        f"\n{what}: {seen.answered} calls answered (the slowest after {seen.slowest:.1f} s), "
        f"{len(seen.failures)} failed; {len(ended)} jobs ended, {sorted(states)}, at most {attempts} attempts"
    )
    assert not seen.failures, seen.failures[:5]
    assert states == {"succeeded"}, [job for job in ended.values() if job["state"] != "succeeded"][:3]
    assert seen.answered > 10
    assert len(ended) > 3


@pytest.mark.parametrize("running", OPERATION, indirect=True)
async def test_a_service_is_replaced_under_load_without_a_failed_call_or_a_lost_job(running: Any) -> None:
    behind, _, calls = running
    async with calls.running(CALLERS, PAUSE):
        for round_ in range(ROUNDS):
            # every other round as where no GPU is to spare: the old one goes first
            await asyncio.to_thread(behind.replace, surge=round_ % 2 == 0)
    await all_done(calls, f"{behind.name}, {ROUNDS} rounds")


@pytest.mark.parametrize("running", ["cleanup"], indirect=True)
async def test_the_gateway_is_replaced_under_load_without_a_failed_call_or_a_lost_job(running: Any) -> None:
    _, front, calls = running
    async with calls.running(CALLERS, PAUSE):
        for round_ in range(ROUNDS):
            await asyncio.to_thread(front.replace, surge=round_ % 2 == 0)
    await all_done(calls, f"gateway, {ROUNDS} rounds")


@pytest.mark.parametrize("running", OPERATION, indirect=True)
async def test_a_kill_of_any_one_loses_no_job(cluster: Any, running: Any) -> None:
    behind, front, calls = running
    async with calls.running(1, PAUSE):
        for deployment in (behind, front):
            lost = await asyncio.to_thread(deployment.lose)
            await asyncio.sleep(1)
            deployment.publish()  # its endpoint goes when its node has noticed
            await asyncio.to_thread(deployment.scale, 1)
            assert lost not in deployment.pods
        for part in ("redis", "postgres"):
            await asyncio.to_thread(docker, "kill", cluster.parts[part])
            await asyncio.sleep(2)
            await asyncio.to_thread(docker, "start", cluster.parts[part])
            await asyncio.to_thread(
                cluster.point, part, [await asyncio.to_thread(cluster.address, cluster.parts[part])]
            )
            await asyncio.sleep(5)
    ended = await calls.settled()
    print(
        f"\n{behind.name}, kills: {len(ended)} jobs ended; {calls.seen.answered} calls answered, "
        f"{len(calls.seen.failures)} failed"
    )
    assert {job["state"] for job in ended.values()} == {"succeeded"}
    assert len(ended) > 20
