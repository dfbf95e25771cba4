"""Logs: lines of JSON, no secret in them, and no wait for a stderr that takes nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest
from starlette.types import Receive, Scope, Send

from gateway import logs, request_id
from gateway.access import Access
from gateway.logs import Logs, Writer, redact
from gateway.metrics import Metrics
from gateway.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def as_in_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that ran in this process has set Darkroom's loggers up its own way, for good."""
    logger = logging.getLogger("darkroom")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    logging.getLogger().manager._clear_cache()  # type: ignore[attr-defined]


class Log:
    """What was written to a file in place of stderr."""

    def __init__(self, path: Path, **given: Any) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
        self.logs = Logs(Settings(_env_file=None, **given), self._descriptor)  # type: ignore[call-arg]

    def close(self) -> str:
        self.logs.close()
        os.close(self._descriptor)
        return self._path.read_text()


@contextmanager
def logged(folder: Path, lines: list[dict[str, Any]], **given: Any) -> Iterator[Logs]:
    log = Log(folder / "log", **given)
    log.logs.start()
    try:
        yield log.logs
    finally:
        lines.extend(json.loads(line) for line in log.close().splitlines())


def test_a_record_becomes_a_line_of_json_with_its_extras_and_its_exception(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []
    with logged(tmp_path, lines):
        logger = logging.getLogger("darkroom.test")
        logger.debug("not shown")
        logger.info("job %s ended", "j1", extra={"seconds": 1.5, "where": Path("x")})
        try:
            raise ValueError("broken")
        except ValueError:
            logger.exception("it failed")
        logger.warning("%d is no number", "x")
    first, second, third = lines
    assert (first["level"], first["logger"], first["message"]) == ("info", "darkroom.test", "job j1 ended")
    assert (first["seconds"], first["where"]) == (1.5, "x")
    assert first["time"].endswith("Z")
    assert "ValueError: broken" in second["exception"]
    assert "arguments do not fit" in third["message"]


def test_text_for_people_is_one_readable_line(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", log_format="text")
    log.logs.start()
    logging.getLogger("darkroom.test").warning("careful", extra={"key": "k1"})
    log.logs.access({"method": "POST", "message": "POST /v1/cleanup 200", "ms": 3.5})
    first, second = log.close().splitlines()
    assert first.endswith("warning darkroom.test careful  key=k1")
    assert "POST /v1/cleanup 200" in second


SECRETS = [
    ("Authorization: Bearer dk_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ", "dk_abcdef"),
    ("authorization: basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ("key dk_abcdefghijklmnopqrstuvwxyz_-CDEFGHIJKLMNOPQ given", "abcdefghijkl"),
    ("postgresql://darkroom:hunter2@db:5432/x", "hunter2"),
    ("redis://:hunter2@redis:6379", "hunter2"),
    ("postgresql+asyncpg://u:p%40ss@db/x", "p%40ss"),
    ("GET /v1/assets/a?expires=1&signature=abcdef0123", "abcdef0123"),
    ("s3 X-Amz-Signature=deadbeef&x=1", "deadbeef"),
    ("https://h/?token=hunter2&b=1", "hunter2"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_no_secret_reaches_a_line_in_a_message_an_extra_or_an_exception(
    tmp_path: Path, text: str, secret: str
) -> None:
    log = Log(tmp_path / "log")
    log.logs.start()
    logger = logging.getLogger("darkroom.test")
    logger.info("%s", text)
    logger.info("extra", extra={"url": text, "nested": {"a": [text]}})
    try:
        raise RuntimeError(text)
    except RuntimeError:
        logger.exception("failed")
    written = log.close()
    assert secret not in written
    assert written.count("[hidden]") >= 3
    for line in written.splitlines():
        json.loads(line)


def test_headers_that_are_logged_as_a_mapping_lose_their_values() -> None:
    line = json.dumps(
        {"headers": {"authorization": "dk_short", "X-Api-Key": "abc", "cookie": "session=1", "accept": "*/*"}}
    )
    hidden = json.loads(redact(line.encode()))["headers"]
    assert hidden == {
        "authorization": "[hidden]",
        "X-Api-Key": "[hidden]",
        "cookie": "[hidden]",
        "accept": "*/*",
    }


def test_harmless_text_stays_as_it_is() -> None:
    for text in (
        b"http://host:8080/a@b",
        b"the bearer of a link",
        b"2026-11-21T08:00:00Z 12:30",
        b"dk_ is the prefix",
    ):
        assert redact(text) in (text, b"the bearer [hidden] a link")


def test_a_stderr_that_takes_nothing_costs_lines_but_never_time() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, True)
    writer = Writer(writing, bound=500)
    began = time.perf_counter()
    for n in range(20_000):
        writer.put({"time": 0.0, "level": "info", "logger": "x", "message": "y" * 200, "n": n})
    assert time.perf_counter() - began < 0.5
    assert writer.dropped > 10_000
    # once somebody reads, the log says what is missing
    told, until = b"", time.monotonic() + 5
    while b"were dropped" not in told and time.monotonic() < until:
        told += os.read(reading, 1 << 16)
    assert b"log lines were dropped" in told
    os.close(reading)
    writer.close()
    os.close(writing)


def test_closing_writes_what_is_queued(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []
    with logged(tmp_path, lines):
        for n in range(1000):
            logging.getLogger("darkroom.test").info("%d", n)
    assert [line["message"] for line in lines] == [str(n) for n in range(1000)]


def test_a_process_that_ends_without_closing_still_writes_its_last_line() -> None:
    script = (
        "import logging; from gateway.logs import Logs; from gateway.settings import Settings;"
        "Logs(Settings(_env_file=None)).start(); logging.getLogger('x').error('the reason'); raise SystemExit(3)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 3
    assert json.loads(ended.stderr)["message"] == "the reason"


def test_closing_gives_the_root_logger_back(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    log = Log(tmp_path / "log")
    log.logs.start()
    log.close()
    assert (root.handlers[:], root.level) == before


# ── a request's line ──────────────────────────────────────────────────────────────────────────────────────────


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/v1/cleanup":
        logs.tell(
            operation="cleanup", door="native", service="cleanup", endpoint="http://127.0.0.1:3001", key="k1"
        )
        await asyncio.create_task(deeper())
    if scope["path"] == "/broken":
        raise RuntimeError("broken")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"12345"})


async def deeper() -> None:
    logging.getLogger("darkroom.test").info("in a task of the request")
    logs.tell(model="telea")


async def test_a_request_has_one_line_and_its_id_is_everywhere(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []
    with logged(tmp_path, lines) as log:
        transport = httpx.ASGITransport(Access(app, log, Metrics()))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            answer = await client.post(
                "/v1/cleanup?signature=abc", content=b"123", headers={"x-request-id": "from-the-client.1"}
            )
    assert answer.headers["x-request-id"] == "from-the-client.1"
    inner, line = lines
    assert inner["request_id"] == line["request_id"] == "from-the-client.1"
    assert line["logger"] == "access"
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/cleanup", 200)
    assert (line["in"], line["out"]) == (3, 5)
    assert (line["operation"], line["service"], line["key"], line["model"]) == (
        "cleanup",
        "cleanup",
        "k1",
        "telea",
    )
    assert line["endpoint"] == "http://127.0.0.1:3001"
    assert 0 < line["ms"] < 5000


async def test_health_checks_are_quiet_and_what_broke_is_a_500(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []
    metrics = Metrics()
    with logged(tmp_path, lines) as log:
        transport = httpx.ASGITransport(Access(app, log, metrics), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            await client.get("/healthz")
            await client.get("/broken")
    (line,) = lines
    assert (line["path"], line["status"]) == ("/broken", 500)
    text = generate_latest(metrics.registry).decode()
    assert 'darkroom_requests_total{door="",operation="",status="5xx"} 1.0' in text
    assert "darkroom_requests_in_flight 0.0" in text


@pytest.mark.parametrize(
    "given", [b"", b"a b", b"a" * 65, b"x\ny", b'"quoted"', b"-starts-badly", "é".encode()]
)
def test_an_id_that_is_not_well_formed_is_replaced(given: bytes) -> None:
    made = request_id.choose(given)
    assert made.encode() != given
    assert len(made) == 16


def test_a_well_formed_id_is_kept() -> None:
    for given in (b"a", b"0f3a.b_c-D" * 6, b"01890a5d-ac96-774b-bcce-b302099a8057"):
        assert request_id.choose(given) == given.decode()
    assert request_id.choose(None) != request_id.choose(None)


def test_a_line_costs_microseconds_on_the_loop_and_in_the_thread(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    line = {"request_id": "0123456789abcdef", "message": "POST /v1/cleanup 200", "method": "POST",
            "path": "/v1/cleanup",
            "status": 200, "ms": 12.34, "in": 123456, "out": 654321, "client": "127.0.0.1", "operation": "cleanup",
            "key": "key_0123456789ab", "service": "cleanup", "endpoint": "http://127.0.0.1:3001"}  # fmt: skip
    put = make = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(1000):
            log.logs.access(line)
        put = min(put, (time.perf_counter() - began) / 1000)
        time.sleep(0.1)
        began = time.perf_counter()
        for _ in range(1000):
            log.logs._writer._line({"time": 1.0, "level": "info", "logger": "access", **line})
        make = min(make, (time.perf_counter() - began) / 1000)
    log.close()
    print(f"put {put * 1e6:.1f} us, make {make * 1e6:.1f} us")
    # 1 and 9 microseconds on an idle core; the bound only catches a change of kind
    assert put < 30e-6
    assert make < 100e-6
