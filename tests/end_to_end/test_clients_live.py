"""The Python client against the running stack: what only a real gateway, real services and real breaks can show."""

from __future__ import annotations

import asyncio
import io
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from gateway.client import AsyncDarkroom, Darkroom, DarkroomError
from services.errors import BadInput, Cancelled, DeadlineExceeded, NotFound

SAMPLE = Path(__file__).parents[2] / "docs" / "samples" / "astronaut.jpg"
PROMPT = "a red circle on a blue background"
LONG: dict[str, Any] = {"prompt": PROMPT, "steps": 150, "count": 8, "previews": 0}  # minutes, if it were let


class Cutting:
    """A proxy that cuts the first connections for events after some bytes of the answer, and then does as it should."""

    def __init__(self, port: int, after: list[int]) -> None:
        self._gateway, self.after, self.heads = port, after, list[bytes]()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._pass, args=(caller,))
            self._threads.append(thread)
            thread.start()

    def _pass(self, caller: socket.socket) -> None:
        with caller, socket.create_connection(("127.0.0.1", self._gateway)) as gateway:
            self.heads.append(head := caller.recv(65536))
            limit = self.after.pop(0) if self.after and b"/events " in head else None
            gateway.sendall(head.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
            while data := gateway.recv(4096 if limit is None else min(limit, 4096)):
                caller.sendall(data)
                if limit is not None:
                    limit -= len(data)
                    if limit <= 0:
                        return

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def darkroom(stack: Any) -> Iterator[Darkroom]:
    with Darkroom(stack.url) as client:
        yield client


def in_flight(stack: Any) -> float:
    """Calls and jobs that sdxl or its neighbour works on now."""
    told = httpx.get(stack.url + "/metrics").text
    found = re.findall(
        r'^darkroom_upstream_in_flight\{[^}]*service="(?:sdxl|controlnet)"[^}]*\} (\S+)', told, re.M
    )
    assert found, "the gauge is there"
    return sum(map(float, found))


def ends_soon(stack: Any, seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while in_flight(stack):
        assert time.monotonic() < until, "the work goes on"
        time.sleep(0.05)


def test_a_jobs_events_come_whole_over_connections_that_are_cut(stack: Any, darkroom: Darkroom) -> None:
    job = darkroom.submit("text-to-image", prompt=PROMPT, steps=12, previews=3)
    proxy = Cutting(stack.port, [600, 900, 400, 2500])
    try:
        with Darkroom(proxy.url) as cut:
            heard = [(event.id, event.kind) for event in cut.job(job.id).events()]
    finally:
        proxy.stop()
    resumed = [head for head in proxy.heads if b"last-event-id" in head.lower()]
    assert len(resumed) >= 2, "connections were cut, and taken up again"
    assert proxy.after == []
    numbers = [int(str(number).split(".")[1]) for number, _ in heard]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert heard == [(event.id, event.kind) for event in darkroom.job(job.id).events()]
    assert heard[-1][1] == "done"
    assert job.wait(20).picture.width == 128


def test_previews_show_the_picture_on_its_way(darkroom: Darkroom) -> None:
    with darkroom.text_to_image.stream(PROMPT, steps=10, previews=3, seed=7) as events:
        told = list(events)
        result = events.result()
    previews = [event.preview.pil() for event in told if event.preview is not None]
    assert previews
    assert all(shown.getbbox() for shown in previews)
    steps = [event.step for event in told if event.kind == "progress"]
    assert steps == sorted(steps)
    assert (steps[-1], told[-2].kind, told[-1].kind) == (10, "result", "done")
    assert result.picture.seed == 7


def test_leaving_a_stream_ends_its_work(stack: Any, darkroom: Darkroom) -> None:
    with darkroom.stream("text-to-image", **LONG) as events:
        for event in events:
            if event.kind == "progress":
                break
        assert in_flight(stack) == 1
    ends_soon(stack)


def test_a_call_ends_at_its_deadline_and_so_does_its_work(stack: Any, darkroom: Darkroom) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        darkroom.with_options(timeout=1.5).run("text-to-image", **LONG)
    assert time.monotonic() - began < 3
    ends_soon(stack)
    heard: list[Any] = []
    with pytest.raises(DeadlineExceeded):
        darkroom.with_options(timeout=3).run("text-to-image", on_progress=heard.append, **LONG)
    assert heard
    ends_soon(stack)


def test_cancelling_an_awaited_call_ends_its_work(stack: Any) -> None:
    async def cancel() -> None:
        async with AsyncDarkroom(stack.url) as darkroom:
            task = asyncio.create_task(darkroom.run("text-to-image", **LONG))
            while not await asyncio.to_thread(in_flight, stack):
                await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(asyncio.wait_for(cancel(), 30))
    ends_soon(stack)


def test_a_cancelled_job_is_told_by_wait(stack: Any, darkroom: Darkroom) -> None:
    job = darkroom.submit("text-to-image", **LONG)
    with pytest.raises(DeadlineExceeded, match=r"after 0\.3 s"):
        job.wait(timeout=0.3)
    job.cancel()
    with pytest.raises(Cancelled):
        job.wait(timeout=20)
    assert job.state == "cancelled"
    ends_soon(stack)


def test_one_key_makes_one_job_however_often_the_program_runs(darkroom: Darkroom) -> None:
    key = f"once-{time.time_ns()}"
    first, second = (
        darkroom.submit("remove-background", image=SAMPLE, trim=True, idempotency_key=key) for _ in range(2)
    )
    assert first.id == second.id
    assert first.wait(30).picture.media_type == "image/png"
    assert first.id in [job.id for job in darkroom.jobs(operation="remove-background", limit=20)]


def test_a_batch_of_pictures_goes_through_and_a_bad_one_is_told(darkroom: Darkroom) -> None:
    colours = ["red", "green", "blue", "white"]
    pictures: list[Any] = [Image.new("RGB", (64, 48), colour) for colour in colours]
    given = [{"image": picture, "mask": Image.new("L", (64, 48))} for picture in pictures]
    outcomes = sorted(
        darkroom.cleanup.batch([*given, {"image": b"no picture", "mask": given[0]["mask"]}], concurrency=2),
        key=lambda outcome: outcome.index,
    )
    for outcome, picture in zip(outcomes, pictures, strict=False):
        assert outcome.result.picture.pil().tobytes() == picture.tobytes()  # a black mask changes nothing
    assert isinstance(outcomes[-1].error, BadInput)
    assert outcomes[-1].error.field == "image"


def test_every_form_of_a_picture_is_the_same_picture(darkroom: Darkroom) -> None:
    small = Image.open(SAMPLE).resize((96, 96))
    held = io.BytesIO()
    small.save(held, "PNG")
    asset = darkroom.assets.put(held.getvalue())
    held.seek(0)
    forms: list[Any] = [small, held, held.getvalue(), asset, f"asset:{asset.id}"]
    masks = [darkroom.remove_background(form, output="mask").picture.pil().tobytes() for form in forms]
    assert len(set(masks)) == 1
    cmyk = darkroom.remove_background(small.convert("CMYK"), output="mask").picture.pil()
    assert cmyk.size == (96, 96)
    address = darkroom.assets.link(asset)
    assert httpx.get(str(darkroom.driver.http.base_url).rstrip("/") + address).content == held.getvalue()
    darkroom.assets.delete(asset)
    with pytest.raises(NotFound):
        darkroom.assets.get(asset)


def test_an_error_carries_all_that_the_gateway_says(darkroom: Darkroom) -> None:
    with pytest.raises(DarkroomError) as caught:
        darkroom.remove_background(SAMPLE, background="no such colour")
    error = caught.value
    assert (error.status, error.type, error.field) == (422, "urn:darkroom:problem:bad-input", "background")
    assert error.request_id
    assert error.what_to_do


def test_a_program_beside_the_data_folder_finds_the_gateway(stack: Any) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    program = (
        "from gateway.client import Darkroom\n"
        "with Darkroom() as darkroom: print(darkroom.driver.http.base_url, len(darkroom.models()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=env | {"DARKROOM_DATA": str(stack.data)},
        cwd=stack.data,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(stack.url)
