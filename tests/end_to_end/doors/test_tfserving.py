"""TensorFlow Serving's REST through the gateway, under /tfserving/."""

from __future__ import annotations

import base64
import io
import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw

KEY = "an-admin-key-of-more-than-24-letters"
PREDICT = "/tfserving/v1/models/creatures:predict"


@pytest.fixture(scope="module")
def house(begin_stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    started = begin_stack(tmp_path_factory.mktemp("tfserving"), "gateway", "pix2pix", admin_key=KEY)
    try:
        started.wait(lambda: "Darkroom is ready" in started.said)
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def door(house: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=house.url, timeout=60, headers={"x-api-key": KEY}) as client:
        yield client


def sketch(side: int = 64) -> bytes:
    image = Image.new("RGB", (side, side), "white")
    ImageDraw.Draw(image).ellipse((8, 8, side - 8, side - 8), outline="black", width=2)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def rows(*pictures: bytes) -> dict[str, Any]:
    return {"instances": [{"b64": base64.b64encode(one).decode()} for one in pictures]}


def test_sketches_are_coloured_as_if_there_were_no_gateway(door: httpx.Client) -> None:
    answer = door.post(PREDICT, json=rows(sketch(), sketch()))
    assert answer.status_code == 200, answer.text
    first, second = (base64.b64decode(one["b64"]) for one in answer.json()["predictions"])
    assert first == second
    ours = door.post("/v1/sketch-to-image", files={"image": ("s.png", sketch())})
    assert ours.content == first
    columns = {"inputs": {"image_bytes": [{"b64": base64.b64encode(sketch()).decode()}]}}
    assert base64.b64decode(door.post(PREDICT, json=columns).json()["outputs"][0]["b64"]) == first
    told = door.get("/metrics").text
    assert 'darkroom_requests_total{door="tfserving",operation="sketch-to-image",status="2xx"}' in told


def test_models_tell_of_themselves(door: httpx.Client) -> None:
    status = door.get("/tfserving/v1/models/creatures").json()["model_version_status"]
    assert status[0]["state"] == "AVAILABLE"
    version = status[0]["version"]
    assert door.get(f"/tfserving/v1/models/creatures/versions/{version}").status_code == 200
    assert "signature_def" in door.get("/tfserving/v1/models/creatures/metadata").json()["metadata"]
    predicted = door.post(f"/tfserving/v1/models/creatures/versions/{version}:predict", json=rows(sketch()))
    assert predicted.status_code == 200


def test_what_is_refused_is_told_in_tensorflow_servings_form(door: httpx.Client, house: Any) -> None:
    for method, path, body, status in (
        ("GET", "/tfserving/v1/models/nobody", None, 404),
        ("GET", "/tfserving/v1/models/creatures/versions/999", None, 404),
        ("GET", "/tfserving/v1/nothing", None, 404),
        ("GET", "/tfserving/monitoring/prometheus/metrics", None, 404),
        ("GET", "/tfserving/v1/models/creatures/../../../metrics", None, 404),
        ("GET", PREDICT, None, 404),
        ("POST", "/tfserving/v1/models/creatures:classify", rows(sketch()), 404),
        ("POST", PREDICT, {"instances": []}, 400),
        ("POST", PREDICT, rows(b"no picture"), 400),
        ("POST", PREDICT, rows(sketch()[:-40]), 400),
        ("POST", PREDICT, {"instances": [{"b64": "?"}]}, 400),
        ("DELETE", PREDICT, None, 405),
    ):
        answer = door.request(method, path, json=body) if body else door.request(method, path)
        if "/../" not in path:  # which the client itself resolves
            assert list(answer.json()) == ["error"], answer.text
        assert answer.status_code == status, (path, answer.text)
    stranger = httpx.get(f"{house.url}/tfserving/v1/models/creatures")
    assert (stranger.status_code, list(stranger.json())) == (401, ["error"])
    assert stranger.headers["www-authenticate"] == "Bearer"


def test_a_quota_counts_what_is_made_here(door: httpx.Client) -> None:
    made = door.post("/v1/admin/keys", json={"name": "poor", "daily_pictures": 2}).json()
    poor = {"x-api-key": made["secret"]}
    assert door.post(PREDICT, json=rows(sketch(), sketch(), sketch()), headers=poor).status_code == 429
    assert door.post(PREDICT, json=rows(sketch(), sketch()), headers=poor).status_code == 200
    assert door.post(PREDICT, json=rows(sketch()), headers=poor).status_code == 429


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_nonsense_is_the_callers_mistake(door: httpx.Client, count: int) -> None:
    chance = random.Random(count)
    whole = json.dumps({"signature_name": "serving_default", **rows(sketch(16))}).encode()
    statuses: Counter[int] = Counter()
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(chance.choice((0, 1, 2, 8))):
            at = chance.randrange(len(data))
            match chance.randrange(3):
                case 0:
                    data[at] ^= 1 << chance.randrange(8)
                case 1:
                    del data[at : at + chance.randrange(1, 9)]
                case 2:
                    data[at:at] = chance.choice((b"null", b"-1", b"[", b"{}", b'"', b"1e999", b"\x00", b"=="))
        answer = door.post(PREDICT, content=bytes(data))
        statuses[answer.status_code] += 1
        assert answer.status_code == 200 or list(answer.json()) == ["error"]
    assert not statuses.keys() - {200, 400, 404, 413}, statuses
    assert min(statuses[200], statuses[400]) > count / 20
