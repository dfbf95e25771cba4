"""From a sampler's name and a model's own noise schedule to the scheduler of one lane, of diffusers' classes.

A scheduler keeps its tables on the CPU: its numbers meet the latents as scalars, which a GPU need not wait for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import diffusers
import torch

from services.errors import BadInput
from services.samplers import SAMPLERS

# For each name the class in diffusers, and what sets it apart from the class's other uses.
_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "dpm++-2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpm++-2m-karras": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True},
    ),
    "dpm++-2m-sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm++-2m-sde-karras": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
    ),
    "dpm++-sde": ("DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm++-sde-karras": (
        "DPMSolverSinglestepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
    ),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
# Other spacings of the noise levels, which a model's file may name for its own scheduler. The sampler's name decides.
_OTHER_SPACINGS = ("use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_karras_sigmas")
LCM_STEPS = (
    50  # the schedule that a consistency model was distilled from; more steps than these need a finer one
)


def scheduler_for(sampler: str, config: Mapping[str, Any], steps: int) -> Any:
    """The scheduler of that name, its timesteps set for `steps`."""
    if sampler not in _CLASSES:
        raise BadInput(f"There is no sampler {sampler!r}; there are {', '.join(SAMPLERS)}.", field="sampler")
    name, options = _CLASSES[sampler]
    own = {key: value for key, value in config.items() if key not in _OTHER_SPACINGS}
    # a latent is no pixel: to clip it at 1, as DDIM's class does unless told otherwise, would spoil it
    own.setdefault("clip_sample", False)
    if name == "DPMSolverSinglestepScheduler":
        options = options | {"lower_order_final": True}  # what the class would set itself, with a warning
    if name == "LCMScheduler":
        options = options | {"original_inference_steps": max(LCM_STEPS, steps)}
    scheduler = getattr(diffusers, name).from_config(own, **options)
    scheduler.set_timesteps(steps, device="cpu")
    return scheduler


def noised(scheduler: Any, clean: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """`clean` with as much noise as the schedule has at `timestep`."""
    result: torch.Tensor = scheduler.add_noise(clean, noise, timestep.reshape(1))
    return result


def step_arguments(scheduler: Any, generator: torch.Generator) -> dict[str, Any]:
    """What this scheduler's `step` takes beside the latents: fresh noise comes from the lane's own generator."""
    taken = type(scheduler).step.__code__.co_varnames[: type(scheduler).step.__code__.co_argcount]
    arguments: dict[str, Any] = {}
    if "generator" in taken:
        arguments["generator"] = generator
    if "eta" in taken:
        arguments["eta"] = 0.0
    return arguments
