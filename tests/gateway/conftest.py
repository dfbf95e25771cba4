"""What tests of the gateway share: its settings, and a database of either kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import Settings
from gateway.store.database import Database


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'darkroom.db'}"
    server: Any = request.getfixturevalue("postgres")
    url: str = await server.create()
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open, migrated database; every test that uses it runs on SQLite and on PostgreSQL."""
    db = Database(database_url)
    await db.open()
    yield db
    await db.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path, lease=0.5, job_attempts=3, _env_file=None)  # type: ignore[call-arg]
