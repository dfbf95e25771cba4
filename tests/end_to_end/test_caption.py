"""`caption` over real HTTP, with the micro family's CLIP: what is drawn is what is said."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from services.micro import world


@pytest.fixture
def http(stack: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        yield client


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def drawn(kind: str = "circle", colour: str = "red", background: str = "blue") -> Image.Image:
    """A large thing in the middle."""
    thing = world.Thing(kind, colour, "center", "large", 0.5, 0.5, 0.24)
    return world.draw(world.Scene(background, (thing,)), 200, 200)


def told(http: httpx.Client, image: Image.Image, **fields: str) -> dict[str, Any]:
    answer = http.post("/v1/caption", files={"image": png(image)}, data=fields)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


@pytest.mark.parametrize(
    ("kind", "colour", "background"),
    [("circle", "red", "blue"), ("star", "yellow", "black"), ("square", "green", "white")],
)
def test_what_is_drawn_is_said(http: httpx.Client, kind: str, colour: str, background: str) -> None:
    data = told(http, drawn(kind, colour, background), mode="best")
    assert f"{colour} {kind}" in data["caption"]
    assert f"on a {background} background" in data["caption"]
    assert data["model"] == "micro-clip"


def test_phrases_are_ranked_by_kind(http: httpx.Client) -> None:
    ranked = told(http, drawn("star", "yellow", "black"), phrases="3")["ranked"]
    assert ranked["colours"][0]["phrase"] == "yellow"
    assert ranked["backgrounds"][0]["phrase"] == "black background"
    for found in ranked.values():
        assert len(found) <= 3
        assert [phrase["score"] for phrase in found] == sorted((p["score"] for p in found), reverse=True)


@pytest.mark.parametrize("mode", ["best", "fast", "classic", "negative", "caption"])
def test_every_mode_answers(http: httpx.Client, mode: str) -> None:
    data = told(http, drawn("square", "green", "white"), mode=mode)
    assert data["caption"].startswith("a ")
    if mode == "negative":
        assert "green" not in data["prompt"]
        assert "white" not in data["prompt"]
    else:
        assert "green square" in data["prompt"]


def test_a_photograph_is_answered_too(http: httpx.Client, samples: Path) -> None:
    """The micro CLIP knows no photographs; it says what it finds likest, and no more can be asked of it."""
    answer = http.post("/v1/caption", files={"image": (samples / "coffee.jpg").read_bytes()})
    assert answer.status_code == 200
    assert answer.json()["data"]["caption"]


def test_a_transparent_picture_is_seen_on_white(http: httpx.Client) -> None:
    image = drawn("circle", "red", "white").convert("RGBA")
    image.putalpha(image.convert("L").point(lambda level: 0 if level > 240 else 255))
    assert "red circle" in told(http, image)["caption"]


@pytest.mark.parametrize(
    ("field", "fields"),
    [("mode", {"mode": "sing"}), ("phrases", {"phrases": "65"}), ("model", {"model": "clip-interrogator"})],
)
def test_what_is_asked_wrongly_is_named(http: httpx.Client, field: str, fields: dict[str, str]) -> None:
    answer = http.post("/v1/caption", files={"image": png(drawn())}, data=fields)
    assert answer.status_code == 422
    assert answer.json()["field"] == field
    if field == "model":
        assert "darkroom models pull clip-interrogator" in answer.json()["help"]


def test_what_is_no_picture_is_refused(http: httpx.Client) -> None:
    answer = http.post("/v1/caption", files={"image": b"no picture at all"})
    assert answer.status_code == 422
    assert answer.json()["field"] == "image"


def test_many_scenes_are_told_right(http: httpx.Client) -> None:
    """Colour and background of single things in scenes that training never saw."""
    rng, right, asked = random.Random(2026), 0, 0
    while asked < 8:
        scene = world.sample(rng, single=True)
        if not scene.unseen:
            continue
        asked += 1
        caption = told(http, world.draw(scene, 128, 128))["caption"]
        thing = scene.things[0]
        right += f"{thing.colour} {thing.kind}" in caption and f"on a {scene.background}" in caption
    assert right >= 6
