"""From declarations to shapes: a model's fields in, the types that they have on the wire out.

    str, Literal of words    string            list of T               repeated T
    int, float, bool, bytes  int64, double...  list of (x, y, ...)     repeated double, the tuples end to end
    a model                  its own message   several of these        a message with one of them
    a picture, a file        Picture, File     dict, anything else     google.protobuf.Struct, Value

A field that may be left out stays out: what it then means is the operation's to say, here as at every other door.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import AnyUrl, BaseModel

from gateway.doors.grpc.messages import METHODS, NAMES, Ask, FileSource, OneOf, PictureSource
from services.operations import Operation
from services.pictures import Picture, Weights

VALUE, STRUCT = "google.protobuf.Value", "google.protobuf.Struct"
_SCALARS: dict[Any, str] = {
    bool: "bool",
    int: "int64",
    float: "double",
    str: "string",
    bytes: "bytes",
    AnyUrl: "string",
}
SCALARS = frozenset(_SCALARS.values())
# the member's name in a message that holds one of several
_MEMBERS = {
    "bool": "flag",
    "int64": "whole",
    "double": "number",
    "string": "text",
    "bytes": "data",
    "Picture": "picture",
    "File": "file",
}
OURS = ("services", "gateway")


@dataclass(frozen=True, slots=True)
class Kind:
    """A field's type: a scalar's or a message's name."""

    type: str
    repeated: bool = False
    group: int = 0  # of a list of tuples, which stand end to end: how long one is


@dataclass(slots=True)
class Shape:
    """A message."""

    name: str
    fields: dict[str, Kind] = field(default_factory=dict)
    one_of: frozenset[str] = frozenset()
    union: bool = False  # stands for the one that is set, not for an object
    ours: bool = True
    doc: str = ""
    docs: dict[str, str] = field(default_factory=dict)
    foreign: frozenset[str] = frozenset()  # fields that an extension adds


class Shapes:
    """Every message, by its name; `operations` become the members of Ask."""

    def __init__(self, operations: Iterable[type[Operation]]) -> None:
        self.all: dict[str, Shape] = {}
        self._names: dict[type[Any], str] = {}
        self.operations = {operation.method(): operation for operation in operations}
        self._names[Ask] = "Ask"
        ask = self.all["Ask"] = Shape("Ask", one_of=frozenset(self.operations), doc="One operation.")
        for kind in (PictureSource, FileSource):
            self.message(kind)
        for request, _, answer, _, _ in METHODS.values():
            self.message(request)
            self.message(answer)
        for name, operation in self.operations.items():
            ask.fields[name] = Kind(self.message(operation))
            ask.docs[name] = operation.summary()
        ask.foreign = frozenset(name for name, operation in self.operations.items() if not _ours(operation))

    def message(self, model: type[BaseModel], within: str = "") -> str:
        """The name of a model's message, which is made where there is none yet."""
        if model in self._names:
            return self._names[model]
        name = NAMES.get(model, model.__name__)
        if name in self.all:
            name = within + name
        self._names[model] = name
        shape = self.all[name] = Shape(name, doc=_first(model), ours=_ours(model))
        for field_name, info in model.model_fields.items():
            shape.fields[field_name] = self._kind(info.annotation, name)
            shape.docs[field_name] = info.description or ""
        if issubclass(model, OneOf):
            shape.one_of = frozenset(shape.fields) - model.beside
        return name

    def _kind(self, annotation: Any, within: str) -> Kind:
        origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is typing.Annotated:
            return self._kind(inner[0], within)
        if origin in (typing.Union, types.UnionType):
            kinds = {self._kind(one, within) for one in inner if one is not types.NoneType}
            return kinds.pop() if len(kinds) == 1 else self._union(kinds)
        if origin is Literal:
            kinds = {self._kind(type(one), within) for one in inner}
            return kinds.pop() if len(kinds) == 1 else self._union(kinds)
        if origin is list:
            return self._list(inner[0], within)
        if origin is dict:
            return Kind(STRUCT)
        if annotation in _SCALARS:
            return Kind(_SCALARS[annotation])
        if isinstance(annotation, type) and issubclass(annotation, Picture):
            return Kind(self.message(FileSource if issubclass(annotation, Weights) else PictureSource))
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return Kind(self.message(annotation, within))
        return Kind(VALUE)

    def _list(self, annotation: Any, within: str) -> Kind:
        while typing.get_origin(annotation) is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        if typing.get_origin(annotation) is tuple:
            kinds = [self._kind(one, within) for one in typing.get_args(annotation)]
            flat = (
                len(set(kinds)) == 1
                and kinds[0].type in SCALARS
                and Ellipsis not in typing.get_args(annotation)
            )
            return Kind(kinds[0].type, repeated=True, group=len(kinds)) if flat else Kind(VALUE)
        kind = self._kind(annotation, within)
        return Kind(VALUE) if kind.repeated else Kind(kind.type, repeated=True)

    def _union(self, kinds: set[Kind]) -> Kind:
        """`Text or Picture`: a message of its own, which all fields of that type share."""
        if not all(kind.type in _MEMBERS and not kind.repeated for kind in kinds):
            return Kind(VALUE)
        members = {_MEMBERS[kind.type]: kind for kind in sorted(kinds, key=lambda kind: kind.type)}
        name = "Or".join(member.title() for member in sorted(members, reverse=True))
        if name not in self.all:
            doc = f"Either {' or '.join(sorted(members, reverse=True))}."
            self.all[name] = Shape(name, members, frozenset(members), union=True, doc=doc)
        return Kind(name)


def _ours(model: type[BaseModel]) -> bool:
    return model.__module__.partition(".")[0] in OURS


def _first(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().split("\n\n")[0] if model.__doc__ != BaseModel.__doc__ else ""
