"""rembg's server, asked as its documentation shows."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from PIL import Image

from tests.end_to_end.doors.conformance.checks import House, Table, opened, photo

endpoints = Table("of rembg's server")


def post(house: House, more: dict[str, Any]) -> httpx.Response:
    """As its form has them; quick unless a model is named."""
    fields = {"model": "grabcut"} | {name: str(value) for name, value in more.items()}
    return house.http.post("/api/remove", files={"file": ("a.jpg", photo(), "image/jpeg")}, data=fields)


def cut(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return opened(answer.content)


@endpoints.works("POST /api/remove")
def _(house: House) -> None:
    image = cut(post(house, {}))
    assert (image.mode, image.size) == ("RGBA", (160, 160))
    assert image.getchannel("A").getextrema() == (0, 255)


@endpoints.works("GET /api/remove")
def _(house: House) -> None:
    """An address outside cannot be reached in a test; that it is read, and asked for, can be seen."""
    assert house.http.get("/api/remove").json()["detail"][0]["loc"] == ["body", "url"]
    unknown = house.http.get("/api/remove", params={"url": "https://pictures.invalid/a.jpg"})
    assert unknown.status_code == 422
    assert "pictures.invalid" in unknown.text


@endpoints.refused("GET /api/remove?url=http://127.0.0.1")
def _(house: House) -> httpx.Response:
    came = threading.Event()

    class Watched(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            came.set()
            self.send_error(500)

    with ThreadingHTTPServer(("127.0.0.1", 0), Watched) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.jpg"
        refusal = house.http.get("/api/remove", params={"url": url})
        server.shutdown()
    assert not came.is_set()
    return refusal


@endpoints.refused("GET /api")
def _(house: House) -> httpx.Response:
    return house.http.get("/api")


parameters = Table("of a picture at rembg")


@parameters.works("file")
def _(house: House) -> None:
    assert house.http.post("/api/remove", files={"file2": ("a.jpg", photo())}).status_code == 422
    bad = house.http.post("/api/remove", files={"file": ("a.jpg", b"no picture")})
    assert bad.status_code == 422


@parameters.works("url")
def _(house: House) -> None:
    nonsense = house.http.get("/api/remove", params={"url": "nonsense"})
    assert (nonsense.status_code, list(nonsense.json())) == (422, ["detail"])


@parameters.works("model")
def _(house: House) -> None:
    assert cut(post(house, {"model": "micro-matte"})).tobytes() != cut(post(house, {})).tobytes()


@parameters.refused("model: a name that is not here")
def _(house: House) -> httpx.Response:
    refusal = post(house, {"model": "u2net_of_nobody"})
    assert refusal.json()["detail"][0]["loc"] == ["body", "model"]
    return refusal


@parameters.works("a", "vm")
def _(house: House) -> None:
    plain, matted, by_vm = (cut(post(house, more)) for more in ({}, {"a": "true"}, {"vm": "true"}))
    assert matted.tobytes() == by_vm.tobytes() != plain.tobytes()


@parameters.works("om")
def _(house: House) -> None:
    assert cut(post(house, {"om": "true"})).mode == "L"


@parameters.works("bgc")
def _(house: House) -> None:
    for given in ({"params": {"bgc": "10,200,30,255"}}, {"data": {"bgc": "10,200,30"}}):
        file = {"file": ("a.jpg", photo(), "image/jpeg")}
        image = cut(house.http.post("/api/remove", files=file, **given))
        assert image.convert("RGB").getpixel((2, 2)) == (10, 200, 30)
    assert post(house, {"bgc": "blue"}).status_code == 422


def matted(house: House, more: dict[str, Any]) -> bytes:
    return cut(post(house, {"a": "true"} | more)).tobytes()


parameters.ignored(matted, af=200, ab=40, ae=3, ppm="true", dc="true", extras='{"x": 1}')

errors = Table("of rembg's answers")


@errors.works("detail")
def _(house: House) -> None:
    wrong = post(house, {"om": "perhaps"}).json()
    assert [set(one) for one in wrong["detail"]] == [{"loc", "msg", "type"}]
    assert wrong["detail"][0]["loc"] == ["body", "om"]
