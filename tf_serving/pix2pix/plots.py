"""Drawings of what happened: numbers in, PNGs out. Lines over steps, dots over trials, sheets of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

Series = dict[str, list[tuple[float, float]]]


def panels(content: dict[str, Series], path: Path, across: str = "step", dots: bool = False) -> None:
    """One panel for each name, side by side, each with its own scale and legend."""
    figure = Figure(figsize=(4 * len(content), 3), layout="constrained")
    for place, (title, series) in enumerate(content.items(), 1):
        axes = figure.add_subplot(1, len(content), place, title=title, xlabel=across)
        for name, points in series.items():
            axes.plot(*zip(*points, strict=True), "o" if dots else "-", label=name) if points else None
        axes.grid(alpha=0.3)
        if any(series.values()):
            axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def sheet(rows: Sequence[Sequence[Image.Image]], path: Path | None = None, gap: int = 4) -> Image.Image:
    """Pictures of one size in rows."""
    width, height = rows[0][0].size
    across = max(len(row) for row in rows)
    canvas = Image.new("RGB", (across * (width + gap) + gap, len(rows) * (height + gap) + gap), "#e8e8ec")
    for y, row in enumerate(rows):
        for x, one in enumerate(row):
            canvas.paste(one, (gap + x * (width + gap), gap + y * (height + gap)))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        canvas.save(path)
    return canvas


def animation(frames: Sequence[Path], path: Path, milliseconds: int = 350) -> None:
    """Sheets one after the other as an animated WebP, the last one for longer."""
    pictures = [Image.open(frame).convert("RGB") for frame in frames]
    if pictures:
        times = [milliseconds] * (len(pictures) - 1) + [6 * milliseconds]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=times, loop=0, quality=80)
