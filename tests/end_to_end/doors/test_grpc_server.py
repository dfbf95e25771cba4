"""The gRPC server's own life: its port, its certificate, its end."""

from __future__ import annotations

import io
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image

from gateway.doors.grpc.schema import Schema, committed
from services.operations import Operation
from services.pictures import Picture
from tests.otlp import Collector

SERVICE = "darkroom.v1.Darkroom"


class Stamp(Operation):  # as the toy declares it; not registered, since it has no service here
    image: Picture
    number: int = 0
    steps: int = 2
    pause: float = 0.05


Stamp.__module__ = "toybox.operations"
SCHEMA = Schema([Stamp], committed())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(channel: grpc.Channel, metadata: tuple[Any, ...] = (), **params: Any) -> Iterator[Any]:
    picture = io.BytesIO()
    Image.new("RGB", (16, 16)).save(picture, "PNG")
    stub = channel.stream_stream(
        f"/{SERVICE}/Run", response_deserializer=SCHEMA.message("RunEvent").FromString
    )
    ask = {"stamp": {"image": {"data": picture.getvalue()}, **params}}
    asked = SCHEMA.message("RunRequest")(ask=ask).SerializeToString()
    answers: Iterator[Any] = stub(iter([asked]), timeout=30, metadata=metadata)
    return answers


def serving(channel: grpc.Channel) -> bool:
    answer = health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service=SERVICE), timeout=30, wait_for_ready=True
    )
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def code_is(code: grpc.StatusCode) -> Iterator[None]:
    with pytest.raises(grpc.RpcError) as caught:
        yield
    error: Any = caught.value
    assert error.code() is code, error


def test_a_drain_refuses_new_calls_and_lets_those_in_flight_finish(launch: Any) -> None:
    port, toy = free_port(), launch("toy", capacity="4")
    gateway = launch("gateway", services=json.dumps({"toy": [toy.url]}), grpc_port=str(port))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, ThreadPoolExecutor(1) as pool:
        assert serving(channel)
        events = run(channel, steps=20, pause=0.1)
        while next(events).WhichOneof("one") != "progress":
            continue
        rest = pool.submit(list, events)
        gateway.signal(signal.SIGTERM)
        until = time.monotonic() + 5
        while serving(channel):
            assert time.monotonic() < until
            time.sleep(0.02)
        with code_is(grpc.StatusCode.UNAVAILABLE):
            list(run(channel))
        assert [event.WhichOneof("one") for event in rest.result(timeout=20)][-2:] == ["result", "done"]
    assert gateway.wait() == 0


def test_it_is_where_it_is_told_to_be_or_not_at_all(launch: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = launch("gateway", begun=False, grpc_port=str(port))
        with refused.log.open("ab") as sink:
            code = subprocess.run(
                refused.command, env=refused.env, stdout=sink, stderr=sink, timeout=60
            ).returncode
        assert code == 2
        assert f"The port {port} for gRPC is taken" in refused.said
    off = launch("gateway-off")
    assert "gRPC is at" not in off.said


def test_a_second_gateway_goes_without_where_nobody_named_a_port(launch: Any) -> None:
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", 8081))
            taken.listen()
        except OSError:
            pass  # somebody has it already, which is as good
        gateway = launch("gateway", begun=False)
        del gateway.env["DARKROOM_GRPC_PORT"]
        gateway.begin()
        until = time.monotonic() + 5
        while "the port 8081 is taken, so there is no gRPC" not in gateway.said:
            assert time.monotonic() < until, gateway.said
            time.sleep(0.05)


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def test_a_call_joins_its_callers_trace_and_hands_it_on_to_the_service(
    launch: Any, collector: Collector
) -> None:
    trace, parent, port = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", free_port()
    toy = launch("toy", otlp_endpoint=collector.url)
    services = json.dumps({"toy": [toy.url]})
    gateway = launch("gateway", services=services, grpc_port=str(port), otlp_endpoint=collector.url)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        list(run(channel, (("traceparent", f"00-{trace}-{parent}-01"),), pause=0.0))
        with code_is(grpc.StatusCode.INVALID_ARGUMENT):
            list(run(channel, steps=-1))
    for process in (gateway, toy):
        process.signal(signal.SIGTERM)
        process.wait()
    calls = [span for span in collector.spans if span.name == f"GRPC /{SERVICE}/Run"]
    (outer,) = [span for span in calls if span.trace_id.hex() == trace]
    (refused,) = [span for span in calls if span.trace_id.hex() != trace]
    call = collector.span("call")
    assert (outer.parent_span_id.hex(), call.parent_span_id) == (parent, outer.span_id)
    (served,) = [span for span in collector.spans if span.parent_span_id == call.span_id]
    assert served.trace_id.hex() == trace
    assert collector.services == {"darkroom-gateway", "darkroom-toy"}
    codes = [
        {one.key: one.value for one in span.attributes}["rpc.grpc.status_code"].int_value
        for span in (outer, refused)
    ]
    assert codes == [0, grpc.StatusCode.INVALID_ARGUMENT.value[0]]
    assert refused.parent_span_id == b""
    assert f'"trace": "{trace}"' in gateway.said or trace in gateway.said


def test_it_speaks_tls_with_the_gateways_certificate(launch: Any, tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    port = free_port()
    gateway = launch("gateway", begun=False, grpc_port=str(port), tls_cert=str(cert), tls_key=str(key))
    with gateway.log.open("ab") as sink:
        gateway.process = subprocess.Popen(gateway.command, env=gateway.env, stdout=sink, stderr=sink)
    trusted = grpc.ssl_channel_credentials(cert.read_bytes())
    with grpc.secure_channel(f"localhost:{port}", trusted) as channel:
        assert serving(channel)
    with grpc.insecure_channel(f"localhost:{port}") as plain, code_is(grpc.StatusCode.UNAVAILABLE):
        health_pb2_grpc.HealthStub(plain).Check(health_pb2.HealthCheckRequest(), timeout=5)
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 0


def test_where_everybody_could_reach_it_a_key_is_needed_first(launch: Any) -> None:
    gateway = launch("gateway", begun=False, grpc_port=str(free_port()), host="0.0.0.0", metrics_port="0")
    ended = subprocess.run(gateway.command, env=gateway.env, capture_output=True, timeout=60)
    assert ended.returncode == 2
    assert b"without a key" in ended.stderr


def test_a_gateway_without_it_does_not_load_it() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import sys, gateway.app; print('grpc' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert told.stdout.strip() == "False"
