"""What is kept of pictures, with a real database and a real folder."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.assets import Assets
from gateway.callers import LOCAL
from gateway.settings import Settings
from gateway.store.database import Database
from services.errors import NotFound, Unavailable

pytestmark = pytest.mark.anyio


async def some(data: bytes = b"a picture") -> AsyncIterator[bytes]:
    yield data


@pytest.fixture
def assets(settings: Settings, database: Database) -> Assets:
    return Assets(settings, database)


def files(settings: Settings) -> list[str]:
    return sorted(path.name for path in (settings.data / "assets").rglob("*") if path.is_file())


async def test_bytes_of_a_writer_that_was_killed_go_and_pictures_stay(
    assets: Assets, settings: Settings
) -> None:
    kept = await assets.put(some(), owner=LOCAL.key_id, media_type="image/png")
    stray = settings.data / "assets" / "ab" / "ast_ab0123"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"half a thought")
    foreign = settings.data / "assets" / "README"
    foreign.write_text("not ours")
    assert await assets.purge_strays() == 0  # it may still be on its way
    assert await assets.purge_strays(older_than=-1) == 1
    assert files(settings) == sorted(["README", kept.id])
    assert [piece async for piece in await assets.read(kept)] == [b"a picture"]


async def test_results_of_lost_attempts_go_and_those_of_other_jobs_stay(
    assets: Assets, settings: Settings
) -> None:
    owner = LOCAL.key_id
    made = [
        await assets.put(some(), owner=owner, media_type="image/png", kind=kind, job_id=job)
        for kind, job in (("input", "job_1"), ("result", "job_1"), ("result", "job_1"), ("result", "job_2"))
    ]
    await assets.discard_results("job_1", but=[made[2].id])
    assert files(settings) == sorted(asset.id for asset in made if asset is not made[1])
    with pytest.raises(NotFound):
        await assets.get(made[1].id, LOCAL)


async def test_a_folder_that_a_setting_names_is_made(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    elsewhere = settings.model_copy(update={"storage_url": f"file://{tmp_path / 'not' / 'there'}"})
    await Assets(elsewhere, database).check()


async def test_a_store_that_takes_no_part_is_counted(settings: Settings, database: Database) -> None:
    faults: list[str] = []
    assets = Assets(settings, database, faults.append)
    await assets.check()
    assert faults == []
    folder = settings.data / "assets"
    shutil.rmtree(folder)
    folder.write_text("no folder any more")
    with pytest.raises(Unavailable):
        await assets.check()
    assert faults == ["storage"]


async def test_a_store_that_does_not_exist_is_named(settings: Settings, database: Database) -> None:
    with pytest.raises(Unavailable, match="DARKROOM_STORAGE_URL"):
        Assets(settings.model_copy(update={"storage_url": "nowhere://x"}), database)
