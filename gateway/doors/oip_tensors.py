"""Operations as the Open Inference Protocol has models: parameters are tensors of one element, results tensors of many.

pictures, words      BYTES      numbers    INT64, FP64      lists and objects    BYTES, as JSON
switches             BOOL       pictures out: BYTES `image`, INT64 `seed`; an answer of data: BYTES `data`, as JSON
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.arriving import File
from gateway.blobs import Blob
from gateway.desk import Outcome
from gateway.doors.splice import Coded
from gateway.forms import no_nulls
from gateway.intake import from_text
from gateway.kept import Kept
from services.errors import BadInput, Malformed, NotFound
from services.operations import OPERATIONS, Operation, Seeded

VERSION = "1"  # of every model: which weights do the work, the parameter `model` says
LONGEST = 2**20  # bytes of an element that is no picture
MOST_INPUTS = 128
# what a request's own parameters may say beside an operation's
RESERVED = frozenset(
    {"binary_data_output", "timeout", "priority", "sequence_id", "sequence_start", "sequence_end"}
)
_PACKED = {
    "BOOL": "?",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
_LENGTH = struct.Struct("<I")
_NOT_DONE = ("shared_memory_region", "classification")  # of a tensor's parameters
_REFERENCES = (b"asset:", b"http://", b"https://", b"data:image/")
_NAMES = "Each operation is a model of one version, 1; GET /v1/operations has their names."
_TYPES = {"integer": "INT64", "number": "FP64", "boolean": "BOOL"}


@dataclass(slots=True)
class Output:
    """A tensor of the answer; BYTES elements are files here."""

    name: str
    datatype: str
    values: list[Any]

    @property
    def raw(self) -> list[bytes | File]:
        """Its elements as the binary extension has them, in pieces."""
        if self.datatype != "BYTES":
            return [struct.pack(f"<{len(self.values)}{_PACKED[self.datatype]}", *self.values)]
        return [piece for value in self.values for piece in (_LENGTH.pack(value.size), value)]

    def data(self, text: bool) -> list[Any]:
        """Its elements as JSON has them: pictures as base64, else as text."""
        if self.datatype != "BYTES":
            return self.values
        return [value.data.decode() if text else Coded(value) for value in self.values]


def operation_of(name: str, version: str = "") -> type[Operation]:
    operation = OPERATIONS.get(name)
    if operation is None:
        raise NotFound(
            f"Request for unknown model: '{name[:80]}' is not found",
            help="GET /v1/operations has their names.",
        )
    if version not in ("", VERSION):
        raise NotFound(
            f"Request for unknown model: '{name}' version {version[:20]} is not found", help=_NAMES
        )
    return operation


def inputs_of(operation: type[Operation]) -> list[dict[str, Any]]:
    """The tensors that it takes; those that it can do without say so."""
    schema = operation.json_schema()
    needed = schema.get("required", [])
    found = []
    for name, parameter in schema["properties"].items():
        about: dict[str, Any] = {"name": name, "datatype": _datatype(parameter), "shape": [1]}
        found.append(about if name in needed else about | {"parameters": {"optional": True}})
    return sorted(found, key=lambda one: "parameters" in one)


def outputs_of(operation: type[Operation]) -> list[dict[str, Any]]:
    if operation.answers == "data":
        return [{"name": "data", "datatype": "BYTES", "shape": [1]}]
    made = [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    return (
        [*made, {"name": "seed", "datatype": "INT64", "shape": [-1]}]
        if issubclass(operation, Seeded)
        else made
    )


def _datatype(parameter: Mapping[str, Any]) -> str:
    kinds = {one.get("type") for one in parameter.get("anyOf", [parameter])} - {"null"}
    return _TYPES.get(kinds.pop() or "", "BYTES") if len(kinds) == 1 else "BYTES"


# ── in ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Taking:
    """The fields and files of one request while its tensors are read."""

    def __init__(self, operation: type[Operation]) -> None:
        self.operation = operation
        self.fields: dict[str, Any] = {}
        self.files: dict[str, Blob] = {}
        self._pictures = operation.picture_fields()

    def parameters(self, given: Mapping[str, Any]) -> None:
        """The request's own parameters, which may be the operation's."""
        for name, value in given.items():
            if name not in RESERVED and not name.startswith("triton_"):
                self._set(name, value)

    def check(self, name: str, shape: Sequence[Any]) -> None:
        count = 1
        for side in shape:
            if not isinstance(side, int) or isinstance(side, bool) or side != 1:
                count = 0
        if not count or len(shape) > 4:
            raise BadInput(
                f"{name[:80]} has the shape {list(shape)[:4]}; send one element: [1].", field=name[:80]
            )
        if name in self.fields:
            raise BadInput(f"{name[:80]} is given twice.", field=name[:80])

    def takes_files(self, name: str) -> bool:
        return name in self._pictures

    def value(self, name: str, value: Any) -> None:
        """An element as JSON or the wire has it; a list of lists of one is that one."""
        while isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError as error:
                raise BadInput(f"{name} is not UTF-8 text.", field=name) from error
        self._set(name, value)

    def picture(self, name: str, blob: Blob) -> None:
        self.files[name] = blob
        self.fields[name] = f"part:{name}"

    def _set(self, name: str, value: Any) -> None:
        no_nulls(value, name)
        self.fields[name] = value

    def done(self) -> dict[str, Any]:
        """The fields as the operation has them: lists and objects read from JSON."""
        return from_text(self.operation, self.fields)

    def discard(self) -> None:
        for blob in self.files.values():
            blob.discard()


def unpacked(datatype: str, data: bytes, name: str) -> Any:
    """The one element of a tensor's raw bytes."""
    if datatype == "BYTES":
        if len(data) < _LENGTH.size or _LENGTH.unpack_from(data)[0] != len(data) - _LENGTH.size:
            raise BadInput(f"{name} must be one element: its length in 4 bytes, then its bytes.", field=name)
        return data[_LENGTH.size :]
    if datatype not in _PACKED:
        raise BadInput(f"{name}: {datatype[:20]!r} is no datatype that is known here.", field=name)
    try:
        (value,) = struct.unpack(f"<{_PACKED[datatype]}", data)
    except struct.error as error:
        raise BadInput(f"{name} is not one {datatype}.", field=name) from error
    return value


