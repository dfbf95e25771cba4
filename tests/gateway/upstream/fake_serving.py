"""A stand-in for TensorFlow Serving on a real port: it inverts pictures, and fails as it is told to.

Only what the real parts cannot be made to do stands here (errors at will, hanging, dying at a moment); that the client
speaks with the embedded server is tested end to end.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import grpc
from PIL import Image, ImageOps

from tf_serving.stubs import (
    DT_STRING,
    GetModelMetadataResponse,
    GetModelStatusResponse,
    PredictRequest,
    PredictResponse,
    SignatureDef,
    SignatureDefMap,
)
from tf_serving.stubs.services import MODEL, PREDICTION, handlers

START, AVAILABLE, END = 10, 30, 50  # of ModelVersionStatus.State


@dataclass
class FakeServing:
    """`versions` of each model by state; `fails` is what the next Predicts are refused with, one after the other."""

    versions: dict[str, dict[int, int]] = field(default_factory=lambda: {"creatures": {1: AVAILABLE}})
    labels: dict[tuple[str, str], int] = field(default_factory=dict)
    fails: list[tuple[grpc.StatusCode, str]] = field(default_factory=list)
    delay: float = 0.0
    hangs: bool = False
    answer: bytes | None = None
    asked: list[Any] = field(default_factory=list)
    seconds_left: list[float] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    cancelled: int = 0
    most_at_once: int = 0
    _now: int = 0
    _server: Any = None

    async def start(self, port: int = 0) -> None:
        self._server = grpc.aio.server(
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 4 * 2**20)]
        )
        self._server.add_generic_rpc_handlers((handlers(PREDICTION, self), handlers(MODEL, self)))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()

    @property
    def address(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    async def stop(self, grace: float | None = None) -> None:
        await self._server.stop(grace)

    # ── PredictionService ────────────────────────────────────────────────────────────────────────────────────

    async def Predict(self, request: PredictRequest, context: Any) -> PredictResponse:
        self.asked.append(request)
        self.seconds_left.append(context.time_remaining())
        self.headers.append(dict(context.invocation_metadata()))
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            if self.hangs:
                await asyncio.sleep(3600)
            await asyncio.sleep(self.delay)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self._now -= 1
        if self.fails:
            await context.abort(*self.fails.pop(0))
        spec = request.model_spec
        version = await self._version(spec, context)
        response = PredictResponse()
        response.model_spec.name, response.model_spec.version.value = spec.name, version
        made = response.outputs["image_bytes"]
        made.dtype = DT_STRING
        made.tensor_shape.dim.add(size=1)
        picture = request.inputs["image_bytes"].string_val[0]
        made.string_val.append(inverted(picture) if self.answer is None else self.answer)
        return response

    async def GetModelMetadata(self, request: Any, context: Any) -> GetModelMetadataResponse:
        response = GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = await self._version(request.model_spec, context)
        signatures = SignatureDefMap(signature_def={"serving_default": SignatureDef(method_name="predict")})
        response.metadata["signature_def"].Pack(signatures)
        return response

    async def _version(self, spec: Any, context: Any) -> int:
        available = [n for n, state in self.versions.get(spec.name, {}).items() if state == AVAILABLE]
        if spec.version_label:
            if (spec.name, spec.version_label) not in self.labels:
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"Unrecognized servable version label: {spec.version_label}",
                )
            return self.labels[spec.name, spec.version_label]
        if spec.HasField("version") and spec.version.value in available:
            return int(spec.version.value)
        if spec.HasField("version") or not available:
            which = (
                f"Specific({spec.name}, {spec.version.value})"
                if spec.HasField("version")
                else f"Latest({spec.name})"
            )
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {which}")
        return max(available)

    async def Classify(self, request: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")

    Regress = MultiInference = Classify

    # ── ModelService ─────────────────────────────────────────────────────────────────────────────────────────

    async def GetModelStatus(self, request: Any, context: Any) -> GetModelStatusResponse:
        if self.hangs:
            await asyncio.sleep(3600)
        name = request.model_spec.name
        if not self.versions.get(name):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {name}")
        response = GetModelStatusResponse()
        for number, state in self.versions[name].items():
            one = response.model_version_status.add(version=number, state=state)
            if state == END:
                one.status.error_code, one.status.error_message = 3, "the file is damaged"
        return response

    HandleReloadConfigRequest = Classify


def inverted(picture: bytes) -> bytes:
    with Image.open(BytesIO(picture)) as image:
        out = BytesIO()
        ImageOps.invert(image.convert("RGB")).save(out, "PNG")
        return out.getvalue()
