"""What the studio's tests share: the astronaut, a finder, and portraits of any photograph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from services.operations import Portrait
from services.pictures import Picture
from services.portrait import studio
from services.portrait.cutters import Cutters
from services.portrait.haar import HaarFinder

Make = Callable[..., studio.Made]


@pytest.fixture(scope="session")
def astronaut(samples: Path) -> Image.Image:
    """By hand: her pupils are at (202.5, 100) and (246.5, 102.5), her chin at (226, 177), her hair's top at 16."""
    return Image.open(samples / "astronaut.jpg").convert("RGB")


@pytest.fixture(scope="session")
def finder() -> HaarFinder:
    return HaarFinder()


@pytest.fixture(scope="session")
def make(finder: HaarFinder, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`make(photo, size="passport", cutter="grabcut")`; nothing is cut out unless it is asked for."""
    cutters = Cutters(tmp_path_factory.mktemp("models"))

    def begin(photo: Image.Image, **fields: Any) -> studio.Made:
        ask = Portrait(image=Picture("part:image", photo), **({"cutter": "none"} | fields))
        return studio.portrait(ask, finder, cutters.engine(ask.cutter), lambda _done, _total: None)

    return begin
