"""From a form to a call: parameters are validated, and every picture they name is found and looked at.

A picture may come as a part of the form, as an asset, as base64, or by address. Whatever it came as, it leaves as
a blob under its path (`image`, `controls.0.image`), and the operation's reference says `part:` and that path.
Only the head of a picture is read here, to refuse what is no picture or too large before any model sees it.
"""

from __future__ import annotations

import binascii
import difflib
import io
import secrets
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ValidationError

from gateway import b64
from gateway.blobs import Blob, MemoryBlob, Spool
from gateway.callers import Caller
from gateway.forms import Form, parse_json
from gateway.netguard import fetch_picture
from gateway.problems import from_validation
from gateway.room import Room, held
from gateway.settings import Settings
from services.errors import BadInput, BadPicture, DarkroomError, TooLarge
from services.operations import Operation, Seeded
from services.pictures import Picture, Weights
from services.uploads import looks_like_weights

if TYPE_CHECKING:
    from gateway.assets import Assets

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
HEAD = 64 * 1024
FETCH_TIMEOUT = 20.0
_SMALL = 48 * 1024  # bytes for which nobody asks whether there is room

# the limit is ours to say (settings.max_pixels); Pillow would only warn
Image.MAX_IMAGE_PIXELS = None


def draw_seed(ask: Operation) -> None:
    """Give a request that names no seed one, so that the answer can tell how to have the same again."""
    if isinstance(ask, Seeded) and ask.seed is None:
        ask.seed = secrets.randbits(32)


class Intake:
    def __init__(self, settings: Settings, assets: Assets, folder: Path, room: Room | None = None) -> None:
        self._settings, self._assets, self._folder = settings, assets, folder
        self._room = room or Room()

    async def receive(
        self, operation: type[Operation], form: Form, caller: Caller, **given: Any
    ) -> tuple[Operation, dict[str, Blob]]:
        """The validated operation and its blobs; whoever calls discards the blobs when the work is done."""
        try:
            ask = validated(operation, form, given)
            return ask, await self.collect(ask, form.files, caller)
        except BaseException:
            form.discard()
            raise

    async def collect(self, ask: Operation, files: Mapping[str, Blob], caller: Caller) -> dict[str, Blob]:
        """Find each picture of `ask`, look at it, and point its reference at its part."""
        parts: dict[str, Blob] = {}
        try:
            for path, picture in ask.pictures().items():
                blob = parts[path] = await self._find(path, picture, files, caller)
                await (look_at_weights if isinstance(picture, Weights) else look)(blob, path, self._settings)
                picture.ref = f"part:{path}"
        except BaseException:
            for blob in parts.values():
                blob.discard()
            raise
        return parts

    async def _find(self, path: str, picture: Picture, files: Mapping[str, Blob], caller: Caller) -> Blob:
        scheme, _, rest = picture.ref.partition(":")
        if scheme == "part":
            if rest not in files:
                raise BadInput(f"The form has no file part named {rest!r}.", field=path)
            return files[rest]
        if scheme == "asset":
            try:
                return await self._assets.blob(rest, caller)
            except DarkroomError as error:
                raise BadInput(f"There is no asset {rest!r} that you may read.", field=path) from error
        if scheme in ("http", "https") and isinstance(picture, Weights):
            raise BadInput("A LoRA is not fetched from an address; send it as a file part.", field=path)
        if scheme in ("http", "https"):
            return await self._fetch(picture.ref, path)
        text = rest.partition(",")[2] if scheme == "data" else picture.ref
        limit = self._settings.max_picture_bytes
        if isinstance(picture, Weights):
            limit = self._settings.max_lora_bytes
        if len(text) * 3 // 4 > limit:
            raise TooLarge(f"{path} may have {limit} bytes at most.", field=path)
        picture.ref = ""  # megabytes of text need not live as long as the call
        try:
            data = await b64.decoded(text)
        except (binascii.Error, ValueError) as error:
            raise BadPicture("The picture's base64 cannot be read.", field=path) from error
        del text
        return MemoryBlob(data) if len(data) <= _SMALL else await held(data, self._room, self._folder)

    async def _fetch(self, url: str, path: str) -> Blob:
        spool = Spool(self._folder)
        try:
            media_type = await fetch_picture(
                url,
                sink=spool,
                max_bytes=self._settings.max_picture_bytes,
                timeout=FETCH_TIMEOUT,
                allow_private=self._settings.webhook_allow_private,
                field=path,
            )
            return await spool.finish(media_type)
        except BaseException:
            spool.discard()
            raise


