"""The way to our own services: multipart in, frames out, over HTTP.

`POST /darkroom/v1/run/{operation}` takes a call, `GET /darkroom/v1/describe` is how an endpoint's health is looked at.
"""

from __future__ import annotations

import orjson

from gateway.upstream.call import Call
from gateway.upstream.endpoint import Endpoint
from gateway.upstream.multipart import Body
from gateway.upstream.observe import Track
from gateway.upstream.transport import Answer, Transport
from services.errors import PROBLEM_JSON, BadUpstream, DarkroomError, from_problem
from services.frames import CONTENT_TYPE

RUN = "/darkroom/v1/run/"
DESCRIBE = "/darkroom/v1/describe"
_PROBLEM_LIMIT = 64 * 1024
_DESCRIPTION_LIMIT = 1 << 20


class Form:
    """A call as a multipart form with its headers."""

    __slots__ = ("body", "headers", "path", "size")
    track: Track | None = None

    def __init__(self, call: Call) -> None:
        self.body = Body(call.ask_json(), call.parts)
        self.size = self.body.size
        self.path = RUN + call.ask.name()
        self.headers = {
            **call.headers,
            "content-type": self.body.content_type,
            "content-length": str(self.size),
            "x-request-id": call.request_id,
            "x-darkroom-schema": call.ask.digest(),
        }

    @property
    def broken(self) -> DarkroomError | None:
        return self.body.broken


class FrameCarrier:
    """`looking` are the connections for looks at health, which wait behind no call."""

    accepts_at_once = True

    def __init__(self, transport: Transport, looking: Transport) -> None:
        self._transport, self._looking = transport, looking

    async def open(self) -> None:
        await self._transport.open()

    async def close(self) -> None:
        await self._transport.close()

    def pack(self, call: Call) -> Form:
        return Form(call)

    async def send(self, endpoint: Endpoint, packed: Form, seconds: float) -> Answer:
        packed.headers["x-darkroom-timeout"] = f"{seconds:.3f}"
        answer = await self._transport.post(endpoint.address, packed.path, packed.headers, packed.body)
        if answer.status == 200 and answer.content_type.partition(";")[0] == CONTENT_TYPE:
            return answer
        try:
            raise await _refusal(answer)
        finally:
            answer.close()

    async def describe(self, endpoint: Endpoint) -> dict[str, object]:
        answer = await self._looking.get(endpoint.address, DESCRIBE)
        try:
            body = await answer.body(_DESCRIPTION_LIMIT)
            if answer.status != 200:
                raise BadUpstream(f"{DESCRIBE} answered {answer.status}")
        finally:
            answer.close()
        try:
            said = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise BadUpstream(f"its {DESCRIBE} cannot be read: {error}") from error
        if not isinstance(said, dict):
            raise BadUpstream(f"its {DESCRIBE} cannot be read: it is no JSON object")
        return said

    async def forget(self, endpoint: Endpoint) -> None:
        """Its connections close by themselves when nothing has used them for a while."""


async def _refusal(answer: Answer) -> DarkroomError:
    """What an answer that is no stream of frames means."""
    if answer.content_type.partition(";")[0] == PROBLEM_JSON:
        try:
            document = orjson.loads(await answer.body(_PROBLEM_LIMIT))
            error = from_problem(document)
        except (orjson.JSONDecodeError, TypeError, ValueError):
            return BadUpstream(f"A service answered {answer.status} with a problem that cannot be read.")
        after = answer.headers.get("retry-after", "")
        if error.retry_after is None and after.isdigit():
            error.retry_after = float(after)
        return error
    return BadUpstream(
        f"A service answered {answer.status} with {answer.content_type or 'nothing'} instead of frames."
    )
