"""Requests to addresses that callers name: only to public hosts, only as much and as long as is allowed.

A host is resolved here, every address that it has is looked at, and the connection goes to exactly those addresses:
a name that answers differently a second time gains nothing. `Host` and TLS stay those of the name.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway.blobs import Spool
from services.errors import BadInput, BadPicture, BadUpstream, DeadlineExceeded, TooLarge, UnsupportedMedia

REDIRECTS = 3
LONGEST_URL = 4096
CONNECT_TIMEOUT = 5.0
_PIECE = 64 * 1024
_REDIRECT = frozenset({301, 302, 303, 307, 308})
_AGENT = "darkroom"
# A name whose last label is a number (127.1, 0x7f000001, 2130706433) is an IPv4 address to some libraries: no name.
_NAME = re.compile(
    r"(?!(?:[^.]*\.)*(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?$)[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?\.?"
)

# what Python's `is_global` lets pass and we do not
_ALSO_REFUSED_4 = tuple(
    ip_network(n)
    for n in (
        "168.63.129.16/32",  # Azure's wire server, a metadata address in public space
        "192.0.0.0/24",  # protocol assignments, and Oracle's metadata address
        "192.88.99.0/24",  # relays from IPv6
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # automatic multicast tunnels
        "192.175.48.0/24",  # AS112
        "100.64.0.0/10",  # carriers' own networks, and Alibaba's metadata address
    )
)
_PUBLIC_6 = ip_network("2000::/3")
_ALSO_REFUSED_6 = tuple(
    ip_network(n)
    for n in (
        "2001::/23",  # Teredo, benchmarks, ORCHID: all the special ones
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which carries an IPv4 address
        "3fff::/20",  # documentation
        "2620:4f:8000::/48",  # AS112
    )
)

# Names are looked up in threads of our own: a name server that hangs must not occupy those that read files.
_RESOLVERS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="resolve")


class _Refused(OSError):
    """An address is not allowed; aiohttp hands an OSError of its resolver on as the cause of its own error."""


def public(address: str) -> bool:
    """Whether an IP address, as text, is one of the public internet's and may be spoken to."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv4Address):
        return (
            ip.is_global and not ip.is_multicast and not ip.is_reserved and not _within(ip, _ALSO_REFUSED_4)
        )
    # All that is public in IPv6 lies in 2000::/3: v4-mapped (::ffff:), NAT64 (64:ff9b::), unique local, link-local,
    # site-local, multicast and loopback addresses lie outside, and a zone (fe80::1%eth0) has no place in a public one.
    return ip.scope_id is None and ip in _PUBLIC_6 and ip.is_global and not _within(ip, _ALSO_REFUSED_6)


def _within(ip: IPv4Address | IPv6Address, networks: tuple[object, ...]) -> bool:
    return any(ip in network for network in networks)  # type: ignore[operator]


def check_url(url: str, *, field: str, allow_private: bool = False) -> URL:
    """The URL, if its form allows a request; whether its host is public shows only when it is resolved."""
    if len(url) > LONGEST_URL:
        raise BadInput(f"An address may have {LONGEST_URL} characters at most.", field=field)
    try:
        found = URL(url)
        port = found.port
    except ValueError as error:
        raise BadInput(f"This is not an address: {error}.", field=field) from error
    if found.scheme not in ("http", "https") or not found.host:
        raise BadInput("An address starts with http:// or https:// and names a host.", field=field)
    if found.user is not None or found.password is not None:
        raise BadInput("An address with a user or password in it is not used.", field=field)
    if port is None or not (port in (80, 443) or 1024 <= port <= 65535):
        raise BadInput("The port must be 80, 443 or one from 1024 up.", field=field)
    if not _is_literal(found.host) and not _NAME.fullmatch(found.raw_host or ""):
        raise BadInput(f"{found.host[:80]!r} is not a host's name.", field=field)
    if not allow_private and _is_literal(found.host) and not public(found.host):
        raise _refusal(found.host, field)
    return found


async def check_address(
    url: str, *, field: str, allow_private: bool = False, timeout: float = CONNECT_TIMEOUT
) -> None:
    """Refuse an address early, when it is submitted; it is checked again when it is used."""
    found = check_url(url, field=field, allow_private=allow_private)
    host = found.host or ""
    if allow_private or _is_literal(host):
        return
    try:
        async with asyncio.timeout(timeout):
            await _Pinned(allow_private=False).resolve(host, found.port or 80)
    except _Refused as error:
        raise _refusal(host, field) from error
    except (OSError, TimeoutError) as error:
        raise BadInput(f"The host {host!r} cannot be found.", field=field) from error


