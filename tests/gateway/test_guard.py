"""What stands before every door: each test builds its own tiny app."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.guard import BodyLimit, OwnPagesOnly, SecurityHeaders, TrustedProxies, guarded
from gateway.settings import Settings
from services.errors import Unavailable

pytestmark = pytest.mark.anyio


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads its body and says what it saw."""
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    client = scope["client"][0]
    body = f"{size} {client} {scope['scheme']}".encode()
    kind = b"text/html" if scope["path"] == "/" else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})


def client(wrapped: Any, **given: Any) -> httpx.AsyncClient:
    base = given.pop("base_url", "http://127.0.0.1:8080")
    return httpx.AsyncClient(transport=httpx.ASGITransport(wrapped, **given), base_url=base)


def answering(value: bool) -> Callable[[], Any]:
    async def any_keys() -> bool:
        return value

    return any_keys


# ── no key: this machine and our own pages only ───────────────────────────────────────────────────────────────

OURS: list[dict[str, str]] = [
    {},
    {"host": "localhost:8080"},
    {"host": "[::1]:8080"},
    {"host": "127.0.0.5"},
    {"origin": "http://127.0.0.1:8080"},
    {"origin": "http://127.0.0.1:8080", "sec-fetch-site": "same-origin"},
    {"sec-fetch-site": "none"},
    {"origin": "null", "sec-fetch-site": "same-origin"},
    {"origin": "https://studio.example"},
]
FOREIGN: list[dict[str, str]] = [
    {"host": "attacker.example"},
    {"host": "attacker.example:8080"},
    {"host": "127.0.0.1.attacker.example"},
    {"host": "localhost.attacker.example"},
    {"host": "127.0.0.1@attacker.example"},
    {"host": "192.168.1.5:8080"},
    {"host": ""},
    {"origin": "https://attacker.example"},
    {"origin": "null"},
    {"origin": "null", "sec-fetch-site": "cross-site"},
    {"origin": "http://127.0.0.1:3000"},
    {"origin": "http://localhost:8080"},  # another origin than the 127.0.0.1:8080 that was called
    {"origin": "http://127.0.0.1:8080.attacker.example"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},  # a form that a page sends
]


@pytest.mark.parametrize("headers", OURS)
async def test_without_a_key_this_machine_and_its_own_pages_may_post(headers: dict[str, str]) -> None:
    wrapped = OwnPagesOnly(app, answering(False), also=["https://studio.example"])
    assert (await client(wrapped).post("/v1/cleanup", headers=headers)).status_code == 200


@pytest.mark.parametrize("headers", FOREIGN)
async def test_without_a_key_no_page_from_elsewhere_may_post(headers: dict[str, str]) -> None:
    answer = await client(OwnPagesOnly(app, answering(False))).post("/v1/cleanup", headers=headers)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert "darkroom keys create" in answer.json()["help"]


async def test_a_link_on_another_page_may_lead_here_but_embedding_may_not() -> None:
    wrapped = OwnPagesOnly(app, answering(False))
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    embedded = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert (await client(wrapped).get("/", headers=link)).status_code == 200
    assert (await client(wrapped).get("/v1/assets/x", headers=embedded)).status_code == 403


async def test_with_a_key_the_key_decides_and_a_proxy_may_give_another_name() -> None:
    wrapped = OwnPagesOnly(app, answering(True))
    headers = {"host": "studio.example", "origin": "https://elsewhere.example"}
    assert (await client(wrapped).post("/v1/cleanup", headers=headers)).status_code == 200


async def test_when_the_store_cannot_say_whether_there_are_keys_nobody_is_let_in() -> None:
    async def away() -> bool:
        raise Unavailable("The database does not answer.")

    assert (await client(OwnPagesOnly(app, away)).post("/v1/cleanup")).status_code == 503


