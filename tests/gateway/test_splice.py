"""JSON with files in it: what comes out is what a whole answer would be, in pieces."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.doors.splice import SLICE, Coded, Pieces, Spliced, pieces
from gateway.kept import STEP, Kept
from gateway.room import Room

pytestmark = pytest.mark.anyio
SIZES = (0, 1, 2, 3, STEP - 1, STEP, STEP + 1, 3 * STEP + 2)


async def sent(answer: Pieces) -> tuple[dict[bytes, bytes], list[bytes]]:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    await answer({"type": "http"}, receive, send)
    assert [message.get("more_body", False) for message in messages[1:]][-1] is False
    return dict(messages[0]["headers"]), [message["body"] for message in messages[1:]]


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_is_one_text_of_the_document(size: int) -> None:
    data = os.urandom(size)
    headers, bodies = await sent(Spliced({"a": [1, {"b": Coded(Kept.of(data))}], "c": "é"}, {"x-mine": "1"}))
    whole = b"".join(bodies)
    assert json.loads(whole) == {"a": [1, {"b": base64.b64encode(data).decode()}], "c": "é"}
    assert headers[b"content-length"] == str(len(whole)).encode()
    assert (headers[b"content-type"], headers[b"x-mine"]) == (b"application/json", b"1")
    assert max(map(len, bodies)) <= SLICE // 3 * 4


async def test_many_files_stay_in_their_places() -> None:
    files = [os.urandom(size) for size in SIZES]
    document = {
        "images": [Coded(Kept.of(one)) for one in files],
        "last": Coded(Kept.of(b"end")),
        "info": '{"a": "b"}',
    }
    _, bodies = await sent(Spliced(document))
    told = json.loads(b"".join(bodies))
    assert [base64.b64decode(one) for one in told["images"]] == files
    assert (base64.b64decode(told["last"]), told["info"]) == (b"end", '{"a": "b"}')
    assert b"".join([piece async for piece in pieces(document)]) == b"".join(bodies)


async def test_a_document_without_files_is_itself() -> None:
    _, bodies = await sent(Spliced({"a": None}))
    assert b"".join(bodies) == b'{"a":null}'


@pytest.mark.parametrize("room", [0, STEP + 100, 2**30])
async def test_a_file_is_read_alike_from_memory_and_from_disk(tmp_path: Path, room: int) -> None:
    data, place = os.urandom(5 * STEP + 7), Room(room)
    kept = Kept(place, tmp_path)
    for at in range(0, len(data), 50_000):
        await kept.write(memoryview(data)[at : at + 50_000])
    kept.written()
    assert (kept.size, kept.data, await kept.head(9)) == (len(data), data, data[:9])
    assert b"".join([piece async for piece in kept.pieces(70_000)]) == data
    headers, bodies = await sent(Pieces([b"x", kept, Coded(kept)], "image/png"))
    assert b"".join(bodies) == b"x" + data + base64.b64encode(data)
    assert headers[b"content-length"] == str(len(b"".join(bodies))).encode()
    assert place.left >= 0
    assert not list(tmp_path.iterdir())  # its file has no name
    del kept
    assert place.left == room
