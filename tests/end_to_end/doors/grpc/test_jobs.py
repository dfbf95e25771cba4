"""Jobs over gRPC."""

from __future__ import annotations

from typing import Any

import grpc
import httpx

from tests.end_to_end.doors.grpc.asking import MB, Door, chunks, number, png, refused, stamp


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
