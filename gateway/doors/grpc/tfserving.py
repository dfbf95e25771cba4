"""TensorFlow Serving's own gRPC, passed through to the service pix2pix under this installation's keys.

    Predict, GetModelMetadata, GetModelStatus ──key, model, pictures, quota, the line──> TensorFlow Serving

The message goes on as it came and its answer comes back as it is, errors with TensorFlow Serving's own code and words.
Only the models that the settings name can be asked for, and nothing can be reconfigured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from gateway import logs
from gateway.blobs import MemoryBlob
from gateway.callers import Caller
from gateway.doors.grpc.calls import Method, Requests, Rpc, Send
from gateway.doors.grpc.wire import Passed
from gateway.intake import look
from gateway.state import GatewayState
from gateway.upstream.tfserving import PredictCarrier
from services.errors import DeadlineExceeded, Malformed, NotConfigured, NotFound
from services.operations import SketchToImage
from tf_serving.client import TENSOR, as_error
from tf_serving.stubs import service
from tf_serving.stubs.services import MODEL, PREDICTION

if TYPE_CHECKING:
    from gateway.upstream.pool import Pool

DOOR = "tfserving"
LARGE_AT_ONCE = 16  # requests in memory; the others' messages are not read yet
READ_OFF_THE_LOOP = 2**20
METHODS = {"Predict": PREDICTION, "GetModelMetadata": PREDICTION, "GetModelStatus": MODEL}


_HELP = "Send what TensorFlow Serving's own stubs write."


class TensorFlowServingRpc:
    def __init__(self, state: GatewayState) -> None:
        self._state = state
        self._at_once = asyncio.Semaphore(LARGE_AT_ONCE)

    def methods(self) -> dict[str, Method]:
        return {name: self._method(name) for name in METHODS}

    def _method(self, name: str) -> Method:
        path = f"/{METHODS[name]}/{name}"
        takes: Callable[[bytes], Any] = service(METHODS[name])[name][0].FromString

        async def passed(rpc: Rpc, requests: Requests, send: Send) -> None:
            settings, left = self._state.settings, rpc.seconds_left
            seconds = settings.deadline if left is None else min(left, settings.deadline)
            deadline = asyncio.get_running_loop().time() + seconds
            try:
                async with asyncio.timeout_at(deadline), self._at_once:
                    message: Passed | None = await anext(requests, None)
                    if message is None:
                        raise Malformed("No message came.")
                    large = len(message.data) > READ_OFF_THE_LOOP
                    try:
                        asked = await asyncio.to_thread(takes, message.data) if large else takes(message.data)
                    except DecodeError as error:
                        raise Malformed(f"This is no {name}Request.", help=_HELP) from error
                    spec = asked.model_spec
                    self._check_model(spec.name)
                    pictures = list(asked.inputs[TENSOR].string_val) if name == "Predict" else []
                    del asked
                    for at, picture in enumerate(pictures):
                        await look(MemoryBlob(picture), f"{TENSOR}.{at}", settings)
                    count = len(pictures)
                    del pictures
                    async with self._paid(rpc.caller, count if name == "Predict" else 0):
                        answer = await self._relayed(rpc, path, message.data, deadline, spec)
            except TimeoutError as error:
                raise DeadlineExceeded("The call was not done within its deadline.") from error
            await send(Passed(answer))

        return passed

    def _check_model(self, name: str) -> None:
        known = self._state.settings.pix2pix_models
        if name not in known:
            raise NotFound(
                f"Servable not found for request: Latest({name[:80]})", help=f"There are {', '.join(known)}."
            )

    @asynccontextmanager
    async def _paid(self, caller: Caller, count: int) -> AsyncIterator[None]:
        """Pictures count as those of sketch-to-image do, once they are made."""
        reservation = await self._state.limits.reserve_pictures(caller, count)
        made = 0
        try:
            yield
            made = count
        finally:
            self._state.limits.settle(reservation, made)
            if made:
                self._state.metrics.pictures(SketchToImage.name(), made)

    async def _relayed(self, rpc: Rpc, path: str, data: bytes, deadline: float, spec: Any) -> bytes:
        pool: Pool = self._state.upstream.pool(SketchToImage.service)
        carrier = pool.carrier
        if not isinstance(carrier, PredictCarrier):
            raise NotConfigured("The service pix2pix is no TensorFlow Serving here.")
        logs.tell(service=pool.service, operation=SketchToImage.name())
        caller, began, outcome = rpc.caller, time.perf_counter(), "cancelled"
        async with pool.turn(key_id=caller.key_id, weight=caller.weight, deadline=deadline) as turn:
            logs.tell(endpoint=turn.endpoint.address.text)
            pool.sent()
            try:
                left = deadline - asyncio.get_running_loop().time()
                answer = await carrier.relay(turn.endpoint, path, data, left)
                outcome = "done"
            except grpc.aio.AioRpcError as error:
                fault = as_error(error, spec.name, spec.version_label or None)
                outcome = fault.slug
                fault.extra |= {"_code": error.code(), "_words": error.details()}
                raise fault from error
            finally:
                pool.finished(outcome, time.perf_counter() - began)
        return answer
