"""What would break the clients of a descriptor: two descriptors in, a sentence for each break out.

The rules are buf's for the wire and for JSON: no message, method or field goes without a trace, none changes its
number, its type, or whether it may stand more than once or is one of several.
"""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
)

from gateway.doors.grpc.schema import ONE_OF


def breaks(before: FileDescriptorProto, now: FileDescriptorProto) -> list[str]:
    return [*_messages(before, now), *_methods(before, now)]


def _messages(before: FileDescriptorProto, now: FileDescriptorProto) -> Iterator[str]:
    messages = {message.name: message for message in now.message_type}
    for message in before.message_type:
        if message.name in messages:
            yield from _fields(message, messages[message.name])
        else:
            yield f"The message {message.name} is gone."


def _fields(before: DescriptorProto, now: DescriptorProto) -> Iterator[str]:
    fields = {field.name: field for field in now.field}
    numbers = {field.number: field.name for field in now.field}
    reserved = {number for span in now.reserved_range for number in range(span.start, span.end)}
    for span in before.reserved_range:
        for number in range(span.start, span.end):
            if number not in reserved:
                yield f"{before.name} reserves the number {number} no more."
    for field in before.field:
        name, after = f"{before.name}.{field.name}", fields.get(field.name)
        if after is None:
            if field.number not in reserved or field.name not in now.reserved_name:
                yield f"{name} is gone, and its number {field.number} or its name is not reserved."
        elif after.number != field.number:
            yield f"{name} had the number {field.number} and has {after.number}."
        elif _type(before, field) != _type(now, after):
            yield f"{name} was {_type(before, field)} and is {_type(now, after)}."
        if numbers.get(field.number, field.name) != field.name:
            yield f"The number {field.number} of {name} is now {numbers[field.number]}'s."


def _type(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    kind = field.type_name.lstrip(".") or FieldDescriptorProto.Type.Name(field.type)[5:].lower()
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {kind}"
    if field.HasField("oneof_index") and message.oneof_decl[field.oneof_index].name == ONE_OF:
        return f"{kind}, one of several"
    return f"optional {kind}" if field.proto3_optional else kind


def _methods(before: FileDescriptorProto, now: FileDescriptorProto) -> Iterator[str]:
    services = {service.name: service for service in now.service}
    for service in before.service:
        methods = (
            {method.name: method for method in services[service.name].method}
            if service.name in services
            else {}
        )
        for method in service.method:
            after = methods.get(method.name)
            if after is None:
                yield f"The method {service.name}.{method.name} is gone."
            elif _signature(after) != _signature(method):
                yield f"The method {service.name}.{method.name} takes or gives another message or stream."


def _signature(method: MethodDescriptorProto) -> tuple[str, bool, str, bool]:
    return method.input_type, method.client_streaming, method.output_type, method.server_streaming
