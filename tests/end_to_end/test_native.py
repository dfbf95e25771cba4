"""The native interface over real HTTP, with real photographs: calls, assets, jobs, the catalogue, the pages.

One stack for all, entered with keys: an admin's, Ann's and Ben's. Beside the real services it has the toy.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from gateway.signing import verify_webhook

ADMIN = "an-admin-key-for-tests-0123456789abcdef"


@pytest.fixture(scope="module")
def native(begin_stack: Any, toy: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    stack = begin_stack(
        tmp_path_factory.mktemp("native"),
        *("gateway", "cleanup", "rmbg", "toy"),
        admin_key=ADMIN,
        webhook_allow_private="true",
        capacity="2",
        also=toy,
    )
    stack.wait(lambda: "Darkroom is ready" in stack.said)
    yield stack
    stack.stop()


def entered(native: Any, secret: str) -> httpx.Client:
    return httpx.Client(base_url=native.url, headers={"authorization": f"Bearer {secret}"}, timeout=60)


@pytest.fixture(scope="module")
def admin(native: Any) -> Iterator[httpx.Client]:
    with entered(native, ADMIN) as client:
        yield client


@pytest.fixture(scope="module")
def ann(native: Any, admin: httpx.Client) -> Iterator[httpx.Client]:
    with entered(native, admin.post("/v1/admin/keys", json={"name": "ann"}).json()["secret"]) as client:
        yield client


@pytest.fixture(scope="module")
def ben(native: Any, admin: httpx.Client) -> Iterator[httpx.Client]:
    with entered(native, admin.post("/v1/admin/keys", json={"name": "ben"}).json()["secret"]) as client:
        yield client


@pytest.fixture(scope="module")
def photo(samples: Path) -> bytes:
    return (samples / "astronaut.jpg").read_bytes()


@pytest.fixture(scope="module")
def mask(samples: Path) -> bytes:
    return (samples / "astronaut-mask.png").read_bytes()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def dot() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, "PNG")
    return out.getvalue()


def stamp(client: httpx.Client, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    """A job of the toy; `params` of it, and `priority` and the like beside."""
    beside = {name: str(more.pop(name)) for name in ("priority", "webhook") if name in more}
    form = {"operation": "stamp", "params": json.dumps({"image": "part:image", **more}), **beside}
    return client.post("/v1/jobs", data=form, files={"image": dot()}, headers=headers)


def ended(client: httpx.Client, job: dict[str, Any], seconds: float = 30) -> dict[str, Any]:
    until = time.monotonic() + seconds
    while job["state"] in ("queued", "running"):
        assert time.monotonic() < until, job
        time.sleep(0.03)
        job = client.get(job["links"]["self"]).json()
    return job


def until(holds: Callable[[], bool], seconds: float = 10) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds
        time.sleep(0.02)
    return time.monotonic() - began


Event = tuple[str | None, str, Any]


def events(response: httpx.Response) -> Iterator[Event]:
    """(id, kind, data) of each server-sent event."""
    found: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            found[name] = value
        elif "event" in found:
            yield found.get("id"), found["event"], json.loads(found["data"])
            found = {}


# ── synchronous calls ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_photograph_is_cut_out_as_png(ann: httpx.Client, photo: bytes) -> None:
    answer = ann.post("/v1/remove-background", files={"image": photo})
    assert answer.headers["content-type"] == "image/png"
    image = opened(answer.content)
    assert (image.mode, image.size) == ("RGBA", opened(photo).size)
    assert answer.headers["x-darkroom-size"] == f"{image.width}x{image.height}"
    assert answer.headers["x-darkroom-model"]
    assert "run;dur=" in answer.headers["server-timing"]
    assert answer.headers["cache-control"] == "no-store"
    low, high = image.getchannel("A").getextrema()
    assert (low, high) == (0, 255)


def test_what_the_mask_covers_is_erased_and_nothing_else(
    ann: httpx.Client, photo: bytes, mask: bytes
) -> None:
    answer = ann.post("/v1/cleanup", files={"image": photo, "mask": mask})
    before, after, where = (
        opened(photo).convert("RGB"),
        opened(answer.content).convert("RGB"),
        opened(mask).convert("L"),
    )
    assert after.size == before.size
    black = Image.new("RGB", before.size)
    kept = where.point(lambda value: 0 if value > 127 else 255)
    assert Image.composite(before, black, kept).tobytes() == Image.composite(after, black, kept).tobytes()
    assert Image.composite(before, black, where).tobytes() != Image.composite(after, black, where).tobytes()


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_accept_and_format_choose_the_files_format(ann: httpx.Client, photo: bytes, kind: str) -> None:
    url, files = "/v1/remove-background", {"image": photo}
    by_accept = ann.post(url, files=files, headers={"accept": f"image/{kind}"})
    by_format = ann.post(url, files=files, data={"format": kind}, headers={"accept": "image/png, */*"})
    for answer in (by_accept, by_format):
        assert answer.headers["content-type"] == f"image/{kind}"
        assert str(opened(answer.content).format).lower() == kind


def test_quality_counts(ann: httpx.Client, photo: bytes, mask: bytes) -> None:
    sizes = [
        len(
            ann.post(
                "/v1/cleanup",
                files={"image": photo, "mask": mask},
                data={"format": "jpeg", "quality": str(quality)},
            ).content
        )
        for quality in (10, 60, 95)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] * 3 < sizes[2]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "image/png"),
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("image/avif, image/webp, */*;q=0.1", "image/webp"),
        ("application/json;q=0.9, image/jpeg;q=0.5", "application/json"),
        ("text/html, application/json", "application/json"),
        ("text/event-stream", "text/event-stream"),
        ("image/webp;q=0, image/png", "image/png"),
    ],
)
def test_accept_rules(ann: httpx.Client, accept: str, kind: str) -> None:
    answer = ann.post("/v1/remove-background", files={"image": dot()}, headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)


def test_json_in_and_json_out(ann: httpx.Client, photo: bytes) -> None:
    for image in (
        base64.b64encode(photo).decode(),
        base64.urlsafe_b64encode(photo).decode(),
        f"data:image/jpeg;base64,{base64.b64encode(photo).decode()}",
    ):
        ask = {"image": image, "background": "#102030", "format": "jpeg"}
        document = ann.post("/v1/remove-background", json=ask, headers={"accept": "application/json"}).json()
        assert document["state"] == "succeeded"
        assert document["params"]["background"] == "#102030"
        assert document["params"]["image"] == "part:image", "megabytes that were sent do not come back"
        picture = document["pictures"][0]
        assert (picture["media_type"], picture["role"]) == ("image/jpeg", "picture")
        read = ann.get(picture["url"])
        assert len(read.content) == picture["bytes"]
        assert opened(read.content).size == (picture["width"], picture["height"])
        created, finished = (datetime.fromisoformat(document[key]) for key in ("created_at", "finished_at"))
        assert created <= finished


def test_a_parameter_may_name_a_part(ann: httpx.Client, photo: bytes, samples: Path) -> None:
    behind = (samples / "coffee.jpg").read_bytes()
    form = {"image": "part:me", "background": "part:behind"}
    answer = ann.post("/v1/remove-background", data=form, files={"me": photo, "behind": behind})
    assert answer.status_code == 200, answer.text
    assert opened(answer.content).size == opened(photo).size
    plain = ann.post("/v1/remove-background", data={"background": "white"}, files={"image": photo})
    assert plain.content != answer.content
    assert opened(plain.content).convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


def test_events_tell_of_each_step_and_of_the_result(ann: httpx.Client) -> None:
    form = {"number": "513", "steps": "5", "pause": "0.05"}
    with ann.stream(
        "POST", "/v1/stamp", data=form, files={"image": dot()}, headers={"accept": "text/event-stream"}
    ) as answer:
        told = list(events(answer))
    kinds = [kind for _, kind, _ in told]
    assert (kinds[0], kinds[-2:]) == ("accepted", ["result", "done"])
    steps = [data["step"] for _, kind, data in told if kind == "progress"]
    assert steps == sorted(steps)
    assert steps[-1] == 5
    assert opened(ann.get(told[-2][2]["url"]).content).getpixel((0, 0)) == (2, 1, 77)
    assert told[-1][2]["pictures"][0] == told[-2][2]


def test_what_is_refused_before_the_first_event_keeps_its_status(ann: httpx.Client, photo: bytes) -> None:
    cut = photo[: len(photo) // 2]
    answer = ann.post("/v1/remove-background", files={"image": cut}, headers={"accept": "text/event-stream"})
    assert (answer.status_code, answer.json()["field"]) == (422, "image")


def test_a_failure_among_events_is_an_event(ann: httpx.Client) -> None:
    form = {"steps": "200", "pause": "0.05"}
    headers = {"accept": "text/event-stream", "prefer": "wait=0.5"}
    with ann.stream("POST", "/v1/stamp", data=form, files={"image": dot()}, headers=headers) as answer:
        told = list(events(answer))
    assert (answer.status_code, told[0][1], told[-1][1]) == (200, "accepted", "error")
    assert told[-1][2]["type"].endswith("deadline-exceeded")
    assert told[-1][2]["request_id"] == answer.headers["x-request-id"]


def test_prefer_wait_shortens_the_deadline(ann: httpx.Client) -> None:
    began = time.monotonic()
    form = {"steps": "200", "pause": "0.05"}
    answer = ann.post("/v1/stamp", data=form, files={"image": dot()}, headers={"prefer": "wait=0.5"})
    assert answer.status_code == 504
    assert time.monotonic() - began < 3


def at_work(native: Any) -> int:
    """How many calls the toy's own process has."""
    note = json.loads((native.data / "run" / "toy.json").read_text())
    return int(httpx.get(f"{note['address']}/darkroom/v1/describe").json()["in_flight"])


