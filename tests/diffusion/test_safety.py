"""The safety checker: the real class with small random weights, whose concepts are set so that it flags one picture."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig

from services.diffusion.safety import blackened, load_safety, refusing, wanted
from services.errors import Unavailable, Withheld
from services.work import Progress, Result

SIDE = 32


def stripes(*, upright: bool) -> Image.Image:
    line = (np.arange(48) // 4 % 2 * 255).astype(np.uint8)
    grid = np.broadcast_to(line if upright else line[:, None], (48, 48))
    return Image.fromarray(np.stack([grid, 255 - grid, grid], axis=-1))


BAD, GOOD = stripes(upright=True), stripes(upright=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checker on disk for which one concept is exactly the picture `BAD`, and the others are far from everything."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 8,
    }
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(vision_config=vision, text_config=text, projection_dim=64)
    )
    at = tmp_path_factory.mktemp("safety-checker")
    checker.save_pretrained(at)
    pixels = load_safety(at)._preprocess([BAD, GOOD], return_tensors="pt").pixel_values
    with torch.no_grad():
        bad, good = checker.visual_projection(checker.vision_model(pixels)[1])
        between = torch.nn.functional.cosine_similarity(bad, good, dim=0).item()
        assert between < 0.99, "the two pictures must differ for the network"
        checker.concept_embeds_weights.fill_(2.0)  # no cosine is that large
        checker.special_care_embeds_weights.fill_(2.0)
        checker.concept_embeds[7] = bad
        checker.concept_embeds_weights[7] = (1 + between) / 2
    checker.save_pretrained(at)
    return at


def test_only_the_picture_that_is_like_a_concept_is_flagged(folder: Path) -> None:
    safety = load_safety(folder)
    assert safety.check([GOOD, BAD, GOOD]) == [False, True, False]
    assert safety.check([BAD.resize((96, 96), Image.Resampling.NEAREST).convert("RGBA")]) == [True]
    assert safety.check([]) == []


def test_it_can_run_in_half_precision(folder: Path) -> None:
    assert load_safety(folder, "cpu", torch.bfloat16).check([GOOD, BAD]) == [False, True]


def test_checking_leaves_the_pictures_and_the_logs_alone(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = np.asarray(BAD).copy()
    with caplog.at_level(logging.WARNING):
        load_safety(folder).check([BAD])
    assert np.array_equal(np.asarray(BAD), before)
    assert not caplog.records


def test_it_counts_among_the_networks_of_a_checkpoint(folder: Path) -> None:
    safety = load_safety(folder)
    assert (
        sum(p.numel() for p in safety.parameters()) == sum(p.numel() for p in safety.checker.parameters()) > 0
    )


def test_the_keys_of_older_files_are_understood(folder: Path, tmp_path: Path) -> None:
    """The published file is of a time when the vision tower lay one level deeper."""
    weights = {
        name.replace("vision_model.", "vision_model.vision_model.", 1): value
        for name, value in load_file(folder / "model.safetensors").items()
    }
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    assert load_safety(tmp_path).check([GOOD, BAD]) == [False, True]


def copied(folder: Path, to: Path) -> Path:
    for name in ("config.json", "model.safetensors"):
        (to / name).write_bytes((folder / name).read_bytes())
    return to


def test_a_missing_checker_is_named_with_the_command_that_fetches_it(folder: Path, tmp_path: Path) -> None:
    at = copied(folder, tmp_path)
    (at / "model.safetensors").unlink()
    with pytest.raises(Unavailable, match=r"there is no .*model\.safetensors") as caught:
        load_safety(at)
    assert "darkroom models pull safety-checker" in caught.value.what_to_do


def test_a_damaged_checker_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    at = copied(folder, tmp_path)
    (at / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(Unavailable, match="is damaged"):
        load_safety(at)


def test_a_checker_that_lacks_weights_is_not_filled_with_random_ones(folder: Path, tmp_path: Path) -> None:
    at = copied(folder, tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, at / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Unavailable, match=r"lacks visual_projection\.weight"):
        load_safety(at)


@pytest.mark.parametrize(
    ("setting", "micro", "checked"),
    [
        ("auto", True, False),
        ("auto", False, True),
        ("on", True, True),
        ("on", False, True),
        ("off", True, False),
        ("off", False, False),
    ],
)
def test_by_default_all_but_micro_are_checked(setting: str, micro: bool, checked: bool) -> None:
    assert wanted(setting, micro=micro) is checked


def told(*withheld: bool) -> Iterator[Any]:
    for n, flagged in enumerate(withheld):
        yield Progress(n, len(withheld))
        yield Result(blackened(BAD) if flagged else GOOD, seed=n, withheld=flagged)


def test_a_withheld_picture_is_black_and_in_its_place() -> None:
    passed = [item for item in refusing(told(True, False, True)) if isinstance(item, Result)]
    assert [(result.seed, result.withheld) for result in passed] == [(0, True), (1, False), (2, True)]
    assert np.asarray(passed[0].image).max() == 0
    assert passed[0].image.size == BAD.size


def test_where_all_are_withheld_the_request_is_refused_and_shows_none() -> None:
    seen = []
    with pytest.raises(Withheld, match="all 2 pictures") as caught:
        for item in refusing(told(True, True)):
            seen.append(item)  # noqa: PERF402 - what came before the error is looked at
    assert [type(item) for item in seen] == [Progress, Progress]
    assert caught.value.status == 422
