"""The service that makes pictures from words, anew from a picture, and inside of a mask."""

from __future__ import annotations

from services.bento import hosted
from services.diffusion.base import DiffusionService


class SdxlService(DiffusionService):
    """Pictures from words and from other pictures."""


bento = hosted(SdxlService)