@pytest.mark.parametrize("accept", ["image/png", "application/json", "text/event-stream"])
def test_a_client_that_goes_away_ends_the_work_within_a_step(
    native: Any, ann: httpx.Client, accept: str
) -> None:
    def call() -> None:
        hang_up = time.monotonic() + 0.7
        with entered(native, ann.headers["authorization"].removeprefix("Bearer ")) as client:
            asked = client.build_request(
                "POST",
                "/v1/stamp",
                data={"steps": "600", "pause": "0.1"},
                files={"image": dot()},
                headers={"accept": accept},
                timeout=0.7,
            )
            with contextlib.suppress(httpx.ReadTimeout):
                answer = client.send(asked, stream=True)
                for _ in answer.iter_bytes():
                    if time.monotonic() > hang_up:
                        return

    assert at_work(native) == 0
    thread = threading.Thread(target=call)
    thread.start()
    until(lambda: at_work(native) == 1)
    thread.join()
    assert until(lambda: at_work(native) == 0) < 1.0


# ── assets ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_asset_is_used_by_its_id_and_deleted(ann: httpx.Client, photo: bytes, mask: bytes) -> None:
    uploaded = ann.post("/v1/assets", content=photo, headers={"content-type": "image/jpeg"})
    assert uploaded.status_code == 201
    asset = uploaded.json()
    assert uploaded.headers["location"] == asset["url"]
    assert (asset["width"], asset["height"]) == opened(photo).size
    assert (asset["kind"], asset["bytes"], asset["media_type"]) == ("input", len(photo), "image/jpeg")
    read = ann.get(asset["url"])
    assert (read.content, read.headers["etag"]) == (photo, f'"{asset["sha256"]}"')
    ref = f"asset:{asset['id']}"
    assert ann.post("/v1/remove-background", json={"image": ref}).status_code == 200
    assert ann.post("/v1/cleanup", data={"image": ref}, files={"mask": mask}).status_code == 200
    assert ann.get(asset["url"]).content == photo, "a call that used it leaves it"
    assert ann.delete(asset["url"]).status_code == 204
    assert ann.get(asset["url"]).status_code == 404
    refused = ann.post("/v1/remove-background", json={"image": ref})
    assert (refused.status_code, refused.json()["field"]) == (422, "image")


