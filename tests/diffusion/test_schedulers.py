"""A sampler's name, and what it stands for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from services.diffusion.schedulers import scheduler_for, step_arguments
from services.errors import BadInput
from services.samplers import SAMPLERS
from tests.diffusion.tiny import SCHEDULE


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 4, 25, 150])
def test_every_sampler_goes_from_noise_to_the_end_in_any_number_of_steps(sampler: str, steps: int) -> None:
    scheduler = scheduler_for(sampler, SCHEDULE, steps)
    generator = torch.Generator().manual_seed(0)
    arguments = step_arguments(scheduler, generator)
    latents = torch.randn(1, 4, 4, 4, generator=generator) * scheduler.init_noise_sigma
    calls = 2 * steps - 1 if sampler == "heun" else steps
    assert len(scheduler.timesteps) == calls
    assert scheduler.timesteps.device.type == "cpu"
    for timestep in scheduler.timesteps:
        seen = scheduler.scale_model_input(latents, timestep)
        latents = scheduler.step(seen * 0.5, timestep, latents, **arguments).prev_sample
    assert torch.isfinite(latents).all()


def test_the_name_decides_the_spacing_whatever_the_model_s_file_says() -> None:
    odd = {**SCHEDULE, "use_karras_sigmas": True, "use_exponential_sigmas": True}
    assert not scheduler_for("euler", odd, 4).config.use_karras_sigmas
    assert scheduler_for("dpm++-2m-karras", odd, 4).config.use_karras_sigmas


def test_what_a_model_predicts_is_kept() -> None:
    config: dict[str, Any] = {**SCHEDULE, "prediction_type": "v_prediction"}
    assert all(scheduler_for(name, config, 4).config.prediction_type == "v_prediction" for name in SAMPLERS)


def test_latents_are_never_clipped_like_pixels() -> None:
    assert not scheduler_for("ddim", SCHEDULE, 4).config.clip_sample


def test_fresh_noise_comes_from_the_lane_s_own_generator() -> None:
    for name in ("euler-a", "dpm++-2m-sde", "dpm++-sde-karras", "lcm"):
        ends = []
        for seed in (1, 1, 2):
            torch.manual_seed(len(ends))  # the global generator must not matter
            scheduler = scheduler_for(name, SCHEDULE, 3)
            arguments = step_arguments(scheduler, torch.Generator().manual_seed(seed))
            latents = torch.ones(1, 4, 4, 4)
            for timestep in scheduler.timesteps:
                scheduler.scale_model_input(latents, timestep)
                latents = scheduler.step(latents * 0.1, timestep, latents, **arguments).prev_sample
            ends.append(latents)
        assert torch.equal(ends[0], ends[1])
        assert not torch.equal(ends[0], ends[2])


def test_an_unknown_sampler_is_told_with_those_that_there_are() -> None:
    with pytest.raises(BadInput, match=r"dpm\+\+-2m-karras") as told:
        scheduler_for("plms", SCHEDULE, 4)
    assert told.value.field == "sampler"
