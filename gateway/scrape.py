"""Where Prometheus reads: `/metrics` as an ASGI endpoint, or on a port of its own where the main one is public."""

from __future__ import annotations

from aiohttp import web
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from gateway.keys import StartRefused
from gateway.metrics import Metrics


class MetricsEndpoint:
    """GET only; hang it where the gateway listens on loopback."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content_type, body = await self._metrics.exposition(Headers(scope=scope).get("accept", ""))
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class MetricsServer:
    """The same on `settings.metrics_port`, which the network's rules keep from the public."""

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        self._metrics, self._host, self._port = metrics, host, port
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port in use; also where 0 was asked for and the system chose one."""
        return int(self._runner.addresses[0][1]) if self._runner and self._runner.addresses else self._port

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/metrics", self._answer)
        self._runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self.close()
            raise StartRefused(
                f"The port {self._port} for metrics is taken or not allowed on {self._host}. "
                "Set DARKROOM_METRICS_PORT to a free one, or to 0 for none."
            ) from error

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.Response:
        content_type, body = await self._metrics.exposition(request.headers.get("accept", ""))
        return web.Response(body=body, headers={"content-type": content_type})
