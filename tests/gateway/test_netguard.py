"""The guard before addresses that callers name: which are refused, and that a name cannot lead past it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import netguard
from gateway.blobs import Spool
from gateway.netguard import check_address, check_url, fetch_picture, guarded_request, public
from services.errors import BadInput, BadPicture, BadUpstream, DeadlineExceeded, TooLarge, UnsupportedMedia

pytestmark = pytest.mark.anyio

REFUSED = """
127.0.0.1 127.255.255.254 0.0.0.0 10.0.0.1 172.16.0.1 172.31.255.255 192.168.0.1 169.254.169.254 100.64.0.1
100.100.100.200 192.0.0.192 192.0.2.1 198.18.0.1 198.51.100.7 203.0.113.9 192.88.99.1 224.0.0.1 239.255.255.250
240.0.0.1 255.255.255.255 168.63.129.16
:: ::1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::1 fe80::1 fe80::1%eth0
fec0::1 fc00::1 fd00:ec2::254 ff02::1 ff0e::1 100::1 2001::1 2001:db8::1 2001:20::1 2002:7f00:1:: 2002:808:808:: 3fff::1
4000::1 localhost 127.1 2130706433 0x7f000001 nothing
"""
ALLOWED = "8.8.8.8 1.1.1.1 93.184.216.34 2606:4700:4700::1111 2a00:1450:4001:81b::200e 172.32.0.1 100.128.0.1"
PRIVATE_4 = """
0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16 224.0.0.0/3
"""


@pytest.mark.parametrize("address", REFUSED.split())
def test_an_address_that_is_not_of_the_public_internet_is_refused(address: str) -> None:
    assert not public(address)


@pytest.mark.parametrize("address", ALLOWED.split())
def test_a_public_address_is_allowed(address: str) -> None:
    assert public(address)


@given(network=st.sampled_from(PRIVATE_4.split()), at=st.integers(min_value=0, max_value=2**32 - 1))
def test_no_address_of_a_private_network_is_public_in_any_spelling(network: str, at: int) -> None:
    block = ipaddress.IPv4Network(network)
    ip = block[at % block.num_addresses]
    number = int(ip)
    spellings = [
        str(ip),
        f"::ffff:{ip}",
        f"::{ip}",
        str(ipaddress.IPv6Address((0x64FF9B << 96) | number)),
        str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80))),
        str(ipaddress.IPv6Address((0x20010000 << 96) | (number ^ 0xFFFFFFFF))),
        str(number),
        hex(number),
    ]
    for spelling in spellings:
        assert not public(spelling)
        literal = f"[{spelling}]" if ":" in spelling else spelling
        with pytest.raises(BadInput):
            check_url(f"http://{literal}/", field="webhook")


@given(st.ip_addresses(v=6))
def test_only_global_unicast_is_public_in_ipv6(ip: ipaddress.IPv6Address) -> None:
    if public(str(ip)):
        assert ip in ipaddress.ip_network("2000::/3")
        assert ip.is_global
        assert ip.sixtofour is None
        assert ip.teredo is None


@given(st.text(max_size=60))
@settings(max_examples=300)
def test_any_text_is_either_a_checked_url_or_bad_input(text: str) -> None:
    for url in (text, f"http://{text}", f"http://{text}/x"):
        with contextlib.suppress(BadInput):
            found = check_url(url, field="webhook")
            assert found.scheme in ("http", "https")
            assert found.host


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/", "file:///etc/passwd", "gopher://example.org/", "//example.org/", "example.org", "",
        "http://", "http:///path", "http://user:secret@example.org/", "http://example.org:22/", "http://example.org:0/",
        "http://example.org:99999/", "http://127.1/", "http://0x7f.1/", "http://0177.0.0.1/", "http://2130706433/",
        "http://127.0.0.1./", "http://①②⑦.0.0.1/", "http://127。0。0。1/", "http://[::ffff:127.0.0.1]/",
        "http://[::1]/", "http://[fe80::1%25eth0]/", "http://1.1.1.1 &@127.0.0.1/", "http://exa mple.org/",
        "http://h\\@127.0.0.1/", "http://[", "http://" + "a" * 5000, "http://exa%00mple.org/",
    ],
)  # fmt: skip
def test_a_url_of_a_form_that_is_not_ours_is_refused_and_names_the_field(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        check_url(url, field="controls.0.image")
    assert caught.value.field == "controls.0.image"


def test_ordinary_urls_pass() -> None:
    for url in (
        "http://example.org/a.png?b=c#d",
        "https://sub.example.org:8443/",
        "https://bücher.example/",
        "http://8.8.8.8/",
    ):
        check_url(url, field="image")


# ── a real server on loopback ─────────────────────────────────────────────────────────────────────────────────

Handler = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Speaks just enough HTTP, so that it can also speak it badly."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.handler: Handler | None = None
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            assert self.handler is not None
            await self.handler(head, writer)
            await writer.drain()
        writer.close()

    def says(self, text: str, body: bytes = b"") -> None:
        async def handler(_head: str, writer: asyncio.StreamWriter) -> None:
            writer.write(text.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)

        self.handler = handler

    def url(self, path: str = "/x.png", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    yield made
    listening.close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The answers of the name server, which cannot be a real one here: a fake at the edge of the system."""
    table: dict[str, list[str]] = {}
    asked = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, **more: object) -> list[object]:
        if host not in table:
            return asked(host, port, **more)  # type: ignore[arg-type, return-value]
        answer = table[host]
        address = answer.pop(0) if len(answer) > 1 else answer[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in address.split(",")]

    monkeypatch.setattr(netguard.socket, "getaddrinfo", getaddrinfo)
    return table


