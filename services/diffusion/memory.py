"""How much goes into one call of a network: in go sizes and what failed, out comes a number of rows.

The bound begins with what the device has, and where a call did not fit nevertheless, is halved for that size. What did
not fit may have been the fault of others (another process, a model that was just being loaded), so after a while the
full bound is tried again.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Hashable

import torch

FORGET_AFTER = 300.0  # seconds
MOST_ROWS = 64
# A row is one picture's half of a guided step. On a processor many rows gain only where the network is so small that
# its calls cost more than its arithmetic; on a GPU until it is full.
_ROW_PIXELS_CPU = 2**20
_ROW_BYTES_PER_PIXEL = 1500.0  # of activations, in a UNet of SDXL's size in half precision
_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "alloc_failed",
    "bad_alloc",
    "bad allocation",
    "can't start new thread",
    # oneDNN, where its scratch memory cannot be had
    "could not create a memory object",
    "could not create a primitive",
    "could not execute a primitive",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that there was not enough memory; PyTorch says so on a processor with a mere RuntimeError."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in said for words in _NO_MEMORY)


def give_back(error: BaseException) -> None:
    """After this error: returns to the device what is held without being used, by the error's own frames too."""
    error.__traceback__ = error.__context__ = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def rows_that_fit(device: torch.device, pixels: int) -> int:
    """How many rows of so many pixels one call takes at most, before anything has been tried."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        rows = int((free + held) * 0.8 / (pixels * _ROW_BYTES_PER_PIXEL))
    else:
        rows = _ROW_PIXELS_CPU // pixels
    return min(MOST_ROWS, max(2, rows))


class Bounds:
    """The most rows of a call, for each size (a model and the form of its latents)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._found: dict[Hashable, tuple[int, float]] = {}

    def rows(self, size: Hashable, otherwise: int) -> int:
        """What is known of this size, or `otherwise`."""
        bound, since = self._found.get(size, (otherwise, 0.0))
        if size in self._found and self._clock() - since > FORGET_AFTER:
            del self._found[size]
            return otherwise
        return min(bound, otherwise)

    def did_not_fit(self, size: Hashable, rows: int) -> None:
        """A call of so many rows failed; the next has half of them."""
        self._found[size] = max(1, rows // 2), self._clock()
