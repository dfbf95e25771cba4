"""Whether what is asked for over HTTP is what the pictures show: the micro family's weights are trained, and its judge,
which never saw a generated picture, looks at what comes back.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from services.micro import control, judge, pose, report, world


@pytest.fixture(scope="module")
def http(stack: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=90) as client:
        yield client


def ask(
    http: httpx.Client, operation: str, pictures: dict[str, Image.Image] | None = None, **words: str
) -> Any:
    parts: dict[str, Any] = {name: (None, value) for name, value in ({"steps": "12"} | words).items()}
    for name, image in (pictures or {}).items():
        data = io.BytesIO()
        image.save(data, "PNG")
        parts[name] = (f"{name}.png", data.getvalue())
    answer = http.post(f"/v1/{operation}", files=parts, headers={"accept": "image/png"})
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


def seen(image: Image.Image) -> tuple[str, str, str]:
    """Background, thing and colour, as the judge sees them."""
    said = judge.answers(judge.load(), [image.convert("RGB")])[0]
    colours = list(world.COLOURS)
    return colours[said[0]], world.KINDS[said[1]], colours[said[2]]


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [
        ("a large red star on a blue background", ("blue", "star", "red")),
        ("a white heart on a black background", ("black", "heart", "white")),
        ("a green person with arms up on a yellow background", ("yellow", "person", "green")),
    ],
)
def test_a_prompt_is_obeyed(http: httpx.Client, prompt: str, shown: tuple[str, str, str]) -> None:
    assert seen(ask(http, "text-to-image", prompt=prompt, seed="3")) == shown


def test_edges_and_words_are_obeyed_together(http: httpx.Client) -> None:
    scene = report.named(1, 9, person=0.0)[0]
    edges = control.canny(world.draw(scene))
    image = ask(
        http,
        "control",
        {"edges": edges},
        prompt=world.caption(scene),
        controls='[{"image": "part:edges", "kind": "canny"}]',
    )
    assert report.edge_f1(edges, control.canny(image.convert("RGB"))) > 0.7


def test_a_pose_is_taken_from_keypoints(http: httpx.Client) -> None:
    person = world.sample_person(random.Random(4), "red", pose=None)
    wished = world.keypoints(person, world.SIDE, world.SIDE)
    body = ",".join(f"[{x:.1f},{y:.1f},1]" for x, y in wished)
    points = f'{{"people": [{{"body": [{body}]}}], "width": {world.SIDE}, "height": {world.SIDE}}}'
    image = ask(
        http,
        "control",
        prompt="a red person on a white background",
        controls=f'[{{"keypoints": {points}, "kind": "openpose"}}]',
    )
    (found,) = pose.detect(image.convert("RGB"))
    off = [max(abs(x - a), abs(y - b)) for (x, y, _), (a, b) in zip(found, wished, strict=True)]
    assert np.median(off) < world.SIDE / 16


def test_inpainting_puts_in_what_is_asked(http: httpx.Client) -> None:
    scene = next(s for s in report.named(20, 61, person=0.0) if s.things[0].kind != "heart")
    thing = scene.things[0]
    colour = next(c for c in ("white", "purple", "green") if c not in (thing.colour, scene.background))
    wished = world.Scene(scene.background, (replace(thing, kind="heart", colour=colour, texture="plain"),))
    image = ask(
        http,
        "inpaint",
        {"image": world.draw(scene), "mask": world.mask(thing)},
        prompt=world.caption(wished),
        strength="1",
        steps="20",
        seed="1",
    )
    assert seen(image) == (scene.background, "heart", colour)


def test_a_lora_does_what_it_was_trained_for_and_is_named_in_the_picture(http: httpx.Client) -> None:
    words = {"prompt": "a large red circle on a blue background", "seed": "5", "steps": "20"}
    plain = ask(http, "text-to-image", **words)
    rimmed = ask(http, "text-to-image", **words, loras='[{"name": "outlined"}]')
    assert report.white(plain.convert("RGB")) < 0.01 < 0.02 < report.white(rimmed.convert("RGB"))
    assert "<lora:outlined:1>" in rimmed.info["parameters"]
    assert "Lora hashes: " in rimmed.info["parameters"]
    told = ask(http, "text-to-image", **words | {"prompt": f"{words['prompt']} <lora:outlined:1>"})
    assert np.array_equal(np.asarray(rimmed), np.asarray(told)), "as AUTOMATIC1111's users write it"
    again = ask(http, "text-to-image", **words)
    assert np.array_equal(np.asarray(plain), np.asarray(again)), "it left nothing behind"


def test_a_reference_lends_its_background(http: httpx.Client) -> None:
    reference = world.draw(report.named(3, 81, person=0.0)[0])
    ground, _, _ = seen(reference)
    shown = [
        seen(
            ask(
                http,
                "text-to-image",
                {"reference": reference},
                prompt="a circle",
                reference_scale="1",
                seed=str(seed),
            )
        )
        for seed in range(3)
    ]
    assert [found[0] for found in shown] == [ground] * 3
