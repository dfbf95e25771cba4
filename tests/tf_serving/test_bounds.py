"""What nobody should send, and what happens to it: the server says so and goes on."""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import httpx
import pytest

from tests.tf_serving.running import Running, asked, colour_of, in_threads, png, put_version
from tf_serving.serving.status import Code, Refused

RED = png((255, 0, 0))
MANY = png((255, 255, 255), (900, 900))


def still_answers(server: Running) -> None:
    assert colour_of(server.predict(asked(RED)).outputs["image_bytes"].string_val[0])


def test_a_hundred_megabytes_over_grpc_are_refused(toy: Running) -> None:
    request = asked(b"\x89PNG\r\n\x1a\n" + bytes(100 * 2**20))
    code, words = toy.refused(request)
    assert code == "RESOURCE_EXHAUSTED" and "larger than max" in words
    still_answers(toy)


def test_a_hundred_megabytes_over_rest_are_refused(toy: Running) -> None:
    with httpx.Client(base_url=toy.rest.base_url, timeout=30, trust_env=False) as client:
        answer = client.post("/v1/models/toy:predict", content=bytes(100 * 2**20))
    assert answer.status_code == 413 and "4000000" in answer.json()["error"]
    still_answers(toy)


def test_more_bytes_than_were_told_are_counted(toy: Running) -> None:
    def pieces() -> object:
        for _ in range(50):
            yield bytes(2**20)

    with httpx.Client(base_url=toy.rest.base_url, timeout=30, trust_env=False) as client:
        answer = client.post("/v1/models/toy:predict", content=pieces())  # type: ignore[arg-type]
    assert answer.status_code == 413
    still_answers(toy)


def test_a_deadline_that_is_over_is_said(toy: Running) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        toy.predict(asked(*[MANY] * 50), timeout=0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    still_answers(toy)


def test_a_deadline_of_rest_is_a_504(start: Callable[..., Running], tmp_path: Path) -> None:
    put_version(tmp_path / "toy" / "1")
    server = start("--model_name=toy", f"--model_base_path={tmp_path / 'toy'}", "--rest_api_timeout_in_ms=50")
    picture = base64.b64encode(MANY).decode()
    answer = server.rest.post("/v1/models/toy:predict", json={"instances": [{"b64": picture}] * 30})
    assert answer.status_code == 504 and "0.05 s" in answer.json()["error"]
    assert server.rest.get("/monitoring/prometheus/metrics").status_code == 404  # none was configured


def test_a_long_refusal_is_cut_for_grpc() -> None:
    """It travels as a header, and headers have a bound."""
    assert Refused(Code.INTERNAL, "x" * 1024).details == "x" * 1024
    assert Refused(Code.INTERNAL, "x" * 1025).details == "x" * 1024 + "...TRUNCATED"


def test_work_for_a_client_that_hung_up_is_left(toy: Running) -> None:
    """Fifty pictures take seconds; a request right after them is not behind all of those that nobody waits for."""
    calls = [toy.prediction.Predict.future(asked(*[MANY] * 50), timeout=60) for _ in range(4)]
    time.sleep(0.3)
    for call in calls:
        call.cancel()
    started = time.monotonic()
    still_answers(toy)
    assert time.monotonic() - started < 3
    page = toy.rest.get("/monitoring/prometheus/metrics").text
    assert 'request_count{model_name="toy",status="CANCELLED"} ' in page


def test_work_for_a_rest_client_that_hung_up_is_left(toy: Running) -> None:
    def in_flight() -> int:
        page = toy.rest.get("/monitoring/prometheus/metrics").text
        return int(page.split("darkroom_tfserving_requests_in_flight{} ")[1].split("\n")[0])

    body = {"instances": [{"b64": base64.b64encode(MANY).decode()}] * 200}
    client = httpx.Client(base_url=toy.rest.base_url, trust_env=False, timeout=0.7)
    with client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/models/toy:predict", json=body)
    toy.wait_for(lambda: in_flight() == 0, 3)
    still_answers(toy)


def test_a_rest_client_that_hangs_up_in_the_middle_of_its_body(toy: Running) -> None:
    host, port = str(toy.rest.base_url.host), toy.rest.base_url.port
    assert port is not None
    for sent in (
        b"POST /v1/mod",
        b"POST /v1/models/toy:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n{",
    ):
        with socket.create_connection((host, port)) as connection:
            connection.sendall(sent)
    still_answers(toy)


def test_more_requests_than_it_takes_are_told_to_come_back(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    put_version(tmp_path / "toy" / "1")
    server = start("--model_name=toy", f"--model_base_path={tmp_path / 'toy'}", "--max_requests=1")
    with in_threads(*[lambda: server.predict(asked(*[MANY] * 10))] * 6) as answers:
        pass
    codes = [answer.code().name for answer in answers if isinstance(answer, grpc.RpcError)]
    assert codes and set(codes) == {"UNAVAILABLE"} and len(codes) < 6
    still_answers(server)
