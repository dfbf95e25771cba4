"""The formats that LaMa's kin come in: in goes a file, out comes what runs it.

ONNX is run by onnxruntime, TorchScript by PyTorch, which the service does not need for anything else and which is
therefore asked for only by whoever wants a model of that kind.
"""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.batching import Batcher
from services.errors import OutOfMemory, Unavailable
from services.onnx import open_net

Arrays = NDArray[np.float32]
INPUTS = 2  # a picture and a mask
AT_ONCE = 4  # parts of pictures in one call of a net on a GPU


class OnnxRunner:
    """On a GPU what several callers ask for at once, in one size, is one call; a processor would gain nothing."""

    def __init__(self, path: Path, name: str, multiple: int, threads: int = 1, at_once: int = 0) -> None:
        self.multiple = multiple
        self._net = open_net(path, name, threads)
        if len(self._net.inputs) != INPUTS:
            raise Unavailable(
                f"{path} takes {len(self._net.inputs)} inputs, not a picture and a mask: it fills no holes.",
                help=f"`darkroom models pull {name}` fetches the one that the catalogue means.",
            )
        self.fixed: tuple[int, int] | None = self._net.inputs[0].side
        # by its channels, because files differ in which comes first
        self._mask_first = self._net.inputs[0].shape[1:2] == (1,)
        self._share: Batcher[tuple[Arrays, Arrays], Arrays] | None = None
        if (at_once := at_once or (1 if self._net.device == "cpu" else AT_ONCE)) > 1:
            self._share = Batcher(self._several, at_once, kind=lambda pair: pair[0].shape)

    def run(self, image: Arrays, mask: Arrays) -> Arrays:
        return self._share((image, mask)) if self._share is not None else self._run(image, mask)

    def _several(self, pairs: list[tuple[Arrays, Arrays]]) -> list[Arrays]:
        images, masks = zip(*pairs, strict=True)
        drawn = self._run(np.concatenate(images), np.concatenate(masks))
        return [drawn[at : at + 1] for at in range(len(pairs))]

    def _run(self, image: Arrays, mask: Arrays) -> Arrays:
        given = (mask, image) if self._mask_first else (image, mask)
        return np.asarray(self._net.run(*given)[0], dtype=np.float32)


class TorchScriptRunner:
    """One picture at a time: two would take the memory of two, and be no quicker."""

    fixed: tuple[int, int] | None = None

    def __init__(self, path: Path, name: str, multiple: int, threads: int = 1) -> None:
        self.multiple, self._name, self._path = multiple, name, path
        self._torch = _torch(name)
        self._torch.set_num_threads(threads)
        self._device = "cuda" if self._torch.cuda.is_available() else "cpu"
        self._turn = threading.Lock()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", DeprecationWarning
                )  # the format is old; the file has no other
                self._net = self._torch.jit.load(str(path), map_location=self._device).eval()
        except (RuntimeError, ValueError, OSError) as error:
            raise Unavailable(
                f"{path} is damaged, or is not a TorchScript file: {_brief(error)}",
                help=f"`darkroom models pull {name}` fetches it anew.",
            ) from error

    def run(self, image: Arrays, mask: Arrays) -> Arrays:
        torch = self._torch
        with self._turn, torch.inference_mode():
            given = (torch.from_numpy(one).to(self._device) for one in (image, mask))
            try:
                found: Arrays = self._net(*given).float().cpu().numpy()
            except torch.OutOfMemoryError as error:
                torch.cuda.empty_cache()
                raise OutOfMemory(f"The model {self._name} ran out of memory.") from error
            except RuntimeError as error:
                raise Unavailable(
                    f"The model {self._name} ({self._path}) cannot fill a picture: {_brief(error)}",
                    help=f"`darkroom models pull {self._name}` fetches the file that the catalogue means.",
                ) from error
        return found


def _torch(name: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise Unavailable(
            f"The model {name} is a TorchScript file, and PyTorch is not installed here.",
            help="Install `torch` beside the service, or take `lama-onnx`, which needs none.",
        ) from error
    return torch


def _brief(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1].strip()[:300]
