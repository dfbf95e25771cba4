"""A schema as the text of a .proto file, with what each field is for: what people read, and other languages' tools."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto

from gateway.doors.grpc.messages import METHODS, PACKAGE
from gateway.doors.grpc.schema import ONE_OF, Schema
from gateway.doors.grpc.shapes import Shape

_HEAD = """// Darkroom over gRPC. Made from the operations by `make schemas`; do not edit it.

syntax = "proto3";

package {package};

{imports}
"""
_WIDTH = 110


def text(schema: Schema) -> str:
    imports = "\n".join(f'import "{name}";' for name in schema.file.dependency)
    messages = ("\n".join(_message(one, schema.shapes.all.get(one.name))) for one in schema.file.message_type)
    head = _HEAD.format(package=PACKAGE, imports=imports)
    parts = [head, "\n".join(_service(schema)), *messages]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _service(schema: Schema) -> Iterator[str]:
    for service in schema.file.service:
        yield f"service {service.name} {{"
        for method in service.method:
            taken, given = _short(method.input_type), _short(method.output_type)
            yield from _comment(METHODS[method.name][4], "  ")
            yield (
                f"  rpc {method.name}({'stream ' * method.client_streaming}{taken}) "
                f"returns ({'stream ' * method.server_streaming}{given});"
            )
        yield "}"


def _message(message: DescriptorProto, shape: Shape | None) -> Iterator[str]:
    yield from _comment(shape.doc if shape else "No more in use.", "")
    yield f"message {message.name} {{"
    for span in message.reserved_range:
        yield f"  reserved {span.start};"
    for name in message.reserved_name:
        yield f'  reserved "{name}";'
    docs = shape.docs if shape else {}
    inside = [field for field in message.field if _in_one_of(message, field)]
    for field in message.field:
        if field not in inside:
            yield from _field(field, docs.get(field.name, ""), "  ")
    if inside:
        yield f"  oneof {ONE_OF} {{"
        for field in inside:
            yield from _field(field, docs.get(field.name, ""), "    ")
        yield "  }"
    yield "}"


def _field(field: FieldDescriptorProto, doc: str, indent: str) -> Iterator[str]:
    yield from _comment(doc, indent)
    label = "repeated " if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
    label = "optional " if field.proto3_optional else label
    kind = (
        _short(field.type_name) if field.type_name else FieldDescriptorProto.Type.Name(field.type)[5:].lower()
    )
    yield f"{indent}{label}{kind} {field.name} = {field.number};"


def _in_one_of(message: DescriptorProto, field: FieldDescriptorProto) -> bool:
    return field.HasField("oneof_index") and message.oneof_decl[field.oneof_index].name == ONE_OF


def _short(full_name: str) -> str:
    return full_name.removeprefix(".").removeprefix(f"{PACKAGE}.")


def _comment(doc: str, indent: str) -> Iterator[str]:
    for line in textwrap.wrap(doc, _WIDTH):
        yield f"{indent}// {line}"
