"""Keeps the processor at most one call ahead of a GPU.

A GPU is told what to do and does it later. Without a bound the loop would have told it a whole picture's steps before
the first is done, and who joins or cancels then would wait for all of them.
"""

from __future__ import annotations

import torch


class Pace:
    def __init__(self) -> None:
        self._last: torch.cuda.Event | None = None

    def called(self, device: torch.device) -> None:
        """A call was told to the device; returns when the one before it is done."""
        if device.type != "cuda":
            return
        before, self._last = self._last, torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._last.record(torch.cuda.current_stream(device))
        if before is not None:
            before.synchronize()
