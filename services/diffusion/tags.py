"""LoRAs that a prompt names: in goes a prompt as AUTOMATIC1111's users write it, out go its words and its LoRAs.

    a red circle <lora:outlined:0.8>    ->    "a red circle", outlined at 0.8

Our own pictures carry their LoRAs so (services/origin/parameters.py): what is copied from one can be asked again.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from pydantic import ValidationError

from services.errors import BadInput, UnknownModel
from services.operations import Diffusion, Lora

_TAG = re.compile(r"\s*<lora:([^:<>]+)(?::([^:<>]*))?(?::[^<>]*)?>", re.IGNORECASE)
_MOST = 8  # LoRAs of one request, tags included: what the operation allows in `loras`


def tagged(ask: Diffusion, known: Collection[str]) -> Diffusion:
    """The request with its prompt's LoRAs among its `loras`; `known` are the names that there are."""
    found = _TAG.findall(ask.prompt)
    if not found:
        return ask
    loras = list(ask.loras)
    for name, weight in found:
        if name not in known:
            raise UnknownModel(
                f"The prompt asks for the LoRA {name!r}, which is not here.",
                field="prompt",
                help=f"There are: {', '.join(sorted(known)) or 'none'}. Take the tag out, or send the file in `loras`.",
            )
        try:
            loras.append(Lora(name=name, weight=float(weight or 1)))
        except (ValidationError, ValueError) as error:
            raise BadInput(
                f"The prompt gives the LoRA {name!r} the weight {weight!r}, which it cannot have.",
                field="prompt",
            ) from error
    if len(loras) > _MOST:
        raise BadInput(
            f"The prompt and `loras` name {len(loras)} LoRAs; {_MOST} are the most.", field="prompt"
        )
    return ask.model_copy(update={"prompt": _TAG.sub("", ask.prompt).strip(), "loras": loras})
