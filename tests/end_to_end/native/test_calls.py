"""Synchronous calls over real HTTP, with real photographs."""

from __future__ import annotations

import base64
import contextlib
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.end_to_end.native.asking import at_work, dot, entered, events, opened, until


def test_a_photograph_is_cut_out_as_png(ann: httpx.Client, photo: bytes) -> None:
    answer = ann.post("/v1/remove-background", files={"image": photo})
    assert answer.headers["content-type"] == "image/png"
    image = opened(answer.content)
    assert (image.mode, image.size) == ("RGBA", opened(photo).size)
    assert answer.headers["x-darkroom-size"] == f"{image.width}x{image.height}"
    assert answer.headers["x-darkroom-model"]
    assert "run;dur=" in answer.headers["server-timing"]
    assert answer.headers["cache-control"] == "no-store"
    low, high = image.getchannel("A").getextrema()
    assert (low, high) == (0, 255)


def test_what_the_mask_covers_is_erased_and_nothing_else(
    ann: httpx.Client, photo: bytes, mask: bytes
) -> None:
    answer = ann.post("/v1/cleanup", files={"image": photo, "mask": mask})
    before, after, where = (
        opened(photo).convert("RGB"),
        opened(answer.content).convert("RGB"),
        opened(mask).convert("L"),
    )
    assert after.size == before.size
    black = Image.new("RGB", before.size)
    kept = where.point(lambda value: 0 if value > 127 else 255)
    assert Image.composite(before, black, kept).tobytes() == Image.composite(after, black, kept).tobytes()
    assert Image.composite(before, black, where).tobytes() != Image.composite(after, black, where).tobytes()


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_accept_and_format_choose_the_files_format(ann: httpx.Client, photo: bytes, kind: str) -> None:
    url, files = "/v1/remove-background", {"image": photo}
    by_accept = ann.post(url, files=files, headers={"accept": f"image/{kind}"})
    by_format = ann.post(url, files=files, data={"format": kind}, headers={"accept": "image/png, */*"})
    for answer in (by_accept, by_format):
        assert answer.headers["content-type"] == f"image/{kind}"
        assert str(opened(answer.content).format).lower() == kind


def test_quality_counts(ann: httpx.Client, photo: bytes, mask: bytes) -> None:
    sizes = [
        len(
            ann.post(
                "/v1/cleanup",
                files={"image": photo, "mask": mask},
                data={"format": "jpeg", "quality": str(quality)},
            ).content
        )
        for quality in (10, 60, 95)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] * 3 < sizes[2]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "image/png"),
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("image/avif, image/webp, */*;q=0.1", "image/webp"),
        ("application/json;q=0.9, image/jpeg;q=0.5", "application/json"),
        ("text/html, application/json", "application/json"),
        ("text/event-stream", "text/event-stream"),
        ("image/webp;q=0, image/png", "image/png"),
    ],
)
def test_accept_rules(ann: httpx.Client, accept: str, kind: str) -> None:
    answer = ann.post("/v1/remove-background", files={"image": dot()}, headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)


def test_json_in_and_json_out(ann: httpx.Client, photo: bytes) -> None:
    for image in (
        base64.b64encode(photo).decode(),
        base64.urlsafe_b64encode(photo).decode(),
        f"data:image/jpeg;base64,{base64.b64encode(photo).decode()}",
    ):
        ask = {"image": image, "background": "#102030", "format": "jpeg"}
        document = ann.post("/v1/remove-background", json=ask, headers={"accept": "application/json"}).json()
        assert document["state"] == "succeeded"
        assert document["params"]["background"] == "#102030"
        assert document["params"]["image"] == "part:image", "megabytes that were sent do not come back"
        picture = document["pictures"][0]
        assert (picture["media_type"], picture["role"]) == ("image/jpeg", "picture")
        read = ann.get(picture["url"])
        assert len(read.content) == picture["bytes"]
        assert opened(read.content).size == (picture["width"], picture["height"])
        created, finished = (datetime.fromisoformat(document[key]) for key in ("created_at", "finished_at"))
        assert created <= finished


