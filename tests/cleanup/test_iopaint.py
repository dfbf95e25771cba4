"""The engine that hands its work to an IOPaint server: against a real one where there is one, and for what goes wrong
against a stand-in."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.cleanup.engines.iopaint import IOPaintEngine, IOPaintServer
from services.cleanup.engines.shelf import Engines
from services.cleanup.strategies import Plan, erase
from services.errors import BadUpstream, Cancelled, DarkroomError, DeadlineExceeded, OutOfMemory, Unavailable
from services.models import Models, read_catalogue
from services.settings import CleanupSettings
from tests.cleanup.iopaint_server import VARIABLE, iopaint
from tests.cleanup.stand_in import COLOUR, StandIn, stand_in
from tests.servers import free_port


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real IOPaint server."""
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(
            f"{VARIABLE} names no python with IOPaint: pip install iopaint==1.6.0 in an environment of its own"
        )
    with iopaint(python, tmp_path_factory.mktemp("iopaint")) as url:
        yield url


@pytest.fixture
def server() -> Iterator[StandIn]:
    with stand_in() as state:
        yield state


def engine(url: str, model: str = "", timeout: float = 20) -> IOPaintEngine:
    return IOPaintEngine(IOPaintServer(CleanupSettings(iopaint_url=url, iopaint_timeout=timeout)), model)


def waiting() -> None:
    """Somebody still waits."""


IMAGE = Image.effect_noise((120, 90), 60).convert("RGB")
MASK = Image.new("L", IMAGE.size)
MASK.paste(255, (40, 30, 60, 50))
PIXELS, HOLE = np.asarray(IMAGE), np.asarray(MASK) > 127


def saved(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


# ── a real server ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["auto", "original", "resize", "crop"])
def test_a_real_server_fills_the_hole_and_nothing_else(
    real: str, start_service: Any, samples: Path, strategy: str
) -> None:
    photo = Image.open(samples / "astronaut.jpg").convert("RGB")
    mask = Image.open(samples / "astronaut-mask.png")
    with start_service("cleanup", DARKROOM_IOPAINT_URL=real) as (caller, _):
        fields = {"model": "iopaint", "strategy": strategy, "limit": 300 if strategy == "resize" else None}
        answer = caller.run("cleanup", fields, {"image": saved(photo), "mask": saved(mask)})
        assert answer.done["data"] == {"iopaint_model": "cv2"}
        before, after = np.asarray(photo), np.asarray(answer.picture())
        hole = np.asarray(mask) > 127
        assert (before[~hole] == after[~hole]).all()
        red, _, blue = after[360:410, 147:197].reshape(-1, 3).mean(axis=0)
        assert red > blue + 80, "the blue badge is still there"


@pytest.mark.slow
def test_of_a_real_server_the_models_that_it_has_can_be_asked_for_and_no_others(
    real: str, start_service: Any
) -> None:
    with start_service("cleanup", DARKROOM_IOPAINT_URL=real) as (caller, _):
        asked = {"image": saved(IMAGE), "mask": saved(MASK)}
        assert caller.run("cleanup", {"model": "iopaint-cv2"}, asked).picture().size == IMAGE.size
        refused = caller.run("cleanup", {"model": "mat"}, asked).error
        assert (refused["status"], refused["field"]) == (422, "model")
        available = {m["name"] for m in caller.describe()["models"] if m["available"]}
        assert {"iopaint", "iopaint-cv2"} <= available
        assert "iopaint-mat" not in available


# ── what a stand-in shows ─────────────────────────────────────────────────────────────────────────────────────


def test_what_the_server_paints_outside_the_hole_is_not_taken(server: StandIn) -> None:
    after = np.asarray(erase(engine(server.url), IMAGE, MASK, Plan(), lambda _done, _total: None))
    assert (after[~HOLE] == PIXELS[~HOLE]).all()
    assert (after[HOLE] == COLOUR).all()


def test_a_named_model_is_switched_to_once(server: StandIn) -> None:
    mat = engine(server.url, "mat")
    for _ in range(2):
        mat.fill(PIXELS, HOLE, waiting)
    assert server.model == "mat"
    assert server.asked.count("POST /api/v1/model") == 1


def test_a_model_that_the_server_does_not_switch_to_is_told(server: StandIn) -> None:
    server.how = "stubborn"
    with pytest.raises(BadUpstream, match="asked for the model mat and holds cv2"):
        engine(server.url, "mat").fill(PIXELS, HOLE, waiting)
    assert server.fills == 0


@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ("memory", OutOfMemory, "out of memory"),
        ("error", BadUpstream, "answered 500: a bad thing"),
        ("page", BadUpstream, "answered 502"),
        ("nonsense", BadUpstream, "not the picture"),
        ("small", BadUpstream, "not the picture"),
        ("hangs up", Unavailable, "does not answer"),
    ],
)
def test_what_goes_wrong_there_is_told_in_our_words(
    server: StandIn, how: str, error: type[DarkroomError], says: str
) -> None:
    server.how = how
    with pytest.raises(error, match=says) as raised:
        engine(server.url).fill(PIXELS, HOLE, waiting)
    assert server.url in str(raised.value) or how == "memory"
    assert server.fills <= 3


def test_a_server_that_is_not_there_is_tried_a_few_times_and_told(server: StandIn) -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable, match="does not answer") as raised:
        engine(f"http://127.0.0.1:{free_port()}").fill(PIXELS, HOLE, waiting)
    assert "DARKROOM_IOPAINT_URL" in raised.value.what_to_do
    assert time.monotonic() - started < 5


def test_a_server_that_takes_too_long_is_given_up(server: StandIn) -> None:
    server.how = "slow"
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"longer than 0\.5 s"):
        engine(server.url, timeout=0.5).fill(PIXELS, HOLE, waiting)
    assert time.monotonic() - started < 2
    assert server.fills == 1, "what began is not begun twice"


def test_nobody_waits_for_a_server_when_the_caller_is_gone(server: StandIn) -> None:
    server.how = "slow"
    gone = threading.Event()
    threading.Timer(0.4, gone.set).start()

    def check() -> None:
        if gone.is_set():
            raise Cancelled("The caller went away.")

    started = time.monotonic()
    with pytest.raises(Cancelled):
        engine(server.url).fill(PIXELS, HOLE, check)
    assert time.monotonic() - started < 1.5


def test_what_the_server_has_is_offered_and_iopaint_even_where_it_is_down(
    server: StandIn, tmp_path: Path
) -> None:
    for url, offered in ((server.url, True), (f"http://127.0.0.1:{free_port()}", False)):
        models = Models("cleanup", read_catalogue(), tmp_path)
        engines = Engines(models, CleanupSettings(iopaint_url=url))
        engines.close()
        assert models.is_offered("iopaint")
        assert models.is_offered("iopaint-mat") is offered
        assert not models.is_offered("iopaint-zits")


def test_auto_never_leaves_the_house(server: StandIn, tmp_path: Path) -> None:
    engines = Engines(Models("cleanup", read_catalogue(), tmp_path), CleanupSettings(iopaint_url=server.url))
    engines.close()
    assert not engines.best().startswith("iopaint")


@pytest.mark.parametrize("url", ["iopaint:8080", "ftp://somewhere", "http://", "file:///etc/passwd"])
def test_an_address_that_is_none_stops_the_start(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DARKROOM_IOPAINT_URL", url)
    with pytest.raises(SystemExit, match="DARKROOM_IOPAINT_URL"):
        CleanupSettings.from_environment()
