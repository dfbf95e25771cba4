"""What a creature is: parts, from back to front, and its colours. All places are shares of the picture's side."""

from __future__ import annotations

from dataclasses import dataclass, field

Point = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Part:
    """A closed outline, or an open stroke. `tint` names its colour; without a rim it is not in the sketch."""

    points: tuple[Point, ...]
    tint: str
    rim: bool = True
    closed: bool = True
    shaded: bool = False
    clip: int | None = None  # the number of the part it lies on, past whose rim it does not go


@dataclass
class Creature:
    kind: str
    build: str
    pattern: str
    tints: dict[str, Colour]
    parts: list[Part] = field(default_factory=list)
    ground: tuple[float, float, float] = (0.5, 0.9, 0.2)  # its shadow: middle, height, half its width

    def add(self, *parts: Part) -> int:
        """Puts parts in front of all so far; the number of the last one is what others may be clipped to."""
        self.parts.extend(parts)
        return len(self.parts) - 1


@dataclass(frozen=True)
class Frame:
    """Where things grow: the head, the tail's root, and the back as points with the direction outwards."""

    head: Point
    head_size: Point
    tail: Point
    tail_angle: float
    back: tuple[tuple[Point, float], ...]
    torso: Point
    torso_size: Point
