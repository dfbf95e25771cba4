"""TensorProto to numpy and back, as TensorFlow's `Tensor::FromProto` and `AsProtoField` do it.

Strings are arrays of `bytes` objects. What a client wrote is bounded before it is made: a shape of a few
bytes can name terabytes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tf_serving.serving.status import Code, Refused, invalid
from tf_serving.stubs import (
    DT_BOOL,
    DT_DOUBLE,
    DT_FLOAT,
    DT_HALF,
    DT_INT8,
    DT_INT16,
    DT_INT32,
    DT_INT64,
    DT_STRING,
    DT_UINT8,
    DT_UINT16,
    DT_UINT32,
    DT_UINT64,
    TensorProto,
    TensorShapeProto,
)

Array = NDArray[Any]

# number: (TensorFlow's word for it, numpy's type, the field that holds its values)
TYPES: dict[int, tuple[str, Any, str]] = {
    DT_FLOAT: ("float", np.float32, "float_val"),
    DT_DOUBLE: ("double", np.float64, "double_val"),
    DT_INT32: ("int32", np.int32, "int_val"),
    DT_UINT8: ("uint8", np.uint8, "int_val"),
    DT_INT16: ("int16", np.int16, "int_val"),
    DT_INT8: ("int8", np.int8, "int_val"),
    DT_UINT16: ("uint16", np.uint16, "int_val"),
    DT_STRING: ("string", np.object_, "string_val"),
    DT_INT64: ("int64", np.int64, "int64_val"),
    DT_BOOL: ("bool", np.bool_, "bool_val"),
    DT_HALF: ("half", np.float16, "half_val"),
    DT_UINT32: ("uint32", np.uint32, "uint32_val"),
    DT_UINT64: ("uint64", np.uint64, "uint64_val"),
}
_NUMBERS = {np.dtype(kind): number for number, (_, kind, _) in TYPES.items()}
MAX_ELEMENTS = 64 * 2**20


def type_name(number: int) -> str:
    return TYPES[number][0] if number in TYPES else f"type {number}"


def array_of(proto: TensorProto, alias: str, max_elements: int = MAX_ELEMENTS) -> Array:
    """The tensor's values. Missing ones at the end repeat the last, none at all are zeros."""
    broken = invalid(f"tensor parsing error: {alias}")
    if proto.dtype not in TYPES or proto.tensor_shape.unknown_rank:
        raise broken
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if any(size < 0 for size in shape):
        raise broken
    count = math.prod(shape)
    if count > max_elements:
        raise Refused(
            Code.RESOURCE_EXHAUSTED,
            f"The tensor {alias} has {count} elements; this server takes {max_elements}.",
        )
    _, kind, field = TYPES[proto.dtype]
    if proto.dtype == DT_STRING:
        return _strings(list(proto.string_val), shape, count, broken)
    if proto.tensor_content:
        if len(proto.tensor_content) != count * np.dtype(kind).itemsize:
            raise broken
        return np.frombuffer(proto.tensor_content, kind).reshape(shape)
    found = np.array(getattr(proto, field), dtype=np.uint16 if proto.dtype == DT_HALF else None)
    if proto.dtype == DT_HALF:
        found = found.view(np.float16)
    return _filled(found.astype(kind), shape, count, broken)


def _filled(found: Array, shape: tuple[int, ...], count: int, broken: Refused) -> Array:
    if found.size > count:
        raise broken
    if found.size < count:
        rest = np.full(count - found.size, found[-1] if found.size else 0, found.dtype)
        found = np.concatenate([found, rest])
    return found.reshape(shape)


def _strings(values: list[bytes], shape: tuple[int, ...], count: int, broken: Refused) -> Array:
    if len(values) > count:
        raise broken
    values += [values[-1] if values else b""] * (count - len(values))
    return strings(values).reshape(shape)


def strings(values: list[bytes]) -> Array:
    """A one-dimensional array of bytes; numpy left alone would cut them at zeros."""
    found = np.empty(len(values), np.object_)
    found[:] = values
    return found


def proto_of(array: Array) -> TensorProto:
    number = _NUMBERS[array.dtype]
    proto = TensorProto(dtype=number, tensor_shape=shape_of(array.shape))
    field = getattr(proto, TYPES[number][2])
    flat = array.reshape(-1)
    field.extend((flat.view(np.uint16) if number == DT_HALF else flat).tolist())
    return proto


def shape_of(shape: tuple[int, ...]) -> TensorShapeProto:
    proto = TensorShapeProto()
    for size in shape:
        proto.dim.add(size=size)
    return proto
