"""A toy operation in a temporary folder, by one declaration and one method, is found at every door that exists.

Beside it a second package has a chain: a toy that hands on to another toy, and one that hands on to `cleanup`.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

OPERATIONS = '''
from pydantic import Field

from services.operations import Encoded
from services.pictures import Picture


class Invert(Encoded, service="darkener"):
    """Turn light into dark."""

    image: Picture
    strength: float = Field(1.0, ge=0, le=1, description="How far it is turned.")
'''
SERVICE = """
from PIL import Image, ImageOps

from darkener.operations import Invert
from services.serving import Job, Service


class DarkenerService(Service):
    def invert(self, ask: Invert, job: Job) -> Image.Image:
        image = ask.image.pixels.convert("RGB")
        job.progress(1, 1)
        return Image.blend(image, ImageOps.invert(image), ask.strength)
"""
CHAIN_OPERATIONS = '''
from darkener.operations import Invert

from services.operations import Cleanup, Encoded, Operation
from services.pictures import Mask, Picture


class Shift(Encoded, service="chained"):
    """Swap red and blue, then turn light into dark."""

    image: Picture

    def then(self) -> Operation:
        return Invert(image=Picture("part:image"), format=self.format)


class Rub(Encoded, service="chained"):
    """Paint all grey, then rub out what the mask covers."""

    image: Picture
    mask: Mask

    def then(self) -> Operation:
        return Cleanup(image=Picture("part:image"), mask=Mask("part:mask"), format=self.format)
'''
CHAIN_SERVICE = """
from PIL import Image

from services.serving import Service


class ChainedService(Service):
    def shift(self, ask, job):
        red, green, blue = ask.image.pixels.convert("RGB").split()
        return Image.merge("RGB", (blue, green, red))

    def rub(self, ask, job):
        return Image.new("RGB", ask.image.pixels.size, (128, 128, 128))
