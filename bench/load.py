"""Load on an address: as many requests as go (wrk), or a fixed number a second (open loop), figures out."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

BOUNDARY = "darkroom-bench"


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Rate:
    """What wrk found."""

    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


def form(parts: dict[str, bytes], path: str, **headers: str) -> Request:
    """A multipart request with one picture for each of `parts`."""
    body = b"".join(
        f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"; filename="{name}.png"\r\n'
        f"content-type: image/png\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in parts.items()
    )
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    return Request(path, body + f"--{BOUNDARY}--\r\n".encode(), {"content-type": kind, **headers})


def as_fast_as_it_goes(url: str, request: Request, *, concurrency: int, seconds: float, core: int) -> Rate:
    if shutil.which("wrk") is None:
        raise SystemExit("This benchmark needs wrk: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        body, script = Path(folder) / "body", Path(folder) / "post.lua"
        body.write_bytes(request.body)
        headers = "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in request.headers.items())
        script.write_text(
            f'local f = io.open("{body}", "rb")\nwrk.method = "POST"\nwrk.body = f:read("*a")\nf:close()\n{headers}'
        )
        said = subprocess.run(
            ["taskset", "-c", str(core), "wrk", "-t1", f"-c{concurrency}", f"-d{max(1, round(seconds))}s",
             "--timeout", "30s", "--latency", "-s", str(script), url + request.path],
            capture_output=True, text=True, check=True, timeout=seconds + 60,
        ).stdout  # fmt: skip
    failed = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", said))
    failed += sum(int(n) for n in re.findall(r"(?:connect|read|write|timeout) (\d+)", said))
    return Rate(
        float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0]),
        _time(said, "50%"),
        _time(said, "99%"),
        failed,
    )


def _time(said: str, share: str) -> float:
    number, unit = re.findall(rf"\s{share}\s+([\d.]+)(us|ms|s)", said)[0]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


async def at_a_rate(url: str, request: Request, *, per_second: float, seconds: float) -> list[float]:
    """Milliseconds of each call, sent when its time has come whether or not the ones before are back."""
    host, _, port = url.removeprefix("http://").partition(":")
    head = f"POST {request.path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-length: {len(request.body)}\r\n"
    message = (
        head + "".join(f"{k}: {v}\r\n" for k, v in request.headers.items()) + "\r\n"
    ).encode() + request.body
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    taken: list[float] = []

    async def one() -> None:
        reader, writer = idle.pop() if idle else await asyncio.open_connection(host, int(port), limit=1 << 20)
        began = time.perf_counter()
        writer.write(message)
        await _answer(reader)
        taken.append((time.perf_counter() - began) * 1000)
        idle.append((reader, writer))

    loop, tasks = asyncio.get_running_loop(), []
    start = loop.time()
    for n in range(int(per_second * seconds)):
        await asyncio.sleep(start + n / per_second - loop.time())
        tasks.append(asyncio.create_task(one()))
    await asyncio.gather(*tasks)
    for _, writer in idle:
        writer.close()
    return sorted(taken)


async def _answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise RuntimeError(f"the answer was {head[:200]!r}")
    if match := re.search(rb"content-length: (\d+)", head):
        await reader.readexactly(int(match[1]))
        return
    while size := int(await reader.readline(), 16):
        await reader.readexactly(size + 2)
    await reader.readline()


def at(share: float, sorted_times: list[float]) -> float:
    return sorted_times[min(len(sorted_times) - 1, int(share * len(sorted_times)))]
