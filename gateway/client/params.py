"""Parameters as a program has them in; the fields and file parts of a request out.

A picture may be bytes, a path, an open file, a Pillow image or an asset, anywhere in the parameters. A string is a
path where the operation's declaration asks for a picture, unless it says what it is (`asset:ID`, an address, a data
URI); where a colour or a picture may stand it is a path if there is such a file.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias, Union

import orjson

from gateway.client.answers import Asset, Made
from services.errors import BadInput
from services.operations import OPERATIONS

if TYPE_CHECKING:
    from PIL.Image import Image

PictureLike: TypeAlias = Union[str, Path, bytes, bytearray, memoryview, IO[bytes], "Image", Asset, Made]
REFERENCES = ("asset:", "data:", "http://", "https://", "part:")
Part = tuple[str, bytes]  # file name and content


@dataclass(slots=True)
class Parameters:
    """`fields` are JSON values; each picture among them is `part:NAME`, and `parts` has it by that name."""

    fields: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)

    def form(self) -> dict[str, str]:
        """As text, as a multipart form has it."""
        return {name: _text(value) for name, value in self.fields.items()}


def gather(operation: str, given: dict[str, Any]) -> Parameters:
    """The parameters of one request; None is as good as absent."""
    found = Parameters()
    for name, value in given.items():
        if value is not None:
            found.fields[name] = _value(value, name, _wants(operation, name), found.parts)
    return found


def primary(operation: str) -> str:
    """The parameter that one thing alone stands for: the picture, or the words where there is none."""
    declared = OPERATIONS.get(operation)
    if declared is None or "image" in declared.model_fields:
        return "image"
    return str(declared.json_schema().get("required", ["image"])[0])


def _wants(operation: str, name: str) -> str:
    """Whether a string there is a path: "path", "maybe", or "text"."""
    declared = OPERATIONS.get(operation)
    if declared is None:
        return "text"
    schema = declared.json_schema()["properties"].get(name, {})
    variants = [variant for variant in schema.get("anyOf", [schema]) if variant.get("type") != "null"]
    pictures = [variant.get("format") in ("picture", "mask") for variant in variants]
    return "path" if pictures and all(pictures) else "maybe" if any(pictures) else "text"


def _value(value: Any, path: str, wants: str, parts: dict[str, Part]) -> Any:
    if isinstance(value, Mapping):
        # in a list of controls, too, `image` is a picture, and in one of LoRAs `file` is a file
        return {
            key: _value(item, f"{path}.{key}", "path" if key in ("image", "file") else "text", parts)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_value(item, f"{path}.{at}", "text", parts) for at, item in enumerate(value)]
    if isinstance(value, Asset):
        return f"asset:{value.id}"
    if isinstance(value, float) and not math.isfinite(value):
        raise BadInput(f"{path}: must be a number, not {value}.", field=path)  # JSON has no word for it
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        is_path = wants == "path" or (wants == "maybe" and Path(value).is_file())
        if not is_path or value.startswith(REFERENCES):
            return value
        value = Path(value)
    part = read_picture(value, path)
    if part is None:
        raise BadInput(
            f"{path}: a {type(value).__name__} cannot be sent.",
            field=path,
            help="Give text, numbers, lists, and pictures as a path, bytes, a file, a Pillow image or an asset.",
        )
    parts[path] = part
    return f"part:{path}"


def read_picture(value: Any, name: str) -> Part | None:
    """The bytes of anything that is a picture; None for what is none."""
    if isinstance(value, Made):
        return f"{name}{value.extension}", value.content
    if isinstance(value, (bytes, bytearray, memoryview)):
        return name, bytes(value)
    if isinstance(value, Path):
        try:
            return value.name, value.read_bytes()
        except OSError as error:
            raise BadInput(
                f"The picture {str(value)!r} cannot be read: {error.strerror}.",
                field=name,
                help="Name another file.",
            ) from error
    if hasattr(value, "read"):
        content = value.read()
        if not isinstance(content, bytes):
            raise BadInput(
                f"{name}: the file was opened as text.", field=name, help="Open it with mode 'rb'."
            )
        return Path(str(getattr(value, "name", name))).name, content
    if hasattr(value, "save") and hasattr(value, "mode"):  # a Pillow image, without importing Pillow to ask
        held = io.BytesIO()
        value.save(held, "PNG")
        return f"{name}.png", held.getvalue()
    return None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
