"""OpenAI's Images: `/v1/images/generations`, `/edits`, `/variations`, whole or as a stream of events.

A model of OpenAI's own name is `auto` here. A size that the model was not made for keeps its shape and gets the model's
own number of pixels; the answer's `size` says which.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from gateway.arriving import File
from gateway.blobs import Blob
from gateway.desk import Guest, Made, Outcome, made
from gateway.doors import offered, openai_ask, openai_errors, sizes, splice
from gateway.doors.dialect import Dialect
from gateway.doors.openai_ask import Asked
from gateway.doors.splice import Coded, Spliced
from gateway.doors.watch import ClientGone
from gateway.forms import Form
from gateway.problems import translate
from services.errors import (
    BadInput,
    DarkroomError,
    Malformed,
    MethodNotAllowed,
    NotFound,
    UnknownModel,
    UnsupportedMedia,
)
from services.frames import Event
from services.operations import ImageToImage, Inpaint, RemoveBackground, TextToImage

LINK_SECONDS = 3600  # how long a link to a picture works, as OpenAI's do
_EVENT_STREAM = {"cache-control": "no-store", "x-accel-buffering": "no"}


@dataclass(slots=True)
class Drawing:
    """What is asked of the services, and how its result is told."""

    asked: Asked
    operation: type[TextToImage] | type[ImageToImage] | type[Inpaint]
    fields: dict[str, Any]
    kind: str  # of its events: image_generation or image_edit
    files: dict[str, Blob] = field(default_factory=dict)
    base: str = ""  # of links to pictures


_FORM = "Send a JSON object, or multipart/form-data where pictures go along."
# what OpenAI has and is not here; each with all below it
_ELSEWHERE = frozenset(
    {
        "assistants",
        "audio",
        "batches",
        "chat",
        "completions",
        "conversations",
        "embeddings",
        "files",
        "fine_tuning",
        "moderations",
        "realtime",
        "responses",
        "threads",
        "uploads",
        "vector_stores",
        "videos",
    }
)


class OpenAI(Dialect):
    name = "openai"
    prefixes = ("/v1/images/",)
    given = "a file part of this name"
    words: ClassVar[Mapping[type[DarkroomError], str]] = {
        Malformed: _FORM,
        UnsupportedMedia: _FORM,
        NotFound: "Pictures are made here, at /v1/images/generations, /v1/images/edits and /v1/images/variations; "
        "GET /v1/models lists the models.",
        MethodNotAllowed: "Send a POST.",
    }

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/v1/images/generations", self.generate, methods=["POST"]),
            Route("/v1/images/edits", self.edit, methods=["POST"]),
            Route("/v1/images/variations", self.vary, methods=["POST"]),
        ]

    def takes(self, path: str) -> bool:
        return super().takes(path) or (path.startswith("/v1/") and path.split("/", 3)[2] in _ELSEWHERE)

    async def generate(self, request: Request) -> Response:
        form = await self.desk.form(request)
        form.discard()  # no file has a meaning here
        asked = openai_ask.read(form.fields)
        return await self._draw(request, Drawing(asked, TextToImage, self._fields(asked), "image_generation"))

    async def edit(self, request: Request) -> Response:
        form = await self.desk.form(request)
        try:
            asked = openai_ask.read(form.fields)
            if "markup" in form.files or form.fields.get("markup"):
                raise BadInput(
                    "What is drawn on a picture is not understood here; send a mask.", field="markup"
                )
            files = await openai_ask.pictures(form.files)
            _let_go(form, files)
            fields = self._fields(asked, sized=False) | {name: f"part:{name}" for name in files}
        except BaseException:
            form.discard()
            raise
        operation: type[Inpaint] | type[ImageToImage] = Inpaint if "mask" in files else ImageToImage
        if operation is ImageToImage:
            fields["strength"] = openai_ask.STRENGTHS[asked.fidelity]
        return await self._draw(request, Drawing(asked, operation, fields, "image_edit", files))

    async def vary(self, request: Request) -> Response:
        form = await self.desk.form(request)
        try:
            asked = openai_ask.read({"prompt": "", **form.fields})
            files = await openai_ask.pictures(
                {name: blob for name, blob in form.files.items() if name == "image"}
            )
            _let_go(form, files)
        except BaseException:
            form.discard()
            raise
        files.pop("mask", None)
        fields = self._fields(asked, sized=False) | {"image": "part:image", "strength": openai_ask.VARIATION}
        return await self._draw(request, Drawing(asked, ImageToImage, fields, "image_edit", files))

    # ── the way there ────────────────────────────────────────────────────────────────────────────────────────

    def _fields(self, asked: Asked, *, sized: bool = True) -> dict[str, Any]:
        model = offered.model(self.desk.state, "sdxl", asked.model)
        fields: dict[str, Any] = {
            "prompt": asked.prompt,
            "model": asked.model,
            "count": asked.count,
            "previews": 0,
        }
        if sized or asked.size is not None:
            fields |= sizes.fitted(asked.size, model.get("defaults", {}))
        if (steps := openai_ask.steps(asked.quality, model.get("defaults", {}))) is not None:
            fields["steps"] = steps
        if not asked.transparent:
            fields |= {"format": asked.format, "quality": asked.compression}
        if asked.partial_images:
            fields["previews"] = max(1, int(fields.get("steps", 30)) // (asked.partial_images + 1))
        return fields

    async def _draw(self, request: Request, drawing: Drawing) -> Response:
        guest = Guest.of(request)
        settings = self.desk.state.settings
        drawing.base = settings.public_base
        if not settings.public_url:
            drawing.base = f"{request.url.scheme}://{request.url.netloc}{settings.root_path}"
        if drawing.asked.stream:
            return await self._streamed(guest, drawing)
        asked = drawing.asked
        outcome = await self.desk.run(
            drawing.operation,
            drawing.fields,
            guest,
            drawing.files,
            passed_on=not (asked.transparent or asked.links),
        )
        pictures = [
            await self._finished(one, guest, asked) for one in outcome.pictures if one.role == "picture"
        ]
        data = [await self._datum(one, guest, drawing, outcome) for one in pictures]
        told = openai_ask.about(asked, pictures[0])
        document = {
            "created": int(time.time()),
            "data": data,
            **told,
            "usage": openai_ask.usage(asked, pictures),
        }
        return Spliced(document, {"cache-control": "no-store"})

    async def _finished(self, picture: Made, guest: Guest, asked: Asked) -> Made:
        """Without its background, where that was asked for."""
        if not asked.transparent or picture.withheld:
            return picture
        fields = {"image": "part:image", "format": asked.format, "quality": asked.compression}
        cut = await self.desk.run(RemoveBackground, fields, guest, {"image": picture.kept})
        return cut.picture

    async def _datum(self, picture: Made, guest: Guest, drawing: Drawing, outcome: Outcome) -> dict[str, Any]:
        if drawing.asked.links:
            return {"url": drawing.base + await self._link(picture, guest, outcome.ask.name())}
        return {"b64_json": Coded(picture.file)}

    async def _link(self, picture: Made, guest: Guest, operation: str) -> str:
        state = self.desk.state

        asset = await state.assets.put(
            picture.kept.pieces(),
            owner=guest.caller.key_id,
            media_type=picture.media_type,
            width=picture.width,
            height=picture.height,
            seed=picture.seed,
            operation=operation,
        )
        return state.signer.link(f"/v1/assets/{asset.id}", LINK_SECONDS)

    async def _streamed(self, guest: Guest, drawing: Drawing) -> Response:
        """Events; the work begins before the answer does, so that a refusal keeps its status."""
        stack = AsyncExitStack()
        try:
            _, events = await stack.enter_async_context(
                self.desk.stream(drawing.operation, drawing.fields, guest, drawing.files)
            )
            first = await anext(events)
        except BaseException as error:
            if not await stack.__aexit__(type(error), error, error.__traceback__):
                raise
            raise DarkroomError from error
        return _Told(
            self._told(stack, first, events, guest, drawing),
            media_type="text/event-stream",
            headers=_EVENT_STREAM,
        )

    async def _told(
        self,
        stack: AsyncExitStack,
        first: tuple[Event, File],
        events: AsyncIterator[tuple[Event, File]],
        guest: Guest,
        drawing: Drawing,
    ) -> AsyncIterator[bytes]:
        asked, partial = drawing.asked, 0
        try:
            async with stack:
                pictures: list[Made] = []
                async for event, body in _after(first, events):
                    if event.kind == "preview" and partial < asked.partial_images:
                        fields = {"b64_json": Coded(body), "partial_image_index": partial}
                        told = fields | openai_ask.about(asked, None)
                        async for text in _event(f"{drawing.kind}.partial_image", told):
                            yield text
                        partial += 1
                    elif event.kind == "result" and event.get("role", "picture") == "picture":
                        pictures.append(made(event, await self.desk.keep(body)))
            for each in pictures:
                picture = await self._finished(each, guest, asked)
                fields = {"b64_json": Coded(picture.kept), "usage": openai_ask.usage(asked, [picture])}
                async for text in _event(
                    f"{drawing.kind}.completed", fields | openai_ask.about(asked, picture)
                ):
                    yield text
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 - the answer has begun: what went wrong is told as an event
            async for text in _event("error", self.document(translate(error), guest.request_id)):
                yield text

    # ── errors ───────────────────────────────────────────────────────────────────────────────────────────────

    def status(self, error: DarkroomError) -> int:
        if isinstance(error, UnknownModel):
            return 404
        return 400 if error.status == 422 else error.status

    def document(self, error: DarkroomError, request_id: str) -> Any:
        return {"error": openai_errors.member(error, self.told(error))}


class _Told(StreamingResponse):
    """In the request's own task, since there the call was begun, which itself sees its client leave."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.stream_response(send)


def _let_go(form: Form, taken: Mapping[str, Blob]) -> None:
    """Files that came and have no meaning here."""
    kept = list(taken.values())
    for blob in form.files.values():
        if not any(blob is one for one in kept):
            blob.discard()


async def _after(
    first: tuple[Event, File], rest: AsyncIterator[tuple[Event, File]]
) -> AsyncIterator[tuple[Event, File]]:
    yield first
    async for item in rest:
        yield item


async def _event(kind: str, fields: dict[str, Any]) -> AsyncIterator[bytes]:
    document = {"type": kind, **fields} if kind != "error" else fields
    yield b"event: " + kind.encode() + b"\ndata: "
    async for piece in splice.pieces(document):
        yield piece
    yield b"\n\n"
