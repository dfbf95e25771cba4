"""Darkroom's own gRPC, asked with messages that the committed descriptor makes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from PIL import Image

from gateway.doors.grpc.messages import METHODS
from gateway.doors.grpc.schema import schema
from tests.end_to_end.doors.conformance.checks import House, Table, hole, opened, png, scene

SERVICE = "darkroom.v1.Darkroom"
MB = 2**20
EDGES: dict[str, Any] = {"preprocess": {"image": {"data": png(scene())}, "kind": "canny"}}
LONG: dict[str, Any] = {"text_to_image": {"prompt": "a red circle", "steps": 150}}

methods = Table("of `darkroom.v1`")
calls = Table("of a call over gRPC")
errors = Table("of errors over gRPC")


def call(
    channel: grpc.Channel,
    name: str,
    *asked: dict[str, Any],
    key: str = "",
    timeout: float = 60,
    **metadata: str,
) -> Any:
    """A call, begun."""
    _, streams_in, _, streams_out, _ = METHODS[name]
    own = schema()
    kind = f"{'stream' if streams_in else 'unary'}_{'stream' if streams_out else 'unary'}"
    answer = own.message(METHODS[name][2].__name__ if streams_out else own.answer(name))
    stub = getattr(channel, kind)(f"/{SERVICE}/{name}", response_deserializer=answer.FromString)
    sent = [own.message(own.request(name))(**one).SerializeToString() for one in asked]
    told = [(name.replace("_", "-"), value) for name, value in metadata.items()]
    if key:
        told.append(("x-api-key", key))
    return stub(iter(sent) if streams_in else sent[0], timeout=timeout, metadata=tuple(told))


def run(house: House, ask: dict[str, Any], *chunks: dict[str, Any], **more: Any) -> dict[str, list[Any]]:
    """The events, by kind."""
    found: dict[str, list[Any]] = {}
    for event in call(house.own, "Run", {"ask": ask}, *chunks, **more):
        kind = event.WhichOneof("one")
        found.setdefault(kind, []).append(getattr(event, kind))
    return found


def refusal(begin: Callable[[], Any]) -> grpc.RpcError:
    try:
        answer = begin()
        if hasattr(answer, "__next__"):
            list(answer)
    except grpc.RpcError as error:
        return error
    raise AssertionError("it was answered")


def submitted(house: House, ask: dict[str, Any], **more: Any) -> Any:
    return call(house.own, "Submit", {"submission": {"ask": ask, **more}})


def ended(house: House, ask: dict[str, Any]) -> Any:
    """A job that is over."""
    job = submitted(house, ask)
    *_, last = call(house.own, "Watch", {"id": job.id})
    assert last.WhichOneof("one") == "done"
    return last.done


def chunks(name: str, data: bytes) -> list[dict[str, Any]]:
    return [{"chunk": {"name": name, "data": data[at : at + MB]}} for at in range(0, len(data), MB)]


def noise(side: int) -> bytes:
    return png(Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)))


# ── methods ───────────────────────────────────────────────────────────────────────────────────────────────────


@methods.works("Run")
def _(house: House) -> None:
    found = run(house, {"text_to_image": {"prompt": "a red circle", "steps": 6, "previews": 2}})
    assert {"accepted", "progress", "preview", "result", "done"} <= set(found)
    assert opened(found["result"][0].data).format == "PNG"


@methods.works("Submit")
def _(house: House) -> None:
    own = f"conformance-{time.monotonic_ns()}"
    first, again = (submitted(house, EDGES, idempotency_key=own) for _ in range(2))
    assert first.id == again.id
    assert first.operation == "preprocess"


@methods.works("Get", "List", "Fetch")
def _(house: House) -> None:
    done = ended(house, EDGES)
    assert call(house.own, "Get", {"id": done.id}).state == "succeeded"
    page = call(house.own, "List", {"operation": "preprocess", "limit": 200})
    assert done.id in [one.id for one in page.jobs]
    head, *pieces = call(house.own, "Fetch", {"id": done.pictures[0].id})
    assert head.asset.media_type == "image/png"
    assert opened(b"".join(piece.chunk.data for piece in pieces)).size == scene().size


@methods.works("Watch")
def _(house: House) -> None:
    job = ended(house, EDGES)
    events = list(call(house.own, "Watch", {"id": job.id}))
    ids = [event.id for event in events if event.id]
    rest = list(call(house.own, "Watch", {"id": job.id, "last_event_id": ids[0]}))
    assert [event.id for event in rest if event.id] == ids[1:]


@methods.works("Cancel")
def _(house: House) -> None:
    job = submitted(house, LONG)
    watched = call(house.own, "Watch", {"id": job.id})
    next(event for event in watched if event.WhichOneof("one") == "progress")
    call(house.own, "Cancel", {"id": job.id})
    assert list(watched)[-1].error.job.state == "cancelled"


@methods.works("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")
def _(house: House) -> None:
    with grpc.insecure_channel(house.strict.grpc) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert SERVICE in ProtoReflectionDescriptorDatabase(channel).get_services()


# ── a call ────────────────────────────────────────────────────────────────────────────────────────────────────


@calls.works("data", "chunks", "asset", "url", "the end of what is sent")
def _(house: House) -> None:
    large = noise(1000)
    assert len(large) > 2 * MB
    kept = house.http.post("/v1/assets", content=png(scene()), headers={"content-type": "image/png"}).json()
    by_asset = {"preprocess": {"image": {"asset": kept["id"]}, "kind": "canny"}}
    inline, asset = (run(house, ask)["result"][0].data for ask in (EDGES, by_asset))
    assert inline == asset
    mask = {"data": png(hole().resize((1000, 1000)))}
    ask = {"cleanup": {"image": {"chunks": "a"}, "mask": mask, "model": "cv2"}}
    found = run(house, ask, *chunks("a", large))
    whole = b"".join(one.data for one in found["chunk"])
    assert (len(whole), found["result"][0].HasField("data")) == (found["result"][0].size, False)
    assert opened(whole).getpixel((5, 5)) == opened(large).getpixel((5, 5))
    here = {"preprocess": {"image": {"url": f"{house.stack.url}/x"}, "kind": "canny"}}
    assert refusal(lambda: call(house.own, "Run", {"ask": here})).code().name == "INVALID_ARGUMENT"
    unsent = refusal(lambda: call(house.own, "Run", {"ask": ask}))
    assert unsent.code().name == "INVALID_ARGUMENT"


@calls.works("a parameter that is left out")
def _(house: House) -> None:
    named = {"preprocess": EDGES["preprocess"] | {"low": 100, "high": 200, "format": "png"}}
    assert run(house, EDGES)["result"][0].data == run(house, named)["result"][0].data


@calls.works("grpc-timeout")
def _(house: House) -> None:
    late = refusal(lambda: call(house.own, "Run", {"ask": LONG}, timeout=0.3))
    assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    idle(house)


@calls.works("cancelling")
def _(house: House) -> None:
    events = call(house.own, "Run", {"ask": LONG})
    next(event for event in events if event.WhichOneof("one") == "progress")
    events.cancel()
    idle(house)


def idle(house: House) -> None:
    until = time.monotonic() + 10
    while 'upstream_in_flight{service="sdxl"} 0.0' not in house.http.get("/metrics").text:
        assert time.monotonic() < until
        time.sleep(0.05)


@calls.works("authorization", "x-api-key", "x-request-id")
def _(house: House) -> None:
    user = house.strict.user
    with grpc.insecure_channel(house.strict.grpc) as channel:
        for way in ({"authorization": f"Bearer {user}"}, {"x_api_key": user}):
            answer, begun = call_with_metadata(channel, **way, x_request_id="mine-1")
            assert not answer.jobs
            assert begun["x-request-id"] == "mine-1"
        _, begun = call_with_metadata(channel, x_api_key=house.strict.rated)
        assert float(begun["ratelimit-limit"]) > 0


def call_with_metadata(channel: grpc.Channel, **metadata: str) -> tuple[Any, dict[str, str]]:
    own = schema()
    stub = channel.unary_unary(f"/{SERVICE}/List", response_deserializer=own.message("JobPage").FromString)
    told = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
    answer, begun = stub.with_call(b"", timeout=10, metadata=told)
    return answer, dict(begun.initial_metadata())


@calls.works("traceparent")
def _(house: House) -> None:
    """That the spans join is tested in test_grpc_server.py, where there is a collector; here, that it does no harm."""
    traced = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    assert run(house, EDGES, **traced)["result"]


@calls.works("grpc-status-details-bin")
def _(house: House) -> None:
    wrong = {"preprocess": {"image": {"data": b"no picture"}, "kind": "canny"}}
    found = details(refusal(lambda: call(house.own, "Run", {"ask": wrong}, x_request_id="mine-2")))
    assert (found["ErrorInfo"].reason, found["ErrorInfo"].domain) == ("BAD_PICTURE", "darkroom")
    assert found["ErrorInfo"].metadata["type"] == "urn:darkroom:problem:bad-picture"
    assert [one.field for one in found["BadRequest"].field_violations] == ["image"]
    assert found["RequestInfo"].request_id == "mine-2"


def details(error: Any) -> dict[str, Any]:
    found = {}
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    for packed in status.details:
        name = any_pb2.Any.TypeName(packed).rpartition(".")[2]
        found[name] = getattr(error_details_pb2, name)()
        packed.Unpack(found[name])
    return found


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────


@errors.refused("a parameter")
def _(house: House) -> grpc.RpcError:
    return refusal(lambda: call(house.own, "Run", {"ask": {"text_to_image": {"prompt": "x", "steps": 900}}}))


@errors.refused("a picture")
def _(house: House) -> grpc.RpcError:
    large = {"preprocess": {"image": {"chunks": "a"}, "kind": "canny"}}
    too_large = refusal(lambda: call(house.own, "Run", {"ask": large}, *chunks("a", bytes(33 * MB))))
    assert details(too_large)["ErrorInfo"].reason == "TOO_LARGE"
    return too_large


def strict(house: House, ask: dict[str, Any], key: str = "") -> grpc.RpcError:
    with grpc.insecure_channel(house.strict.grpc) as channel:
        return refusal(lambda: call(channel, "Run", {"ask": ask}, key=key))


@errors.refused("no key")
def _(house: House) -> grpc.RpcError:
    assert strict(house, EDGES, "wrong").code() is grpc.StatusCode.UNAUTHENTICATED
    return strict(house, EDGES)


@errors.refused("too many calls")
def _(house: House) -> grpc.RpcError:
    found = [strict(house, {"caption": {"image": {"data": b""}}}, house.strict.slow) for _ in range(3)]
    assert details(found[-1])["ErrorInfo"].reason == "RATE_LIMITED"
    assert details(found[-1])["RetryInfo"].retry_delay.ToMilliseconds() > 0
    return found[-1]


@errors.refused("a message of more than 4 MB")
def _(house: House) -> grpc.RpcError:
    large = {"preprocess": {"image": {"data": bytes(5 * MB)}, "kind": "canny"}}
    return refusal(lambda: call(house.own, "Run", {"ask": large}))


@errors.refused("no such job or picture")
def _(house: House) -> grpc.RpcError:
    assert refusal(lambda: call(house.own, "Fetch", {"id": "x"})).code() is grpc.StatusCode.NOT_FOUND
    return refusal(lambda: call(house.own, "Get", {"id": "job_nowhere"}))


@errors.refused("a job that has ended cannot be cancelled")
def _(house: House) -> grpc.RpcError:
    done = ended(house, EDGES)
    return refusal(lambda: call(house.own, "Cancel", {"id": done.id}))


@errors.refused("idempotency_key")
def _(house: House) -> grpc.RpcError:
    own = f"conformance-{time.monotonic_ns()}"
    submitted(house, EDGES, idempotency_key=own)
    return refusal(
        lambda: submitted(house, {"caption": {"image": {"data": png(scene())}}}, idempotency_key=own)
    )


@errors.refused("a service that is down")
def _(house: House) -> grpc.RpcError:
    return strict(house, {"remove_background": {"image": {"data": png(scene())}}}, house.strict.user)


@errors.refused("a service that this installation does not have")
def _(house: House) -> grpc.RpcError:
    return strict(house, EDGES, house.strict.user)


@errors.refused("too late")
def _(house: House) -> grpc.RpcError:
    return refusal(lambda: call(house.own, "Run", {"ask": LONG}, timeout=0.2))


@errors.refused("something broke on our side")
def _(house: House) -> grpc.RpcError:
    return strict(house, {"caption": {"image": {"data": png(scene())}}}, house.strict.user)
