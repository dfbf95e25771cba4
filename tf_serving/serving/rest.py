"""The REST door, plain ASGI: `/v1/models/NAME[/versions/N|/labels/L]` with `/metadata`, `:predict`; and the
metrics' page.

Paths and refusals are those of tensorflow_serving/model_servers/http_rest_api_util.cc and http_server.cc.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote

from google.protobuf.json_format import MessageToDict, MessageToJson

from tf_serving.serving import json_tensors
from tf_serving.serving.engines import Arrays
from tf_serving.serving.grpc_services import NOT_HERE, SIGNATURE_DEF, metadata
from tf_serving.serving.metrics import Metrics
from tf_serving.serving.models import Models, Version
from tf_serving.serving.predict import Asked, Predictor
from tf_serving.serving.signatures import Signature
from tf_serving.serving.status import Code, Refused, invalid
from tf_serving.stubs import (
    GetModelMetadataRequest,
    GetModelStatusResponse,
    ModelSpec,
    SignatureDefMap,
    pool,
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_WHO = r"(?i:/v1/models)/(?P<name>[^/:]+)(?:/(?i:versions)/(?P<version>\d+)|/(?i:labels)/(?P<label>[^/:]+))?"
_PREDICTION = re.compile(_WHO + r":(?P<method>(?i:classify|regress|predict))")
_STATUS = re.compile(_WHO + r"(?:/(?P<metadata>(?i:metadata)))?")
_EMPTY = re.compile(r"(?i)/v1/models/?")
_INT64 = 2**63
DISCARD_SECONDS = 5.0
_log = logging.getLogger("tf_serving.rest")


class Rest:
    def __init__(
        self,
        models: Models,
        predictor: Predictor,
        metrics: Metrics,
        metrics_path: str | None,
        max_bytes: int,
        seconds: float,
    ) -> None:
        self._models, self._predictor, self._metrics = models, predictor, metrics
        self._metrics_path, self._max_bytes, self._seconds = metrics_path, max_bytes, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        path = raw.decode("latin-1").partition("?")[0]
        if path == self._metrics_path and scope["method"] == "GET":
            await _reply(send, 200, self._metrics.page().encode(), b"text/plain")
        elif not re.match(r"(?i)/v1/", path):
            await _reply(send, 404, b"", b"text/plain")
        else:
            await self._answer(scope["method"], path, scope, receive, send)

    async def _answer(self, method: str, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await self._call(method, path, scope, receive)
        except Refused as error:
            await _reply(send, error.http, _error(error.message), close=error.http == 413)
        except _Gone:
            return
        except Exception:  # noqa: BLE001 - said in the log, and to the client that it is not its fault
            _log.exception("%s %s", method, path)
            await _reply(send, 500, _error("The server failed; its log says how."))
        else:
            await _reply(send, 200, body)

    async def _call(self, method: str, path: str, scope: Scope, receive: Receive) -> bytes:
        if method == "POST" and (found := _PREDICTION.fullmatch(path)):
            spec = _spec(found)
            body = await self._body(scope, receive)
            if found["method"].lower() != "predict":
                raise Refused(Code.UNIMPLEMENTED, NOT_HERE)
            return await _while_connected(self._predict(spec, body), receive)
        if method == "GET" and _EMPTY.fullmatch(path):
            raise invalid("Missing model name in request.")
        if method == "GET" and (found := _STATUS.fullmatch(path)):
            return self._metadata(_spec(found)) if found["metadata"] else self._status(_spec(found))
        raise invalid(f"Malformed request: {method} {path}")

    async def _predict(self, spec: ModelSpec, body: bytes) -> bytes:
        form = json_tensors.ROW

        def read(signatures: Mapping[str, Signature]) -> Asked:
            nonlocal form
            document = json_tensors.parse(body)
            name, signature = json_tensors.signature_of(signatures, json_tensors.signature_name(document))
            form, inputs = json_tensors.inputs_of(document, signature.inputs)
            return Asked(name, inputs, list(signature.outputs))

        def write(_version: Version, _asked: Asked, outputs: Arrays) -> bytes:
            return json_tensors.json_of(form, outputs)

        return await self._predictor.predict(spec, read, write, "REST", self._seconds)

    def _status(self, spec: ModelSpec) -> bytes:
        response = GetModelStatusResponse(model_version_status=self._models.states(spec))
        return MessageToJson(response, always_print_fields_with_no_presence=True, indent=1).encode() + b"\n"

    def _metadata(self, spec: ModelSpec) -> bytes:
        request = GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_DEF])
        response = metadata(self._models, request)
        signatures = SignatureDefMap()
        response.metadata[SIGNATURE_DEF].Unpack(signatures)
        shown = {
            "model_spec": _dict(response.model_spec) | {"signature_name": ""},
            "metadata": {SIGNATURE_DEF: _dict(signatures)},
        }
        return json.dumps(shown, indent=1).encode() + b"\n"

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        told = dict(scope["headers"]).get(b"content-length", b"0")
        size, read = int(told) if told.isdigit() else 0, 0
        parts: list[bytes] = []
        while True:
            if max(size, read) > self._max_bytes:
                parts.clear()
                await _discard(receive)
                raise Refused(
                    Code.RESOURCE_EXHAUSTED,
                    f"The request has more than {self._max_bytes} bytes, which is what this server takes.",
                    http=413,
                )
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            parts.append(message.get("body", b""))
            read += len(parts[-1])
            if not message.get("more_body"):
                return b"".join(parts)


async def _discard(receive: Receive) -> None:
    """Lets the client finish: while it is still sending, an answer and a closed connection look like a fault."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while (message := await receive())["type"] == "http.request" and message.get("more_body"):
                pass


class _Gone(Exception):
    """The client hung up."""


async def _while_connected(work: Any, receive: Receive) -> bytes:
    """What the work gives; it is cancelled when the client hangs up."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise _Gone
        found: bytes = task.result()
        return found
    finally:
        for one in (task, gone):
            one.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _spec(found: re.Match[str]) -> ModelSpec:
    spec = ModelSpec(name=unquote(found["name"]))
    if found["version"]:
        number = int(found["version"])
        if number >= _INT64:
            raise invalid(f"Failed to convert version: {found['version']} to numeric.")
        spec.version.value = number
    if found["label"]:
        spec.version_label = unquote(found["label"])
    return spec


def _dict(message: Any) -> dict[str, Any]:
    return MessageToDict(
        message,
        always_print_fields_with_no_presence=True,
        preserving_proto_field_name=True,
        descriptor_pool=pool,
    )


def _error(message: str) -> bytes:
    return json.dumps({"error": message}, indent=4).encode()


async def _reply(
    send: Send, status: int, body: bytes, media_type: bytes = b"application/json", close: bool = False
) -> None:
    headers = [(b"content-type", media_type), (b"content-length", str(len(body)).encode())]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
