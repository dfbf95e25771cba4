"""The micro family's pose detector as a reader: it knows the plain figures of its own world, not photographs."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from services.micro.pose import detect, load
from services.poses import Person, Point

# A figure's points are sure on the average to 0.84 or more; what the net sees in a photograph's shapes, to 0.42
SURE = 0.65


class MicroReader:
    hands = face = False

    def __init__(self, folder: Path) -> None:
        self._net = load(folder)

    def read(self, image: Image.Image, *, hands: bool, face: bool) -> list[Person]:
        found = [points for points in detect(image.convert("RGB"), self._net) if _sureness(points) >= SURE]
        found.sort(key=_sureness, reverse=True)
        return [Person(body=points) for points in found]


def _sureness(points: list[Point]) -> float:
    return sum(point[2] for point in points) / len(points)
