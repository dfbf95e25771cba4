"""A gateway and two services with a canary, exercised a little, and Debian's Prometheus, which scrapes them."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from PIL import Image

from tests.observe.queries import ALERTS, FOREIGN, rule_files

ROOT = Path(__file__).parents[2]
SCRAPE = "1s"
NAMESPACE = "studio"
PATIENCE = 120.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def picture(mode: str = "RGB") -> str:
    out, image = io.BytesIO(), Image.new(mode, (16, 16))
    if mode == "L":
        image.putpixel((8, 8), 255)
    image.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


@contextmanager
def process(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs until the block ends."""
    env = {
        name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")
    } | environment
    with log.open("wb") as sink:
        started = subprocess.Popen(command, cwd=ROOT, env=env, stdout=sink, stderr=sink)
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(15)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def until_ready(url: str, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < end, f"{url} is not ready:\n{log.read_text()[-2000:]}"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def promtool() -> str:
    return binary("promtool")


def binary(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install prometheus")
    return found


class Prometheus:
    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **query: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=query, timeout=30)
        body = answer.json()
        assert body["status"] == "success", f"{query}: {body.get('error')}"
        return body["data"]

    def value(self, query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("query", query=query)["result"]
        return found

    def labels(self) -> dict[str, set[str]]:
        """Every metric that there is, with the labels that any of its series has."""
        found: dict[str, set[str]] = {}
        for series in self.get("series", **{"match[]": '{__name__=~".+"}'}):
            found.setdefault(series.pop("__name__"), set()).update(series)
        return found

    def until(self, query: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not self.value(query):
            assert time.monotonic() < end, f"{query} has no result"
            time.sleep(0.2)


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, when it has seen the installation at work, with our rules evaluated."""
    server, folder = binary("prometheus"), tmp_path_factory.mktemp("observed")
    ports = [free_port() for _ in range(5)]
    stable, canary, nobody, gateway, own = (f"http://127.0.0.1:{port}" for port in ports)
    targets = {"gateway": [gateway], "services": [stable, canary]}
    configuration = {
        "global": {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS / f"{name}.yaml") for name in rule_files() if name != FOREIGN],
        "scrape_configs": [
            {
                "job_name": name,
                # as the operator's ServiceMonitors do it: its own label `service` must not displace ours
                "honor_labels": True,
                "static_configs": [
                    {
                        "targets": [address.removeprefix("http://") for address in addresses],
                        "labels": {"namespace": NAMESPACE, "service": f"release-{name}"},
                    }
                ],
            }
            for name, addresses in targets.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    services = {"cleanup": [stable, f"{canary}#track=canary&weight=0.3"], "rmbg": [nobody]}
    python = sys.executable
    with ExitStack() as running:

        def start(name: str, command: list[str], **environment: str) -> Path:
            log = folder / f"{name}.log"
            running.enter_context(process(command, log, **environment))
            return log

        logs = {}
        for url in (stable, canary):
            command = [python, "-m", "services.serve", "cleanup", "--port", url.rpartition(":")[2]]
            logs[url] = start(f"cleanup-{url[-5:]}", command, DARKROOM_DRAIN_LEAD="0")
        for url, log in logs.items():
            until_ready(f"{url}/readyz", log)
        log = start(
            "gateway",
            [python, "-m", "gateway"],
            DARKROOM_PORT=gateway.rpartition(":")[2],
            DARKROOM_DATA=str(folder / "data"),
            DARKROOM_SERVICES=json.dumps(services),
            DARKROOM_GRPC_PORT="0",
            DARKROOM_INFERENCE_PORT="0",
            DARKROOM_DRAIN_LEAD="0",
            DARKROOM_WEBHOOK_ALLOW_PRIVATE="true",
            DARKROOM_LOG_LEVEL="warning",
        )
        until_ready(f"{gateway}/healthz", log)
        command = [
            server,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
        ]
        log = start("prometheus", [*command, f"--web.listen-address={own.removeprefix('http://')}"])
        until_ready(f"{own}/-/ready", log)
        observed = Prometheus(own)
        asyncio.run(exercise(gateway, observed, f"{nobody}/hook"))
        yield observed


async def exercise(gateway: str, observed: Prometheus, hook: str) -> None:
    """Calls that succeed, are refused and find nobody; jobs that succeed and fail; for as long as a rate needs."""
    await asyncio.to_thread(observed.until, "darkroom_build_info")  # so that counters are seen to rise
    fine = {"image": picture(), "mask": picture("L"), "format": "png"}
    async with httpx.AsyncClient(base_url=gateway, timeout=30) as client:
        for number in range(3):
            answers = await asyncio.gather(*(client.post("/v1/cleanup", json=fine) for _ in range(8)))
            assert {answer.status_code for answer in answers} == {200}
            wrong = {**fine, "model": "nobodys"}
            job = {"operation": "cleanup", "params": fine, "webhook": hook}
            bad = {"operation": "cleanup", "params": wrong}
            assert (await client.post("/v1/cleanup", json=wrong)).status_code == 422
            taken = [await client.post("/v1/jobs", json=body) for body in (job, bad)]
            assert {answer.status_code for answer in taken} == {202}
            away = {"image": picture()}
            headers = {"prefer": "wait=0.2"}
            assert (await client.post("/v1/remove-background", json=away, headers=headers)).status_code == 503
            waits = {"operation": "remove-background", "params": away}
            assert (await client.post("/v1/jobs", json=waits)).status_code == 202
            await asyncio.sleep(1.5 if number < 2 else 0)
        end = time.monotonic() + 60
        while True:
            jobs = (await client.get("/v1/jobs", params={"limit": "50"})).json()["jobs"]
            states = [job["state"] for job in jobs if job["service"] == "cleanup"]
            if states.count("succeeded") == states.count("failed") == 3:
                break
            assert time.monotonic() < end, states
            await asyncio.sleep(0.2)
    for outcome in ("succeeded", "failed"):
        await asyncio.to_thread(
            observed.until, f'increase(darkroom_jobs_total{{outcome="{outcome}"}}[1m]) > 0'
        )
    await asyncio.to_thread(observed.until, "darkroom:request_errors:ratio_rate6h > 0")
    await asyncio.to_thread(observed.until, 'darkroom:attempt_errors:ratio_rate15m{track="canary"}')
