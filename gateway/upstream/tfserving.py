"""The way to TensorFlow Serving, official or embedded: a call goes in, one Predict is made of it, and frames come out.

    picture ─> decoded once, PNG or JPEG ─> Predict (gRPC) ─> PNG ─> the asked format ─> accepted, result, done

The frames are those that our own services send, so that nothing behind the pool knows the difference. TensorFlow
Serving says nothing before it is done, hence `accepted` comes with the result, and a call that is lost on the way is
repeated elsewhere: it changes nothing at the server. Every picture is decoded here before it leaves, since one that
TensorFlow cannot decode fails all that are batched with it. Pillow works in threads, off the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image

from gateway import telemetry
from gateway.blobs import Blob, MemoryBlob
from gateway.settings import Settings
from gateway.upstream.call import Call
from gateway.upstream.choose import Share
from gateway.upstream.endpoint import Endpoint
from gateway.upstream.observe import Track
from gateway.upstream.transport import Address, Transport
from services import frames, images
from services.errors import (
    BadPicture,
    BadUpstream,
    DarkroomError,
    NotConfigured,
    ServiceFault,
    Unavailable,
    UnknownModel,
)
from services.operations import Format, SketchToImage
from services.settings import Limits

if TYPE_CHECKING:
    from tf_serving.client import Client, Prediction, Version

GRACE = 0.25  # seconds after our own deadline at which gRPC's would come, so that it is ours that tells
LOOK_WITHIN = 2.0
CANARY = "canary"  # the label of the version that is on trial
LABELS_EVERY = 10.0  # seconds; a label moves when its configuration does
AT_ONCE = 2  # pictures that are decoded or encoded here at the same time: the largest takes 200 MB meanwhile
_SCHEME = "grpc://"
_PNG = b"\x89PNG\r\n\x1a\n"
_LARGEST_PIXEL = 4  # bytes of a pixel that no compression made smaller, and the filter's share of its row


@dataclass(slots=True)
class Sketch:
    """A call as it goes out; its picture is read and decoded once, at the first attempt."""

    call: Call
    size: int
    broken: DarkroomError | None = None
    track: Track | None = None  # canary, where it goes to the version with that label
    tried: bool = False
    picture: bytes = b""
    timing: dict[str, float] = field(default_factory=dict)


class Made:
    """A finished answer, as frames."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = deque(pieces)

    def at_hand(self) -> bytes:
        return self._pieces.popleft() if self._pieces else b""

    async def piece(self) -> bytes:
        return self.at_hand()

    @property
    def at_end(self) -> bool:
        return not self._pieces

    def close(self) -> None:
        self._pieces.clear()


@dataclass(slots=True)
class _Labels:
    """What labels stood for when they were last asked."""

    versions: dict[str, int] = field(default_factory=dict)
    of: tuple[int, ...] = ()
    asked_at: float = float("-inf")


