"""Bodies arrive byte for byte, whole or streamed, and again at a second attempt; python-multipart judges."""

import asyncio
import json
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from python_multipart import MultipartParser
from python_multipart.multipart import parse_options_header

from gateway.blobs import FileBlob, MemoryBlob
from gateway.upstream.multipart import WHOLE, Body
from services.errors import ServiceFault
from services.operations import Cleanup
from services.pictures import Mask, Picture

pytestmark = pytest.mark.anyio


def parts(content_type: str, body: bytes) -> dict[str, tuple[str, bytes]]:
    """Name -> (content type, bytes)."""
    boundary = parse_options_header(content_type)[1][b"boundary"]
    found: list[tuple[dict[str, str], bytearray]] = []
    name = bytearray()
    value = bytearray()

    def begin() -> None:
        found.append(({}, bytearray()))

    def header_end() -> None:
        found[-1][0][name.decode().lower()] = value.decode("latin-1")
        name.clear()
        value.clear()

    MultipartParser(
        boundary,
        {
            "on_part_begin": begin,
            "on_part_data": lambda data, start, end: found[-1][1].extend(data[start:end]),
            "on_header_field": lambda data, start, end: name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: value.extend(data[start:end]),
            "on_header_end": header_end,
        },
    ).write(body)
    named = {}
    for headers, data in found:
        options = parse_options_header(headers["content-disposition"])[1]
        named[options[b"name"].decode()] = (headers["content-type"], bytes(data))
    return named


async def read(body: Body) -> bytes:
    if body.whole is not None:
        return body.whole
    return b"".join([piece async for piece in body.pieces()])


@given(
    st.dictionaries(
        st.text(
            st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\'), min_size=1, max_size=40
        ).filter(lambda name: name != "ask"),
        st.binary(max_size=3000),
        max_size=4,
    ),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_any_names_and_bytes_arrive_as_they_were(pictures, streamed):
    size = WHOLE if streamed else 0
    given_ = {name: MemoryBlob(data + bytes(size), "image/png") for name, data in pictures.items()}
    body = Body(b'{"a":1}', given_)
    for _ in range(2):  # a retry reads it again
        raw = asyncio.run(read(body))
        assert len(raw) == body.size
        assert parts(body.content_type, raw) == {
            "ask": ("application/json", b'{"a":1}'),
            **{name: ("image/png", data + bytes(size)) for name, data in pictures.items()},
        }


async def test_a_quote_or_a_line_end_in_a_name_stays_inside_its_header():
    body = Body(b"{}", {'a"\r\nx: y': MemoryBlob(b"data")})
    assert body.whole is not None
    assert b'name="a%22%0D%0Ax: y"' in body.whole


async def test_small_bodies_are_whole_and_files_are_streamed(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"file")
    assert Body(b"{}", {"image": MemoryBlob(b"x" * 1000)}).whole is not None
    assert Body(b"{}", {"image": MemoryBlob(b"x" * WHOLE)}).whole is None
    assert Body(b"{}", {"image": FileBlob(tmp_path / "x", 4, temporary=False)}).whole is None


@pytest.mark.parametrize("size", [0, 1, 1000, WHOLE - 600, WHOLE, WHOLE + 1, 1_000_003, 4 * 2**20])
@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_bodies_of_every_size_arrive_byte_for_byte(stub, upstream, run, tmp_path, size, kind):
    service = await stub(keep_bodies=True)
    pool = (await upstream({"cleanup": [service]})).pool("cleanup")
    image, mask = os.urandom(size), os.urandom(77)
    if kind == "file":
        (tmp_path / "image").write_bytes(image)
        blob = FileBlob(tmp_path / "image", size, "image/png", temporary=False)
    else:
        blob = MemoryBlob(image, "image/png")
    ask = Cleanup(image=Picture("part:image"), mask=Mask("part:mask"))
    await run(pool, ask=ask, parts={"image": blob, "mask": MemoryBlob(mask, "image/webp")})
    headers, body = service.seen.bodies[0]
    arrived = parts(headers["content-type"], body)
    assert json.loads(arrived.pop("ask")[1]) == ask.model_dump(mode="json", exclude_none=True)
    assert arrived == {"image": ("image/png", image), "mask": ("image/webp", mask)}


async def test_a_second_attempt_sends_the_whole_body_again(stub, upstream, run, tmp_path):
    broken, good = await stub(fail="early"), await stub(keep_bodies=True)
    pool = (await upstream({"caption": [broken, good]})).pool("caption")
    data = os.urandom(2_000_000)
    (tmp_path / "image").write_bytes(data)
    for _ in range(2):
        await run(pool, parts={"image": FileBlob(tmp_path / "image", len(data), temporary=False)})
    assert broken.seen.calls
    assert [parts(h["content-type"], body)["image"][1] == data for h, body in good.seen.bodies] == [
        True,
        True,
    ]


async def test_a_picture_that_cannot_be_read_is_our_fault_and_not_the_endpoints(
    stub, upstream, run, tmp_path
):
    service = await stub()
    pool = (await upstream({"caption": [service]}, breaker_failures=1)).pool("caption")
    with pytest.raises(ServiceFault, match="no longer be read"):
        await run(pool, parts={"image": FileBlob(tmp_path / "gone", 10, temporary=False)})
    assert pool.status().endpoints[0].breaker == "closed"
    await run(pool)


async def test_a_large_file_is_never_in_memory_whole(stub, upstream, run, tmp_path):
    service = await stub()
    pool = (await upstream({"caption": [service]})).pool("caption")
    size = 32 * 2**20
    with (tmp_path / "image").open("wb") as file:
        file.truncate(size)
    await run(pool)
    tracemalloc.start()
    try:
        await run(pool, seconds=30, parts={"image": FileBlob(tmp_path / "image", size, temporary=False)})
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 6 * 2**20