def validated(operation: type[Operation], form: Form, given: Mapping[str, Any]) -> Operation:
    """The operation that the form asks for; `given` are parameters that something else than the form said."""
    fields = from_text(operation, form.fields) if form.text else dict(form.fields)
    own = operation.picture_fields()
    for name in form.files:
        if name in own:
            fields.setdefault(name, f"part:{name}")
    for name in form.files.keys() - own.keys():
        meant = difflib.get_close_matches(name, own.keys() - fields.keys(), 1)
        if meant:
            raise BadInput(
                f"{operation.name()} has no picture {name!r}. Did you mean {meant[0]!r}?", field=name
            )
    for name, value in given.items():
        if name in operation.model_fields:
            fields.setdefault(name, value)
    for name in fields:
        if name not in operation.model_fields:
            close = difflib.get_close_matches(name, operation.model_fields, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise BadInput(f"{operation.name()} has no parameter {name[:80]!r}.{hint}", field=name[:80])
    try:
        ask = operation.model_validate(fields)
    except ValidationError as error:
        raise from_validation(error) from error
    named = {picture.ref.removeprefix("part:") for picture in ask.pictures().values()}
    for name in form.files.keys() - named:
        raise BadInput(
            f'Nothing refers to the file part {name!r}; name it in a parameter as "part:{name}".', field=name
        )
    return ask


def from_text(operation: type[Operation], fields: Mapping[str, Any]) -> dict[str, Any]:
    """A form's texts as the parameters' types would have them: lists and objects from JSON, empty ones left out."""
    found = {}
    for name, value in fields.items():
        field = operation.model_fields.get(name)
        if field is None or not isinstance(value, str):
            found[name] = value
            continue
        kinds = _allowed(operation, name)
        if value == "" and (str not in kinds or field.default is None):
            continue  # as a browser sends a field that was left empty
        found[name] = _structured(name, value, kinds)
    return found


def _structured(name: str, text: str, kinds: frozenset[Any]) -> Any:
    """What the JSON says, where a list or an object is meant; where plain text may stand too, its first sign tells."""
    objects = {kind for kind in kinds if isinstance(kind, type) and issubclass(kind, _STRUCTURED)}
    plain = kinds - objects - {types.NoneType}
    if not objects or (plain and not text.lstrip().startswith(("[", "{"))):
        return text
    try:
        return parse_json(text, name)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"{name} must be JSON text: {error}.", field=name) from error


_STRUCTURED = (list, dict, tuple, set, frozenset, BaseModel)


@cache
def _allowed(operation: type[Operation], name: str) -> frozenset[Any]:
    return _kinds(operation.model_fields[name].annotation)


def _kinds(annotation: Any) -> frozenset[Any]:
    """The types that an annotation allows, unions taken apart."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _kinds(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return frozenset().union(*(_kinds(kind) for kind in typing.get_args(annotation)))
    return frozenset([origin or annotation])


async def look(blob: Blob, path: str, settings: Settings) -> None:
    """Refuse what is no picture of a known format, and what is larger than the limits."""
    if blob.size > settings.max_picture_bytes:
        raise TooLarge(
            f"A picture may have {settings.max_picture_bytes} bytes at most; this has {blob.size}.",
            field=path,
        )
    if blob.size == 0:
        raise BadPicture("The picture is empty.", field=path)
    media_type, size = measure(await blob.head(HEAD), path)
    blob.media_type = media_type
    if size is None:
        return  # its size stands past the head; the service measures it before it decodes
    width, height = size
    if width * height > settings.max_pixels or max(size) > settings.max_side:
        raise TooLarge(
            f"The picture has {width}x{height} pixels; at most {settings.max_pixels} pixels and "
            f"{settings.max_side} on a side are allowed.",
            field=path,
        )


async def look_at_weights(blob: Blob, path: str, settings: Settings) -> None:
    """Refuse what does not begin as safetensors; the service reads the rest of its head."""
    if blob.size > settings.max_lora_bytes:
        raise TooLarge(
            f"A LoRA may have {settings.max_lora_bytes} bytes at most; this has {blob.size}.", field=path
        )
    if not looks_like_weights(await blob.head(16)):
        raise BadInput(
            "This is not a safetensors file.",
            field=path,
            help="Send a LoRA as a whole safetensors file; other formats can run code and are not taken.",
        )
    blob.media_type = "application/octet-stream"


def measure(head: bytes, path: str) -> tuple[str, tuple[int, int] | None]:
    """Media type and size in pixels, from a picture's first bytes."""
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR" and len(head) >= 24:
        return "image/png", (int.from_bytes(head[16:20]), int.from_bytes(head[20:24]))
    try:
        with Image.open(io.BytesIO(head), formats=FORMATS) as image:
            return Image.MIME[str(image.format)], image.size
    except (
        UnidentifiedImageError,
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        TypeError,
        IndexError,
        KeyError,
    ) as error:
        for magic, media_type in _MAGIC.items():
            if head.startswith(magic) and len(head) == HEAD:
                return media_type, None
        raise BadPicture(
            f"This is not a whole picture in one of {', '.join(FORMATS)}.", field=path
        ) from error


_MAGIC = {
    b"\xff\xd8\xff": "image/jpeg",
    b"II*\x00": "image/tiff",
    b"MM\x00*": "image/tiff",
    b"RIFF": "image/webp",
}
