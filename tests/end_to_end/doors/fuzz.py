"""Good requests in, bad ones out: a door gets them, and each must be answered as a mistake of the client's, or well.

A door's test names a few good requests and what its errors look like:

    fuzz(stack, [Good("POST", "/sdapi/v1/txt2img", json={...})], lambda answer: "detail" in answer.json(), count=200)

Of each a value, a part, a byte, the method or the content type is changed. The draw is seeded, so that what failed
fails again; the failure shows the request.
"""

from __future__ import annotations

import base64
import copy
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

AT_ONCE = 3
SECONDS = 60.0  # one answer may take; nothing here asks for more than a second's work
SETTLED = 10.0  # within which nothing is left of what was broken off
TRACES = ("Traceback (most recent", 'File "/', "site-packages", "raise ")
_BOMB = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0" + bytes(
    40
)  # says 60,000 x 60,000 pixels
NASTY: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2**31,
        2**53,
        2**63,
        -(2**70),
        0.5,
        -0.0,
        1e308,
        float("nan"),
        float("inf"),
    ),
    *(
        "",
        " ",
        "0",
        "-1",
        "1e9",
        "true",
        "null",
        "NaN",
        "\0",
        "a\0b",
        "\ud800",
        "é" * 50,
        "🙂" * 9,
        "x" * 20_000,
    ),
    *(
        "../../../etc/passwd",
        "%s%n{0}{{7*7}}",
        "'; drop table jobs;--",
        "<lora:x:1>",
        "<lora:outlined:nan>",
        "auto",
    ),
    *(
        "http://127.0.0.1:1/a.png",
        "http://169.254.169.254/",
        "file:///etc/passwd",
        "asset:x",
        "part:image",
        "part:",
    ),
    *("data:image/png;base64,", "data:,", "data:image/png;base64,AAAA", "A" * 64, "=" * 64),
    base64.b64encode(_BOMB).decode(),
    *([], [[]], [None], {}, {"a": {}}, [1, "a", {}], {"image": ""}, {"": ""}),
)
METHODS = ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "POST")
KINDS = (
    "",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "application/json",
    'a/b; c="',
)


@dataclass(frozen=True)
class Good:
    """A request that the door answers with 200."""

    method: str
    path: str
    json: Any = None
    query: dict[str, str] = field(default_factory=dict)
    form: dict[str, str] = field(default_factory=dict)
    files: dict[str, tuple[str, bytes, str]] = field(default_factory=dict)


def fuzz(
    stack: Any,
    good: Sequence[Good],
    is_error: Callable[[httpx.Response], bool],
    *,
    count: int,
    seed: int = 0,
    headers: dict[str, str] | None = None,
) -> None:
    """Raises AssertionError with the request that was answered badly; the stack must be well before and after."""
    with httpx.Client(base_url=stack.url, timeout=SECONDS, headers=headers) as client:
        for one in good:
            answer = client.send(_built(client, one))
            assert answer.status_code == 200, (one.method, one.path, answer.status_code, answer.text[:500])

        def ask(number: int) -> str | None:
            rng = random.Random(f"{seed}.{number}")
            request = _mutated(client, rng, copy.deepcopy(rng.choice(good)))
            request.read()  # so that a failure can show it
            return _fault(request, client.send(request), is_error)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            faults = [fault for fault in pool.map(ask, range(count)) if fault]
        assert not faults, "\n\n".join([f"{len(faults)} of {count} were answered badly.", *faults[:5]])
        for one in good:
            assert client.send(_built(client, one)).status_code == 200, (one.method, one.path)
        _nothing_is_left(stack, client)


def _nothing_is_left(stack: Any, client: httpx.Client) -> None:
    until = time.monotonic() + SETTLED
    while left := [*stack.data.rglob("uploads/upload-*"), *_running(client)]:
        assert time.monotonic() < until, f"was left behind: {left[:5]}"
        time.sleep(0.1)
    ready = client.get("/readyz")
    assert ready.status_code == 200, ready.text


def _running(client: httpx.Client) -> list[str]:
    """The services' lines of the metrics that say that something is in flight or waits."""
    return [
        line
        for line in client.get("/metrics").text.splitlines()
        if line.startswith(("darkroom_upstream_in_flight", "darkroom_upstream_waiting"))
        and not line.endswith(" 0.0")
    ]


def _fault(
    request: httpx.Request, answer: httpx.Response, is_error: Callable[[httpx.Response], bool]
) -> str | None:
    text = (
        answer.text
        if answer.headers.get("content-type", "").startswith(("application/json", "text/"))
        else ""
    )
    what = None
    if answer.status_code >= 500:
        what = "a fault of the server's"
    elif any(trace in text for trace in TRACES):
        what = "a trace of the code"
    elif (
        answer.status_code >= 400
        and request.method not in ("HEAD", "OPTIONS")
        and not _told(answer, is_error)
    ):
        what = "not the door's form of an error"
    if what is None:
        return None
    asked = (
        f"{request.method} {request.url} {request.headers.get('content-type', '')} {request.content[:700]!r}"
    )
    return f"{what}: {asked}\n -> {answer.status_code} {answer.text[:700]}"


