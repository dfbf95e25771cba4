"""Drawings of runs."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tf_serving.pix2pix import plots


def test_panels_are_drawn_with_and_without_points(tmp_path: Path) -> None:
    line = [(0.0, 1.0), (10.0, 0.5)]
    plots.panels({"one": {"a": line, "b": []}, "none": {}}, tmp_path / "x.png")
    plots.panels({"one": {"a": []}}, tmp_path / "y.png", dots=True)
    with Image.open(tmp_path / "x.png") as wide, Image.open(tmp_path / "y.png") as narrow:
        assert wide.width == 2 * narrow.width
        assert len(wide.convert("RGB").getcolors(1 << 20)) > 2


def test_a_sheet_holds_its_pictures_in_rows(tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (10, 8), "red"), Image.new("RGB", (10, 8), "blue")
    made = plots.sheet([[red, blue], [blue]], gap=2)
    assert made.size == (2 * 12 + 2, 2 * 10 + 2)
    assert made.getpixel((3, 3)) == (255, 0, 0) and made.getpixel((15, 3)) == (0, 0, 255)
