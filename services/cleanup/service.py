"""The cleanup service: in come a picture and a mask, out comes the picture without what the mask covers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
from PIL import Image

from services.bento import hosted
from services.cleanup.engines.iopaint import IOPaintEngine
from services.cleanup.engines.shelf import Engines
from services.cleanup.strategies import Plan, erase
from services.models import AUTO
from services.operations import Cleanup, Operation
from services.serving import Job, Models, Service
from services.settings import CleanupSettings


class CleanupService(Service):
    engines: Engines

    def load(self, models: Models) -> None:
        cv2.setNumThreads(self.threads)
        self.engines = Engines(models, CleanupSettings.from_environment(), self.threads)

    def close(self) -> None:
        if hasattr(self, "engines"):  # a load that failed made none
            self.engines.close()

    def choose(self, ask: Operation) -> str:
        """`auto` takes the best on this disk, loaded or not, so that a LaMa that was fetched is used."""
        if ask.model != AUTO:
            return self.models.resolve(ask.model)
        return self.engines.best()

    def cleanup(self, ask: Cleanup, job: Job) -> Iterator[Image.Image | dict[str, Any]]:
        engine = self.engines[ask.model]
        plan = Plan(ask.strategy, ask.limit, ask.margin, ask.grow, ask.feather)
        yield erase(engine, ask.image.pixels, ask.mask.pixels, plan, job.progress)
        if isinstance(engine, IOPaintEngine):
            yield {"iopaint_model": engine.held}


bento = hosted(CleanupService)
