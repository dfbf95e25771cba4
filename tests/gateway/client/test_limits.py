"""When the client tries again, when it must not, and when it stops."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.responses import PlainTextResponse, Response

from gateway.client import AsyncDarkroom, Darkroom
from gateway.client.steps import Unreachable, Unsent
from services.errors import BadUpstream, DeadlineExceeded, LineFull, NotFound, Unavailable


@pytest.fixture
def darkroom(server: Any) -> Iterator[Darkroom]:
    with Darkroom(server.url) as client:
        yield client


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.new("RGB", (2, 2), "red").save(path)
    return path


class Breaking:
    """A server that takes a whole request and hangs up without a word, `times` often, and then answers."""

    def __init__(self, times: int, answer: bytes, port: int = 0) -> None:
        self.connections, self._times = 0, times
        self._listening = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._body = answer
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                self.connections += 1
                if self.connections > self._times:
                    head = (
                        f"HTTP/1.1 200 OK\r\ncontent-length: {len(self._body)}\r\nconnection: close\r\n\r\n"
                    )
                    connection.sendall(head.encode() + self._body)

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


@pytest.fixture
def breaking() -> Iterator[Any]:
    made: list[Breaking] = []

    def begin(times: int, answer: Any, port: int = 0) -> Breaking:
        made.append(Breaking(times, json.dumps(answer).encode(), port))
        return made[-1]

    yield begin
    for one in made:
        one.stop()


def test_what_may_be_read_twice_is_read_again_where_the_connection_broke(breaking: Any) -> None:
    server = breaking(2, {"data": [{"id": "telea"}]})
    with Darkroom(server.url) as darkroom:
        assert darkroom.models() == [{"id": "telea"}]
    assert server.connections == 3


def test_a_job_is_sent_again_where_the_connection_broke_since_its_key_makes_it_one(breaking: Any) -> None:
    server = breaking(1, {"id": "job1", "state": "queued"})
    with Darkroom(server.url) as darkroom:
        assert darkroom.submit("text-to-image", prompt="x").id == "job1"
    assert server.connections == 2


def test_a_call_whose_fate_is_unknown_is_not_sent_again(breaking: Any) -> None:
    server = breaking(9, {})
    with Darkroom(server.url) as darkroom, pytest.raises(Unreachable, match="broke") as caught:
        darkroom.text_to_image("x")
    assert not isinstance(caught.value, Unsent)
    assert server.connections == 1


def test_a_call_that_never_left_is_sent_again_when_the_gateway_is_back(breaking: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    coming = threading.Timer(0.15, breaking, [0, {"done": True}, port])
    coming.start()
    with Darkroom(f"http://127.0.0.1:{port}") as darkroom:
        assert darkroom.admin("POST", "/v1/admin/anything") == {"done": True}
    coming.join()


def test_retry_after_may_be_a_date(darkroom: Darkroom, server: Any) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    server.refusals = [PlainTextResponse("busy", 503, {"retry-after": soon})]
    began = time.monotonic()
    darkroom.text_to_image("x")
    assert 0.5 < time.monotonic() - began < 4
    server.refusals = [PlainTextResponse("busy", 503, {"retry-after": "soon"})]
    darkroom.text_to_image("x")  # what cannot be read is not obeyed, but waited for as usual


def test_a_proxys_502_is_tried_again_for_reading_and_told_for_working(
    darkroom: Darkroom, server: Any
) -> None:
    server.refusals = [PlainTextResponse("<html>", 502)]
    assert darkroom.models() == [{"id": "telea"}]
    server.refusals = [PlainTextResponse("<html>", 502)]
    with pytest.raises(BadUpstream, match="HTTP 502"):
        darkroom.text_to_image("x")


def test_an_error_says_its_type_and_which_request_it_was(darkroom: Darkroom, server: Any) -> None:
    document = NotFound("Nothing.").problem() | {"request_id": "r-17"}
    server.refusals = [Response(json.dumps(document), 404, media_type="application/problem+json")]
    with pytest.raises(NotFound) as caught:
        darkroom.text_to_image("x")
    assert (caught.value.type, caught.value.request_id) == ("urn:darkroom:problem:not-found", "r-17")
    server.refusals = [PlainTextResponse("no", 404, {"x-request-id": "r-18"})]
    with pytest.raises(NotFound) as caught:
        darkroom.text_to_image("x")
    assert caught.value.request_id == "r-18"


def test_a_type_that_a_newer_gateway_has_is_what_its_status_says(darkroom: Darkroom, server: Any) -> None:
    document = {"type": "urn:darkroom:problem:too-lazy", "status": 503, "detail": "Not now.", "help": "Wait."}
    server.refusals = [Response(json.dumps(document), 503, {"retry-after": "3600"})]
    with pytest.raises(Unavailable, match="Not now") as caught:
        darkroom.text_to_image("x")
    assert caught.value.what_to_do == "Wait."


def test_the_time_of_a_call_is_for_all_its_attempts(server: Any) -> None:
    server.refusals = [
        Response(json.dumps(LineFull(retry_after=0.3).problem()), 429, media_type="application/problem+json")
        for _ in range(5)
    ]
    with Darkroom(server.url, timeout=0.8) as darkroom:
        began = time.monotonic()
        with pytest.raises(LineFull):
            darkroom.text_to_image("x")
        assert time.monotonic() - began < 0.8
    assert 2 <= len(server.asked) <= 3


def test_without_retries_the_first_refusal_is_raised(server: Any, darkroom: Darkroom) -> None:
    server.refusals = [Response(json.dumps(LineFull(retry_after=0.1).problem()), 429)]
    with pytest.raises(LineFull):
        darkroom.with_options(retries=0).text_to_image("x")
    assert darkroom.text_to_image("x").model == "telea"


def test_an_answer_that_takes_too_long_is_given_up(server: Any, darkroom: Darkroom) -> None:
    server.work = 2.0
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        darkroom.with_options(timeout=0.3).text_to_image("x")
    assert time.monotonic() - began < 1


def test_an_answer_that_comes_drop_by_drop_is_given_up_in_time(server: Any, darkroom: Darkroom) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        darkroom.with_options(timeout=0.5).assets.get("dripping")
    assert time.monotonic() - began < 1.0

    async def likewise() -> None:
        async with AsyncDarkroom(server.url, timeout=0.5) as other:
            await other.assets.get("dripping")

    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        asyncio.run(likewise())
    assert time.monotonic() - began < 1.0


def test_a_stream_that_breaks_off_says_so(darkroom: Darkroom, photo: Path) -> None:
    with (
        darkroom.inpaint.stream(photo, photo, "a cat") as events,
        pytest.raises(Unreachable, match="before the work was done"),
    ):
        events.result()


def test_events_bring_their_previews_as_pictures(darkroom: Darkroom, photo: Path) -> None:
    heard = []
    with pytest.raises(Unreachable):
        for event in darkroom.inpaint.stream(photo, photo, "a cat"):
            heard.append(event)  # noqa: PERF402 - those before the break are wanted
    preview = heard[-1].preview
    assert preview is not None
    assert preview.pil().size == (1, 1)
    assert [event.preview for event in heard[:-1]] == [None, None]
    assert (heard[1].step, heard[1].total) == (1, 2)
