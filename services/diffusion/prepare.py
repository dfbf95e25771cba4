"""One picture's start: latents, noise schedule, control maps and the hole that inpainting fills.

Every number is drawn from the lane's own generator, on the CPU and in the order in which diffusers' pipelines draw, so
that a seed means the same here, there, and on every device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image

from services.diffusion.checkpoint import Checkpoint
from services.diffusion.lane import Adapters, ControlLane, Encoded, Hole, Lane
from services.diffusion.recipe import Recipe
from services.diffusion.schedulers import noised, scheduler_for, step_arguments
from services.errors import BadInput

PLAIN_CHANNELS = 4  # a UNet of nine sees the mask and the masked picture beside the latents
HALF = 128  # from here on a mask's grey counts as white


@torch.inference_mode()
def prepare(checkpoint: Checkpoint, recipe: Recipe, encoded: Encoded, index: int, adapters: Adapters) -> Lane:
    """The lane of the request's picture number `index`, before its first step."""
    seed = recipe.seed + index
    generator = torch.Generator("cpu").manual_seed(seed)
    scheduler = scheduler_for(recipe.sampler, checkpoint.scheduler_config, recipe.steps)
    start = beginning(recipe, scheduler)
    timesteps = list(scheduler.timesteps[start:])
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start)
    latents, hole = _latents(checkpoint, recipe, encoded, scheduler, generator, timesteps)
    controls = _controls(checkpoint, recipe, len(timesteps))
    if recipe.refinement is not None:
        timesteps = until(timesteps, scheduler, recipe.refinement.at)
    return Lane(
        checkpoint=checkpoint,
        recipe=recipe,
        index=index,
        seed=seed,
        encoded=encoded,
        scheduler=scheduler,
        generator=generator,
        latents=latents,
        timesteps=timesteps,
        guidance=recipe.guidance,
        adapters=adapters,
        controls=controls,
        hole=hole,
        extra=step_arguments(scheduler, generator),
    )


def cutoff(scheduler: Any, share: float) -> int:
    """The noise level, as a timestep, that is reached after this share of the schedule."""
    trained = int(scheduler.config.num_train_timesteps)
    return round(trained - share * trained)


def until(timesteps: list[torch.Tensor], scheduler: Any, share: float) -> list[torch.Tensor]:
    """The timesteps of the first model, where a refiner takes over after `share`."""
    last = cutoff(scheduler, share)
    return [timestep for timestep in timesteps if timestep >= last]


def beginning(recipe: Recipe, scheduler: Any) -> int:
    """How many of the schedule's timesteps are left out, because a picture is there already."""
    if recipe.kind == "text":
        return 0
    kept = min(int(recipe.steps * recipe.strength), recipe.steps)
    return (recipe.steps - kept) * int(scheduler.order)


