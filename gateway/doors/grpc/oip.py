"""The Open Inference Protocol over gRPC, as Triton's and KServe's clients speak it: each operation is a model.

What tensors mean is the same as over REST (doors/oip_tensors.py). A request is one message, so a few at a time are
read; whose key it is was looked at before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Any

from gateway.desk import Desk, Guest, Outcome
from gateway.doors.catalogue import unavailable
from gateway.doors.grpc.calls import Method, Requests, Rpc, Send
from gateway.doors.grpc.oip_messages import RAW_OUTPUT, message
from gateway.doors.grpc.wire import Passed, field_head
from gateway.doors.oip_tensors import (
    LONGEST,
    MOST_INPUTS,
    VERSION,
    Output,
    Taking,
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
from gateway.forms import Limit
from gateway.room import RoomInTurn
from services.errors import BadInput, Malformed, NotFound, TooLarge, TooSlow

DOOR = "oip"
LARGE_AT_ONCE = 4  # requests that are being taken apart
ANSWERS = 16 * 2**20  # bytes of answers that are being sent: each is one message, and lies twice in memory
PATIENCE = 1.0  # seconds that an answer waits for others to be sent, whose clients may not read
# where a tensor's elements are, when they are not raw
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


class OpenInferenceRpc:
    def __init__(self, desk: Desk) -> None:
        self._desk, self._state = desk, desk.state
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._answers = RoomInTurn(ANSWERS, PATIENCE)

    def methods(self) -> dict[str, Method]:
        return {
            "ServerLive": self.live,
            "ServerReady": self.ready,
            "ModelReady": self.model_ready,
            "ServerMetadata": self.server,
            "ModelMetadata": self.metadata,
            "ModelInfer": self.infer,
        }

    # ── what there is ────────────────────────────────────────────────────────────────────────────────────────

    async def live(self, _rpc: Rpc, _requests: Requests, send: Send) -> None:
        await send(message("ServerLiveResponse")(live=True))

    async def ready(self, _rpc: Rpc, _requests: Requests, send: Send) -> None:
        ready = all(one.ready for one in self._state.upstream.status().values())
        await send(message("ServerReadyResponse")(ready=ready))

    async def server(self, _rpc: Rpc, _requests: Requests, send: Send) -> None:
        await send(message("ServerMetadataResponse")(name="darkroom", version=version("darkroom")))

    async def model_ready(self, _rpc: Rpc, requests: Requests, send: Send) -> None:
        asked = await _first(requests)
        try:
            operation = operation_of(asked.name, asked.version)
        except NotFound:  # as Triton answers over gRPC, so that a client may ask before it is there
            ready = False
        else:
            ready = unavailable(self._state, operation.service) is None
        await send(message("ModelReadyResponse")(ready=ready))

    async def metadata(self, _rpc: Rpc, requests: Requests, send: Send) -> None:
        asked = await _first(requests)
        operation = operation_of(asked.name, asked.version)
        told = message("ModelMetadataResponse")(
            name=operation.name(), versions=[VERSION], platform="darkroom"
        )
        for tensors, into in ((inputs_of(operation), told.inputs), (outputs_of(operation), told.outputs)):
            for one in tensors:
                into.add(name=one["name"], datatype=one["datatype"], shape=one["shape"])
        await send(told)

    # ── infer ────────────────────────────────────────────────────────────────────────────────────────────────

    async def infer(self, rpc: Rpc, requests: Requests, send: Send) -> None:
        most = self._state.settings.deadline
        left = rpc.seconds_left
        try:
            async with asyncio.timeout(most if left is None else min(left, most)), self._large:
                asked = await _first(requests)
                taking = Taking(operation_of(asked.model_name, asked.model_version))
                try:
                    for tensor in (*asked.inputs, *asked.outputs):
                        check_tensor(tensor.name, tensor.parameters)
                    await self._taken(asked, taking)
                    parameters = _parameters(asked.parameters)
                    taking.parameters(parameters)
                    seconds = seconds_of(parameters)
                    wanted = [one.name for one in asked.outputs]
                    check_wanted(taking.operation, wanted)
                    fields, own = taking.done(), asked.id
                except BaseException:
                    taking.discard()
                    raise
                del asked
        except TimeoutError as error:
            raise TooSlow("The request did not arrive within the call's deadline.") from error
        bounds = [one for one in (seconds, rpc.seconds_left or 0.0) if one]
        shown = not wanted or "image" in wanted
        async with AsyncExitStack() as answering:
            guest = Guest(rpc.caller, rpc.request_id, seconds=min(bounds, default=0.0), answering=answering)
            outcome = await self._desk.run(taking.operation, fields, guest, taking.files, passed_on=shown)
            async with self._answers.of(sum(one.file.size for one in outcome.pictures)):
                answer = await _answer(outcome, outputs(outcome, wanted), own)
                await answering.aclose()  # the service need not wait for the client
                await send(answer)

    async def _taken(self, asked: Any, taking: Taking) -> None:
        if len(asked.inputs) > MOST_INPUTS:
            raise Malformed(f"A request may have {MOST_INPUTS} inputs at most.")
        raw = asked.raw_input_contents
        if raw and len(raw) != len(asked.inputs):
            raise Malformed("raw_input_contents must have as many tensors as inputs, or none.")
        settings = self._state.settings
        limit = Limit(settings.max_picture_bytes, settings.max_lora_bytes)
        for at, tensor in enumerate(asked.inputs):
            name = tensor.name
            taking.check(name, list(tensor.shape))
            value = unpacked(tensor.datatype, raw[at], name) if raw else _content(tensor)
            if not isinstance(value, bytes):
                taking.value(name, value)
            elif taking.takes_files(name) and not is_reference(value[:16]):
                limit.begin()
                limit.count(value, name)
                taking.picture(name, await self._desk.hold(value))
            elif len(value) > LONGEST:
                raise TooLarge(f"{name} may have {LONGEST} bytes at most.", field=name)
            else:
                taking.value(name, value)


async def _first(requests: Requests) -> Any:
    found = await anext(requests, None)
    if found is None:
        raise Malformed("No message came.")
    return found


def _content(tensor: Any) -> Any:
    where = _CONTENTS.get(tensor.datatype)
    if where is None:
        raise BadInput(f"{tensor.name}: its datatype needs raw_input_contents.", field=tensor.name)
    values = getattr(tensor.contents, where)
    if len(values) != 1:
        raise BadInput(f"{tensor.name} must have one element, in {where}.", field=tensor.name)
    return values[0]


def _parameters(given: Any) -> dict[str, Any]:
    found = {}
    for name, value in given.items():
        kind = value.WhichOneof("parameter_choice")
        if kind is None:
            raise BadInput(f"The parameter {name[:80]!r} has no value.", field=name[:80])
        found[name] = getattr(value, kind)
    return found


async def _answer(outcome: Outcome, made: Iterable[Output], own: str) -> Passed:
    """The message with its pictures copied once: as a message's field each would be copied three times."""
    told = message("ModelInferResponse")(model_name=outcome.ask.name(), model_version=VERSION, id=own[:128])
    told.parameters["model"].string_param = outcome.model
    raw: list[bytes | memoryview] = []
    for one in made:
        tensor = told.outputs.add(name=one.name, datatype=one.datatype, shape=[len(one.values)])
        if one.name == "image" and outcome.pictures:
            tensor.parameters["media_type"].string_param = outcome.pictures[0].media_type
        parts: list[bytes | memoryview] = []
        for part in one.raw:
            parts += [part] if isinstance(part, bytes) else [piece async for piece in part.views()]
        raw += [field_head(RAW_OUTPUT, sum(map(len, parts))), *parts]
    return Passed(b"".join([told.SerializeToString(), *raw]))
