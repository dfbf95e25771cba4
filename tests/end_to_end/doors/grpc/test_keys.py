"""Keys and limits hold over gRPC as over HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest

from tests.end_to_end.doors.grpc.asking import ADMIN, connected, refused, stamp


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
