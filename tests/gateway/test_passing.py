"""A picture goes on to the client while its service still sends it, at the native door and at foreign ones."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from PIL import Image

from bench.dialects import RUN, document, foreigners, natives, run_messages
from bench.load import Request
from bench.processes import Running, free_port, running
from bench.stub import Behaviour, Stub
from gateway.doors.grpc.schema import schema

SERVICES = ("sdxl", "cleanup", "rmbg")


def png(side: int) -> bytes:
    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(out, "PNG", compress_level=0)
    return out.getvalue()


PICTURE = png(1000)  # 3 MB, of which a door waits for no more than a part
GIVEN = png(16)
ASKED: dict[str, Request] = {
    "native": natives(GIVEN, GIVEN)["text-to-image"],
    **{name: asked for name, (_, asked) in foreigners(GIVEN, GIVEN).items() if "url" not in name},
    "AUTOMATIC1111, rembg": document("/rembg", {"input_image": base64.b64encode(GIVEN).decode()}),
}
HTTP = pytest.mark.parametrize("door", ASKED)


@dataclass
class House:
    """A gateway before a stub that runs beside the test."""

    port: int
    grpc: str
    stub: Stub
    loop: asyncio.AbstractEventLoop
    gateway: Running

    def behave(self, **more: Any) -> None:
        self.stub.behaviour = Behaviour(picture=PICTURE, **more)

    def open(self, gate: asyncio.Event) -> None:
        self.loop.call_soon_threadsafe(gate.set)

    def hang_up_sending(self, path: str, content_type: str) -> None:
        """A client that has gone when half of its body is sent."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as client:
            about = f"host: 127.0.0.1\r\ncontent-type: {content_type}\r\ncontent-length: 1000"
            client.sendall(f"POST {path} HTTP/1.1\r\n{about}\r\n\r\n".encode() + b'{"prompt": "' + b"x" * 400)
            time.sleep(0.05)

    def ask(self, door: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        asked = ASKED[door]
        headers = {name: value for name, value in asked.headers.items() if name != "authorization"}
        connection.request("POST", asked.path, asked.body, headers)
        return connection, connection.getresponse()

    def counted(self, pattern: str) -> float:
        """The sum of the metrics that the pattern describes."""
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            told = answer.read().decode()
        return sum(float(value) for value in re.findall(rf"^{pattern} (\S+)$", told, re.MULTILINE))

    def comes_to(self, pattern: str, value: float) -> None:
        until = time.monotonic() + 5
        while (found := self.counted(pattern)) != value:
            assert time.monotonic() < until, f"{pattern} is {found} and not {value}"
            time.sleep(0.02)


MADE, DONE = r"darkroom_pictures_total\{.*\}", r'darkroom_upstream_calls_total\{outcome="done".*\}'
REQUESTS = r'darkroom_requests_total\{[^}]*status="%s"[^}]*\}'
CANCELLED = r'darkroom_upstream_calls_total\{outcome="cancelled".*\}'


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    loop, stub = asyncio.new_event_loop(), Stub(Behaviour(picture=PICTURE))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(stub.start(), loop).result(10)
    port, own = free_port(), free_port()
    settings = {
        "DARKROOM_DATA": str(tmp_path_factory.mktemp("data")),
        "DARKROOM_PORT": str(port),
        "DARKROOM_GRPC_PORT": str(own),
        "DARKROOM_INFERENCE_PORT": "0",
        "DARKROOM_SERVICES": json.dumps({name: [stub.address] for name in SERVICES}),
    }
    command = [sys.executable, "-m", "gateway"]
    with running(command, core=None, port=port, environment=settings, patience=60) as gateway:
        yield House(port, f"127.0.0.1:{own}", stub, loop, gateway)
    asyncio.run_coroutine_threadsafe(stub.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def picture_of(body: bytes) -> bytes:
    """The picture of an answer: bytes, or the longest text of a document."""
    if PICTURE in body:
        return PICTURE
    return base64.b64decode(max(re.findall(rb'"([A-Za-z0-9+/=]{1000,})"', body), key=len))


@HTTP
def test_what_has_come_of_a_picture_goes_on_while_the_rest_is_made(house: House, door: str) -> None:
    gate = asyncio.Event()
    house.behave(hold=gate)
    try:
        connection, answer = house.ask(door)
        assert answer.status == 200
        first = answer.read(len(PICTURE) // 3)
        assert len(first) == len(PICTURE) // 3
    finally:
        house.open(gate)
    assert picture_of(first + answer.read()) == PICTURE
    connection.close()


def test_grpc_sends_chunks_while_the_rest_is_made(house: House) -> None:
    gate = asyncio.Event()
    house.behave(hold=gate)
    event, found, kinds = schema().message("RunEvent"), b"", []
    with grpc.insecure_channel(house.grpc) as channel:
        for message in channel.stream_stream(RUN)(iter(run_messages(GIVEN)), timeout=20):
            told = event.FromString(message)
            kinds.append(told.WhichOneof("one"))
            found += told.chunk.data
            if len(found) > len(PICTURE) // 3:
                house.open(gate)
    assert found == PICTURE
    assert (kinds[0], kinds[-1], set(kinds)) == ("accepted", "done", {"accepted", "result", "chunk", "done"})


@HTTP
def test_an_answer_whose_service_breaks_off_breaks_off_too(house: House, door: str) -> None:
    house.behave(fail="half")
    connection, answer = house.ask(door)
    made = house.counted(MADE)
    assert answer.status == 200
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()
    house.behave()
    connection, answer = house.ask(door)
    assert picture_of(answer.read()) == PICTURE
    connection.close()
    house.comes_to(MADE, made + 1)


@HTTP
def test_a_client_that_hangs_up_in_the_middle_ends_the_call(house: House, door: str) -> None:
    gate = asyncio.Event()
    house.behave(hold=gate)
    made, cancelled = house.counted(MADE), house.stub.seen.cancelled
    connection, answer = house.ask(door)
    answer.read(1000)
    answer.close()
    connection.close()
    until = time.monotonic() + 5
    while house.stub.seen.cancelled == cancelled:
        assert time.monotonic() < until, "the service was not told"
        time.sleep(0.02)
    house.open(gate)
    assert house.counted(MADE) == made


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/v1/jobs",
            "/v1/assets",
            "/v1/text-to-image",
            "/v1/images/generations",
            "/sdapi/v1/txt2img",
            "/api/v1/inpaint",
        ),
        *("/rembg", "/v2/models/cleanup/infer", "/tfserving/v1/models/creatures:predict", "/mcp"),
    ],
)
def test_a_client_that_hangs_up_while_it_sends_is_no_fault_of_ours(house: House, path: str) -> None:
    faults = house.counted(REQUESTS % "5xx")
    ended = house.counted(REQUESTS % "4xx")
    house.hang_up_sending(path, "application/json")
    house.comes_to(REQUESTS % "4xx", ended + 1)
    assert house.counted(REQUESTS % "5xx") == faults


