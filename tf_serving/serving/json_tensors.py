"""The REST's JSON: a body in, tensors out, and outputs back, in row (`instances`) or column (`inputs`) form.

Form and refusals are those of tensorflow_serving/util/json_tensor.cc; where it names a function of its, so
does this.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from tf_serving.serving.engines import Arrays
from tf_serving.serving.signatures import DEFAULT, Signature, Tensor
from tf_serving.serving.status import Refused, invalid
from tf_serving.serving.tensors import MAX_ELEMENTS, TYPES, Array, strings, type_name
from tf_serving.stubs import DT_BOOL, DT_DOUBLE, DT_FLOAT, DT_STRING

ROW, COLUMN = "row", "column"
BYTES_SUFFIX = "_bytes"
_SHOWN = 256  # characters of a value that a refusal repeats
# rapidjson's words (rapidjson/error/en.h) for what Python's reader finds
_WORDS = {
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Extra data": "The document root must not be followed by other values.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
    "Invalid control character at": "Invalid encoding in string.",
}
_INTEGERS = {"int32", "int16", "int8", "uint8", "uint16"}


def parse(body: bytes) -> dict[str, Any]:
    """ParseJson."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _parse_slowly(body)
    if not isinstance(document, dict):
        raise _wrong(document, "Is not object")
    return document


def _parse_slowly(body: bytes) -> Any:
    """With NaN and Infinity, which TensorFlow Serving takes; and with words for what is wrong."""
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        words = _WORDS.get(error.msg, "Invalid value.")
        if error.msg == "Expecting ',' delimiter":
            words = "Missing a comma or } after an object member."
        raise invalid(f"JSON Parse error: {words} at offset: {error.pos}") from error
    except RecursionError:
        raise invalid("JSON Parse error: The document is nested too deep.") from None
    except UnicodeDecodeError as error:
        raise invalid(f"JSON Parse error: Invalid encoding in string. at offset: {error.start}") from error


