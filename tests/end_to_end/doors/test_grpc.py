"""gRPC as a stranger's client speaks it: all that it knows of our messages it asks the server's reflection."""

from __future__ import annotations

import io
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf import any_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from PIL import Image

SERVICE = "darkroom.v1.Darkroom"
ADMIN = "an-admin-key-of-more-than-24-letters"
MB = 2**20
DETAILS: dict[str, Any] = {
    name: getattr(error_details_pb2, name) for name in ("BadRequest", "ErrorInfo", "RequestInfo", "RetryInfo")
}


class Door:
    """A client made from reflection alone."""

    def __init__(self, channel: grpc.Channel, key: str = "") -> None:
        self.channel, self.key = channel, key
        self.reflected = ProtoReflectionDescriptorDatabase(channel)
        self.pool = DescriptorPool(self.reflected)
        self.service = self.pool.FindServiceByName(SERVICE)

    def message(self, name: str, **values: Any) -> Any:
        return GetMessageClass(self.pool.FindMessageTypeByName(f"darkroom.v1.{name}"))(**values)

    def call(
        self, name: str, *asked: dict[str, Any] | bytes, timeout: float = 60, metadata: tuple[Any, ...] = ()
    ) -> Any:
        """The call, begun: an iterator of answers where they are a stream, else the answer."""
        method = self.service.methods_by_name[name]
        taken, given = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
        stub = getattr(self.channel, kind)(f"/{SERVICE}/{name}", response_deserializer=given.FromString)
        data = [one if isinstance(one, bytes) else taken(**one).SerializeToString() for one in asked]
        if self.key and not any(name in ("authorization", "x-api-key") for name, _ in metadata):
            metadata = (*metadata, ("authorization", f"Bearer {self.key}"))
        return stub(iter(data) if method.client_streaming else data[0], timeout=timeout, metadata=metadata)

    def run(self, *asked: dict[str, Any], **more: Any) -> list[Any]:
        return list(self.call("Run", *asked, **more))


@contextmanager
def connected(place: str, key: str = "") -> Iterator[Door]:
    with grpc.insecure_channel(place, [("grpc.max_receive_message_length", 4 * MB)]) as channel:
        grpc.channel_ready_future(channel).result(timeout=20)
        yield Door(channel, key)


