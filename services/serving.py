"""The base of a service: in comes a call from the gateway, out goes a stream of frames.

Whoever adds a service writes a class with `load` and one method for each of its operations:

    class CleanupService(Service):
        def load(self, models: Models) -> None: ...
        def cleanup(self, ask: Cleanup, job: Job) -> Image.Image: ...

A method gets typed parameters with decoded pictures, and gives one picture, several, a dict, or yields
Progress, Preview and results; it may be async. The rest is here: admission within the capacity, the schema's
digest, the event stream, cancellation, deadlines, errors, health, metrics, logs and traces.

It is plain ASGI, mounted in BentoML (see bento.py), because BentoML's typed methods parse and answer JSON at
a sixth of Starlette's rate, decode a picture before anything can refuse it, and cannot stream binary frames.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from services.calls import Call, RunRoute
from services.cores import cores
from services.errors import AtCapacity, DarkroomError, Draining, NotFound, SchemaMismatch, Unavailable
from services.intake import Part
from services.models import ModelEntry, Models, own_catalogues, read_catalogue
from services.operations import OPERATIONS, Operation
from services.origin.credentials import Credentials
from services.settings import ServiceSettings
from services.telemetry import Metrics, Traces, set_up_logs
from services.work import Job, Origin, Preview, Progress, Result

__all__ = ["Job", "Models", "Preview", "Progress", "Result", "Service", "ServiceApp", "cores"]

_log = logging.getLogger("darkroom.service")


class Service:
    """The base class. `name` comes from the class: `CleanupService` is `cleanup`."""

    name: ClassVar[str] = ""
    capacity: ClassVar[int] = 0  # requests at once; 0: as many as there are cores
    at_work: ClassVar[int] = (
        0  # how many of them calculate at the same time; 0: all, each on its share of the cores
    )
    generative: ClassVar[bool] = (
        False  # whether a trained model makes its pictures, which are then signed as such
    )

    models: Models
    settings: ServiceSettings
    threads: int = 1  # that the arithmetic of one request may use

    def __init_subclass__(cls, name: str | None = None, **more: Any) -> None:
        super().__init_subclass__(**more)
        plain = re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__.removesuffix("Service")).lower()
        cls.name = name or plain

    def load(self, models: Models) -> None:
        """Makes the engines and marks their models with `models.loaded(name)`. Runs once, in a thread."""

    def close(self) -> None:
        """Lets go of what `load` made. Runs once, in a thread, when the process shuts down."""

    def choose(self, ask: Operation) -> str:
        """The name of the model that will do it; `ask.model` has it when the method is called."""
        return self.models.resolve(ask.model)

    @classmethod
    def operations(cls) -> dict[str, type[Operation]]:
        """All that it performs: what names it as its service, and what it has a method for beside."""
        found = {}
        for name, operation in OPERATIONS.items():
            if hasattr(cls, operation.method()):
                found[name] = operation
            elif operation.service == cls.name:
                raise TypeError(
                    f"{cls.__name__} needs a method {operation.method()!r}: it performs {name!r}."
                )
        if not found:
            raise TypeError(f"{cls.__name__} performs nothing: no operation names the service {cls.name!r}.")
        return found


class ServiceApp:
    """One service at work: its routes, its slots, its state."""

    def __init__(
        self,
        kind: type[Service],
        settings: ServiceSettings | None = None,
        catalogue: list[ModelEntry] | None = None,
    ) -> None:
        self.settings = settings or ServiceSettings.from_environment()
        self.service = kind()
        self.name = kind.name
        self.operations = kind.operations()
        self.capacity = self.settings.capacity or kind.capacity or cores()
        self.in_flight = 0
        self.loaded = False
        self.reason: str | None = "It is loading its models."
        self.draining = False  # told to stop: `describe` and /readyz say so
        self.refusing = False  # and whoever looks at them has had time to see it
        self.ended: Draining | None = None  # what calls are told that did not end in time
        self.calls: set[Call] = set()
        self.executor = ThreadPoolExecutor(self.capacity, thread_name_prefix=f"{self.name}-work")
        self.origin = Origin(
            self.settings.picture_parameters,
            Credentials.from_settings(self.settings) if kind.generative else None,
        )
        self.metrics = Metrics(self.name)
        self.traces = Traces(self.name, self.settings.otlp_endpoint)
        if catalogue is None:
            beside = Path(inspect.getfile(kind)).with_name("models.yaml")
            own = own_catalogues(self.settings.models_path)
            catalogue = read_catalogue(*([beside] if beside.is_file() else []), *own)
        self.models = Models(self.name, catalogue, self.settings.models_path)
        self.service.models = self.models
        self.service.settings = self.settings
        self.service.threads = self.settings.threads or max(1, cores() // (kind.at_work or self.capacity))
        self.asgi = Starlette(
            routes=[
                Route("/darkroom/v1/run/{operation}", _AsRoute(RunRoute(self)), methods=["POST"]),
                Route("/darkroom/v1/describe", self._describe, methods=["GET"]),
            ],
            lifespan=self._lifespan,
        )

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────────

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        set_up_logs(self.settings)
        loading = asyncio.create_task(self._load())
        self.metrics.capacity.labels(self.name).set(self.capacity)
        try:
            yield
        finally:
            self.drain()
            loading.cancel()
            self.executor.shutdown(wait=False, cancel_futures=True)
            await asyncio.to_thread(self.service.close)
            await asyncio.to_thread(self.traces.close)

    async def _load(self) -> None:
        started = time.perf_counter()
        self.metrics.ready.labels(self.name).set(0)
        try:
            await asyncio.to_thread(self.service.load, self.models)
        except DarkroomError as error:
            self.reason = f"{error.detail} {error.what_to_do}"
            _log.error("Loading failed: %s", self.reason)
        except Exception as error:  # noqa: BLE001 - the process stays up and says what a load raised
            self.reason = f"Its models could not be loaded: {type(error).__name__}: {error}"
            _log.exception("Loading failed")
        else:
            self.loaded = True
            if not self.draining:
                self.reason = None
                self.metrics.ready.labels(self.name).set(1)
            seconds = round(time.perf_counter() - started, 3)
            _log.info("ready", extra={"service": self.name, "seconds": seconds, "capacity": self.capacity})

    @property
    def ready(self) -> bool:
        """Whether a caller should come; one who comes while it only drains is served all the same."""
        return self.loaded and not self.draining

    def announce_end(self) -> None:
        """Says that the end comes. Gateways that look leave for another endpoint before this one refuses."""
        self.draining, self.reason = True, "It is shutting down."
        self.metrics.ready.labels(self.name).set(0)

    def drain(self) -> None:
        """Takes no more work; what is in flight goes on."""
        self.announce_end()
        self.refusing = True

    def stop_work(self) -> None:
        """Ends what is still in flight, with an error that lets the gateway hand it to another."""
        self.ended = Draining("The service is shutting down and could not finish this.")
        for call in list(self.calls):
            call.stop(self.ended)

    # ── admission ───────────────────────────────────────────────────────────────────────────────────────────

    def admit(self, name: str, digest: str | None) -> type[Operation]:
        """Takes a slot and gives the operation, or raises why not. `release` gives the slot back."""
        operation = self.operations.get(name)
        if operation is None:
            raise NotFound(f"{self.name} does not perform {name[:80]!r}.")
        if self.refusing:
            raise Draining("The service is shutting down.", retry_after=1)
        if not self.loaded:
            raise Unavailable(f"{self.name} is not ready. {self.reason}", retry_after=2)
        if digest is not None and digest not in operation.accepted_digests():
            raise SchemaMismatch(
                f"{self.name} does not know the schema {digest[:20]!r} of {name}.", retry_after=5
            )
        if self.in_flight >= self.capacity:
            raise AtCapacity(
                f"{self.name} is at work on {self.in_flight} calls, as many as it takes.", retry_after=1
            )
        self.in_flight += 1
        self.metrics.in_flight.labels(self.name).set(self.in_flight)
        return operation

    def release(self) -> None:
        self.in_flight -= 1
        self.metrics.in_flight.labels(self.name).set(self.in_flight)

    def describe(self) -> dict[str, Any]:
        return {
            "service": self.name,
            "version": version("darkroom"),
            "operations": {name: sorted(kind.accepted_digests()) for name, kind in self.operations.items()},
            "capacity": self.capacity,
            "in_flight": self.in_flight,
            "ready": self.ready,
            "draining": self.draining,
            "reason": self.reason,
            "models": self.models.describe(),
        }

    async def _describe(self, _: Request) -> JSONResponse:
        return JSONResponse(self.describe())

    def start_call(
        self, ask: Operation, parts: dict[str, Part], deadline: float, request_id: str = ""
    ) -> Call:
        """Begins the work of an admitted call, on the slot that `admit` took."""
        if self.ended is not None:  # while its pictures still came
            raise self.ended
        ask = ask.model_copy(update={"model": self.service.choose(ask)})
        return Call(self, ask, parts, deadline, request_id or uuid.uuid4().hex)


class _AsRoute:
    """Starlette takes an object with `__call__(scope, receive, send)` as an ASGI app."""

    def __init__(self, app: RunRoute) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
