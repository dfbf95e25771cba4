"""rembg's dialect, asked as rembg's documentation shows its server."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

SAMPLE = Path(__file__).parents[3] / "docs" / "samples" / "astronaut.jpg"


@pytest.fixture(scope="module")
def door(stack: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        yield client


def remove(door: httpx.Client, **fields: str) -> httpx.Response:
    return door.post("/api/remove", files={"file": ("a.jpg", SAMPLE.read_bytes(), "image/jpeg")}, data=fields)


def opened(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    image = Image.open(io.BytesIO(answer.content))
    image.load()
    return image


def test_a_file_comes_back_cut_out(door: httpx.Client) -> None:
    cut = opened(remove(door))
    assert (cut.mode, cut.size) == ("RGBA", Image.open(SAMPLE).size)
    low, high = cut.getchannel("A").getextrema()
    assert (low, high) == (0, 255)


def test_only_the_mask(door: httpx.Client) -> None:
    assert opened(remove(door, om="true")).mode == "L"


def test_a_background_colour_lies_behind(door: httpx.Client) -> None:
    answer = door.post(
        "/api/remove?bgc=10,200,30,255", files={"file": ("a.jpg", SAMPLE.read_bytes(), "image/jpeg")}
    )
    image = opened(answer)
    assert image.convert("RGB").getpixel((2, 2)) == (10, 200, 30)


def test_a_model_is_named_as_ours_or_not_at_all(door: httpx.Client) -> None:
    opened(remove(door, model="grabcut"))
    refused = remove(door, model="birefnet-portrait-of-nobody")
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "model"]


@pytest.mark.parametrize(
    ("fields", "about"),
    [({"om": "maybe"}, "om"), ({"bgc": "blue"}, "bgc"), ({"bgc": "1,2,300"}, "bgc"), ({"a": "2"}, "a")],
)
def test_a_wrong_parameter_is_told_in_fastapis_form(
    door: httpx.Client, fields: dict[str, str], about: str
) -> None:
    refused = remove(door, **fields)
    assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", about])


def test_no_file_and_no_picture_are_refused(door: httpx.Client) -> None:
    asked: list[dict[str, Any]] = [
        {},
        {"data": {"om": "true"}},
        {"files": {"file2": b"x"}},
        {"files": {"file": ("a.txt", b"no picture", "text/plain")}},
    ]
    for one in asked:
        refused = door.post("/api/remove", **one)
        assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", "file"]), one


@pytest.mark.parametrize("url", ["notaurl", "http://10.0.0.1/a.jpg", "https://of-nobody.invalid/a.jpg"])
def test_an_address_that_cannot_be_used_is_told_of_the_url(door: httpx.Client, url: str) -> None:
    refused = door.get("/api/remove", params={"url": url})
    assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", "url"]), refused.text
    said = refused.json()["detail"][0]["msg"]
    assert "image" not in said and "asset:" not in said and "GET /v1/" not in said


def test_an_address_of_this_machine_is_not_fetched(door: httpx.Client) -> None:
    class Quiet(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(500, "somebody came")

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        refused = door.get("/api/remove", params={"url": f"http://127.0.0.1:{server.server_port}/a.jpg"})
        server.shutdown()
    assert refused.status_code == 422, refused.text
    assert door.get("/api/remove").status_code == 422


def test_a_wrong_method_says_which_are_right(door: httpx.Client) -> None:
    assert door.put("/api/remove").status_code == 405


def test_the_access_line_and_the_metrics_name_the_door(door: httpx.Client) -> None:
    opened(remove(door))
    told = door.get("/metrics").text
    assert 'door="rembg"' in told
