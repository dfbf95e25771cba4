"""The client of TensorFlow Serving that the gateway uses: a picture's bytes go out, a picture's bytes come back.

    client = Client("127.0.0.1:8500")
    made = await client.predict(sketch, "creatures", seconds=10)
    made.picture, made.version

It speaks with the official server and with `server.py` alike. Every call has a deadline. Nothing is retried here:
whoever calls knows where else a call could go. gRPC's errors become those of `services/errors.py` at this boundary
(`as_error`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import grpc

from services.errors import (
    AtCapacity,
    BadInput,
    BadPicture,
    BadUpstream,
    DarkroomError,
    DeadlineExceeded,
    NoEndpoint,
    OutOfMemory,
    ServiceFault,
    TooLarge,
    UnknownModel,
)
from tf_serving.stubs import (
    DT_STRING,
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelSpec,
    ModelVersionStatus,
    PredictRequest,
    PredictResponse,
    SignatureDefMap,
)

SIGNATURE = "serving_default"
TENSOR = "image_bytes"
NONE: Mapping[str, str] = MappingProxyType({})
LARGEST = 256 * 2**20  # bytes of one message
_PREDICTION, _MODEL = "/tensorflow.serving.PredictionService/", "/tensorflow.serving.ModelService/"
_IN_A_THREAD = 2**20  # bytes from which a message is written and read off the event loop
_STATES = ModelVersionStatus.DESCRIPTOR.enum_types_by_name["State"].values_by_number
_LABELS = ("version label",)  # TensorFlow Serving's words for a label that it does not know


@dataclass(frozen=True, slots=True)
class Prediction:
    """A picture, and who made it."""

    picture: bytes
    model: str
    version: int


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model: `state` is START, LOADING, AVAILABLE, UNLOADING or END; `error` says why it ended."""

    number: int
    state: str
    error: str = ""


class Client:
    """A channel to one server, made where an event loop runs; `address` is host:port."""

    def __init__(self, address: str, *, connect_timeout: float = 2.0, largest: int = LARGEST) -> None:
        self.address = address
        self._channel = grpc.aio.insecure_channel(address, _options(connect_timeout, largest))
        # messages go through as bytes, so that large ones can be written and read in a thread
        call = self._channel.unary_unary
        self._predict: Any = call(f"{_PREDICTION}Predict")
        self._metadata: Any = call(f"{_PREDICTION}GetModelMetadata")
        self._status: Any = call(f"{_MODEL}GetModelStatus")

    async def predict(
        self,
        picture: bytes,
        model: str,
        version: str | None = None,
        *,
        seconds: float,
        headers: Mapping[str, str] = NONE,
    ) -> Prediction:
        """`version` is a number or a label; the newest if None. `headers` go along, as metadata. Cancelling it cancels
        the work at the server."""
        request = PredictRequest(model_spec=_spec(model, version, SIGNATURE))
        tensor = request.inputs[TENSOR]
        tensor.dtype = DT_STRING
        tensor.tensor_shape.dim.add(size=1)
        tensor.string_val.append(picture)
        large = len(picture) >= _IN_A_THREAD
        asked = await asyncio.to_thread(request.SerializeToString) if large else request.SerializeToString()
        answered = await self._ask(self._predict, asked, seconds, model, version, headers)
        large = len(answered) >= _IN_A_THREAD
        parse = PredictResponse.FromString
        response = await asyncio.to_thread(parse, answered) if large else parse(answered)
        said = response.model_spec
        try:
            made = response.outputs[TENSOR].string_val[0]
        except IndexError:
            raise UnknownModel(
                f"The model {model!r} makes no pictures: its answer has no {TENSOR!r}.",
                field="model",
                help="Export it with `darkroom pix2pix export`.",
            ) from None
        return Prediction(made, said.name or model, said.version.value)

    async def status(self, model: str, *, seconds: float) -> list[Version]:
        """The versions that the server knows, the newest first; UnknownModel where there are none."""
        asked = GetModelStatusRequest(model_spec=_spec(model)).SerializeToString()
        answer = await self._ask(self._status, asked, seconds, model, None)
        versions = [
            Version(one.version, _STATES[one.state].name, one.status.error_message)
            for one in GetModelStatusResponse.FromString(answer).model_version_status
        ]
        return sorted(versions, key=lambda one: one.number, reverse=True)

    async def metadata(
        self, model: str, version: str | None = None, *, seconds: float
    ) -> tuple[int, dict[str, Any]]:
        """The version that a label (or None: the newest) stands for just now, and its signatures by name."""
        spec = _spec(model, version)
        asked = GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"]).SerializeToString()
        answer = await self._ask(self._metadata, asked, seconds, model, version)
        response = GetModelMetadataResponse.FromString(answer)
        signatures = SignatureDefMap.FromString(response.metadata["signature_def"].value)
        return response.model_spec.version.value, dict(signatures.signature_def)

    async def relay(
        self, path: str, message: bytes, *, seconds: float, headers: Mapping[str, str] = NONE
    ) -> bytes:
        """A message passed on as it is to a method by its path; what fails is grpc's own error."""
        method: Any = self._channel.unary_unary(path)
        answer: bytes = await method(message, timeout=max(seconds, 0.001), metadata=tuple(headers.items()))
        return answer

    async def close(self) -> None:
        await self._channel.close()

    async def _ask(
        self,
        method: Any,
        message: bytes,
        seconds: float,
        model: str,
        version: str | None,
        headers: Mapping[str, str] = NONE,
    ) -> bytes:
        try:
            answer: bytes = await method(
                message, timeout=max(seconds, 0.001), metadata=tuple(headers.items())
            )
        except grpc.aio.AioRpcError as error:
            raise as_error(error, model, version) from error
        return answer


