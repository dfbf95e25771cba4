"""A long random life of the queue, against what must always hold: no job lost, no second result, counts that agree.

Hypothesis draws the life: submissions, claims, workers that finish, fail, give back, fall silent and come back
too late, cancellations, sweeps. The leases run on a clock that the test moves.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.jobs import line
from gateway.jobs import queue as queue_module
from gateway.jobs.job import Claim, NewJob, Outcome
from gateway.jobs.queue import JobQueue
from gateway.settings import Settings
from gateway.store.database import Database

ACTIONS = (
    ["submit"] * 4
    + ["claim"] * 5
    + ["finish"] * 4
    + ["fail", "give back", "renew", "cancel", "late", "silence"]
)
WEIGHTS = {"key_a": 1.0, "key_b": 2.0, "key_c": 0.5}


class Clock:
    """Stands for the module `time` in the queue, so that a lease can run out without waiting."""

    def __init__(self) -> None:
        self.now = time.time()

    def time(self) -> float:
        return self.now


class Life:
    def __init__(self, queue: JobQueue, clock: Clock, seed: int) -> None:
        self.queue, self.clock, self.random = queue, clock, random.Random(seed)
        self.submitted: list[str] = []
        self.held: list[Claim] = []  # by workers that live
        self.gone: list[Claim] = []  # by workers that fell silent, and may speak again
        self.accepted: Counter[str] = Counter()  # outcomes that were taken as the job's

    def _pick(self, claims: list[Claim]) -> Claim | None:
        return claims.pop(self.random.randrange(len(claims))) if claims else None

    async def _finish(self, claim: Claim | None, outcome: Outcome) -> None:
        if claim is not None and await self.queue.finish(claim, outcome):
            self.accepted[claim.job.id] += 1

    async def act(self, action: str) -> None:
        match action:
            case "submit":
                key = self.random.choice(list(WEIGHTS))
                new = NewJob(key, "cleanup", "cleanup", {}, self.random.randint(-2, 2), WEIGHTS[key])
                self.submitted.append((await self.queue.submit(new))[0].id)
            case "claim":
                if (claim := await self.queue.claim("cleanup", "worker")) is not None:
                    self.held.append(claim)
            case "finish":
                await self._finish(self._pick(self.held), Outcome("succeeded", data={}))
            case "fail":
                if (claim := self._pick(self.held)) is not None:
                    after = await self.queue.release(
                        claim, costs_attempt=True, pause=self.random.choice([0, 1])
                    )
                    self.accepted[claim.job.id] += int(after is not None and after.final)
            case "give back":
                if (claim := self._pick(self.held)) is not None:
                    after = await self.queue.release(claim, costs_attempt=False)
                    self.accepted[claim.job.id] += int(after is not None and after.final)
            case "renew":
                for claim in self.held:
                    assert await self.queue.renew(claim) in ("held", "cancelled")
            case "cancel" if self.submitted:
                job_id = self.random.choice(self.submitted)
                before = await self.queue.get(job_id)
                after = await self.queue.cancel(job_id)
                assert before is not None and after is not None
                self.accepted[job_id] += int(after.final and not before.final)
            case "silence":
                self.gone += self.held
                self.held.clear()
                self.clock.now += 1.0
                for job in await self.queue.sweep():
                    self.accepted[job.id] += int(job.final)
            case "late":
                claim = self._pick(self.gone)
                await self._finish(claim, Outcome("succeeded", data={"late": True}))

    async def to_the_end(self) -> None:
        """Everything that still waits is run."""
        for _ in range(20 * len(self.submitted) + 20):
            await self.act("silence")
            while (claim := await self.queue.claim("cleanup", "worker")) is not None:
                await self._finish(claim, Outcome("succeeded", data={}))
            if not (await self.queue.depths()).get("cleanup", None) or not await self._left():
                return

    async def _left(self) -> int:
        return sum([await self.queue.unfinished(key) for key in WEIGHTS])

    async def check(self) -> None:
        for job in await self.queue.list(limit=10_000):
            assert self.accepted[job.id] == 1, f"{job.id} {job.state} has {self.accepted[job.id]} results"
            assert job.final
        assert len(await self.queue.list(limit=10_000)) == len(self.submitted), "a job was lost"
        assert await self._left() == 0
        assert all((d.queued, d.running) == (0, 0) for d in (await self.queue.depths()).values())


async def _live(url: str, actions: list[str], seed: int) -> None:
    database = Database(url)
    await database.open()
    try:
        life = Life(JobQueue(database, Settings(lease=0.5, _env_file=None)), CLOCK, seed)  # type: ignore[call-arg]
        for action in actions:
            await life.act(action)
        await life.to_the_end()
        await life.check()
    finally:
        await database.close()


CLOCK = Clock()


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(queue_module, "time", CLOCK)
    monkeypatch.setattr(line, "time", CLOCK)
    return CLOCK


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.lists(st.sampled_from(ACTIONS), min_size=20, max_size=120), st.integers(0, 2**32))
def test_no_life_of_the_queue_loses_a_job_or_shows_two_results(
    moved: Clock, tmp_path_factory: pytest.TempPathFactory, actions: list[str], seed: int
) -> None:
    folder: Path = tmp_path_factory.mktemp("life")
    asyncio.run(_live(f"sqlite+aiosqlite:///{folder / 'd.db'}", actions, seed))


@pytest.mark.postgres
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 10))])
def test_nor_does_a_long_life_on_postgres(moved: Clock, postgres: Any, seed: int) -> None:
    async def life() -> None:
        draw = random.Random(seed)
        await _live(await postgres.create(), draw.choices(ACTIONS, k=200), seed)

    asyncio.run(life())


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    weights=st.lists(st.sampled_from([0.5, 1.0, 2.0, 4.0]), min_size=2, max_size=5),
    seed=st.integers(0, 2**32),
)
def test_two_keys_that_both_wait_never_drift_apart_by_more_than_one_turn_each(
    tmp_path_factory: pytest.TempPathFactory, weights: list[float], seed: int
) -> None:
    """The bound of start-time fair queueing: |done_a / w_a - done_b / w_b| <= 1 / w_a + 1 / w_b, at every moment."""

    async def life() -> None:
        database = Database(f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('fair') / 'd.db'}")
        await database.open()
        draw = random.Random(seed)
        queue = JobQueue(database, Settings(_env_file=None))  # type: ignore[call-arg]
        keys = {f"key_{n}": weight for n, weight in enumerate(weights)}
        crowd = [key for key in keys for _ in range(12)]
        draw.shuffle(crowd)
        for key in crowd:
            await queue.submit(NewJob(key, "cleanup", "cleanup", {}, draw.randint(-100, 100), keys[key]))
        done: Counter[str] = Counter()
        while max(done.values(), default=0) < 12:  # so long does everyone wait for something
            claim = await queue.claim("cleanup", "worker")
            assert claim is not None
            done[claim.job.owner] += 1
            for one, weight in keys.items():
                for two, other in keys.items():
                    apart = abs(done[one] / weight - done[two] / other)
                    assert apart <= 1 / weight + 1 / other + 1e-9
        await database.close()

    asyncio.run(life())
