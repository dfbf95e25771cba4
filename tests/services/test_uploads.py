"""A LoRA's file that comes with a request: on its way through a service, and what is no LoRA."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from services import uploads
from services.errors import BadInput, TooLarge
from services.operations import OPERATIONS, Encoded, Lora
from services.serving import Job, Service
from services.settings import Limits, ServiceSettings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return uploads.folder()


def safetensors(size: int = 64, dtype: str = "F32", **more: Any) -> bytes:
    head = {"a.lora_A.weight": {"dtype": dtype, "shape": [size // 4], "data_offsets": [0, size]}, **more}
    raw = json.dumps(head).encode()
    return struct.pack("<Q", len(raw)) + raw + b"\1" * size


def test_the_same_file_twice_lies_here_once_under_its_digest(folder: Path) -> None:
    first = uploads.keep(safetensors(), Limits(), "loras.0.file")
    second = uploads.keep(io.BytesIO(safetensors()), Limits(), "loras.0.file")
    assert first == second
    assert list(folder.iterdir()) == [first]
    assert uploads.find(uploads.source_of(first)) == first
    first.unlink()
    assert uploads.find(uploads.source_of(first)) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04\x95pickle of something",
        b"PK\3\4" + bytes(200),
        safetensors()[:-1],
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 9) + b"not json!",
        struct.pack("<Q", 2) + b"{}",
        safetensors(dtype="BOOL"),
        safetensors(b={"dtype": "F32"}),
        struct.pack("<Q", 60_000) + b"[" * 60_000,
    ],
    ids=[
        "empty",
        "pickle",
        "zip",
        "cut",
        "head past the end",
        "list",
        "no json",
        "no tensors",
        "odd",
        "where",
        "deep",
    ],
)
def test_what_is_no_safetensors_file_is_refused_and_leaves_nothing(folder: Path, data: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        uploads.keep(data, Limits(), "loras.0.file")
    assert caught.value.field == "loras.0.file"
    assert list(folder.iterdir()) == []


def test_a_file_over_the_limit_is_refused_and_leaves_nothing(folder: Path) -> None:
    with pytest.raises(TooLarge):
        uploads.keep(safetensors(4096), Limits(max_lora_bytes=2048), "loras.0.file")
    assert list(folder.iterdir()) == []


def test_what_was_not_used_for_longest_leaves_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(uploads, "MAX_TOTAL", 3 * len(safetensors(64)))
    kept = []
    for at in range(4):
        kept.append(uploads.keep(safetensors(64, __metadata__={"n": str(at)}), Limits(), "f"))
        os.utime(kept[-1], (at, at))
    uploads.find(uploads.source_of(kept[1]))
    assert not kept[0].exists()
    assert all(path.exists() for path in kept[2:])


# ── through a service ─────────────────────────────────────────────────────────────────────────────────────────


class Style(Encoded, service="style"):
    """Takes LoRAs, to see that they arrive."""

    loras: list[Lora] = Field(default_factory=list)


del OPERATIONS["style"]


class StyleService(Service):
    capacity = 2

    @classmethod
    def operations(cls) -> dict[str, Any]:
        return {"style": Style}

    def style(self, ask: Style, job: Job) -> dict[str, Any]:
        files = [lora.file.pixels for lora in ask.loras if lora.file is not None]
        return {"sizes": [path.stat().st_size for path in files], "names": [path.name for path in files]}


@pytest.fixture
def service(serve_toy: Callable[..., Any]) -> Iterator[Any]:
    limits = {"max_body": 4096, "max_picture_bytes": 2048, "max_lora_bytes": 100_000}
    with serve_toy(StyleService, ServiceSettings(capacity=2, **limits)) as (caller, _):
        caller.wait(lambda said: bool(said["ready"]))
        yield caller


def run(service: Any, **files: bytes) -> Any:
    asked = {"loras": [{"file": f"part:{name}"} for name in files]}
    parts: list[Any] = [("ask", (None, json.dumps(asked), "application/json"))]
    parts += [(name, (name, data, "application/octet-stream")) for name, data in files.items()]
    return service.http.post(f"{service.url}/darkroom/v1/run/style", files=parts)


@pytest.mark.parametrize("size", [64, 60_000])
def test_a_lora_of_any_size_arrives_whole(
    service: Any, frames_of: Callable[[bytes], list[Any]], size: int
) -> None:
    answer = run(service, mine=safetensors(size))
    assert answer.status_code == 200, answer.text
    data = frames_of(answer.content)[-1][0]["data"]
    assert data["sizes"] == [len(safetensors(size))]


@pytest.mark.parametrize("data", [b"x" * 60_000, safetensors(120_000)], ids=["no lora", "too large"])
def test_a_large_part_that_is_no_lora_and_too_large_a_lora_are_413(service: Any, data: bytes) -> None:
    assert run(service, mine=data).status_code == 413
    assert run(service, mine=safetensors()).status_code == 200, "the service goes on"


def test_a_part_that_is_no_safetensors_file_is_422_and_names_the_field(service: Any) -> None:
    answer = run(service, fine=safetensors(), mine=b"\x80\x04 a pickle of a kind")
    assert answer.status_code == 422
    assert answer.json()["field"] == "loras.1.file"
