"""What suits a device: arithmetic with made-up ones."""

from __future__ import annotations

import pytest
import torch

from services.diffusion.devices import GB, Found, look, plan
from services.errors import Unavailable
from services.settings import DiffusionSettings

LAPTOP = Found("cpu", 16 * GB, bfloat16=True)
SMALL = Found("cuda:0", 6 * GB, bfloat16=False)
MIDDLE = Found("cuda:0", 11 * GB, bfloat16=True)
LARGE = Found("cuda:1", 80 * GB, bfloat16=True)
APPLE = Found("mps", 32 * GB)


def test_a_processor_computes_in_float32_with_nothing_switched_on() -> None:
    kept = plan(DiffusionSettings(), LAPTOP)
    assert (kept.device, kept.dtype, kept.offload) == ("cpu", torch.float32, "none")
    assert not (kept.channels_last or kept.compile or kept.vae_tiling or kept.vae_slicing)
    assert 8 * GB < kept.budget < 12 * GB


def test_a_large_gpu_computes_in_bfloat16_and_holds_back_nothing() -> None:
    kept = plan(DiffusionSettings(), LARGE)
    assert (kept.device, kept.dtype, kept.offload) == ("cuda:1", torch.bfloat16, "none")
    assert kept.channels_last
    assert not (kept.vae_tiling or kept.vae_slicing)
    assert kept.budget > 60 * GB


def test_a_smaller_gpu_decodes_in_tiles_and_a_small_one_offloads() -> None:
    assert plan(DiffusionSettings(), MIDDLE).vae_tiling
    assert plan(DiffusionSettings(), MIDDLE).offload == "none"
    kept = plan(DiffusionSettings(), SMALL)
    assert (kept.dtype, kept.offload) == (torch.float16, "model")


def test_apples_gpu_computes_in_float16() -> None:
    assert plan(DiffusionSettings(), APPLE).dtype is torch.float16
    assert not plan(DiffusionSettings(), APPLE).channels_last


def test_every_setting_goes_before_what_would_suit() -> None:
    asked = DiffusionSettings(
        dtype="bfloat16",
        memory_mb=500,
        channels_last="on",
        compile=True,
        attention="sliced",
        vae_tiling="on",
        vae_slicing="on",
        loras=3,
    )
    kept = plan(asked, LAPTOP)
    assert (kept.dtype, kept.budget, kept.attention, kept.loras) == (torch.bfloat16, 500 * 2**20, "sliced", 3)
    assert kept.channels_last and kept.compile and kept.vae_tiling and kept.vae_slicing
    assert not plan(DiffusionSettings(channels_last="off"), LARGE).channels_last
    assert plan(DiffusionSettings(offload="sequential"), LARGE).offload == "sequential"
    assert plan(DiffusionSettings(offload="sequential"), LAPTOP).offload == "none", (
        "there is nothing to offload"
    )


def test_this_machine_has_a_processor() -> None:
    found = look("cpu")
    assert found.device == "cpu"
    assert found.memory > GB


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_stops_the_load_and_names_the_setting() -> None:
    with pytest.raises(Unavailable, match="DARKROOM_DEVICE"):
        look("cuda:0")
