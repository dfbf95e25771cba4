"""Engines that say what a picture shows: in comes a picture, out come a sentence, a prompt and ranked phrases.

`micro` is the micro family's CLIP; `interrogator` is BLIP with a CLIP of any size, where both are on disk. Torch and
transformers are imported when an engine is made, so that the service's own process starts at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from PIL import Image

from services.errors import Unavailable
from services.models import ModelEntry, Models

Step = Callable[[int, int], None]
NARRATOR = "blip"  # the part of a model that writes the sentence


class Engine(Protocol):
    """What every engine of this service is; `step` is called with (done, total) and may raise to stop."""

    def tell(self, image: Image.Image, mode: str, phrases: int, step: Step) -> dict[str, Any]:
        """`caption`, `prompt`, and `ranked`: phrases and their scores by kind, the best first."""


def engines(models: Models, device: str = "cpu") -> dict[str, Engine]:
    """Those whose files are on disk, by their model's name; a damaged file stops the load."""
    made: dict[str, Engine] = {}
    for entry in models:
        if entry.engine == "micro-clip":
            made[entry.name] = _checked(_micro, entry, models, device)
        elif entry.engine == "interrogator" and _on_disk(entry, models):
            made[entry.name] = _checked(_interrogator, entry, models, device)
    return made


def _on_disk(entry: ModelEntry, models: Models) -> bool:
    needed = [entry, models.entry(entry.parts[NARRATOR])]
    return all(models.shelf.present(models.place(part)) for part in needed)


def _checked(make: Callable[..., Engine], entry: ModelEntry, models: Models, device: str) -> Engine:
    for part in (entry, *map(models.entry, entry.parts.values())):
        models.shelf.check(part.name, models.place(part))
    try:
        return make(entry, models, device)
    except (OSError, ValueError, KeyError) as error:
        raise Unavailable(
            f"The model {entry.name} cannot be loaded from {models.place(entry)}: {str(error)[:300]}",
            help=f"`darkroom models verify {entry.name}` looks at its files, `darkroom models pull {entry.name}` "
            "fetches them anew.",
        ) from error


def _micro(entry: ModelEntry, models: Models, device: str) -> Engine:
    from services.caption.clip import Clip
    from services.caption.micro import MicroCaptioner

    return MicroCaptioner(Clip.load(models.place(entry), device))


def _interrogator(entry: ModelEntry, models: Models, device: str) -> Engine:
    from services.caption.blip import Blip
    from services.caption.clip import Clip
    from services.caption.interrogator import Interrogator
    from services.caption.tables import tables

    place = models.place(entry)
    clip = Clip.load(place, device)
    blip = Blip.load(models.place(models.entry(entry.parts[NARRATOR])), device)
    return Interrogator(clip, blip, tables(clip, place))