async def guarded_request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    content: bytes = b"",
    timeout: float = 10.0,
    allow_private: bool = False,
    field: str = "webhook",
) -> int:
    """One request, no redirects; the answer's status. Raises `BadInput` where the address is refused, `BadUpstream` or
    `DeadlineExceeded` where nothing answered, which another attempt may cure."""
    found = check_url(url, field=field, allow_private=allow_private)
    try:
        async with (
            asyncio.timeout(timeout),
            _session(allow_private) as session,
            session.request(method, found, headers=headers, data=content, allow_redirects=False) as answer,
        ):
            return answer.status
    except TimeoutError as error:
        raise DeadlineExceeded(f"{found.host} did not answer within {timeout:g} s.", field=field) from error
    except (aiohttp.ClientError, OSError) as error:
        if _refused(error):
            raise _refusal(found.host or "", field) from error
        raise BadUpstream(f"{found.host} could not be reached: {_reason(error)}.", field=field) from error


async def fetch_picture(
    url: str,
    *,
    sink: Spool,
    max_bytes: int,
    timeout: float,
    allow_private: bool = False,
    field: str = "image",
) -> str:
    """Write what `url` answers into `sink`; its media type. Whatever goes wrong is a fault of the address: 4xx."""
    found = check_url(url, field=field, allow_private=allow_private)
    try:
        async with asyncio.timeout(timeout), _session(allow_private) as session:
            for _ in range(REDIRECTS + 1):
                async with session.get(found, allow_redirects=False) as answer:
                    target = answer.headers.get("location")
                    if answer.status not in _REDIRECT or target is None:
                        return await _take(answer, sink, max_bytes, field)
                found = check_url(_joined(found, target, field), field=field, allow_private=allow_private)
            raise BadInput(f"The address leads on to others more than {REDIRECTS} times.", field=field)
    except TimeoutError as error:
        raise BadPicture(
            f"{found.host} did not send the picture within {timeout:g} s.", field=field
        ) from error
    except (aiohttp.ClientError, OSError) as error:
        if _refused(error):
            raise _refusal(found.host or "", field) from error
        raise BadPicture(
            f"The picture could not be fetched from {found.host}: {_reason(error)}.", field=field
        ) from error


async def _take(answer: aiohttp.ClientResponse, sink: Spool, max_bytes: int, field: str) -> str:
    host = answer.url.host
    if answer.status != 200:
        raise BadPicture(f"{host} answered {answer.status} instead of a picture.", field=field)
    media_type = answer.content_type.lower()
    if not media_type.startswith("image/"):
        raise UnsupportedMedia(f"{host} sent {media_type[:80]!r} instead of a picture.", field=field)
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        # nothing is unpacked here, so that a small answer cannot become a large one
        raise BadPicture(f"{host} sent the picture compressed, though it was asked not to.", field=field)
    too_large = f"A picture may have {max_bytes} bytes at most."
    if (answer.content_length or 0) > max_bytes:
        raise TooLarge(too_large, field=field)
    async for piece in answer.content.iter_chunked(_PIECE):
        if sink.size + len(piece) > max_bytes:
            raise TooLarge(too_large, field=field)
        await sink.write(piece)
    return media_type


def _joined(base: URL, target: str, field: str) -> str:
    try:
        return str(base.join(URL(target)))
    except ValueError as error:
        raise BadInput("The address leads on to something that is not an address.", field=field) from error


class _Pinned(AbstractResolver):
    """Resolves a name once, and gives only addresses that were looked at."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            _RESOLVERS, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
        )
        results: list[ResolveResult] = []
        for kind, _, protocol, _, sockaddr in found:
            address = str(sockaddr[0])
            # one refused address refuses the name: a public name with a private address is an attack or a mistake
            if not self._allow_private and not public(address):
                raise _Refused(address)
            results.append(
                ResolveResult(
                    hostname=host, host=address, port=port, family=kind, proto=protocol,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )  # fmt: skip
        if not results:
            raise OSError(f"{host} has no address")
        return results

    async def close(self) -> None:
        """Nothing is held."""


@asynccontextmanager
async def _session(allow_private: bool) -> AsyncIterator[aiohttp.ClientSession]:
    # One for each call: a connection kept from an earlier one would skip the look at the address.
    connector = aiohttp.TCPConnector(
        resolver=_Pinned(allow_private=allow_private),
        use_dns_cache=False,
        force_close=True,
        limit=4,
        ssl=_tls(),
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
        headers={"user-agent": _AGENT, "accept-encoding": "identity"},
    ) as session:
        yield session


_context: ssl.SSLContext | None = None


def _tls() -> ssl.SSLContext:
    global _context
    if _context is None:
        _context = ssl.create_default_context()  # reads the system's certificates: 10 ms, once
    return _context


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _refused(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, _Refused):
            return True
        error = error.__cause__ or error.__context__
    return False


def _refusal(host: str, field: str) -> BadInput:
    # the address that a name has is not told: it would show our name server's view of the private network
    return BadInput(
        f"{host!r} is not a host of the public internet.",
        field=field,
        help="Use a public address; an operator can open private networks to webhooks and to addresses of pictures "
        "with DARKROOM_WEBHOOK_ALLOW_PRIVATE.",
    )


def _reason(error: BaseException) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "its name has no address"
        case ssl.SSLError() | aiohttp.ClientSSLError():
            return "its TLS certificate or handshake is not good"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return "it ended the answer early"
        case OSError():
            return "no connection"
        case _:
            return "its answer is not HTTP"
