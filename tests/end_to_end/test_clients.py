"""Every example of docs/clients.md, run as it stands there, and what it made looked at; those of other pages too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGE = (DOCS / "clients.md").read_text()
EXAMPLES: dict[str, tuple[str, str]] = {
    name: (language, code)
    for name, language, code in re.findall(
        r"<!-- example: ([a-z-]+) -->\n```(sh|python)\n(.*?)```", PAGE, re.DOTALL
    )
}
SIZE = (512, 512)  # the astronaut's


@dataclass
class Done:
    """What an example left: its folder and its words."""

    folder: Path
    said: str

    def picture(self, name: str) -> Image.Image:
        image = Image.open(self.folder / name)
        image.load()
        return image


def cut_out(done: Done, name: str = "cut.png") -> None:
    picture = done.picture(name)
    assert (picture.mode, picture.size) == ("RGBA", SIZE)
    assert picture.getchannel("A").getextrema() == (0, 255)


def on_white(done: Done, name: str = "white.png") -> None:
    picture = done.picture(name).convert("RGB")
    assert picture.size == SIZE
    assert picture.getpixel((2, 2)) == (255, 255, 255)
    low, _ = picture.convert("L").getextrema()
    assert low < 60, "the astronaut is there"


def mask(done: Done, name: str = "mask.png") -> None:
    picture = done.picture(name)
    assert (picture.mode, picture.size) == ("L", SIZE)
    assert picture.getextrema() == (0, 255)


def circle(done: Done, name: str = "circle.png") -> None:
    """Red on blue, as the prompt says."""
    picture = done.picture(name).convert("RGB")
    pixels = list(picture.get_flattened_data())
    red = sum(1 for r, g, b in pixels if r > 130 and g < 120 and b < 120)
    blue = sum(1 for r, g, b in pixels if b > 120 and r < 120)
    assert red > 0.02 * len(pixels)
    assert blue > 0.3 * len(pixels)


def coloured(done: Done, name: str = "coloured.png") -> None:
    picture = done.picture(name).convert("RGB")
    assert picture.size == (256, 256)
    assert sum(1 for pixel in picture.get_flattened_data() if max(pixel) - min(pixel) > 25) > 8000


def curl_events(done: Done) -> None:
    kinds = [line.removeprefix("event: ") for line in done.said.splitlines()]
    assert (kinds[0], kinds[-2:]) == ("accepted", ["result", "done"])
    assert "progress" in kinds
    circle(done)


def curl_job(done: Done) -> None:
    assert done.said.splitlines()[-1] == "event: done"
    cut_out(done)


def curl_asset(done: Done) -> None:
    mask(done)
    passport = done.picture("passport.png")
    assert passport.size == (413, 531), "35 x 45 mm at 300 dpi"


def python(done: Done) -> None:
    lines = done.said.splitlines()
    assert lines[0] == "(512, 512)"
    assert lines[-1] == "8 of 8"
    on_white(done)
    circle(done)


def python_async(done: Done) -> None:
    assert done.said.split()[-2:] == ["result", "done"]
    cut_out(done)


def grpc_stubs(done: Done) -> None:
    assert (done.folder / "darkroom_pb2.py").exists()


def grpc(done: Done) -> None:
    kinds = done.said.split()
    assert (kinds[0], kinds[-1]) == ("accepted", "done")
    assert "result" in kinds
    on_white(done)


def grpc_reflection(done: Done) -> None:
    assert done.said.split()[-1] == "done"
    circle(done)


def openai(done: Done) -> None:
    picture = done.picture("circle.png")
    assert done.said.strip() == f"{picture.width}x{picture.height}"
    circle(done)


def webuiapi(done: Done) -> None:
    assert done.said == "micro 7\n"
    circle(done)


def iopaint(done: Done) -> None:
    """The badges are gone, the rest is there."""
    with Image.open(DOCS / "samples" / "astronaut.jpg") as before:
        before.load()
    after = done.picture("clean.jpg")
    assert (after.format, after.size) == ("JPEG", SIZE)
    centre, elsewhere = (170, 385), (450, 60)
    changed = [
        sum(abs(a - b) for a, b in zip(before.getpixel(at), after.convert("RGB").getpixel(at), strict=True))
        for at in (centre, elsewhere)
    ]
    assert changed[0] > 40 > 12 > changed[1]


def rembg(done: Done) -> None:
    cut_out(done)
    mask(done)


def triton_grpc(done: Done) -> None:
    assert done.said == "seed 7\n"
    circle(done)


def tfserving_grpc(done: Done) -> None:
    assert re.fullmatch(r"version [1-9]\d*\n", done.said)
    coloured(done)


def mcp(done: Done) -> None:
    assert done.said == "10 tools\n"
    circle(done)


CHECKS: dict[str, Callable[[Done], None]] = {
    "curl-picture": on_white,
    "curl-events": curl_events,
    "curl-job": curl_job,
    "curl-asset": curl_asset,
    "python": python,
    "python-async": python_async,
    "grpc-stubs": grpc_stubs,
    "grpc": grpc,
    "grpc-reflection": grpc_reflection,
    "openai": openai,
    "webuiapi": webuiapi,
    "iopaint": iopaint,
    "rembg": rembg,
    "triton-http": on_white,
    "triton-grpc": triton_grpc,
    "tfserving-rest": coloured,
    "tfserving-grpc": tfserving_grpc,
    "mcp": mcp,
}
NEEDS = {"grpc": "grpc-stubs"}  # examples that go on where another ended


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like the root of a checkout, into which an example may write."""
    for name in ("docs", "gateway"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def run(stack: Any, folder: Path, language: str, code: str, key: str = "") -> Done:
    """As a person would run it: Python by this environment's interpreter, sh by bash that stops at an error."""
    paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
    env = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")} | {
        "PATH": os.pathsep.join(paths),
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "DARKROOM_URL": stack.url,
        "DARKROOM_GRPC": stack.grpc,
        "DARKROOM_INFERENCE": stack.inference,
    }
    if key:
        env["DARKROOM_KEY"] = key
    command = (
        [sys.executable, "-c", code] if language == "python" else ["bash", "-euo", "pipefail", "-c", code]
    )
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return Done(folder, done.stdout)