def is_reference(head: bytes) -> bool:
    """Whether a picture's bytes are rather where it is; no file begins like that."""
    return head.startswith(_REFERENCES)


# ── out ───────────────────────────────────────────────────────────────────────────────────────────────────────


def outputs(outcome: Outcome, wanted: Sequence[str]) -> list[Output]:
    """The tensors of an outcome; all of them where none are named."""
    operation = type(outcome.ask)
    if operation.answers == "data":
        made = [Output("data", "BYTES", [Kept.of(orjson.dumps(outcome.data))])]
    else:
        pictures = outcome.pictures
        made = [Output("image", "BYTES", [one.file for one in pictures])]
        if issubclass(operation, Seeded):
            made.append(
                Output("seed", "INT64", [one.seed if one.seed is not None else -1 for one in pictures])
            )
    return [one for one in made if not wanted or one.name in wanted]


def check_wanted(operation: type[Operation], wanted: Sequence[str]) -> None:
    known = [one["name"] for one in outputs_of(operation)]
    for name in wanted:
        if name not in known:
            raise BadInput(
                f"unexpected inference output '{name[:80]}' for model '{operation.name()}'", field="outputs"
            )


def check_tensor(name: str, parameters: Mapping[str, Any]) -> None:
    """Refuses what a client would wait for in vain."""
    for told in _NOT_DONE:
        if told in parameters:
            raise BadInput(f"{name[:80]}: {told} is not done here.", field=name[:80])


def seconds_of(parameters: Mapping[str, Any]) -> float:
    """Triton's timeout, in microseconds; 0 where there is none."""
    given = parameters.get("timeout", 0)
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise BadInput("timeout must be a number of microseconds.", field="timeout")
    return given / 1e6


def an_object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed(f"{what} must be a JSON object.")
    return value
