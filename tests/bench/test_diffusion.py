"""The benchmark of the diffusion engine: its networks have the shapes they claim, and its small form runs through."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.shapes import TRUE, tokenizer

ROOT = Path(__file__).parents[2]


def test_the_true_shape_has_as_many_parameters_as_the_published_model() -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    with torch.device("meta"):
        networks = (
            UNet2DConditionModel(**TRUE.unet),
            AutoencoderKL(**TRUE.vae),
            CLIPTextModel(CLIPTextConfig(**TRUE.text)),
            CLIPTextModelWithProjection(CLIPTextConfig(**TRUE.text_2)),
        )
    found = [sum(parameter.numel() for parameter in network.parameters()) for network in networks]
    assert found == [2_567_463_684, 83_653_863, 123_060_480, 694_659_840]


def test_its_tokens_are_of_clips_vocabulary_and_end_where_clip_ends() -> None:
    ids = tokenizer()("a photograph", padding="max_length", max_length=77).input_ids
    assert len(ids) == 77
    assert ids[0] == 49406
    assert ids[-1] == max(ids) == 49407


@pytest.mark.slow
def test_the_small_form_runs_through_on_this_machine() -> None:
    command = [sys.executable, "-m", "bench.diffusion", "--only", "shape", "--small", "--rounds", "1"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert said.returncode == 0, said.stderr[-2000:]
    for batch in (1, 8):
        for who in ("diffusers' pipeline", "the engine"):
            assert f"batch {batch}: {who}" in said.stdout
