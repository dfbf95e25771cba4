"""The options that an AUTOMATIC1111 server keeps, and that a request's `override_settings` names: in go its options,
out come parameters of ours. Each key has its own, in this gateway's memory.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from gateway.doors import offered
from gateway.state import GatewayState
from services.errors import BadInput, UnknownModel

REMEMBERED = 1000  # keys whose options are kept
AUTO = "auto"
_FORMATS = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"}
# what the original has where nobody chose
_USUAL: dict[str, Any] = {
    "CLIP_stop_at_last_layers": 1,
    "samples_format": "png",
    "jpeg_quality": 80,
    "webp_lossless": False,
    "show_progress_every_n_steps": 5,
}
_NUMBERS = {
    "CLIP_stop_at_last_layers": (1, 12),
    "jpeg_quality": (1, 100),
    "show_progress_every_n_steps": (-1, 50),
}
# as that page writes a checkpoint: name.safetensors [6ce0161689]
_CHECKPOINT = re.compile(r"(.*?)(\.safetensors|\.ckpt|\.pt)?(\s*\[[0-9A-Fa-f]*\])?\s*\Z", re.DOTALL)


class Options:
    def __init__(self, state: GatewayState) -> None:
        self._state = state
        self._kept: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def keep(self, key_id: str, given: Mapping[str, Any]) -> None:
        """Options that say nothing here are let go, as the original does with those that it does not know."""
        self._kept[key_id] = self._kept.get(key_id, {}) | self._checked(given)
        self._kept.move_to_end(key_id)
        while len(self._kept) > REMEMBERED:
            self._kept.popitem(last=False)

    def of(self, key_id: str, override: Mapping[str, Any]) -> dict[str, Any]:
        """What holds for one request."""
        return self._kept.get(key_id, {}) | self._checked(override)

    def shown(self, key_id: str) -> dict[str, Any]:
        chosen = _USUAL | self.of(key_id, {})
        name = chosen.get("sd_model_checkpoint", AUTO)
        best = offered.model(self._state, "sdxl", AUTO).get("name", "") if name == AUTO else name
        return {**chosen, "sd_model_checkpoint": best, "sd_checkpoint_hash": "", "sd_vae": "Automatic"}

    def checkpoint(self, given: Any, field: str) -> str:
        """A model's name here, from any of the ways in which that page's clients write one."""
        if given is None or given in ("", "None", AUTO):
            return AUTO
        match = _CHECKPOINT.match(str(given)[:300])
        written = (match[1] if match else str(given)).strip().lower()
        known = offered.models(self._state, "sdxl")
        for model in known:
            names = [str(model["name"]), *map(str, model.get("aliases", ()))]
            if written in (name.lower() for name in names):
                return str(model["name"])
        raise UnknownModel(
            "Model not found",
            field=field,
            help=f"There are: {', '.join(str(model['name']) for model in known) or 'none'}.",
        )

    def _checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in given.items():
            if value is None:
                continue
            if name == "sd_model_checkpoint":
                found[name] = self.checkpoint(value, name)
            elif name == "samples_format":
                if str(value).lower() not in _FORMATS:
                    raise BadInput(f"samples_format is one of {', '.join(_FORMATS)}.", field=name)
                found[name] = str(value).lower()
            elif name in _NUMBERS:
                least, most = _NUMBERS[name]
                if not isinstance(value, int | float) or not least <= value <= most or value != int(value):
                    raise BadInput(f"{name} is a whole number from {least} to {most}.", field=name)
                found[name] = int(value)
            elif name == "webp_lossless":
                found[name] = value is True
        return found


def fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """A request's options as our parameters; what nobody chose is left to the model."""
    kind = _FORMATS[options.get("samples_format", _USUAL["samples_format"])]
    quality = options.get("jpeg_quality", _USUAL["jpeg_quality"])
    found: dict[str, Any] = {
        "model": options.get("sd_model_checkpoint", AUTO),
        "format": kind,
        "quality": 100 if kind == "webp" and options.get("webp_lossless") else quality,
        "previews": max(0, options.get("show_progress_every_n_steps", _USUAL["show_progress_every_n_steps"])),
    }
    if "CLIP_stop_at_last_layers" in options:
        found["clip_skip"] = options["CLIP_stop_at_last_layers"]
    return found
