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

from services.origin.parameters import read_parameters

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
