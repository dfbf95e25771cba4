"""The tiny models of `tiny.py` as fixtures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from services.diffusion.checkpoint import Checkpoint
from tests.diffusion.tiny import checkpoint_of, controlnet, pipeline


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def sdxl() -> Checkpoint:
    nets = {"canny": controlnet("sdxl", 11), "openpose": controlnet("sdxl", 12)}
    return checkpoint_of(pipeline("sdxl"), "sdxl", nets)


@pytest.fixture(scope="session")
def sd() -> Checkpoint:
    nets = {"canny": controlnet("sd", 13), "openpose": controlnet("sd", 14)}
    return checkpoint_of(pipeline("sd"), "sd", nets)
