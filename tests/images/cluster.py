"""As much of a cluster as a rollout needs, made of containers: Deployments, headless Services, and constant callers.

A headless Service is a name in a hosts file that every container has mounted: its lines are the endpoints that are
ready, written anew as a cluster's DNS would answer anew.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.images.engine import START, addresses, answers, docker, inspect, until

GRACE = 50  # seconds that a pod has after SIGTERM, as in the chart
_numbers = itertools.count(1)


class Cluster:
    """One network, and the names in it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.hosts = folder / "hosts"
        self.containers: list[str] = []
        self.parts: dict[str, str] = {}
        self._names: dict[str, list[str]] = {}
        docker("network", "create", "--internal", name)
        self._write()

    def point(self, name: str, hosts: Sequence[str]) -> None:
        """These are the addresses of a name from now on."""
        self._names[name] = list(hosts)
        self._write()

    def _write(self) -> None:
        lines = [f"{host} {name}" for name, hosts in self._names.items() for host in hosts]
        self.hosts.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))  # in place: it is mounted

    def start(self, image: str, *command: str, options: Sequence[str] = (), **environment: str) -> str:
        """A container as the chart would start it; its name."""
        name = f"{self.name}-{next(_numbers)}"
        told = [part for key, value in environment.items() for part in ("--env", f"{key}={value}")]
        docker(
            # a cluster does not read HEALTHCHECK
            *("run", "--detach", "--name", name, "--network", self.name, "--no-healthcheck"),
            *("--read-only", "--tmpfs", "/tmp"),
            *(
                "--cap-drop",
                "ALL",
                "--security-opt",
                "no-new-privileges",
                "--volume",
                f"{self.hosts}:/etc/hosts:ro",
            ),
            *(*options, *told, image, *command),
        )
        self.containers.append(name)
        return name

    def address(self, container: str) -> str:
        return addresses(container)[self.name]

    def close(self) -> None:
        for container in self.containers:
            docker("rm", "--force", "--volumes", container, check=False)
        docker("network", "rm", self.name, check=False)


@dataclass
class Deployment:
    """Replicas of one image behind one name."""

    cluster: Cluster
    name: str
    launch: Callable[[], str]
    ready_at: str  # ":3000/readyz"
    pods: list[str] = field(default_factory=list)
    leaving: float = 0.0  # seconds between leaving the endpoints and SIGTERM, as a preStop hook has it
    changed: Callable[[list[str]], None] = lambda _: None

    def scale(self, count: int) -> None:
        fresh = [self.launch() for _ in range(count)]
        for pod in fresh:
            self.wait(pod)
        self.pods += fresh
        self.publish()

    def wait(self, pod: str) -> None:
        url = f"http://{self.cluster.address(pod)}{self.ready_at}"
        until(lambda: answers(url), START, f"{pod} is ready")

    def publish(self) -> None:
        hosts = [self.cluster.address(pod) for pod in self.pods]
        self.cluster.point(self.name, hosts)
        self.changed(hosts)

    def replace(self, *, surge: bool) -> None:
        """A rolling update: maxSurge 1 and maxUnavailable 0, or the other way round."""
        for old in list(self.pods):
            if surge:
                fresh = self.launch()
                self.wait(fresh)
                self.pods.append(fresh)
                self.publish()
            self.pods.remove(old)
            self.publish()
            time.sleep(self.leaving)
            self.stop(old)
            if not surge:
                fresh = self.launch()
                self.wait(fresh)
                self.pods.append(fresh)
                self.publish()

    def stop(self, pod: str) -> None:
        docker("stop", "--time", str(GRACE), pod)
        code = inspect(pod)["State"]["ExitCode"]
        assert code == 0, f"{pod} ended with {code}: {docker('logs', '--tail', '20', pod)}"

    def lose(self) -> str:
        """SIGKILL to one, which stays among the endpoints until somebody notices."""
        pod = self.pods.pop(0)
        docker("kill", pod)
        return pod


@dataclass
class Seen:
    """What callers met."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    slowest: float = 0.0


class Load:
    """Callers who never pause, and jobs that are submitted all the while, spread over the gateways that there are."""

    def __init__(
        self, key: str, ask: Callable[[httpx.AsyncClient], Any], submit: Callable[[httpx.AsyncClient], Any]
    ) -> None:
        self.gateways: list[str] = []
        self.seen = Seen()
        self._ask, self._submit = ask, submit
        self._headers = {"authorization": f"Bearer {key}"}
        self._clients: dict[str, httpx.AsyncClient] = {}
        self._turn = itertools.count()
        self._over = False

    def point(self, hosts: list[str]) -> None:
        """The gateways that a balancer would send new calls to."""
        self.gateways = hosts

    def _client(self) -> httpx.AsyncClient:
        host = self.gateways[next(self._turn) % len(self.gateways)]
        if host not in self._clients:
            self._clients[host] = httpx.AsyncClient(
                base_url=f"http://{host}:8080", headers=self._headers, timeout=180
            )
        return self._clients[host]

    async def _call(self) -> None:
        while not self._over:
            began = time.monotonic()
            try:
                answer = await self._ask(self._client())
            except httpx.HTTPError as error:
                self.seen.failures.append(
                    f"{type(error).__name__} {error} after {time.monotonic() - began:.1f} s"
                )
            else:
                if answer.status_code == 200:
                    self.seen.answered += 1
                else:
                    self.seen.failures.append(f"{answer.status_code} {answer.text[:300]}")
            self.seen.slowest = max(self.seen.slowest, time.monotonic() - began)

    async def _enqueue(self, pause: float) -> None:
        while not self._over:
            try:
                answer = await self._submit(self._client())
            except httpx.HTTPError as error:
                self.seen.failures.append(f"a job: {type(error).__name__} {error}")
            else:
                if answer.status_code == 202:
                    self.seen.jobs.append(answer.json()["id"])
                else:
                    self.seen.failures.append(f"a job: {answer.status_code} {answer.text[:300]}")
            await asyncio.sleep(pause)

    @asynccontextmanager
    async def running(self, callers: int, pause: float) -> AsyncIterator[Seen]:
        """While the block runs, and at its end until the last call is answered."""
        self.seen, self._over = Seen(), False
        tasks = [asyncio.create_task(self._call()) for _ in range(callers)]
        tasks.append(asyncio.create_task(self._enqueue(pause)))
        try:
            yield self.seen
        finally:
            self._over = True
            await asyncio.gather(*tasks)

    async def settled(self, seconds: float = 240) -> dict[str, dict[str, Any]]:
        """Every job's document, when all have ended."""
        ended: dict[str, dict[str, Any]] = {}
        async with asyncio.timeout(seconds):
            while missing := [job for job in self.seen.jobs if job not in ended]:
                for job in missing:
                    with suppress(httpx.TransportError):
                        document = (await self._client().get(f"/v1/jobs/{job}")).json()
                        if document.get("state") in ("succeeded", "failed", "cancelled"):
                            ended[job] = document
                await asyncio.sleep(0.3)
        return ended

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()
