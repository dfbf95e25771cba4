"""The last stage: what comes out as a picture, and what must not."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from services.diffusion.checkpoint import Checkpoint
from services.diffusion.decode import decode, overlay, pixels
from services.diffusion.prepare import pixels_of, to_latents
from services.errors import ServiceFault
from tests.diffusion.tiny import finished, hole, picture, pipeline, recipe, started, theirs


def test_the_picture_is_the_one_that_diffusers_gives_to_people(sdxl: Checkpoint) -> None:
    asked = recipe(steps=3, width=96)
    made = decode([finished(started(sdxl, asked))])[0]
    their = theirs(pipeline("sdxl"), asked, output_type="pil")[0]
    assert (made.mode, made.size) == ("RGB", (96, 64))
    assert np.abs(np.asarray(made, dtype=int) - np.asarray(their, dtype=int)).max() <= 1


def test_numbers_that_are_no_picture_are_an_error_and_no_black_picture(sdxl: Checkpoint) -> None:
    lane = started(sdxl, recipe())
    lane.latents = lane.latents * float("nan")
    with pytest.raises(ServiceFault, match="not a number"):
        decode([lane])


def test_lanes_of_several_sizes_are_decoded_together(sdxl: Checkpoint) -> None:
    lanes = [started(sdxl, recipe(width=width)) for width in (64, 96)]
    assert [made.width for made in decode(lanes)] == [64, 96]


def test_an_overlay_has_no_grey_zone() -> None:
    before, made = picture(1), picture(2)
    soft = hole().resize((16, 16)).resize((64, 64), Image.Resampling.BILINEAR)
    result, white = np.asarray(overlay(made, before, soft)), np.asarray(soft) >= 128
    assert (result[white] == np.asarray(made)[white]).all()
    assert (result[~white] == np.asarray(before)[~white]).all()


def test_the_latents_statistics_of_a_vae_are_undone(sdxl: Checkpoint) -> None:
    mean, spread = [0.1, -0.2, 0.3, 0.0], [0.5, 2.0, 1.0, 1.5]
    vae = copy.deepcopy(sdxl.vae)
    vae.register_to_config(latents_mean=mean, latents_std=spread)
    stated = dataclasses.replace(sdxl, vae=vae)
    lane = started(sdxl, recipe())
    plain = pixels(lane)
    to, scale = torch.tensor([mean, spread]).view(2, 1, 4, 1, 1), vae.config.scaling_factor
    lane.latents = (lane.latents / scale - to[0]) * scale / to[1]
    lane.checkpoint = stated
    assert torch.allclose(pixels(lane), plain, atol=1e-4)


def test_a_picture_goes_to_latents_and_back_by_the_same_statistics(sdxl: Checkpoint) -> None:
    vae = copy.deepcopy(sdxl.vae)
    vae.register_to_config(latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[0.5, 2.0, 1.0, 1.5])
    seen = pixels_of(picture())
    lane = started(sdxl, recipe())
    backs = []
    for checkpoint in (sdxl, dataclasses.replace(sdxl, vae=vae)):
        lane.latents = to_latents(checkpoint, seen, torch.Generator().manual_seed(0))
        lane.checkpoint = checkpoint
        backs.append(pixels(lane))
    assert torch.allclose(backs[0], backs[1], atol=1e-4)
