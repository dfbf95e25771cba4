"""The studio: in come a photograph and what is wanted of it, out comes the portrait.

    photograph ─ face ─ frame ─┬─ mask (rmbg's engines) ────────────┐
                               └─ person ─ smooth ─ exposure, tone ─┴─ backdrop ─ portrait ─ sheet

All but the search for the face works at the portrait's size, not the photograph's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.errors import BadInput
from services.operations import Portrait
from services.portrait import crop, level, sheet, smooth, tone
from services.portrait.backdrop import backdrop
from services.portrait.crop import RULES, Axes, Frame, Head
from services.portrait.faces import Face, Finder, chosen
from services.portrait.skin import Features
from services.rmbg import compose
from services.rmbg.engines import Engine
from services.rmbg.foreground import pure

Step = Callable[[int, int], None]
Pixels = NDArray[Any]  # of uint8

STEPS = 4
AROUND = 0.3  # how much more than the frame is shown to the cutter, which judges by what is around
CUTTER_SIDE = 1280  # pixels a side that it is shown at most; its mask is soft anyway
FADE = 0.05  # of the frame's width
SEEN = 96  # a mask above this is the person
BEHIND = 0.02  # of the longer side: how softly a ground is gone on with, past the photograph


@dataclass(frozen=True, slots=True)
class Made:
    """A portrait, and how it was made."""

    image: Image.Image
    face: Face
    turned: float  # degrees
    head: float  # from chin to crown, as a share of the height


def portrait(ask: Portrait, finder: Finder, cutter: Engine | None, step: Step) -> Made:
    """One portrait; `ask.image` has been decoded."""
    photo: Image.Image = ask.image.pixels
    step(0, STEPS)
    face = chosen(finder.find(compose_on_white(photo)), ask.face, photo.size)
    axes, head, rule = Axes.of(face, level=ask.level), Head.of(face), RULES[ask.size]
    size = crop.pixels(rule, ask.side, ask.dpi)
    framed = crop.frame(rule, head, size, level.lowest(photo.size, axes))
    step(1, STEPS)
    mask = None
    if cutter is not None:
        around, seen = _cut(photo, axes, framed, cutter, ask.matting, step)
        hair = _hair(seen, around, head)
        if hair is not None:
            cut = hair <= around.top + 2 / around.scale and around.top > framed.top
            framed = crop.with_hair(rule, head, framed, hair, cut)
        mask = level.resampled(seen, around, framed)
        # who is cut off at the side fades there: pixels that go on sideways are streaks
        fade = np.clip(1 - level.beside(photo.size, axes, framed) / FADE, 0, 1)
        mask = np.asarray(mask * fade + 0.5, dtype=np.uint8)
    step(2, STEPS)
    person, alpha = _person(photo, axes, framed, mask)
    if mask is not None and alpha is not None:
        person = pure(person, alpha)
    features = _features(face, axes, framed)
    person = smooth.smoothed(person, ask.smooth, features)
    person = tone.graded(person, tone.strength(ask.tone), ask.exposure, features)
    step(3, STEPS)
    image = Image.fromarray(person)
    if alpha is not None:
        image = compose.cutout(image, Image.fromarray(alpha))
    if cutter is not None:
        image = _on(image, ask)
    image.info["dpi"] = (ask.dpi, ask.dpi)
    return Made(image, face, -axes.angle, head.height / framed.height)


def printed(ask: Portrait, image: Image.Image) -> Image.Image:
    """The sheet of it, if one was asked for."""
    if ask.sheet is None:
        return image
    whole = sheet.sheet(image, ask.sheet, ask.copies, ask.dpi)
    whole.info["dpi"] = (ask.dpi, ask.dpi)
    return whole


def compose_on_white(photo: Image.Image) -> Image.Image:
    """RGB, for who finds faces; a see-through photograph has no black ground."""
    return compose.on(photo, "white") if photo.mode == "RGBA" else photo


def _cut(
    photo: Image.Image, axes: Axes, framed: Frame, cutter: Engine, matting: bool, step: Step
) -> tuple[Frame, Pixels]:
    """The person's mask in a wider frame."""
    around = framed.around(AROUND, level.bounds(photo.size, axes))
    # a picture that is enlarged shows no more
    around = around.shrunk(min(1.0, CUTTER_SIDE / max(around.size), 1 / around.scale))
    shown = level.sampled(photo, axes, around)

    def check(*_: int) -> None:
        step(1, STEPS)

    mask = cutter.mask(shown, check)
    if matting:
        from services.rmbg.matting import matted  # compiles for a while when it is first needed

        mask = Image.fromarray(matted(np.asarray(shown.convert("RGB")), np.asarray(mask), check)[0])
    return around, np.asarray(compose.visible(shown, mask))


