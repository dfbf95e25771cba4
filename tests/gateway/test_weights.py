"""LoRAs' files on their way through the gateway: as parts, as base64, as assets, within a limit of their own."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.blobs import Blob, MemoryBlob
from gateway.callers import LOCAL
from gateway.forms import Form, Reader
from gateway.intake import Intake
from gateway.settings import Settings
from services.errors import BadInput, BadPicture, TooLarge
from services.operations import Cleanup, TextToImage

pytestmark = pytest.mark.anyio


def safetensors(size: int = 64) -> bytes:
    raw = json.dumps({"a": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(raw)) + raw + b"\1" * size


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    return Intake(Settings(data=tmp_path, max_lora_bytes=100_000), cast(Any, None), tmp_path)


def asking(lora: str, **files: bytes) -> Form:
    blobs: dict[str, Blob] = {name: MemoryBlob(data) for name, data in files.items()}
    return Form({"prompt": "ink", "loras": [{"file": lora, "weight": 0.5}]}, blobs)


async def test_a_part_and_base64_are_passed_on_under_their_path(intake: Intake) -> None:
    for form in (asking("part:mine", mine=safetensors()), asking(base64.b64encode(safetensors()).decode())):
        ask, parts = await intake.receive(TextToImage, form, LOCAL)
        assert ask.pictures()["loras.0.file"].ref == "part:loras.0.file"
        assert await parts["loras.0.file"].head(10_000) == safetensors()


@pytest.mark.parametrize("data", [b"", b"\x80\x04 a pickle", b"\x89PNG\r\n\x1a\n" + bytes(64)])
async def test_what_is_no_safetensors_file_is_refused_with_its_field(intake: Intake, data: bytes) -> None:
    with pytest.raises(BadInput, match="safetensors") as caught:
        await intake.receive(TextToImage, asking("part:mine", mine=data), LOCAL)
    assert caught.value.field == "loras.0.file"


async def test_a_lora_is_not_fetched_from_an_address(intake: Intake) -> None:
    with pytest.raises(BadInput, match="address"):
        await intake.receive(TextToImage, asking("http://127.0.0.1/lora.safetensors"), LOCAL)


async def test_a_lora_over_its_limit_is_too_large(intake: Intake) -> None:
    with pytest.raises(TooLarge):
        await intake.receive(TextToImage, asking("part:mine", mine=safetensors(120_000)), LOCAL)


async def test_a_lora_where_a_picture_belongs_is_no_picture(intake: Intake, png: bytes) -> None:
    form = Form({}, {"image": MemoryBlob(safetensors()), "mask": MemoryBlob(png)})
    with pytest.raises(BadPicture):
        await intake.receive(Cleanup, form, LOCAL)


# ── reading the body ──────────────────────────────────────────────────────────────────────────────────────────


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def multipart(**files: bytes) -> bytes:
    parts = [
        b"--b\r\nContent-Disposition: form-data; name=%b; filename=f\r\n\r\n%b\r\n" % (name.encode(), data)
        for name, data in files.items()
    ]
    return b"".join(parts) + b"--b--\r\n"


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path, max_body=20_000, max_file=10_000, max_weights=50_000)


@pytest.mark.parametrize("step", [1000, 7, 100_000])
async def test_a_lora_may_be_larger_than_a_picture_and_than_the_body(reader: Reader, step: int) -> None:
    form = await reader.form(
        "multipart/form-data; boundary=b", pieces(multipart(mine=safetensors(40_000)), step)
    )
    assert form.files["mine"].size == len(safetensors(40_000))
    form.discard()
    blob = await reader.blob("application/octet-stream", pieces(safetensors(40_000), step))
    assert blob.size == len(safetensors(40_000))
    blob.discard()


@pytest.mark.parametrize(
    "files",
    [
        {"picture": b"x" * 12_000},
        {"one": safetensors(30_000), "two": safetensors(30_000)},
        {f"p{n}": b"x" * 8000 for n in range(3)},
        {"mine": safetensors(30_000), **{f"p{n}": b"x" * 8000 for n in range(3)}},
    ],
    ids=["a picture", "two loras", "pictures", "pictures beside a lora"],
)
async def test_the_limits_of_pictures_and_of_the_body_stay(
    reader: Reader, tmp_path: Path, files: dict[str, bytes]
) -> None:
    with pytest.raises(TooLarge):
        await reader.form("multipart/form-data; boundary=b", pieces(multipart(**files), 500))
    assert not list(tmp_path.glob("upload-*")), "what was spooled is gone"
