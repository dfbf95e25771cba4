"""Bodies as they come: multipart and JSON, whole and broken, in any pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.blobs import FileBlob
from gateway.forms import Reader
from services.errors import Malformed, TooLarge, UnsupportedMedia

pytestmark = pytest.mark.anyio
TYPE = "multipart/form-data; boundary=line"


def multipart(*parts: tuple[str, str | None, bytes]) -> bytes:
    body = b""
    for name, filename, data in parts:
        file = f'; filename="{filename}"' if filename is not None else ""
        body += (
            f'--line\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + data + b"\r\n"
        )
    return body + b"--line--\r\n"


async def pieces(data: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path, max_body=8_000_000, max_file=5_000_000)


async def whole(blob: object) -> bytes:
    return b"".join([piece async for piece in blob.pieces()])  # type: ignore[attr-defined]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    picture=st.binary(max_size=200_000),
    text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60),
    size=st.integers(min_value=1, max_value=70_000),
)
async def test_a_form_reads_the_same_however_it_is_cut(
    tmp_path: Path, picture: bytes, text: str, size: int
) -> None:
    reader = Reader(tmp_path, max_body=8_000_000, max_file=5_000_000)
    body = multipart(("prompt", None, text.encode("utf-8", "surrogatepass")), ("image", "a.png", picture))
    try:
        form = await reader.form(TYPE, pieces(body, max(size, len(body) // 200)))
    except Malformed:
        assert any(0xD800 <= ord(letter) < 0xE000 for letter in text)
        return
    assert form.fields == {"prompt": text}
    assert await whole(form.files["image"]) == picture
    form.discard()


async def test_a_large_file_lies_on_disk_and_goes_when_it_is_discarded(
    reader: Reader, tmp_path: Path
) -> None:
    form = await reader.form(TYPE, pieces(multipart(("image", "a.png", b"x" * 1_000_000))))
    assert isinstance(form.files["image"], FileBlob)
    assert len(list(tmp_path.iterdir())) == 1
    form.discard()
    assert not list(tmp_path.iterdir())


async def test_a_file_field_left_empty_by_a_browser_counts_as_absent(reader: Reader) -> None:
    form = await reader.form(TYPE, pieces(multipart(("mask", "", b""), ("image", "a.png", b"abc"))))
    assert set(form.files) == {"image"}


@pytest.mark.parametrize(
    "body",
    [
        multipart(("image", "a.png", b"abc"))[:-8],
        b"--other\r\n\r\n",
        b"",
        b"--line\r\nContent-Disposition: form-data\r\n\r\nx\r\n--line--\r\n",
        multipart(("image", "a", b"1"), ("image", "b", b"2")),
        multipart(("prompt", None, b"\xff\xfe")),
    ],
)
async def test_a_broken_form_is_malformed_and_leaves_nothing_behind(
    reader: Reader, tmp_path: Path, body: bytes
) -> None:
    with pytest.raises(Malformed):
        await reader.form(TYPE, pieces(body))
    assert not list(tmp_path.iterdir())


async def test_a_file_over_the_limit_is_refused_while_it_arrives(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(TooLarge) as caught:
        await reader.form(TYPE, pieces(multipart(("image", "a.png", b"x" * 5_000_001))))
    assert caught.value.field == "image"
    assert not list(tmp_path.iterdir())


async def test_more_parts_than_any_form_has_are_refused(reader: Reader) -> None:
    with pytest.raises(TooLarge):
        await reader.form(TYPE, pieces(multipart(*[(f"f{n}", None, b"") for n in range(100)])))


@pytest.mark.parametrize("body", [b"{", b"[1]", b'"x"', b"null", b'{"a": NaN}', b"\xff"])
async def test_a_body_that_is_no_json_object_is_malformed(reader: Reader, body: bytes) -> None:
    with pytest.raises(Malformed):
        await reader.form("application/json", pieces(body))


async def test_a_large_json_body_is_read_too(reader: Reader, tmp_path: Path) -> None:
    form = await reader.form("application/json", pieces(b'{"image": "' + b"A" * 3_000_000 + b'"}'))
    assert len(form.fields["image"]) == 3_000_000
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["text/plain", "", "image/png", "application/x-www-form-urlencoded"])
async def test_other_content_types_are_refused_by_name(reader: Reader, kind: str) -> None:
    with pytest.raises(UnsupportedMedia):
        await reader.form(kind, pieces(b"x"))


async def test_a_multipart_without_boundary_is_malformed(reader: Reader) -> None:
    with pytest.raises(Malformed):
        await reader.form("multipart/form-data", pieces(b"x"))


async def test_several_parts_of_one_name_are_numbered_where_the_name_says_that_they_are_several(
    reader: Reader,
) -> None:
    body = multipart(("image[]", "a.png", b"one"), ("image[]", "b.png", b"two"), ("note[]", None, b"x"))
    form = await reader.form(TYPE, pieces(body))
    assert {name: await whole(blob) for name, blob in form.files.items()} == {
        "image.0": b"one",
        "image.1": b"two",
    }
    assert form.fields == {"note.0": "x"}
    form.discard()
