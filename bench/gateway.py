"""What the gateway costs: beside a direct call, nginx, and the least that a Python gateway can be.

    python -m bench.gateway [--seconds 8] [--litellm PATH/TO/litellm]

The server under test has core 0; the stub service and the load have core 1. Darkroom runs with everything on: a key
with a rate, limits, metrics, access log. `--litellm` names the command of an environment with `litellm[proxy]`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from PIL import Image

from bench.load import Rate, Request, as_fast_as_it_goes, at, at_a_rate, form
from bench.processes import Running, free_port, running

ADMIN = "dk_bench-admin-key-0123456789abcdefghij"
PICTURE = 4_000_000
GATEWAY, OTHERS = 0, 1
LITELLM_KEY = "sk-bench-0123456789abcdef"


def small_png() -> bytes:
    out = BytesIO()
    Image.new("RGB", (32, 32), "red").save(out, "PNG")
    return out.getvalue()


@contextlib.contextmanager
def stub(pictures: int) -> Iterator[Running]:
    port = free_port()
    command = [sys.executable, "-m", "bench.stub", "--port", str(port), "--pictures", str(pictures)]
    with running(command, core=OTHERS, port=port) as process:
        yield process


@contextlib.contextmanager
def passthrough(upstream: str, client: str = "aiohttp") -> Iterator[Running]:
    port = free_port()
    command = [sys.executable, "-m", "bench.peers.passthrough", str(port), upstream, client]
    with running(command, core=GATEWAY, port=port) as process:
        yield process


@contextlib.contextmanager
def nginx(upstream: str) -> Iterator[Running]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(
            f"""daemon off; worker_processes 1; pid {folder}/pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_max_body_size 64m;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  upstream stub {{ server {upstream.removeprefix("http://")}; keepalive 512; }}
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://stub; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; }} }}
}}"""
        )
        with running(["nginx", "-c", str(config), "-p", folder], core=GATEWAY, port=port) as process:
            yield process


@contextlib.contextmanager
def darkroom(services: dict[str, list[str]]) -> Iterator[tuple[Running, str]]:
    """The gateway, and a key for it."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "DARKROOM_DATA": folder,
            "DARKROOM_PORT": str(port),
            "DARKROOM_SERVICES": json.dumps(services),
            "DARKROOM_ADMIN_KEY": ADMIN,
        }
        with running(
            [sys.executable, "-m", "gateway"], core=GATEWAY, port=port, environment=environment
        ) as process:
            wanted = {"name": "bench", "scopes": ["use"], "rate": 1_000_000, "weight": 1}
            request = urllib.request.Request(
                f"{process.url}/v1/admin/keys",
                json.dumps(wanted).encode(),
                {"content-type": "application/json", "authorization": f"Bearer {ADMIN}"},
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                yield process, json.load(answer)["secret"]


@contextlib.contextmanager
def litellm(command: str, upstream: str) -> Iterator[Running]:
    """LiteLLM's proxy; it is asked for a chat completion, the cheapest thing it does."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(
            "model_list:\n  - model_name: stub\n    litellm_params:\n"
            f"      model: openai/stub\n      api_base: {upstream}/v1\n      api_key: none\n"
            "litellm_settings:\n  request_timeout: 30\n  num_retries: 0\n"
            f"general_settings:\n  master_key: {LITELLM_KEY}\n"
        )
        started = [
            command,
            "--config",
            str(config),
            "--port",
            str(port),
            "--host",
            "127.0.0.1",
            "--num_workers",
            "1",
        ]
        with running(started, core=GATEWAY, port=port, patience=120) as process:
            yield process


def measure(process: Running, request: Request, concurrency: int, seconds: float) -> tuple[Rate, float]:
    """The rate, and the server's CPU milliseconds a request."""
    as_fast_as_it_goes(process.url, request, concurrency=concurrency, seconds=2, core=OTHERS)
    before = process.cpu_seconds()
    rate = as_fast_as_it_goes(process.url, request, concurrency=concurrency, seconds=seconds, core=OTHERS)
    return rate, (process.cpu_seconds() - before) * 1000 / max(1.0, rate.per_second * seconds)


def show(name: str, rate: Rate, cpu: float, bare: float | None) -> None:
    ratio = f"{rate.per_second / bare:6.2f}" if bare else "     -"
    print(
        f"  {name:26} {rate.per_second:9.0f}/s  {ratio} of bare   cpu {cpu:6.3f} ms   p50 {rate.p50_ms:7.2f} ms"
        f"   p99 {rate.p99_ms:8.2f} ms   errors {rate.errors}",
        flush=True,
    )


def small(seconds: float, litellm_command: str) -> None:
    direct = form({"image": small_png()}, "/darkroom/v1/run/caption")
    with stub(0) as service:
        for concurrency in (32, 256):
            print(f"\nsmall JSON answer, {concurrency} at once")
            show("direct", *measure(service, direct, concurrency, seconds), None)
            with passthrough(service.url) as peer:
                found = measure(peer, direct, concurrency, seconds)
            bare = found[0].per_second
            show("bare Starlette + aiohttp", *found, bare)
            with darkroom({"caption": [service.url]}) as (gateway, key):
                asked = form({"image": small_png()}, "/v1/caption", authorization=f"Bearer {key}")
                show("Darkroom", *measure(gateway, asked, concurrency, seconds), bare)
            with nginx(service.url) as peer:
                show("nginx", *measure(peer, direct, concurrency, seconds), bare)
            with passthrough(service.url, "httpx") as peer:
                show("bare Starlette + httpx", *measure(peer, direct, concurrency, seconds), bare)
            if litellm_command:
                chat = json.dumps(
                    {"model": "stub", "messages": [{"role": "user", "content": "hello"}]}
                ).encode()
                headers = {"content-type": "application/json", "authorization": f"Bearer {LITELLM_KEY}"}
                asked = Request("/v1/chat/completions", chat, headers)
                with litellm(litellm_command, service.url) as peer:
                    show("LiteLLM", *measure(peer, asked, concurrency, seconds), bare)
        latency(service, direct, seconds)


def latency(service: Running, direct: Request, seconds: float) -> None:
    """What is added at a fixed 200 requests a second."""

    def times(url: str, request: Request) -> list[float]:
        asyncio.run(at_a_rate(url, request, per_second=200, seconds=1))
        return asyncio.run(at_a_rate(url, request, per_second=200, seconds=seconds))

    print("\nsmall JSON answer, 200 a second")
    alone = times(service.url, direct)
    print(f"  {'direct':26} p50 {at(0.5, alone):6.2f} ms   p99 {at(0.99, alone):6.2f} ms")
    with passthrough(service.url) as peer:
        bare = times(peer.url, direct)
    with darkroom({"caption": [service.url]}) as (gateway, key):
        asked = form({"image": small_png()}, "/v1/caption", authorization=f"Bearer {key}")
        ours = times(gateway.url, asked)
    for name, found in (("bare Starlette + aiohttp", bare), ("Darkroom", ours)):
        added = [at(share, found) - at(share, alone) for share in (0.5, 0.99)]
        print(
            f"  {name:26} p50 {at(0.5, found):6.2f} ms   p99 {at(0.99, found):6.2f} ms"
            f"   added p50 {added[0]:5.2f} ms   added p99 {added[1]:5.2f} ms"
        )


def pictures(seconds: float) -> None:
    direct = form({"image": small_png()}, "/darkroom/v1/run/remove-background")
    with stub(PICTURE) as service:
        print(f"\na picture of {PICTURE / 1e6:g} MB, 16 at once")
        show("direct", *measure(service, direct, 16, seconds), None)
        with passthrough(service.url) as peer:
            found = measure(peer, direct, 16, seconds)
        bare = found[0].per_second
        show("bare Starlette + aiohttp", *found, bare)
        with darkroom({"rmbg": [service.url]}) as (gateway, key):
            asked = form(
                {"image": small_png()},
                "/v1/remove-background",
                authorization=f"Bearer {key}",
                accept="image/png",
            )
            show("Darkroom", *measure(gateway, asked, 16, seconds), bare)
        with nginx(service.url) as peer:
            show("nginx", *measure(peer, direct, 16, seconds), bare)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--litellm", default="", help="the litellm command of an environment of its own")
    given = parser.parse_args()
    small(given.seconds, given.litellm)
    pictures(given.seconds)


if __name__ == "__main__":
    main()
