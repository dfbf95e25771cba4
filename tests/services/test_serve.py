"""Services as processes: their start, their end, their health, BentoML's own client, and an extension's service."""

from __future__ import annotations

import http.server
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from services.installed import installed, module_of, processes

TOY_OPERATIONS = '''
from pydantic import Field
from services.operations import Encoded
from services.pictures import Picture


class Invert(Encoded, service="toy"):
    """Turn light into dark."""

    image: Picture
    pause: float = Field(0, ge=0)
'''
TOY_SERVICE = """
import time
from PIL import Image, ImageOps
from darkroom_toy.operations import Invert
from services.serving import Job, Service


class ToyService(Service):
    def invert(self, ask: Invert, job: Job) -> Image.Image:
        time.sleep(ask.pause)
        return ImageOps.invert(ask.image.pixels)
"""


@pytest.fixture(scope="module")
def toy_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An extension's package, and the settings that name it."""
    folder = tmp_path_factory.mktemp("extension")
    package = folder / "darkroom_toy"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "operations.py").write_text(TOY_OPERATIONS)
    (package / "service.py").write_text(TOY_SERVICE)
    return {"PYTHONPATH": str(folder), "DARKROOM_EXTENSIONS": "darkroom_toy"}


def white() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (6, 4), (255, 255, 255)).save(out, "PNG")
    return out.getvalue()


def test_health_and_metrics_are_true(cleanup: Any) -> None:
    for path in ("/livez", "/readyz", "/healthz"):
        assert cleanup.http.get(cleanup.url + path).status_code == 200
    out, mask = io.BytesIO(), Image.new("L", (6, 4))
    mask.putpixel((2, 2), 255)
    mask.save(out, "PNG")
    cleanup.run("cleanup", {}, {"image": white(), "mask": out.getvalue()})
    metrics = cleanup.http.get(cleanup.url + "/metrics").text
    assert 'darkroom_service_requests_total{operation="cleanup",outcome="ok",service="cleanup"}' in metrics
    assert 'darkroom_service_ready{service="cleanup"} 1.0' in metrics
    assert 'darkroom_service_in_flight{service="cleanup"} 0.0' in metrics
    assert "process_resident_memory_bytes" in metrics


@pytest.mark.parametrize("name", ["darkroom_toy", "toy"])
def test_an_extensions_service_starts_by_its_package_and_by_its_name(
    start_service: Callable[..., Any], toy_environment: dict[str, str], name: str
) -> None:
    with start_service(name, **toy_environment) as (caller, _):
        answer = caller.run("invert", {}, {"image": white()})
        assert answer.picture().getpixel((0, 0)) == (0, 0, 0)
        assert answer.done["model"] == "toy"


def test_sigterm_lets_the_work_finish_and_leaves_nothing(
    start_service: Callable[..., Any], toy_environment: dict[str, str]
) -> None:
    with start_service("toy", **toy_environment) as (caller, process):
        answers: list[Any] = []
        call = threading.Thread(
            target=lambda: answers.append(caller.run("invert", {"pause": 1}, {"image": white()}))
        )
        call.start()
        caller.wait(lambda said: said["in_flight"] == 1)
        process.send_signal(signal.SIGTERM)
        call.join(10)
        assert answers[0].picture().getpixel((0, 0)) == (0, 0, 0)
        assert process.wait(10) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(caller.url + "/livez")


def test_work_that_outlasts_the_drain_does_not_keep_the_process(
    start_service: Callable[..., Any], toy_environment: dict[str, str]
) -> None:
    with start_service("toy", DARKROOM_DRAIN="0.5", **toy_environment) as (caller, process):
        answers: list[Any] = []
        call = threading.Thread(
            target=lambda: answers.append(caller.run("invert", {"pause": 30}, {"image": white()}))
        )
        call.start()
        caller.wait(lambda said: said["in_flight"] == 1)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert time.monotonic() - started < 6
        call.join(10)
        assert answers[0].error["type"] == "urn:darkroom:problem:draining"


