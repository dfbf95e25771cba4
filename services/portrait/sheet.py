"""Several on one sheet to print: in comes a picture, out comes paper with copies of it and marks to cut along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw

from services.errors import BadInput
from services.images import flatten
from services.portrait.crop import INCH

PAPERS = {"10x15": (100.0, 150.0), "a4": (210.0, 297.0)}  # millimetres
MARGIN, GAP = 1.5, 2.0  # at the paper's edge, and between two pictures: so eight passports lie on 10 x 15 cm
MARK, AWAY = 1.2, 0.15  # a mark's length, and how far from the picture it begins
INK = (120, 120, 120)


@dataclass(frozen=True, slots=True)
class Layout:
    """How many lie beside and above each other, on paper of `size` pixels."""

    size: tuple[int, int]
    columns: int
    rows: int

    @property
    def count(self) -> int:
        return self.columns * self.rows


def laid_out(paper: Literal["10x15", "a4"], size: tuple[int, int], dpi: int) -> Layout:
    """The paper upright or across, whichever holds more."""
    short, long = (round(side / INCH * dpi) for side in PAPERS[paper])
    margin, gap = MARGIN / INCH * dpi, GAP / INCH * dpi
    found = []
    for width, height in ((short, long), (long, short)):
        columns = max(0, int((width - 2 * margin + gap) // (size[0] + gap)))
        rows = max(0, int((height - 2 * margin + gap) // (size[1] + gap)))
        found.append(Layout((width, height), columns, rows))
    return max(found, key=lambda layout: layout.count)


def sheet(picture: Image.Image, paper: Literal["10x15", "a4"], copies: int | None, dpi: int) -> Image.Image:
    """As many as fit, or as were asked for, from the upper left on; a see-through one is laid on white."""
    layout = laid_out(paper, picture.size, dpi)
    if layout.count == 0:
        wide, high = (side * INCH / dpi for side in picture.size)
        raise BadInput(
            f"A picture of {wide:.0f} x {high:.0f} mm does not fit on {paper}.",
            field="side",
            help="Ask for a smaller side, a higher dpi, or the other paper.",
        )
    if copies is not None and copies > layout.count:
        raise BadInput(
            f"{copies} copies do not fit on {paper}; {layout.count} do.",
            field="copies",
            help=f"Ask for at most {layout.count}, or for the larger paper.",
        )
    whole = Image.new("RGB", layout.size, (255, 255, 255))
    draw, solid = ImageDraw.Draw(whole), flatten(picture)
    gap = GAP / INCH * dpi
    used_wide = layout.columns * picture.width + (layout.columns - 1) * gap
    used_high = layout.rows * picture.height + (layout.rows - 1) * gap
    start = (layout.size[0] - used_wide) / 2, (layout.size[1] - used_high) / 2
    for at in range(copies or layout.count):
        column, row = at % layout.columns, at // layout.columns
        left = round(start[0] + column * (picture.width + gap))
        top = round(start[1] + row * (picture.height + gap))
        whole.paste(solid, (left, top))
        _marks(draw, (left, top, left + picture.width, top + picture.height), dpi)
    return whole


def _marks(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], dpi: int) -> None:
    """Two short lines away from each corner, along the cuts; they lie outside the picture."""
    long, away, thick = (max(1, round(value / INCH * dpi)) for value in (MARK, AWAY, 0.1))
    left, top, right, bottom = box
    for x in (left, right - 1):
        draw.line((x, top - away - long, x, top - away - 1), INK, thick)
        draw.line((x, bottom + away, x, bottom + away + long - 1), INK, thick)
    for y in (top, bottom - 1):
        draw.line((left - away - long, y, left - away - 1, y), INK, thick)
        draw.line((right + away, y, right + away + long - 1, y), INK, thick)