async def fetch(server: Server, folder: Path, url: str | None = None, **given: object) -> tuple[str, bytes]:
    spool = Spool(folder)
    options = {"max_bytes": 100_000, "timeout": 2.0, "allow_private": True} | given
    media_type = await fetch_picture(url or server.url(), sink=spool, **options)  # type: ignore[arg-type]
    blob = await spool.finish(media_type)
    return media_type, b"".join([piece async for piece in blob.pieces()])


async def test_a_picture_comes_through_whole(server: Server, tmp_path: Path) -> None:
    body = bytes(range(256)) * 200
    server.says(f"HTTP/1.1 200 OK\ncontent-type: image/png\ncontent-length: {len(body)}", body)
    assert await fetch(server, tmp_path) == ("image/png", body)
    assert "accept-encoding: identity" in server.requests[0].lower()


async def test_loopback_is_refused_before_a_connection_is_made(server: Server, tmp_path: Path) -> None:
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(BadInput, match="public internet"):
            await fetch(server, tmp_path, server.url(host=host), allow_private=False)
        with pytest.raises(BadInput, match="public internet"):
            await guarded_request("POST", server.url(host=host), content=b"{}")
    assert server.requests == []


async def test_a_name_with_a_private_address_among_public_ones_is_refused(
    server: Server, names: dict[str, list[str]], tmp_path: Path
) -> None:
    names["mixed.example"] = ["8.8.8.8,10.0.0.7"]
    with pytest.raises(BadInput, match="public internet") as caught:
        await fetch(server, tmp_path, "http://mixed.example/", allow_private=False)
    assert "10.0.0.7" not in caught.value.detail
    with pytest.raises(BadInput, match="public internet"):
        await check_address("http://mixed.example/", field="webhook")


