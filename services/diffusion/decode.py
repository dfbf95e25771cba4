"""Finished latents to pictures: in come lanes, out come RGB pictures, outside of a mask the same as before."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from services.diffusion.lane import Lane
from services.diffusion.prepare import HALF, latent_statistics
from services.errors import ServiceFault


def decode(lanes: Sequence[Lane]) -> list[Image.Image]:
    """A picture for each lane. One at a time: a VAE at full size needs more memory than the UNet does."""
    return [_picture(lane) for lane in lanes]


def _picture(lane: Lane) -> Image.Image:
    recipe = lane.recipe
    if recipe.kind != "text" and recipe.image is not None and int(recipe.steps * recipe.strength) == 0:
        return recipe.image.convert("RGB")  # nothing was to be changed
    values = pixels(lane)
    if not bool(torch.isfinite(values).all()):
        raise ServiceFault(
            f"The model {recipe.model!r} gave numbers that are no picture (not a number).",
            help="Ask for weaker guidance, LoRAs or prompt weights; an operator can run the model in float32.",
        )
    made = (values * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().contiguous().numpy()
    picture = Image.fromarray(made)
    return (
        overlay(picture, recipe.image, recipe.mask) if recipe.mask is not None and recipe.image else picture
    )


@torch.inference_mode()
def pixels(lane: Lane) -> torch.Tensor:
    """The picture as (3, height, width) of 0..1, as diffusers' pipelines give it for `output_type="pt"`."""
    vae = lane.checkpoint.vae
    latents = lane.latents.to(vae.dtype)
    mean, spread = latent_statistics(vae, latents)
    if mean is None or spread is None:
        latents = latents / vae.config.scaling_factor
    else:
        latents = latents * spread / vae.config.scaling_factor + mean
    decoded: torch.Tensor = vae.decode(latents, return_dict=False)[0][0]
    return (decoded.float() * 0.5 + 0.5).clamp(0, 1)


def overlay(made: Image.Image, before: Image.Image, mask: Image.Image) -> Image.Image:
    """`made` where the mask is white, and `before`, bit for bit, where it is not."""
    white = mask.convert("L").point(lambda grey: 255 if grey >= HALF else 0)
    return Image.composite(made, before.convert("RGB"), white)
