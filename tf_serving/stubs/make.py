"""Makes the two files that `tf_serving.stubs` is read from: `python tf_serving/stubs/make.py`.

In go the generated modules of `tensorflow-serving-api` (and of the TensorFlow that it needs), out come
`descriptors.binpb`, the set of their files' descriptors, and `__init__.pyi`, the types of the messages. Two
messages of the server's configuration are in no package on PyPI: their fields are written down here as
tensorflow_serving/servables/tensorflow/session_bundle_config.proto and
tensorflow_serving/config/monitoring_config.proto number them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
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
GOOGLE = {
    "google/protobuf/any.proto": "any_pb2",
    "google/protobuf/wrappers.proto": "wrappers_pb2",
    "google/protobuf/timestamp.proto": "timestamp_pb2",
}
TYPED = {f"tensorflow/core/framework/{name}.proto" for name in ("tensor", "tensor_shape", "types")} | {
    "tensorflow/core/protobuf/meta_graph.proto"
}
HEAD = (
    '"""Made by `make.py`: the types of what `__init__.py` reads from `descriptors.binpb`."""',
    "",
    "# ruff: noqa",
    "from collections.abc import Mapping",
    "from typing import Any, ClassVar",
    "",
    "from google.protobuf import any_pb2, wrappers_pb2",
    "from google.protobuf.descriptor_pool import DescriptorPool",
    "from google.protobuf.internal.containers import (",
    "    MessageMap,",
    "    RepeatedCompositeFieldContainer,",
    "    RepeatedScalarFieldContainer,",
    "    ScalarMap,",
    ")",
    "from google.protobuf.message import Message",
    "",
    "pool: DescriptorPool",
    "",
    "def message(full_name: str) -> type[Any]: ...",
    "def service(full_name: str) -> Mapping[str, tuple[type[Any], type[Any]]]: ...",
    "",
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
        prometheus.field.add(name=name, number=number, type=kind, label=FieldDescriptorProto.LABEL_OPTIONAL)
    file.message_type.add(name="MonitoringConfig").field.add(
        name="prometheus_config",
        number=1,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=".tensorflow.serving.PrometheusConfig",
        label=FieldDescriptorProto.LABEL_OPTIONAL,
    )
    return file


def typed(files: FileDescriptorSet) -> str:
    """The `.pyi`: TensorFlow Serving's messages and the few of TensorFlow that they are made of."""
    pool = DescriptorPool()
    for proto in files.file:
        pool.Add(proto)
    lines = list(HEAD)
    for proto in files.file:
        file = pool.FindFileByName(proto.name)
        if not _is_typed(proto.name):
            continue
        for enum in file.enum_types_by_name.values():
            lines += [f"{value.name}: int" for value in enum.values]
        for found in file.message_types_by_name.values():
            lines += _message(found, "")
    return "\n".join(lines) + "\n"


def _is_typed(file: str) -> bool:
    return file.startswith("tensorflow_serving/") or file in TYPED


def _message(found: Descriptor, indent: str) -> Iterator[str]:
    yield f"{indent}class {found.name}(Message):"
    inner = indent + "    "
    for enum in found.enum_types:
        for value in enum.values:
            yield f"{inner}{value.name}: ClassVar[int]"
    for nested in found.nested_types:
        if not nested.GetOptions().map_entry:
            yield from _message(nested, inner)
    for field in found.fields:
        kind = _kind(field)
        # a message or container is changed in place, and only a plain value can be set
        if field.message_type is None and not field.is_repeated:
            yield f"{inner}{field.name}: {kind}"
        else:
            yield f"{inner}@property"
            yield f"{inner}def {field.name}(self) -> {kind}: ..."
    yield f"{inner}def __init__(self, **fields: Any) -> None: ..."


def _kind(field: FieldDescriptor) -> str:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        container = "MessageMap" if value.message_type is not None else "ScalarMap"
        return f"{container}[{_single(key)}, {_single(value)}]"
    if not field.is_repeated:
        return _single(field)
    shape = "RepeatedCompositeFieldContainer" if field.message_type else "RepeatedScalarFieldContainer"
    return f"{shape}[{_single(field)}]"


def _single(field: FieldDescriptor) -> str:
    found = field.message_type
    if found is None:
        return _PLAIN.get(field.type, "int")
    if found.file.name in GOOGLE:
        return f"{GOOGLE[found.file.name]}.{found.name}"
    if not _is_typed(found.file.name):
        return "Any"
    path = [found.name]
    while (found := found.containing_type) is not None:
        path.insert(0, found.name)
    return ".".join(path)


def main() -> None:
    files = collected()
    for proto in files.file:
        proto.ClearField("source_code_info")
    (HERE / "descriptors.binpb").write_bytes(files.SerializeToString(deterministic=True))
    (HERE / "__init__.pyi").write_text(typed(files), encoding="utf-8")


if __name__ == "__main__":
    main()
