"""The committed weights: whole, loaded by diffusers and transformers as they stand, and obedient."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionXLPipeline
from PIL import Image
from transformers import CLIPModel

from services.micro import clip, control, family, judge, pose, report, world


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def drawn_by() -> report.Report:
    return report.Report()


def test_the_ledger_holds() -> None:
    files = json.loads(family.LEDGER.read_text())["files"]
    there = {
        path.relative_to(family.WEIGHTS).as_posix()
        for path in family.WEIGHTS.rglob("*")
        if path.is_file() and path != family.LEDGER
    }
    assert there == set(files)
    for name, entry in files.items():
        content = (family.WEIGHTS / name).read_bytes()
        assert len(content) == entry["bytes"], name
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], name
    assert sum(entry["bytes"] for entry in files.values()) <= 40 * 1024**2


def test_every_weight_is_safetensors_and_finite() -> None:
    from safetensors.torch import load_file

    assert not [path for path in family.WEIGHTS.rglob("*") if path.suffix in {".pt", ".bin", ".ckpt", ".pth"}]
    for path in family.WEIGHTS.rglob("*.safetensors"):
        for name, value in load_file(path).items():
            assert bool(value.isfinite().all()), f"{path.name}: {name}"


def test_the_autoencoder_gives_a_drawing_back(drawn_by: report.Report) -> None:
    scenes = report.named(6, 5)
    pixels = torch.from_numpy(np.stack([np.asarray(world.draw(s)) for s in scenes])).permute(0, 3, 1, 2)
    wanted = pixels.float() / 127.5 - 1
    vae = drawn_by.pipeline.vae
    with torch.no_grad():
        latents = vae.encode(wanted).latent_dist.mode()
        back = vae.decode(latents).sample.clamp(-1, 1)
    assert float(((back - wanted) ** 2).mean()) < 0.004
    assert 0.5 < float((latents * vae.config.scaling_factor).std()) < 2


def test_a_dozen_unseen_captions_are_obeyed(drawn_by: report.Report) -> None:
    scenes = report.named(12, 7)
    pictures = drawn_by.pictures(
        drawn_by.pipeline, [world.caption(scene) for scene in scenes], 100, num_inference_steps=12
    )
    asked = drawn_by.asked(scenes, pictures)
    assert asked["background"] >= 0.9
    assert asked["colour"] >= 0.8


def test_edges_are_followed(drawn_by: report.Report) -> None:
    net = ControlNetModel.from_pretrained(str(family.WEIGHTS / "controlnet-canny"))
    scenes = report.named(4, 9)
    maps = [control.canny(world.draw(scene)) for scene in scenes]
    texts = [world.caption(scene) for scene in scenes]
    pictures = drawn_by.pictures(drawn_by._controlled(net), texts, 300, image=maps, num_inference_steps=12)
    scores = [report.edge_f1(a, control.canny(b)) for a, b in zip(maps, pictures, strict=True)]
    assert np.mean(scores) > 0.7, scores


def test_poses_are_followed(drawn_by: report.Report) -> None:
    net = ControlNetModel.from_pretrained(str(family.WEIGHTS / "controlnet-openpose"))
    scenes = report.posed(4, 11)
    people = [world.keypoints(scene.things[0]) for scene in scenes]
    maps = [control.pose_map([person], world.SIDE, world.SIDE) for person in people]
    texts = [world.caption(scene) for scene in scenes]
    pictures = drawn_by.pictures(drawn_by._controlled(net), texts, 400, image=maps, num_inference_steps=12)
    assert drawn_by.points(people, pictures) > 0.75


def test_the_clip_pair_finds_the_caption_of_a_picture() -> None:
    model: Any = CLIPModel.from_pretrained(str(family.WEIGHTS / "clip")).eval()
    from services.micro import tokens

    scenes = report.named(24, 13)
    texts = [world.caption(scene) for scene in scenes]
    words = tokens.load(family.WEIGHTS / "clip")(
        texts, padding="max_length", max_length=77, return_tensors="pt"
    )
    pixels = np.stack([clip.pixels(world.draw(scene)) for scene in scenes])
    seen = clip.normal(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    with torch.no_grad():
        logits = model(input_ids=words.input_ids, pixel_values=seen).logits_per_image
    found = [texts[index] for index in logits.argmax(1).tolist()]  # two pictures may have one caption
    assert np.mean([a == b for a, b in zip(found, texts, strict=True)]) >= 0.95


def test_the_judge_and_the_pose_detector_know_drawings(drawn_by: report.Report) -> None:
    scenes = report.named(40, 15)
    asked = drawn_by.asked(scenes, [world.draw(scene) for scene in scenes])
    assert min(asked[name] for name in ("background", "colour", "kind", "position")) >= 0.95
    people = report.posed(6, 17)
    true = [world.keypoints(scene.things[0]) for scene in people]
    assert drawn_by.points(true, [world.draw(scene) for scene in people]) > 0.9


def test_the_pose_detector_keeps_to_the_pictures_own_pixels() -> None:
    scene = report.posed(1, 19)[0]
    small, large = world.draw(scene), world.draw(scene, 512, 512)
    first, second = pose.detect(small), pose.detect(large)
    assert len(first) == len(second) == 1
    for (x, y, sure), (far_x, far_y, _) in zip(first[0], second[0], strict=True):
        if sure > 0.3:
            assert abs(x * 4 - far_x) < 24
            assert abs(y * 4 - far_y) < 24
    assert pose.detect(Image.new("RGB", (90, 61), "gray")) == []


def test_the_judge_tells_two_scenes_apart() -> None:
    model = judge.load()
    first, second = (
        world.draw(world.Scene(ground, (report.named(1, 21, person=0.0)[0].things[0],)))
        for ground in ("white", "black")
    )
    assert judge.answers(model, [first])[0][0] != judge.answers(model, [second])[0][0]


def test_the_pipeline_loads_as_any_other_of_diffusers() -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(str(family.WEIGHTS / "sdxl"))
    assert pipeline.unet.dtype == pipeline.text_encoder_2.dtype == torch.float32
    assert pipeline.vae_scale_factor == 8
    assert pipeline.default_sample_size * 8 == world.SIDE


def test_the_sample_pictures_show_what_their_names_say() -> None:
    samples = Path(__file__).parent / "samples"
    person, star = (Image.open(samples / name).convert("RGB") for name in ("person.png", "star.png"))
    said = judge.answers(judge.load(), [person, star])
    assert [world.KINDS[answer[1]] for answer in said] == ["person", "star"]
    assert len(pose.detect(person)) == 1
    assert pose.detect(star) == []
