"""A cheap look at a picture that is not finished: a small RGB picture from the latents, without the VAE.

Each pixel of the preview is a weighted sum of one latent's channels. The weights are found once for each VAE, by least
squares over pictures that it encodes itself, so that any model has previews, with no table of constants.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from PIL import Image

from services.diffusion.checkpoint import Checkpoint
from services.diffusion.lane import Lane
from services.diffusion.prepare import latent_statistics

SAMPLE = 32  # the side, in latents, of the picture from which the weights are found
SAMPLES = 4
_FOUND: WeakKeyDictionary[Any, torch.Tensor] = WeakKeyDictionary()


@torch.inference_mode()
def preview(lane: Lane) -> Image.Image:
    """One pixel for each latent, of what the last step foresees as the finished picture."""
    latents = lane.latents if lane.estimate is None else lane.estimate
    values = _mixed(latents.float(), weights(lane.checkpoint))[0]
    small = (values * 127.5 + 127.5).nan_to_num(127.5).clamp(0, 255).to(torch.uint8)
    return Image.fromarray(small.permute(1, 2, 0).cpu().contiguous().numpy())


def weights(checkpoint: Checkpoint) -> torch.Tensor:
    """(channels + 1, 3): how much of each channel, and of 1, makes red, green and blue of -1..1."""
    found = _FOUND.get(checkpoint.vae)
    if found is None:
        found = _FOUND[checkpoint.vae] = _fitted(checkpoint)
    return found


def _mixed(latents: torch.Tensor, mix: torch.Tensor) -> torch.Tensor:
    mixed: torch.Tensor = torch.einsum("nchw,cr->nrhw", latents, mix[:-1]) + mix[-1].view(1, -1, 1, 1)
    return mixed


@torch.inference_mode()
def _fitted(checkpoint: Checkpoint) -> torch.Tensor:
    """Soft fields of colour, coarse and fine, encoded one by one; then the best weights for giving them back."""
    vae, side = checkpoint.vae, SAMPLE * checkpoint.vae_scale
    generator = torch.Generator("cpu").manual_seed(0)
    known, wanted = [], []
    for patches in (2, 4, 8, 16)[:SAMPLES]:
        field = torch.rand(1, 3, patches, patches, generator=generator) * 2 - 1
        pixels = torch.nn.functional.interpolate(
            field, size=(side, side), mode="bilinear", align_corners=False
        )
        encoded = vae.encode(pixels.to(device=checkpoint.device, dtype=vae.dtype))
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        mean, spread = latent_statistics(vae, latents)
        if mean is not None and spread is not None:
            latents = (latents - mean) / spread
        latents = (latents * vae.config.scaling_factor).float().cpu()
        small = torch.nn.functional.interpolate(pixels, size=latents.shape[2:], mode="area")
        known.append(latents[0].flatten(1).T)
        wanted.append(small[0].flatten(1).T)
    rows = torch.cat(known)
    rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    # a little ridge, so that a channel that says nothing gets no weight
    square = rows.T @ rows + 1e-3 * torch.eye(rows.shape[1])
    found: torch.Tensor = torch.linalg.solve(square, rows.T @ torch.cat(wanted))
    return found.to(checkpoint.device)