@pytest.fixture(scope="module")
def house(begin_stack: Any, toy: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The gateway, cleanup, and a toy whose steps can be counted."""
    started = begin_stack(tmp_path_factory.mktemp("grpc"), "gateway", "cleanup", "toy", also=toy)
    try:
        started.wait(lambda: "Darkroom is ready" in started.said)
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def door(house: Any) -> Iterator[Door]:
    with connected(house.grpc) as found:
        yield found


@pytest.fixture(scope="module")
def locked(begin_stack: Any, toy: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The same behind a key."""
    started = begin_stack(
        tmp_path_factory.mktemp("locked"), "gateway", "toy", also=toy, admin_key=ADMIN, daily_pictures="50"
    )
    try:
        started.wait(lambda: "Darkroom is ready" in started.said)
        yield started
    finally:
        started.stop()


def png(side: int = 16, noise: bool = False) -> bytes:
    image = Image.frombytes(
        "RGB", (side, side), os.urandom(side * side * 3) if noise else bytes(side * side * 3)
    )
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def stamp(number: int = 7, **params: Any) -> dict[str, Any]:
    return {"ask": {"stamp": {"image": {"data": png()}, "number": number, **params}}}


def chunks(name: str, data: bytes) -> list[dict[str, Any]]:
    return [{"chunk": {"name": name, "data": data[at : at + MB]}} for at in range(0, len(data), MB)]


def number(data: bytes) -> int:
    """What the toy painted."""
    pixel: Any = Image.open(io.BytesIO(data)).convert("RGB").getpixel((0, 0))
    return int(pixel[0] << 8 | pixel[1])


def details(error: Any) -> tuple[Any, dict[str, Any]]:
    """The status in an error's trailers, and its details by their names."""
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    found = {}
    for packed in status.details:
        name = any_pb2.Any.TypeName(packed).rpartition(".")[2]
        found[name] = DETAILS[name]()
        assert packed.Unpack(found[name])
    return status, found


@contextmanager
def refused(code: grpc.StatusCode) -> Iterator[dict[str, Any]]:
    """Around a call that must end so; its details are there afterwards."""
    told: dict[str, Any] = {}
    with pytest.raises(grpc.RpcError) as caught:
        yield told
    error: Any = caught.value
    assert error.code() is code, error
    told |= details(error)[1]
    assert told["ErrorInfo"].domain == "darkroom"
    assert told["RequestInfo"].request_id


def idle(house: Any, seconds: float = 3) -> None:
    """Until nothing runs at the toy, which must be soon."""
    with httpx.Client(base_url=house.url) as http:
        until = time.monotonic() + seconds
        while 'darkroom_upstream_in_flight{service="toy"} 0.0' not in (told := http.get("/metrics").text):
            assert time.monotonic() < until, told
            time.sleep(0.05)


# ── Run ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_operation_tells_its_progress_and_ends_with_the_picture(door: Door) -> None:
    kinds, result = [], None
    for event in door.run(stamp(513, steps=4, pause=0.1)):
        kinds.append(event.WhichOneof("one"))
        if kinds[-1] == "result":
            result = event.result
    assert kinds[0] == "accepted"
    assert "progress" in kinds
    assert kinds[-2:] == ["result", "done"]
    assert result is not None
    assert (result.media_type, result.width, result.height, result.size) == (
        "image/png",
        8,
        8,
        len(result.data),
    )
    assert number(result.data) == 513


def test_five_megabytes_go_in_and_come_out_in_chunks(door: Door) -> None:
    picture, mask = png(1400, noise=True), io.BytesIO()
    assert len(picture) > 5 * MB
    black = Image.new("L", (1400, 1400))
    black.paste(255, (100, 100, 140, 140))
    black.save(mask, "PNG")
    ask = {"image": {"chunks": "photo"}, "mask": {"data": mask.getvalue()}, "model": "cv2"}
    events = door.run({"ask": {"cleanup": ask}}, *chunks("photo", picture))
    (result,) = (event.result for event in events if event.WhichOneof("one") == "result")
    pieces = [event.chunk for event in events if event.WhichOneof("one") == "chunk"]
    assert not result.HasField("data")
    assert {piece.name for piece in pieces} == {"result.0"}
    assert max(len(piece.data) for piece in pieces) <= MB < result.size
    whole = b"".join(piece.data for piece in pieces)
    assert len(whole) == result.size > 5 * MB
    made, given = (Image.open(io.BytesIO(data)).convert("RGB") for data in (whole, picture))
    assert made.size == given.size
    assert made.getpixel((700, 700)) == given.getpixel((700, 700))
    assert made.crop((100, 100, 140, 140)).tobytes() != given.crop((100, 100, 140, 140)).tobytes()


def test_cancelling_a_call_ends_the_work_within_a_step(door: Door, house: Any) -> None:
    call = door.call("Run", stamp(steps=600, pause=0.1))
    for event in call:
        if event.WhichOneof("one") == "progress":
            break
    call.cancel()
    idle(house)


def test_the_clients_deadline_is_the_works(door: Door, house: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        door.run(stamp(steps=600, pause=0.1), timeout=1)
    late: Any = caught.value
    assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    idle(house)


def test_a_field_that_is_wrong_is_named(door: Door) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT) as told:
        door.run(stamp(number=70_000, steps=-1))
    assert told["ErrorInfo"].reason == "BAD_INPUT"
    assert told["ErrorInfo"].metadata["type"] == "urn:darkroom:problem:bad-input"
    assert {one.field for one in told["BadRequest"].field_violations} == {"number", "steps"}
    with refused(grpc.StatusCode.INVALID_ARGUMENT) as told:
        door.run({"ask": {"cleanup": {"image": {"data": png()}}}})
    assert [one.field for one in told["BadRequest"].field_violations] == ["mask"]


def test_what_is_no_picture_is_refused_at_its_field(door: Door) -> None:
    for image, field in (({"data": b"nothing"}, "image"), ({"url": "ftp://x/y"}, "image"), ({}, "image")):
        with refused(grpc.StatusCode.INVALID_ARGUMENT) as told:
            door.run({"ask": {"stamp": {"image": image}}})
        assert [one.field for one in told["BadRequest"].field_violations] == [field]


def test_an_address_of_this_machine_is_not_fetched(door: Door, house: Any) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        door.run({"ask": {"stamp": {"image": {"url": f"{house.url}/"}}}})


def test_chunks_that_nobody_announced_and_those_that_never_come_are_told(door: Door) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT) as told:
        door.run({"ask": {"stamp": {"image": {"chunks": "a"}}}}, {"chunk": {"name": "b", "data": png()}})
    assert "'b'" in told["BadRequest"].field_violations[0].description
    with refused(grpc.StatusCode.INVALID_ARGUMENT) as told:
        door.run({"ask": {"stamp": {"image": {"chunks": "a"}}}})
    assert [one.field for one in told["BadRequest"].field_violations] == ["image"]
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        door.run({"chunk": {"name": "a", "data": png()}})
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        door.run()