def test_bentoml_serves_it_too_and_its_own_client_can_call_it(
    tmp_path: Path, samples: Path, unused_port: int
) -> None:
    command = [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        "services.cleanup.service:bento",
        "--host",
        "127.0.0.1",
    ]
    root = samples.parent.parent
    with subprocess.Popen(
        [*command, "--port", str(unused_port)], cwd=root, stderr=subprocess.DEVNULL
    ) as process:
        try:
            url = f"http://127.0.0.1:{unused_port}"
            _until_ready(url)
            # BentoML's client makes its own warnings; it is not what this test is about
            script = (
                "import bentoml, pathlib, sys\n"
                "client = bentoml.SyncHTTPClient(sys.argv[1])\n"
                "image, mask = map(pathlib.Path, sys.argv[2:])\n"
                "from PIL import Image\n"
                "print(Image.open(client.cleanup(image=image, mask=mask, format='webp')).size)\n"
            )
            pictures = [str(samples / "astronaut.jpg"), str(samples / "astronaut-mask.png")]
            ran = subprocess.run(
                [sys.executable, "-c", script, url, *pictures],
                capture_output=True,
                text=True,
                check=True,
                cwd=tmp_path,
            )
            assert ran.stdout.strip() == "(512, 512)"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)
    with pytest.raises(httpx.ConnectError):
        httpx.get(url + "/livez")


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _until_ready(url: str) -> None:
    for _ in range(200):
        try:
            if httpx.get(url + "/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("it was never ready")


def test_spans_continue_the_callers_trace(start_service: Callable[..., Any]) -> None:
    seen: list[bytes] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with http.server.HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{collector.server_port}"
        with start_service("cleanup", DARKROOM_OTLP_ENDPOINT=endpoint) as (caller, process):
            image = white()
            trace = "0af7651916cd43dd8448eb211c80319c"
            caller.run(
                "cleanup", {}, {"image": image, "mask": image}, traceparent=f"00-{trace}-b7ad6b7169203331-01"
            )
            process.send_signal(signal.SIGTERM)  # the end flushes
            process.wait(10)
        collector.shutdown()
    assert any(bytes.fromhex(trace) in body for body in seen)


def test_logs_are_json_with_the_request_id(
    start_service: Callable[..., Any], toy_environment: dict[str, str]
) -> None:
    with start_service("toy", **toy_environment) as (caller, process):
        # ImageOps.invert refuses RGBA: a fault of the toy's own
        out = io.BytesIO()
        Image.new("RGBA", (4, 4), (1, 2, 3, 4)).save(out, "PNG")
        assert (
            caller.run("invert", {}, {"image": out.getvalue()}, x_request_id="find-me").error["status"] == 500
        )
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        lines = [json.loads(line) for line in process.stderr.read().decode().splitlines()]
    faults = [line for line in lines if line["level"] == "error"]
    assert [fault["request_id"] for fault in faults] == ["find-me"]
    assert "Traceback" in faults[0]["traceback"]


def test_a_name_that_is_none_says_which_there_are() -> None:
    assert {"cleanup", "rmbg"} <= set(installed())
    with pytest.raises(SystemExit, match="cleanup"):
        module_of("nothing")


def test_a_broken_setting_stops_the_start_with_its_reason() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "services.serve", "cleanup", "--port", "1"],
        env=os.environ | {"DARKROOM_CAPACITY": "many"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode != 0
    assert "DARKROOM_CAPACITY" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_one_process_stands_for_two_services_unless_they_are_to_be_apart() -> None:
    names = ["cleanup", "controlnet", "sdxl"]
    assert processes(names) == {"cleanup": ["cleanup"], "controlnet": ["controlnet", "sdxl"]}
    assert processes(names, apart=True) == {name: [name] for name in names}
    assert processes(["sdxl"]) == {"sdxl": ["sdxl"]}
    assert processes(["controlnet"]) == {"controlnet": ["controlnet"]}
