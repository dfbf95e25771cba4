"""All services behind the gateway: settings go in, a pool for each service comes out, watched and kept current."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from gateway.settings import Settings
from gateway.upstream.carrier import Carrier
from gateway.upstream.endpoint import Endpoint
from gateway.upstream.frames_http import FrameCarrier
from gateway.upstream.health import Checker
from gateway.upstream.observe import Observer, Silent
from gateway.upstream.pool import Pool
from gateway.upstream.resolve import Origin, Resolve, read_origins, system_resolver
from gateway.upstream.status import ServiceStatus
from gateway.upstream.transport import Transport
from services.errors import NotConfigured

log = logging.getLogger("darkroom.upstream")

CONNECTIONS = 4096  # to one service; capacity keeps the number in use far below
_FIRST_LOOK = 2.0
_RESOLVE_PATIENCE = 5.0


class Upstream:
    """`start()`, then `pool(service).turn(...)`; at the end `drain(seconds)` and `close()`."""

    def __init__(
        self, settings: Settings, metrics: Observer | None = None, *, resolve: Resolve = system_resolver
    ) -> None:
        self._settings, self._observer, self._resolve = settings, metrics or Silent(), resolve
        self._origins = {name: read_origins(name, texts) for name, texts in settings.services.items()}
        self._pools: dict[str, Pool] = {}
        self._checking: Transport | None = None
        self._watches: dict[Endpoint, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Opens the pools and looks once at every endpoint, for at most two seconds."""
        settings = self._settings
        self._checking = Transport(connections=0, connect_timeout=settings.connect_timeout)
        await self._checking.open()
        looks: list[asyncio.Event] = []
        for service, origins in self._origins.items():
            carrier = self._carrier(origins, self._checking)
            await carrier.open()
            pool = self._pools[service] = Pool(
                service, settings, self._observer, carrier, _canary_share(origins)
            )
            for origin in origins:
                if origin.resolved:
                    first = asyncio.Event()
                    looks.append(first)
                    self._tasks.append(asyncio.create_task(self._follow(pool, origin, first)))
                else:
                    looks.append(self._add(pool, origin, origin.address(origin.host)))
        if looks:
            _, late = await asyncio.wait(
                [asyncio.create_task(look.wait()) for look in looks], timeout=_FIRST_LOOK
            )
            for task in late:
                task.cancel()

    def pool(self, service: str) -> Pool:
        pool = self._pools.get(service)
        if pool is None:
            raise NotConfigured(f"This installation has no service {service!r}.")
        return pool

    def status(self) -> dict[str, ServiceStatus]:
        return {service: pool.status() for service, pool in self._pools.items()}

    async def drain(self, seconds: float) -> None:
        """Takes no new work, and lets what waits or runs finish within `seconds`."""
        for pool in self._pools.values():
            pool.stop_taking()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for pool in self._pools.values():
                    await pool.drained()
        for pool in self._pools.values():
            pool.refuse_waiting()

    async def close(self) -> None:
        tasks = [*self._tasks, *self._watches.values()]
        self._tasks, self._watches = [], {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for pool in self._pools.values():
            pool.close()
            await pool.carrier.close()
        if self._checking is not None:
            await self._checking.close()
            self._checking = None

    def _carrier(self, origins: list[Origin], checking: Transport) -> Carrier:
        if any(origin.scheme == "grpc" for origin in origins):
            # Pillow's and gRPC's part of the memory is for those who use it
            from gateway.upstream.tfserving import PredictCarrier

            return PredictCarrier(self._settings)
        timeout = self._settings.connect_timeout
        return FrameCarrier(Transport(connections=CONNECTIONS, connect_timeout=timeout), checking)

    # ── endpoints come and go ────────────────────────────────────────────────────────────────────────────────

    def _add(self, pool: Pool, origin: Origin, address: str) -> asyncio.Event:
        """A new endpoint and the watch over it; the event is set after the first look."""
        endpoint = pool.add(address, origin.weight, origin.track)
        checker = Checker(pool, endpoint, self._settings.health_interval)
        self._watches[endpoint] = asyncio.create_task(checker.watch())
        return checker.looked

    async def _follow(self, pool: Pool, origin: Origin, first: asyncio.Event) -> None:
        """Resolves a name again and again. While it cannot be resolved, what was known of it stays."""
        known: dict[str, Endpoint] = {}
        while True:
            try:
                async with asyncio.timeout(_RESOLVE_PATIENCE):
                    hosts = await self._resolve(origin.host, origin.port)
            except OSError as error:  # TimeoutError is one
                log.warning(
                    "%s: the name %s cannot be resolved: %s", pool.service, origin.host, error or "no answer"
                )
            else:
                await self._update(pool, origin, known, {origin.address(host) for host in hosts})
            first.set()
            await asyncio.sleep(self._settings.resolve_interval)

    async def _update(self, pool: Pool, origin: Origin, known: dict[str, Endpoint], wanted: set[str]) -> None:
        looks = []
        for address in sorted(wanted - known.keys()):
            looks.append(self._add(pool, origin, address))
            known[address] = pool.endpoints[-1]
        for address in known.keys() - wanted:
            endpoint = known.pop(address)
            endpoint.leaving = True
            watch = self._watches.pop(endpoint, None)
            if watch is not None:
                watch.cancel()
            log.info("%s: %s has left; %d calls finish there", pool.service, address, endpoint.in_flight)
        for endpoint in [e for e in pool.endpoints if e.leaving]:
            await pool.remove(endpoint)
        pool.dispatch()
        if looks:
            await asyncio.wait([asyncio.create_task(look.wait()) for look in looks], timeout=_FIRST_LOOK)


def _canary_share(origins: list[Origin]) -> float:
    return next((origin.weight for origin in origins if origin.track == "canary"), 0.0)
