"""TensorFlow: a SavedModel's signatures, with the warm-up requests that it carries. Imported only where one
is served."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from PIL import Image

from tf_serving import pictures
from tf_serving.serving.engines import Arrays, Check, Means, Rows
from tf_serving.serving.signatures import Signature, find, of_proto
from tf_serving.serving.status import Code, Refused, invalid
from tf_serving.serving.tensors import Array
from tf_serving.stubs import DT_STRING, PredictionLog, SignatureDef

WARM_UP = Path("assets.extra/tf_serving_warmup_requests")
MAX_WARM_UPS = 1000  # saved_model_warmup_util.cc: more are refused
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_TRACED = "Graph execution error:"
_TRACE = (_TRACED, "Detected at node", "<stack traces", "  ")
_OP = re.compile(r" \[Op:\w+\]\s*(name: *)?$")
_importing = threading.Lock()


class SavedModelEngine:
    """What `prepare` and `finish` do elsewhere is in the graph."""

    runtime = "TF2"

    def __init__(self, folder: Path, means: Means) -> None:
        self._tf = _tensorflow(folder, means.threads)
        self._max_pixels = means.max_pixels
        try:
            self._model = self._tf.saved_model.load(str(folder), tags=["serve"])
            self.signatures: Mapping[str, Signature] = dict(_signatures(folder))
            self._calls = {name: self._model.signatures[name] for name in self.signatures}
        except self._tf.errors.OpError as error:
            raise self._refused(error, "The SavedModel cannot be loaded: ") from error
        except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
            raise Refused(Code.DATA_LOSS, f"The SavedModel cannot be loaded: {error}") from error
        self._warm_up(folder / WARM_UP)

    def prepare(self, signature: str, inputs: Arrays, check: Check) -> Rows:
        check()
        for alias, array in inputs.items():
            if alias == "image_bytes" and self.signatures[signature].inputs[alias].dtype == DT_STRING:
                for data in array.reshape(-1):
                    _check_head(data, self._max_pixels)
        shapes = tuple(sorted((alias, array.shape[1:]) for alias, array in inputs.items()))
        batchable = all(array.ndim for array in inputs.values())
        counts = {len(array) for array in inputs.values()} if batchable else {1}
        return Rows((signature, *shapes), inputs, counts.pop(), batchable and not counts)

    def run(self, key: tuple[Any, ...], arrays: Arrays) -> Arrays:
        call = self._calls[key[0]]
        try:
            outputs = call(**{alias: self._tf.constant(array) for alias, array in arrays.items()})
        except self._tf.errors.OpError as error:
            raise self._refused(error) from error
        except (ValueError, TypeError) as error:
            raise invalid(str(error)) from error
        return {alias: _numpy(value) for alias, value in outputs.items()}

    def finish(self, signature: str, rows: Rows, outputs: Arrays, check: Check) -> Arrays:
        return outputs

    def close(self) -> None:
        self._calls.clear()
        self._model = None

    def _warm_up(self, path: Path) -> None:
        if not path.is_file():
            return
        try:
            for number, data in enumerate(self._tf.compat.v1.io.tf_record_iterator(str(path))):
                if number >= MAX_WARM_UPS:
                    raise invalid(f"Number of warmup records exceeds the maximum ({MAX_WARM_UPS}) at {path}")
                log = PredictionLog.FromString(data)
                if log.WhichOneof("log_type") != "predict_log":
                    continue
                request = log.predict_log.request
                name, signature = find(self.signatures, request.model_spec.signature_name)
                rows = self.prepare(name, signature.arrays(request.inputs), lambda: None)
                self.run(rows.key, rows.arrays)
        except self._tf.errors.OpError as error:
            raise self._refused(error, "A warm-up request failed: ") from error

    def _refused(self, error: Any, why: str = "") -> Refused:
        return Refused(_CODES.get(error.error_code, Code.UNKNOWN), why + _words(error.message))


def _words(message: str) -> str:
    """TensorFlow's message as its C++ gives it: in Python a trace comes before it and an op's name after it."""
    lines = message.splitlines()
    kept = [line for line in lines if not line.startswith(_TRACE)] if lines[:1] == [_TRACED] else lines
    return _OP.sub("", "\n".join(filter(None, kept)))


def _tensorflow(folder: Path, threads: int) -> Any:
    try:
        with _importing:
            import tensorflow
    except ImportError as error:
        raise Refused(
            Code.FAILED_PRECONDITION,
            f'{folder} is a SavedModel, and TensorFlow is not installed: `pip install "darkroom[pix2pix]"`, '
            "or put model.tflite and model.json there.",
        ) from error
    with contextlib.suppress(RuntimeError):  # it runs already: the first model's setting stands
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    return tensorflow


def _signatures(folder: Path) -> Iterator[tuple[str, Signature]]:
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = next(graph for graph in model.meta_graphs if "serve" in graph.meta_info_def.tags)
    for name, proto in graph.signature_def.items():
        if not name.startswith("__"):  # an op that initialises, no signature
            yield name, of_proto(SignatureDef.FromString(proto.SerializeToString()))


def _numpy(value: Any) -> Array:
    found = value.numpy()
    return (
        found
        if isinstance(found, np.ndarray)
        else np.array(found, np.object_ if isinstance(found, bytes) else None)
    )


def _check_head(data: bytes, max_pixels: int) -> None:
    """How large the picture is that the graph will decode. What is no picture the graph will say."""
    try:
        with Image.open(BytesIO(data), formats=["PNG", "JPEG", "GIF", "BMP"]) as image:
            wide, high = image.size
    except Exception:  # noqa: BLE001 - whatever a damaged file leads Pillow to
        return
    try:
        pictures.check_pixels(wide, high, max_pixels)
    except pictures.BadPicture as error:
        raise invalid(str(error)) from error