async def test_a_websocket_from_elsewhere_is_closed() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope = {
        "type": "websocket",
        "path": "/",
        "headers": [(b"host", b"127.0.0.1"), (b"origin", b"https://x.example")],
    }
    await OwnPagesOnly(app, answering(False))(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


# ── size ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_body_of_the_allowed_size_passes_and_one_byte_more_does_not() -> None:
    async with client(BodyLimit(app, 1000)) as caller:
        assert (await caller.post("/x", content=b"x" * 1000)).text.startswith("1000 ")
        answer = await caller.post("/x", content=b"x" * 1001)
    assert answer.status_code == 413
    assert answer.json()["type"] == "urn:darkroom:problem:too-large"
    assert answer.headers["connection"] == "close"


async def test_a_body_without_a_length_is_counted() -> None:
    async def pieces(count: int) -> Any:
        for _ in range(count):
            yield b"x" * 100

    headers = {"transfer-encoding": "chunked"}
    async with client(BodyLimit(app, 1000)) as caller:
        assert (await caller.post("/x", content=pieces(10), headers=headers)).text.startswith("1000 ")
        assert (await caller.post("/x", content=pieces(11), headers=headers)).status_code == 413


async def test_a_length_that_is_no_number_is_malformed() -> None:
    async with client(BodyLimit(app, 1000)) as caller:
        for length in ("-1", "1e9", "10, 10", "٣"):
            answer = await caller.post("/x", content=b"", headers={b"content-length": length.encode()})  # type: ignore[dict-item]
            assert answer.status_code == 400
        answer = await caller.post("/x", content=b"", headers={"content-length": "9" * 5000})
        assert answer.status_code == 413


# ── headers, proxies, CORS ────────────────────────────────────────────────────────────────────────────────────


async def test_every_answer_carries_the_headers_that_keep_a_browser_from_guessing() -> None:
    async with client(SecurityHeaders(app)) as caller:
        page, data = await caller.get("/"), await caller.get("/v1/operations")
    for answer in (page, data):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "default-src 'none'" in data.headers["content-security-policy"]


async def test_a_page_that_says_its_own_policy_keeps_it() -> None:
    async def own(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/html"), (b"content-security-policy", b"sandbox")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    answer = await client(SecurityHeaders(own)).get("/")
    assert answer.headers.get_list("content-security-policy") == ["sandbox"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "seen"),
    [
        ("10.0.0.2", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.2", "6.6.6.6, 203.0.113.7", "203.0.113.7"),  # the caller wrote the first itself
        ("10.0.0.2", "203.0.113.7, 10.0.0.9", "203.0.113.7"),
        ("10.0.0.2", "[2001:db8::7]:4711", "2001:db8::7"),
        ("10.0.0.2", "203.0.113.7:4711", "203.0.113.7"),
        ("10.0.0.2", "6.6.6.6, nonsense", "10.0.0.2"),
        ("10.0.0.2", "", "10.0.0.2"),
        ("::ffff:10.0.0.2", "203.0.113.7", "203.0.113.7"),
        ("203.0.113.99", "6.6.6.6", "203.0.113.99"),
    ],
)
async def test_a_forwarded_address_is_believed_only_as_far_as_our_proxies_wrote_it(
    peer: str, forwarded: str, seen: str
) -> None:
    wrapped = TrustedProxies(app, ["10.0.0.0/8"])
    headers = {"x-forwarded-for": forwarded, "x-forwarded-proto": "https"}
    text = (await client(wrapped, client=(peer, 1)).get("/x", headers=headers)).text
    _, address, scheme = text.split()
    assert address == seen
    assert scheme == ("http" if peer == "203.0.113.99" else "https")


def settings(folder: Path, **given: Any) -> Settings:
    return Settings(data=folder, _env_file=None, **given)  # type: ignore[call-arg]


async def test_an_allowed_origin_gets_cors_headers_and_another_none(tmp_path: Path) -> None:
    wrapped = guarded(app, settings(tmp_path, cors_origins="https://studio.example"), answering(False))
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    async with client(wrapped) as caller:
        good = await caller.options("/v1/cleanup", headers=ask | {"origin": "https://studio.example"})
        bad = await caller.options("/v1/cleanup", headers=ask | {"origin": "https://attacker.example"})
        post = await caller.post("/v1/cleanup", headers={"origin": "https://studio.example"})
        foreign = await caller.post("/v1/cleanup", headers={"origin": "https://attacker.example"})
    assert good.headers["access-control-allow-origin"] == "https://studio.example"
    assert bad.status_code == 400
    assert "access-control-allow-origin" not in bad.headers
    assert post.status_code == 200
    assert post.headers["access-control-allow-origin"] == "https://studio.example"
    assert foreign.status_code == 403


async def test_where_it_is_not_on_loopback_names_are_not_looked_at(tmp_path: Path) -> None:
    wrapped = guarded(app, settings(tmp_path, host="0.0.0.0"), answering(True))
    assert (
        await client(
            wrapped,
        ).get("/x", headers={"host": "studio.example"})
    ).status_code == 200


@pytest.mark.slow
def test_in_a_real_browser_our_page_may_post_and_another_sites_may_not(tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    posts: list[tuple[str, int]] = []

    async def site(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        pages = {"/": (b"text/html", b"<form method=post action=/own><script src=/go.js></script>")}
        pages["/go.js"] = (
            b"text/javascript",
            b"fetch('/own-script', {method: 'POST'}); document.forms[0].submit()",
        )
        kind, body = pages.get(scope["path"], (b"text/plain", b"done"))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": body})

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start" and scope["method"] == "POST":
                posts.append((scope["path"], message["status"]))
            await send(message)

        await guarded(site, settings(tmp_path), answering(False))(scope, receive, noted)

    with served(watched) as ours:
        evil = f"""<form method=post action={ours}/foreign enctype=text/plain></form><script>
            fetch('{ours}/foreign-script', {{method: 'POST', mode: 'no-cors', body: 'x'}});
            document.forms[0].submit()</script>"""

        async def elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]}
            )
            await send({"type": "http.response.body", "body": evil.encode()})

        with served(elsewhere) as theirs:
            for page in (ours, theirs, theirs.replace("127.0.0.1", "localhost")):
                subprocess.run(
                    [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
                     "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=3000",
                     f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", page],
                    capture_output=True, timeout=60, check=True,
                )  # fmt: skip
    assert {("/own", 200), ("/own-script", 200)} <= set(posts)
    foreign = [status for path, status in posts if path.startswith("/foreign")]
    assert foreign
    assert set(foreign) == {403}


@contextmanager
def served(site: ASGIApp) -> Iterator[str]:
    config = uvicorn.Config(site, host="127.0.0.1", port=0, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    until = time.monotonic() + 10
    while not server.started and time.monotonic() < until:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


async def test_all_of_it_together_costs_microseconds(tmp_path: Path) -> None:
    async def bare(scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"image/png")]}
        )
        await send({"type": "http.response.body", "body": b""})

    async def nothing(*_: Any) -> Any:
        return {}

    async def cost(measured: ASGIApp) -> float:
        headers = [
            (b"host", b"127.0.0.1:8080"),
            (b"content-length", b"100"),
            *[(b"x-%d" % n, b"v") for n in range(8)],
        ]
        best = float("inf")
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(1000):
                scope = {
                    "type": "http",
                    "method": "POST",
                    "path": "/",
                    "headers": headers,
                    "client": ("10.0.0.1", 1),
                }
                await measured(scope, nothing, nothing)
            best = min(best, (time.perf_counter() - began) / 1000)
        return best

    wrapped = guarded(bare, settings(tmp_path, trusted_proxies="10.0.0.0/8"), answering(False))
    # about 6 microseconds on an idle core; the bound only catches a change of kind
    assert await cost(wrapped) - await cost(bare) < 100e-6
