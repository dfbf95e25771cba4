"""The messages of the Open Inference Protocol's gRPC service, with the names and numbers that its clients have.

They are declared here in a line each and made into a descriptor: `rule type name number`, where a rule is `repeated`,
`map` (from words) or nothing. Types with a capital are messages.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"
_TENSOR = ("string name 1", "string datatype 2", "repeated int64 shape 3")
_INFER = ("string model_name 1", "string model_version 2", "string id 3", "map InferParameter parameters 4")
_MODEL = ("string name 1", "string version 2")
# of each method's Request and Response; what is in neither is part of one
MESSAGES: dict[str, tuple[str, ...]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("bool live 1",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("bool ready 1",),
    "ModelReadyRequest": _MODEL,
    "ModelReadyResponse": ("bool ready 1",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": ("string name 1", "string version 2", "repeated string extensions 3"),
    "ModelMetadataRequest": _MODEL,
    "ModelMetadataResponse": (
        "string name 1",
        "repeated string versions 2",
        "string platform 3",
        "repeated ModelMetadataResponse.TensorMetadata inputs 4",
        "repeated ModelMetadataResponse.TensorMetadata outputs 5",
    ),
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "InferParameter": (
        "one bool bool_param 1",
        "one int64 int64_param 2",
        "one string string_param 3",
        "one double double_param 4",
        "one uint64 uint64_param 5",
    ),
    "InferTensorContents": (
        "repeated bool bool_contents 1",
        "repeated int32 int_contents 2",
        "repeated int64 int64_contents 3",
        "repeated uint32 uint_contents 4",
        "repeated uint64 uint64_contents 5",
        "repeated float fp32_contents 6",
        "repeated double fp64_contents 7",
        "repeated bytes bytes_contents 8",
    ),
    "ModelInferRequest": (
        *_INFER,
        "repeated ModelInferRequest.InferInputTensor inputs 5",
        "repeated ModelInferRequest.InferRequestedOutputTensor outputs 6",
        "repeated bytes raw_input_contents 7",
    ),
    "ModelInferRequest.InferInputTensor": (
        *_TENSOR,
        "map InferParameter parameters 4",
        "InferTensorContents contents 5",
    ),
    "ModelInferRequest.InferRequestedOutputTensor": ("string name 1", "map InferParameter parameters 2"),
    "ModelInferResponse": (
        *_INFER,
        "repeated ModelInferResponse.InferOutputTensor outputs 5",
        "repeated bytes raw_output_contents 6",
    ),
    "ModelInferResponse.InferOutputTensor": (
        *_TENSOR,
        "map InferParameter parameters 4",
        "InferTensorContents contents 5",
    ),
}
RAW_OUTPUT = 6  # raw_output_contents, of ModelInferResponse
METHODS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")


def message(name: str) -> type[Any]:
    """A message's class."""
    return GetMessageClass(_pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))


def _file() -> FileDescriptorProto:
    file = FileDescriptorProto(name="darkroom/inference.proto", package=PACKAGE, syntax="proto3")
    made: dict[str, DescriptorProto] = {}
    for name, fields in MESSAGES.items():
        outer, _, inner = name.rpartition(".")
        found = made[name] = (made[outer].nested_type if outer else file.message_type).add(name=inner)
        for line in fields:
            _field(found, name, line)
    return file


def _field(found: DescriptorProto, within: str, line: str) -> None:
    *rule, kind, name, number = line.split()
    field = found.field.add(name=name, number=int(number), label=FieldDescriptorProto.LABEL_OPTIONAL)
    if rule == ["map"]:
        kind = f"{within}.{_entry(found, name, kind)}"
    if rule in (["map"], ["repeated"]):
        field.label = FieldDescriptorProto.LABEL_REPEATED
    if rule == ["one"]:
        if not found.oneof_decl:
            found.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    _type(field, kind)


def _entry(found: DescriptorProto, name: str, kind: str) -> str:
    """A map is a list of such entries."""
    entry = found.nested_type.add(name=f"{name.title()}Entry")
    entry.options.map_entry = True
    for number, (side, type_) in enumerate((("key", "string"), ("value", kind)), 1):
        field = entry.field.add(name=side, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
        _type(field, type_)
    return entry.name


def _type(field: FieldDescriptorProto, kind: str) -> None:
    if kind[0].isupper():
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")


_pool = DescriptorPool()
_pool.AddSerializedFile(_file().SerializeToString())
