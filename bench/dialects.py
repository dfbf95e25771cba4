"""What each door is asked for the same work, and the clients that ask: one at a time, or a crowd."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import json
from collections.abc import Callable
from typing import Any

import grpc
from PIL import Image

from bench.gateway import ADMIN
from bench.load import Request, form
from gateway.doors.grpc.schema import schema

CHUNK = 2**20
RUN, INFER = "/darkroom.v1.Darkroom/Run", "/inference.GRPCInferenceService/ModelInfer"
Call = Callable[[], int]  # gives the bytes that came back


# ── what is asked ─────────────────────────────────────────────────────────────────────────────────────────────

KEY = {"authorization": f"Bearer {ADMIN}"}


def document(path: str, value: dict[str, Any], **headers: str) -> Request:
    return Request(path, json.dumps(value).encode(), KEY | {"content-type": "application/json"} | headers)


def natives(picture: bytes, mask: bytes) -> dict[str, Request]:
    bytes_wanted = KEY | {"accept": "image/png"}
    return {
        "text-to-image": document("/v1/text-to-image", {"prompt": "a red circle"}, accept="image/png"),
        "text-to-image, url": document(
            "/v1/text-to-image", {"prompt": "a red circle"}, accept="application/json"
        ),
        "cleanup": form({"image": picture, "mask": mask}, "/v1/cleanup", **bytes_wanted),
        "remove-background": form({"image": picture}, "/v1/remove-background", **bytes_wanted),
    }


def foreigners(picture: bytes, mask: bytes) -> dict[str, tuple[str, Request]]:
    """Each dialect's request, and the native operation that it is compared with."""
    text, covered = base64.b64encode(picture).decode(), base64.b64encode(mask).decode()
    tensor: dict[str, Any] = {"name": "image", "datatype": "BYTES", "shape": [1]}
    head = json.dumps(
        {
            "inputs": [tensor | {"parameters": {"binary_data_size": len(picture) + 4}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    binary = Request(
        "/v2/models/remove-background/infer",
        head + len(picture).to_bytes(4, "little") + picture,
        KEY | {"inference-header-content-length": str(len(head))},
    )
    words = {"prompt": "a red circle"}
    return {
        "OpenAI, b64_json": ("text-to-image", document("/v1/images/generations", words)),
        "OpenAI, url and the picture": (
            "text-to-image, url",
            document("/v1/images/generations", words | {"response_format": "url"}),
        ),
        "AUTOMATIC1111, txt2img": ("text-to-image", document("/sdapi/v1/txt2img", words)),
        "IOPaint, inpaint": ("cleanup", document("/api/v1/inpaint", {"image": text, "mask": covered})),
        "rembg": ("remove-background", _as_file(picture)),
        "OIP, JSON": (
            "remove-background",
            document("/v2/models/remove-background/infer", {"inputs": [tensor | {"data": [text]}]}),
        ),
        "OIP, binary": ("remove-background", binary),
    }


def _as_file(picture: bytes) -> Request:
    return form({"file": picture}, "/api/remove", **KEY)


def run_messages(picture: bytes) -> list[bytes]:
    """What gRPC's Run is sent."""
    message = schema().message("RunRequest")
    asked = message(ask={"remove_background": {"image": {"chunks": "a"}}})
    pieces = [picture[start : start + CHUNK] for start in range(0, len(picture), CHUNK)]
    chunks = [message(chunk={"name": "a", "data": piece}) for piece in pieces]
    return [one.SerializeToString() for one in (asked, *chunks)]


def infer_message(picture: bytes) -> bytes:
    from gateway.doors.grpc.oip_messages import message

    asked = message("ModelInferRequest")(model_name="remove-background")
    asked.inputs.add(name="image", datatype="BYTES", shape=[1])
    asked.raw_input_contents.append(len(picture).to_bytes(4, "little") + picture)
    return bytes(asked.SerializeToString())


def covering(picture: bytes) -> bytes:
    """A mask of the picture's size, white in its middle."""
    with Image.open(io.BytesIO(picture)) as image:
        mask = Image.new("L", image.size)
    mask.paste(255, (mask.width // 3, mask.height // 3, mask.width // 2, mask.height // 2))
    out = io.BytesIO()
    mask.save(out, "PNG")
    return out.getvalue()


# ── one call ──────────────────────────────────────────────────────────────────────────────────────────────────


def over_http(port: int, request: Request) -> Call:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def call() -> int:
        connection.request("POST", request.path, request.body, request.headers)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{request.path}: {answer.status} {data[:300]!r}")
        return len(data)

    return call


def with_the_link(port: int, request: Request) -> Call:
    """The answer names a picture, which is fetched."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def call() -> int:
        connection.request("POST", request.path, request.body, request.headers)
        told = json.loads(connection.getresponse().read())
        named = told["data"][0] if told.get("created") else told["pictures"][0]
        connection.request("GET", named["url"].removeprefix(f"http://127.0.0.1:{port}"), headers=KEY)
        return len(connection.getresponse().read())

    return call


def caller(port: int, name: str, request: Request) -> Call:
    return (with_the_link if "url" in name else over_http)(port, request)


# ── many at once ──────────────────────────────────────────────────────────────────────────────────────────────

METADATA = (("authorization", f"Bearer {ADMIN}"),)
LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


async def many_over_http(port: int, request: Request, count: int, rounds: int = 1) -> None:
    """`count` callers at once, each with a connection of its own."""
    head = (
        f"POST {request.path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-length: {len(request.body)}\r\n"
    )
    message = (head + "".join(f"{k}: {v}\r\n" for k, v in request.headers.items()) + "\r\n").encode()

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=CHUNK)
        for turn in range(rounds):
            last = b"connection: close\r\n" if turn == rounds - 1 else b""
            writer.write(message[:-2] + last + b"\r\n" + request.body)
            status = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in status.partition(b"\r\n")[0]:
                raise RuntimeError(f"{request.path}: {status[:200]!r} {await reader.read(300)!r}")
            if last:
                while await reader.read(CHUNK):
                    continue
            else:
                await body_of(reader, status.lower())
        writer.close()

    await asyncio.gather(*(one() for _ in range(count)))


async def body_of(reader: asyncio.StreamReader, head: bytes) -> None:
    _, found, rest = head.partition(b"\r\ncontent-length: ")
    if found:
        left = int(rest.partition(b"\r\n")[0])
        while left > 0:
            left -= len(await reader.read(min(left, CHUNK)))
        return
    while size := int(await reader.readline(), 16):
        await reader.readexactly(size + 2)
    await reader.readline()


async def many_over_grpc(place: str, path: str, messages: list[bytes], count: int, rounds: int = 1) -> None:
    async def one() -> None:
        async with grpc.aio.insecure_channel(
            place, [*LARGE, ("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            for _ in range(rounds):
                if path == RUN:
                    async for _event in channel.stream_stream(path)(iter(messages), metadata=METADATA):
                        continue
                else:
                    await channel.unary_unary(path)(messages[0], metadata=METADATA)

    await asyncio.gather(*(one() for _ in range(count)))
