"""The rmbg service: in comes a picture, out comes its subject, cut out of its background."""

from __future__ import annotations

import cv2
from PIL import Image

from services.bento import hosted
from services.operations import RemoveBackground
from services.rmbg import compose
from services.rmbg.engines import Engine, engines
from services.serving import Job, Models, Service


class RmbgService(Service):
    engines: dict[str, Engine]

    def load(self, models: Models) -> None:
        cv2.setNumThreads(self.threads)
        self.engines = engines()
        for name in self.engines:
            models.loaded(name)

    def remove_background(self, ask: RemoveBackground, job: Job) -> Image.Image:
        image = ask.image.pixels
        mask = compose.visible(image, self.engines[ask.model].mask(image, job.progress))
        box = compose.trim_box(mask) if ask.trim else None
        if box is not None:
            image, mask = image.crop(box), mask.crop(box)
        if ask.output == "mask":
            return mask
        subject = compose.cutout(image, mask)
        return subject if ask.background is None else compose.on(subject, ask.background)


bento = hosted(RmbgService)
