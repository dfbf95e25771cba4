"""The types that stand for pictures and colours in an operation's parameters.

A caller writes a picture as a string: `part:NAME` (a part of the same multipart form), `asset:ID`, a data URI,
bare base64, or an http(s) address. Validation only looks at the form of that string. The gateway then fetches
what it names and sends it on as a part; the service decodes it and leaves the pixels in `pixels`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, StringConstraints
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{24,}={0,2}\s*\Z")
# how a picture goes in at the native doors; others say it in their own way (gateway/doors/dialect.py)
GIVEN = "a file part of this name, `asset:ID`, a data URI, base64 or an address"
_SCHEMES = ("part:", "asset:", "data:image/", "http://", "https://")


class Picture:
    """One picture: the reference it came by, and, inside a service, its decoded `pixels` (a PIL image)."""

    __slots__ = ("_pixels", "ref")
    describes = "A picture: `part:NAME`, `asset:ID`, a data URI, base64, or an http(s) address."

    def __init__(self, ref: str = "", pixels: Any = None) -> None:
        self.ref = ref
        self._pixels = pixels

    @property
    def pixels(self) -> Any:
        if self._pixels is None:
            raise LookupError(
                f"The picture {self.ref[:40]!r} was not decoded; only a service has its pixels."
            )
        return self._pixels

    @pixels.setter
    def pixels(self, image: Any) -> None:
        self._pixels = image

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.ref[:40]!r})"

    @classmethod
    def _validate(cls, value: Any) -> Picture:
        if isinstance(value, Picture):
            return value if isinstance(value, cls) else cls(value.ref, value._pixels)
        # the pattern reads at most a corner of it: base64 of megabytes is checked where it is decoded
        if isinstance(value, str) and (value.startswith(_SCHEMES) or _BASE64.match(value[-64:])):
            return cls(value)
        raise PydanticCustomError(
            "picture",
            f"is not a picture: send {GIVEN}",
        )

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.plain_serializer_function_ser_schema(lambda p: p.ref)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "format": cls.__name__.lower(), "description": cls.describes}


class Mask(Picture):
    """A picture read as luminance: white is where the work happens."""

    __slots__ = ()
    describes = "A mask, written as a picture is; its luminance counts, white is where the work happens."


class Weights(Picture):
    """A model's file (safetensors) that comes with a request; `pixels` are its bytes' place on disk."""

    __slots__ = ()
    describes = "A safetensors file: `part:NAME`, `asset:ID`, or base64."


_COLOUR_NAMES = [
    *(
        "black",
        "white",
        "gray",
        "silver",
        "red",
        "maroon",
        "yellow",
        "olive",
        "lime",
        "green",
        "aqua",
        "teal",
    ),
    *(
        "blue",
        "navy",
        "fuchsia",
        "purple",
        "orange",
        "pink",
        "brown",
        "beige",
        "ivory",
        "lavender",
        "transparent",
    ),
]


def _known_colour(value: str) -> str:
    if value in _COLOUR_NAMES or (value.startswith("#") and re.match(_PATTERN, value)):
        return value
    raise PydanticCustomError(
        "colour",
        "is not a colour: write #rrggbb, #rrggbbaa or one of {names}",
        {"names": ", ".join(_COLOUR_NAMES)},
    )


_PATTERN = r"^(#([0-9a-fA-F]{3}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})|[a-zA-Z]+)$"
# the pattern is for the schema's readers; whoever misses it is told in words
Colour = Annotated[
    str,
    StringConstraints(to_lower=True),
    AfterValidator(_known_colour),
    Field(json_schema_extra={"format": "colour", "pattern": _PATTERN}, examples=["#f4efe6", "white"]),
]
ColourOrPicture = Annotated[Colour | Picture, Field(union_mode="left_to_right")]
