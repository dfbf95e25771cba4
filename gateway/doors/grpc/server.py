"""The gRPC servers of a gateway, in the same event loop as HTTP and at the same address.

    grpc_port         darkroom.v1.Darkroom, health, reflection
    inference_port    what other servers' clients speak: the Open Inference Protocol, TensorFlow Serving's

The second takes messages as large as a request may be, since its clients know no chunks; it has nothing that can be
asked without a key. `start` opens the ports, `drain` says that the end comes, `stop` closes.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from gateway.desk import Desk
from gateway.doors.grpc import oip, oip_messages
from gateway.doors.grpc.arrive import Arrivals
from gateway.doors.grpc.calls import LARGEST_MESSAGE, Calls, Method, Served
from gateway.doors.grpc.convert import Converter
from gateway.doors.grpc.jobs import Jobs
from gateway.doors.grpc.messages import METHODS, SERVICE
from gateway.doors.grpc.run import Run
from gateway.doors.grpc.schema import Schema, schema
from gateway.doors.grpc.wire import Passed
from gateway.intake import Intake
from gateway.keys import StartRefused
from gateway.logs import Logs
from gateway.settings import GRPC_PORT, INFERENCE_PORT, Settings
from gateway.state import GatewayState
from services.operations import SketchToImage

log = logging.getLogger("darkroom.grpc")

LAST_WORDS = 2.0  # seconds for answers that are being sent when the drain is over
AT_ONCE = 1024  # calls; more are refused


class GrpcServers:
    def __init__(self, state: GatewayState, desk: Desk, intake: Intake, folder: Path, lines: Logs) -> None:
        self._state, self._desk, self._intake = state, desk, intake
        self._folder, self._calls = folder, Calls(state, lines)
        self._servers: list[grpc.aio.Server] = []
        self._health = health.aio.HealthServicer()
        self._going: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        settings = self._state.settings
        if settings.grpc_port != 0:
            own = _server(LARGEST_MESSAGE)
            self._add_own(own, schema())
            await self._open(own, "grpc_port", settings.grpc_port, GRPC_PORT)
            await self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        if settings.inference_port != 0:
            foreign = _server(settings.max_body)
            self._add_open_inference(foreign)
            self._add_tensorflow_serving(foreign)
            await self._open(foreign, "inference_port", settings.inference_port, INFERENCE_PORT)

    async def drain(self) -> None:
        """Those who ask for our health are told."""
        await self._health.enter_graceful_shutdown()

    def send_away(self, seconds: float) -> None:
        """Clients are told to connect anew, which finds another gateway; calls in flight may finish."""
        self._going = [asyncio.create_task(server.stop(seconds)) for server in self._servers]

    async def stop(self) -> None:
        servers, self._servers = self._servers, []
        await asyncio.gather(*(server.stop(LAST_WORDS) for server in servers))

    async def _open(self, server: grpc.aio.Server, setting: str, asked: int | None, usual: int) -> None:
        settings, port = self._state.settings, usual if asked is None else asked
        place = f"[{settings.host}]:{port}" if ":" in settings.host else f"{settings.host}:{port}"
        variable = f"DARKROOM_{setting.upper()}"
        try:
            credentials = _credentials(settings)
            if credentials is None:
                server.add_insecure_port(place)
            else:
                server.add_secure_port(place, credentials)
        except (
            RuntimeError
        ) as error:  # it cannot be bound; whoever named the port must know, nobody else need
            if asked is not None:
                raise StartRefused(
                    f"The port {port} for gRPC is taken or not allowed on {settings.host}. "
                    f"Set {variable} to a free one, or to 0 for none."
                ) from error
            log.warning("the port %d is taken, so there is no gRPC: %s names another", port, variable)
            return
        await server.start()
        self._servers.append(server)
        self._state.ports[setting.removesuffix("_port")] = port
        log.info("gRPC is at %s (%s)", place, variable)

    def _add_own(self, server: grpc.aio.Server, own: Schema) -> None:
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
        self._add(
            server,
            SERVICE,
            {
                name: Served(
                    f"/{SERVICE}/{name}",
                    method,
                    own.message(own.request(name)).FromString,
                    streams_out=METHODS[name][3],
                )
                for name, method in methods.items()
            },
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server, pool=_shown(own))

    def _add_open_inference(self, server: grpc.aio.Server) -> None:
        methods = oip.OpenInferenceRpc(self._desk).methods()
        self._add(
            server,
            oip_messages.SERVICE,
            {
                name: Served(
                    f"/{oip_messages.SERVICE}/{name}",
                    method,
                    oip_messages.message(f"{name}Request").FromString,
                    streams_out=name == "ModelInfer",  # one message, and it is known when it has gone out
                    door=oip.DOOR,
                    largest=self._state.settings.max_body,
                )
                for name, method in methods.items()
            },
        )

    def _add_tensorflow_serving(self, server: grpc.aio.Server) -> None:
        from gateway.doors.grpc import tfserving  # its messages are for those who have that service

        if SketchToImage.service not in self._state.settings.services:
            return
        methods = tfserving.TensorFlowServingRpc(self._state).methods()
        for service in sorted(set(tfserving.METHODS.values())):
            self._add(
                server,
                service,
                {
                    name: Served(
                        f"/{service}/{name}",
                        method,
                        Passed,
                        streams_out=False,
                        door=tfserving.DOOR,
                        largest=self._state.settings.max_body,
                    )
                    for name, method in methods.items()
                    if tfserving.METHODS[name] == service
                },
            )

    def _add(self, server: grpc.aio.Server, service: str, methods: dict[str, Served]) -> None:
        handlers = {name: self._calls.handler(served) for name, served in methods.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))


def _server(largest: int) -> grpc.aio.Server:
    options = [
        ("grpc.so_reuseport", 0),  # else a second gateway would share the port, and its callers, in silence
        ("grpc.max_receive_message_length", largest),
        ("grpc.max_send_message_length", -1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    return grpc.aio.server(options=options, maximum_concurrent_rpcs=AT_ONCE)


def _shown(own: Schema) -> DescriptorPool:
    """What reflection may tell: ours, and the two services beside it."""
    for module in (health_pb2, reflection_pb2):
        own.pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return own.pool


def _credentials(settings: Settings) -> Any:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return grpc.ssl_server_credentials([(settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())])
