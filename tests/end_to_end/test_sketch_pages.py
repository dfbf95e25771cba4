"""Two sketches, one after the other, in a real browser: what is shown is always the picture of the sketch just sent."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, sync_playwright

OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
]
# what the browser shows, pixel by pixel: not what some address gives now
SHOWN = """async image => {
  await image.decode();
  const size = {width: image.naturalWidth, height: image.naturalHeight};
  const canvas = Object.assign(document.createElement("canvas"), size);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  return [...context.getImageData(0, 0, canvas.width, canvas.height).data].filter((_, at) => at % 4 < 3);
}"""


@pytest.fixture(scope="module")
def sketches(begin_stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    stack = begin_stack(tmp_path_factory.mktemp("sketch-pages"), "gateway", "pix2pix")
    stack.wait(lambda: "Darkroom is ready" in stack.said)
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, sketches: Any) -> Iterator[Page]:
    """With the browser's cache on, as people have it."""
    page = browser.new_page()
    page.goto(sketches.url)
    yield page
    page.close()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two sketches of one size under one name, in two folders: only their pixels tell them apart."""
    found = {}
    for name in "AB":
        paper = Image.new("RGB", (96, 96), "white")
        pen = ImageDraw.Draw(paper)
        if name == "A":
            pen.ellipse((20, 20, 76, 76), outline="black", width=2)
        else:
            pen.polygon([(48, 10), (86, 84), (10, 84)], outline="black", width=2)
        found[name] = tmp_path_factory.mktemp(name) / "sketch.png"
        paper.save(found[name])
    return found


def made_in_the_page(page: Page, sketch: Path) -> tuple[list[int], str]:
    """The pixels that are shown, and the address from which the page took them."""
    form = page.locator("section#sketch-to-image")
    form.locator('input[name="image"]').set_input_files(sketch)
    with page.expect_response("**/v1/assets/**") as asset:
        form.get_by_role("button", name="Run").click()
    picture = form.locator("output img")
    picture.wait_for(timeout=30_000)
    return picture.evaluate(SHOWN), asset.value.url


def pixels(data: bytes) -> list[int]:
    with Image.open(io.BytesIO(data)) as image:
        return list(image.convert("RGB").tobytes())


def test_the_picture_shown_is_always_that_of_the_sketch_just_sent(
    sketches: Any, page: Page, drawn: dict[str, Path]
) -> None:
    shown = [made_in_the_page(page, drawn[name]) for name in "ABA"]
    (first, at_first), (second, at_second), (third, at_third) = shown
    with httpx.Client(base_url=sketches.url, timeout=60) as client:
        wanted = {
            name: pixels(client.post("/v1/sketch-to-image", files={"image": path.read_bytes()}).content)
            for name, path in drawn.items()
        }
    assert wanted["A"] != wanted["B"]
    assert first == wanted["A"]
    assert second == wanted["B"]
    assert third == wanted["A"]
    assert len({at_first, at_second, at_third}) == 3


def test_an_address_shows_its_own_picture_whatever_was_made_since(
    sketches: Any, page: Page, drawn: dict[str, Path]
) -> None:
    addresses = [made_in_the_page(page, drawn[name]) for name in "AB"]
    for before, address in addresses:
        page.goto(address)
        assert page.locator("img").evaluate(SHOWN) == before
    page.go_back()
    assert page.locator("img").evaluate(SHOWN) == addresses[0][0]


def test_the_browser_asks_once_for_a_picture_and_each_time_for_a_new_one(
    sketches: Any, page: Page, drawn: dict[str, Path]
) -> None:
    _, address = made_in_the_page(page, drawn["A"])
    length = page.evaluate(
        """async address => {
          await (await fetch(address)).blob();
          const entries = performance.getEntriesByName(address);
          return entries[entries.length - 1].transferSize;
        }""",
        address,
    )
    assert length == 0  # it came from the browser's own cache: immutable
    asked: list[str] = []
    page.on(
        "request", lambda request: asked.append(request.method) if "sketch-to-image" in request.url else None
    )
    for _ in range(2):
        made_in_the_page(page, drawn["A"])
    assert asked == ["POST", "POST"]
