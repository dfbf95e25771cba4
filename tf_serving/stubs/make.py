"""Makes the two files that `tf_serving.stubs` is read from: `python tf_serving/stubs/make.py`.

In go the generated modules of `tensorflow-serving-api` (and of the TensorFlow that it needs), out come `descriptors.binpb`, the set of
their files' descriptors, and `__init__.pyi`, the types of the messages. Two messages of the server's configuration are in no package
on PyPI: their fields are written down here as tensorflow_serving/servables/tensorflow/session_bundle_config.proto and
tensorflow_serving/config/monitoring_config.proto number them.
"""

from __future__ import annotations

import importlib
import keyword
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

ROOTS = ("prediction_service", "model_service", "prediction_log")
HERE = Path(__file__).parent
CONFIGURATION = "tensorflow_serving/servables/tensorflow/session_bundle_config.proto"
MONITORING = "tensorflow_serving/config/monitoring_config.proto"
INT64, STRING = ".google.protobuf.Int64Value", ".google.protobuf.StringValue"
BATCHING = (
    ("max_batch_size", 1, INT64),
    ("batch_timeout_micros", 2, INT64),
    ("max_enqueued_batches", 3, INT64),
    ("num_batch_threads", 4, INT64),
    ("thread_pool_name", 5, STRING),
)
_PLAIN = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_STRING: "str",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_DOUBLE: "float",
}


def collected() -> FileDescriptorSet:
    """The roots' files and all that they import, each after what it imports."""
    files: dict[str, FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        if file.name in files:
            return
        for needed in file.dependencies:
            add(needed)
        proto = FileDescriptorProto()
        file.CopyToProto(proto)
        files[file.name] = proto

    for root in ROOTS:
        add(importlib.import_module(f"tensorflow_serving.apis.{root}_pb2").DESCRIPTOR)
    return FileDescriptorSet(file=[*files.values(), batching(), monitoring()])


def batching() -> FileDescriptorProto:
    file = FileDescriptorProto(name=CONFIGURATION, package="tensorflow.serving", syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    message = file.message_type.add(name="BatchingParameters")
    for name, number, type_name in BATCHING:
        message.field.add(
            name=name,
            number=number,
            type=FieldDescriptorProto.TYPE_MESSAGE,
            type_name=type_name,
            label=FieldDescriptorProto.LABEL_OPTIONAL,
        )
    message.field.add(
        name="allowed_batch_sizes",
        number=6,
        type=FieldDescriptorProto.TYPE_INT64,
        label=FieldDescriptorProto.LABEL_REPEATED,
    )
    message.field.add(
        name="pad_variable_length_inputs",
        number=7,
        type=FieldDescriptorProto.TYPE_BOOL,
        label=FieldDescriptorProto.LABEL_OPTIONAL,
    )
    return file


def monitoring() -> FileDescriptorProto:
    file = FileDescriptorProto(name=MONITORING, package="tensorflow.serving", syntax="proto3")
    prometheus = file.message_type.add(name="PrometheusConfig")
    for name, number, kind in (
        ("enable", 1, FieldDescriptorProto.TYPE_BOOL),
        ("path", 2, FieldDescriptorProto.TYPE_STRING),
    ):
        prometheus.field.add(
            name=name, number=number, type=kind, label=FieldDescriptorProto.LABEL_OPTIONAL
        )
    file.message_type.add(name="MonitoringConfig").field.add(
        name="prometheus_config",
        number=1,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=".tensorflow.serving.PrometheusConfig",
        label=FieldDescriptorProto.LABEL_OPTIONAL,
    )
    return file


def typed(files: FileDescriptorSet) -> str:
    """The `.pyi` of all messages, flat at the top as `tf_serving.stubs` shows them."""
    pool = DescriptorPool()
    lines = [
        '"""Made by `python tf_serving/stubs/make.py`: the types of what `__init__.py` reads from `descriptors.binpb`."""',
        "",
        "from collections.abc import Mapping",
        "from typing import Any, ClassVar",
        "",
        "from google.protobuf.descriptor_pool import DescriptorPool",
        "from google.protobuf.internal.containers import MessageMap, RepeatedCompositeFieldContainer, RepeatedScalarFieldContainer, ScalarMap",
        "from google.protobuf.message import Message",
        "",
        "pool: DescriptorPool",
        "def message(full_name: str) -> type[Message]: ...",
        "def service(full_name: str) -> Mapping[str, tuple[type[Message], type[Message]]]: ...",
    ]
    for proto in files.file:
        pool.Add(proto)
    for proto in files.file:
        file = pool.FindFileByName(proto.name)
        for enum in file.enum_types_by_name.values():
            lines += [f"{value.name}: int" for value in enum.values]
        for found in file.message_types_by_name.values():
            lines += _message(found, "")
    return "\n".join(lines) + "\n"


def _message(found: Descriptor, indent: str) -> Iterator[str]:
    yield f"{indent}class {found.name}(Message):"
    inner = indent + "    "
    for enum in found.enum_types:
        yield from _enum(enum, inner)
    for nested in found.nested_types:
        if not nested.GetOptions().map_entry:
            yield from _message(nested, inner)
    arguments = []
    for field in found.fields:
        if keyword.iskeyword(field.name):
            continue
        kind, given = _kinds(field)
        # a message or container is changed in place, and only a plain value can be set
        if given == kind:
            yield f"{inner}{field.name}: {kind}"
        else:
            yield f"{inner}@property"
            yield f"{inner}def {field.name}(self) -> {kind}: ..."
        arguments.append(f"{field.name}: {given} | None = ...")
    if arguments:
        yield f"{inner}def __init__(self, *, {', '.join(arguments)}) -> None: ..."
    else:
        yield f"{inner}def __init__(self) -> None: ..."


def _enum(enum: EnumDescriptor, indent: str) -> Iterator[str]:
    for value in enum.values:
        yield f"{indent}{value.name}: ClassVar[int]"


def _kinds(field: FieldDescriptor) -> tuple[str, str]:
    """How the field reads, and what the constructor takes for it."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        container = "MessageMap" if value.message_type is not None else "ScalarMap"
        inside = f"{_single(key)}, {_single(value)}"
        return f"{container}[{inside}]", f"Mapping[{inside}]"
    one = _single(field)
    if field.is_repeated:
        container = (
            "RepeatedCompositeFieldContainer"
            if field.message_type is not None
            else "RepeatedScalarFieldContainer"
        )
        return f"{container}[{one}]", "Any"
    return one, f"{one} | Mapping[str, Any]" if field.message_type is not None else one


def _single(field: FieldDescriptor) -> str:
    if field.message_type is None:
        return _PLAIN.get(field.type, "int")
    path, at = [field.message_type.name], field.message_type.containing_type
    while at is not None:
        path.insert(0, at.name)
        at = at.containing_type
    return ".".join(path)


def main() -> None:
    files = collected()
    for proto in files.file:
        proto.ClearField("source_code_info")
    (HERE / "descriptors.binpb").write_bytes(files.SerializeToString(deterministic=True))
    (HERE / "__init__.pyi").write_text(typed(files), encoding="utf-8")


if __name__ == "__main__":
    main()
