"""The samplers by their names here, and by the names that users of AUTOMATIC1111's page know them.

Nothing heavy is imported: the operations and the gateway's doors read it. What each name means in diffusers is in
`services/diffusion/schedulers.py`.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

Sampler = Literal[
    "ddim",
    "dpm++-2m",
    "dpm++-2m-karras",
    "dpm++-2m-sde",
    "dpm++-2m-sde-karras",
    "dpm++-sde",
    "dpm++-sde-karras",
    "euler",
    "euler-a",
    "heun",
    "lcm",
    "unipc",
]
SAMPLERS: tuple[str, ...] = get_args(Sampler)

# how that page spells them
SPELLINGS = {
    "ddim": "DDIM",
    "dpm++-2m": "DPM++ 2M",
    "dpm++-2m-karras": "DPM++ 2M Karras",
    "dpm++-2m-sde": "DPM++ 2M SDE",
    "dpm++-2m-sde-karras": "DPM++ 2M SDE Karras",
    "dpm++-sde": "DPM++ SDE",
    "dpm++-sde-karras": "DPM++ SDE Karras",
    "euler": "Euler",
    "euler-a": "Euler a",
    "heun": "Heun",
    "lcm": "LCM",
    "unipc": "UniPC",
}

# what cannot be derived from the spelling alone
_OTHER_NAMES = {"euler-ancestral": "euler-a", "k-euler": "euler", "k-euler-a": "euler-a", "k-heun": "heun"}


def sampler_named(name: str) -> str:
    """`DPM++ 2M Karras`, `Euler a`, `dpmpp_2m`, `euler_ancestral` as they are called here; others unchanged."""
    plain = re.sub(r"[\s_]+", "-", name.strip().lower()).replace("dpmpp", "dpm++")
    return _OTHER_NAMES.get(plain, plain)
