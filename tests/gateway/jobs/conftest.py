"""A queue on each database."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.jobs.job import NewJob
from gateway.jobs.queue import JobQueue
from gateway.settings import Settings
from gateway.store.database import Database

Make = Callable[..., NewJob]


@pytest.fixture
def queue(database: Database, settings: Settings) -> JobQueue:
    return JobQueue(database, settings)


@pytest.fixture
def new() -> Make:
    def make(owner: str = "key_a", **more: object) -> NewJob:
        return NewJob(**{"owner": owner, "operation": "cleanup", "service": "cleanup", "params": {}} | more)  # type: ignore[arg-type]

    return make
