"""Where one model ends and its refiner goes on: a lane goes in at its last step, the refiner's lane comes out."""

from __future__ import annotations

import torch

from services.diffusion.checkpoint import Checkpoint
from services.diffusion.lane import Adapters, Encoded, Lane
from services.diffusion.prepare import beginning, cutoff
from services.diffusion.schedulers import scheduler_for, step_arguments
from services.errors import BadInput


@torch.inference_mode()
def hand_over(lane: Lane, refiner: Checkpoint, encoded: Encoded) -> Lane:
    """The same latents, generator and mask, under the refiner's own schedule from where the first model ended.

    Controls and adapters stay behind: they were made for the other network.
    """
    recipe = lane.recipe
    if recipe.refinement is None:
        raise ValueError("the recipe asks for no refiner")
    if (
        int(refiner.vae.config.latent_channels) != lane.latents.shape[1]
        or refiner.vae_scale != lane.checkpoint.vae_scale
    ):
        raise BadInput(
            f"{refiner.name!r} cannot refine what {lane.checkpoint.name!r} makes: their latents differ in form.",
            field="refiner",
        )
    scheduler = scheduler_for(recipe.sampler, refiner.scheduler_config, recipe.steps)
    last = cutoff(scheduler, recipe.refinement.at)
    left = int((scheduler.timesteps < last).sum())
    if scheduler.order == 2 and left % 2 == 0:
        left += 1  # Heun's steps are pairs: it must not begin in the middle of one
    # a picture that was given may hold less noise than the level at which the refiner would take over
    start = max(len(scheduler.timesteps) - left, beginning(recipe, scheduler))
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start)
    return Lane(
        checkpoint=refiner,
        recipe=recipe,
        index=lane.index,
        seed=lane.seed,
        encoded=encoded,
        scheduler=scheduler,
        generator=lane.generator,
        latents=lane.latents.to(device=refiner.device, dtype=refiner.dtype),
        timesteps=list(scheduler.timesteps[start:]),
        guidance=lane.guidance,
        adapters=Adapters(),
        hole=lane.hole,
        extra=step_arguments(scheduler, lane.generator),
    )
