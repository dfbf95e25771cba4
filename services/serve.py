"""Starts one service: `python -m services.serve NAME --host H --port P`.

NAME is a service of ours (`cleanup`), an extension's package, or the name of a service that an extension has.
It is BentoML's application in one process, without the second one that `bentoml serve` puts above it: the
same routes, ready sooner, and SIGTERM drains it and leaves nothing behind:

    SIGTERM ── drain_lead: says so, takes calls ── drain: takes none, finishes ── ends what is left, leaves
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import signal
import sys
from types import FrameType
from typing import Any

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

REFUSED = 2  # the exit code of a start that its settings forbid: whoever started it need not try again


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m services.serve", description="Start one service of Darkroom."
    )
    parser.add_argument("name", help="the service, or the package of an extension")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    asked = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # uvicorn raises the signal again when it has shut down
    # a container's first process is not ended by a signal without a handler, and the imports take seconds
    from services.installed import module_of

    try:
        bento = find(module_of(asked.name))
    except SystemExit as refusal:
        if not isinstance(refusal.code, str):
            raise
        sys.stderr.write(f"{refusal.code}\n")
        sys.exit(REFUSED)
    serve(bento, asked.host, asked.port)


def find(module: str) -> Any:
    """The module's `bento`, or its one Service class, hosted."""
    from services.bento import hosted
    from services.serving import Service

    loaded = importlib.import_module(module)
    if hasattr(loaded, "bento"):
        return loaded.bento
    own = [
        value
        for value in vars(loaded).values()
        if isinstance(value, type) and issubclass(value, Service) and value.__module__ == module
    ]
    if len(own) != 1:
        raise SystemExit(f"{module} must have one subclass of services.serving.Service; it has {len(own)}.")
    return hosted(own[0])


def serve(bento: Any, host: str, port: int) -> None:
    """Runs BentoML's application until a signal, then until the work has ended or the drain time is over."""
    import uvicorn
    from bentoml._internal.configuration.containers import BentoMLContainer
    from bentoml._internal.server.metrics.prometheus import PrometheusClient

    app = bento.inner.app
    # one process needs no folder in which several share their numbers
    BentoMLContainer.metrics_client.set(PrometheusClient(multiproc=False))
    logging.getLogger("bentoml").setLevel(logging.WARNING)
    # it logs a caller's mistake as an exception; our own faults are logged where they happen
    logging.getLogger("bentoml._internal.server.http_app").setLevel(logging.CRITICAL)
    lead, drain = app.settings.drain_lead, app.settings.drain

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            first = not app.draining
            app.announce_end()
            wait = lead if first and app.loaded else 0.0  # a second signal is an order to hurry
            loop.call_soon_threadsafe(loop.call_later, wait, self._close, sig, frame)

        def _close(self, sig: int, frame: FrameType | None) -> None:
            app.drain()
            loop.call_later(drain, app.stop_work)
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        bento.to_asgi(),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(drain) + 3,
    )
    server = Server(config)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        loop = runner.get_loop()
        try:
            runner.run(server.serve())
        except SystemExit as end:
            # All is closed. With numba and SciPy loaded the interpreter's own tidying up takes seconds of a core,
            # and a thread that does not look at its job would keep a drained process alive.
            logging.shutdown()
            os._exit(end.code if isinstance(end.code, int) else 1)


if __name__ == "__main__":
    main()
