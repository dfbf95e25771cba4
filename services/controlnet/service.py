"""The service whose pictures follow edges and poses; it shows what it read from a picture, too.

It performs all that sdxl does, since any of its operations may come with controls: where memory is scarce, one
process of this service stands for both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from PIL import Image

from services.bento import hosted
from services.controlnet.preprocess import prepare_map, show
from services.controlnet.readers import Readers, load_readers
from services.diffusion.base import DiffusionService
from services.diffusion.geometry import Size
from services.diffusion.tickets import Item
from services.operations import Control, ControlInput, Operation, Preprocess
from services.serving import Job, Models, Result


class ControlnetService(DiffusionService):
    """Pictures that follow the edges or the pose of others."""

    readers: Readers

    def load(self, models: Models) -> None:
        super().load(models)
        self.readers = load_readers(models)
        for name in self.readers.names:
            models.loaded(name)

    def choose(self, ask: Operation) -> str:
        return self.readers.choose(ask) if isinstance(ask, Preprocess) else super().choose(ask)

    def control(self, ask: Control, job: Job) -> Iterator[Item]:
        """The pictures, and after them the maps that they follow."""
        settled = self.settle(ask, job)
        yield from self.pictures(settled, job)
        for control in settled.recipe.controls:
            yield Result(control.map, role="map")

    def preprocess(self, ask: Preprocess, job: Job) -> Iterator[Result | dict[str, Any]]:
        """The map, and what was read as data."""
        image, told = show(ask, self.readers)
        yield Result(image, role="map")
        yield told

    def make_map(self, control: ControlInput, size: Size, at: str) -> Image.Image:
        return prepare_map(control, size, self.readers, at)


bento = hosted(ControlnetService)