def _options(connect_timeout: float, largest: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_send_message_length", largest),
        ("grpc.max_receive_message_length", largest),
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),
        # a server that dies without a word is noticed; calls alone are watched, so that no server finds us a nuisance
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 0),
        # one that comes back is found at once: nothing here waits longer than the pool's next look at its health
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", int(connect_timeout * 1000)),
        ("grpc.max_reconnect_backoff_ms", 500),
        ("grpc.use_local_subchannel_pool", 1),
    ]


def _spec(model: str, version: str | None = None, signature: str = "") -> ModelSpec:
    spec = ModelSpec(name=model, signature_name=signature)
    if version is not None and version.isdecimal():
        spec.version.value = int(version)
    elif version is not None:
        spec.version_label = version
    return spec


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────


def as_error(error: grpc.aio.AioRpcError, model: str, version: str | None) -> DarkroomError:
    """What a call's failure means for whoever asked; raise it `from` the foreign one.

    Codes alone do not tell a caller's mistake from ours, so TensorFlow Serving's words are looked at too;
    docs/tf-serving.md has where each of them comes from.
    """
    words = _plain(error.details() or "")
    match error.code():
        case grpc.StatusCode.NOT_FOUND:
            return _unknown(model, version, words)
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.FAILED_PRECONDITION:
            return _refused(model, version, words)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return _exhausted(words)
        case grpc.StatusCode.UNAVAILABLE:
            return _unavailable(words)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded("TensorFlow Serving did not answer in time.")
        case grpc.StatusCode.CANCELLED:
            return BadUpstream("TensorFlow Serving broke the call off.")
        case grpc.StatusCode.UNIMPLEMENTED:
            return BadUpstream(f"What answers there is no TensorFlow Serving: {words}")
        case _ if "RST_STREAM" in words:
            return BadUpstream(f"The connection to TensorFlow Serving broke: {words}")
    return ServiceFault(f"TensorFlow Serving failed: {error.code().name} {words}")


def _unknown(model: str, version: str | None, words: str) -> BadInput:
    if version is not None:
        return UnknownModel(
            f"The model {model!r} has no version {version!r} here.",
            field="version",
            help="GET /v1/models lists the versions and labels; without one the newest answers.",
        )
    return UnknownModel(f"There is no model {model!r} here: {words}", field="model", _absent=True)


def _refused(model: str, version: str | None, words: str) -> DarkroomError:
    lower = words.lower()
    if any(word in lower for word in _LABELS):
        return _unknown(model, version, words)
    if "signature" in lower or "alias" in lower:
        return UnknownModel(
            f"The model {model!r} does not colour sketches: {words}",
            field="model",
            help="Export it with `darkroom pix2pix export`.",
        )
    return BadPicture(f"The model could not read the picture: {words}", field="image")


def _exhausted(words: str) -> DarkroomError:
    lower = words.lower()
    if "message" in lower and "larger" in lower:
        return TooLarge(f"The picture is too large for TensorFlow Serving: {words}", field="image")
    if "oom" in lower or "memory" in lower:
        return OutOfMemory("The picture did not fit into the memory of TensorFlow Serving.", retry_after=1)
    return AtCapacity(f"TensorFlow Serving takes no more just now: {words}", retry_after=1)


def _unavailable(words: str) -> DarkroomError:
    lower = words.lower()
    if "queue" in lower and "full" in lower:
        return AtCapacity("TensorFlow Serving's batching queue is full.", retry_after=1)
    if "connect" in lower and "reset" not in lower:
        return NoEndpoint("No connection to TensorFlow Serving could be made.", retry_after=1)
    return BadUpstream(f"The connection to TensorFlow Serving broke: {words}")


def _plain(words: str) -> str:
    """TensorFlow's sentence without the names of its nodes."""
    first = words.strip().splitlines()[0] if words.strip() else "it said nothing"
    return first.partition(" [[")[0].strip()[:300]
