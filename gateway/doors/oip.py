"""The Open Inference Protocol (KServe v2, Triton) over REST, `/v2/*`: each operation is a model.

JSON in and out, or the binary extension: a JSON head of `Inference-Header-Content-Length` bytes and the tensors' own
bytes behind it. A picture's bytes go to disk as they come.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, ClassVar

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.arriving import File
from gateway.blobs import Spool
from gateway.desk import Guest, Outcome
from gateway.doors import splice
from gateway.doors.catalogue import unavailable
from gateway.doors.dialect import Dialect
from gateway.doors.oip_tensors import (
    LONGEST,
    MOST_INPUTS,
    VERSION,
    Output,
    Taking,
    an_object,
    check_tensor,
    check_wanted,
    inputs_of,
    is_reference,
    operation_of,
    outputs,
    outputs_of,
    seconds_of,
    unpacked,
)
from gateway.doors.splice import Pieces, Spliced
from gateway.forms import Limit, Reader, parse_json
from services.errors import BadInput, DarkroomError, Malformed, TooLarge, TooSlow, UnsupportedMedia

HEAD_LENGTH = "inference-header-content-length"
EXTENSIONS = ["binary_tensor_data"]


class OpenInference(Dialect):
    name = "oip"
    prefixes = ("/v2/",)
    given = "a picture's bytes, `asset:ID`, an address or base64"
    words: ClassVar[Mapping[type[DarkroomError], str]] = {
        Malformed: "Send a JSON object with `inputs`, and behind it the bytes of binary tensors.",
        UnsupportedMedia: "Send the body as it is, without Content-Encoding.",
    }

    def routes(self) -> Sequence[BaseRoute]:
        model = "/v2/models/{model}"
        routes: list[BaseRoute] = [
            Route("/v2", self.server, methods=["GET"]),
            Route("/v2/", self.server, methods=["GET"]),
            Route("/v2/health/live", self.live, methods=["GET"]),
            Route("/v2/health/ready", self.ready, methods=["GET"]),
        ]
        for base in (model, model + "/versions/{version}"):
            routes += [
                Route(base, self.metadata, methods=["GET"]),
                Route(f"{base}/ready", self.model_ready, methods=["GET"]),
                Route(f"{base}/infer", self.infer, methods=["POST"]),
            ]
        return routes

    def status(self, error: DarkroomError) -> int:
        return 400 if error.status in (422, 415) else error.status

    def document(self, error: DarkroomError, request_id: str) -> Any:
        return {"error": self.told(error)}

    # ── what there is ────────────────────────────────────────────────────────────────────────────────────────

    async def server(self, _request: Request) -> Response:
        return JSONResponse({"name": "darkroom", "version": version("darkroom"), "extensions": EXTENSIONS})

    async def live(self, _request: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(self, _request: Request) -> Response:
        state = self.desk.state
        ready = not state.draining and all(one.ready for one in state.upstream.status().values())
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    async def metadata(self, request: Request) -> Response:
        operation = _operation(request)
        return JSONResponse(
            {
                "name": operation.name(),
                "versions": [VERSION],
                "platform": "darkroom",
                "inputs": inputs_of(operation),
                "outputs": outputs_of(operation),
            }
        )

    async def model_ready(self, request: Request) -> Response:
        operation = _operation(request)
        ready = not self.desk.state.draining and unavailable(self.desk.state, operation.service) is None
        return JSONResponse({"name": operation.name(), "ready": ready}, 200 if ready else 503)

    # ── infer ────────────────────────────────────────────────────────────────────────────────────────────────

    async def infer(self, request: Request) -> Response:
        operation = _operation(request)
        taking = Taking(operation)
        try:
            async with asyncio.timeout(self.desk.state.settings.deadline):
                asked = await self._taken(request, taking)
            parameters = an_object(asked.get("parameters", {}), "parameters")
            taking.parameters(parameters)
            wanted = _wanted(asked, operation)
            fields = taking.done()
        except TimeoutError as error:
            taking.discard()
            raise TooSlow("The request's body did not arrive within the call's deadline.") from error
        except BaseException:
            taking.discard()
            raise
        guest = Guest.of(request, seconds_of(parameters))
        shown = not wanted or "image" in wanted
        outcome = await self.desk.run(operation, fields, guest, taking.files, passed_on=shown)
        whole = bool(parameters.get("binary_data_output"))
        binary = {name: bool(given.get("binary_data", whole)) for name, given in wanted.items()}
        head = {
            "model_name": operation.name(),
            "model_version": VERSION,
            "parameters": {"model": outcome.model},
        }
        if (own := asked.get("id")) is not None:
            head["id"] = str(own)[:128]
        return _answer(head, outputs(outcome, list(wanted)), binary, whole, outcome)

    async def _taken(self, request: Request, taking: Taking) -> dict[str, Any]:
        """The request's JSON; its tensors are read into `taking`."""
        if request.headers.get("content-encoding", "identity") != "identity":
            raise UnsupportedMedia("A compressed request is not read here; pictures are compressed already.")
        length = request.headers.get(HEAD_LENGTH)
        if length is None:
            reader: Reader = request.scope["darkroom.reader"]
            asked = (await reader.form("application/json", request.stream())).fields
            for tensor in _tensors(asked):
                taking.check(tensor["name"], tensor["shape"])
                if "data" not in tensor:
                    raise BadInput(f"{tensor['name']} has no data.", field=tensor["name"])
                taking.value(tensor["name"], tensor.pop("data"))
            return asked
        if not length.isdecimal() or not 0 < int(length[:9]) <= LONGEST:
            raise Malformed(f"Inference-Header-Content-Length must be a number up to {LONGEST}.")
        body = _Body(request.stream(), self.desk.state.settings.max_body)
        try:
            asked = an_object(parse_json(await body.read(int(length))), "The request")
        except orjson.JSONDecodeError as error:
            raise Malformed(f"The request's head is not valid JSON: {error}.") from error
        for tensor in _tensors(asked):
            await self._tensor(tensor, body, taking)
        await body.end()
        return asked

    async def _tensor(self, tensor: dict[str, Any], body: _Body, taking: Taking) -> None:
        name = tensor["name"]
        taking.check(name, tensor["shape"])
        size = an_object(tensor.get("parameters", {}), f"{name}'s parameters").get("binary_data_size")
        if size is None:
            taking.value(name, tensor.get("data"))
            return
        if not isinstance(size, int) or size < 0:
            raise BadInput(f"{name}: binary_data_size must be a number.", field=name)
        if not taking.takes_files(name) or tensor["datatype"] != "BYTES" or size < 4:
            if size > LONGEST:
                raise TooLarge(f"{name} may have {LONGEST} bytes at most.", field=name)
            taking.value(name, unpacked(tensor["datatype"], await body.read(size), name))
            return
        said = int.from_bytes(await body.read(4), "little")
        if said != size - 4:
            raise BadInput(f"{name} must be one element: its length in 4 bytes, then its bytes.", field=name)
        settings = self.desk.state.settings
        limit = Limit(settings.max_picture_bytes, settings.max_lora_bytes)
        spool = Spool(settings.data / "uploads")
        try:
            head = await body.read(min(said, 16))
            if is_reference(head):
                rest = await body.read(min(said, LONGEST) - len(head))
                taking.value(name, head + rest)
                return
            limit.count(head, name)
            await spool.write(head)
            async for piece in body.pieces(said - len(head)):
                limit.count(piece, name)
                await spool.write(piece)
            taking.picture(name, await spool.finish())
        except BaseException:
            spool.discard()
            raise


