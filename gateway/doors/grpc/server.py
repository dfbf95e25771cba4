"""The gRPC server of a gateway: `darkroom.v1.Darkroom`, health and reflection on one port, in the same event loop.

It listens where HTTP does, with the same certificate. `start` opens the port, `drain` says that the end comes, `stop`
closes.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from gateway.desk import Desk
from gateway.doors.grpc.arrive import Arrivals
from gateway.doors.grpc.calls import Calls, Method
from gateway.doors.grpc.convert import Converter
from gateway.doors.grpc.jobs import Jobs
from gateway.doors.grpc.messages import CHUNK, SERVICE
from gateway.doors.grpc.run import Run
from gateway.doors.grpc.schema import Schema, schema
from gateway.intake import Intake
from gateway.keys import StartRefused
from gateway.logs import Logs
from gateway.settings import GRPC_PORT, Settings
from gateway.state import GatewayState

log = logging.getLogger("darkroom.grpc")

LAST_WORDS = 2.0  # seconds for answers that are being sent when the drain is over
LARGEST_MESSAGE = 4 * CHUNK
AT_ONCE = 4096  # calls; more are refused
_OPTIONS = [
    ("grpc.so_reuseport", 0),  # else a second gateway would share the port, and its callers, in silence
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", -1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
]


class GrpcServer:
    def __init__(self, state: GatewayState, desk: Desk, intake: Intake, folder: Path, lines: Logs) -> None:
        self._state, self._desk, self._intake = state, desk, intake
        self._folder, self._lines = folder, lines
        self._server: grpc.aio.Server | None = None
        self._health = health.aio.HealthServicer()
        self.port = 0

    async def start(self) -> None:
        settings = self._state.settings
        if settings.grpc_port == 0:
            return
        server = self._assembled(schema())
        port = GRPC_PORT if settings.grpc_port is None else settings.grpc_port
        place = f"[{settings.host}]:{port}" if ":" in settings.host else f"{settings.host}:{port}"
        try:
            credentials = _credentials(settings)
            if credentials is None:
                self.port = server.add_insecure_port(place)
            else:
                self.port = server.add_secure_port(place, credentials)
        except (
            RuntimeError
        ) as error:  # it cannot be bound; whoever named the port must know, nobody else need
            if settings.grpc_port is not None:
                raise StartRefused(
                    f"The port {port} for gRPC is taken or not allowed on {settings.host}. "
                    "Set DARKROOM_GRPC_PORT to a free one, or to 0 for none."
                ) from error
            log.warning("the port %d is taken, so there is no gRPC: DARKROOM_GRPC_PORT names another", port)
            return
        await server.start()
        await self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        self._server = server
        log.info("gRPC is at %s:%d", settings.host, self.port)

    async def drain(self) -> None:
        """New calls are refused; those who ask for our health are told."""
        await self._health.enter_graceful_shutdown()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(LAST_WORDS)
            self._server = None

    def _assembled(self, own: Schema) -> grpc.aio.Server:
        server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=AT_ONCE)
        converter = Converter(own)
        arrivals = Arrivals(self._state.settings, self._folder, own, converter)
        jobs = Jobs(self._state, self._intake, arrivals, converter)
        methods: dict[str, Method] = {
            "Run": Run(self._desk, arrivals, converter),
            "Submit": jobs.submit,
            "Get": jobs.get,
            "Watch": jobs.watch,
            "Cancel": jobs.cancel,
            "List": jobs.list,
            "Fetch": jobs.fetch,
        }
        calls = Calls(self._state, self._lines, own)
        handlers = {name: calls.handler(name, method) for name, method in methods.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server, pool=_shown(own))
        return server


def _shown(own: Schema) -> DescriptorPool:
    """What reflection may tell: ours, and the two services beside it."""
    for module in (health_pb2, reflection_pb2):
        own.pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return own.pool


def _credentials(settings: Settings) -> Any:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return grpc.ssl_server_credentials([(settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())])
