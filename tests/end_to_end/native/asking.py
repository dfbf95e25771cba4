"""What the tests of the native interface share: a job to submit, its end, its events."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
from PIL import Image

ADMIN = "an-admin-key-for-tests-0123456789abcdef"


def entered(native: Any, secret: str) -> httpx.Client:
    return httpx.Client(base_url=native.url, headers={"authorization": f"Bearer {secret}"}, timeout=60)


def at_work(native: Any) -> int:
    """How many calls the toy's own process has."""
    note = json.loads((native.data / "run" / "toy.json").read_text())
    return int(httpx.get(f"{note['address']}/darkroom/v1/describe").json()["in_flight"])


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def dot() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, "PNG")
    return out.getvalue()


def stamp(client: httpx.Client, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    """A job of the toy; `params` of it, and `priority` and the like beside."""
    beside = {name: str(more.pop(name)) for name in ("priority", "webhook") if name in more}
    form = {"operation": "stamp", "params": json.dumps({"image": "part:image", **more}), **beside}
    return client.post("/v1/jobs", data=form, files={"image": dot()}, headers=headers)


def ended(client: httpx.Client, job: dict[str, Any], seconds: float = 30) -> dict[str, Any]:
    until = time.monotonic() + seconds
    while job["state"] in ("queued", "running"):
        assert time.monotonic() < until, job
        time.sleep(0.03)
        job = client.get(job["links"]["self"]).json()
    return job


def until(holds: Callable[[], bool], seconds: float = 10) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds
        time.sleep(0.02)
    return time.monotonic() - began


Event = tuple[str | None, str, Any]


def events(response: httpx.Response) -> Iterator[Event]:
    """(id, kind, data) of each server-sent event."""
    found: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            found[name] = value
        elif "event" in found:
            yield found.get("id"), found["event"], json.loads(found["data"])
            found = {}
