"""ONNX files for a service: in go a file and how many threads it may use, out comes a net that takes arrays.

CUDA is used where onnxruntime has it, else the processor. A net tells the names and sizes of its inputs; where its file
fixes the batch at one, a larger batch is run picture by picture, so that a caller need not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as faults

from services.errors import BadInput, OutOfMemory, Unavailable

Array = NDArray[Any]
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_FATAL = 4  # what it logs below that comes as an exception, too
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
}
_ERRORS = (
    faults.EPFail,
    faults.EngineError,
    faults.Fail,
    faults.InvalidArgument,
    faults.InvalidGraph,
    faults.InvalidProtobuf,
    faults.NoModel,
    faults.NoSuchFile,
    faults.NotImplemented,
    faults.RuntimeException,
)


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output: its sizes are numbers where the file fixes them, None where it takes any."""

    name: str
    shape: tuple[int | None, ...]
    type: type

    @property
    def side(self) -> tuple[int, int] | None:
        """Height and width of the pictures that it takes; None where it takes any."""
        if len(self.shape) != 4 or self.shape[2] is None or self.shape[3] is None:
            return None
        return self.shape[2], self.shape[3]

    @property
    def one_by_one(self) -> bool:
        """It takes a single picture, never a batch."""
        return len(self.shape) > 0 and self.shape[0] == 1


class Net:
    """An opened file. Threads may share it: each run is its own."""

    def __init__(self, session: Any, path: Path, name: str) -> None:
        self._session = session
        self._path, self._name = path, name
        self.inputs = tuple(_port(one, path, name) for one in session.get_inputs())
        self.outputs = tuple(one.name for one in session.get_outputs())
        self.device = "cuda" if CUDA in session.get_providers() else "cpu"

    def run(self, *batches: Array) -> list[Array]:
        """One array (N, C, H, W) for each input, in the file's order; the outputs come in the file's order."""
        if len(batches) != len(self.inputs):
            names = ", ".join(port.name for port in self.inputs)
            raise Unavailable(
                f"{self._path} takes {len(self.inputs)} inputs ({names}), not {len(batches)}.",
                help=_mend(self._name),
            )
        count = len(batches[0])
        if count > 1 and any(port.one_by_one for port in self.inputs):
            singles = [self._run(tuple(batch[at : at + 1] for batch in batches)) for at in range(count)]
            return [np.concatenate(parts) for parts in zip(*singles, strict=True)]
        return self._run(batches)

    def _run(self, batches: tuple[Array, ...]) -> list[Array]:
        given: dict[str, Array] = {
            port.name: np.ascontiguousarray(batch, dtype=port.type)
            for port, batch in zip(self.inputs, batches, strict=True)
        }
        try:
            found: list[Array] = self._session.run(None, given)
        except _ERRORS as error:
            raise self._told(error, [batch.shape for batch in batches]) from error
        return found

    def _told(self, error: Exception, shapes: list[tuple[int, ...]]) -> Exception:
        sentence = str(error)
        if "allocate" in sentence.lower() or "out of memory" in sentence.lower():
            return OutOfMemory(f"The model {self._name} ran out of memory.")
        sizes = " and ".join("x".join(map(str, shape)) for shape in shapes)
        return Unavailable(
            f"The model {self._name} ({self._path}) does not take arrays of {sizes}: {_brief(error)}",
            help=_mend(self._name),
        )


def open_net(path: Path, name: str, threads: int = 1, device: str = "auto") -> Net:
    """The net in `path`; `name` is the model's in the catalogue, `device` is auto, cpu, cuda or cuda:1.

    Unavailable says what is wrong with the file, and the command that fetches it.
    """
    if not path.is_file():
        raise Unavailable(f"{path} is missing.", help=_mend(name))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    # a thread that spins between two operators takes the core of whoever decodes the next picture
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=_providers(device))
    except _ERRORS as error:
        raise Unavailable(
            f"{path} is damaged, or is not an ONNX file that onnxruntime {onnxruntime.__version__} can open: "
            f"{_brief(error)}",
            help=_mend(name),
        ) from error
    if device.startswith("cuda") and CUDA not in session.get_providers():
        raise _no_cuda(device)
    return Net(session, path, name)


def _providers(device: str) -> list[Any]:
    there = onnxruntime.get_available_providers()
    # its arena would keep the most that any picture ever needed, rounded up to a power of two
    cpu = (CPU, {"arena_extend_strategy": "kSameAsRequested"})
    if device in ("cpu", "mps") or (device == "auto" and CUDA not in there):
        return [cpu]
    if device != "auto" and not device.startswith("cuda"):
        raise BadInput(
            f"onnxruntime has no device {device!r} here: auto, cpu, cuda or cuda:1.", field="device"
        )
    if CUDA not in there:
        raise _no_cuda(device)
    onnxruntime.preload_dlls()  # CUDA's libraries, where pip installed them
    number = device.partition(":")[2] or "0"
    return [(CUDA, {"device_id": number, "arena_extend_strategy": "kSameAsRequested"}), cpu]


def _no_cuda(device: str) -> Unavailable:
    return Unavailable(
        f"The device {device!r} was asked for, and this onnxruntime has no CUDA that works.",
        help="Install onnxruntime-gpu instead of onnxruntime, with CUDA's libraries; or ask for `cpu` or `auto`.",
    )


def _port(told: Any, path: Path, name: str) -> Port:
    if told.type not in _TYPES:
        raise Unavailable(
            f"{path} wants {told.type} as {told.name!r}: no net for pictures.", help=_mend(name)
        )
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in told.shape)
    return Port(told.name, shape, _TYPES[told.type])


def _mend(name: str) -> str:
    return f"`darkroom models verify {name}` looks at its files, `darkroom models pull {name}` fetches them anew."


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