def test_another_key_cannot_read_use_link_or_delete_an_asset_but_an_admin_can(
    ann: httpx.Client, ben: httpx.Client, admin: httpx.Client
) -> None:
    asset = ann.post("/v1/assets", files={"file": dot()}).json()
    assert ben.get(asset["url"]).status_code == 404
    assert ben.delete(asset["url"]).status_code == 404
    assert ben.post(f"{asset['url']}/link").status_code == 404
    assert ben.post("/v1/remove-background", json={"image": f"asset:{asset['id']}"}).status_code == 422
    assert asset["id"] not in {one["id"] for one in ben.get("/v1/assets?limit=200").json()["assets"]}
    assert admin.get(asset["url"]).status_code == 200
    assert admin.delete(asset["url"]).status_code == 204


def test_a_signed_link_works_without_a_key_until_it_expires(native: Any, ann: httpx.Client) -> None:
    asset = ann.post("/v1/assets", files={"file": dot()}).json()
    link = ann.post(f"{asset['url']}/link?seconds=2").json()
    with httpx.Client(base_url=native.url) as anyone:
        assert anyone.get(link["url"]).content == dot()
        assert anyone.get(asset["url"]).status_code == 401
        assert anyone.get(link["url"].replace("signature=", "signature=0")).status_code == 403
        other = ann.post("/v1/assets", files={"file": dot()}).json()
        assert anyone.get(link["url"].replace(asset["id"], other["id"])).status_code == 403
        for unsigned in (link["url"], f"{asset['url']}?signature=x"):
            assert anyone.delete(unsigned).status_code == 401, "a link opens a picture for reading only"
            assert anyone.post(unsigned.replace("?", "/link?")).status_code == 401
        assert anyone.get("/v1/assets?signature=x").status_code == 401
        time.sleep(2.1)
        assert anyone.get(link["url"]).status_code == 403


