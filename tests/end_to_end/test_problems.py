"""Whatever a client sends, it is told as a problem document what is wrong: over raw sockets, past any client's help."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from PIL import Image

HOST = b"Host: localhost\r\n"
FIELDS = {"type", "title", "status", "detail", "help"}


@dataclass
class Raw:
    status: int
    headers: dict[str, str]
    body: bytes

    def problem(self, status: int, slug: str | None = None) -> dict[str, Any]:
        """The document, when it is one with all of its fields."""
        return told(self.status, self.headers, self.body, status, slug)


def told(got: int, headers: Any, body: bytes, status: int, slug: str | None = None) -> dict[str, Any]:
    assert got == status, (got, body[:500])
    assert headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = json.loads(body)
    assert document.keys() >= FIELDS
    assert document["status"] == status
    assert document["type"].startswith("urn:darkroom:problem:")
    assert slug is None or document["type"].endswith(f":{slug}"), document
    assert all(document[name] for name in FIELDS)
    return document


def problem(response: httpx.Response, status: int, slug: str | None = None) -> dict[str, Any]:
    document = told(response.status_code, response.headers, response.content, status, slug)
    assert document["request_id"] == response.headers["x-request-id"]
    return document


@pytest.fixture(scope="module")
def http(stack: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        yield client


Send = Callable[..., Raw]


@pytest.fixture
def send(stack: Any) -> Send:
    def send(*pieces: bytes) -> Raw:
        """Bytes as they are; the answer's head and as much body as it announces."""
        with socket.create_connection(("127.0.0.1", stack.port), 10) as connection:
            with contextlib.suppress(OSError):  # it may be closed on us while we still send
                for piece in pieces:
                    connection.sendall(piece)
            answer = b""
            with contextlib.suppress(OSError):
                while b"\r\n\r\n" not in answer or not whole(answer):
                    data = connection.recv(65536)
                    if not data:
                        break
                    answer += data
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        return Raw(int(lines[0].split()[1]), headers, body)

    return send


def whole(answer: bytes) -> bool:
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return bool(lines) and len(body) >= int(lines[0].partition(b":")[2])


def post(path: bytes, *headers: bytes) -> bytes:
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in headers) + b"\r\n"


def png(size: tuple[int, int] = (16, 12)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (10, 120, 200)).save(out, "PNG")
    return out.getvalue()


# ── what is hardly HTTP ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00 this is TLS\r\n\r\n",
        b"GET\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        post(b"/v1/cleanup", b"Content-Length: abc"),
        post(b"/v1/cleanup", b"Content-Length: -5"),
        post(b"/v1/cleanup", b"Content-Length: 5", b"Content-Length: 6"),
        post(b"/v1/cleanup", b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        post(b"/v1/cleanup", b"Content-Type: application/json", b"Transfer-Encoding: chunked")
        + b"ZZZ\r\nabc\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: a\x00b\r\n\r\n",
    ],
    ids=[
        "tls",
        "no-path",
        "connect",
        "length-text",
        "length-negative",
        "two-lengths",
        "length-and-chunks",
        "chunks",
        "null",
    ],
)
def test_what_is_not_http_is_told_so(send: Send, request_: bytes) -> None:
    answer = send(request_)
    answer.problem(400, "malformed")
    assert answer.headers["connection"] == "close"


def test_headers_without_end_are_refused_before_they_fill_the_memory(send: Send) -> None:
    start = b"GET /healthz HTTP/1.1\r\n" + HOST
    send(start, b"X-A: ", *[b"a" * 50_000] * 40).problem(431, "head-too-large")
    send(start, *[b"X-%d: a\r\n" % number for number in range(30_000)], b"\r\n").problem(431)
    assert send(start + b"X-A: " + b"a" * 30_000 + b"\r\n\r\n").status == 200


def test_a_body_that_is_announced_as_too_large_is_refused_before_it_is_sent(send: Send) -> None:
    send(post(b"/v1/cleanup", b"Content-Length: 99999999999")).problem(413, "too-large")