def test_a_picture_above_the_limit_is_refused(door: Door) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT) as told:
        door.run({"ask": {"stamp": {"image": {"chunks": "a"}}}}, *chunks("a", bytes(33 * MB)))
    assert told["ErrorInfo"].reason == "TOO_LARGE"


def test_a_message_that_cannot_be_read_is_the_callers_mistake(door: Door) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT) as told:
        list(door.call("Run", b"\xff\xff\xff"))
    assert told["ErrorInfo"].reason == "MALFORMED"
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        door.call("Get", b"\x0a\xff")


def test_a_request_id_is_the_callers_own(door: Door) -> None:
    call = door.call("Run", stamp(), metadata=(("x-request-id", "mine-1"),))
    assert dict(call.initial_metadata())["x-request-id"] == "mine-1"
    assert list(call)[-1].WhichOneof("one") == "done"
    with refused(grpc.StatusCode.INVALID_ARGUMENT) as told:
        door.run(stamp(number=-1), metadata=(("x-request-id", "mine-2"),))
    assert told["RequestInfo"].request_id == "mine-2"


# ── jobs ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_is_submitted_read_listed_followed_and_its_picture_fetched(door: Door) -> None:
    picture = png(900, noise=True)
    assert len(picture) > 2 * MB
    ask = {"image": {"chunks": "photo"}, "number": 258, "steps": 3}
    submission = {"ask": {"stamp": ask}, "priority": 5, "idempotency_key": "the-same"}
    job = door.call("Submit", {"submission": submission}, *chunks("photo", picture))
    assert (job.operation, job.priority, job.params["number"]) == ("stamp", 5, 258)
    again = door.call("Submit", {"submission": submission}, *chunks("photo", picture))
    assert again.id == job.id
    events = list(door.call("Watch", {"id": job.id}))
    kinds = [event.WhichOneof("one") for event in events]
    assert kinds[-2:] == ["result", "done"]
    assert "progress" in kinds or "snapshot" in kinds
    done = events[-1].done
    assert (done.state, [one.id for one in done.pictures]) == ("succeeded", [events[-2].result.id])
    assert door.call("Get", {"id": job.id}).state == "succeeded"
    page = door.call("List", {"operation": "stamp", "limit": 200, "state": "succeeded"})
    assert job.id in [one.id for one in page.jobs]
    told, *pieces = door.call("Fetch", {"id": done.pictures[0].id})
    data = b"".join(piece.chunk.data for piece in pieces)
    assert (told.asset.media_type, told.asset.bytes) == ("image/png", len(data))
    assert number(data) == 258


def test_a_large_picture_is_fetched_in_chunks(door: Door, house: Any) -> None:
    picture = png(1400, noise=True)
    with httpx.Client(base_url=house.url) as http:
        kept = http.post("/v1/assets", content=picture, headers={"content-type": "image/png"}).json()
    told, *pieces = door.call("Fetch", {"id": kept["id"]})
    assert told.asset.sha256 == kept["sha256"]
    assert max(len(piece.chunk.data) for piece in pieces) == MB
    assert b"".join(piece.chunk.data for piece in pieces) == picture
    (result,) = (
        event.result
        for event in door.run({"ask": {"stamp": {"image": {"asset": kept["id"]}, "number": 3}}})
        if event.WhichOneof("one") == "result"
    )
    assert number(result.data) == 3


