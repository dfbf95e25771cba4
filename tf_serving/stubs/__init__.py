"""TensorFlow Serving's messages and services, without TensorFlow: `from tf_serving.stubs import
PredictRequest, TensorProto`.

They are read from `descriptors.binpb` (`make.py` makes it) into a pool of their own, so that they stand
beside any TensorFlow and any `tensorflow-serving-api` in one process: the pool that all share refuses a
second file of one name where the two differ, which versions do. On the wire they are the same; a message of
TensorFlow's classes is taken over by `ParseFromString(theirs.SerializeToString())`. No code is generated:
`services.py` reads the services' methods from here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

pool = DescriptorPool()
_top: dict[str, Any] = {}


def message(full_name: str) -> type[Any]:
    """The class of a message, by its name with its package."""
    return GetMessageClass(pool.FindMessageTypeByName(full_name))


def service(full_name: str) -> Mapping[str, tuple[type[Any], type[Any]]]:
    """A service's methods: what each takes and gives."""
    found = pool.FindServiceByName(full_name)
    return {
        method.name: (GetMessageClass(method.input_type), GetMessageClass(method.output_type))
        for method in found.methods
    }


def _load() -> None:
    files = FileDescriptorSet.FromString((Path(__file__).parent / "descriptors.binpb").read_bytes())
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    for file in files.file:
        for one in file.message_type:
            _top[one.name] = f"{file.package}.{one.name}"
        for enum in file.enum_type:
            _top.update({value.name: value.number for value in enum.value})


def __getattr__(name: str) -> Any:
    """Classes are made when they are first asked for: there are two hundred, and few are used."""
    try:
        found = _top[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = message(found) if isinstance(found, str) else found
    globals()[name] = value
    return value


_load()