def test_a_chunked_body_is_refused_where_it_grows_too_large(send: Send) -> None:
    chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
    head = post(b"/v1/assets", b"Content-Type: image/png", b"Transfer-Encoding: chunked")
    send(head, *[chunk] * 70).problem(413, "too-large")


def test_a_body_that_ends_early_harms_nobody(stack: Any, http: httpx.Client) -> None:
    head = post(b"/v1/cleanup", b"Content-Type: application/json", b"Content-Length: 5000")
    with socket.create_connection(("127.0.0.1", stack.port), 10) as connection:
        connection.sendall(head + b'{"image": "')
    assert http.get("/healthz").status_code == 200


# ── bodies ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content_type", "body", "status", "slug"),
    [
        ("multipart/form-data", b"abc", 400, "malformed"),
        ("multipart/form-data; boundary=", b"abc", 400, "malformed"),
        (f"multipart/form-data; boundary={'x' * 300}", b"abc", 400, "malformed"),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
            400,
            "malformed",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="mask"\r\n\r\nx',
            400,
            "malformed",
        ),
        ("multipart/form-data; boundary=b", b"", 400, "malformed"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="quality"\r\n\r\n\xff\xfe\r\n--b--\r\n',
            400,
            "malformed",
        ),
        ("application/json", b"", 400, "malformed"),
        ("application/json", b"[]", 400, "malformed"),
        ("application/json", b'{"image": NaN}', 400, "malformed"),
        ("application/json", b'{"quality": Infinity}', 400, "malformed"),
        ("application/json", b'{"quality": 1e999}', 400, "malformed"),
        ("application/json", b"[" * 100_000, 400, "malformed"),
        ("application/json", b'{"image":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001, 400, "malformed"),
        ("application/json", b'{"image": "\\ud800"}', 400, "malformed"),
        ("application/json", b'{"image": "\xff"}', 400, "malformed"),
        ("application/json", b'{"quality": ' + b"9" * 10_000 + b"}", 400, "malformed"),
        ("text/plain", b"hello", 415, "unsupported-media"),
        ("", b"hello", 415, "unsupported-media"),
        ("application/x-www-form-urlencoded", b"image=abc", 415, "unsupported-media"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(
    http: httpx.Client, content_type: str, body: bytes, status: int, slug: str | None
) -> None:
    for path in ("/v1/cleanup", "/v1/jobs"):
        problem(http.post(path, content=body, headers={"content-type": content_type}), status, slug)


def test_a_field_or_a_file_that_comes_twice_is_refused(http: httpx.Client) -> None:
    two = [("image", ("a.png", png())), ("image", ("b.png", png()))]
    assert "image" in problem(http.post("/v1/remove-background", files=two), 400, "malformed")["detail"]
    form = [("image", ("a.png", png())), ("quality", (None, "1")), ("quality", (None, "2"))]
    refused = problem(http.post("/v1/remove-background", files=form), 400, "malformed")
    assert refused["field"] == "quality"


def test_null_characters_are_refused_everywhere_since_postgres_keeps_none(http: httpx.Client) -> None:
    nul = "a\0b"
    job = {"operation": "text-to-image", "params": {"prompt": nul}}
    assert problem(http.post("/v1/jobs", json=job), 422)["field"] == "params.prompt"
    assert problem(http.post("/v1/text-to-image", json={"prompt": nul}), 422)["field"] == "prompt"
    assert problem(http.post("/v1/text-to-image", files={"prompt": (None, nul)}), 422)["field"] == "prompt"
    nested = {"operation": (None, "text-to-image"), "params": (None, json.dumps({"prompt": nul}))}
    assert problem(http.post("/v1/jobs", files=nested), 422)["field"] == "params.prompt"
    loras = {"prompt": (None, "x"), "loras": (None, json.dumps([{"name": nul}]))}
    assert problem(http.post("/v1/text-to-image", files=loras), 422)["field"] == "loras.0.name"
    assert problem(http.post("/v1/admin/keys", json={"name": nul}), 422)["field"] == "name"
    problem(http.post("/v1/text-to-image", json={nul: 1}), 422)
    for path in ("/v1/jobs/%00", "/v1/assets/a%00b", "/v1/operations/%00", "/pages/%00", "/%00"):
        problem(http.get(path), 404, "not-found")
    for query in ("/v1/jobs?before=%00", "/v1/jobs?operation=a%00", "/v1/assets?before=%00"):
        problem(http.get(query), 422, "bad-input")
    for query in ("?signature=%00&expires=1", "?signature=x&expires=%00", "?signature=%ff&expires=\u0663"):
        problem(http.get(f"/v1/assets/ast_1{query}"), 403, "forbidden")


def test_long_things_are_refused_with_their_field(http: httpx.Client) -> None:
    refused = problem(http.post("/v1/text-to-image", json={"prompt": "x" * 30_000}), 422)
    assert refused["field"] == "prompt"
    assert len(json.dumps(refused)) < 2000
    name = "n" * 100_000
    refused = problem(http.post("/v1/cleanup", json={name: 1}), 422)
    assert len(json.dumps(refused)) < 5000, "what a client sends is not echoed at length"
    problem(http.post("/v1/cleanup", files={name: png()}), 413, "too-large")
    problem(http.post("/v1/cleanup", files={name[:300]: png()}), 400, "malformed")
    refused = problem(http.post("/v1/cleanup", files={"quality": (None, "1" * (2 << 20))}), 413)
    assert refused["field"] == "quality"
    problem(http.post("/v1/cleanup", files={f"f{n}": (None, "x") for n in range(100)}), 413)
    problem(http.get("/v1/jobs/" + "j" * 10_000), 404)
    problem(http.get("/v1/assets?before=" + "j" * 1000), 422)
    many = problem(http.post("/v1/text-to-image", json={"prompt": 1, "loras": [{}] * 5000}), 422)
    assert len(json.dumps(many)) < 20_000


def test_a_wrong_parameter_is_named_and_the_right_one_suggested(http: httpx.Client) -> None:
    refused = problem(http.post("/v1/remove-background", files={"imag": png()}), 422, "bad-input")
    assert refused["field"] == "imag"
    assert "'image'" in refused["detail"]
    refused = problem(
        http.post("/v1/remove-background", data={"quality": "101"}, files={"image": png()}), 422
    )
    assert refused["field"] == "quality"
    refused = problem(http.post("/v1/remove-background", json={"image": "part:nothing"}), 422)
    assert refused["field"] == "image"
    refused = problem(http.post("/v1/cleanup", files={"image": png(), "mask": png((5, 5))}), 422)
    assert refused["field"] == "mask"


# ── paths, methods, headers ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v1/cleanup", "POST"),
        ("/v1/jobs", "GET, POST"),
        ("/v1/jobs/job_1", "DELETE, GET"),
        ("/v1/assets/ast_1", "DELETE, GET, HEAD"),
        ("/v1/operations", "GET"),
        ("/healthz", "GET"),
    ],
)
def test_405_names_every_method_that_the_path_takes(http: httpx.Client, path: str, allow: str) -> None:
    response = http.request("PATCH", path)
    problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == allow


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/v1/nothing",
        "/v1",
        "/v1/",
        "/v1/cleanup/",
        "/v1/assets/../jobs/x",
        "/v1/assets/..%2f..%2fdarkroom.db",
        "/v1/jobs/%2e%2e",
        "/pages/%2e%2e/app.py",
        "/pages/..%2f..%2fapp.py",
        "/swagger/%2e%2e/%2e%2e/x",
        "/v1/jobs/%ff%fe",
        "/v1/assets/ast_%F0%9F%92%A9",
        "/v1/operations/cleanup'--",
    ],
)
def test_what_is_not_there_is_404_and_no_path_leads_out(send: Send, path: str) -> None:
    answer = send(b"GET " + path.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    if answer.status in (307, 308):
        assert answer.headers["location"].startswith("http://localhost/v1/")  # to the same without the slash
        return
    answer.problem(404 if path != "/v1/cleanup/" else answer.status)


def test_bad_headers_are_refused(http: httpx.Client) -> None:
    picture = {"image": png()}
    problem(http.post("/v1/remove-background", files=picture, headers={"accept": "text/html"}), 406)
    problem(http.post("/v1/remove-background", files=picture, headers={"accept": "image/png;q=x"}), 406)
    problem(http.post("/v1/remove-background", files=picture, headers={"prefer": "wait=0"}), 422)
    problem(http.get("/v1/jobs", headers={"authorization": "Basic abc"}), 401, "unauthorized")
    for priority in (10**30, "high", 101, 1.5, None):
        job = {"operation": "remove-background", "priority": priority}
        assert problem(http.post("/v1/jobs", json=job), 422)["field"] == "priority"
    for key in ("", "k" * 256):
        headers = {"idempotency-key": key}
        form = {"operation": "remove-background", "params": '{"image": "part:image"}'}
        refused = problem(http.post("/v1/jobs", data=form, files=picture, headers=headers), 422)
        assert refused["field"] == "Idempotency-Key"


def test_an_event_id_that_no_stream_gave_is_refused(http: httpx.Client) -> None:
    form = {"operation": "remove-background", "params": '{"image": "part:image"}'}
    job = http.post("/v1/jobs", data=form, files={"image": png()}).json()
    for wrong in ("null", "1", "1.", "-1.2", "1.2.3", "x.y", "9" * 65):
        response = http.get(job["links"]["events"], headers={"last-event-id": wrong})
        assert problem(response, 422)["field"] == "Last-Event-ID"
    problem(http.get("/v1/jobs/job_nothing/events"), 404)
    for unknown in ("7.7", "1." + "9" * 30):
        events = http.get(job["links"]["events"], headers={"last-event-id": unknown})
        assert events.status_code == 200
        assert "event: snapshot" in events.text, (
            "the log does not know it, so the reader is told how the job stands"
        )


@pytest.mark.parametrize(
    ("webhook", "why"),
    [
        ("ftp://example.com/x", ""),
        ("http://127.0.0.1:1/x", ""),
        ("http://169.254.169.254/latest", ""),
        ("nonsense", ""),
    ],
)
def test_a_webhook_that_leads_inside_is_refused(http: httpx.Client, webhook: str, why: str) -> None:
    form = {"operation": "remove-background", "params": '{"image": "part:image"}', "webhook": webhook}
    assert problem(http.post("/v1/jobs", data=form, files={"image": png()}), 422)["field"] == "webhook"


# ── assets ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ranges_are_answered_or_refused(http: httpx.Client) -> None:
    data = png()
    asset = http.post("/v1/assets", files={"file": data}).json()
    size = len(data)

    def ranged(value: str) -> httpx.Response:
        return http.get(asset["url"], headers={"range": value})

    for value, part in {
        "bytes=0-9": data[:10],
        "bytes=10-": data[10:],
        "bytes=-10": data[-10:],
        f"bytes=0-{10**12}": data,
        f"bytes=-{10**12}": data,
    }.items():
        answer = ranged(value)
        assert (answer.status_code, answer.content) == (206, part)
        start, end = data.index(part), data.index(part) + len(part) - 1
        assert answer.headers["content-range"] == f"bytes {start}-{end}/{size}"
    for value in (f"bytes={size}-", f"bytes={10**30}-", "bytes=-0"):
        answer = ranged(value)
        problem(answer, 416, "beyond-the-end")
        assert answer.headers["content-range"] == f"bytes */{size}"
    for value in ("bytes=9-1", "bytes=", "bytes=-", "bytes=a-b", "bytes=--5", "lines=1-2", "bytes=0-1,4-5"):
        answer = ranged(value)  # what cannot be understood is as if it were not there (RFC 9110, 14.2)
        assert (answer.status_code, answer.content) == (200, data), value
    http.delete(asset["url"])


def test_etags_and_heads(http: httpx.Client) -> None:
    data = png()
    asset = http.post("/v1/assets", files={"file": data}).json()
    etag = f'"{asset["sha256"]}"'
    for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = http.get(asset["url"], headers={"if-none-match": given})
        assert (answer.status_code, answer.content) == (304, b""), given
        assert answer.headers["etag"] == etag
    answer = http.get(asset["url"], headers={"if-none-match": '"other"'})
    assert (answer.status_code, answer.content) == (200, data)
    head = http.head(asset["url"])
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(data))
    assert head.headers["etag"] == etag
    assert http.head("/v1/assets/ast_nothing").status_code == 404
    http.delete(asset["url"])


