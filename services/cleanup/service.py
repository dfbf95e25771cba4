"""The cleanup service: in come a picture and a mask, out comes the picture without what the mask covers."""

from __future__ import annotations

import cv2
from PIL import Image

from services.bento import hosted
from services.cleanup.engines import Engine, engines
from services.operations import Cleanup
from services.serving import Job, Models, Service


class CleanupService(Service):
    engines: dict[str, Engine]

    def load(self, models: Models) -> None:
        cv2.setNumThreads(self.threads)
        self.engines = engines()
        for name in self.engines:
            models.loaded(name)

    def cleanup(self, ask: Cleanup, job: Job) -> Image.Image:
        return self.engines[ask.model].erase(ask.image.pixels, ask.mask.pixels, job.progress)


bento = hosted(CleanupService)
