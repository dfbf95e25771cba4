"""Webhooks reach a real HTTP server, signed, once where all goes well, and again where it does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from aiohttp import web
from sqlalchemy import select, update

from gateway.jobs.job import Job, NewJob, Outcome
from gateway.jobs.queue import JobQueue
from gateway.jobs.retention import Retention
from gateway.jobs.webhooks import FIRST_PAUSE, LONGEST_PAUSE, Webhooks, pause_after
from gateway.metrics import Metrics
from gateway.settings import Settings
from gateway.signing import Signer, verify_webhook
from gateway.store.database import Database
from gateway.store.tables import usage, webhooks

pytestmark = pytest.mark.anyio
Make = Callable[..., NewJob]


@dataclass
class Receiver:
    url: str = ""
    answers: list[int] = field(default_factory=list)  # statuses to give first; then 204
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()

    async def take(request: web.Request) -> web.Response:
        made.got.append(({k.lower(): v for k, v in request.headers.items()}, await request.read()))
        status = made.answers.pop(0) if made.answers else 204
        return web.Response(status=status, headers={"location": "/elsewhere"} if status == 302 else {})

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield made
    await runner.cleanup()


@pytest.fixture
def state(database: Database, settings: Settings) -> Any:
    mine = settings.model_copy(
        update={"webhook_allow_private": True, "webhook_attempts": 3, "public_url": "https://d.example"}
    )
    return SimpleNamespace(
        db=database,
        settings=mine,
        queue=JobQueue(database, mine),
        metrics=Metrics(),
        signer=Signer(b"s" * 32),
    )


async def _ended(state: Any, new: NewJob) -> Job:
    job, _ = await state.queue.submit(new)
    claim = await state.queue.claim(new.service, "worker")
    await state.queue.finish(claim, Outcome("succeeded", pictures=[{"id": "ast_1", "role": "picture"}]))
    return job  # type: ignore[no-any-return]


async def _rows(database: Database) -> list[Any]:
    async with database.read() as conn:
        return list((await conn.execute(select(webhooks))).mappings())


async def _due_now(database: Database) -> None:
    async with database.write() as conn:
        await conn.execute(update(webhooks).where(webhooks.c.not_before.is_not(None)).values(not_before=0))


async def test_the_end_of_a_job_is_told_once_with_a_signature_that_holds(
    state: Any, receiver: Receiver, new: Make
) -> None:
    job = await _ended(state, new(webhook=receiver.url))
    hooks = Webhooks(state)
    assert await hooks.deliver_due() == 1
    assert await hooks.deliver_due() == 0
    (headers, body), document = receiver.got[0], orjson.loads(receiver.got[0][1])
    assert (document["id"], document["state"]) == (job.id, "succeeded")
    assert document["pictures"][0]["url"] == "https://d.example/v1/assets/ast_1"
    assert verify_webhook(state.signer.webhook_secret, headers["darkroom-signature"], body)
    assert not verify_webhook(state.signer.webhook_secret, headers["darkroom-signature"], body + b" ")
    row = (await _rows(state.db))[0]
    assert (row["id"], row["status"], row["attempts"]) == (headers["darkroom-delivery"], 204, 1)


async def test_a_receiver_that_fails_is_told_again_under_the_same_delivery_id(
    state: Any, receiver: Receiver, new: Make
) -> None:
    receiver.answers = [500, 302]
    await _ended(state, new(webhook=receiver.url))
    hooks = Webhooks(state)
    for _ in range(3):
        assert await hooks.deliver_due() == 1
        assert await hooks.deliver_due() == 0, "it waits out a pause first"
        await _due_now(state.db)
    assert await hooks.deliver_due() == 0
    assert len({headers["darkroom-delivery"] for headers, _ in receiver.got}) == 1
    assert len(receiver.got) == 3, "the redirect was not followed"
    assert (await _rows(state.db))[0]["delivered_at"] is not None


async def test_a_receiver_that_never_answers_well_is_given_up(
    state: Any, receiver: Receiver, new: Make
) -> None:
    receiver.answers = [500] * 10
    await _ended(state, new(webhook=receiver.url))
    hooks = Webhooks(state)
    for _ in range(3):
        await hooks.deliver_due()
        await _due_now(state.db)
    assert await hooks.deliver_due() == 0
    row = (await _rows(state.db))[0]
    assert (row["problem"], row["delivered_at"], row["not_before"]) == ("it answered 500", None, None)


async def test_a_private_address_is_refused_for_good(state: Any, receiver: Receiver, new: Make) -> None:
    state.settings = state.settings.model_copy(update={"webhook_allow_private": False})
    await _ended(state, new(webhook=receiver.url))
    hooks = Webhooks(state)
    await hooks.deliver_due()
    await _due_now(state.db)
    assert await hooks.deliver_due() == 0
    assert receiver.got == []


async def test_two_gateways_do_not_tell_the_same_thing(state: Any, receiver: Receiver, new: Make) -> None:
    for _ in range(20):
        await _ended(state, new(webhook=receiver.url))
    hooks = [Webhooks(state) for _ in range(4)]
    while sum(await asyncio.gather(*(one.deliver_due() for one in hooks))):
        pass
    assert len({headers["darkroom-delivery"] for headers, _ in receiver.got}) == len(receiver.got) == 20


async def test_a_delivery_whose_gateway_died_is_made_by_another(
    state: Any, receiver: Receiver, new: Make
) -> None:
    await _ended(state, new(webhook=receiver.url))
    assert len(await Webhooks(state)._claim()) == 1  # and nothing more: it died
    assert await Webhooks(state).deliver_due() == 0
    await _due_now(state.db)
    assert await Webhooks(state).deliver_due() == 1
    assert len(receiver.got) == 1


async def test_the_background_task_delivers_and_stops(state: Any, receiver: Receiver, new: Make) -> None:
    hooks = Webhooks(state)
    await hooks.start()
    await _ended(state, new(webhook=receiver.url))
    async with asyncio.timeout(10):
        while not receiver.got:
            await asyncio.sleep(0.02)
    await hooks.stop()


def test_pauses_grow_to_an_hour() -> None:
    assert FIRST_PAUSE / 2 <= pause_after(1) <= FIRST_PAUSE * 1.5
    assert pause_after(3) > pause_after(1)
    assert LONGEST_PAUSE / 2 <= pause_after(12) <= LONGEST_PAUSE * 1.5


async def test_retention_forgets_old_jobs_expired_pictures_and_counts_of_long_past_days(
    state: Any, new: Make
) -> None:
    expired = [500, 7, 0]

    async def purge() -> int:
        return expired.pop(0)

    state.assets = SimpleNamespace(purge=purge)
    state.settings = state.settings.model_copy(update={"keep_jobs": 0.01})
    await _ended(state, new())
    waiting = (await state.queue.submit(new()))[0]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    async with state.db.write() as conn:
        for day in ("2020-01-01", today):
            await conn.execute(usage.insert(), {"key_id": "k", "day": day, "pictures": 1, "requests": 1})
    await asyncio.sleep(0.05)
    forgotten = await Retention(state).sweep()
    assert (forgotten.jobs, forgotten.assets, forgotten.usage) == (1, 507, 1)
    assert [job.id for job in await state.queue.list()] == [waiting.id]
