"""gRPC as a stranger's client speaks it: all that it knows of our messages it asks the server's reflection."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from PIL import Image

SERVICE = "darkroom.v1.Darkroom"
ADMIN = "an-admin-key-of-more-than-24-letters"
MB = 2**20
DETAILS: dict[str, Any] = {
    name: getattr(error_details_pb2, name) for name in ("BadRequest", "ErrorInfo", "RequestInfo", "RetryInfo")
}


class Door:
    """A client made from reflection alone."""

    def __init__(self, channel: grpc.Channel, key: str = "") -> None:
        self.channel, self.key = channel, key
        self.reflected = ProtoReflectionDescriptorDatabase(channel)
        self.pool = DescriptorPool(self.reflected)
        self.service = self.pool.FindServiceByName(SERVICE)

    def message(self, name: str, **values: Any) -> Any:
        return GetMessageClass(self.pool.FindMessageTypeByName(f"darkroom.v1.{name}"))(**values)

    def call(
        self, name: str, *asked: dict[str, Any] | bytes, timeout: float = 60, metadata: tuple[Any, ...] = ()
    ) -> Any:
        """The call, begun: an iterator of answers where they are a stream, else the answer."""
        method = self.service.methods_by_name[name]
        taken, given = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
        stub = getattr(self.channel, kind)(f"/{SERVICE}/{name}", response_deserializer=given.FromString)
        data = [one if isinstance(one, bytes) else taken(**one).SerializeToString() for one in asked]
        if self.key and not any(name in ("authorization", "x-api-key") for name, _ in metadata):
            metadata = (*metadata, ("authorization", f"Bearer {self.key}"))
        return stub(iter(data) if method.client_streaming else data[0], timeout=timeout, metadata=metadata)

    def run(self, *asked: dict[str, Any], **more: Any) -> list[Any]:
        return list(self.call("Run", *asked, **more))


@contextmanager
def connected(place: str, key: str = "") -> Iterator[Door]:
    with grpc.insecure_channel(place, [("grpc.max_receive_message_length", 4 * MB)]) as channel:
        grpc.channel_ready_future(channel).result(timeout=20)
        yield Door(channel, key)


@pytest.fixture(scope="module")
def house(begin_stack: Any, toy: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The gateway, cleanup, and a toy whose steps can be counted."""
    started = begin_stack(tmp_path_factory.mktemp("grpc"), "gateway", "cleanup", "toy", also=toy)
    try:
        started.wait(lambda: "Darkroom is ready" in started.said)
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def door(house: Any) -> Iterator[Door]:
    with connected(house.grpc) as found:
        yield found


@pytest.fixture(scope="module")
def locked(begin_stack: Any, toy: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The same behind a key."""
    started = begin_stack(
        tmp_path_factory.mktemp("locked"), "gateway", "toy", also=toy, admin_key=ADMIN, daily_pictures="50"
    )
    try:
        started.wait(lambda: "Darkroom is ready" in started.said)
        yield started
    finally:
        started.stop()


def png(side: int = 16, noise: bool = False) -> bytes:
    image = Image.frombytes(
        "RGB", (side, side), os.urandom(side * side * 3) if noise else bytes(side * side * 3)
    )
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def stamp(number: int = 7, **params: Any) -> dict[str, Any]:
    return {"ask": {"stamp": {"image": {"data": png()}, "number": number, **params}}}


def chunks(name: str, data: bytes) -> list[dict[str, Any]]:
    return [{"chunk": {"name": name, "data": data[at : at + MB]}} for at in range(0, len(data), MB)]


def number(data: bytes) -> int:
    """What the toy painted."""
    pixel: Any = Image.open(io.BytesIO(data)).convert("RGB").getpixel((0, 0))
    return int(pixel[0] << 8 | pixel[1])


def details(error: Any) -> tuple[Any, dict[str, Any]]:
    """The status in an error's trailers, and its details by their names."""
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    found = {}
    for packed in status.details:
        name = any_pb2.Any.TypeName(packed).rpartition(".")[2]
        found[name] = DETAILS[name]()
        assert packed.Unpack(found[name])
    return status, found


@contextmanager
def refused(code: grpc.StatusCode) -> Iterator[dict[str, Any]]:
    """Around a call that must end so; its details are there afterwards."""
    told: dict[str, Any] = {}
    with pytest.raises(grpc.RpcError) as caught:
        yield told
    error: Any = caught.value
    assert error.code() is code, error
    told |= details(error)[1]
    assert told["ErrorInfo"].domain == "darkroom"
    assert told["RequestInfo"].request_id


# ── Run ───────────────────────────────────────────────────────────────────────────────────────────────────────


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
    assert max(len(piece.data) for piece in pieces) == MB
    whole = b"".join(piece.data for piece in pieces)
    assert len(whole) == result.size > 5 * MB
    made, given = (Image.open(io.BytesIO(data)).convert("RGB") for data in (whole, picture))
    assert made.size == given.size
    assert made.getpixel((700, 700)) == given.getpixel((700, 700))
    assert made.crop((100, 100, 140, 140)).tobytes() != given.crop((100, 100, 140, 140)).tobytes()
