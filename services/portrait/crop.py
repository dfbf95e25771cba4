"""What part of the photograph becomes the picture: in come a face and a size's rule, out comes a frame.

A frame is told in the face's own axes: the middle between the eyes is (0, 0), the eyes lie on the x axis, and the unit
is the photograph's pixel. So the rules speak of an upright head, however the photograph is turned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.portrait.faces import Face

INCH = 25.4  # millimetres
AVATAR = 512  # pixels a side

# a head in distances between its eyes, as anthropometry's averages have it (the distance is 63 mm, the head 220 to 230)
CROWN, CHIN = 1.78, 1.75
LEAST_CHIN, MOST_CHIN = 1.5, 2.0  # a mouth that laughs or speaks says less of the chin
HAIR = 0.3  # of the head's height: hair that stands further above the crown is cut off by the picture
ROOM, NECK = 0.03, 0.05  # of the picture's height: free above the hair; at least below the chin


@dataclass(frozen=True, slots=True)
class Rule:
    """A named size: its millimetres, and how the head lies in it, as shares of the picture's height."""

    width: float
    height: float
    head: float  # from chin to crown
    most: float  # what the head may be at most, where the photograph ends
    above: float  # free above the crown

    @property
    def least(self) -> float:
        return self.head - (self.most - self.head)


RULES = {
    "avatar": Rule(1, 1, head=0.54, most=0.66, above=0.15),
    "id-card": Rule(30, 40, head=0.62, most=0.72, above=0.13),
    "passport": Rule(35, 45, head=0.74, most=0.775, above=0.11),
    "student-card": Rule(25, 30, head=0.6, most=0.72, above=0.14),
}


@dataclass(frozen=True, slots=True)
class Head:
    """A head in its own axes: y grows downwards, so that its crown is above 0."""

    crown: float
    chin: float

    @property
    def height(self) -> float:
        return self.chin - self.crown

    @classmethod
    def of(cls, face: Face) -> Head:
        chin = min(MOST_CHIN, max(LEAST_CHIN, face.chin if face.chin is not None else CHIN))
        return cls(-CROWN * face.between, chin * face.between)


@dataclass(frozen=True, slots=True)
class Axes:
    """Where the face's own axes lie in the photograph."""

    x: float
    y: float
    angle: float  # degrees, clockwise

    @classmethod
    def of(cls, face: Face, *, level: bool) -> Axes:
        if face.eyes is None:
            return cls(face.middle[0], face.top + 0.37 * face.height, 0.0)
        (ax, ay), (bx, by) = face.eyes
        return cls((ax + bx) / 2, (ay + by) / 2, face.angle if level else 0.0)

    def to_own(self) -> NDArray[Any]:
        """The 3 x 3 matrix from the photograph's pixels to the face's axes."""
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1.0]])
        return np.asarray(turn @ np.array([[1, 0, -self.x], [0, 1, -self.y], [0, 0, 1.0]]))


@dataclass(frozen=True, slots=True)
class Frame:
    """A box in the face's axes, and the pixels that it becomes."""

    left: float
    top: float
    width: float
    height: float
    size: tuple[int, int]

    @property
    def scale(self) -> float:
        """Pixels out for a pixel in."""
        return self.size[1] / self.height

    @property
    def bottom(self) -> float:
        return self.top + self.height

    def matrix(self) -> NDArray[Any]:
        """The 3 x 3 matrix from the face's axes to the frame's pixels; it maps edges of pixels, not middles."""
        across, down = self.size[0] / self.width, self.size[1] / self.height
        return np.array([[across, 0, -self.left * across], [0, down, -self.top * down], [0, 0, 1.0]])

    def around(self, share: float, within: tuple[float, float, float, float]) -> Frame:
        """A frame with more around it, but not past `within` (left, top, right, bottom); of the same scale."""
        more = share * max(self.width, self.height)
        left, top = max(within[0], self.left - more), max(within[1], self.top - more)
        right = min(within[2], self.left + self.width + more)
        bottom = min(within[3], self.bottom + more)
        width, height = max(1.0, right - left), max(1.0, bottom - top)
        size = max(1, round(width * self.scale)), max(1, round(height * self.scale))
        return Frame(left, top, width, height, size)

    def shrunk(self, share: float) -> Frame:
        """The same box in fewer pixels."""
        size = max(1, round(self.size[0] * share)), max(1, round(self.size[1] * share))
        return replace(self, size=size)


def pixels(rule: Rule, side: int | None, dpi: int) -> tuple[int, int]:
    """The picture's size."""
    if rule.width == 1:
        return (side or AVATAR,) * 2
    return round(rule.width / INCH * dpi), round(rule.height / INCH * dpi)


def frame(rule: Rule, head: Head, size: tuple[int, int], ends: float) -> Frame:
    """The frame for a head; below `ends` the photograph has no pixels, so it is closer where that helps."""
    height = head.height / rule.head
    top = head.crown - rule.above * height
    if top + height > ends:
        height = max(head.height / rule.most, (ends - head.crown) / (1 - rule.above))
        top = head.crown - rule.above * height
    width = height * size[0] / size[1]
    return Frame(-width / 2, top, width, height, size)


def with_hair(rule: Rule, head: Head, found: Frame, hair: float, cut: bool) -> Frame:
    """The frame with room above the hair, whose top is at `hair`; `cut`: there the photograph itself ends."""
    if cut:
        return replace(found, top=max(found.top, hair)) if hair > found.top else found
    top = max(hair, head.crown - HAIR * head.height)
    if top - ROOM * found.height >= found.top:
        return found
    # a little smaller, as far as the rule lets the head shrink, then moved down
    height = min(head.height / rule.least, max(found.height, (found.bottom - top) / (1 - ROOM)))
    width = height * found.size[0] / found.size[1]
    top = max(top - ROOM * height, head.chin + NECK * height - height)
    return Frame(-width / 2, top, width, height, found.size)
