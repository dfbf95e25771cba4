"""`sketch-to-image` over HTTP, with the real gateway before the embedded TensorFlow Serving.

Two versions of one model: `stable` gives back what it gets, `canary` turns green around, so that a test can say which
of them made a picture. What Darkroom's own model makes of a sketch is tested at the end.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image, ImageChops, ImageStat

from tests.end_to_end.conftest import DARKROOM

NETS = Path(__file__).parents[1] / "tf_serving" / "nets"
SAMPLES = Path(__file__).parents[1] / "pix2pix" / "samples"
STABLE, CANARY = 1, 2
ADMIN = "an-admin-key-for-tests-0123456789abcdef"


def model_folder(folder: Path) -> Path:
    """A models.config with the two versions; the file to start the server with."""
    for version, net in ((STABLE, "same"), (CANARY, "swap")):
        place = folder / "creatures" / str(version)
        place.mkdir(parents=True)
        shutil.copy(NETS / f"{net}.tflite", place / "model.tflite")
        (place / "model.json").write_text(
            json.dumps(
                {
                    "name": "creatures",
                    "side": 16,
                    "signatures": ["serving_default", "picture", "tensor"],
                    "pictures": 1,
                }
            )
        )
    config = folder / "models.config"
    config.write_text(
        f"""model_config_list {{ config {{
            name: "creatures" base_path: "{folder / "creatures"}" model_platform: "tensorflow"
            model_version_policy {{ all {{}} }}
            version_labels {{ key: "stable" value: {STABLE} }} version_labels {{ key: "canary" value: {CANARY} }}
        }} }}"""
    )
    return config


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def sketches(begin_stack: Any, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    stack = begin_stack(
        tmp_path_factory.mktemp("sketches"),
        *("gateway", "pix2pix"),
        pix2pix_config=str(config),
        pix2pix_version="stable",
    )
    stack.wait(lambda: "Darkroom is ready" in stack.said)
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def http(sketches: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=sketches.url, timeout=60) as client:
        yield client


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def drawing(size: tuple[int, int] = (48, 32), colour: Any = (200, 60, 40)) -> Image.Image:
    """Flat colour with room around, which comes through a net of sixteen pixels as it is."""
    return Image.new("RGB", size, colour)


def ask(http: httpx.Client, picture: bytes, accept: str = "*/*", **fields: Any) -> httpx.Response:
    data = {name: str(value) for name, value in fields.items()}
    return http.post(
        "/v1/sketch-to-image", data=data, files={"image": ("sketch", picture)}, headers={"accept": accept}
    )


def centre(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB").getpixel((image.width // 2, image.height // 2))


def near(found: Any, wanted: Any, by: int = 4) -> bool:
    return all(abs(a - b) <= by for a, b in zip(found, wanted, strict=True))


# ── pictures in and out ──────────────────────────────────────────────────────────────────────────────────────


def _upright_when_turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # quarter to the right
    return saved(drawing((32, 48)), "JPEG", exif=exif, quality=95)


PICTURES = {
    "png": saved(drawing()),
    "palette": saved(drawing().quantize(4)),
    "grey": saved(drawing().convert("L")),
    "transparent": saved(drawing().convert("RGBA")),
    "sixteen-bits": saved(Image.new("I;16", (48, 32), 0x8080)),
    "jpeg": saved(drawing(), "JPEG", quality=95),
    "jpeg-turned": _upright_when_turned(),
    "jpeg-cmyk": saved(drawing().convert("CMYK"), "JPEG", quality=95),
    "webp": saved(drawing(), "WEBP", lossless=True),
    "gif": saved(drawing(), "GIF"),
    "bmp": saved(drawing(), "BMP"),
    "tiff": saved(drawing(), "TIFF"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_sketch_of_any_format_comes_back_in_its_own_size(http: httpx.Client, kind: str) -> None:
    answer = ask(http, PICTURES[kind])
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-darkroom-size"] == "48x32"
    assert answer.headers["x-darkroom-model"] == "creatures"
    wanted = (128, 128, 128) if kind == "sixteen-bits" else (200, 60, 40)
    if kind == "grey":
        wanted = drawing().convert("L").convert("RGB").getpixel((0, 0))
    assert near(centre(answer.content), wanted, 8 if "cmyk" in kind else 5)


def test_what_is_transparent_is_white(http: httpx.Client) -> None:
    answer = ask(http, saved(Image.new("RGBA", (20, 20), (0, 0, 0, 0))))
    assert centre(answer.content) == (255, 255, 255)


@pytest.mark.parametrize(
    ("accept", "kind", "read"),
    [("image/jpeg", "jpeg", "JPEG"), ("image/webp", "webp", "WEBP"), ("image/png", "png", "PNG")],
)
def test_the_answer_has_the_format_that_is_accepted(
    http: httpx.Client, accept: str, kind: str, read: str
) -> None:
    answer = ask(http, PICTURES["png"], accept)
    assert answer.headers["content-type"] == f"image/{kind}"
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.size) == (read, (48, 32))
    assert near(centre(answer.content), (200, 60, 40), 6)


def test_quality_is_obeyed(http: httpx.Client) -> None:
    noise = saved(Image.effect_noise((256, 256), 90))
    small, large = (ask(http, noise, "image/jpeg", quality=quality) for quality in (10, 95))
    assert len(small.content) < len(large.content) / 2


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (3000, 2), (17, 16)])
def test_odd_sizes_come_back_as_they_are(http: httpx.Client, size: tuple[int, int]) -> None:
    answer = ask(http, saved(drawing(size)))
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-darkroom-size"] == f"{size[0]}x{size[1]}"


def test_a_large_drawing_comes_back_whole_and_says_how_long_the_work_took(http: httpx.Client) -> None:
    answer = ask(http, saved(drawing((4000, 3000))), "image/jpeg")
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-darkroom-size"] == "4000x3000"
    queue, run = (float(one.partition("=")[2]) for one in answer.headers["server-timing"].split(","))
    assert queue < run > 50


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────


def _claims(width: int, height: int) -> bytes:
    png = bytearray(saved(Image.new("L", (8, 8))))
    png[16:24] = width.to_bytes(4) + height.to_bytes(4)
    return bytes(png)


@pytest.mark.parametrize(
    ("picture", "fields", "status", "slug", "field"),
    [
        (b"this is a text", {}, 422, "bad-picture", "image"),
        (b"", {}, 422, "bad-picture", "image"),
        (PICTURES["png"][:60], {}, 422, "bad-picture", "image"),
        (_claims(60_000, 60_000), {}, 413, "too-large", "image"),
        (_claims(5_000, 5_000), {}, 422, "bad-picture", "image"),
        (PICTURES["png"], {"model": "dragons"}, 422, "unknown-model", "model"),
        (PICTURES["png"], {"version": "99"}, 422, "unknown-model", "version"),
        (PICTURES["png"], {"version": "gold"}, 422, "unknown-model", "version"),
        (PICTURES["png"], {"version": "-1"}, 422, "bad-input", "version"),
        (PICTURES["png"], {"steps": "4"}, 422, "bad-input", "steps"),
        (PICTURES["png"], {"format": "gif"}, 422, "bad-input", "format"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_mistake_is_told_with_its_field(
    http: httpx.Client, picture: bytes, fields: dict[str, str], status: int, slug: str, field: str
) -> None:
    answer = ask(http, picture, **fields)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (status, f"urn:darkroom:problem:{slug}"), problem
    assert problem["field"] == field
    assert problem["help"]
    assert ask(http, PICTURES["png"]).status_code == 200


@pytest.mark.slow
def test_hostile_pictures_never_break_it(http: httpx.Client, hostile_pictures: list[Any]) -> None:
    def one(picture: Any) -> tuple[str, int, str]:
        answer = ask(http, picture.data)
        return picture.name, answer.status_code, answer.text[:200] if answer.status_code >= 400 else ""

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(one, hostile_pictures))
    assert [found for found in answers if found[1] not in (200, 413, 422)] == []
    assert any(status == 200 for _, status, _ in answers)
    assert ask(http, PICTURES["png"]).status_code == 200


# ── versions ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("version", "made_by"),
    [(None, STABLE), ("stable", STABLE), ("canary", CANARY), ("1", STABLE), ("2", CANARY)],
)
def test_a_label_or_a_number_chooses_the_version(
    http: httpx.Client, version: str | None, made_by: int
) -> None:
    answer = ask(http, PICTURES["png"], **({} if version is None else {"version": version}))
    assert answer.headers["x-darkroom-version"] == str(made_by)
    assert near(centre(answer.content), (200, 60, 40) if made_by == STABLE else (200, 195, 84))


def test_json_may_give_the_version_as_a_number(http: httpx.Client, sketches: Any) -> None:
    asset = http.post("/v1/assets", content=PICTURES["png"], headers={"content-type": "image/png"}).json()
    answer = http.post(
        "/v1/sketch-to-image",
        json={"image": f"asset:{asset['id']}", "version": CANARY},
        headers={"accept": "application/json"},
    )
    document = answer.json()
    assert (document["model"], document["data"]) == ("creatures", {"version": CANARY})


def test_the_list_of_models_has_its_versions_and_labels(http: httpx.Client) -> None:
    (model,) = [one for one in http.get("/v1/models").json()["data"] if one["service"] == "pix2pix"]
    assert (model["id"], model["loaded"]) == ("creatures", True)
    assert {one["version"]: one["state"] for one in model["versions"]} == {
        STABLE: "available",
        CANARY: "available",
    }
    assert model["labels"] == {"stable": STABLE, "canary": CANARY}


# ── everything behind works as with any service ──────────────────────────────────────────────────────────────


def test_events_and_jobs_are_those_of_any_operation(http: httpx.Client) -> None:
    said = ask(http, PICTURES["png"], "text/event-stream").text
    assert [line for line in said.splitlines() if line.startswith("event: ")] == [
        "event: accepted",
        "event: result",
        "event: done",
    ]
    form = {"operation": "sketch-to-image", "params": json.dumps({"version": "canary", "format": "webp"})}
    submitted = [
        http.post(
            "/v1/jobs",
            data=form,
            files={"image": PICTURES["png"]},
            headers={"idempotency-key": "a-sketch"},
        )
        for _ in range(2)
    ]
    assert [answer.status_code for answer in submitted] in ([202, 202], [202, 200]), submitted[0].text
    assert submitted[0].json()["id"] == submitted[1].json()["id"]
    job = finished(http, submitted[0].json()["id"])
    assert (job["state"], job["model"], job["data"]) == ("succeeded", "creatures", {"version": CANARY}), job
    (picture,) = job["pictures"]
    assert (picture["media_type"], picture["width"], picture["height"]) == ("image/webp", 48, 32)
    assert near(centre(http.get(picture["url"]).content), (200, 195, 84), 6)


def finished(http: httpx.Client, job: str) -> Any:
    until = time.monotonic() + 30
    while (found := http.get(f"/v1/jobs/{job}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found


def test_a_crowd_gets_each_its_own_picture(http: httpx.Client, sketches: Any) -> None:
    colours = [(10 * n, 255 - 10 * n, 120) for n in range(24)]

    def one(colour: tuple[int, int, int]) -> bytes:
        with httpx.Client(base_url=sketches.url, timeout=60) as client:
            return ask(client, saved(drawing((40 + colour[0] % 7, 30), colour))).content

    with ThreadPoolExecutor(24) as threads:
        made = list(threads.map(one, colours))
    assert [near(centre(picture), colour) for picture, colour in zip(made, colours, strict=True)] == [
        True
    ] * 24


# ── browser truth: no address ever shows an old picture ──────────────────────────────────────────────────────


def test_every_answer_says_how_it_may_be_cached(http: httpx.Client) -> None:
    picture = PICTURES["png"]
    assert ask(http, picture).headers["cache-control"] == "no-store"
    assert ask(http, picture, "text/event-stream").headers["cache-control"] == "no-store"
    document = ask(http, picture, "application/json")
    assert document.headers["cache-control"] == "no-store"
    refusal = ask(http, b"text")
    assert refusal.headers["cache-control"] == "no-cache"
    (made,) = document.json()["pictures"]
    asset = http.get(made["url"])
    private, age, immutable = asset.headers["cache-control"].split(", ")
    assert (private, immutable) == ("private", "immutable")
    assert int(age.removeprefix("max-age=")) > 3600
    again = http.get(made["url"], headers={"if-none-match": asset.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    job = http.post("/v1/jobs", data={"operation": "sketch-to-image"}, files={"image": picture})
    ended = http.get(f"/v1/jobs/{finished(http, job.json()['id'])['id']}")
    for answer in (job, ended, http.get("/v1/jobs"), http.get("/v1/assets"), http.get("/v1/models")):
        assert answer.headers["cache-control"] in ("no-cache", "no-store"), answer.request.url
    for path in ("/v1/assets/ast_nothing", "/", "/pages/darkroom.js"):
        assert http.get(path).headers["cache-control"] == "no-cache"


def test_the_same_sketch_twice_makes_two_assets_of_the_same_bytes(http: httpx.Client) -> None:
    first, second = (ask(http, PICTURES["png"], "application/json").json()["pictures"][0] for _ in range(2))
    assert first["url"] != second["url"]
    assert http.get(first["url"]).content == http.get(second["url"]).content


# ── life and death ───────────────────────────────────────────────────────────────────────────────────────────


def note(stack: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((stack.data / "run" / f"{name}.json").read_text())
    return found


def test_its_process_has_a_note_with_its_address(sketches: Any) -> None:
    assert note(sketches, "pix2pix")["address"].startswith("grpc://127.0.0.1:")
    assert "pix2pix" in sketches.said


def test_a_server_that_is_killed_in_the_middle_costs_nobody_a_picture(
    http: httpx.Client, sketches: Any
) -> None:
    """Calls under way are done again when it is back; what cannot be is refused with 503 and when to come again."""
    before = note(sketches, "pix2pix")["pid"]
    big = saved(drawing((1800, 1800)))

    def one(_: int) -> httpx.Response:
        with httpx.Client(base_url=sketches.url, timeout=60) as client:
            return ask(client, big, "image/jpeg")

    with ThreadPoolExecutor(6) as threads:
        calls = [threads.submit(one, n) for n in range(6)]
        time.sleep(0.3)
        os.kill(before, signal.SIGKILL)
        answers = [call.result() for call in calls]
    assert {answer.status_code for answer in answers} <= {200, 503}, [answer.text[:300] for answer in answers]
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)
    assert sum(answer.status_code == 200 for answer in answers) >= 3
    retried = [line for line in http.get("/metrics").text.splitlines() if "upstream_retries_total{" in line]
    assert any('service="pix2pix"' in line for line in retried)  # some were truly under way
    assert ask(http, PICTURES["png"]).status_code == 200
    assert note(sketches, "pix2pix")["pid"] != before
    assert "pix2pix was killed by SIGKILL; it starts again" in sketches.said


@pytest.mark.slow
def test_it_ends_when_its_supervisor_is_killed(start: Any, config: Path) -> None:
    stack = start("pix2pix", pix2pix_config=str(config))
    stack.wait(lambda: "Ready in" in stack.said)
    process = psutil.Process(note(stack, "pix2pix")["pid"])
    stack.process.kill()
    stack.process.wait()
    process.wait(10)


@pytest.mark.slow
def test_the_doctor_looks_at_it(sketches: Any) -> None:
    done = subprocess.run([DARKROOM, "doctor"], capture_output=True, text=True, timeout=60, env=sketches.env)
    assert "has creatures (2, 1)." in done.stdout, done.stdout


def test_a_model_that_is_nowhere_stops_the_start_with_what_to_do(start: Any) -> None:
    stack = start("pix2pix", pix2pix_models="dragons")
    assert stack.process.wait(30) == 1
    assert "DARKROOM_PIX2PIX_CONFIG" in stack.said


# ── a SavedModel ─────────────────────────────────────────────────────────────────────────────────────────────

EXPORT = """
import sys
from pathlib import Path
from tf_serving.pix2pix.export import export
from tf_serving.pix2pix.model import Shape, generator
net = generator(Shape(side=32, width=4, depth=3))
export(net, Path(sys.argv[1]), "creatures", {}, [Path(sys.argv[2]).read_bytes()])
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_savedmodel_on_tensorflow_is_reached_in_the_same_way(start: Any, tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed: pip install -e '.[pix2pix]'")
    (tmp_path / "sketch.png").write_bytes(PICTURES["png"])
    base = tmp_path / "creatures"
    subprocess.run([sys.executable, "-c", EXPORT, base, tmp_path / "sketch.png"], check=True, timeout=200)
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "creatures" base_path: "{base}" model_platform: "tensorflow" }} }}'
    )
    stack = start("gateway", "pix2pix", pix2pix_config=str(config))
    stack.wait(lambda: "Darkroom is ready" in stack.said)
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        for kind, picture in PICTURES.items():
            answer = ask(client, picture)
            assert answer.status_code == 200, (kind, answer.text)
            assert answer.headers["x-darkroom-size"] == "48x32", kind
        assert ask(client, b"text").json()["type"] == "urn:darkroom:problem:bad-picture"


# ── Darkroom's own model ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["leaf", "ember", "tide"])
def test_darkrooms_own_model_colours_a_sketch(stack: Any, name: str) -> None:
    """Sketches that it never saw; beside each lies the picture that the model gave when it was committed."""
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        answer = ask(client, (SAMPLES / f"{name}-sketch.png").read_bytes())
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-darkroom-model"] == "creatures"
    wished = Image.open(SAMPLES / f"{name}-picture.png").convert("RGB")
    with Image.open(io.BytesIO(answer.content)) as made:
        assert made.size == wished.size
        apart = ImageStat.Stat(ImageChops.difference(made.convert("RGB"), wished))
        assert max(apart.mean) < 2
        assert max(ImageStat.Stat(made.convert("HSV").getchannel("S")).extrema[0]) > 100, "it has colour"
