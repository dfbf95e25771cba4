"""The corpus of hostile pictures through the running gateway: each is refused with a reason, or comes back correctly,
in bounded memory, and everything still works afterwards."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

AT_ONCE = 4
# what may be added to the memory of a process that has answered some ordinary calls before
GATEWAY_MORE = 150 << 20
SERVICE_MORE = 400 << 20
# the corpus has an honest picture of 49 megapixels: 150 MB as RGB, as much for its mask, and some copies of both
HONEST_MORE = 1200 << 20


@pytest.fixture(scope="module")
def http(stack: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as client:
        yield client


def large(one: Any) -> bool:
    return one.size is not None and one.size[0] * one.size[1] > 1_000_000


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def processes(stack: Any) -> dict[str, psutil.Process]:
    notes = [json.loads(path.read_text()) for path in (stack.data / "run").glob("*.json")]
    return {note["name"]: psutil.Process(note["pid"]) for note in notes if note["name"] != "up"}


def resident(process: psutil.Process) -> int:
    return int(process.memory_info().rss) + sum(
        child.memory_info().rss for child in process.children(recursive=True)
    )


class Watch:
    """The most memory that each process had within the block, beside what it had before."""

    def __init__(self, stack: Any) -> None:
        self._processes = processes(stack)
        self.before = {name: resident(process) for name, process in self._processes.items()}
        self.most = dict(self.before)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.05):
            self.now()

    def now(self) -> dict[str, int]:
        found = {name: resident(process) for name, process in self._processes.items()}
        self.most = {name: max(self.most[name], size) for name, size in found.items()}
        return {name: size - self.before[name] for name, size in found.items()}

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def hold(self, service: int = SERVICE_MORE) -> None:
        more = {name: size - self.before[name] for name, size in self.most.items()}
        print({name: f"+{size >> 20} MB" for name, size in more.items()})
        assert more.pop("gateway") < GATEWAY_MORE
        assert {name for name, size in more.items() if size >= service} == set(), more
        left = self.now()
        assert {name for name, size in left.items() if size >= SERVICE_MORE} == set(), left


def refusal(response: httpx.Response, field: str) -> None:
    """It is a problem document that says which picture is wrong, and what to do."""
    assert 400 <= response.status_code < 500, (response.status_code, response.text[:300])
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["field"] == field, problem
    assert problem["detail"]
    assert problem["help"]
    assert "Traceback" not in response.text


def faithful(data: bytes, one: Any) -> None:
    """The picture that the corpus says it is: its size, and the colour of each corner."""
    image = Image.open(io.BytesIO(data))
    image.load()
    assert one.size is None or image.size == one.size
    if one.colours is None:
        return
    plain = image.convert("RGB")
    for (right, bottom), colour in one.colours.items():
        at = (plain.width - 1) * right, (plain.height - 1) * bottom
        got: Any = plain.getpixel(at)
        assert all(abs(a - b) <= one.tolerance for a, b in zip(got, colour, strict=True)), (at, got, colour)


def each(pictures: list[Any], check: Any) -> None:
    """`check` for every picture, some at once; all that fail are named."""

    def tried(one: Any) -> str | None:
        try:
            check(one)
        except AssertionError as error:
            return f"{one.name}: {str(error)[:500]}"
        return None

    with ThreadPoolExecutor(AT_ONCE) as pool:
        failures = [failure for failure in pool.map(tried, pictures) if failure]
    assert not failures, "\n".join(failures)


def outcome(response: httpx.Response, one: Any, field: str) -> bool:
    """True where the picture was taken; whether that was right the corpus knows."""
    if response.status_code >= 300:
        refusal(response, field)
        assert one.expect != "picture", response.text
        return False
    assert one.expect != "refused", response.status_code
    return True


def test_cleanup_with_an_empty_mask_gives_each_picture_back_or_refuses_it(
    stack: Any, http: httpx.Client, hostile_pictures: list[Any]
) -> None:
    def check(one: Any) -> None:
        size = one.size or (10, 10)
        files = {"image": one.data, "mask": png(Image.new("L", size))}
        response = http.post("/v1/cleanup", files=files, headers={"accept": "image/png"})
        if one.size is None and response.status_code == 422 and response.json().get("field") == "mask":
            assert (
                one.expect == "either"
            )  # its size is not known here, so the mask did not fit: it was decoded
            return
        if outcome(response, one, "image"):
            assert response.headers["content-type"] == "image/png"
            faithful(response.content, one)

    assert len(hostile_pictures) >= 300
    ordinary(http)
    with Watch(stack) as watch:
        each([one for one in hostile_pictures if not large(one)], check)
    watch.hold()
    with Watch(stack) as watch:
        each([one for one in hostile_pictures if large(one)], check)
        time.sleep(0.5)
    watch.hold(HONEST_MORE)
    healthy(stack, http)


def test_remove_background_answers_each_with_a_picture_of_its_size_or_refuses_it(
    stack: Any, http: httpx.Client, hostile_pictures: list[Any]
) -> None:
    def check(one: Any) -> None:
        response = http.post(
            "/v1/remove-background", files={"image": one.data}, headers={"accept": "image/png"}
        )
        if outcome(response, one, "image"):
            image = Image.open(io.BytesIO(response.content))
            assert image.format == "PNG"
            assert one.size is None or image.size == one.size

    ordinary(http)
    with Watch(stack) as watch:
        each([one for one in hostile_pictures if not large(one)], check)
    watch.hold()
    with Watch(stack) as watch:
        each([one for one in hostile_pictures if large(one)], check)
        time.sleep(0.5)
    watch.hold(HONEST_MORE)
    healthy(stack, http)


def test_as_a_mask_each_is_read_or_refused(
    stack: Any, http: httpx.Client, hostile_pictures: list[Any]
) -> None:
    def check(one: Any) -> None:
        size = one.size or (10, 10)
        files = {"image": png(Image.new("RGB", size, (90, 120, 150))), "mask": one.data}
        response = http.post("/v1/cleanup", files=files, headers={"accept": "image/png"})
        if response.status_code >= 300:
            refusal(response, "mask")
            all_white = "covers the whole image" in response.text
            assert all_white or one.expect != "picture" or one.size is None, response.text
        else:
            assert one.expect != "refused"
            assert Image.open(io.BytesIO(response.content)).size == size

    small = [one for one in hostile_pictures if not large(one)]
    each(small[::3], check)
    healthy(stack, http)


def test_as_an_asset_each_is_kept_as_it_is_or_refused(
    stack: Any, http: httpx.Client, hostile_pictures: list[Any]
) -> None:
    def check(one: Any) -> None:
        response = http.post("/v1/assets", files={"file": one.data})
        if response.status_code >= 300:
            refusal(response, "file")
            assert one.expect != "picture", response.text
            return
        # only the head is looked at here; what is behind it is found when the picture is used
        kept = response.json()
        assert kept["media_type"].startswith("image/")
        read = http.get(kept["url"])
        assert read.content == one.data
        assert read.headers["content-type"] == kept["media_type"]
        assert read.headers["x-content-type-options"] == "nosniff"
        assert http.delete(kept["url"]).status_code == 204

    with Watch(stack) as watch:
        each(hostile_pictures[::2], check)
    watch.hold()
    healthy(stack, http)


def test_as_a_job_each_ends_with_its_picture_or_with_the_reason(
    stack: Any, http: httpx.Client, hostile_pictures: list[Any]
) -> None:
    def check(one: Any) -> None:
        form = {"operation": "remove-background", "params": json.dumps({"image": "part:image"})}
        response = http.post("/v1/jobs", data=form, files={"image": one.data})
        if response.status_code >= 300:
            refusal(response, "image")
            assert one.expect != "picture", response.text
            return
        assert response.status_code == 202
        job, until = response.json(), time.monotonic() + 60
        while job["state"] in ("queued", "running") and time.monotonic() < until:
            time.sleep(0.1)
            job = http.get(job["links"]["self"]).json()
        if job["state"] == "failed":
            assert one.expect != "picture", job["error"]
            assert 400 <= job["error"]["status"] < 500, job["error"]
            assert job["error"]["field"] == "image"
            assert job["attempt"] == 1, "what cannot be decoded is not tried again"
            return
        assert job["state"] == "succeeded"
        assert one.expect != "refused"
        picture = job["pictures"][0]
        assert one.size is None or (picture["width"], picture["height"]) == one.size

    small = [one for one in hostile_pictures if not large(one)]
    each(small[::4], check)
    healthy(stack, http)


def ordinary(http: httpx.Client) -> None:
    """A few calls as people make them, so that what is loaded at the first call is there before memory is compared."""
    picture, mask = Image.effect_noise((1500, 1000), 40).convert("RGB"), Image.new("L", (1500, 1000))
    for _ in range(2):
        files = {"image": png(picture), "mask": png(mask)}
        assert http.post("/v1/cleanup", files=files).status_code == 200
        assert http.post("/v1/remove-background", files={"image": png(picture)}).status_code == 200


def healthy(stack: Any, http: httpx.Client) -> None:
    assert stack.ready()
    assert "starts again" not in stack.said, "a process died"
    ordinary(http)
    status = http.get("/readyz").json()
    assert all(service["up"] == service["endpoints"] for service in status["services"].values())
