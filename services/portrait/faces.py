"""Whose portrait it is: in come the faces that a finder saw, out comes the one that was meant, or a clear refusal.

Points are (x, y) in the photograph's pixels. The eyes are named as the viewer sees them: left is left in the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from PIL import Image

from services.errors import BadInput

Point = tuple[float, float]

LEAST_EYES = 14.0  # pixels between the eyes: with fewer a portrait is a blur
BYSTANDER = 0.4  # a face below this share of the largest stands in the background, and is nobody's portrait
EYES_TO_BOX = 0.47  # of a finder's box: how far apart the eyes are
LARGER = "Send a larger photograph, or one in which the face fills more of the picture."


@dataclass(frozen=True, slots=True)
class Face:
    """A face: its box, and its eyes where they were seen."""

    left: float
    top: float
    width: float
    height: float
    eyes: tuple[Point, Point] | None = None
    chin: float | None = None  # how far below the eyes' line it is, in distances between the eyes

    @property
    def middle(self) -> Point:
        return self.left + self.width / 2, self.top + self.height / 2

    @property
    def between(self) -> float:
        """Pixels between the eyes."""
        return math.dist(*self.eyes) if self.eyes else self.width * EYES_TO_BOX

    @property
    def angle(self) -> float:
        """Degrees by which the face is turned clockwise; 0 where its eyes were not seen."""
        if self.eyes is None:
            return 0.0
        (left, upper), (right, lower) = self.eyes
        return math.degrees(math.atan2(lower - upper, right - left))

    def told(self) -> dict[str, int]:
        """Its box, for a person."""
        return {name: round(getattr(self, name)) for name in ("left", "top", "width", "height")}


class Finder(Protocol):
    """What every finder is; it may be called from several threads."""

    def find(self, image: Image.Image) -> list[Face]: ...


def chosen(faces: list[Face], which: Literal["only", "largest"] | int, size: tuple[int, int]) -> Face:
    """The face that is meant, large enough for a portrait."""
    largest = max((face.width for face in faces), default=0.0)
    near = sorted((face for face in faces if face.width >= BYSTANDER * largest), key=lambda face: face.left)
    if not near:
        raise BadInput(
            f"No face was found in the picture of {size[0]} x {size[1]} pixels.",
            field="image",
            help="Send a photograph in which one face is seen from the front, upright, and not too small or dark.",
            faces=[],
        )
    if which == "only" and len(near) > 1:
        raise BadInput(
            f"There are {len(near)} faces in the picture: {_listed(near)}.",
            field="image",
            help="Send a photograph of one person, or choose with `face`: largest, or a number from the left, from 0.",
            faces=[face.told() for face in near],
        )
    if isinstance(which, int) and which >= len(near):
        raise BadInput(
            f"There is no face {which}; there {_are(len(near))} in the picture: {_listed(near)}.",
            field="face",
            help="Leave `face` out, or ask for 0."
            if len(near) == 1
            else f"Ask for a number from 0 to {len(near) - 1}, counted from the left, or for largest.",
            faces=[face.told() for face in near],
        )
    face = near[which] if isinstance(which, int) else max(near, key=lambda one: one.width)
    if face.between < LEAST_EYES:
        raise BadInput(
            f"The face is too small for a portrait: {_box(face)}, with {face.between:.0f} pixels between the eyes; "
            f"{LEAST_EYES:.0f} are needed.",
            field="image",
            help=LARGER,
            faces=[one.told() for one in near],
        )
    return face


def _are(count: int) -> str:
    return "is one" if count == 1 else f"are {count}"


def _listed(faces: list[Face]) -> str:
    shown = "; ".join(f"{at}: {_box(face)}" for at, face in enumerate(faces[:10]))
    return shown if len(faces) <= 10 else f"{shown}; and {len(faces) - 10} more"


def _box(face: Face) -> str:
    told: dict[str, Any] = face.told()
    return f"{told['width']} x {told['height']} pixels at ({told['left']}, {told['top']})"
