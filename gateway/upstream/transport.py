"""The one module that knows httpx, httpx-aiohttp and aiohttp: a request goes out, its answer comes back in pieces.

Foreign exceptions become ours at exactly this boundary. The API is httpx's, over httpx-aiohttp's transport; the parts
of it that cost most on the way of every call are replaced: URLs stay parsed, whole bodies go out in one write, and
answers are read in the pieces in which they arrive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import httpx
import yarl
from httpx_aiohttp import AiohttpTransport

from gateway.upstream.multipart import Body
from services.errors import BadUpstream, DarkroomError, DeadlineExceeded, NoEndpoint

# Below the five seconds after which uvicorn closes an idle connection: a request must not meet a closing one.
KEEPALIVE = 4.0
# At twice as much reading waits. uvloop reads up to 256 KB at once: so what waits for a slow client is one such read.
READ_BUFFER = 64 * 1024
# Headers that aiohttp would add, and that no service reads.
_NEEDLESS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_FOREIGN = (aiohttp.ClientError, httpx.HTTPError, OSError)


class Address:
    """An endpoint's base address and the parsed URLs below it."""

    __slots__ = ("_parsed", "text")

    def __init__(self, text: str) -> None:
        self.text = text.rstrip("/")
        self._parsed: dict[str, tuple[httpx.URL, yarl.URL]] = {}

    def at(self, path: str) -> tuple[httpx.URL, yarl.URL]:
        parsed = self._parsed.get(path)
        if parsed is None:
            text = self.text + path
            parsed = self._parsed[path] = (httpx.URL(text), yarl.URL(text))
        return parsed


class Answer:
    """A response whose head has come. `piece()` reads on; `close()` hangs up unless it was read to its end."""

    __slots__ = ("_response", "_stream", "content_type", "headers", "status")

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._stream: Any = response.stream
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.content_type = response.headers.get("content-type", "")

    def at_hand(self) -> bytes:
        """What has arrived and was not read yet; empty when there is nothing, which need not be the end."""
        try:
            return self._stream.read_now()  # type: ignore[no-any-return]
        except _FOREIGN as error:
            raise ours(error) from error

    async def piece(self) -> bytes:
        """What arrives next; empty at the end."""
        try:
            return await self._stream.read_any()  # type: ignore[no-any-return]
        except _FOREIGN as error:
            raise ours(error) from error

    async def body(self, limit: int) -> bytes:
        """All of it, at most about `limit` bytes."""
        pieces, size = [], 0
        while size < limit and (piece := await self.piece()):
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)

    @property
    def at_end(self) -> bool:
        return bool(self._stream.at_end)

    def close(self) -> None:
        self._stream.hang_up()


class Transport:
    """The connections to one service's endpoints, apart from every other service's."""

    def __init__(self, *, connections: int, connect_timeout: float) -> None:
        self._connections, self._connect_timeout = connections, connect_timeout
        self._inner: _Inner | None = None

    async def open(self) -> None:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections, keepalive_timeout=KEEPALIVE, ttl_dns_cache=5
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout),
            skip_auto_headers=_NEEDLESS,
            auto_decompress=False,
            trust_env=False,
            read_bufsize=READ_BUFFER,
        )
        # `verify` here only spares httpx reading certificates that it would not use: the session verifies
        self._inner = _Inner(client=session, verify=False, trust_env=False)

    async def close(self) -> None:
        if self._inner is not None:
            inner, self._inner = self._inner, None
            await inner.aclose()

    async def post(self, address: Address, path: str, headers: dict[str, str], body: Body) -> Answer:
        return await self._send("POST", address, path, headers, body)

    async def get(self, address: Address, path: str) -> Answer:
        return await self._send("GET", address, path, {}, None)

    async def pass_on(
        self, method: str, address: Address, path: str, headers: dict[str, str], data: bytes
    ) -> Answer:
        """A request with a body that is at hand."""
        return await self._send(method, address, path, headers, data)

    async def _send(
        self, method: str, address: Address, path: str, headers: dict[str, str], body: Body | bytes | None
    ) -> Answer:
        if self._inner is None:
            raise RuntimeError("the transport is not open: call `await open()` first")
        url, parsed = address.at(path)
        stream = _Stream(body) if isinstance(body, Body) else _Whole(body or b"")
        encoded = httpx.Headers(
            headers, encoding="latin-1"
        )  # else httpx tries three encodings on every header
        request = httpx.Request(method, url, headers=encoded, stream=stream, extensions={"parsed": parsed})
        request.headers.encoding = "latin-1"
        try:
            return Answer(await self._inner.handle_async_request(request))
        except _FOREIGN as error:
            if isinstance(body, Body) and body.broken is not None:
                raise body.broken from error  # our side could not read the picture: not the endpoint's fault
            raise ours(error) from error


def ours(error: Exception) -> DarkroomError:
    """A foreign exception as one of the tree; raise it `from` the foreign one."""
    words = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        why = getattr(getattr(error, "os_error", None), "strerror", None) or "it did not answer"
        return NoEndpoint(f"No connection to the service could be made ({why}).", retry_after=1)
    if isinstance(error, (TimeoutError, httpx.TimeoutException)):
        return DeadlineExceeded(f"The service did not answer in time: {words}.")
    if isinstance(error, aiohttp.ClientPayloadError):
        return BadUpstream("The service ended in the middle of its answer; the call may be repeated.")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return BadUpstream("The service hung up before it answered; the call may be repeated.")
    if isinstance(error, OSError):
        words = error.strerror or type(error).__name__
        return BadUpstream(f"The connection to the service broke ({words}); the call may be repeated.")
    return BadUpstream(f"The service's answer cannot be read: {words}.")


class _Stream(httpx.AsyncByteStream):
    """A multipart body, as httpx wants to see it."""

    def __init__(self, body: Body) -> None:
        self.body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.body.pieces()


class _Whole(httpx.AsyncByteStream):
    """A body that is at hand."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data


class _AnswerStream(httpx.AsyncByteStream):
    """aiohttp's response, read in the pieces in which it arrives instead of in 16 kB."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._content = response.content

    @property
    def at_end(self) -> bool:
        return self._content.at_eof()

    def read_now(self) -> bytes:
        return self._content.read_nowait()

    async def read_any(self) -> bytes:
        return await self._content.readany()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.read_any():
            yield piece

    def hang_up(self) -> None:
        """Closes the connection; one whose answer was read to the end went back to the pool already."""
        self._response.close()

    async def aclose(self) -> None:
        self.hang_up()


class _Inner(AiohttpTransport):
    """httpx-aiohttp's transport with a leaner way through: its own takes a third of a call's time in conversions."""

    client: aiohttp.ClientSession

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        stream = request.stream
        data: bytes | AsyncIterator[bytes] | None = None
        if isinstance(stream, _Stream):
            data = stream.body.pieces() if stream.body.whole is None else stream.body.whole
        elif isinstance(stream, _Whole):
            data = stream.data or None
        response = await self.client.request(
            request.method,
            request.extensions["parsed"],
            headers=request.headers.multi_items(),
            data=data,
            allow_redirects=False,
        )
        return httpx.Response(
            response.status, headers=response.raw_headers, stream=_AnswerStream(response), request=request
        )

    async def aclose(self) -> None:
        await self.client.close()
        # aiohttp closes sockets on the loop's next turn
        await asyncio.sleep(0)