def signature_name(document: Mapping[str, Any]) -> str:
    """FillSignature."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {_text(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def signature_of(signatures: Mapping[str, Signature], name: str) -> tuple[str, Signature]:
    """http_rest_api_handler.cc, GetInfoMap: not the code and the words that gRPC has for it."""
    name = name or DEFAULT
    if name not in signatures:
        raise invalid(f'Serving signature name: "{name}" not found in signature def')
    return name, signatures[name]


def inputs_of(document: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> tuple[str, dict[str, Array]]:
    """FillPredictRequestFromJson: the form, and the tensors."""
    if "instances" in document and "inputs" in document:
        raise _wrong(
            document, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        )
    if "instances" in document:
        rows = document["instances"]
        if not isinstance(rows, list):
            raise _wrong(document, "Excepting 'instances' to be an list/array")
        if not rows:
            raise _wrong(document, "No values in 'instances' array")
        return ROW, _shaped(_rows(rows, inputs), inputs)
    if "inputs" in document:
        return COLUMN, _shaped(_columns(document["inputs"], inputs), inputs)
    raise invalid("Missing 'inputs' or 'instances' key")


def _rows(rows: list[Any], inputs: Mapping[str, Tensor]) -> dict[str, Array]:
    """FillTensorMapFromInstancesList."""
    if not isinstance(rows[0], dict) and len(inputs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    named = _is_named(rows[0])
    items: dict[str, list[Array]] = {name: [] for name in inputs}
    for number, row in enumerate(rows):
        if named != _is_named(row):
            said = (
                f"Expecting object but got list at item {number} of input list"
                if named
                else f"Expecting value/list but got object at item {number} of input list"
            )
            raise invalid(said)
        where = f"Failed to process element: {number}"
        if not named:
            _add(items, next(iter(inputs)), row, inputs, f"{where} of 'instances' list. Error: ")
            continue
        for name, value in row.items():
            _add(items, name, value, inputs, f"{where} key: {name} of 'instances' list. Error: ")
        if set(row) != set(inputs):
            raise invalid(
                f"{where} of 'instances' list. JSON object: {_text(row)} keys must be equal to: "
                f"{','.join(sorted(inputs))}"
            )
    return {name: np.stack(found) for name, found in items.items()}


def _add(
    items: dict[str, list[Array]], name: str, value: Any, inputs: Mapping[str, Tensor], where: str
) -> None:
    """AddInstanceItem."""
    try:
        if name not in inputs:
            raise invalid(f"JSON object: does not have named input: {name}")
        found = tensor_of(value, inputs[name].dtype)
        for first in items[name][:1]:
            if first.size != found.size:
                raise invalid(f"Expecting tensor size: {first.size} but got: {found.size}")
            if first.shape != found.shape:
                raise invalid(f"Expecting shape {_shape(first.shape)} but got: {_shape(found.shape)}")
    except Refused as error:
        raise invalid(f"{where}{error.code.name}: {error.message}") from error
    items[name].append(found)


def _columns(value: Any, inputs: Mapping[str, Tensor]) -> dict[str, Array]:
    """FillTensorMapFromInputsMap."""
    if not _is_named(value):
        if len(inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        name = next(iter(inputs))
        return {name: tensor_of(value, inputs[name].dtype)}
    for name in inputs:
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: tensor_of(value[name], tensor.dtype) for name, tensor in inputs.items()}


def _shaped(found: dict[str, Array], inputs: Mapping[str, Tensor]) -> dict[str, Array]:
    for name, array in found.items():
        inputs[name].check(name, array.shape)
    return found


def tensor_of(value: Any, dtype: int) -> Array:
    """A scalar, a list, or a list of lists of one shape throughout (FillTensorProto)."""
    shape = _dense_shape(value)
    if math.prod(shape) > MAX_ELEMENTS:
        raise invalid(f"The tensor has {math.prod(shape)} elements; this server takes {MAX_ELEMENTS}.")
    flat: list[Any] = []
    _fill(value, 0, shape, dtype, flat)
    if dtype == DT_STRING:
        return strings(flat).reshape(shape)
    return np.array(flat, TYPES[dtype][1]).reshape(shape)


def _dense_shape(value: Any) -> tuple[int, ...]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _fill(value: Any, level: int, shape: tuple[int, ...], dtype: int, flat: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {_text(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        flat.append(_scalar(value, dtype))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    if level == len(shape) - 1 and dtype == DT_FLOAT and set(map(type, value)) == {float}:
        flat.extend(value)  # what nearly all of a picture is
        return
    for inner in value:
        _fill(inner, level + 1, shape, dtype, flat)


def _scalar(value: Any, dtype: int) -> Any:
    """AddValueToTensor, and JsonDecodeBase64Object."""
    if dtype not in TYPES:
        raise invalid(f"Conversion of JSON Value: {_text(value)} to type: {type_name(dtype)}")
    if dtype == DT_STRING:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, dict):
            return _base64(value)
        raise _mistyped(value, dtype)
    if dtype == DT_BOOL:
        if not isinstance(value, bool):
            raise _mistyped(value, dtype)
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _mistyped(value, dtype)
    if dtype in (DT_FLOAT, DT_DOUBLE):
        if isinstance(value, int) and abs(value) > 2 ** (24 if dtype == DT_FLOAT else 53) - 1:
            raise invalid(
                f"Cannot convert JSON value: {value} to {type_name(dtype)} without loss of precision."
            )
        return value
    if not isinstance(value, int):
        raise _mistyped(value, dtype)
    bounds = np.iinfo(np.int32 if type_name(dtype) in _INTEGERS else TYPES[dtype][1])
    if not bounds.min <= value <= bounds.max:
        raise _mistyped(value, dtype)
    return value


def _base64(value: dict[str, Any]) -> bytes:
    if set(value) != {"b64"} or not isinstance(value["b64"], str):
        raise invalid(f"JSON Value: {_text(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split())
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def json_of(form: str, outputs: Arrays) -> bytes:
    """MakeJsonFromTensors."""
    if form == COLUMN:
        columns = {name: _plain(name, array) for name, array in outputs.items()}
        return _written("outputs", columns if len(columns) > 1 else next(iter(columns.values())))
    sizes = set()
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        sizes.add(len(array))
        if len(sizes) > 1:
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {min(sizes)}"
            )
    if len(outputs) == 1:
        name, array = next(iter(outputs.items()))
        return _written("predictions", _plain(name, array))
    rows = [{name: _plain(name, array[n]) for name, array in outputs.items()} for n in range(sizes.pop())]
    return _written("predictions", rows)


def _plain(name: str, array: Array) -> Any:
    if array.dtype != np.object_:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return array.astype(np.float64).tolist()  # JSON has no word for these, TensorFlow Serving has
        return np.ascontiguousarray(array) if array.ndim else array.item()
    if array.ndim:
        return [
            _plain(name, inner) if isinstance(inner, np.ndarray) else _string(name, inner) for inner in array
        ]
    return _string(name, array.item())


def _string(name: str, value: bytes) -> Any:
    if name.endswith(BYTES_SUFFIX):
        return {"b64": base64.b64encode(value).decode()}
    return value.decode(errors="replace")


def _written(key: str, value: Any) -> bytes:
    option = orjson.OPT_SERIALIZE_NUMPY
    written = _nonfinite(value) if _has_nonfinite(value) else orjson.dumps(value, option=option)
    return b'{\n    "' + key.encode() + b'": ' + written + b"\n}"


def _has_nonfinite(value: Any) -> bool:
    """Whether `_plain` left plain lists of numbers, which it does only then."""
    if isinstance(value, dict):
        return any(_has_nonfinite(inner) for inner in value.values())
    if isinstance(value, list) and value:
        return _has_nonfinite(value[0])
    return isinstance(value, float)


def _nonfinite(value: Any) -> bytes:
    def plain(given: Any) -> Any:
        return given.tolist()

    return json.dumps(value, default=plain).encode()


def _is_named(value: Any) -> bool:
    """An object with names, and not one that holds base64."""
    return isinstance(value, dict) and not (set(value) == {"b64"} and isinstance(value["b64"], str))


def _mistyped(value: Any, dtype: int) -> Refused:
    kinds = {type(None): "Null", dict: "Object", list: "Array", str: "String"}
    kind = kinds.get(type(value), str(value) if isinstance(value, bool) else "Number")
    return invalid(f"JSON Value: {_text(value)} Type: {kind} is not of expected type: {type_name(dtype)}")


def _wrong(value: Any, why: str) -> Refused:
    return invalid(f"JSON Value: {_text(value)} {why}")


def _text(value: Any) -> str:
    text = json.dumps(value, indent=4, ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _shape(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(str(size) for size in shape) + "]"