def test_an_upload_that_is_no_one_picture_is_refused(http: httpx.Client) -> None:
    problem(http.post("/v1/assets", files={"a": png(), "b": png()}), 422)
    problem(http.post("/v1/assets", files={"file": png()}, data={"x": "y"}), 422)
    problem(http.post("/v1/assets", content=b"", headers={"content-type": "image/png"}), 422, "bad-picture")
    problem(http.post("/v1/assets", content=b"hi", headers={"content-type": "text/plain"}), 415)
    problem(http.post("/v1/assets"), 415)


# ── keys and rates ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_key_of_low_rate_is_told_when_to_ask_again(start: Any) -> None:
    admin = "an-admin-key-for-tests-0123456789abcdef"
    stack = start("gateway", "cleanup", admin_key=admin)
    stack.wait(lambda: "Darkroom is ready" in stack.said)
    with httpx.Client(base_url=stack.url, headers={"authorization": f"Bearer {admin}"}) as http:
        made = http.post("/v1/admin/keys", json={"name": "slow", "rate": 0.5}).json()
    with httpx.Client(base_url=stack.url, headers={"authorization": f"Bearer {made['secret']}"}) as http:
        answers = [http.get("/v1/models") for _ in range(6)]
        refused = answers[-1]
        assert answers[0].status_code == 200
        assert int(answers[0].headers["ratelimit-limit"]) >= 1
        document = problem(refused, 429, "rate-limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 10
        assert document["retry_after"] > 0
        time.sleep(int(refused.headers["retry-after"]))
        assert http.get("/v1/models").status_code == 200
        time.sleep(2.5)
        problem(http.get("/v1/admin/keys"), 403, "forbidden")
    with httpx.Client(base_url=stack.url) as http:
        answer = http.get("/v1/models")
        problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
        problem(http.get("/v1/jobs", headers={"authorization": "Bearer dk_nothing"}), 401, "unauthorized")
        assert http.get("/healthz").status_code == 200


# ── what comes too slowly ─────────────────────────────────────────────────────────────────────────────────────


def dribble(port: int, data: bytes, seconds: float) -> bytes:
    """Sends this and no more; what is answered until the connection closes."""
    with socket.create_connection(("127.0.0.1", port), seconds) as connection:
        connection.sendall(data)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
            if b"\r\n\r\n" in answer and whole(answer):
                break
    return answer


@pytest.mark.slow
def test_a_head_or_a_body_that_does_not_come_is_given_up(start: Any) -> None:
    stack = start("gateway", "cleanup", deadline="1")
    stack.wait(lambda: "Darkroom is ready" in stack.said)
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n\x89PNG'
    for path in (b"/v1/assets", b"/v1/jobs", b"/v1/cleanup"):
        head = post(path, b"Content-Type: multipart/form-data; boundary=b", b"Content-Length: 5000")
        answer = dribble(stack.port, head + part, 10)
        assert answer.startswith(b"HTTP/1.1 408"), (path, answer[:200])
        assert b"urn:darkroom:problem:too-slow" in answer
    began = time.monotonic()
    for half in (b"", b"GET /healthz HTTP/1.1\r\nHost: local"):
        answer = dribble(stack.port, half, 45)
        assert answer.startswith(b"HTTP/1.1 408"), answer[:200]
    assert 50 < time.monotonic() - began < 80
    assert list((stack.data / "uploads").iterdir()) == []