def test_watching_goes_on_after_the_last_event_that_was_seen(door: Door) -> None:
    job = door.call("Submit", {"submission": stamp(steps=8, pause=0.15)})
    first = door.call("Watch", {"id": job.id})
    seen = []
    for event in first:
        seen.append(event)
        if len([one for one in seen if one.WhichOneof("one") == "progress"]) == 2:
            break
    first.cancel()
    last = next(one for one in reversed(seen) if one.HasField("id")).id
    rest = list(door.call("Watch", {"id": job.id, "last_event_id": last}))
    assert rest[-1].WhichOneof("one") == "done"
    ids = [tuple(map(int, one.id.split("."))) for one in rest if one.HasField("id")]
    assert ids == sorted(set(ids))
    assert ids[0] == (int(last.split(".")[0]), int(last.split(".")[1]) + 1)
    with refused(grpc.StatusCode.INVALID_ARGUMENT):
        list(door.call("Watch", {"id": job.id, "last_event_id": "x"}))


def test_a_job_is_cancelled_within_a_step(door: Door) -> None:
    job = door.call("Submit", {"submission": stamp(steps=600, pause=0.1)})
    watched = door.call("Watch", {"id": job.id})
    next(event for event in watched if event.WhichOneof("one") == "progress")
    door.call("Cancel", {"id": job.id})
    last = list(watched)[-1]
    assert last.WhichOneof("one") == "error"
    assert (last.error.type, last.error.job.state) == ("urn:darkroom:problem:cancelled", "cancelled")
    assert door.call("Cancel", {"id": job.id}).state == "cancelled"
    ended = door.call("Submit", {"submission": stamp(steps=0)})
    assert list(door.call("Watch", {"id": ended.id}))[-1].WhichOneof("one") == "done"
    with refused(grpc.StatusCode.FAILED_PRECONDITION) as told:
        door.call("Cancel", {"id": ended.id})
    assert told["ErrorInfo"].reason == "CONFLICT"


def test_what_is_not_there_is_not_found(door: Door) -> None:
    for name in ("Get", "Cancel", "Fetch"):
        with refused(grpc.StatusCode.NOT_FOUND):
            answer = door.call(name, {"id": "job_nowhere"})
            if name == "Fetch":
                list(answer)
    with refused(grpc.StatusCode.NOT_FOUND):
        list(door.call("Watch", {}))
    with refused(grpc.StatusCode.INVALID_ARGUMENT) as told:
        door.call("List", {"limit": 1000, "state": "asleep"})
    assert {one.field for one in told["BadRequest"].field_violations} == {"limit", "state"}


def test_a_webhook_to_this_machine_is_refused(door: Door) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT) as told:
        door.call("Submit", {"submission": {**stamp(), "webhook": "http://127.0.0.1:1/x"}})
    assert [one.field for one in told["BadRequest"].field_violations] == ["webhook"]


# ── keys and limits ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_is_needed_where_there_are_keys(locked: Any) -> None:
    with connected(locked.grpc) as stranger:
        with refused(grpc.StatusCode.UNAUTHENTICATED) as told:
            stranger.run(stamp())
        assert told["ErrorInfo"].reason == "UNAUTHORIZED"
        for metadata in (
            ("authorization", "Bearer wrong"),
            ("x-api-key", "wrong"),
            ("authorization", "Basic eDp5"),
        ):
            with refused(grpc.StatusCode.UNAUTHENTICATED):
                stranger.call("List", {}, metadata=(metadata,))
        for metadata in (("authorization", f"Bearer {ADMIN}"), ("x-api-key", ADMIN)):
            assert stranger.run(stamp(), metadata=(metadata,))[-1].WhichOneof("one") == "done"


def made_key(locked: Any, **limits: Any) -> str:
    with httpx.Client(base_url=locked.url, headers={"x-api-key": ADMIN}) as http:
        answer = http.post("/v1/admin/keys", json={"name": f"key-{time.monotonic_ns()}", **limits})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["secret"])


def test_who_asks_too_often_is_told_when_to_come_again(locked: Any) -> None:
    with connected(locked.grpc, made_key(locked, rate=0.5)) as slow:
        call = slow.call("Run", stamp())
        assert dict(call.initial_metadata())["ratelimit-limit"] == "1"
        list(call)
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED) as told:
            slow.call("List", {})
    assert told["ErrorInfo"].reason == "RATE_LIMITED"
    assert 0 < told["RetryInfo"].retry_delay.ToMilliseconds() <= 2000


