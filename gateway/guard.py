"""What stands before every door: proxies that are believed, size, who may call from a browser, headers of every answer.

Each is a plain ASGI class that costs a few microseconds; `guarded` puts together those that the settings ask for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from yarl import URL

from gateway.problems import encode
from gateway.settings import Settings
from services.errors import DarkroomError, Forbidden, Malformed, TooLarge

Headers = list[tuple[bytes, bytes]]

# what a page of ours may load: its own files, and pictures that a script of its own made
PAGES = (
    b"default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    b"object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# an answer that is no page loads nothing, should a browser ever take it for one
NOT_PAGES = b"default-src 'none'; frame-ancestors 'none'"
_ALWAYS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    # not no-referrer: under it a browser sends `Origin: null` with a form of our own pages
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
]
_SEEN = 256


def guarded(app: ASGIApp, settings: Settings, any_keys: Callable[[], Awaitable[bool]]) -> ASGIApp:
    """`app` behind all of this; `any_keys` is `Keys.any_exist`."""
    # the reader of the body sees to it that only LoRAs fill the second part of this
    app = BodyLimit(app, settings.max_body + settings.max_lora_bytes)
    if settings.loopback:
        app = OwnPagesOnly(app, any_keys, also=_also_ours(settings))
    if settings.cors_origins:
        app = CORSMiddleware(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["*"],
            expose_headers=["*", "location", "retry-after", "x-request-id"],
            max_age=600,
        )
    app = SecurityHeaders(app)
    if settings.trusted_proxies:
        app = TrustedProxies(app, settings.trusted_proxies)
    return app


def _also_ours(settings: Settings) -> list[str]:
    return [*settings.cors_origins, *([settings.public_url] if settings.public_url else [])]


async def refuse(scope: Scope, send: Send, error: DarkroomError) -> None:
    """Answer with the problem, and close: what is left of the body is not wanted."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": error.title})
        return
    status, headers, body = encode(error, scope.get("request_id", ""))
    headers = [*headers, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class BodyLimit:
    """Refuses by Content-Length before the first byte, and counts where there is none."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        chunked = False
        for name, value in scope["headers"]:
            if name == b"content-length":
                if not value.isdigit():
                    await refuse(scope, send, Malformed("Content-Length is not a number."))
                    return
                if len(value) > 18 or int(value) > self._limit:
                    await refuse(scope, send, self._too_large())
                    return
            elif name == b"transfer-encoding":
                chunked = True
        # with a length the server itself sees to it that no more comes
        await (self._count(scope, receive, send) if chunked else self._app(scope, receive, send))

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        size, began, refused = 0, False, False

        async def counted() -> Message:
            nonlocal size, refused
            message = await receive()
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                if size > self._limit:
                    if not began and not refused:
                        refused = True
                        await refuse(scope, send, self._too_large())
                    raise self._too_large()
            return message

        async def once(message: Message) -> None:
            nonlocal began
            began = True
            # what the app makes of the error comes too late: the answer is given
            if not refused:
                await send(message)

        try:
            await self._app(scope, counted, once)
        except TooLarge:
            if not refused:
                raise

    def _too_large(self) -> TooLarge:
        return TooLarge(f"A request may have {self._limit} bytes at most.")


class OwnPagesOnly:
    """While there is no key, whoever reaches us may use us: so only this machine's programs and our own pages do.

    A page from elsewhere is kept out by its `Origin` or `Sec-Fetch-Site`, and one that made its own name point here
    (DNS rebinding) by the `Host` that it asked for.
    """

    def __init__(
        self, app: ASGIApp, any_keys: Callable[[], Awaitable[bool]], also: Iterable[str] = ()
    ) -> None:
        self._app, self._any_keys = app, any_keys
        self._origins = {_origin(URL(url)) for url in also}
        self._hosts = {URL(url).host for url in also}
        self._seen: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            guarded_by_keys = scope["type"] == "lifespan" or await self._any_keys()
        except DarkroomError as error:
            await refuse(scope, send, error)
            return
        if guarded_by_keys:
            await self._app(scope, receive, send)
            return
        host = origin = site = mode = b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
            elif name == b"sec-fetch-mode":
                mode = value
        if not self._ours(host):
            why = "While there is no key, Darkroom answers to localhost only, and was asked for under another name."
            await refuse(scope, send, Forbidden(why, help=_HELP))
        elif not self._may(scope, host, origin, site, mode):
            why = "While there is no key, no page of another site may call Darkroom."
            await refuse(scope, send, Forbidden(why, help=_HELP))
        else:
            await self._app(scope, receive, send)

    def _ours(self, host: bytes) -> bool:
        if host in self._seen:
            return True
        name = _host_name(host)
        if name not in ("localhost", "::1") and not _is_127(name) and name not in self._hosts:
            return False
        if len(self._seen) < _SEEN:
            self._seen.add(host)
        return True

    def _may(self, scope: Scope, host: bytes, origin: bytes, site: bytes, mode: bytes) -> bool:
        if origin:
            if origin == b"null":
                # a sandbox, a file, or a page of ours under a stricter policy; only the browser can tell them apart
                return site == b"same-origin"
            scheme, _, authority = origin.partition(b"://")
            own = authority == host and scheme in (b"http", b"https")
            return own or origin.decode("latin-1").lower() in self._origins
        if site in (b"cross-site", b"same-site"):
            # a link on another page may lead here; nothing else of it may
            return mode == b"navigate" and scope.get("method") == "GET"
        return True


_HELP = "Call it as http://127.0.0.1 or http://localhost, or make a key: `darkroom keys create`."


def _host_name(host: bytes) -> str:
    name = host.decode("latin-1").lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].removesuffix(".")


def _is_127(name: str) -> bool:
    parts = name.split(".")
    return len(parts) == 4 and parts[0] == "127" and all(part.isascii() and part.isdigit() for part in parts)


def _origin(url: URL) -> str:
    return str(url.origin()).lower() if url.is_absolute() else str(url).lower()


class SecurityHeaders:
    """Adds to each answer what keeps a browser from guessing, framing and telling on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message.get("headers", ())
                policy = NOT_PAGES
                for name, value in given:
                    if name == b"content-type":
                        if value.startswith(b"text/html"):
                            policy = PAGES
                    elif name == b"content-security-policy":
                        policy = b""
                message["headers"] = [*given, *_ALWAYS]
                if policy:
                    message["headers"].append((b"content-security-policy", policy))
            await send(message)

        await self._app(scope, receive, with_headers)


class TrustedProxies:
    """Believes X-Forwarded-For and -Proto where they come from a proxy of ours, and only as far as ours wrote them."""

    def __init__(self, app: ASGIApp, networks: Iterable[str]) -> None:
        self._app = app
        self._networks: list[IPv4Network | IPv6Network] = [
            ip_network(item, strict=False) for item in networks
        ]
        self._known: dict[str, bool] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if scope["type"] != "lifespan" and client and self._trusted(client[0]):
            forwarded = proto = b""
            for name, value in scope["headers"]:
                if name == b"x-forwarded-for":
                    forwarded = forwarded + b"," + value if forwarded else value
                elif name == b"x-forwarded-proto":
                    proto = value
            if forwarded:
                scope["client"] = (self._client(forwarded.decode("latin-1"), client[0]), 0)
            # the last word is of the proxy nearest to us
            scheme = proto.rpartition(b",")[2].strip().lower()
            if scheme in (b"http", b"https"):
                secure = scheme == b"https"
                scope["scheme"] = (
                    ("wss" if secure else "ws")
                    if scope["type"] == "websocket"
                    else ("https" if secure else "http")
                )
        await self._app(scope, receive, send)

    def _client(self, forwarded: str, nearest: str) -> str:
        """From the right, the first address that is not a proxy of ours; what stands left of it, anybody may write."""
        found = nearest
        for item in reversed(forwarded.split(",")):
            address = _address(item)
            if address is None:
                break
            found = address
            if not self._trusted(address):
                break
        return found

    def _trusted(self, address: str) -> bool:
        known = self._known.get(address)
        if known is None:
            try:
                ip = ip_address(address)
            except ValueError:
                return False
            ip = getattr(ip, "ipv4_mapped", None) or ip
            known = any(ip in network for network in self._networks)
            if len(self._known) >= _SEEN:
                self._known.clear()
            self._known[address] = known
        return known


def _address(item: str) -> str | None:
    text = item.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return None
