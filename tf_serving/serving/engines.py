"""An engine runs one version of a model. In three parts, so that requests can share the middle one:

    prepare   one request's inputs -> rows (in its own thread: pictures are decoded here)
    run       rows of one or of many requests -> rows of outputs (in a batch's thread)
    finish    one request's rows of outputs -> its outputs (again in its own thread)

`open_version` takes a version's folder and says which engine it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tf_serving.serving.signatures import Signature
from tf_serving.serving.status import Code, Refused
from tf_serving.serving.tensors import Array

Arrays = Mapping[str, Array]
Check = Callable[[], None]  # raises when nobody waits for the work any more


@dataclass(frozen=True, slots=True)
class Rows:
    """A request made ready: its rows, along axis 0 of each array. Those of one `key` may be run together."""

    key: tuple[Any, ...]
    arrays: Arrays
    count: int
    batchable: bool = True
    aside: Any = None  # what `finish` needs again


class Engine(Protocol):
    signatures: Mapping[str, Signature]
    runtime: str  # what `runtime_latency` calls it

    def prepare(self, signature: str, inputs: Arrays, check: Check) -> Rows: ...

    def run(self, key: tuple[Any, ...], arrays: Arrays) -> Arrays: ...

    def finish(self, signature: str, rows: Rows, outputs: Arrays, check: Check) -> Arrays: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Means:
    """What engines may use."""

    max_pixels: int
    threads: int  # of one run
    runs: int  # at the same time


def open_version(folder: Path, means: Means) -> Engine:
    """Reads the whole of a version and tries it. What is missing or damaged is refused, with the reason."""
    if (folder / "saved_model.pb").is_file():
        from tf_serving.serving.saved_model import SavedModelEngine

        return SavedModelEngine(folder, means)
    if (folder / "model.tflite").is_file() and (folder / "model.json").is_file():
        from tf_serving.serving.lite import LiteEngine

        return LiteEngine(folder, means)
    raise Refused(
        Code.NOT_FOUND,
        f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {folder}, and no model.tflite "
        "with its model.json either. Copy a version under another name, and rename it when it is whole.",
    )
