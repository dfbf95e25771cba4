"""Engines that fill: in come a part of a picture and the hole in it, out comes the part with the hole filled.

What an engine gives outside the hole is not looked at: `strategies.py` puts only the hole's pixels into the picture,
and decides what part an engine gets to see. `shelf.py` knows which engines there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from services.cleanup.pieces import Hole, Pixels

Check = Callable[[], None]  # raises when nobody waits any more


@dataclass(frozen=True, slots=True)
class Sight:
    """How an engine likes to see a picture."""

    side: int = 0  # the longer side of what it fills well at once; 0: any
    margin: int = 0  # pixels that it wants to see around a piece; 0: as suits the piece
    least: int = 0  # the least side of what it is shown, where the picture has as much
    whole: int = 0  # the most pixels that it can be given at once; 0: any


class Engine(Protocol):
    sight: Sight

    def fill(self, part: Pixels, hole: Hole, check: Check, *, whole: bool = False) -> Pixels:
        """`part` (H, W, 3 of uint8) and `hole` (H, W) are not changed; some of the part lies outside the hole.

        `whole`: take it in one look, whatever its size.
        """