def _latents(
    checkpoint: Checkpoint,
    recipe: Recipe,
    encoded: Encoded,
    scheduler: Any,
    generator: torch.Generator,
    timesteps: list[torch.Tensor],
) -> tuple[torch.Tensor, Hole | None]:
    scale = checkpoint.vae_scale
    shape = (1, int(checkpoint.vae.config.latent_channels), recipe.height // scale, recipe.width // scale)

    def noise() -> torch.Tensor:
        drawn: torch.Tensor = randn_tensor(
            shape, generator=generator, device=checkpoint.device, dtype=checkpoint.dtype
        )
        return drawn

    def known_by(name: str, pixels: Callable[[], torch.Tensor]) -> torch.Tensor:
        if name not in encoded.readings:
            encoded.readings[name] = read(checkpoint, pixels())
        return drawn_from(checkpoint, encoded.readings[name], generator)

    def all_hole() -> Hole:
        """Without a mask, a UNet that was made for inpainting is shown a picture that is all hole."""
        masked = known_by("masked", lambda: pixels_of(Image.new("RGB", (recipe.width, recipe.height))) * 0.0)
        return Hole(torch.ones_like(masked[:, :1]), masked=masked)

    plain = int(checkpoint.unet.config.in_channels) == PLAIN_CHANNELS
    if recipe.kind == "text" or recipe.image is None:
        latents = noise() * scheduler.init_noise_sigma
        return latents, None if plain else all_hole()

    picture = recipe.image
    if recipe.kind == "image" or recipe.mask is None:
        clean = known_by("image", lambda: pixels_of(picture))
        latents = noised(scheduler, clean, noise(), timesteps[0]) if timesteps else clean
        return latents, None if plain else all_hole()

    from_noise = recipe.strength == 1.0
    known = known_by("image", lambda: pixels_of(picture)) if plain or not from_noise else None
    fresh = noise()
    if known is None or from_noise:
        latents = fresh * scheduler.init_noise_sigma
    else:
        latents = noised(scheduler, known, fresh, timesteps[0]) if timesteps else known
    covered = mask_of(recipe.mask)
    mask = torch.nn.functional.interpolate(covered, size=shape[2:])
    mask = mask.to(device=checkpoint.device, dtype=checkpoint.dtype)
    if plain:
        noise()  # diffusers encodes the masked picture here too: later draws must come from the same place
        return latents, Hole(mask, clean=known, noise=fresh)
    masked = known_by("masked", lambda: pixels_of(picture) * (covered < 0.5))
    return latents, Hole(mask, masked=masked)


def _controls(checkpoint: Checkpoint, recipe: Recipe, steps: int) -> list[ControlLane]:
    lanes = []
    for at, use in enumerate(recipe.controls):
        if use.net not in checkpoint.controlnets:
            known = ", ".join(sorted(checkpoint.controlnets)) or "none"
            raise BadInput(
                f"The model {checkpoint.name!r} has no control for {use.net!r}; it has: {known}.",
                field=f"controls.{at}.kind",
            )
        lanes.append(
            ControlLane(
                net=use.net,
                map=pixels_of(use.map, centred=False).to(device=checkpoint.device, dtype=checkpoint.dtype),
                scales=[
                    0.0 if step / steps < use.start or (step + 1) / steps > use.end else use.weight
                    for step in range(steps)
                ],
            )
        )
    return lanes


def pixels_of(picture: Image.Image, *, centred: bool = True) -> torch.Tensor:
    """A picture as (1, 3, height, width), of -1..1, or of 0..1 if not centred."""
    array = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255.0
    pixels = torch.from_numpy(array.transpose(2, 0, 1)[None])
    return pixels * 2.0 - 1.0 if centred else pixels


def mask_of(mask: Image.Image) -> torch.Tensor:
    """A mask as (1, 1, height, width) of 0 and 1."""
    white = np.asarray(mask.convert("L")) >= HALF
    return torch.from_numpy(white.astype(np.float32)[None, None])


def to_latents(checkpoint: Checkpoint, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A picture's latents, on the scale on which the UNet was trained."""
    return drawn_from(checkpoint, read(checkpoint, pixels), generator)


def read(checkpoint: Checkpoint, pixels: torch.Tensor) -> Any:
    """What the VAE, which works in its own precision, makes of a picture: a distribution, or the latents."""
    encoded = checkpoint.vae.encode(pixels.to(device=checkpoint.device, dtype=checkpoint.vae.dtype))
    return encoded.latent_dist if hasattr(encoded, "latent_dist") else encoded.latents


def drawn_from(checkpoint: Checkpoint, reading: Any, generator: torch.Generator) -> torch.Tensor:
    """Latents of that reading; from a distribution they are drawn anew each time."""
    drawn = reading if isinstance(reading, torch.Tensor) else reading.sample(generator)
    latents: torch.Tensor = drawn.to(checkpoint.dtype)
    mean, spread = latent_statistics(checkpoint.vae, latents)
    scale = float(checkpoint.vae.config.scaling_factor)
    return latents * scale if mean is None or spread is None else (latents - mean) * scale / spread


def latent_statistics(vae: Any, like: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The mean and the spread of each channel, where the VAE's configuration states both."""
    found = [getattr(vae.config, name, None) for name in ("latents_mean", "latents_std")]
    if any(numbers is None for numbers in found):
        return None, None
    mean, spread = (torch.tensor(numbers).view(1, -1, 1, 1).to(like) for numbers in found)
    return mean, spread
