"""Messages to what the rest of the gateway speaks, and back.

In: a message becomes a dict of the fields that are set, as JSON would have them; a picture becomes its reference, and
its bytes or the announcement of its chunks go into `Found`. Out: a dict becomes a message; what the message has no
field for is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import json_format

from gateway.doors.grpc.schema import ONE_OF, Schema
from gateway.doors.grpc.shapes import STRUCT, VALUE, Kind
from gateway.forms import no_nulls
from services.errors import BadInput, BadPicture

PICTURES = frozenset({"Picture", "File"})
MOST_FILES = 64  # as many as a form may have parts


@dataclass(slots=True)
class Found:
    """The files of a request: bytes by the name of their part, and the names under which chunks are to come."""

    inline: dict[str, bytes] = field(default_factory=dict)
    chunks: dict[str, str] = field(
        default_factory=dict
    )  # each with the path of the picture that is to come so

    @staticmethod
    def part(name: str) -> str:
        """How a file that comes in chunks is called among the parts; nothing inline is called so."""
        return f"chunks/{name}"


class Converter:
    def __init__(self, schema: Schema) -> None:
        self._schema, self._shapes = schema, schema.shapes.all

    # ── in ───────────────────────────────────────────────────────────────────────────────────────────────

    def fields(self, message: Any, shape: str, found: Found, path: str = "") -> dict[str, Any]:
        """What is set in `message`; `path` stands before the names of parts."""
        values: dict[str, Any] = {}
        for name, kind in self._shapes[shape].fields.items():
            where = f"{path}.{name}" if path else name
            if kind.repeated:
                if many := getattr(message, name):
                    values[name] = self._list(many, kind, found, where)
            elif message.HasField(name):
                values[name] = self._value(getattr(message, name), kind, found, where)
        return values

    def _list(self, many: Any, kind: Kind, found: Found, path: str) -> list[Any]:
        values = [self._value(one, kind, found, f"{path}.{at}") for at, one in enumerate(many)]
        if not kind.group:
            return values
        return [values[at : at + kind.group] for at in range(0, len(values), kind.group)]

    def _value(self, value: Any, kind: Kind, found: Found, path: str) -> Any:
        if kind.type in (VALUE, STRUCT):
            return _json(value, path)
        shape = self._shapes.get(kind.type)
        if shape is None:
            if kind.type == "string" and "\0" in value:
                raise BadInput(f"{path} has a null character; leave it out.", field=path)
            return value
        if kind.type in PICTURES:
            return self._reference(value, found, path)
        if not shape.union:
            return self.fields(value, kind.type, found, path)
        member = value.WhichOneof(ONE_OF)
        if member is None:
            raise BadInput(f"{path} is there, but nothing is set in it.", field=path)
        return self._value(getattr(value, member), shape.fields[member], found, path)

    def _reference(self, source: Any, found: Found, path: str) -> str:
        match source.WhichOneof(ONE_OF):
            case "data":
                found.inline[path] = source.data
                reference = f"part:{path}"
            case "chunks":
                if not source.chunks:
                    raise BadInput("Chunks need a name.", field=path)
                found.chunks.setdefault(source.chunks, path)
                reference = f"part:{found.part(source.chunks)}"
            case "asset":
                reference = f"asset:{source.asset}"
            case "url" if source.url.startswith(("http://", "https://")):
                reference = str(source.url)
            case "url":
                raise BadInput("A picture's address begins with http:// or https://.", field=path)
            case _:
                raise BadPicture("Set one of data, chunks, asset or url.", field=path)
        if "\0" in reference:
            raise BadInput(f"{path} has a null character; leave it out.", field=path)
        if len(found.inline) + len(found.chunks) > MOST_FILES:
            raise BadInput(f"A request may bring {MOST_FILES} files at most.", field=path)
        return reference

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────

    def message(self, shape: str, values: Mapping[str, Any]) -> Any:
        made = self._schema.message(shape)()
        self._fill(made, shape, values)
        return made

    def _fill(self, message: Any, shape: str, values: Mapping[str, Any]) -> None:
        for name, kind in self._shapes[shape].fields.items():
            value = values.get(name)
            if value is None:
                continue
            if kind.repeated:
                for one in value:
                    if kind.type in self._shapes:
                        self._fill(getattr(message, name).add(), kind.type, one)
                    else:
                        getattr(message, name).append(one)
            elif kind.type in (VALUE, STRUCT):
                json_format.ParseDict(value, getattr(message, name))
            elif kind.type in self._shapes:
                inner = getattr(message, name)
                inner.SetInParent()
                self._fill(inner, kind.type, value)
            else:
                setattr(message, name, _SCALARS.get(kind.type, _same)(value))


def _json(value: Any, path: str) -> Any:
    try:
        found = json_format.MessageToDict(value)
    except (ValueError, json_format.SerializeToJsonError) as error:
        raise BadInput(f"{path} is nothing that JSON can say.", field=path) from error
    no_nulls(found, path)
    return found


def _same(value: Any) -> Any:
    return value


_SCALARS = {"int64": int, "double": float, "string": str, "bool": bool}
