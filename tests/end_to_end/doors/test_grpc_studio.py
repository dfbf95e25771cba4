"""gRPC in front of the real services, and the documentation's own example."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from PIL import Image

from gateway.doors.grpc.schema import Schema, committed, ours

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "docs" / "samples" / "astronaut.jpg"
SCHEMA = Schema(ours(), committed())


@pytest.fixture(scope="module")
def channel(stack: Any) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(stack.grpc) as found:
        yield found


def run(channel: grpc.Channel, **ask: Any) -> dict[str, list[Any]]:
    """Its events, by their kind."""
    answer = SCHEMA.message("RunEvent").FromString
    stub = channel.stream_stream("/darkroom.v1.Darkroom/Run", response_deserializer=answer)
    asked = SCHEMA.message("RunRequest")(ask=ask).SerializeToString()
    events: dict[str, list[Any]] = {}
    for event in stub(iter([asked]), timeout=60):
        kind = event.WhichOneof("one")
        events.setdefault(kind, []).append(getattr(event, kind))
    return events


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_a_picture_from_words_shows_itself_while_it_is_made(channel: grpc.Channel) -> None:
    events = run(
        channel,
        text_to_image={"prompt": "a red circle on a blue background", "steps": 12, "previews": 2, "seed": 5},
    )
    assert events["progress"][-1].total == 12
    assert events["preview"], events.keys()
    assert opened(events["preview"][0].data).format == "JPEG"
    (result,) = events["result"]
    assert (result.seed, opened(result.data).size) == (5, (result.width, result.height))
    assert events["done"][0].model


def test_an_answer_of_data_is_in_the_end(channel: grpc.Channel) -> None:
    events = run(channel, caption={"image": {"data": SAMPLE.read_bytes()}, "phrases": 2})
    data = MessageToDict(events["done"][0].data)
    assert isinstance(data["prompt"], str)
    assert "result" not in events


def test_a_parameter_of_several_types_may_be_any_of_them(channel: grpc.Channel) -> None:
    photo = {"data": SAMPLE.read_bytes()}
    blue = run(channel, remove_background={"image": photo, "background": {"text": "#0000ff"}})
    corner: Any = opened(blue["result"][0].data).convert("RGB").getpixel((2, 2))
    assert corner == (0, 0, 255)
    behind = io.BytesIO()
    Image.new("RGB", (8, 8), "#00ff00").save(behind, "PNG")
    green = run(
        channel, remove_background={"image": photo, "background": {"picture": {"data": behind.getvalue()}}}
    )
    corner = opened(green["result"][0].data).convert("RGB").getpixel((2, 2))
    assert corner == (0, 255, 0)


def test_the_documentations_example_works_as_it_stands(stack: Any, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "doors.md").read_text().partition("## gRPC")[2]
    (make,) = re.findall(r"python (-m grpc_tools\.protoc .*)", page)
    (example,) = re.findall(r"```python\n(import grpc\n.*?)```", page, re.DOTALL)
    (tmp_path / "gateway" / "doors").mkdir(parents=True)
    (tmp_path / "gateway" / "doors" / "grpc").symlink_to(ROOT / "gateway" / "doors" / "grpc")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    subprocess.run([sys.executable, *make.split()], cwd=tmp_path, check=True, timeout=60)
    (tmp_path / "example.py").write_text(example.replace("127.0.0.1:8081", stack.grpc))
    subprocess.run([sys.executable, "example.py"], cwd=tmp_path, check=True, timeout=60)
    cut = opened((tmp_path / "cut.png").read_bytes())
    assert (cut.mode, cut.size) == ("RGBA", Image.open(SAMPLE).size)
