"""The caption service: in comes a picture, out comes what it shows, as a sentence, a prompt and ranked phrases."""

from __future__ import annotations

from typing import Any

from services.bento import hosted
from services.caption.engines import Engine, engines
from services.images import flatten
from services.operations import Caption
from services.serving import Job, Models, Service


class CaptionService(Service):
    engines: dict[str, Engine]

    def load(self, models: Models) -> None:
        import torch

        torch.set_num_threads(self.threads)
        self.engines = engines(models, "cuda" if torch.cuda.is_available() else "cpu")
        for name in self.engines:
            models.loaded(name)

    def caption(self, ask: Caption, job: Job) -> dict[str, Any]:
        image = flatten(ask.image.pixels).convert("RGB")
        told = self.engines[ask.model].tell(image, ask.mode, ask.phrases, job.progress)
        return told | {"model": ask.model}


bento = hosted(CaptionService)
