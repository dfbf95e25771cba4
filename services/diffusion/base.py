"""What the services sdxl and controlnet are made of: operations go in, the engine's progress, previews and pictures
come out.

Both hold the same models and the same engine; they differ in what they do with controls.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar

import torch
from PIL import Image

from services import uploads
from services.diffusion.devices import look, plan
from services.diffusion.engine import Engine
from services.diffusion.geometry import Size
from services.diffusion.loras import Library
from services.diffusion.recipe import Recipe
from services.diffusion.recipes import Settled, settle
from services.diffusion.residents import Residents, first, offer
from services.diffusion.safety import refusing
from services.diffusion.tags import tagged
from services.diffusion.tickets import Item
from services.errors import BadInput, DarkroomError, Unavailable, UnknownModel
from services.models import ModelEntry
from services.operations import ControlInput, Diffusion, ImageToImage, Inpaint, Lora, TextToImage
from services.origin.parameters import parameters_text
from services.serving import Job, Models, Result, Service
from services.settings import DiffusionSettings


class DiffusionService(Service):
    capacity: ClassVar[int] = 8  # requests in the crowd; the gateway keeps the others in its line
    at_work: ClassVar[int] = 2  # the engine, and beside it those that read and write pictures
    generative: ClassVar[bool] = True

    residents: Residents
    engine: Engine
    library: Library

    def load(self, models: Models) -> None:
        torch.set_num_threads(self.threads)
        settings = DiffusionSettings.from_environment()
        safety = self.settings.safety
        if not offer(models, safety=safety):
            raise Unavailable(
                f"No model for {self.name} is in {models.folder}.",
                help="`darkroom models list` tells which there are, `darkroom models pull NAME` fetches one.",
            )
        self.residents = Residents(models, plan(settings, look(settings.device)), safety=safety)
        self.residents.release(self.residents.claim(first(models, settings.model)))
        self.library = Library(models)
        self.engine = Engine(self.residents, settings.batch_rows)

    def close(self) -> None:
        if hasattr(self, "engine"):
            self.engine.close()

    # ── operations ───────────────────────────────────────────────────────────────────────────────────────────

    def text_to_image(self, ask: TextToImage, job: Job) -> Iterator[Item]:
        return self.pictures(self.settle(ask, job), job)

    def image_to_image(self, ask: ImageToImage, job: Job) -> Iterator[Item]:
        return self.pictures(self.settle(ask, job), job)

    def inpaint(self, ask: Inpaint, job: Job) -> Iterator[Item]:
        return self.pictures(self.settle(ask, job), job)

    # ── what they share ──────────────────────────────────────────────────────────────────────────────────────

    def settle(self, ask: Diffusion, job: Job) -> Settled:
        entry = self.models[ask.model]
        ask = tagged(ask, self.library.entries())
        refiner = None if ask.refiner is None else self._refiner(ask.refiner, entry)
        return settle(ask, job.seed, entry, refiner, self.make_map, _lora_source)

    def pictures(self, settled: Settled, job: Job) -> Iterator[Item]:
        """What the engine tells of this request, its pictures as the caller gets them."""
        return refusing(self._pictures(settled, job))

    def make_map(self, control: ControlInput, size: Size, at: str) -> Image.Image:
        """The map that a control asks for; `at` is the control's path in the request."""
        raise BadInput(
            f"{self.name} follows no controls.",
            field="controls",
            help="Send it to the service controlnet; the gateway does so by itself.",
        )

    def _pictures(self, settled: Settled, job: Job) -> Iterator[Item]:
        index = 0
        for item in self.engine.run(settled.recipe, job):
            if isinstance(item, Result):
                text = parameters_text(
                    settled.recipe, index, seed=item.seed, lora_hashes=self._checksums(settled.recipe)
                )
                image = item.image if item.withheld else settled.answer(item.image)
                yield replace(item, image=image, parameters="" if item.withheld else text)
                index += 1
            else:
                yield item

    def _checksums(self, recipe: Recipe) -> dict[str, str]:
        """Of the LoRAs that have a name here; of an upload the recipe itself has it."""
        found = {}
        for use in recipe.loras:
            with suppress(DarkroomError, OSError):  # the file may have gone since it was read
                found[use.source] = self.library.checksum(use.source)
        return found

    def _refiner(self, name: str, first: ModelEntry) -> str:
        try:
            refiner = self.models[self.models.resolve(name)]
        except UnknownModel as error:
            error.field = "refiner"
            raise
        if first.family.partition("-")[0] != refiner.family.partition("-")[0]:
            raise BadInput(
                f"{refiner.name!r} cannot go on where {first.name!r} ends: they are of the families {refiner.family} "
                f"and {first.family}.",
                field="refiner",
                help="Ask for a refiner of the model's own family: GET /v1/models tells them.",
            )
        return refiner.name


def _lora_source(lora: Lora, at: int) -> str:
    """How a recipe names it: by its name in the catalogue, or by the digest of the file that came with the request."""
    if lora.file is not None:
        return uploads.source_of(lora.file.pixels)
    assert lora.name is not None  # the operation's own rule
    return lora.name
