"""Memory for what requests bring: as much as there is, the rest on disk, and all of it given back."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.blobs import FileBlob
from gateway.callers import LOCAL
from gateway.forms import Form, Reader
from gateway.intake import Intake
from gateway.room import HeldBlob, Room, RoomInTurn
from gateway.settings import Settings
from services.errors import Malformed, TooLarge
from services.operations import RemoveBackground

pytestmark = pytest.mark.anyio
KB = 1024


async def in_pieces(data: bytes, size: int = 64 * KB) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def reader(folder: Path, room: Room) -> Reader:
    return Reader(folder, max_body=2_000_000, max_file=1_000_000, room=room)


@pytest.mark.parametrize("room", [0, 100 * KB, 10_000 * KB])
async def test_a_body_is_read_whole_wherever_it_was_kept(tmp_path: Path, room: int) -> None:
    place = Room(room)
    document = {"a": base64.b64encode(os.urandom(900_000)).decode(), "b": [1, "x\\y"]}
    found = await reader(tmp_path, place).form("application/json", in_pieces(orjson.dumps(document)))
    assert found.fields == document
    assert place.left == room
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("room", [0, 100 * KB, 10_000 * KB])
async def test_what_is_refused_leaves_nothing_behind(tmp_path: Path, room: int) -> None:
    place = Room(room)
    for body, error in ((b'{"a": "' + bytes(2_100_000), TooLarge), (b"[" * 900_000, Malformed)):
        with pytest.raises(error):
            await reader(tmp_path, place).form("application/json", in_pieces(body))
        assert place.left == room
        assert not list(tmp_path.iterdir())


async def test_pictures_are_held_while_there_is_room(tmp_path: Path, png: bytes) -> None:
    place, nobody_asks_for_assets = Room(300 * KB), None
    settings = Settings(data=tmp_path, _env_file=None)  # type: ignore[call-arg]
    intake = Intake(settings, nobody_asks_for_assets, tmp_path, place)  # type: ignore[arg-type]
    large = png + bytes(200 * KB)  # what follows a PNG's end is nobody's
    form = {"image": base64.b64encode(large).decode()}
    kept: list[Any] = []
    for kind in (HeldBlob, FileBlob):
        _, parts = await intake.receive(RemoveBackground, Form(fields=dict(form)), LOCAL)
        assert isinstance(parts["image"], kind)
        assert b"".join([piece async for piece in parts["image"].pieces()]) == large
        kept.append(parts["image"])
    assert place.left == 300 * KB - len(large)
    for blob in kept:
        blob.discard()
        blob.discard()
    assert place.left == 300 * KB
    assert not list(tmp_path.glob("upload-*"))


async def test_room_is_waited_for_and_then_done_without() -> None:
    place, at_once, most = RoomInTurn(10, 0.5), 0, 0

    async def use(size: int) -> None:
        nonlocal at_once, most
        async with place.of(size):
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.01)
            at_once -= 1

    await asyncio.gather(*(use(4) for _ in range(9)))
    assert most == 2
    await use(1000)  # more than there is takes all of it
    async with place.of(10):
        began = time.monotonic()
        await use(4)
        assert 0.5 <= time.monotonic() - began < 5
    began = time.monotonic()
    await use(10)
    assert time.monotonic() - began < 0.5
