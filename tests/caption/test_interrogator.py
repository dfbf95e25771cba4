"""The prompts of each mode, with the real classes of BLIP and CLIP, small and random."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import BlipForConditionalGeneration

from services.caption.blip import Blip
from services.caption.clip import Clip
from services.caption.engines import engines
from services.caption.interrogator import FLAVORS, Interrogator
from services.caption.pixels import Preparation
from services.caption.tables import NEGATIVE, RANKED, tables, words
from services.errors import Unavailable
from services.models import ModelEntry, Models


def quiet(_done: int, _total: int) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    return Clip.load(clip_folder)


@pytest.fixture(scope="module")
def interrogator(clip: Clip, blip_folder: Path) -> Interrogator:
    return Interrogator(clip, Blip.load(blip_folder), tables(clip))


def likeness(clip: Clip, image: Image.Image, text: str) -> float:
    return float(clip.texts([text])[0] @ clip.picture(image))


def test_the_sentence_is_what_transformers_own_generation_says(
    blip_folder: Path, picture: Image.Image
) -> None:
    model = BlipForConditionalGeneration.from_pretrained(blip_folder).eval()
    pixels = torch.from_numpy(Preparation.read(blip_folder, otherwise=64)(picture))
    tokens = model.generate(pixel_values=pixels, max_new_tokens=40, num_beams=3)[0]
    vocabulary = (blip_folder / "vocab.txt").read_text().split("\n")
    expected = [vocabulary[at] for at in tokens.tolist() if not vocabulary[at].startswith("[")]
    caption = Blip.load(blip_folder).caption(picture)
    assert caption.split() == expected


@pytest.mark.parametrize("mode", ["caption", "fast", "classic", "best"])
def test_every_prompt_begins_with_the_sentence(
    interrogator: Interrogator, picture: Image.Image, mode: str
) -> None:
    told = interrogator.tell(picture, mode, 3, quiet)
    assert told["prompt"].startswith(told["caption"])
    assert (told["prompt"] == told["caption"]) == (mode == "caption")


def test_a_classic_prompt_names_medium_artist_place_movement_and_flavors(
    interrogator: Interrogator, picture: Image.Image
) -> None:
    told = interrogator.tell(picture, "classic", FLAVORS, quiet)
    first = {kind: told["ranked"][kind][0]["phrase"] for kind in RANKED}
    flavors = [found["phrase"] for found in told["ranked"]["flavors"]]
    wanted = f"{first['mediums']} {first['artists']}, {first['trending']}, {first['movements']}, "
    prompt = told["prompt"].removeprefix(told["caption"]).removeprefix(", ")
    assert (wanted + ", ".join(flavors)).startswith(prompt)
    assert prompt.startswith(wanted)


def test_a_fast_prompt_takes_the_nearest_of_all_kinds(
    interrogator: Interrogator, picture: Image.Image
) -> None:
    told = interrogator.tell(picture, "fast", 1, quiet)
    nearest = max((told["ranked"][kind][0] for kind in RANKED), key=lambda found: found["score"])
    assert told["prompt"].removeprefix(told["caption"]).startswith(f", {nearest['phrase']}")


def test_the_best_prompt_is_nearest_to_the_picture(
    interrogator: Interrogator, clip: Clip, picture: Image.Image
) -> None:
    prompts = {
        mode: interrogator.tell(picture, mode, 0, quiet)["prompt"]
        for mode in ("caption", "fast", "classic", "best")
    }
    scores = {mode: likeness(clip, picture, prompt) for mode, prompt in prompts.items()}
    assert scores["best"] == max(scores.values())
    assert scores["best"] > scores["caption"], "the chain found phrases that help"


def test_a_negative_prompt_says_what_the_picture_is_least_like(
    interrogator: Interrogator, clip: Clip, picture: Image.Image
) -> None:
    prompt = interrogator.tell(picture, "negative", 0, quiet)["prompt"].split(", ")
    assert prompt[0] in words(NEGATIVE)
    assert set(prompt) <= {*words(NEGATIVE), *words("flavors")}
    farthest = min(likeness(clip, picture, phrase) for phrase in words(NEGATIVE))
    assert likeness(clip, picture, prompt[0]) == pytest.approx(farthest, abs=1e-5)


@pytest.mark.parametrize("mode", ["fast", "classic", "best", "negative"])
def test_no_prompt_is_longer_than_the_text_encoder_reads(
    interrogator: Interrogator, clip: Clip, picture: Image.Image, mode: str
) -> None:
    assert clip.fits(interrogator.tell(picture, mode, 0, quiet)["prompt"])


def test_each_kind_is_ranked_the_best_first_and_as_many_as_asked(
    interrogator: Interrogator, picture: Image.Image
) -> None:
    ranked = interrogator.tell(picture, "caption", 5, quiet)["ranked"]
    assert set(ranked) == set(RANKED)
    for found in ranked.values():
        scores = [phrase["score"] for phrase in found]
        assert len(scores) == 5
        assert scores == sorted(scores, reverse=True)
        assert all(-1 <= score <= 1 for score in scores)
    assert all(not found for found in interrogator.tell(picture, "caption", 0, quiet)["ranked"].values())


def test_it_stops_between_steps_when_nobody_waits(interrogator: Interrogator, picture: Image.Image) -> None:
    told: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        told.append((done, total))
        if done == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        interrogator.tell(picture, "best", 3, stop)
    assert told == [(done, 19) for done in range(5)]


# ── from disk ─────────────────────────────────────────────────────────────────────────────────────────────────


def catalogue(folder: Path, **more: Any) -> Models:
    fields: dict[str, Any] = {"service": "caption", "licence": "ours"}
    return Models(
        "caption",
        [
            ModelEntry(
                name="real", engine="interrogator", source="them/real", parts={"blip": "words"}, **fields
            ),
            ModelEntry(name="words", engine="blip", kind="part", source="them/words", **fields),
        ],
        folder,
    )


def test_it_is_loaded_where_both_are_on_disk(
    clip_folder: Path, blip_folder: Path, tmp_path: Path, picture: Image.Image
) -> None:
    models = catalogue(tmp_path)
    assert engines(models) == {}
    shutil.copytree(clip_folder, tmp_path / "real")
    assert engines(models) == {}
    shutil.copytree(blip_folder, tmp_path / "words")
    (engine,) = engines(models).values()
    assert engine.tell(picture, "fast", 2, quiet)["prompt"]


def test_a_damaged_file_stops_the_load_and_is_named(
    clip_folder: Path, blip_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(clip_folder, tmp_path / "real")
    shutil.copytree(blip_folder, tmp_path / "words")
    weights = tmp_path / "words" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(Unavailable, match=r"words/model\.safetensors") as caught:
        engines(catalogue(tmp_path))
    assert "darkroom models pull words" in caught.value.what_to_do
    shutil.copy(blip_folder / "model.safetensors", weights)
    (tmp_path / "real" / "preprocessor_config.json").unlink()
    with pytest.raises(Unavailable, match=r"preprocessor_config\.json") as caught:
        engines(catalogue(tmp_path))
    assert "darkroom models pull real" in caught.value.what_to_do
