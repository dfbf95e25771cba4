"""The rmbg service: in comes a picture, out comes its subject, cut out of its background."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from PIL import Image

from services.bento import hosted
from services.models import AUTO
from services.operations import Operation, RemoveBackground
from services.rmbg import compose
from services.rmbg.engines import Engines, engines
from services.rmbg.foreground import Colours, pure
from services.serving import Job, Models, Service


class RmbgService(Service):
    engines: Engines

    def load(self, models: Models) -> None:
        cv2.setNumThreads(self.threads)
        self.engines = engines(models, self.threads)

    def choose(self, ask: Operation) -> str:
        return self.engines.best() if ask.model == AUTO else super().choose(ask)

    def remove_background(self, ask: RemoveBackground, job: Job) -> Image.Image:
        image = ask.image.pixels
        mask = self.engines[ask.model].mask(image, job.progress)
        pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
        colours: Colours | None = None
        if ask.matting:
            from services.rmbg.matting import matted  # compiles for a while when it is first needed

            fine, colours = matted(pixels, np.asarray(mask), job.check)
            mask = Image.fromarray(fine)
        mask = compose.visible(image, mask)
        if ask.output == "mask":
            return mask.crop(compose.trim_box(mask)) if ask.trim else mask
        job.check()
        image = self._subject(pixels, mask, colours)
        box = compose.trim_box(mask) if ask.trim else None
        subject = compose.cutout(image, mask)
        subject = subject.crop(box) if box is not None else subject
        return subject if ask.background is None else compose.on(subject, ask.background)

    def _subject(self, pixels: Any, mask: Image.Image, colours: Colours | None) -> Image.Image:
        """Its own colours, at soft edges too."""
        return Image.fromarray(pure(pixels, np.asarray(mask), colours))


bento = hosted(RmbgService)
