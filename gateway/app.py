"""The gateway as one ASGI application: settings in, everything that it consists of built and hung together.

    client ─> Access ─> guards ─> Front ─┬─> RunDoor    POST /v1/{operation}
                                         ├─> dialects   what other programs' clients speak
                                         └─> FastAPI    jobs, assets, catalogue, admin, pages, health
    client ─> GrpcServers                                the same over gRPC, on a port of its own

`start` opens what needs the event loop, `begin_drain` is told of a coming end, `stop` closes in reverse order.
"""

from __future__ import annotations

import asyncio
import logging
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.routing import Route

from gateway import guard, logs, openapi, problems, telemetry
from gateway.access import Access
from gateway.assets import Assets
from gateway.desk import Desk
from gateway.doors import admin, assets, catalogue, jobs, openai_errors, pages
from gateway.doors.a1111 import A1111
from gateway.doors.iopaint import IOPaint
from gateway.doors.mcp.door import ModelContext
from gateway.doors.native import RunDoor
from gateway.doors.oip import OpenInference
from gateway.doors.openai import OpenAI
from gateway.doors.rembg import Rembg
from gateway.doors.tfserving import TensorFlowServing
from gateway.forms import Reader
from gateway.front import Front
from gateway.intake import Intake
from gateway.jobs.dispatcher import Dispatcher
from gateway.jobs.events import open_events
from gateway.jobs.queue import JobQueue
from gateway.jobs.retention import Retention
from gateway.jobs.webhooks import Webhooks
from gateway.keys import Keys, check_exposure
from gateway.limits import Limits
from gateway.metrics import Metrics
from gateway.room import Room
from gateway.scrape import MetricsEndpoint, MetricsServer
from gateway.settings import Settings
from gateway.signing import Signer
from gateway.state import GatewayState
from gateway.store.database import Database
from gateway.upstream.upstream import Upstream

if TYPE_CHECKING:
    from gateway.doors.grpc.server import GrpcServers

log = logging.getLogger("darkroom.gateway")

# the doors that speak somebody else's language
DIALECTS = (OpenAI, A1111, IOPaint, Rembg, OpenInference, TensorFlowServing, ModelContext)


class Gateway:
    """What runs in one gateway process."""

    def __init__(self, settings: Settings) -> None:
        settings.data.mkdir(parents=True, exist_ok=True)
        uploads = settings.data / "uploads"
        uploads.mkdir(exist_ok=True)
        for left in uploads.glob("upload-*"):  # of a process that was killed; the data folder has one owner
            left.unlink(missing_ok=True)
        self.settings = settings
        self.logs = logs.Logs(settings)
        self._uploads = uploads
        db, metrics = Database(settings.database), Metrics()
        queue = JobQueue(db, settings)
        self.state = GatewayState(
            settings=settings,
            db=db,
            keys=Keys(db, settings, metrics),
            limits=Limits(db, settings, metrics),
            metrics=metrics,
            upstream=Upstream(settings, metrics),
            queue=queue,
            events=open_events(settings, queue.get, metrics),
            assets=Assets(settings, db, metrics.fault),
            signer=Signer.open(settings),
        )
        self._dispatcher = Dispatcher(self.state)
        self._webhooks = Webhooks(self.state)
        self._retention = Retention(self.state)
        private = settings.loopback or not settings.metrics_port
        self._scraped = None if private else MetricsServer(metrics, settings.host, settings.metrics_port)
        self._grpc: GrpcServers | None = None
        self._ending: asyncio.Task[None] | None = None
        room = Room()
        self._reader = Reader(
            uploads,
            max_body=settings.max_body,
            max_file=settings.max_picture_bytes,
            max_weights=settings.max_lora_bytes,
            room=room,
        )
        self._intake = Intake(settings, self.state.assets, uploads, room)
        self._desk = Desk(self.state, self._reader, self._intake, uploads, room)

    def app(self) -> Any:
        """The ASGI application, guards around it."""

        rest = FastAPI(title="Darkroom", version=version("darkroom"), docs_url=None, redoc_url=None)
        for router in (jobs.router, assets.router, catalogue.router, admin.router):
            rest.include_router(router)
        pages.install(rest)
        if self.settings.loopback:
            scraped = MetricsEndpoint(self.state.metrics)
            rest.router.routes.append(Route("/metrics", scraped, methods=["GET"], include_in_schema=False))
        problems.install(rest, openai_errors.beside)
        openapi.install(rest)
        settings, reader, intake = self.settings, self._reader, self._intake
        run = RunDoor(self.state, reader, intake)
        dialects = [dialect(self._desk) for dialect in DIALECTS]
        front = Front(self.state, run, rest, reader, intake, dialects)
        inner = guard.guarded(front, settings, self.state.keys.any_exist)
        if settings.otlp_endpoint:
            inner = telemetry.Traces(inner)
        return Access(inner, self.logs, self.state.metrics)

    async def start(self) -> None:
        self.logs.start()
        telemetry.start(self.settings, "darkroom-gateway")
        state = self.state
        await state.db.open(migrate=self.settings.migrate == "start")
        await state.keys.seed()
        check_exposure(self.settings, await state.keys.any_exist())
        await state.limits.start()
        state.metrics.watch(
            services=state.upstream.status,
            queue=state.queue.depths,
            log_lines_dropped=lambda: self.logs.dropped,
            leases_lost=lambda: state.queue.leases_lost,
            data=self.settings.data,
        )
        await state.metrics.start()
        if self._scraped is not None:
            await self._scraped.start()
        await state.upstream.start()
        await self._dispatcher.start()
        await self._webhooks.start()
        await self._retention.start()
        if self.settings.grpc_port != 0 or self.settings.inference_port != 0:
            from gateway.doors.grpc.server import GrpcServers  # whose import nobody else need wait for

            self._grpc = GrpcServers(self.state, self._desk, self._intake, self._uploads, self.logs)
            await self._grpc.start()
        log.info("ready to answer on %s:%d", self.settings.host, self.settings.port)

    def begin_drain(self) -> asyncio.Task[None]:
        """SIGTERM came: say so in /readyz, hand jobs back. Balancers need a moment to see it, so that calls are taken
        for `drain_lead` seconds more; then event streams end, and calls in flight may finish."""
        if self._ending is None:
            self.state.draining = True
            self._ending = asyncio.get_running_loop().create_task(self._drain())
        return self._ending

    async def _drain(self) -> None:
        lead, drain = self.settings.drain_lead, self.settings.drain
        log.info("shutting down: calls are taken for %g s more, and then have %g s to finish", lead, drain)
        if self._grpc is not None:
            await self._grpc.drain()
        jobs = asyncio.create_task(self._dispatcher.stop())
        calls = None
        try:
            await asyncio.sleep(lead)
            self.state.refusing = True
            if self._grpc is not None and lead:
                self._grpc.send_away(drain)
            calls = asyncio.create_task(self.state.upstream.drain(drain))
            await jobs
            await self.state.events.close()
            await calls
        finally:
            for task in (jobs, calls):
                if task is not None:
                    task.cancel()

    async def stop(self) -> None:
        await asyncio.wait([self.begin_drain()])
        if self._grpc is not None:
            await self._grpc.stop()
        await self._dispatcher.stop(0)  # of a gateway that was stopped while it started
        await self._retention.stop()
        await self._webhooks.stop()
        state = self.state
        await state.upstream.close()
        await state.limits.close()
        if self._scraped is not None:
            await self._scraped.close()
        await state.metrics.close()
        await state.keys.close()
        await state.db.close()
        telemetry.stop()
        self.logs.close()
