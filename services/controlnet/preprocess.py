"""From a control to its map: in come a picture or keypoints, out comes the RGB map that a ControlNet follows.

The map has the result's size. A picture of another form is scaled until it covers that size, and what juts out is cut
off evenly, so that nothing is squeezed; keypoints go the same way. Nobody in the picture is an error and not a black
map: a net that is shown a black map paints anything, and nobody would know why.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from services.controlnet.canny import edges, thresholds
from services.controlnet.drawing import draw
from services.controlnet.geometry import Size, fit_picture, fit_poses
from services.controlnet.readers import Readers
from services.errors import BadInput, TooLarge
from services.images import flatten
from services.models import AUTO
from services.operations import ControlInput, Preprocess, Reading
from services.poses import Person, Point, Poses

MOST_PIXELS = 4096 * 4096  # of a canvas that keypoints ask for
MOST_PEOPLE = 16


def prepare_map(control: ControlInput, size: Size, readers: Readers, at: str = "") -> Image.Image:
    """The map (RGB) of exactly that size; `at` is the control's path in the request, for errors: `controls.0`."""
    at = f"{at}." if at else ""
    if control.keypoints is not None:
        poses = control.keypoints
        return _drawn(poses, _canvas(poses, size, at), size, f"{at}keypoints")
    assert control.image is not None  # the operation's own rule
    image = flatten(control.image.pixels).convert("RGB")
    if control.kind == "canny-map":
        return _edge_map(image, size)
    if control.kind == "openpose-map":
        return fit_picture(image, size, Image.Resampling.BICUBIC)
    if control.kind == "canny":
        return edges(fit_picture(image, size, Image.Resampling.LANCZOS), control.low, control.high)
    poses = _read(control, image, readers, AUTO, at)
    return _drawn(poses, image.size, size, f"{at}image")


def show(ask: Preprocess, readers: Readers) -> tuple[Image.Image, dict[str, Any]]:
    """The map at the picture's own size, and what was read: canny's thresholds, or the pose as `keypoints` take it."""
    if ask.keypoints is not None:
        if ask.kind != "openpose":
            raise BadInput("Keypoints are a pose: kind must be openpose.", field="kind")
        poses = ask.keypoints
        canvas = _canvas(poses, None, "")
        return _drawn(poses, canvas, canvas, "keypoints"), _told(ask, poses)
    assert ask.image is not None  # the operation's own rule
    image = flatten(ask.image.pixels).convert("RGB")
    if ask.kind == "canny":
        low, high = thresholds(image, ask.low, ask.high)
        return edges(image, low, high), {"kind": "canny", "low": low, "high": high}
    poses = _read(ask, image, readers, ask.model, "")
    return _drawn(poses, image.size, image.size, "image"), _told(ask, poses)


def _told(ask: Preprocess, poses: Poses) -> dict[str, Any]:
    return {
        "kind": ask.kind,
        "model": ask.model,
        "keypoints": poses.model_dump(mode="json", exclude_none=True),
    }


# ── poses ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _read(reading: Reading, image: Image.Image, readers: Readers, model: str, at: str) -> Poses:
    reader = readers.pose(model, hands=reading.hands, face=reading.face, at=at)
    people = reader.read(image, hands=reading.hands, face=reading.face)
    if not people:
        raise BadInput(
            "No person was found in this picture.",
            field=f"{at}image",
            help="Send a picture that shows a person from head to hips, or the pose itself as `keypoints`.",
        )
    return Poses(people=people[:MOST_PEOPLE], width=image.width, height=image.height)


def _canvas(poses: Poses, otherwise: Size | None, at: str) -> Size:
    """The canvas that the points are pixels of."""
    if poses.width is not None and poses.height is not None:
        if otherwise is None and poses.width * poses.height > MOST_PIXELS:
            raise TooLarge(
                f"A canvas of {poses.width} x {poses.height} pixels is too large; {MOST_PIXELS:,} are allowed.",
                field=f"{at}keypoints.width",
            )
        return poses.width, poses.height
    missing = "width" if poses.width is None else "height"
    if otherwise is None or (poses.width, poses.height) != (None, None):
        raise BadInput(
            "The keypoints do not say how large their canvas is.",
            field=f"{at}keypoints.{missing}",
            help="Give `width` and `height` beside `people`, in pixels.",
        )
    return otherwise


def _drawn(poses: Poses, canvas: Size, size: Size, field: str) -> Image.Image:
    fitted = fit_poses(poses, canvas, size)
    if not any(_inside(point, size) for person in fitted.people for point in _points(person)):
        raise BadInput(
            "No point of the pose can be seen.",
            field=field,
            help="A point is seen where its confidence is above 0 and it lies within the picture.",
        )
    return draw(fitted, size)


def _points(person: Person) -> list[Point]:
    return [point for _, points in person for point in points or []]


def _inside(point: Point, size: Size) -> bool:
    return point[2] > 0 and 0 <= point[0] < size[0] and 0 <= point[1] < size[1]


# ── pictures ──────────────────────────────────────────────────────────────────────────────────────────────────


def _edge_map(image: Image.Image, size: Size) -> Image.Image:
    """A map of lines one pixel wide: enlarged without blur; made smaller, each line keeps its light, so that none
    gets lost between two pixels, and black and white stay so."""
    scale = min(image.width / size[0], image.height / size[1])
    if scale <= 1:
        return fit_picture(image, size, Image.Resampling.NEAREST)
    pixels = np.asarray(fit_picture(image, size, Image.Resampling.BOX), np.float32) * scale
    if _is_black_and_white(image):
        pixels = np.where(pixels > 100, 255.0, 0.0)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _is_black_and_white(image: Image.Image) -> bool:
    levels = np.asarray(image.convert("L").histogram(), np.int64)
    return bool(levels[32:224].sum() < levels.sum() * 0.01)
