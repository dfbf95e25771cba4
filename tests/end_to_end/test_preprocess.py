"""`preprocess` over real HTTP: the map that a control would follow, and the pose as JSON, out and in again."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from PIL import Image

from services.micro import world

BODY = [[20.0 + 6 * at, 110.0 - 5 * at, 0.9] for at in range(18)]


@pytest.fixture
def http(stack: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        yield client


@pytest.fixture
def photo(samples: Path) -> bytes:
    return (samples / "coffee.jpg").read_bytes()


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def ask(http: httpx.Client, image: bytes | None = None, **fields: Any) -> httpx.Response:
    accept = {"accept": "application/json"}
    if image is None:
        return http.post("/v1/preprocess", json=fields, headers=accept)
    data = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    return http.post("/v1/preprocess", data=data, files={"image": image}, headers=accept)


def told(http: httpx.Client, image: bytes | None = None, **fields: Any) -> tuple[Image.Image, dict[str, Any]]:
    """The map and the data."""
    answer = ask(http, image, **fields)
    assert answer.status_code == 200, answer.text
    job = answer.json()
    (picture,) = job["pictures"]
    assert picture["role"] == "map"
    return Image.open(io.BytesIO(http.get(picture["url"]).content)), job["data"]


def test_a_pose_goes_in_as_a_field_of_a_form(http: httpx.Client) -> None:
    keypoints = json.dumps({"people": [{"body": BODY}], "width": 128, "height": 128})
    form = {"kind": (None, "openpose"), "keypoints": (None, keypoints)}
    answer = http.post("/v1/preprocess", files=form)
    assert answer.status_code == 200, answer.text
    assert Image.open(io.BytesIO(answer.content)).size == (128, 128)


def test_edges_come_with_the_thresholds_that_were_found(http: httpx.Client, photo: bytes) -> None:
    map_, data = told(http, photo, kind="canny")
    pixels = np.asarray(Image.open(io.BytesIO(photo)).convert("RGB"))
    expected = cv2.Canny(pixels, data["low"], data["high"])
    assert np.array_equal(np.asarray(map_.convert("L")), expected)
    assert 0.03 < (expected > 0).mean() < 0.2


def test_given_thresholds_are_taken(http: httpx.Client, photo: bytes) -> None:
    map_, data = told(http, photo, kind="canny", low=50, high=300)
    assert (data["low"], data["high"]) == (50, 300)
    pixels = np.asarray(Image.open(io.BytesIO(photo)).convert("RGB"))
    assert np.array_equal(np.asarray(map_.convert("L")), cv2.Canny(pixels, 50, 300))


def test_a_pose_goes_in_as_json_and_comes_out_the_same(http: httpx.Client) -> None:
    pose = {"people": [{"body": BODY, "left_hand": [[10.5, 20.25, 1.0]] * 21}], "width": 160, "height": 120}
    map_, data = told(http, kind="openpose", keypoints=pose)
    assert map_.size == (160, 120)
    assert data["keypoints"] == pose
    again, data_again = told(http, kind="openpose", keypoints=data["keypoints"])
    assert np.array_equal(np.asarray(again), np.asarray(map_))
    assert data_again["keypoints"] == pose


def test_openposes_own_json_is_taken(http: httpx.Client) -> None:
    flat = [number for point in BODY for number in point]
    own = {"people": [{"pose_keypoints_2d": flat}], "canvas_width": 160, "canvas_height": 120}
    map_, _ = told(http, kind="openpose", keypoints=own)
    assert np.asarray(map_).any()


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("keypoints.width", {"kind": "openpose", "keypoints": {"people": [{"body": BODY}]}}),
        ("keypoints", {"kind": "openpose", "keypoints": {"people": [{"body": BODY[:4]}]}}),
        (
            "keypoints",
            {
                "kind": "openpose",
                "keypoints": {"people": [{"body": [[9, 9, 0]] * 18}], "width": 64, "height": 64},
            },
        ),
        ("kind", {"kind": "canny", "keypoints": {"people": [{"body": BODY}], "width": 64, "height": 64}}),
    ],
)
def test_a_pose_that_cannot_be_drawn_names_its_field(
    http: httpx.Client, field: str, fields: dict[str, Any]
) -> None:
    answer = ask(http, **fields)
    assert answer.status_code == 422
    assert answer.json()["field"].startswith(field)


def test_what_contradicts_itself_is_refused(http: httpx.Client, photo: bytes) -> None:
    assert ask(http, photo, kind="canny", low=200, high=100).status_code == 422
    assert ask(http, photo, kind="openpose", keypoints={"people": [{"body": BODY}]}).status_code == 422
    answer = ask(http, photo, kind="canny", model="openpose")
    assert answer.status_code == 422
    assert answer.json()["field"] == "model"


@pytest.mark.parametrize("part", ["hands", "face"])
def test_hands_and_faces_say_what_to_pull(http: httpx.Client, part: str) -> None:
    answer = ask(http, png(figure()[0]), kind="openpose", **{part: True})
    assert answer.status_code == 422
    assert answer.json()["field"] == part
    assert "darkroom models pull openpose" in answer.json()["help"]


def test_nobody_in_a_picture_is_told(http: httpx.Client) -> None:
    answer = ask(http, png(Image.new("RGB", (128, 128), (40, 80, 220))), kind="openpose")
    assert answer.status_code == 422
    assert answer.json()["field"] == "image"
    assert "No person" in answer.json()["detail"]


def figure(seed: int = 3) -> tuple[Image.Image, list[world.Point]]:
    """A person of the micro family's world, and where its points are."""
    rng = random.Random(seed)
    person = world.sample_person(rng, "red")
    return world.draw(world.Scene("white", (person,)), 256, 256), world.keypoints(person, 256, 256)


@pytest.mark.parametrize("seed", range(3))
def test_a_figures_points_are_found(http: httpx.Client, seed: int) -> None:
    image, points = figure(seed)
    map_, data = told(http, png(image), kind="openpose")
    assert data["model"] == "micro-pose"
    (person,) = data["keypoints"]["people"]
    off = [abs(x - a) + abs(y - b) for (x, y, _), (a, b) in zip(person["body"], points, strict=True)]
    assert np.median(off) < 10
    assert map_.size == image.size
    again, _ = told(http, kind="openpose", keypoints=data["keypoints"])
    assert np.array_equal(np.asarray(again), np.asarray(map_))


def test_a_job_is_asked_for_with_the_fields_of_the_operations_own_form(http: httpx.Client) -> None:
    keypoints = json.dumps({"people": [{"body": BODY}], "width": 128, "height": 128})
    form = {"operation": (None, "preprocess"), "kind": (None, "openpose"), "keypoints": (None, keypoints)}
    answer = http.post("/v1/jobs", files=form)
    assert answer.status_code == 202, answer.text
    assert answer.json()["params"]["kind"] == "openpose"
    http.delete(answer.headers["location"])