class _Body:
    """A request's body, read in lengths that are known before."""

    def __init__(self, stream: AsyncIterator[bytes], most: int) -> None:
        self._stream, self._left, self._most = stream, b"", most

    async def read(self, size: int) -> bytes:
        return b"".join([piece async for piece in self.pieces(size)])

    async def pieces(self, size: int) -> AsyncIterator[bytes]:
        self._most -= size
        if self._most < 0:
            raise TooLarge("The request is larger than a request may be.")
        while size > 0:
            if not self._left:
                self._left = await anext(self._stream, b"")
                if not self._left:
                    raise Malformed("The body ended before all tensors had come.")
            piece, self._left = self._left[:size], self._left[size:]
            size -= len(piece)
            yield piece

    async def end(self) -> None:
        if self._left or [piece async for piece in self._stream if piece]:
            raise Malformed("The body is longer than its tensors say.")


def _operation(request: Request) -> Any:
    return operation_of(request.path_params["model"], request.path_params.get("version", ""))


def _tensors(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The inputs, of which each has a name, a datatype and a shape."""
    found = asked.get("inputs")
    if not isinstance(found, list) or len(found) > MOST_INPUTS:
        raise Malformed(f"The request must have `inputs`, a list of up to {MOST_INPUTS} tensors.")
    for tensor in found:
        an_object(tensor, "Each input")
        named = isinstance(tensor.get("name"), str) and isinstance(tensor.get("datatype"), str)
        if not named or not isinstance(tensor.get("shape"), list):
            raise Malformed("Each input must have name, datatype and shape.")
        check_tensor(tensor["name"], an_object(tensor.get("parameters", {}), "An input's parameters"))
    return found


def _wanted(asked: dict[str, Any], operation: Any) -> dict[str, dict[str, Any]]:
    """The outputs that are named, each with its parameters."""
    found = asked.get("outputs") or []
    if not isinstance(found, list) or not all(
        isinstance(one, dict) and isinstance(one.get("name"), str) for one in found
    ):
        raise Malformed("`outputs` must be a list of objects with a name.")
    wanted = {one["name"]: an_object(one.get("parameters", {}), "parameters") for one in found}
    for name, parameters in wanted.items():
        check_tensor(name, parameters)
    check_wanted(operation, list(wanted))
    return wanted


def _answer(
    head: dict[str, Any], made: list[Output], binary: dict[str, bool], whole: bool, outcome: Outcome
) -> Response:
    told: list[dict[str, Any]] = []
    behind: list[bytes | File] = []
    for one in made:
        about: dict[str, Any] = {"name": one.name, "datatype": one.datatype, "shape": [len(one.values)]}
        if binary.get(one.name, whole):
            raw = one.raw
            behind += raw
            about["parameters"] = {"binary_data_size": splice.length(raw)}
        else:
            about["data"] = one.data(one.name == "data")
            if one.name == "image":
                about["parameters"] = {"content_type": "base64"}
        if one.name == "image" and outcome.pictures:
            about["parameters"]["media_type"] = outcome.pictures[0].media_type
        told.append(about)
    if not behind:
        return Spliced({**head, "outputs": told})
    document = splice.parts({**head, "outputs": told})
    headers = {HEAD_LENGTH: str(splice.length(document))}
    return Pieces([*document, *behind], "application/octet-stream", headers)
