"""How pictures and poses come to another size: scaled until they cover it, what juts out cut off evenly."""

from __future__ import annotations

from PIL import Image, ImageOps

from services.poses import Person, Point, Poses

Size = tuple[int, int]  # width, height


def fit_picture(image: Image.Image, size: Size, how: Image.Resampling) -> Image.Image:
    return image if image.size == size else ImageOps.fit(image, size, how)


def fit_poses(poses: Poses, canvas: Size, size: Size) -> Poses:
    """The same people on a canvas of another size."""
    scale = max(size[0] / canvas[0], size[1] / canvas[1])
    left, top = (size[0] - canvas[0] * scale) / 2, (size[1] - canvas[1] * scale) / 2
    people = [moved(person, (scale, scale), (left, top)) for person in poses.people]
    return Poses.model_construct(people=people, width=size[0], height=size[1])


def moved(person: Person, scale: tuple[float, float], by: tuple[float, float] = (0.0, 0.0)) -> Person:
    def points(given: list[Point] | None) -> list[Point] | None:
        return given and [(x * scale[0] + by[0], y * scale[1] + by[1], seen) for x, y, seen in given]

    return person.model_copy(update={name: points(given) for name, given in person})
