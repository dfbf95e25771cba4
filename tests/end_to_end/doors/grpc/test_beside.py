"""What gRPC's server tells beside the service: health, reflection, metrics; and many calls at once."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.end_to_end.doors.grpc.asking import SERVICE, Door, number, stamp


def test_health_says_that_it_serves(door: Door) -> None:
    stub = health_pb2_grpc.HealthStub(door.channel)
    for name in ("", SERVICE):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_the_services_and_knows_an_extensions_operation(door: Door) -> None:
    assert {SERVICE, "grpc.health.v1.Health"} <= set(door.reflected.get_services())
    ask = door.pool.FindMessageTypeByName("darkroom.v1.Ask")
    assert ask.fields_by_name["text_to_image"].number == 1
    assert ask.fields_by_name["stamp"].number >= 100_000


def test_the_metrics_and_the_access_line_name_the_door(door: Door, house: Any) -> None:
    door.run(stamp(), metadata=(("x-request-id", "to-be-found"),))
    with httpx.Client(base_url=house.url) as http:
        told = http.get("/metrics").text
    assert 'darkroom_requests_total{door="grpc",operation="stamp",status="2xx"}' in told
    time.sleep(0.2)
    log = (house.data / "logs" / "gateway.log").read_text()
    (line,) = (line for line in log.splitlines() if '"to-be-found"' in line and '"access"' in line)
    said = json.loads(line)
    assert (said["door"], said["operation"], said["status"], said["key"]) == ("grpc", "stamp", 200, "local")
    assert said["path"] == f"/{SERVICE}/Run"
    assert said["in"] > 0
    assert said["out"] > 0


def test_many_at_once(door: Door) -> None:
    def one(value: int) -> int:
        (result,) = (event.result for event in door.run(stamp(value)) if event.WhichOneof("one") == "result")
        return number(result.data)

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(64))) == list(range(64))