def test_a_quota_counts_the_pictures_of_this_door_too(locked: Any) -> None:
    with connected(locked.grpc, made_key(locked, daily_pictures=2)) as poor:
        for _ in range(2):
            poor.run(stamp())
        with refused(grpc.StatusCode.RESOURCE_EXHAUSTED) as told:
            poor.run(stamp())
    assert told["ErrorInfo"].reason == "QUOTA_EXCEEDED"


def test_nobody_sees_anothers_job(locked: Any) -> None:
    with connected(locked.grpc, made_key(locked)) as one, connected(locked.grpc, made_key(locked)) as other:
        job = one.call("Submit", {"submission": stamp()})
        with refused(grpc.StatusCode.NOT_FOUND):
            other.call("Get", {"id": job.id})
        assert not other.call("List", {}).jobs
        assert [found.id for found in one.call("List", {}).jobs] == [job.id]
        *_, done = one.call("Watch", {"id": job.id})
        with refused(grpc.StatusCode.NOT_FOUND):
            list(other.call("Fetch", {"id": done.done.pictures[0].id}))


# ── beside the service ────────────────────────────────────────────────────────────────────────────────────────


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


# ── nonsense ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_nonsense_is_the_callers_mistake_and_leaves_nothing_running(
    door: Door, house: Any, count: int
) -> None:
    chance = random.Random(count)
    ask = door.message("RunRequest", **stamp(5, steps=0)).SerializeToString()
    chunked = door.message("RunRequest", ask={"stamp": {"image": {"chunks": "a"}}}).SerializeToString()
    chunk = door.message("RunRequest", chunk={"name": "a", "data": png()}).SerializeToString()
    large = {
        "ask": {
            "cleanup": {"image": {"data": png()}, "mask": {"data": png()}, "strategy": "crop", "limit": 64}
        }
    }
    cleanup = door.message("RunRequest", **large).SerializeToString()
    submit = door.message(
        "SubmitRequest", submission={**stamp(5, steps=0), "priority": 1}
    ).SerializeToString()
    listing = door.message("ListRequest", state="queued", limit=3, before="job_0").SerializeToString()
    watch = door.message("WatchRequest", id="job_0", last_event_id="1.2").SerializeToString()
    seeds: list[tuple[str, tuple[bytes, ...]]] = [
        ("Run", (ask,)),
        ("Run", (chunked, chunk)),
        ("Run", (cleanup,)),
        ("Submit", (submit,)),
        ("List", (listing,)),
        ("Watch", (watch,)),
        ("Get", (watch,)),
        ("Fetch", (watch,)),
    ]
    codes: Counter[str] = Counter()

    def one(number_: int) -> None:
        own = random.Random(count * 10_000 + number_)
        name, messages = seeds[number_ % len(seeds)]
        bent = tuple(mutated(message, own) for message in messages)
        if own.random() < 0.1:
            bent = bent[::-1]
        try:
            answer = door.call(name, *bent, timeout=20)
            if name in ("Run", "Watch", "Fetch"):
                list(answer)
            codes["OK"] += 1
        except grpc.RpcError as error:
            told: Any = error
            codes[told.code().name] += 1
            assert "Traceback" not in told.details()
            assert details(told)[1]["ErrorInfo"].domain == "darkroom"

    numbers = list(range(count))
    chance.shuffle(numbers)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, numbers))
    assert not codes.keys() - {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS"}, codes
    assert codes["INVALID_ARGUMENT"] > count / 4
    idle(house, 10)
    assert not list((house.data / "uploads").glob("upload-*"))


def mutated(message: bytes, chance: random.Random) -> bytes:
    """Bytes flipped, cut out, doubled and put in; now and then nothing but noise."""
    data = bytearray(message)
    if chance.random() < 0.05:
        return chance.randbytes(chance.randrange(1, 200))
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0 if data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + chance.randrange(1, 12)]
            case 2:
                data[at:at] = data[at : at + chance.randrange(1, 24)]
            case 3:
                data[at:at] = chance.randbytes(chance.randrange(1, 6))
            case 4 if data:
                data[at % len(data)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
    return bytes(data)
