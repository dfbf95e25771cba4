"""The base of a service, shown with a toy service on a real socket."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from services import frames
from services.errors import BadInput, DarkroomError, Draining
from services.operations import OPERATIONS, Operation, Seeded
from services.pictures import Picture
from services.serving import Job, Models, Preview, Progress, Result, Service, ServiceApp
from services.settings import ServiceSettings


def picture(size: tuple[int, int] = (8, 6), colour: tuple[int, int, int] = (10, 20, 30)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def toy() -> Iterator[type[Service]]:
    """A service with one operation of each manner."""
    before = dict(OPERATIONS)

    class Echo(Seeded, service="toy"):
        """Give the picture back."""

        image: Picture

    class Many(Seeded, service="toy"):
        """Several pictures, with progress and previews."""

        image: Picture
        count: int = 3

    class Tell(Operation, service="toy", answers="data"):
        """Say a word."""

        word: str = "hello"

    class Stream(Seeded, service="toy"):
        """The same, async."""

        seconds: float = 0.0

    class Work(Operation, service="toy", answers="data"):
        """Take long."""

        steps: int = 100
        seconds: float = 0.02
        fault: str = ""

    class ToyService(Service):
        started = 0
        stopped = 0

        def echo(self, ask: Echo, job: Job) -> Image.Image:
            found: Image.Image = ask.image.pixels
            return found

        def many(self, ask: Many, job: Job) -> Iterator[Any]:
            for at in range(ask.count):
                yield Progress(at, ask.count)
                yield Preview(ask.image.pixels)
                time.sleep(0.05)
                yield ask.image
            yield Result(ask.image.pixels, role="map")

        def tell(self, ask: Tell, job: Job) -> dict[str, Any]:
            return {"word": ask.word}

        async def stream(self, ask: Stream, job: Job) -> AsyncIterator[Any]:
            import asyncio

            yield Progress(0, 1)
            await asyncio.sleep(ask.seconds)
            yield Image.new("RGB", (2, 2))

        def work(self, ask: Work, job: Job) -> dict[str, Any]:
            ToyService.started += 1
            try:
                if ask.fault == "memory":
                    raise MemoryError
                if ask.fault == "input":
                    raise BadInput("It must be another word.", field="word")
                if ask.fault:
                    raise RuntimeError(ask.fault)
                for at in range(ask.steps):
                    job.progress(at, ask.steps)
                    time.sleep(ask.seconds)
            except DarkroomError:
                ToyService.stopped += 1
                raise
            return {"steps": ask.steps}

    yield ToyService
    OPERATIONS.clear()
    OPERATIONS.update(before)


@pytest.fixture(scope="module")
def running(toy: type[Service], serve_toy: Callable[..., Any]) -> Iterator[tuple[Any, ServiceApp]]:
    with serve_toy(toy, ServiceSettings(capacity=2, alive_interval=0.2)) as both:
        both[0].wait(lambda said: said["ready"])
        yield both


def test_a_picture_comes_back_between_accepted_and_done(running: Any) -> None:
    answer = running[0].run("echo", {"seed": 7}, {"image": picture()})
    assert answer.kinds() == ["accepted", "result", "done"]
    result = answer.frames[1][0]
    assert (result["index"], result["role"], result["media_type"]) == (0, "picture", "image/png")
    assert (result["width"], result["height"], result["seed"]) == (8, 6, 7)
    assert answer.picture().getpixel((0, 0)) == (10, 20, 30)
    assert answer.done["model"] == "toy"
    assert set(answer.done["timing"]) == {"decode_ms", "run_ms", "encode_ms"}
    assert answer.headers["content-type"] == frames.CONTENT_TYPE


@pytest.mark.parametrize(("wanted", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_a_picture_comes_in_the_format_asked_for(running: Any, wanted: str, kind: str) -> None:
    answer = running[0].run("echo", {"format": wanted}, {"image": picture()})
    assert answer.picture().format == kind
    assert answer.frames[1][0]["media_type"] == f"image/{wanted}"


def test_a_generator_tells_progress_previews_and_several_results(running: Any) -> None:
    answer = running[0].run("many", {"seed": 40, "count": 3}, {"image": picture()})
    results = [event for event, _ in answer.frames if event.kind == "result"]
    assert [r["index"] for r in results] == [0, 1, 2, 3]
    assert [r.get("seed") for r in results] == [40, 41, 42, None]
    assert results[-1]["role"] == "map"
    assert {"progress", "preview"} <= set(answer.kinds())


def test_an_absent_seed_is_drawn_and_reported(running: Any) -> None:
    seeds = {running[0].run("echo", {}, {"image": picture()}).frames[1][0]["seed"] for _ in range(3)}
    assert len(seeds) == 3


def test_data_comes_with_done(running: Any) -> None:
    assert running[0].run("tell", {"word": "hi"}).done["data"] == {"word": "hi"}


def test_an_async_generator_is_streamed_too(running: Any) -> None:
    assert running[0].run("stream").kinds()[-2:] == ["result", "done"]


def test_silent_work_sends_alive(running: Any) -> None:
    assert running[0].run("stream", {"seconds": 0.7}).kinds().count("alive") >= 2


def test_accepted_comes_long_before_the_work_is_done(running: Any) -> None:
    caller = running[0]
    started = time.monotonic()
    with caller.http.stream(**caller.request("work", {"steps": 40}, {}, {})) as response:
        next(response.iter_raw())
        assert time.monotonic() - started < 0.5


def test_work_stops_within_a_step_when_the_caller_goes_away(running: Any, toy: Any) -> None:
    caller, app = running
    caller.wait(lambda said: said["in_flight"] == 0)
    stopped = toy.stopped
    with caller.http.stream(**caller.request("work", {"steps": 1000}, {}, {})) as response:
        next(response.iter_raw())
    caller.wait(lambda said: said["in_flight"] == 0, 2)
    assert toy.stopped == stopped + 1
    assert not app.calls


def test_an_async_method_is_cancelled_when_the_caller_goes_away(running: Any) -> None:
    caller, _ = running
    with caller.http.stream(**caller.request("stream", {"seconds": 60}, {}, {})) as response:
        next(response.iter_raw())
    caller.wait(lambda said: said["in_flight"] == 0, 2)


def test_past_its_capacity_a_service_says_429_and_when_to_come_again(running: Any) -> None:
    caller, _ = running
    threads = [threading.Thread(target=caller.run, args=("work", {"steps": 30})) for _ in range(2)]
    for thread in threads:
        thread.start()
    caller.wait(lambda said: said["in_flight"] == 2)
    refused = caller.run("tell")
    assert refused.status == 429
    assert refused.problem["type"] == "urn:darkroom:problem:at-capacity"
    assert int(refused.headers["retry-after"]) >= 1
    for thread in threads:
        thread.join()
    assert caller.run("tell").status == 200
    assert caller.describe()["in_flight"] == 0


def test_the_deadline_ends_the_work(running: Any) -> None:
    started = time.monotonic()
    answer = running[0].run("work", {"steps": 1000}, x_darkroom_timeout="0.3")
    assert answer.error["type"] == "urn:darkroom:problem:deadline-exceeded"
    assert time.monotonic() - started < 2
    running[0].wait(lambda said: said["in_flight"] == 0, 2)


@pytest.mark.parametrize("given", ["soon", "nan", "-1", "0", "1e99"])
def test_a_timeout_that_is_none_is_refused(running: Any, given: str) -> None:
    assert running[0].run("tell", x_darkroom_timeout=given).status in (400, 504)


def test_running_out_of_memory_is_said_and_the_next_call_works(running: Any) -> None:
    answer = running[0].run("work", {"fault": "memory"})
    assert answer.error["type"] == "urn:darkroom:problem:out-of-memory"
    assert answer.error["status"] == 503
    assert running[0].run("tell").done


def test_a_fault_says_its_request_id_and_nothing_of_the_code(running: Any) -> None:
    error = running[0].run("work", {"fault": "secret detail"}, x_request_id="abc-1").error
    assert error["type"] == "urn:darkroom:problem:service-fault"
    assert error["request_id"] == "abc-1"
    assert "secret detail" not in str(error)
    assert running[0].run("tell").done


def test_bad_input_that_the_method_finds_keeps_its_status_and_field(running: Any) -> None:
    error = running[0].run("work", {"fault": "input"}).error
    assert (error["status"], error["field"]) == (422, "word")


@pytest.mark.parametrize(
    ("fields", "pictures", "status", "field"),
    [
        ({}, {}, 422, "image"),
        ({"image": "part:other"}, {}, 422, "image"),
        ({"image": "https://example.com/a.png"}, {}, 422, "image"),
        ({"format": "gif"}, {"image": b"x"}, 422, "format"),
        ({"unknown": 1}, {"image": b"x"}, 422, "unknown"),
        ({}, {"image": b"x"}, 422, "image"),
        ({}, {"image": b""}, 422, "image"),
        ({"model": "nobody"}, {"image": b"x"}, 422, "model"),
    ],
)
def test_bad_parameters_are_refused_before_the_first_frame(
    running: Any, fields: dict[str, Any], pictures: dict[str, bytes], status: int, field: str
) -> None:
    answer = running[0].run("echo", fields, pictures)
    assert (answer.status, answer.problem["field"]) == (status, field)


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"", 400),
        ("multipart/form-data; boundary=x", b"", 400),
        ("multipart/form-data; boundary=x", b"garbage", 400),
        ("multipart/form-data; boundary=x", b"--x\r\n", 400),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nno name\r\n--x--\r\n", 400),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="ask"\r\n\r\n{}\r\n',
            400,
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="ask"\r\n\r\n{"\r\n--x--\r\n',
            400,
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="ask"\r\n\r\n[]\r\n--x--\r\n',
            422,
        ),
        ("multipart/form-data; boundary=" + "x" * 300, b"--x", 400),
    ],
)
def test_a_body_that_is_no_form_is_refused(running: Any, content_type: str, body: bytes, status: int) -> None:
    url = running[0].url + "/darkroom/v1/run/tell"
    response = httpx.post(url, content=body, headers={"content-type": content_type})
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert running[0].describe()["in_flight"] == 0


def test_a_part_past_the_limit_is_refused_while_it_is_read(
    toy: type[Service], serve_toy: Callable[..., Any]
) -> None:
    with serve_toy(toy, ServiceSettings(max_picture_bytes=100_000, max_body=300_000)) as (caller, _):
        caller.wait(lambda said: said["ready"])
        answer = caller.run("echo", {}, {"image": bytes(200_000)})
        assert (answer.status, answer.problem["field"]) == (413, "image")
        parts = {f"p{n}": bytes(90_000) for n in range(4)}
        assert caller.run("tell", {}, parts).status == 413


def test_another_schema_is_refused_as_a_mismatch(running: Any) -> None:
    answer = running[0].run("tell", x_darkroom_schema="0123456789ab")
    assert (answer.status, answer.problem["type"]) == (503, "urn:darkroom:problem:schema-mismatch")


def test_an_operation_of_another_service_is_not_found(running: Any) -> None:
    assert running[0].run("cleanup").status == 404


def test_describe_tells_what_a_gateway_needs(running: Any, toy: type[Service]) -> None:
    said = running[0].describe()
    assert said["service"] == "toy"
    assert said["ready"] is True
    assert said["reason"] is None
    assert said["capacity"] == 2
    assert set(said["operations"]) == {"echo", "many", "tell", "stream", "work"}
    assert said["operations"]["tell"] == sorted(toy.operations()["tell"].accepted_digests())


def test_a_service_lives_at_once_and_is_ready_when_loaded(
    toy: type[Service], serve_toy: Callable[..., Any]
) -> None:
    gate = threading.Event()

    class SlowService(toy, name="toy"):  # type: ignore[misc, valid-type]
        def load(self, models: Models) -> None:
            gate.wait(10)

    with serve_toy(SlowService) as (caller, _):
        assert caller.describe()["ready"] is False
        refused = caller.run("tell")
        assert (refused.status, refused.problem["type"]) == (503, "urn:darkroom:problem:unavailable")
        gate.set()
        caller.wait(lambda said: said["ready"])
        assert caller.run("tell").done


def test_a_failed_load_stays_alive_and_says_why(toy: type[Service], serve_toy: Callable[..., Any]) -> None:
    class BrokenService(toy, name="toy"):  # type: ignore[misc, valid-type]
        def load(self, models: Models) -> None:
            raise FileNotFoundError("weights.safetensors")

    with serve_toy(BrokenService) as (caller, _):
        said = caller.wait(lambda said: "weights" in (said["reason"] or ""))
        assert said["ready"] is False
        assert caller.run("tell").status == 503


def test_a_draining_service_finishes_its_work_and_takes_no_more(
    toy: type[Service], serve_toy: Callable[..., Any]
) -> None:
    with serve_toy(toy) as (caller, app):
        caller.wait(lambda said: said["ready"])
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(caller.run("work", {"steps": 20})))
        thread.start()
        caller.wait(lambda said: said["in_flight"] == 1)
        app.drain()
        refused = caller.run("tell")
        assert refused.problem["type"] == "urn:darkroom:problem:" + Draining.slug
        assert caller.describe()["ready"] is False
        thread.join()
        assert answers[0].done


def test_work_that_outlives_the_drain_ends_with_draining(
    toy: type[Service], serve_toy: Callable[..., Any]
) -> None:
    with serve_toy(toy) as (caller, app):
        caller.wait(lambda said: said["ready"])
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(caller.run("work", {"steps": 1000})))
        thread.start()
        caller.wait(lambda said: said["in_flight"] == 1)
        app.drain()
        caller.http.get(caller.url + "/darkroom/v1/describe")
        app.stop_work()
        thread.join(5)
        assert answers[0].error["type"] == "urn:darkroom:problem:draining"


def test_a_call_whose_body_still_comes_when_work_is_stopped_is_refused(
    toy: type[Service], serve_toy: Callable[..., Any]
) -> None:
    with serve_toy(toy) as (caller, app):
        caller.wait(lambda said: said["ready"])
        request = httpx.Request(**caller.request("work", {"steps": 1000}, {}, {}))
        body, rest = request.read(), threading.Event()

        def slowly() -> Iterator[bytes]:
            yield body[:40]
            rest.wait(10)
            yield body[40:]

        answers: list[httpx.Response] = []
        headers = {"content-type": request.headers["content-type"]}
        thread = threading.Thread(
            target=lambda: answers.append(httpx.post(request.url, content=slowly(), headers=headers))
        )
        thread.start()
        until = time.monotonic() + 10
        while app.in_flight != 1:
            assert time.monotonic() < until
            time.sleep(0.01)
        app.drain()
        app.stop_work()
        rest.set()
        thread.join(10)
        assert answers[0].status_code == 503
        assert answers[0].json()["type"] == "urn:darkroom:problem:draining"


def test_a_service_without_a_method_for_its_operation_is_refused_at_its_start(toy: type[Service]) -> None:
    class EmptyService(Service, name="toy"):
        pass

    with pytest.raises(TypeError, match="needs a method"):
        EmptyService.operations()