async def test_a_name_that_answers_differently_the_second_time_gains_nothing(
    server: Server, names: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names["rebind.example"] = ["8.8.8.8", "127.0.0.1"]
    connected: list[str] = []

    async def connect(_loop: object, _sock: object, address: tuple[str, int]) -> None:
        connected.append(address[0])
        raise OSError("no way out of the test")

    monkeypatch.setattr(type(asyncio.get_running_loop()), "sock_connect", connect, raising=False)
    with pytest.raises(BadUpstream):
        await guarded_request("POST", server.url(host="rebind.example"), content=b"{}")
    # it was resolved once, and what was looked at is what was connected to
    assert connected == ["8.8.8.8"]
    assert server.requests == []


async def test_the_host_header_stays_the_name(
    server: Server, names: dict[str, list[str]], tmp_path: Path
) -> None:
    names["pictures.example"] = ["127.0.0.1"]
    server.says("HTTP/1.1 200 OK\ncontent-type: image/png\ncontent-length: 1", b"x")
    await fetch(server, tmp_path, server.url(host="pictures.example"))
    assert f"host: pictures.example:{server.port}" in server.requests[0].lower()


async def test_a_redirect_is_checked_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = netguard.public
    monkeypatch.setattr(netguard, "public", lambda address: address == "127.0.0.1" or allowed(address))
    for target in (
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "file:///etc/passwd",
        "http://10.1/",
    ):
        server.says(f"HTTP/1.1 302 Found\nlocation: {target}\ncontent-length: 0")
        with pytest.raises(BadInput):
            await fetch(server, tmp_path, allow_private=False)


async def test_three_redirects_are_followed_and_a_fourth_is_not(server: Server, tmp_path: Path) -> None:
    async def hop(head: str, writer: asyncio.StreamWriter) -> None:
        left = int(head.split()[1].removeprefix("/"))
        if left:
            writer.write(b"HTTP/1.1 302 Found\r\nlocation: /%d\r\ncontent-length: 0\r\n\r\n" % (left - 1))
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 1\r\n\r\nx")

    server.handler = hop
    assert (await fetch(server, tmp_path, server.url("/3")))[1] == b"x"
    with pytest.raises(BadInput, match="3 times"):
        await fetch(server, tmp_path, server.url("/4"))


@pytest.mark.parametrize("length", ["content-length: 200000", "connection: close"])
async def test_more_bytes_than_allowed_are_refused_stated_or_not(
    server: Server, tmp_path: Path, length: str
) -> None:
    server.says(f"HTTP/1.1 200 OK\ncontent-type: image/png\n{length}", b"x" * 200_000)
    with pytest.raises(TooLarge):
        await fetch(server, tmp_path)


@pytest.mark.parametrize(
    ("text", "body", "error"),
    [
        ("HTTP/1.1 200 OK\ncontent-type: text/html\ncontent-length: 1", b"x", UnsupportedMedia),
        ("HTTP/1.1 200 OK\ncontent-length: 1", b"x", UnsupportedMedia),
        ("HTTP/1.1 404 Not Found\ncontent-length: 0", b"", BadPicture),
        (
            "HTTP/1.1 200 OK\ncontent-type: image/png\ncontent-encoding: gzip\ncontent-length: 1",
            b"x",
            BadPicture,
        ),
        ("HTTP/1.1 200 OK\ncontent-type: image/png\ncontent-length: 100", b"x", BadPicture),
        ("220 smtp.example.org ESMTP", b"", BadPicture),
        ("HTTP/1.1 302 Found\ncontent-length: 0", b"", BadPicture),
        ("HTTP/1.1 200 OK\nx: " + "y" * 20_000, b"", BadPicture),
    ],
)
async def test_whatever_else_is_sent_is_the_callers_mistake(
    server: Server, tmp_path: Path, text: str, body: bytes, error: type[BadInput]
) -> None:
    server.says(text, body)
    with pytest.raises(error) as caught:
        await fetch(server, tmp_path, field="mask")
    assert caught.value.field == "mask"
    assert 400 <= caught.value.status < 500


async def test_a_server_that_drips_is_left_at_the_deadline(server: Server, tmp_path: Path) -> None:
    async def drip(_head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 1000\r\n\r\n")
        for _ in range(100):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    server.handler = drip
    began = time.monotonic()
    with pytest.raises(BadPicture, match="within"):
        await fetch(server, tmp_path, timeout=0.3)
    assert time.monotonic() - began < 1
    with pytest.raises(DeadlineExceeded):
        server.handler = lambda _head, _writer: asyncio.sleep(1)
        await guarded_request("POST", server.url(), content=b"{}", timeout=0.2, allow_private=True)


async def test_a_webhook_sends_its_body_and_follows_no_redirect(server: Server) -> None:
    server.says("HTTP/1.1 302 Found\nlocation: http://127.0.0.1:1/\ncontent-length: 0")
    status = await guarded_request(
        "POST", server.url(), headers={"darkroom-signature": "t=1,v1=2"}, content=b"{}", allow_private=True
    )
    assert status == 302
    (head,) = server.requests
    assert head.startswith("POST /x.png ")
    assert "darkroom-signature: t=1,v1=2" in head.lower()


async def test_a_port_that_refuses_is_an_upstream_fault_for_a_webhook_and_bad_input_for_a_picture(
    server: Server, tmp_path: Path
) -> None:
    closed = "http://127.0.0.1:1024/"
    with pytest.raises(BadUpstream):
        await guarded_request("POST", closed, content=b"{}", allow_private=True)
    with pytest.raises(BadPicture):
        await fetch(server, tmp_path, closed)


async def test_a_name_that_does_not_exist_is_bad_input(server: Server, tmp_path: Path) -> None:
    for call in (
        fetch(server, tmp_path, "http://nowhere.invalid/"),
        check_address("http://nowhere.invalid/", field="webhook"),
    ):
        with pytest.raises(BadInput):
            await call
