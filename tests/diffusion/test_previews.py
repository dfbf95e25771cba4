"""Previews: what is foreseen of a picture, long before it is finished."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from services.diffusion.checkpoint import Checkpoint
from services.diffusion.lane import Lane
from services.diffusion.prepare import pixels_of, to_latents
from services.diffusion.previews import preview, weights
from services.diffusion.step import step
from services.samplers import SAMPLERS
from tests.diffusion.tiny import picture, recipe, started


class ColourVAE(torch.nn.Module):
    """A VAE whose latents are colours, turned and shifted: the weights that undo it are known."""

    TURN = torch.tensor([[0.9, 0.3, -0.2], [0.1, -0.8, 0.4], [0.3, 0.2, 0.7], [0.0, 0.0, 0.0]])

    def __init__(self) -> None:
        super().__init__()
        self.config = type(
            "Config", (), {"block_out_channels": (8, 8, 8), "latent_channels": 4, "scaling_factor": 0.5}
        )()
        self.dtype = torch.float32

    def encode(self, pixels: torch.Tensor) -> object:
        small = torch.nn.functional.avg_pool2d(pixels, 4)
        latents = torch.einsum("nrhw,cr->nchw", small, self.TURN) + 0.25
        return type("Encoded", (), {"latents": latents})()


def test_the_weights_are_found_from_the_vae_itself(sdxl: Checkpoint) -> None:
    vae = ColourVAE()
    checkpoint = Checkpoint("colours", "sdxl", sdxl.unet, vae, [], [], {})
    asked = recipe()
    lane = started(sdxl, asked)
    shown = picture(4)
    latents = to_latents(checkpoint, pixels_of(shown), torch.Generator())
    lane = Lane(
        checkpoint, asked, 0, 0, lane.encoded, None, lane.generator, latents, lane.timesteps, lane.guidance
    )
    expected = shown.resize((16, 16), Image.Resampling.BOX)
    difference = np.abs(np.asarray(preview(lane), dtype=int) - np.asarray(expected, dtype=int))
    assert difference.max() <= 3


def test_they_are_found_once(sdxl: Checkpoint) -> None:
    assert weights(sdxl) is weights(sdxl)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_tells_what_it_foresees(sdxl: Checkpoint, sampler: str) -> None:
    """What is foreseen at the last step is what comes out of it."""
    lane = started(sdxl, recipe(sampler=sampler, steps=4))
    while not lane.done:
        step([lane])
        assert lane.estimate is not None
        assert preview(lane).size == (32, 32)
    assert lane.estimate is not None
    last = np.asarray(preview(lane), dtype=int)
    lane.estimate = lane.latents
    assert np.abs(last - np.asarray(preview(lane), dtype=int)).mean() < 8
