"""LaMa and its kin: in go a part of a picture and its hole, out comes what the net draws there.

Such a net takes two arrays, a picture (N, 3, H, W; 0 to 1) and a mask (N, 1, H, W; 1 in the hole), and gives a picture
back, from 0 to 1 or from 0 to 255: which, is asked of it once. What is larger than it draws well is shown to it in
tiles, one after the other, each with what is around it; and smaller where the hole is wide.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.cleanup.engines import Check, Sight
from services.cleanup.pieces import Hole, Pixels, thickness, with_room
from services.cleanup.scale import enlarged, longest, smaller
from services.errors import Unavailable

Arrays = NDArray[np.float32]
WIDE = 8  # a hole of which so many half-widths make a side is filled well; a wider one at a smaller scale


class Runner(Protocol):
    """A net that was opened, of whatever format."""

    fixed: tuple[int, int] | None  # height and width, where it takes no others
    multiple: int  # of which height and width are

    def run(self, image: Arrays, mask: Arrays) -> Arrays: ...


class NetEngine:
    def __init__(self, runner: Runner, name: str, sight: Sight) -> None:
        self.sight = sight
        self._runner, self._name = runner, name
        self._white = self._white_of_its_answers()

    def fill(self, part: Pixels, hole: Hole, check: Check, *, whole: bool = False) -> Pixels:
        side = self.sight.side
        check()
        if whole or longest(part) <= side:
            return self._draw(part, hole)
        scale = max(side / longest(part), min(1.0, side / (WIDE * thickness(hole))))
        if scale < 1:
            small, small_hole = smaller(part, hole, scale)
            return enlarged(self._tiles(small, small_hole, check), part)
        return self._tiles(part, hole, check)

    def _tiles(self, part: Pixels, hole: Hole, check: Check) -> Pixels:
        filled, left = part.copy(), hole.copy()
        height, width = hole.shape
        side = self.sight.side
        inner = side // 2
        for top in range(0, height, inner):
            for start in range(0, width, inner):
                own = (start, top, min(width, start + inner), min(height, top + inner))
                mine = np.s_[own[1] : own[3], own[0] : own[2]]
                if not left[mine].any():
                    continue
                check()
                box = with_room(own, side // 4, (height, width), side)
                around = np.s_[box[1] : box[3], box[0] : box[2]]
                if not left[around].all():
                    drawn = self._draw(filled[around], left[around])
                    drawn = drawn[own[1] - box[1] : own[3] - box[1], own[0] - box[0] : own[2] - box[0]]
                    filled[mine][left[mine]] = drawn[left[mine]]
                left[mine] = False
        return filled

    def _draw(self, part: Pixels, hole: Hole) -> Pixels:
        """In one run, at a size that the net takes."""
        height, width = hole.shape
        fixed = self._runner.fixed
        if fixed is not None and (height > fixed[0] or width > fixed[1]):
            scale = min(fixed[0] / height, fixed[1] / width)
            small, small_hole = smaller(part, hole, scale)
            return enlarged(self._draw(small, small_hole), part)
        goal = fixed or (_up(height, self._runner.multiple), _up(width, self._runner.multiple))
        room = ((0, goal[0] - height), (0, goal[1] - width))
        image = np.pad(part, (*room, (0, 0)), mode="symmetric").astype(np.float32) / np.float32(255)
        mask = np.pad(hole, room, mode="symmetric").astype(np.float32)
        drawn = self._runner.run(
            np.ascontiguousarray(image.transpose(2, 0, 1))[None], np.ascontiguousarray(mask)[None, None]
        )
        self._check_form(drawn, goal)
        seen = drawn[0, :, :height, :width].transpose(1, 2, 0) * (255 / self._white)
        return np.asarray(np.clip(np.nan_to_num(seen) + 0.5, 0, 255), dtype=np.uint8)

    def _white_of_its_answers(self) -> float:
        """1 or 255: what it gives for a grey picture with a small hole."""
        size = self._runner.fixed or (4 * self._runner.multiple, 4 * self._runner.multiple)
        image = np.full((1, 3, *size), 0.5, np.float32)
        mask = np.zeros((1, 1, *size), np.float32)
        mask[..., size[0] // 2 : size[0] // 2 + 2, size[1] // 2 : size[1] // 2 + 2] = 1
        drawn = self._runner.run(image * (1 - mask), mask)
        self._check_form(drawn, size)
        return 255.0 if float(np.median(drawn)) > 2 else 1.0

    def _check_form(self, drawn: Arrays, size: tuple[int, int]) -> None:
        if drawn.shape != (1, 3, *size):
            raise Unavailable(
                f"The model {self._name} gave {'x'.join(map(str, drawn.shape))} where a picture of "
                f"1x3x{size[0]}x{size[1]} was expected: it is no net that fills holes.",
                help=f"`darkroom models pull {self._name}` fetches the one that the catalogue means.",
            )


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