def test_assets_are_listed_by_pages_newest_first(ben: httpx.Client) -> None:
    made = [ben.post("/v1/assets", files={"file": dot()}).json()["id"] for _ in range(5)]
    found, before = [], None
    while True:
        page = ben.get("/v1/assets", params={"limit": 2, **({"before": before} if before else {})}).json()
        found += [one["id"] for one in page["assets"]]
        if (before := page["next"]) is None:
            break
    assert found[:5] == made[::-1]
    assert len(set(found)) == len(found)


# ── jobs ──────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── the catalogue, health, pages ──────────────────────────────────────────────────────────────────────────────


def test_the_catalogue_says_what_can_be_asked_and_why_not(ann: httpx.Client) -> None:
    document = ann.get("/v1/operations").json()
    listed = {one["name"]: one for one in document["operations"]}
    assert len(listed) == 11  # the ten, and the toy
    assert listed["cleanup"]["available"]
    assert listed["cleanup"]["reason"] is None
    assert listed["cleanup"]["pictures"] == {"image": "picture", "mask": "mask"}
    assert document["limits"]["max_pixels"] == 50_000_000
    for one in listed.values():
        assert one["available"] == (one["service"] in ("cleanup", "rmbg", "toy"))
        if not one["available"]:
            assert one["service"] in one["reason"]
            answer = ann.post(
                one["url"], json={"prompt": "x"} if "prompt" in one["params"]["properties"] else {}
            )
            assert answer.status_code in (422, 503)
    answer = ann.post("/v1/text-to-image", json={"prompt": "a red circle"})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:darkroom:problem:not-configured")
    job = ann.post("/v1/jobs", json={"operation": "text-to-image", "params": {"prompt": "a red circle"}})
    assert job.status_code == 503