def test_every_example_is_run_and_looked_at() -> None:
    assert list(EXAMPLES) == list(CHECKS)
    # what is not named is the list of addresses at the page's head
    assert len(re.findall(r"^```(?:sh|python)$", PAGE, re.MULTILINE)) == len(EXAMPLES) + 1


@pytest.mark.parametrize("name", CHECKS)
def test_an_example_does_what_it_says(stack: Any, checkout: Path, name: str) -> None:
    if name in NEEDS:
        run(stack, checkout, *EXAMPLES[NEEDS[name]])
    CHECKS[name](run(stack, checkout, *EXAMPLES[name]))


KEY = "an-admin-key-of-more-than-24-letters"


@pytest.fixture(scope="module")
def locked(begin_stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A Darkroom with a key."""
    stack = begin_stack(tmp_path_factory.mktemp("locked-clients"), admin_key=KEY)
    stack.wait(lambda: "Darkroom is ready" in stack.said)
    yield stack
    stack.stop()


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
def test_an_example_takes_the_key_from_the_environment(locked: Any, checkout: Path, name: str) -> None:
    if name in NEEDS:
        run(locked, checkout, *EXAMPLES[NEEDS[name]])
    CHECKS[name](run(locked, checkout, *EXAMPLES[name], key=KEY))


# ── the examples of other pages, which say where a Darkroom usually is ────────────────────────────────────────────

OTHERS = {
    f"{page}-{at}": (language, code)
    for page, path in {
        "python": DOCS / "python.md",
        "doors": DOCS / "doors.md",
        "readme": ROOT / "README.md",
    }.items()
    for at, (language, code) in enumerate(
        re.findall(r"^```(sh|python)\n(.*?)```", path.read_text(), re.DOTALL | re.MULTILINE)
    )
    if page != "readme" or language == "python"  # its commands install and start things
}
ELSEWHERE = "example.org"  # an address of the world, which a test does not call


def placed(stack: Any, code: str) -> str:
    """The same, where the addresses that a Darkroom usually has are those of this one."""
    usual = {
        r"(127\.0\.0\.1|localhost):8080": f"127.0.0.1:{stack.port}",
        r"port=8080": f"port={stack.port}",
        r"127\.0\.0\.1:8081": stack.grpc,
        r"127\.0\.0\.1:8082": stack.inference,
    }
    for pattern, place in usual.items():
        code = re.sub(pattern, place, code)
    return "".join(line for line in code.splitlines(keepends=True) if ELSEWHERE not in line)


# docs/clients.md has much the same as docs/doors.md
MARKED = [pytest.param(name, marks=[pytest.mark.slow] if "doors" in name else []) for name in OTHERS]


@pytest.mark.parametrize("name", MARKED)
def test_an_example_of_another_page_runs(stack: Any, checkout: Path, name: str) -> None:
    """The pictures that a reader is thought to have are there."""
    photo = Image.new("RGB", (96, 96), "white")
    ImageDraw.Draw(photo).ellipse((24, 24, 72, 72), "red")
    (checkout / "photos").mkdir()
    for path in ("photo.png", "photos/a.png", "photos/b.png", "sketch.png"):
        photo.save(checkout / path)
    Image.new("L", photo.size).save(checkout / "mask.png")
    before = {path.name for path in checkout.iterdir()}
    language, code = OTHERS[name]
    if "darkroom_pb2" in code:
        run(stack, checkout, *EXAMPLES["grpc-stubs"])
    if "pip install" in code:  # that has been done
        code = "".join(line for line in code.splitlines(keepends=True) if "pip install" not in line)
    done = run(stack, checkout, language, placed(stack, code))
    made = {path.name for path in checkout.iterdir()} - before
    assert made or done.said, "it made or told something"
    for path in made:
        if path.endswith((".png", ".jpg")):
            done.picture(path)