def test_a_parameter_may_name_a_part(ann: httpx.Client, photo: bytes, samples: Path) -> None:
    behind = (samples / "coffee.jpg").read_bytes()
    form = {"image": "part:me", "background": "part:behind"}
    answer = ann.post("/v1/remove-background", data=form, files={"me": photo, "behind": behind})
    assert answer.status_code == 200, answer.text
    assert opened(answer.content).size == opened(photo).size
    plain = ann.post("/v1/remove-background", data={"background": "white"}, files={"image": photo})
    assert plain.content != answer.content
    assert opened(plain.content).convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


def test_events_tell_of_each_step_and_of_the_result(ann: httpx.Client) -> None:
    form = {"number": "513", "steps": "5", "pause": "0.05"}
    with ann.stream(
        "POST", "/v1/stamp", data=form, files={"image": dot()}, headers={"accept": "text/event-stream"}
    ) as answer:
        told = list(events(answer))
    kinds = [kind for _, kind, _ in told]
    assert (kinds[0], kinds[-2:]) == ("accepted", ["result", "done"])
    steps = [data["step"] for _, kind, data in told if kind == "progress"]
    assert steps == sorted(steps)
    assert steps[-1] == 5
    assert opened(ann.get(told[-2][2]["url"]).content).getpixel((0, 0)) == (2, 1, 77)
    assert told[-1][2]["pictures"][0] == told[-2][2]


def test_what_is_refused_before_the_first_event_keeps_its_status(ann: httpx.Client, photo: bytes) -> None:
    cut = photo[: len(photo) // 2]
    answer = ann.post("/v1/remove-background", files={"image": cut}, headers={"accept": "text/event-stream"})
    assert (answer.status_code, answer.json()["field"]) == (422, "image")


def test_a_failure_among_events_is_an_event(ann: httpx.Client) -> None:
    form = {"steps": "200", "pause": "0.05"}
    headers = {"accept": "text/event-stream", "prefer": "wait=0.5"}
    with ann.stream("POST", "/v1/stamp", data=form, files={"image": dot()}, headers=headers) as answer:
        told = list(events(answer))
    assert (answer.status_code, told[0][1], told[-1][1]) == (200, "accepted", "error")
    assert told[-1][2]["type"].endswith("deadline-exceeded")
    assert told[-1][2]["request_id"] == answer.headers["x-request-id"]


def test_prefer_wait_shortens_the_deadline(ann: httpx.Client) -> None:
    began = time.monotonic()
    form = {"steps": "200", "pause": "0.05"}
    answer = ann.post("/v1/stamp", data=form, files={"image": dot()}, headers={"prefer": "wait=0.5"})
    assert answer.status_code == 504
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("accept", ["image/png", "application/json", "text/event-stream"])
def test_a_client_that_goes_away_ends_the_work_within_a_step(
    native: Any, ann: httpx.Client, accept: str
) -> None:
    def call() -> None:
        hang_up = time.monotonic() + 0.7
        with entered(native, ann.headers["authorization"].removeprefix("Bearer ")) as client:
            asked = client.build_request(
                "POST",
                "/v1/stamp",
                data={"steps": "600", "pause": "0.1"},
                files={"image": dot()},
                headers={"accept": accept},
                timeout=0.7,
            )
            with contextlib.suppress(httpx.ReadTimeout):
                answer = client.send(asked, stream=True)
                for _ in answer.iter_bytes():
                    if time.monotonic() > hang_up:
                        return

    assert at_work(native) == 0
    thread = threading.Thread(target=call)
    thread.start()
    until(lambda: at_work(native) == 1)
    thread.join()
    assert until(lambda: at_work(native) == 0) < 1.0
