"""The real service, with the micro model: what its pictures say of themselves, and what it does without a checker."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import c2pa
import pytest
from PIL import Image
from sd_parsers import ParserManager

from services.origin.infotext import read_parameters

ASK = {"prompt": "a red circle on a blue background", "steps": 3, "seed": 5, "count": 2, "previews": 0}


@pytest.mark.slow
def test_each_picture_of_a_request_carries_its_own_parameters_and_is_signed(
    start_service: Callable[..., Any], issue: Callable[..., Any]
) -> None:
    issued = issue()
    signed = {"DARKROOM_C2PA_KEY": str(issued.key), "DARKROOM_C2PA_CERTIFICATE": str(issued.chain)}
    with start_service("sdxl", DARKROOM_MODEL="micro", **signed) as (caller, _):
        answer = caller.run("text-to-image", {**ASK, "negative_prompt": "blurry", "sampler": "Euler a"})
        bodies = [body for event, body in answer.frames if event.kind == "result"]
        assert len(bodies) == 2
        for n, body in enumerate(bodies):
            found = read_parameters(Image.open(io.BytesIO(body)).info["parameters"])
            assert found.prompt == ASK["prompt"]
            assert found.negative_prompt == "blurry"
            assert found.fields["Seed"] == str(5 + n)
            assert (found.fields["Sampler"], found.fields["Steps"]) == ("Euler a", "3")
            assert found.fields["Model"] == answer.done["model"] == "micro"
            with c2pa.Reader("image/png", io.BytesIO(body)) as reader:
                assert reader.get_validation_state() == "Valid"
        picture = {"image": bodies[0]}
        edited = caller.run("image-to-image", {**ASK, "count": 1, "format": "webp", "strength": 0.5}, picture)
        body = edited.frames[-2][1]
        said = ParserManager().parse(io.BytesIO(body))
        assert said is not None
        assert said.metadata["Denoising strength"] == "0.5"
        with c2pa.Reader("image/webp", io.BytesIO(body)) as reader:
            assert "compositeWithTrainedAlgorithmicMedia" in reader.json()


@pytest.mark.slow
def test_a_service_whose_checker_is_missing_is_not_ready_and_says_why(
    start_service: Callable[..., Any], tmp_path: Path
) -> None:
    with (
        pytest.raises(AssertionError, match=r"safety.checker.*darkroom models pull"),
        start_service(
            "sdxl", DARKROOM_MODEL="micro", DARKROOM_SAFETY="on", DARKROOM_MODELS_PATH=str(tmp_path)
        ),
    ):
        pass


def checker(models: Path, threshold: float) -> None:
    """Writes a checker where `darkroom models pull safety-checker` would; a threshold below -1 flags everything."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(vision_config=vision | {"image_size": 32}, text_config=text, projection_dim=16)
    made = StableDiffusionSafetyChecker(config)
    made.concept_embeds_weights.data.fill_(threshold)
    made.special_care_embeds_weights.data.fill_(2.0)
    made.save_pretrained(models / "safety-checker" / "safety_checker")


@pytest.mark.slow
@pytest.mark.parametrize(("threshold", "flagged"), [(-2.0, True), (2.0, False)], ids=["flagged", "fine"])
def test_what_the_checker_flags_is_refused_and_no_preview_shows_it(
    start_service: Callable[..., Any], tmp_path: Path, threshold: float, flagged: bool
) -> None:
    checker(tmp_path, threshold)
    setting = {"DARKROOM_MODEL": "micro", "DARKROOM_SAFETY": "on", "DARKROOM_MODELS_PATH": str(tmp_path)}
    with start_service("sdxl", **setting) as (caller, _):
        answer = caller.run("text-to-image", {**ASK, "previews": 1})
        assert "preview" not in answer.kinds()
        if flagged:
            assert answer.error["type"] == "urn:darkroom:problem:withheld"
            assert answer.error["status"] == 422
            assert "result" not in answer.kinds()
        else:
            assert answer.kinds().count("result") == 2
            assert all(event.get("withheld") is None for event, _ in answer.frames)
