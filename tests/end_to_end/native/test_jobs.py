"""Jobs over HTTP: submitted, listed, followed, cancelled, repeated, told of."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from gateway.signing import verify_webhook
from tests.end_to_end.native.asking import at_work, dot, ended, events, opened, stamp, until


def test_a_job_is_202_with_its_place_and_comes_to_its_pictures(ann: httpx.Client, photo: bytes) -> None:
    form = {"operation": "remove-background", "params": json.dumps({"image": "part:image", "output": "mask"})}
    answer = ann.post("/v1/jobs", data=form, files={"image": photo})
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert job["state"] in ("queued", "running")
    done = ended(ann, job)
    assert (done["state"], done["attempt"], done["error"]) == ("succeeded", 1, None)
    picture = done["pictures"][0]
    assert opened(ann.get(picture["url"]).content).size == opened(photo).size
    listed = {one["id"]: one for one in ann.get("/v1/assets?limit=200").json()["assets"]}
    assert listed[picture["id"]]["job"] == job["id"]


def test_a_job_in_json_may_use_an_asset(ann: httpx.Client, photo: bytes) -> None:
    asset = ann.post("/v1/assets", files={"file": photo}).json()
    ask = {"operation": "remove-background", "params": {"image": f"asset:{asset['id']}"}}
    assert ended(ann, ann.post("/v1/jobs", json=ask).json())["state"] == "succeeded"


def test_prefer_respond_async_makes_a_job_of_a_call(ann: httpx.Client) -> None:
    answer = ann.post(
        "/v1/stamp", data={"number": "7"}, files={"image": dot()}, headers={"prefer": "respond-async"}
    )
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    done = ended(ann, ann.get(answer.headers["location"]).json())
    assert opened(ann.get(done["pictures"][0]["url"]).content).getpixel((0, 0)) == (0, 7, 77)


def test_jobs_are_listed_by_pages_and_filters_and_are_their_owners_own(
    ann: httpx.Client, ben: httpx.Client
) -> None:
    made = [ended(ben, stamp(ben, number=n, steps=0).json())["id"] for n in range(5)]
    found, before = [], None
    while True:
        page = ben.get("/v1/jobs", params={"limit": 2, **({"before": before} if before else {})}).json()
        found += [job["id"] for job in page["jobs"]]
        if (before := page["next"]) is None:
            break
    assert found[:5] == made[::-1]
    some = ben.get("/v1/jobs?operation=stamp&state=succeeded&limit=3").json()["jobs"]
    assert [job["id"] for job in some] == made[:1:-1]
    assert ben.get("/v1/jobs?operation=cleanup").json()["jobs"] == []
    assert ben.get("/v1/jobs?state=failed").json()["jobs"] == []
    assert ann.get(f"/v1/jobs/{made[0]}").status_code == 404
    assert ann.get(f"/v1/jobs/{made[0]}/events").status_code == 404
    assert ann.delete(f"/v1/jobs/{made[0]}").status_code == 404
    assert not {job["id"] for job in ann.get("/v1/jobs?limit=200").json()["jobs"]} & set(made)


def test_a_reader_of_events_resumes_without_a_gap(ann: httpx.Client) -> None:
    job = stamp(ann, number=3, steps=20, pause=0.05).json()
    seen: list[str] = []
    for _ in range(4):  # hangs up after each third event, and goes on where it was
        headers = {"last-event-id": seen[-1]} if seen else {}
        with ann.stream("GET", job["links"]["events"], headers=headers) as answer:
            for _, (event_id, _kind, _data) in zip(
                range(3), (e for e in events(answer) if e[0]), strict=False
            ):
                assert event_id is not None
                seen.append(event_id)
    with ann.stream("GET", job["links"]["events"], headers={"last-event-id": seen[-1]}) as answer:
        rest = [event for event in events(answer) if event[0]]
    seen += [event_id for event_id, _, _ in rest if event_id]
    assert seen == [f"1.{number}" for number in range(len(seen))]
    assert rest[-1][1] == "done"
    assert rest[-1][2]["state"] == "succeeded"
    with ann.stream("GET", job["links"]["events"]) as answer:  # and all of them afterwards
        assert [event_id for event_id, _, _ in events(answer) if event_id] == seen


def test_jobs_are_cancelled_while_they_wait_and_while_they_run(native: Any, ann: httpx.Client) -> None:
    running = [stamp(ann, steps=300, pause=0.1).json() for _ in range(2)]
    waiting = stamp(ann, steps=300, pause=0.1).json()
    for job in running:
        until(lambda job=job: ann.get(job["links"]["self"]).json()["state"] == "running")
    assert ann.get(waiting["links"]["self"]).json()["state"] == "queued"
    cancelled = ann.delete(waiting["links"]["self"])
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    began = time.monotonic()
    for job in running:
        assert ann.delete(job["links"]["self"]).status_code == 200
    for job in running:
        assert ended(ann, ann.get(job["links"]["self"]).json(), 5)["state"] == "cancelled"
    until(lambda: at_work(native) == 0)
    assert time.monotonic() - began < 3
    assert ann.delete(waiting["links"]["self"]).status_code == 200, "again is no mistake"
    with ann.stream("GET", running[0]["links"]["events"]) as answer:
        assert list(events(answer))[-1][1] == "error"
    done = ended(ann, stamp(ann, steps=0).json())
    refused = ann.delete(done["links"]["self"])
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:darkroom:problem:conflict")


def test_among_ones_own_jobs_a_higher_priority_goes_first(ann: httpx.Client) -> None:
    blocking = [stamp(ann, steps=5, pause=0.1).json() for _ in range(2)]
    jobs = [stamp(ann, steps=1, pause=0.1, priority=priority).json() for priority in (0, -5, 0, 9)]
    done = [ended(ann, job) for job in [*blocking, *jobs]][2:]
    started = [job["started_at"] for job in done]
    assert started[3] == min(started)
    assert started[1] == max(started)


def test_an_idempotency_key_makes_a_repeat_return_the_first_job(ann: httpx.Client, ben: httpx.Client) -> None:
    key = {"idempotency-key": "once"}
    first = stamp(ann, key, number=1)
    again = stamp(ann, key, number=1)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["location"] == first.headers["location"]
    other = stamp(ann, key, number=2)
    assert (other.status_code, other.json()["type"]) == (422, "urn:darkroom:problem:idempotency-mismatch")
    assert stamp(ben, key, number=1).json()["id"] != first.json()["id"], "keys are each caller's own"
    twice = [
        ann.post(
            "/v1/stamp",
            files={"image": dot()},
            headers={"prefer": "respond-async", "idempotency-key": "call"},
        )
        for _ in range(2)
    ]
    assert [answer.status_code for answer in twice] == [202, 200]


class Receiver:
    """A program that is told of jobs: it fails the first time."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(500 if len(receiver.got) == 1 else 204)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_port}/told?secret=1"

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def test_a_webhook_is_signed_and_sent_again_after_a_500(ann: httpx.Client, admin: httpx.Client) -> None:
    secret = admin.get("/v1/admin/webhook-secret").json()["secret"]
    with Receiver() as receiver:
        job = stamp(ann, number=5, steps=1, webhook=receiver.url).json()
        done = ended(ann, job)
        until(lambda: len(receiver.got) == 2, 20)
    for headers, body in receiver.got:
        assert headers["content-type"] == "application/json"
        assert verify_webhook(secret, headers["darkroom-signature"], body)
        assert not verify_webhook(secret, headers["darkroom-signature"], body + b" ")
        told = json.loads(body)
        assert job["id"] in json.dumps(told)
        assert "succeeded" in json.dumps(told)
    assert done["state"] == "succeeded"