class PredictCarrier:
    accepts_at_once = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = Limits(**{name: getattr(settings, name) for name in Limits.model_fields})
        self._clients: dict[str, Client] = {}
        self._labels: dict[tuple[str, str], _Labels] = {}
        self._share = Share()
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="pix2pix")
        # none where nobody said where its REST is
        self._rest: Transport | None = None
        if settings.pix2pix_rest:
            self._rest = Transport(
                connections=settings.pix2pix_capacity, connect_timeout=settings.connect_timeout
            )

    async def open(self) -> None:
        try:
            import tf_serving.client  # noqa: F401 - gRPC is loaded where a grpc:// address asks for it, and nowhere else
        except ModuleNotFoundError as error:
            raise NotConfigured(
                f"A grpc:// address needs {error.name}, which is not installed: pip install 'darkroom[gateway]'"
            ) from error
        if self._rest is not None:
            await self._rest.open()

    async def close(self) -> None:
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.close()
        if self._rest is not None:
            await self._rest.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def forget(self, endpoint: Endpoint) -> None:
        client = self._clients.pop(endpoint.address.text, None)
        if client is not None:
            self._labels = {key: known for key, known in self._labels.items() if key[0] != client.address}
            await client.close()

    def _client(self, endpoint: Endpoint) -> Client:
        from tf_serving.client import Client

        address = endpoint.address.text
        client = self._clients.get(address)
        if client is None:
            client = self._clients[address] = Client(
                address.removeprefix(_SCHEME),
                connect_timeout=self._settings.connect_timeout,
                largest=_LARGEST_PIXEL * self._settings.max_pixels + self._settings.max_picture_bytes,
            )
        return client

    # ── a call ───────────────────────────────────────────────────────────────────────────────────────────────

    def pack(self, call: Call) -> Sketch:
        packed = Sketch(call, sum(blob.size for blob in call.parts.values()))
        share = self._settings.pix2pix_canary
        if share and getattr(call.ask, "version", None) is None:
            at_canary = self._share.due(share)
            self._share.placed(share, at_canary=at_canary)
            packed.track = "canary" if at_canary else None
        return packed

    async def send(self, endpoint: Endpoint, packed: Sketch, seconds: float) -> Made:
        ask = packed.call.ask
        if not isinstance(ask, SketchToImage):
            raise NotConfigured(f"TensorFlow Serving does not perform {ask.name()!r}.")
        model = self._choose(ask.model, endpoint)
        began = started = time.perf_counter()
        if not packed.picture:
            packed.picture = await self._decoded(packed)
            packed.timing["decode_ms"] = _since(began)
        began = time.perf_counter()
        # the first attempt of a call is the canary's, another is not
        at_canary = packed.track == "canary" and not packed.tried and _has_label(endpoint, model, CANARY)
        packed.tried, packed.track = True, "canary" if at_canary else None
        version = CANARY if at_canary else ask.version or self._settings.pix2pix_version or None
        try:
            made = await self._predicted(endpoint, packed, model, version, seconds)
        except UnknownModel as error:
            if at_canary:  # the label was there a moment ago
                return await self.send(endpoint, packed, seconds - _since(started) / 1000)
            if error.extra.get("_absent") and model in _loaded(endpoint):
                # it was there a moment ago: a restart, or its last version has just left
                raise Unavailable(error.detail, retry_after=1) from error
            raise
        packed.timing["run_ms"] = _since(began)
        width, height = _measure(made.picture)
        began = time.perf_counter()
        kind: Format = ask.format or "png"
        body = made.picture
        if kind != "png":
            body = await self._off_the_loop(_encoded, made.picture, kind, ask.quality)
            packed.timing["encode_ms"] = _since(began)
        result = {"index": 0, "role": "picture", "media_type": images.MEDIA_TYPES[kind]}
        return Made(
            [
                # `run_ms`: how much of the time until now was work, not waiting
                *_frame("accepted", model=made.model, version=made.version, run_ms=_since(started)),
                *_frame("result", body, **result, width=width, height=height),
                *_frame("done", model=made.model, data={"version": made.version}, timing=packed.timing),
            ]
        )

    async def relay(self, endpoint: Endpoint, path: str, message: bytes, seconds: float) -> bytes:
        """A message of TensorFlow Serving's own, passed on as it is; the caller holds a turn at `endpoint`."""
        return await self._client(endpoint).relay(path, message, seconds=seconds, headers=telemetry.headers())

    @property
    def has_rest(self) -> bool:
        return self._rest is not None

    async def rest(self, method: str, path: str, data: bytes) -> tuple[int, str, bytes]:
        """A request of TensorFlow Serving's REST, passed on; status, content type and body of its answer."""
        if self._rest is None:
            raise NotConfigured("DARKROOM_PIX2PIX_REST names no address.")
        headers = {"content-type": "application/json", "content-length": str(len(data))} if data else {}
        headers |= telemetry.headers()
        answer = await self._rest.pass_on(method, Address(self._settings.pix2pix_rest), path, headers, data)
        try:
            limit = 2 * _LARGEST_PIXEL * self._settings.max_pixels
            return answer.status, answer.content_type, await answer.body(limit)
        finally:
            answer.close()

    async def _predicted(
        self, endpoint: Endpoint, packed: Sketch, model: str, version: str | None, seconds: float
    ) -> Prediction:
        client, began = self._client(endpoint), time.perf_counter()
        try:
            return await client.predict(
                packed.picture, model, version, seconds=seconds + GRACE, headers=packed.call.headers
            )
        except BadPicture:
            # It was decoded here, so it is one: TensorFlow is stricter, or another picture of its batch was bad. As a
            # plain PNG no decoder refuses it, and in a batch of such nobody suffers for another.
            packed.picture = await self._off_the_loop(_plain, packed.picture, self._limits)
            left = seconds - (time.perf_counter() - began)
            return await client.predict(
                packed.picture, model, version, seconds=left + GRACE, headers=packed.call.headers
            )

    def _choose(self, asked: str, endpoint: Endpoint) -> str:
        known = self._settings.pix2pix_models
        if asked == "auto":
            loaded = _loaded(endpoint)
            return next((name for name in known if name in loaded), known[0])
        if asked not in known:
            raise UnknownModel(
                f"There is no model {asked!r} for sketches here; there are {', '.join(known)}.", field="model"
            )
        return asked

    async def _decoded(self, packed: Sketch) -> bytes:
        path = packed.call.ask.image.ref.removeprefix("part:")  # type: ignore[attr-defined]
        try:
            data = await _whole(packed.call.parts[path])
        except OSError as error:
            packed.broken = ServiceFault(f"A picture of this request can no longer be read: {error}.")
            raise packed.broken from error
        return await self._off_the_loop(images.decode_portable, data, self._limits)

    async def _off_the_loop(self, work: Callable[..., bytes], *given: Any) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    # ── its health ───────────────────────────────────────────────────────────────────────────────────────────

    async def describe(self, endpoint: Endpoint) -> dict[str, Any]:
        """TensorFlow Serving lists no models, so each that the settings name is asked for."""
        client, names = self._client(endpoint), self._settings.pix2pix_models
        found = await asyncio.gather(*(self._status(client, name) for name in names))
        models = [
            await self._model(client, name, versions) for name, versions in zip(names, found, strict=True)
        ]
        reasons = [_reason(name, versions) for name, versions in zip(names, found, strict=True)]
        ready = any(model["loaded"] for model in models)
        return {
            "capacity": self._settings.pix2pix_capacity,
            "operations": {SketchToImage.name(): [SketchToImage.digest()]},
            "models": models,
            "ready": ready,
            "reason": None if ready else " ".join(reasons),
        }

    async def _status(self, client: Client, name: str) -> list[Version]:
        try:
            return await client.status(name, seconds=LOOK_WITHIN)
        except UnknownModel:
            return []

    async def _model(self, client: Client, name: str, versions: list[Version]) -> dict[str, Any]:
        available = tuple(one.number for one in versions if one.state == "AVAILABLE")
        labels = await self._labels_of(client, name, available)
        return {
            "name": name,
            "loaded": bool(available),
            "engine": "tensorflow-serving",
            "versions": [
                {"version": one.number, "state": one.state.lower(), "error": one.error or None}
                for one in versions
            ],
            "labels": labels,
        }

    async def _labels_of(self, client: Client, name: str, available: tuple[int, ...]) -> dict[str, int]:
        known = self._labels.setdefault((client.address, name), _Labels())
        now = asyncio.get_running_loop().time()
        if not available or (known.of == available and now < known.asked_at + LABELS_EVERY):
            return known.versions if available else {}
        found = {}
        for label in self._settings.pix2pix_labels:
            try:
                found[label], _ = await client.metadata(name, label, seconds=LOOK_WITHIN)
            except UnknownModel:
                continue  # nobody has given this label
            except DarkroomError:
                return known.versions  # whether it is well, the status has said
        known.versions, known.of, known.asked_at = found, available, now
        return found


