"""The finders by their models' names: in goes the catalogue, out come those that can be asked for."""

from __future__ import annotations

from services.models import Models
from services.portrait.faces import Finder
from services.portrait.haar import HaarFinder
from services.portrait.yunet import FILE, YunetFinder


def finders(models: Models) -> dict[str, Finder]:
    """The cascades, and YuNet where its file is there; a file that is not the catalogue's stops the start."""
    found: dict[str, Finder] = {"haar": HaarFinder()}
    if models.present(models["yunet"]):
        found["yunet"] = YunetFinder(models.path("yunet", FILE))
    for name in found:
        models.loaded(name)
    return found
