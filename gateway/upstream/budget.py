"""The retry budget of a service: every call adds a share of a retry, every retry takes one.

When everything fails, retries are thus at most that share of the calls, instead of several times as many calls.
"""

from __future__ import annotations

_REMEMBERED = 100  # calls whose shares may be saved up


class Budget:
    def __init__(self, share: float) -> None:
        self._share = share
        self._most = self._saved = _REMEMBERED * share

    def called(self) -> None:
        self._saved = min(self._most, self._saved + self._share)

    def spend(self) -> bool:
        """Whether one more retry is allowed, and counts it."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True