def test_models_are_listed_as_openais_clients_read_them(ann: httpx.Client) -> None:
    document = ann.get("/v1/models").json()
    assert document["object"] == "list"
    models = {one["id"]: one for one in document["data"]}
    assert {"telea", "navier-stokes"} <= models.keys()
    assert models["telea"]["service"] == "cleanup"
    assert models["telea"]["loaded"] is True
    assert all(one["object"] == "model" and one["owned_by"] for one in models.values())


def test_a_model_is_chosen_by_name_and_an_unknown_one_refused(
    ann: httpx.Client, photo: bytes, mask: bytes
) -> None:
    files = {"image": photo, "mask": mask}
    for model in ("telea", "navier-stokes"):
        answer = ann.post("/v1/cleanup", files=files, data={"model": model})
        assert answer.headers["x-darkroom-model"] == model
    refused = ann.post("/v1/cleanup", files=files, data={"model": "nothing"})
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:darkroom:problem:unknown-model")


def test_health_needs_no_key_and_tells_of_every_service(native: Any) -> None:
    with httpx.Client(base_url=native.url) as anyone:
        assert anyone.get("/healthz").json() == {"status": "alive"}
        ready = anyone.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["services"].keys() >= {"cleanup", "rmbg", "toy"}
        assert ready.json()["reasons"] == []
        assert anyone.get("/v1/operations").status_code == 401


def test_metrics_count_what_was_done(ann: httpx.Client, admin: httpx.Client) -> None:
    ann.post("/v1/remove-background", files={"image": dot()})
    text = admin.get("/metrics").text
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert any(
        'operation="remove-background"' in line and line.startswith("darkroom_requests") for line in lines
    )
    assert any(line.startswith("darkroom_pictures") for line in lines)
    assert any("queue" in line and 'service="toy"' in line for line in lines)
    assert not [line for line in lines if ADMIN in line or "ast_" in line or "job_1" in line], (
        "labels are bounded"
    )


def test_a_request_id_comes_back_and_is_in_the_log(native: Any, ann: httpx.Client) -> None:
    answer = ann.post(
        "/v1/remove-background", files={"image": dot()}, headers={"x-request-id": "find-me-1234"}
    )
    assert answer.headers["x-request-id"] == "find-me-1234"
    until(lambda: '"find-me-1234"' in (native.data / "logs" / "gateway.log").read_text())
    assert ADMIN not in (native.data / "logs" / "gateway.log").read_text()


def test_the_pages_are_whole(native: Any) -> None:
    with httpx.Client(base_url=native.url) as anyone:
        page = anyone.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'self'" in page.headers["content-security-policy"]
        for name in ("cleanup", "remove-background", "text-to-image", "stamp"):
            assert f'id="{name}"' in page.text
        docs = anyone.get("/docs")
        assert docs.status_code == 200
        for text in (page.text, docs.text):
            for address in {part.split('"')[0] for part in text.split('src="')[1:]} | {
                part.split('"')[0] for part in text.split('href="')[1:]
            }:
                if address.startswith("/"):
                    assert anyone.get(address).status_code == 200, address
                else:
                    assert not address.startswith("http"), "a page loads nothing from elsewhere"


# ── a foreign door's caller ──────────────────────────────────────────────────────────────────────────────────


def test_a_foreign_door_knows_the_key_however_its_client_sends_it(
    native: Any, ann: httpx.Client, photo: bytes
) -> None:
    key = ann.headers["authorization"].removeprefix("Bearer ")
    files = {"file": ("a.jpg", photo)}
    for headers, auth in (
        ({"authorization": f"Bearer {key}"}, None),
        ({"x-api-key": key}, None),
        ({}, httpx.BasicAuth("anybody", key)),
    ):
        answer = httpx.post(f"{native.url}/api/remove", files=files, headers=headers, auth=auth, timeout=60)
        assert answer.status_code == 200, answer.text
    for auth in (None, httpx.BasicAuth("anybody", "wrong")):
        refused = httpx.post(f"{native.url}/api/remove", files=files, auth=auth)
        assert (refused.status_code, list(refused.json())) == (401, ["detail"])
