"""uvicorn's HTTP protocol with bounds on a request's head, and problem documents for what is no HTTP.

uvicorn's own takes a head of any size, and waits for it for ever; both come before any key was looked at.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.problems import encode
from services.errors import DarkroomError, HeadTooLarge, Malformed, TooSlow

MAX_HEAD = 64 * 1024
HEAD_SECONDS = 30.0


class Protocol(HttpToolsProtocol):
    _head = 0  # bytes of headers and trailers of the request that is being read
    _in_head = True
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        waited = self._in_head
        super().data_received(data)
        # the parser keeps a header that does not end; it is counted here, before it is anybody's
        if waited and self._in_head and not self.transport.is_closing():
            self._head += len(data)
            if self._head > MAX_HEAD:
                self._refuse(_too_large())

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._in_head:
            self._head, self._in_head = 0, True
            self._wait_for_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:  # a trailer, of which none means anything here
            return
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_came()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD:
            raise ValueError("a head that came at once, and is too large")  # becomes send_400_response
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._head_came()
        began = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if began:
            self.transport.close()  # half an answer is out
            return
        large = sum(len(name) + len(value) for name, value in self.headers or ()) > MAX_HEAD
        self._refuse(_too_large() if large else Malformed("What came is not valid HTTP."))

    def _wait_for_head(self) -> None:
        self._head_came()
        self._late = self.loop.call_later(HEAD_SECONDS, self._too_late)

    def _head_came(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        if not self.transport.is_closing():
            self._refuse(TooSlow(f"The request's headers did not arrive within {HEAD_SECONDS:.0f} s."))

    def _refuse(self, error: DarkroomError) -> None:
        status, headers, body = encode(error)
        lines = [b"HTTP/1.1 %d %s" % (status, error.title.encode())]
        lines += [name + b": " + value for name, value in headers]
        self.transport.write(b"\r\n".join([*lines, b"connection: close", b"", body]))
        self.transport.close()


def _too_large() -> HeadTooLarge:
    return HeadTooLarge(f"A request's headers may have {MAX_HEAD} bytes in all.")
