"""What every engine of this service is: in comes a picture, out comes its subject's mask, soft at the edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from PIL import Image

Step = Callable[[int, int], None]


class Engine(Protocol):
    """`step` is called with (done, total) and may raise to stop; the mask (L) has the picture's size."""

    def mask(self, image: Image.Image, step: Step) -> Image.Image: ...
