"""From shapes to a descriptor: messages and the service as protobuf knows them, with numbers that stay.

`darkroom.binpb` is the ledger. A field that is in it keeps its number for good, a new one gets the next, and one that
is gone is reserved. Fields of extensions are in no ledger of ours: their numbers follow from their names, so that they
stay as long as the names do, whatever else is installed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import DESCRIPTOR as STRUCT_FILE

from gateway.doors.grpc.messages import METHODS, PACKAGE, SERVICE
from gateway.doors.grpc.shapes import SCALARS, STRUCT, VALUE, Kind, Shape, Shapes
from services.operations import OPERATIONS, Operation

LEDGER = Path(__file__).with_name("darkroom.binpb")
FILE = "darkroom/v1/darkroom.proto"
ONE_OF = "one"
_TYPES = {name: getattr(FieldDescriptorProto, f"TYPE_{name.upper()}") for name in SCALARS}
_FOREIGN, _FOREIGN_RANGE = 100_000, 500_000_000  # where the numbers of extensions' fields lie


class Schema:
    """The messages of this installation, its operations among them."""

    def __init__(
        self, operations: Iterable[type[Operation]], ledger: FileDescriptorProto | None = None
    ) -> None:
        self.shapes = Shapes(operations)
        self.file = _file(self.shapes, ledger)
        self.pool = DescriptorPool()
        self.pool.AddSerializedFile(STRUCT_FILE.serialized_pb)
        self.pool.AddSerializedFile(self.file.SerializeToString())
        self._classes: dict[str, type[Any]] = {}

    def message(self, name: str) -> type[Any]:
        """A message's class, by its name without the package."""
        found = self._classes.get(name)
        if found is None:
            descriptor = self.pool.FindMessageTypeByName(f"{PACKAGE}.{name}")
            found = self._classes[name] = GetMessageClass(descriptor)
        return found

    def request(self, method: str) -> str:
        """The name of the message that a method takes."""
        return self.shapes.message(METHODS[method][0])

    def answer(self, method: str) -> str:
        return self.shapes.message(METHODS[method][2])


@cache
def schema() -> Schema:
    """That of this process."""
    return Schema(OPERATIONS.values(), committed())


def committed() -> FileDescriptorProto | None:
    """The descriptor that is part of Darkroom."""
    if not LEDGER.exists():
        return None
    files = FileDescriptorSet.FromString(LEDGER.read_bytes())
    return next(file for file in files.file if file.name == FILE)


def ours() -> list[type[Operation]]:
    """The operations that are part of Darkroom."""
    return [operation for operation in OPERATIONS.values() if operation.__module__ == "services.operations"]


def _file(shapes: Shapes, ledger: FileDescriptorProto | None) -> FileDescriptorProto:
    known = {message.name: message for message in ledger.message_type} if ledger else {}
    file = FileDescriptorProto(name=FILE, package=PACKAGE, syntax="proto3", dependency=[STRUCT_FILE.name])
    for name in sorted(shapes.all):
        file.message_type.append(_message(shapes.all[name], known.pop(name, DescriptorProto())))
    # a message that is no more keeps its name, empty and with all its numbers reserved
    gone = sorted(name for name in known)
    for name in gone:
        file.message_type.append(_message(Shape(name), known[name]))
    service = file.service.add(name=SERVICE.rpartition(".")[2])
    for name, (request, requests, answer, answers, _) in METHODS.items():
        method = service.method.add(
            name=name,
            input_type=f".{PACKAGE}.{shapes.message(request)}",
            output_type=f".{PACKAGE}.{shapes.message(answer)}",
        )
        if requests:
            method.client_streaming = True
        if answers:
            method.server_streaming = True
    return file


def _message(shape: Shape, known: DescriptorProto) -> DescriptorProto:
    message = DescriptorProto(name=shape.name)
    numbers = _numbers(shape, known)
    _reserve(message, shape, known)
    if shape.one_of:
        message.oneof_decl.add(name=ONE_OF)
    for name, number in sorted(numbers.items(), key=lambda item: item[1]):
        kind = shape.fields[name]
        field = message.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
        if kind.repeated:
            field.label = FieldDescriptorProto.LABEL_REPEATED
        _type(field, kind)
        if name in shape.one_of:
            field.oneof_index = 0
        elif kind.type in SCALARS and not kind.repeated:
            field.proto3_optional = True  # so that left out and zero are two things
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{name}")
    return message


def _numbers(shape: Shape, known: DescriptorProto) -> dict[str, int]:
    kept = {field.name: field.number for field in known.field}
    taken = {
        *kept.values(),
        *(number for span in known.reserved_range for number in range(span.start, span.end)),
    }
    numbers = {name: kept[name] for name in shape.fields if name in kept}
    following = max(taken, default=0) + 1
    for name in shape.fields:
        if name in numbers:
            continue
        if not shape.ours or name in shape.foreign:
            number = _FOREIGN + zlib.crc32(f"{shape.name}.{name}".encode()) % _FOREIGN_RANGE
            while number in taken:
                number += 1
        else:
            number, following = following, following + 1
        numbers[name] = number
        taken.add(number)
    return numbers


def _reserve(message: DescriptorProto, shape: Shape, known: DescriptorProto) -> None:
    gone = [field for field in known.field if field.name not in shape.fields]
    numbers = {number for span in known.reserved_range for number in range(span.start, span.end)}
    for number in sorted(numbers | {field.number for field in gone}):
        message.reserved_range.add(start=number, end=number + 1)
    names = {*known.reserved_name, *(field.name for field in gone)} - set(shape.fields)
    message.reserved_name.extend(sorted(names))


def _type(field: FieldDescriptorProto, kind: Kind) -> None:
    if kind.type in SCALARS:
        field.type = _TYPES[kind.type]
        return
    field.type = FieldDescriptorProto.TYPE_MESSAGE
    field.type_name = f".{kind.type}" if kind.type in (STRUCT, VALUE) else f".{PACKAGE}.{kind.type}"
