"""The micro family's pose detector as a reader: it knows the plain figures of its own world, not photographs."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from services.micro.pose import detect, load
from services.poses import Person

LEAST_POINTS = 9  # half of a figure: fewer are a shape that looks like a neck


class MicroReader:
    hands = face = False

    def __init__(self, folder: Path) -> None:
        self._net = load(folder)

    def read(self, image: Image.Image, *, hands: bool, face: bool) -> list[Person]:
        found = [
            points
            for points in detect(image.convert("RGB"), self._net)
            if sum(point[2] > 0 for point in points) >= LEAST_POINTS
        ]
        found.sort(key=lambda points: -sum(point[2] for point in points))
        return [Person(body=points) for points in found]