def test_a_client_that_leaves_a_stream_of_openais_is_no_fault_of_ours(house: House) -> None:
    gate = asyncio.Event()
    house.behave(hold=gate)
    cancelled, before = house.stub.seen.cancelled, len(house.gateway.said)
    asked = {"prompt": "a red circle", "stream": True, "partial_images": 1}
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=20)
    connection.request(
        "POST", "/v1/images/generations", json.dumps(asked), {"content-type": "application/json"}
    )
    time.sleep(0.3)
    connection.close()
    until = time.monotonic() + 5
    while house.stub.seen.cancelled == cancelled:
        assert time.monotonic() < until, "the service was not told"
        time.sleep(0.02)
    house.open(gate)
    time.sleep(0.2)
    said = house.gateway.said[before:]
    assert "Traceback" not in said, said


@HTTP
def test_a_call_has_ended_well_when_its_picture_was_passed_on(house: House, door: str) -> None:
    """Also where the service says a moment after the picture that this was all."""
    house.behave(late=0.2)
    house.ask(door)[1].read()
    made, done, cancelled = (house.counted(one) for one in (MADE, DONE, CANCELLED))
    connections = house.stub.seen.connections
    for _ in range(3):
        connection, answer = house.ask(door)
        assert picture_of(answer.read()) == PICTURE
        connection.close()
    house.comes_to(MADE, made + 3)
    house.comes_to(DONE, done + 3)
    assert house.counted(CANCELLED) == cancelled
    assert house.stub.seen.connections <= connections + 1
