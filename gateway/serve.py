"""One gateway process, with the settings that the environment gives it: uvicorn around the application, and its end."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import time
from types import FrameType

import uvicorn
from pydantic import ValidationError

from gateway.app import Gateway
from gateway.keys import StartRefused
from gateway.protocol import Protocol
from gateway.settings import Settings
from services.errors import DarkroomError

BACKLOG = 4096
LAST_WORDS = 2  # seconds for answers that are being written when the drain is over


class Server(uvicorn.Server):
    """Starts and stops the gateway around uvicorn's own serving, and tells it of a signal at once, so that it drains
    while what is in flight is still served."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._loop: asyncio.AbstractEventLoop | None = None
        self._signalled = False
        self.refused: Exception | None = None

    async def startup(self, sockets: object = None) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            await self._gateway.start()
        except (StartRefused, DarkroomError) as error:
            self.refused, self.should_exit = error, True
            return
        await super().startup(sockets)  # type: ignore[arg-type]
        # what is alive now stays: the collector need not look at it again at every turn
        gc.collect()
        gc.freeze()
        gc.set_threshold(
            20_000, 20, 100
        )  # with 2,000 calls in flight a full collection stops the loop for 100 ms

    async def shutdown(self, sockets: object = None) -> None:
        await super().shutdown(sockets)  # type: ignore[arg-type]
        await self._gateway.stop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the drain, and the port stays open until it ends: /readyz has to say so there."""
        if self._loop is None:
            super().handle_exit(sig, frame)
        elif self._signalled:
            self._loop.call_soon_threadsafe(self._hurry)
        else:
            self._signalled = True
            self._loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        began, settings = time.monotonic(), self._gateway.settings

        def drained(_: object) -> None:
            # what is no call to a service (an upload, a download) has the rest of the time
            left = settings.drain_lead + settings.drain - (time.monotonic() - began)
            self.config.timeout_graceful_shutdown = max(LAST_WORDS, round(left))
            self.should_exit = True

        self._gateway.begin_drain().add_done_callback(drained)
        asyncio.get_running_loop().call_later(settings.drain_lead, self._close_idle)

    def _close_idle(self) -> None:
        """A kept connection on which nothing was asked since would bring its next request here; a new one need not."""
        for connection in list(self.server_state.connections):
            connection.shutdown()

    def _hurry(self) -> None:
        """A second signal."""
        self._gateway.begin_drain().cancel()
        self.should_exit = self.force_exit = True


def serve(settings: Settings) -> int:
    gateway = Gateway(settings)
    config = uvicorn.Config(
        gateway.app(),
        host=settings.host,
        port=settings.port,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,  # guard.py does it, for trusted proxies only
        backlog=BACKLOG,
        timeout_keep_alive=75,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=str(settings.tls_key) if settings.tls_key else None,
    )
    server = Server(config, gateway)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        server.run()
    finally:
        gateway.logs.close()
    if server.refused is not None:
        raise server.refused
    return 0 if server.started else 1


def main() -> int:
    try:
        return serve(Settings())
    except ValidationError as error:
        for item in error.errors():
            name = (
                "DARKROOM_" + "_".join(str(part) for part in item["loc"]).upper()
                if item["loc"]
                else "settings"
            )
            sys.stderr.write(f"{name}: {item['msg'].removeprefix('Value error, ')}\n")
    except (StartRefused, DarkroomError) as error:
        sys.stderr.write(f"{error}\n")
    return 2
