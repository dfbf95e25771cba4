"""How much of a picture an engine gets to see: in come a picture, a mask and a plan, out comes the picture, filled.

As IOPaint's users know them: `original` shows the whole picture, `resize` the whole of it made smaller, `crop` each
piece of the mask with a margin around it. Whatever the engine gives, only pixels of the hole are written; all others,
and transparency, come back bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from services.cleanup.engines import Check, Engine, Sight
from services.cleanup.pieces import Box, Hole, Pixels, merged, overlap, pieces, union, with_room
from services.cleanup.scale import enlarged, longest, smaller
from services.errors import BadInput

Step = Callable[[int, int], None]
Strategy = Literal["auto", "original", "resize", "crop"]
THRESHOLD = 127
RESIZE_LIMIT = 1280  # as IOPaint's own
NEAR = 8  # pixels between two pieces, up to which they are filled as one
ROOM = 16  # the margin of an engine that has none of its own, beside a quarter of the piece


@dataclass(frozen=True, slots=True)
class Plan:
    strategy: Strategy = "auto"
    limit: int | None = None  # the longer side that the engine is shown at most
    margin: int | None = None
    grow: int = 0
    feather: int = 0


def erase(engine: Engine, image: Image.Image, mask: Image.Image, plan: Plan, step: Step) -> Image.Image:
    """The picture without what the mask covers; `step` is called with (done, total) and may raise to stop."""
    asked = np.asarray(mask) > THRESHOLD
    if not asked.any():
        step(1, 1)
        return image
    hole = grown(asked, plan.grow + plan.feather)
    _some_is_left(asked, hole)
    image = image if image.mode in ("RGB", "RGBA") else image.convert("RGB")
    canvas = np.array(image)
    if _strategy(engine.sight, canvas, plan) == "crop":
        _crop(engine, canvas[..., :3], hole, plan, step)
    else:
        _at_once(engine, canvas[..., :3], hole, plan, step)
    if plan.feather:
        _fade(canvas[..., :3], np.asarray(image)[..., :3], hole, plan.feather)
    return Image.fromarray(canvas)


def grown(hole: Hole, by: int) -> Hole:
    """The hole, wider by so many pixels on each side."""
    if by <= 0:
        return hole
    return np.asarray(cv2.distanceTransform((~hole).astype(np.uint8), cv2.DIST_L2, 5) <= by)


def _some_is_left(asked: Hole, hole: Hole) -> None:
    if asked.all():
        raise BadInput(
            "The mask covers the whole image: there is nothing left to fill it from.",
            field="mask",
            help="White is what is erased; leave some of the picture black. To make a new picture, see `inpaint`.",
        )
    if hole.all():
        raise BadInput(
            "Widened by grow and feather, the mask covers the whole image: there is nothing left to fill it from.",
            field="grow",
            help="Ask for a smaller grow or feather.",
        )


def _strategy(sight: Sight, canvas: Pixels, plan: Plan) -> Strategy:
    if plan.strategy != "auto":
        return plan.strategy
    return "original" if sight.side and longest(canvas) <= sight.side else "crop"


# ── all at once ───────────────────────────────────────────────────────────────────────────────────────────────


def _at_once(engine: Engine, canvas: Pixels, hole: Hole, plan: Plan, step: Step) -> None:
    """`original` and `resize`."""
    step(0, 1)
    limit = (plan.limit or RESIZE_LIMIT) if plan.strategy == "resize" else 0
    most = engine.sight.whole
    shown = canvas.shape[0] * canvas.shape[1] * min(1.0, (limit or longest(canvas)) / longest(canvas)) ** 2
    if most and shown > most:
        raise BadInput(
            f"This model takes at most {most:,} pixels at once; the picture would be shown to it with {shown:,.0f}.",
            field="limit" if limit else "strategy",
            help="Ask for the strategy crop, or for resize with a smaller limit.",
        )
    filled = _filled(engine, canvas, hole, limit, lambda: step(0, 1), whole=True)
    canvas[hole] = filled[hole]
    step(1, 1)


def _filled(
    engine: Engine, part: Pixels, hole: Hole, limit: int, check: Check, *, whole: bool = False
) -> Pixels:
    """The part, filled, at its own size or at no more than `limit` pixels."""
    if not limit or longest(part) <= limit:
        return engine.fill(part, hole, check, whole=whole)
    small, small_hole = smaller(part, hole, limit / longest(part))
    if small_hole.all():  # what was left of it is thinner than a pixel now
        return engine.fill(part, hole, check, whole=whole)
    return enlarged(engine.fill(small, small_hole, check, whole=whole), part)


# ── piece by piece ────────────────────────────────────────────────────────────────────────────────────────────


def _crop(engine: Engine, canvas: Pixels, hole: Hole, plan: Plan, step: Step) -> None:
    left = hole.copy()  # what is not filled yet: a piece sees what was filled before it
    size = canvas.shape[:2]
    sight = engine.sight
    parts = _parts(hole, sight, plan.margin)
    for done, (own, margin) in enumerate(parts):

        def check(done: int = done) -> None:
            step(done, len(parts))

        check()
        box = with_room(own, margin, (size[0], size[1]), sight.least)
        part, part_hole = canvas[_in(box)], left[_in(box)]
        mine = np.zeros_like(part_hole)
        mine[own[1] - box[1] : own[3] - box[1], own[0] - box[0] : own[2] - box[0]] = left[_in(own)]
        filled = _filled(engine, part, part_hole, plan.limit or 0, check)
        part[mine] = filled[mine]
        left[_in(own)] = False
    step(len(parts), len(parts))


def _parts(hole: Hole, sight: Sight, asked: int | None) -> list[tuple[Box, int]]:
    """The boxes to be filled one after the other, and the margin of each."""

    def margin(box: Box) -> int:
        if asked is not None:
            return asked
        return sight.margin or ROOM + max(box[2] - box[0], box[3] - box[1]) // 4

    def belong(one: Box, other: Box) -> bool:
        both = union(one, other)
        reach = max(both[2] - both[0], both[3] - both[1]) + 2 * margin(both)
        near = (other[0] - NEAR, other[1] - NEAR, other[2] + NEAR, other[3] + NEAR)
        return reach <= sight.side or overlap(one, near)

    return [(box, margin(box)) for box in merged(pieces(hole), belong)]


def _in(box: Box) -> tuple[slice, slice]:
    return slice(box[1], box[3]), slice(box[0], box[2])


def _fade(canvas: Pixels, before: Pixels, hole: Hole, feather: int) -> None:
    """At the hole's rim, over `feather` pixels, the fill goes over into what was there."""
    depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 5)
    rim = hole & (depth <= feather)
    share = (depth[rim] / (feather + 1))[:, None]
    mixed = before[rim] * (1 - share) + canvas[rim] * share
    canvas[rim] = (mixed + 0.5).astype(np.uint8)
