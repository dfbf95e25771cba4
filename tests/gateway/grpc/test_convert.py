"""Messages and fields: what is set comes out as the native door would read it."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format

from gateway.doors.grpc.convert import Converter, Found
from gateway.doors.grpc.schema import Schema, committed, ours
from services.errors import BadInput
from services.operations import OPERATIONS, Operation

SCHEMA = Schema(ours(), committed())
CONVERTER = Converter(SCHEMA)


def taken(shape: str, found: Found | None = None, **values: Any) -> dict[str, Any]:
    return CONVERTER.fields(SCHEMA.message(shape)(**values), shape, found or Found())


def test_what_is_left_out_stays_out_and_zero_is_said() -> None:
    assert taken("TextToImage", prompt="x", guess_mode=False, previews=0) == {
        "prompt": "x",
        "guess_mode": False,
        "previews": 0,
    }


def test_pictures_become_references_and_their_bytes_are_found() -> None:
    found = Found()
    fields = taken(
        "Control",
        found,
        prompt="x",
        reference={"asset": "ast_1"},
        loras=[{"file": {"chunks": "w"}}, {"name": "ink", "weight": 0.5}],
        controls=[
            {"image": {"data": b"abc"}, "kind": "canny"},
            {"image": {"url": "https://x/y"}, "kind": "canny"},
        ],
    )
    assert fields == {
        "prompt": "x",
        "reference": "asset:ast_1",
        "loras": [{"file": "part:chunks/w"}, {"name": "ink", "weight": 0.5}],
        "controls": [
            {"image": "part:controls.0.image", "kind": "canny"},
            {"image": "https://x/y", "kind": "canny"},
        ],
    }
    assert (found.inline, found.chunks) == ({"controls.0.image": b"abc"}, {"w": "loras.0.file"})


def test_one_of_several_types_is_the_value_itself() -> None:
    assert taken("RemoveBackground", background={"text": "white"}) == {"background": "white"}
    assert taken("RemoveBackground", background={"picture": {"asset": "a"}}) == {"background": "asset:a"}
    assert taken("Portrait", face={"whole": 2}, tone={"number": 0.25}) == {"face": 2, "tone": 0.25}
    with pytest.raises(BadInput, match="face is there"):
        taken("Portrait", face={})


def test_points_stand_end_to_end() -> None:
    body = [float(at) / 100 for at in range(18 * 3)]
    fields = taken("Preprocess", keypoints={"people": [{"body": body}]})
    points = fields["keypoints"]["people"][0]["body"]
    assert (len(points), points[1]) == (18, [0.03, 0.04, 0.05])
    ask: Operation = OPERATIONS["preprocess"].model_validate({**fields, "kind": "openpose"})
    assert ask.model_dump()["keypoints"]["people"][0]["body"][1] == (0.03, 0.04, 0.05)


@pytest.mark.parametrize("values", [{"prompt": "a\0b"}, {"prompt": "a", "reference": {"asset": "\0"}}])
def test_null_characters_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="null character"):
        taken("TextToImage", **values)


def test_a_request_brings_so_many_files_at_most() -> None:
    with pytest.raises(BadInput, match="64 files"):
        taken("Control", controls=[{"image": {"data": b"x"}, "kind": "canny"}] * 65)


def test_a_document_becomes_a_message_and_nothing_that_it_lacks_stops_it() -> None:
    job = {
        "id": "job_1",
        "params": {"prompt": "x", "count": 2, "loras": [{"weight": 0.5}]},
        "progress": {"step": 3, "total": None},
        "pictures": [{"id": "ast_1", "bytes": 5, "width": None, "withheld": True}],
        "data": ["a", {"b": None}],
        "error": {"type": "urn:x", "status": 422, "errors": []},
        "timing": {},
        "started_at": None,
    }
    made = CONVERTER.message("Job", job)
    assert (made.id, made.params["count"], made.progress.step) == ("job_1", 2, 3)
    assert (made.pictures[0].bytes, made.error.status) == (5, 422)
    assert json_format.MessageToDict(made.data) == ["a", {"b": None}]
    assert not made.progress.HasField("total")
    assert not made.HasField("started_at")
    assert CONVERTER.message("RunEvent", {"alive": {}}).WhichOneof("one") == "alive"