"""
COLOUR, INVERTED = (200, 40, 90), (55, 215, 165)


def put(folder: Path, name: str, operations: str, service: str) -> None:
    package = folder / name
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "operations.py").write_text(operations)
    (package / "service.py").write_text(service)


@pytest.fixture(scope="module")
def extended(begin_stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("packages")
    put(folder, "darkener", OPERATIONS, SERVICE)
    put(folder, "chained", CHAIN_OPERATIONS, CHAIN_SERVICE)
    also = {"DARKROOM_EXTENSIONS": "darkener,chained", "PYTHONPATH": str(folder)}
    stack = begin_stack(
        tmp_path_factory.mktemp("extended"), "gateway", "cleanup", "darkener", "chained", also=also
    )
    stack.wait(lambda: "Darkroom is ready" in stack.said)
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def http(extended: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=extended.url, timeout=30) as client:
        yield client


def png(colour: tuple[int, int, int] = COLOUR, size: tuple[int, int] = (24, 16)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


def centre(data: bytes) -> Any:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return image.getpixel((image.width // 2, image.height // 2))


def run(extended: Any, *command: str) -> subprocess.CompletedProcess[str]:
    env = extended.env | {"DARKROOM_URL": extended.url}
    darkroom = Path(extended.process.args[0])
    return subprocess.run(
        [darkroom, *command], env=env, cwd=extended.data, capture_output=True, text=True, timeout=60
    )


def test_up_starts_its_service(extended: Any) -> None:
    assert {"darkener", "chained"} <= {path.stem for path in (extended.data / "run").glob("*.json")}


def test_it_answers_with_bytes(http: httpx.Client) -> None:
    answer = http.post("/v1/invert", files={"image": png()})
    assert answer.headers["content-type"] == "image/png"
    assert centre(answer.content) == INVERTED
    half = http.post("/v1/invert", files={"image": png()}, data={"strength": "0"})
    assert centre(half.content) == COLOUR
    refused = http.post("/v1/invert", files={"image": png()}, data={"strength": "2"})
    assert (refused.status_code, refused.json()["field"]) == (422, "strength")


def test_it_answers_with_a_document(http: httpx.Client) -> None:
    answer = http.post("/v1/invert", files={"image": png()}, headers={"accept": "application/json"}).json()
    assert (answer["operation"], answer["service"], answer["state"]) == ("invert", "darkener", "succeeded")
    assert centre(http.get(answer["pictures"][0]["url"]).content) == INVERTED


def test_it_answers_with_events(http: httpx.Client) -> None:
    answer = http.post("/v1/invert", files={"image": png()}, headers={"accept": "text/event-stream"})
    kinds = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    assert kinds == ["accepted", "progress", "result", "done"]


def test_it_can_be_a_job(http: httpx.Client) -> None:
    form = {"operation": "invert", "params": json.dumps({"image": "part:image"})}
    job = http.post("/v1/jobs", data=form, files={"image": png()}).json()
    events = http.get(job["links"]["events"]).text  # ends with the job
    assert "event: done" in events
    done = http.get(job["links"]["self"]).json()
    assert done["state"] == "succeeded"
    assert centre(http.get(done["pictures"][0]["url"]).content) == INVERTED


def test_it_is_in_the_catalogue(http: httpx.Client) -> None:
    listed = {one["name"]: one for one in http.get("/v1/operations").json()["operations"]}
    assert {"invert", "shift", "rub"} <= listed.keys()
    assert listed["invert"]["available"]
    assert listed["invert"]["summary"] == "Turn light into dark."
    assert listed["invert"]["pictures"] == {"image": "picture"}
    assert listed["invert"]["params"]["properties"]["strength"]["maximum"] == 1
    assert listed["rub"]["pictures"] == {"image": "picture", "mask": "mask"}
    assert http.get("/v1/operations/invert").json() == listed["invert"]


def test_it_is_in_the_openapi(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    route = document["paths"]["/v1/invert"]["post"]
    assert route["summary"] == "Turn light into dark."
    content = route["requestBody"]["content"]
    form = document["components"]["schemas"][content["multipart/form-data"]["schema"]["$ref"].split("/")[-1]]
    assert form["properties"]["image"]["format"] == "binary"
    assert form["properties"]["strength"]["maximum"] == 1
    assert form["required"] == ["image"]
    assert {"200", "202", "422", "429", "503"} <= route["responses"].keys()


def test_its_calls_are_counted(http: httpx.Client) -> None:
    http.post("/v1/invert", files={"image": png()})
    lines = http.get("/metrics").text.splitlines()
    counted = [line for line in lines if 'operation="invert"' in line and "request" in line]
    assert counted
    assert any('service="darkener"' in line for line in lines)


def test_its_form_is_on_the_page(http: httpx.Client) -> None:
    page = http.get("/").text
    section = page.partition('id="invert"')[2].partition("</section>")[0]
    assert "Turn light into dark." in section
    assert 'action="/v1/invert"' in section
    assert 'type="file" name="image"' in section
    assert 'name="strength"' in section


def test_the_command_has_it_with_a_flag_for_each_parameter(extended: Any, tmp_path: Path) -> None:
    (tmp_path / "in.png").write_bytes(png())
    done = run(
        extended,
        "run",
        "invert",
        str(tmp_path / "in.png"),
        "--strength",
        "1",
        "-o",
        str(tmp_path / "out.png"),
    )
    assert done.returncode == 0, done.stderr
    assert centre((tmp_path / "out.png").read_bytes()) == INVERTED
    told = run(extended, "run", "invert", "--help")
    assert "Turn light into dark." in told.stdout
    assert "How far it is turned." in told.stdout


def test_the_python_client_has_it(extended: Any, tmp_path: Path) -> None:
    """In a process of its own, which knows the extension as a program of a user would."""
    (tmp_path / "in.png").write_bytes(png())
    program = (
        "from gateway.client import Darkroom\n"
        "with Darkroom() as darkroom:\n"
        "    result = darkroom.run('invert', image='in.png')\n"
        "    job = darkroom.submit('shift', image='in.png')\n"
        "    print(result.picture.pil().getpixel((1, 1)), job.wait(30).picture.pil().getpixel((1, 1)))\n"
    )
    env = extended.env | {"DARKROOM_URL": extended.url}
    paths = os.pathsep.join([env["PYTHONPATH"], str(Path(__file__).parents[2])])
    python = Path(extended.process.args[0]).with_name("python")
    done = subprocess.run(
        [python, "-c", program],
        env=env | {"PYTHONPATH": paths},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{INVERTED} (165, 215, 55)"


def test_a_client_that_does_not_know_it_can_ask_for_it_too(http: httpx.Client, extended: Any) -> None:
    from gateway.client import Darkroom

    with Darkroom(extended.url) as darkroom:
        assert centre(darkroom.run("invert", image=png()).picture.content) == INVERTED


def test_a_toy_hands_on_to_another(http: httpx.Client) -> None:
    answer = http.post("/v1/shift", files={"image": png()}, headers={"accept": "application/json"}).json()
    assert answer["operation"] == "shift"
    assert len(answer["pictures"]) == 1, "what is handed on is no result"
    assert centre(http.get(answer["pictures"][0]["url"]).content) == (165, 215, 55)


def test_a_toy_hands_on_to_cleanup_with_the_mask_it_was_given(http: httpx.Client) -> None:
    mask = Image.new("L", (24, 16))
    mask.paste(255, (8, 4, 16, 12))
    out = io.BytesIO()
    mask.save(out, "PNG")
    answer = http.post(
        "/v1/rub", files={"image": png(), "mask": out.getvalue()}, headers={"accept": "image/webp"}
    )
    assert answer.headers["content-type"] == "image/webp"
    assert all(abs(got - 128) <= 3 for got in centre(answer.content))
    job = http.post(
        "/v1/rub", files={"image": png(), "mask": out.getvalue()}, headers={"prefer": "respond-async"}
    ).json()
    assert "event: done" in http.get(job["links"]["events"]).text
    done = http.get(job["links"]["self"]).json()
    assert done["state"] == "succeeded", done["error"]
    assert len(done["pictures"]) == 1