def _hair(mask: Pixels, of: Frame, head: Head) -> float | None:
    """How high the hair goes, in the face's axes: where the mask above the eyes ends."""
    scale = of.scale
    middle, reach = -of.left * scale, 0.5 * head.height * scale
    left, right = max(0, round(middle - reach)), max(1, round(middle + reach))
    rows = np.flatnonzero((mask[:, left:right] > SEEN).any(axis=1))
    return of.top + float(rows[0]) / scale if len(rows) else None


def _person(
    photo: Image.Image, axes: Axes, framed: Frame, mask: Pixels | None
) -> tuple[Pixels, Pixels | None]:
    """The frame's colours, and what is seen of them."""
    shown = level.sampled(photo, axes, framed)
    own = np.asarray(shown.getchannel("A")) if shown.mode == "RGBA" else None
    colours = np.asarray(shown.convert("RGB"))
    if mask is None:
        return _gone_on(colours, photo.size, axes, framed), own
    return colours, mask if own is None else np.minimum(mask, own)


def _gone_on(colours: Pixels, size: tuple[int, int], axes: Axes, framed: Frame) -> Pixels:
    """Past the photograph's border its ground goes on out of focus, rather than in streaks."""
    turn = framed.matrix() @ axes.to_own()
    inside = np.zeros(colours.shape[:2], np.uint8)
    width, height = size
    corners = turn @ np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], float).T
    cv2.fillConvexPoly(inside, np.round(corners[:2].T).astype(np.int32), 1)
    if inside.all() or not inside.any():
        return colours
    away = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
    soft = max(framed.size) * BEHIND
    near, far = (cv2.GaussianBlur(colours, (0, 0), soft * times) for times in (1, 4))
    share = np.clip(away / (4 * soft), 0, 1)[..., None]
    behind = near + share * (far.astype(np.float32) - near)
    edge = np.clip(away / soft, 0, 1)[..., None]
    return np.asarray(colours + edge * (behind - colours) + 0.5, dtype=np.uint8)


def _features(face: Face, axes: Axes, framed: Frame) -> Features:
    """The eyes in the frame's pixels."""
    if face.eyes is None:
        half = face.between / 2 * framed.scale
        x, y = -framed.left * framed.scale, -framed.top * framed.scale
        return Features((x - half, y), (x + half, y))
    turn = framed.matrix() @ axes.to_own()
    left, right = ((turn @ [x, y, 1.0])[:2].tolist() for x, y in face.eyes)
    return Features((left[0], left[1]), (right[0], right[1]))


def _on(person: Image.Image, ask: Portrait) -> Image.Image:
    behind = backdrop(person.size, ask.backdrop, ask.backdrop_to, ask.gradient)
    whole = Image.alpha_composite(behind, person.convert("RGBA"))
    return whole.convert("RGB") if whole.getchannel("A").getextrema()[0] == 255 else whole


def refuse_too_large(ask: Portrait, most: int) -> None:
    """A sheet's pixels are an answer's, which have a limit, too."""
    if ask.sheet is None:
        return
    wide, high = (side / crop.INCH * ask.dpi for side in sheet.PAPERS[ask.sheet])
    if wide * high > most:
        raise BadInput(
            f"{ask.sheet} at {ask.dpi} dpi is {wide:.0f} x {high:.0f} pixels; {most:,} in all are allowed.",
            field="dpi",
            help="Ask for a lower dpi or the smaller paper.",
        )
