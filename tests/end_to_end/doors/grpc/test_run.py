"""`Run` over gRPC, and how it refuses."""

from __future__ import annotations

import io
from typing import Any

import grpc
import pytest
from PIL import Image

from tests.end_to_end.doors.grpc.asking import MB, Door, chunks, idle, number, png, refused, stamp


def test_an_operation_tells_its_progress_and_ends_with_the_picture(door: Door) -> None:
    kinds, result = [], None
    for event in door.run(stamp(513, steps=4, pause=0.1)):
        kinds.append(event.WhichOneof("one"))
        if kinds[-1] == "result":
            result = event.result
    assert kinds[0] == "accepted"
    assert "progress" in kinds
    assert kinds[-2:] == ["result", "done"]
    assert result is not None
    assert (result.media_type, result.width, result.height, result.size) == (
        "image/png",
        8,
        8,
        len(result.data),
    )
    assert number(result.data) == 513


def test_five_megabytes_go_in_and_come_out_in_chunks(door: Door) -> None:
    picture, mask = png(1400, noise=True), io.BytesIO()
    assert len(picture) > 5 * MB
    black = Image.new("L", (1400, 1400))
    black.paste(255, (100, 100, 140, 140))
    black.save(mask, "PNG")
    ask = {"image": {"chunks": "photo"}, "mask": {"data": mask.getvalue()}, "model": "cv2"}
    events = door.run({"ask": {"cleanup": ask}}, *chunks("photo", picture))
    (result,) = (event.result for event in events if event.WhichOneof("one") == "result")
    pieces = [event.chunk for event in events if event.WhichOneof("one") == "chunk"]
    assert not result.HasField("data")
    assert {piece.name for piece in pieces} == {"result.0"}
    assert max(len(piece.data) for piece in pieces) <= MB < result.size
    whole = b"".join(piece.data for piece in pieces)
    assert len(whole) == result.size > 5 * MB
    made, given = (Image.open(io.BytesIO(data)).convert("RGB") for data in (whole, picture))
    assert made.size == given.size
    assert made.getpixel((700, 700)) == given.getpixel((700, 700))
    assert made.crop((100, 100, 140, 140)).tobytes() != given.crop((100, 100, 140, 140)).tobytes()


def test_cancelling_a_call_ends_the_work_within_a_step(door: Door, house: Any) -> None:
    call = door.call("Run", stamp(steps=600, pause=0.1))
    for event in call:
        if event.WhichOneof("one") == "progress":
            break
    call.cancel()
    idle(house)


def test_the_clients_deadline_is_the_works(door: Door, house: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        door.run(stamp(steps=600, pause=0.1), timeout=1)
    late: Any = caught.value
    assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    idle(house)


def test_a_field_that_is_wrong_is_named(door: Door) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT) as told:
        door.run(stamp(number=70_000, steps=-1))
    assert told["ErrorInfo"].reason == "BAD_INPUT"
    assert told["ErrorInfo"].metadata["type"] == "urn:darkroom:problem:bad-input"
    assert {one.field for one in told["BadRequest"].field_violations} == {"number", "steps"}
    with refused(grpc.StatusCode.INVALID_ARGUMENT) as told:
        door.run({"ask": {"cleanup": {"image": {"data": png()}}}})
    assert [one.field for one in told["BadRequest"].field_violations] == ["mask"]


def test_what_is_no_picture_is_refused_at_its_field(door: Door) -> None:
    for image, field in (({"data": b"nothing"}, "image"), ({"url": "ftp://x/y"}, "image"), ({}, "image")):
        with refused(grpc.StatusCode.INVALID_ARGUMENT) as told:
            door.run({"ask": {"stamp": {"image": image}}})
        assert [one.field for one in told["BadRequest"].field_violations] == [field]


def test_an_address_of_this_machine_is_not_fetched(door: Door, house: Any) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        door.run({"ask": {"stamp": {"image": {"url": f"{house.url}/"}}}})


def test_chunks_that_nobody_announced_and_those_that_never_come_are_told(door: Door) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT) as told:
        door.run({"ask": {"stamp": {"image": {"chunks": "a"}}}}, {"chunk": {"name": "b", "data": png()}})
    assert "'b'" in told["BadRequest"].field_violations[0].description
    with refused(grpc.StatusCode.INVALID_ARGUMENT) as told:
        door.run({"ask": {"stamp": {"image": {"chunks": "a"}}}})
    assert [one.field for one in told["BadRequest"].field_violations] == ["image"]
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        door.run({"chunk": {"name": "a", "data": png()}})
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        door.run()


def test_a_picture_above_the_limit_is_refused(door: Door) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT) as told:
        door.run({"ask": {"stamp": {"image": {"chunks": "a"}}}}, *chunks("a", bytes(33 * MB)))
    assert told["ErrorInfo"].reason == "TOO_LARGE"


def test_a_message_that_cannot_be_read_is_the_callers_mistake(door: Door) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT) as told:
        list(door.call("Run", b"\xff\xff\xff"))
    assert told["ErrorInfo"].reason == "MALFORMED"
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        door.call("Get", b"\x0a\xff")


def test_a_request_id_is_the_callers_own(door: Door) -> None:
    call = door.call("Run", stamp(), metadata=(("x-request-id", "mine-1"),))
    assert dict(call.initial_metadata())["x-request-id"] == "mine-1"
    assert list(call)[-1].WhichOneof("one") == "done"
    with refused(grpc.StatusCode.INVALID_ARGUMENT) as told:
        door.run(stamp(number=-1), metadata=(("x-request-id", "mine-2"),))
    assert told["RequestInfo"].request_id == "mine-2"
