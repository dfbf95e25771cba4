"""AUTOMATIC1111's samplers and schedulers and ours: in go the two names of theirs, out comes one of ours.

There the spacing of the noise levels is a name of its own; here it is part of the sampler's. "Automatic" is Karras'
spacing where a sampler has it, as on that page; of other spacings the sampler's plain one stands in.
"""

from __future__ import annotations

from typing import Any

from services.errors import BadInput, NotFound
from services.samplers import SAMPLERS, SPELLINGS, sampler_named

KARRAS = "-karras"
SCHEDULERS = {"automatic": "Automatic", "uniform": "Uniform", "karras": "Karras"}


def sampler(name: Any, scheduler: Any) -> str | None:
    """None where neither was named: the model's own."""
    if name is None or name == "":
        return None
    if not isinstance(name, str):
        raise BadInput("sampler_name is a name.", field="sampler_name")
    if scheduler is not None and not isinstance(scheduler, str):
        raise BadInput("scheduler is a name.", field="scheduler")
    found = sampler_named(name[:80])
    if found not in SAMPLERS:
        raise NotFound("Sampler not found", help=f"There are: {', '.join(SPELLINGS.values())}.")
    spaced = found + KARRAS in SAMPLERS
    return found + KARRAS if spaced and (scheduler or "automatic").strip().lower() in _WITH_KARRAS else found


_WITH_KARRAS = ("", "automatic", "karras")


def listed() -> list[dict[str, Any]]:
    """As `/sdapi/v1/samplers` lists them."""
    return [
        {
            "name": spelling,
            "aliases": [name],
            "options": {"scheduler": "karras"} if name.endswith(KARRAS) else {},
        }
        for name, spelling in SPELLINGS.items()
    ]


def schedulers() -> list[dict[str, Any]]:
    return [
        {"name": name, "label": label, "aliases": None, "default_rho": -1.0, "need_inner_model": False}
        for name, label in SCHEDULERS.items()
    ]
