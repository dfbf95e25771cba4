"""The page `/` in a real browser: its forms work, with the script and without, and say what went wrong."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Locator, Page, sync_playwright

OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
]


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
def page(browser: Browser) -> Iterator[Page]:
    """A page whose script must not fail, and which may load nothing from elsewhere."""
    page = browser.new_page()
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("requestfailed", lambda request: said.append(f"{request.url} {request.failure}"))
    aborted = "ERR_ABORTED"  # by the end of the test itself, whose page closes under what still runs
    yield page
    page.close()
    assert [line for line in said if aborted not in line and "with a status of 4" not in line] == []


def test_a_photograph_is_cut_out_in_the_page(stack: Any, page: Page, samples: Path) -> None:
    page.goto(stack.url)
    form = page.locator("section#remove-background")
    form.locator('input[name="image"]').set_input_files(samples / "astronaut.jpg")
    form.get_by_role("button", name="Run").click()
    picture = form.locator("output img")
    picture.wait_for(timeout=30_000)
    size = Image.open(samples / "astronaut.jpg").size
    assert picture.evaluate(
        "async image => (await image.decode(), [image.naturalWidth, image.naturalHeight])"
    ) == [*size]
    assert f"{size[0]}×{size[1]}" in form.locator("output").inner_text()


def test_a_mistake_is_shown_with_what_to_do(stack: Any, page: Page, samples: Path, tmp_path: Path) -> None:
    (tmp_path / "not.png").write_bytes(b"this is not a picture")
    page.goto(stack.url)
    form = page.locator("section#cleanup")
    form.locator('input[name="image"]').set_input_files(samples / "astronaut.jpg")
    form.locator('input[name="mask"]').set_input_files(tmp_path / "not.png")
    form.get_by_role("button", name="Run").click()
    problem = form.locator("output .problem")
    problem.wait_for(timeout=20_000)
    assert "A picture cannot be used" in problem.inner_text()
    assert form.get_by_role("button", name="Run").is_enabled()


def test_what_is_not_available_says_why_and_cannot_be_run(start: Any, page: Page) -> None:
    stack = start("gateway", "rmbg")
    stack.wait(lambda: "Darkroom is ready" in stack.said)
    page.goto(stack.url)
    form = page.locator("section#portrait")
    assert "not part of this installation" in form.inner_text()
    assert form.get_by_role("button", name="Run").is_disabled()


def test_the_form_works_without_a_script(stack: Any, browser: Browser, samples: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(stack.url)
    form = page.locator("section#remove-background")
    form.locator('input[name="image"]').set_input_files(samples / "astronaut.jpg")
    with page.expect_response("**/v1/remove-background") as answered:
        form.get_by_role("button", name="Run").click()
    answer = answered.value
    assert answer.status == 200, answer.text()
    assert answer.headers["content-type"].startswith("image/")
    context.close()


def test_with_keys_the_page_asks_with_the_one_that_is_typed_in(start: Any, page: Page, samples: Path) -> None:
    secret = "an-admin-key-for-tests-0123456789abcdef"
    stack = start("gateway", "rmbg", admin_key=secret)
    stack.wait(lambda: "Darkroom is ready" in stack.said)
    page.goto(stack.url)
    form = page.locator("section#remove-background")
    form.locator('input[name="image"]').set_input_files(samples / "astronaut.jpg")
    form.get_by_role("button", name="Run").click()
    form.locator("output .problem").wait_for(timeout=20_000)
    assert "A key is needed" in form.locator("output").inner_text()
    page.locator("#key").fill(secret)
    page.locator("#key").blur()
    form.get_by_role("button", name="Run").click()
    form.locator("output img").wait_for(timeout=30_000)


def drawn(path: Path) -> Path:
    """The edge of a circle, as a map has it."""
    image = Image.new("RGB", (128, 128))
    ImageDraw.Draw(image).ellipse((34, 34, 94, 94), outline="white", width=2)
    image.save(path)
    return path


def shown(section: Locator) -> list[int]:
    """The size of the picture that came out."""
    picture = section.locator("output a img").first
    picture.wait_for(timeout=60_000)
    script = "async image => (await image.decode(), [image.naturalWidth, image.naturalHeight])"
    size: list[int] = picture.evaluate(script)
    return size


def test_a_control_is_given_its_picture_in_the_page(stack: Any, page: Page, tmp_path: Path) -> None:
    page.goto(stack.url)
    section = page.locator("section#control")
    rows = section.get_by_role("group", name=re.compile(r"^controls \d$"))
    assert rows.count() == 1  # it needs one
    assert not section.get_by_role("button", name="Remove controls 1").is_visible()
    rows.first.get_by_label("image").set_input_files(drawn(tmp_path / "edges.png"))
    rows.first.get_by_label("kind").select_option("canny-map")
    rows.first.get_by_label("weight").fill("0.9")
    section.get_by_label("prompt", exact=True).fill("a red circle")
    with page.expect_request("**/v1/control") as asked:
        section.get_by_role("button", name="Run").click()
    assert asked.value.method == "POST"
    assert shown(section) == [128, 128]
    assert "micro" in section.locator("output").inner_text()


def test_rows_of_a_list_are_added_and_removed(stack: Any, page: Page, tmp_path: Path) -> None:
    page.goto(stack.url)
    section = page.locator("section#control")
    add = section.get_by_role("button", name="Add to controls")
    add.click()
    add.click()
    assert not add.is_visible()  # three are the most
    section.get_by_role("button", name="Remove controls 2").click()
    assert section.locator("fieldset.row legend").all_inner_texts() == ["controls 1", "controls 2"]
    for at in (1, 2):
        row = section.get_by_role("group", name=f"controls {at}")
        row.get_by_label("image").set_input_files(drawn(tmp_path / f"{at}.png"))
        row.get_by_label("kind").select_option("canny-map")
    section.get_by_role("group", name="controls 2").get_by_label("keypoints").fill("{oops")
    section.get_by_label("prompt", exact=True).fill("a circle")
    section.get_by_role("button", name="Run").click()
    problem = section.locator("output .problem")
    problem.wait_for()
    assert "controls.1.keypoints" in problem.inner_text()
    section.get_by_role("group", name="controls 2").get_by_label("keypoints").fill("")
    section.get_by_role("group", name="controls 2").get_by_label("weight").fill("3")
    section.get_by_role("button", name="Run").click()
    page.get_by_text("controls.1.weight").wait_for(timeout=20_000)


def test_a_map_is_made_of_a_picture_in_the_page(stack: Any, page: Page, samples: Path) -> None:
    page.goto(stack.url)
    section = page.locator("section#preprocess")
    section.get_by_label("image").set_input_files(samples / "coffee.jpg")
    section.get_by_role("button", name="Run").click()
    assert shown(section) == [*Image.open(samples / "coffee.jpg").size]


def test_a_reference_and_a_background_are_chosen_as_files(
    stack: Any, page: Page, samples: Path, tmp_path: Path
) -> None:
    page.goto(stack.url)
    section = page.locator("section#text-to-image")
    section.get_by_label("reference", exact=True).set_input_files(drawn(tmp_path / "reference.png"))
    section.get_by_label("prompt", exact=True).fill("a red circle")
    section.get_by_role("button", name="Run").click()
    assert shown(section) == [128, 128]
    section = page.locator("section#remove-background")
    section.get_by_label("image").set_input_files(samples / "astronaut.jpg")
    section.get_by_label("background (file)").set_input_files(samples / "coffee.jpg")
    section.get_by_role("button", name="Run").click()
    assert shown(section) == [*Image.open(samples / "astronaut.jpg").size]


def test_every_picture_of_every_operation_is_a_file_that_is_not_folded_away(stack: Any, page: Page) -> None:
    page.goto(stack.url)
    for operation in httpx.get(f"{stack.url}/v1/operations").json()["operations"]:
        form = page.locator(f"section#{operation['name']} form")
        for field in operation["pictures"]:
            assert form.locator(f':scope > label input[type="file"][name="{field}"]').count() == 1, field


def test_every_input_of_the_page_has_a_label(stack: Any, page: Page) -> None:
    page.goto(stack.url)
    unnamed = """() => [...document.querySelectorAll("main input, main select, main textarea")]
        .filter(input => !input.labels.length).map(input => input.outerHTML)"""
    assert page.evaluate(unnamed) == []


def test_the_docs_page_shows_every_operation(stack: Any, page: Page) -> None:
    page.goto(f"{stack.url}/docs")
    page.get_by_text("/v1/remove-background").first.wait_for(timeout=20_000)
    listed = httpx.get(f"{stack.url}/v1/operations").json()["operations"]
    text = page.locator("body").inner_text()
    assert all(one["url"] in text for one in listed)


def test_the_page_is_readable_on_a_telephone(stack: Any, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 700})
    page.goto(stack.url)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    shown = Image.open(io.BytesIO(page.screenshot()))
    assert len(shown.convert("RGB").getcolors(1 << 24) or []) > 10
    page.close()