def _loaded(endpoint: Endpoint) -> set[str]:
    return {str(model["name"]) for model in endpoint.models if model.get("loaded")}


def _has_label(endpoint: Endpoint, model: str, label: str) -> bool:
    return any(label in (one.get("labels") or ()) for one in endpoint.models if one["name"] == model)


def _reason(name: str, versions: list[Version]) -> str:
    if not versions:
        return f"It has no model {name!r}."
    newest = versions[0]
    why = f": {newest.error}" if newest.error else ""
    return f"Of the model {name!r}, version {newest.number} is {newest.state.lower()}{why}."


async def _whole(blob: Blob) -> bytes:
    if isinstance(blob, MemoryBlob):
        return blob.data
    return b"".join([piece async for piece in blob.pieces()])


def _measure(png: bytes) -> tuple[int, int]:
    if not png.startswith(_PNG) or len(png) < 24:
        raise BadUpstream("TensorFlow Serving gave back something that is no PNG.")
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


def _plain(data: bytes, limits: Limits) -> bytes:
    return images.encode(images.decode(data, limits), "png")


def _encoded(png: bytes, kind: Format, quality: int) -> bytes:
    try:
        with Image.open(BytesIO(png), formats=("PNG",)) as image:
            return images.encode(image, kind, quality)
    except (OSError, ValueError, SyntaxError) as error:
        raise BadUpstream(f"The PNG of TensorFlow Serving cannot be read: {error}") from error


def _frame(kind: str, body: bytes = b"", /, **fields: Any) -> list[bytes]:
    return [bytes(head) if i == 0 else body for i, head in enumerate(frames.encode(kind, body, **fields))]


def _since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 1)
