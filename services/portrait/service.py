"""The portrait service: in comes a photograph of a person, out comes a studio's picture of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2

from services.bento import hosted
from services.operations import Portrait
from services.portrait import studio
from services.portrait.cutters import Cutters
from services.portrait.faces import Finder
from services.portrait.finders import finders
from services.serving import Job, Models, Result, Service


class PortraitService(Service):
    finders: dict[str, Finder]
    cutters: Cutters

    def load(self, models: Models) -> None:
        cv2.setNumThreads(self.threads)
        self.cutters = Cutters(models.folder, self.threads)
        self.finders = finders(models)

    def portrait(self, ask: Portrait, job: Job) -> Iterator[Any]:
        paper = studio.layout(ask, self.settings.max_pixels)
        cutter = self.cutters.engine(ask.cutter)
        made = studio.portrait(ask, self.finders[ask.model], cutter, job.progress)
        yield Result(made.image if paper is None else studio.printed(ask, made.image, paper))
        yield {
            "model": ask.model,
            "face": made.face.told(),
            "turned": round(made.turned, 2),
            "head": round(made.head, 4),
        }


bento = hosted(PortraitService)
