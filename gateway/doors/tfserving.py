"""TensorFlow Serving's REST, passed through under `/tfserving/`: `/tfserving/v1/models/...` to the service pix2pix.

What comes is read, its pictures are looked at and counted, and it goes on after the key, the quota and the fair line;
status, body and errors come back as TensorFlow Serving gave them. Only the models that the settings name can be asked.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway import logs
from gateway.blobs import MemoryBlob
from gateway.doors.deps import arriving
from gateway.doors.dialect import Dialect
from gateway.doors.watch import Watch
from gateway.forms import Reader
from gateway.intake import HEAD, look
from services.errors import (
    BadPicture,
    DarkroomError,
    DeadlineExceeded,
    Malformed,
    NotConfigured,
    NotFound,
    TooLarge,
    UnsupportedMedia,
)
from services.operations import SketchToImage

PREFIX = "/tfserving"
MOST_PICTURES = 64
_PATH = re.compile(
    r"(?i:/v1/models)/(?P<name>[\w.-]{1,120})(?:/(?i:versions)/\d{1,18}|/(?i:labels)/[\w.-]{1,64})?"
    r"(?:/(?i:metadata)|:(?P<method>(?i:predict)))?"
)


class TensorFlowServing(Dialect):
    name = "tfserving"
    prefixes = (f"{PREFIX}/",)
    words: ClassVar[Mapping[type[DarkroomError], str]] = {
        Malformed: 'Send a JSON object with `instances` or `inputs`, pictures as {"b64": ...}.',
    }

    def routes(self) -> Sequence[BaseRoute]:
        return [Route(f"{PREFIX}/{{path:path}}", self.passed, methods=["GET", "POST"])]

    def status(self, error: DarkroomError) -> int:
        return 400 if error.status in (422, 415) else error.status

    def document(self, error: DarkroomError, request_id: str) -> Any:
        return {"error": self.told(error)}

    async def passed(self, request: Request) -> Response:
        path = request.url.path.partition(PREFIX)[2]
        found = _PATH.fullmatch(path)
        asks = request.method == "POST"
        if found is None or asks != (found["method"] is not None):
            raise NotFound(
                "Malformed request: this is no path of TensorFlow Serving's that is passed on.", help=_HELP
            )
        known = self.desk.state.settings.pix2pix_models
        if found["name"] not in known:
            raise NotFound(
                f"Servable not found for request: Latest({found['name']})",
                help=f"There are {', '.join(known)}.",
            )
        data, pictures = await self._read(request) if asks else (b"", 0)
        return await self._relayed(request, path, data, pictures)

    async def _read(self, request: Request) -> tuple[bytes, int]:
        """The request as it goes on, and how many pictures it brings."""
        state = self.desk.state
        if request.headers.get("content-encoding", "identity") != "identity":
            raise UnsupportedMedia("A compressed request is not passed on.")
        reader: Reader = request.scope["darkroom.reader"]
        async with arriving(state):
            asked = (await reader.form("application/json", request.stream())).fields
        count = 0
        for text in _pictures(asked):
            count += 1
            if count > MOST_PICTURES:
                raise TooLarge(f"A request may bring {MOST_PICTURES} pictures at most.")
            if len(text) * 3 // 4 > state.settings.max_picture_bytes:
                raise TooLarge(f"A picture may have {state.settings.max_picture_bytes} bytes at most.")
            await look(MemoryBlob(_decoded(text[: HEAD // 3 * 4])), "b64", state.settings)
        return await asyncio.to_thread(orjson.dumps, asked), count

    async def _relayed(self, request: Request, path: str, data: bytes, pictures: int) -> Response:
        from gateway.upstream.tfserving import (
            PredictCarrier,  # it brings Pillow's and gRPC's part of the memory
        )

        state, caller = self.desk.state, request.scope["caller"]
        pool = state.upstream.pool(SketchToImage.service)
        carrier = pool.carrier
        if not isinstance(carrier, PredictCarrier) or not carrier.has_rest:
            raise NotConfigured(
                "TensorFlow Serving's REST is not known here.",
                help="Name its address with DARKROOM_PIX2PIX_REST.",
            )
        logs.tell(service=pool.service, operation=SketchToImage.name())
        loop = asyncio.get_running_loop()
        deadline = loop.time() + state.settings.deadline
        reservation, made = await state.limits.reserve_pictures(caller, pictures), 0
        began, outcome = loop.time(), "cancelled"
        try:
            with Watch(request.receive):
                async with (
                    asyncio.timeout_at(deadline),
                    pool.turn(key_id=caller.key_id, weight=caller.weight, deadline=deadline),
                ):
                    pool.sent()
                    status, content_type, body = await carrier.rest(request.method, path, data)
            outcome = "done"
            made = pictures if status == 200 else 0
        except TimeoutError as error:
            outcome = DeadlineExceeded.slug
            raise DeadlineExceeded("The call was not done within its deadline.") from error
        except DarkroomError as error:
            outcome = error.slug
            raise
        finally:
            pool.finished(outcome, loop.time() - began)
            state.limits.settle(reservation, made)
            if made:
                state.metrics.pictures(SketchToImage.name(), made)
        return Response(body, status, media_type=content_type or None)


_HELP = "GET /tfserving/v1/models/NAME tells of a model; POST ...:predict asks it."


def _pictures(value: Any) -> Iterator[str]:
    """Every `{"b64": "..."}`, which is how TensorFlow Serving's JSON has bytes."""
    if isinstance(value, dict):
        if value.keys() == {"b64"} and isinstance(value["b64"], str):
            yield value["b64"]
        else:
            for inner in value.values():
                yield from _pictures(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _pictures(inner)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadPicture("The picture's base64 cannot be read.", field="b64") from error
