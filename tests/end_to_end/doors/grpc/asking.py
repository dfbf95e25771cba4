"""A stranger's client of gRPC: all that it knows of our messages it asks the server's reflection."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import httpx
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


def idle(house: Any, seconds: float = 3) -> None:
    """Until nothing runs at the toy, which must be soon."""
    with httpx.Client(base_url=house.url) as http:
        until = time.monotonic() + seconds
        while 'darkroom_upstream_in_flight{service="toy"} 0.0' not in (told := http.get("/metrics").text):
            assert time.monotonic() < until, told
            time.sleep(0.05)
