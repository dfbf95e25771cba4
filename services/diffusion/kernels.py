"""A way around oneDNN where it is stuck: in goes a piece of work and the size that it is for, out comes its result.

On a processor PyTorch leaves convolutions to oneDNN, which prepares a primitive for each size and keeps it. One that it
could not make, because there was no memory at that moment, it keeps as impossible: it would refuse that size until the
process ends. PyTorch's own kernels are slower, and do not care.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Hashable
from typing import TypeVar

import torch

T = TypeVar("T")
_log = logging.getLogger("darkroom.diffusion")


class Kernels:
    def __init__(self) -> None:
        self._stuck: set[Hashable] = set()

    def call(self, size: Hashable, work: Callable[[], T]) -> T:
        """Does it; where oneDNN cannot, it is done again without, and for this size so from then on."""
        if size not in self._stuck:
            try:
                return work()
            except RuntimeError as error:
                if not is_stuck(error):
                    raise
                _log.warning("oneDNN refuses a size (%s); PyTorch's own kernels do it from now on", error)
                self._stuck.add(size)
        with (
            warnings.catch_warnings(action="ignore", category=UserWarning),
            torch.backends.mkldnn.flags(enabled=False),
        ):
            return work()


def is_stuck(error: RuntimeError) -> bool:
    return "a primitive" in str(error)