def _told(answer: httpx.Response, is_error: Callable[[httpx.Response], bool]) -> bool:
    try:
        return is_error(answer)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


# ── what is changed ───────────────────────────────────────────────────────────────────────────────────────────


def _built(client: httpx.Client, one: Good) -> httpx.Request:
    if one.json is not None:
        body = json.dumps(one.json).encode()
        kind = {"content-type": "application/json"}
        return client.build_request(one.method, one.path, params=one.query, content=body, headers=kind)
    if one.form or one.files:
        # a text is sent as a part, too, so that a form without files stays multipart
        parts = {
            name: (None, value.encode("utf-8", "replace")) for name, value in one.form.items()
        } | one.files
        return client.build_request(one.method, one.path, params=one.query, files=parts)
    return client.build_request(one.method, one.path, params=one.query)


def _mutated(client: httpx.Client, rng: random.Random, one: Good) -> httpx.Request:
    ways: list[Callable[[], httpx.Request]] = [
        lambda: _with_bytes(client, rng, one),
        lambda: _with_kind(client, rng, one),
        lambda: _built(client, Good(rng.choice(METHODS), one.path, one.json, one.query, one.form, one.files)),
        lambda: _with_query(client, rng, one),
    ]
    values = _with_values if one.json is not None else _with_parts if one.form or one.files else _with_query
    return rng.choices([lambda: values(client, rng, one), *ways], [80, 8, 4, 4, 4])[0]()


def _with_values(client: httpx.Client, rng: random.Random, one: Good) -> httpx.Request:
    document = one.json
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(document))
        if not places:
            break
        holder, key = rng.choice(places)
        match rng.randrange(8):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[rng.choice(("", "model", "image", "x" * 300, f"{key}s"))] = rng.choice(NASTY)
            case 2:
                holder[key] = [copy.deepcopy(holder[key])] * rng.choice((1, 2, 70))
            case 3:
                deep: Any = holder[key]
                for _ in range(rng.choice((3, 100, 280))):
                    deep = {"a": deep} if rng.random() < 0.5 else [deep]
                holder[key] = deep
            case 4 if isinstance(holder[key], str) and holder[key]:
                at = rng.randrange(len(holder[key]))
                holder[key] = holder[key][:at] + rng.choice(("", "~", "\0", "A")) + holder[key][at + 1 :]
            case _:
                holder[key] = copy.deepcopy(rng.choice(NASTY))
    return _built(client, Good(one.method, one.path, document, one.query))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document where a value stands: what holds it, and its key there."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _with_parts(client: httpx.Client, rng: random.Random, one: Good) -> httpx.Request:
    form, files = dict(one.form), dict(one.files)
    if files and rng.random() < 0.5:
        name = rng.choice(list(files))
        filename, data, kind = files[name]
        match rng.randrange(5):
            case 0:
                del files[name]
            case 1:
                files[f"{name}2"] = files.pop(name)
            case 2:
                files[name] = (
                    rng.choice(("", "a\n.png", "x" * 300, "../a")),
                    data,
                    rng.choice(KINDS) or "image/png",
                )
            case _:
                files[name] = (filename, _broken(rng, data), kind)
    else:
        name = rng.choice([*form, "model", "x", "seed"])
        value = rng.choice(NASTY)
        form[name] = value if isinstance(value, str) else json.dumps(value)
    if not form and not files:
        form["x"] = ""
    return _built(client, Good(one.method, one.path, None, one.query, form, files))


def _with_query(client: httpx.Client, rng: random.Random, one: Good) -> httpx.Request:
    value = rng.choice(NASTY)
    text = (value if isinstance(value, str) else json.dumps(value))[:2000]
    text = text.encode("utf-8", "replace").decode()
    query = one.query | {rng.choice([*one.query, "model", "x"]): text}
    return _built(client, Good(one.method, one.path, one.json, query, one.form, one.files))


def _with_bytes(client: httpx.Client, rng: random.Random, one: Good) -> httpx.Request:
    request = _built(client, one)
    body = _broken(rng, request.read())
    headers = {"content-type": request.headers.get("content-type", "application/json")}
    return client.build_request(one.method, one.path, params=one.query, content=body, headers=headers)


def _with_kind(client: httpx.Client, rng: random.Random, one: Good) -> httpx.Request:
    body = _built(client, one).read()
    kind = {"content-type": rng.choice(KINDS)}
    return client.build_request(one.method, one.path, params=one.query, content=body, headers=kind)


def _broken(rng: random.Random, data: bytes) -> bytes:
    if not data:
        return b"\xff"
    at = rng.randrange(len(data))
    match rng.randrange(5):
        case 0:
            return data[:at]
        case 1:
            return b""
        case 2:
            return data[:at] + rng.randbytes(8) + data[at + 8 :]
        case 3:
            return rng.randbytes(64)
        case _:
            return _BOMB
