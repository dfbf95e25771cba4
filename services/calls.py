"""One call on its way through a service: the body in, a problem document or a stream of frames out.

The slot that admission took is given back when the work has truly ended: a thread cannot be killed, so work
that was cancelled keeps its slot until its next `job.check()`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Status, StatusCode
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from services import frames
from services.errors import (
    PROBLEM_JSON,
    Cancelled,
    DarkroomError,
    DeadlineExceeded,
    Malformed,
    OutOfMemory,
    ServiceFault,
)
from services.images import decode_all
from services.intake import Part, read_call
from services.operations import Operation
from services.telemetry import request_id as request_id_of
from services.work import Frame, Job, Outbox, Work, stream

if TYPE_CHECKING:
    from services.serving import ServiceApp

PIECE = 256 * 1024
# Decoding is part of admission, so that a bad picture is refused with its own status; but the gateway waits
# only so long for the first frame, and a slow machine must not look like a dead one.
ADMIT_WITHIN = 2.0
MAX_TIMEOUT = 24 * 3600.0
_OPENCV_NO_MEMORY = -4
_log = logging.getLogger("darkroom.service")


class Call:
    """The work of one call, from decoding to the last result."""

    def __init__(
        self, app: ServiceApp, ask: Operation, parts: dict[str, Part], deadline: float, request_id: str
    ) -> None:
        self.app, self.ask, self.request_id = app, ask, request_id
        self.method = getattr(app.service, ask.method())
        outbox = Outbox()
        self.work = Work(ask, Job(ask, request_id, deadline, outbox.put), outbox, app.origin)
        loop = asyncio.get_running_loop()
        self._fault: DarkroomError | None = None
        self._is_decoded = False
        self._decoded = asyncio.Event()
        self.task = asyncio.create_task(self._perform(parts))
        self._timer = loop.call_later(
            max(0.0, deadline - time.monotonic()),
            self.stop,
            DeadlineExceeded("The work was not done in its time."),
        )
        app.calls.add(self)
        self.task.add_done_callback(self._ended)

    async def _perform(self, parts: dict[str, Part]) -> None:
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self.app.executor, decode_all, self.ask, parts, self.app.settings)
        parts.clear()
        self.work.timing.decode_ms = (time.perf_counter() - started) * 1000
        self._is_decoded = True
        self._decoded.set()
        await self.work.run(self.method, self.app.executor)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._timer.cancel()
        self.app.calls.discard(self)
        self.app.release()
        self._decoded.set()
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        outcome = self.fault(error).slug if error else "ok"
        metrics, labels = self.app.metrics, (self.app.name, self.ask.name())
        metrics.requests.labels(*labels, outcome).inc()
        if outcome == "ok":
            metrics.pictures.labels(*labels).inc(self.work.count)
            for stage, ms in self.work.timing.fields().items():
                metrics.seconds.labels(*labels, stage.removesuffix("_ms")).observe(ms / 1000)

    def stop(self, why: DarkroomError | None = None) -> None:
        """Ends it at its next step; an async method at its next await."""
        self.work.job.stop(why)
        self.work.outbox.wake()
        if inspect.iscoroutinefunction(self.method) or inspect.isasyncgenfunction(self.method):
            self.task.cancel()

    async def admission(self) -> None:
        """Returns when the pictures are decoded (or it takes long); raises what is wrong with them."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ADMIT_WITHIN):
                await self._decoded.wait()
        if self.task.done() and not self._is_decoded:
            try:
                await self.task
            except Exception as error:
                raise self.fault(error) from error

    def fault(self, error: BaseException) -> DarkroomError:
        """What the caller is told; made once, so that it is logged once."""
        if self._fault is None:
            self._fault = as_error(error, self.request_id)
        return self._fault

    async def frames(self) -> AsyncIterator[Frame]:
        """All frames, from `accepted` to `done` or `error`."""
        yield frames.encode("accepted", model=self.ask.model)
        try:
            async for frame in stream(self.work, self.task, self.app.settings.alive_interval):
                yield frame
        except asyncio.CancelledError:
            if not self.work.job.stopped:
                raise  # it is this response that was cancelled, not the work
            yield self._error(Cancelled("The work was stopped."))
        except Exception as error:  # noqa: BLE001 - whatever a service raises becomes its caller's error frame
            yield self._error(self.fault(error))
        else:
            fields: dict[str, Any] = {"model": self.ask.model, "timing": self.work.timing.fields()}
            if self.work.data is not None:
                fields["data"] = self.work.data
            yield frames.encode("done", **fields)

    def _error(self, error: DarkroomError) -> Frame:
        return frames.encode("error", problem=error.problem())


class RunRoute:
    """`POST /darkroom/v1/run/{operation}`."""

    def __init__(self, app: ServiceApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        request_id = headers.get("x-request-id", "")
        request_id_of.set(request_id)
        name = scope["path_params"]["operation"]
        span = self.app.traces.start(f"run {name}"[:80], dict(headers))
        try:
            call = await self._begin(scope, receive, name, headers, request_id)
            await call.admission()
            await self._stream(call, receive, send)
        except DarkroomError as error:
            span.set_status(Status(StatusCode.ERROR, error.detail))
            await problem(error)(scope, receive, send)
        except ClientDisconnect:
            span.set_status(Status(StatusCode.ERROR, "The caller went away."))
        finally:
            span.end()

    async def _begin(
        self, scope: Scope, receive: Receive, name: str, headers: Headers, request_id: str
    ) -> Call:
        """Admits the call, reads its body and starts the work."""
        operation = self.app.admit(name, headers.get("x-darkroom-schema"))
        try:
            timeout = _timeout(headers, self.app.settings.default_timeout)
            deadline = time.monotonic() + timeout
            async with asyncio.timeout(timeout):
                body = Request(scope, receive).stream()
                ask, parts = await read_call(
                    operation, headers.get("content-type", ""), body, self.app.settings
                )
            return self.app.start_call(ask, parts, deadline, request_id)
        except TimeoutError as error:
            self.app.release()
            raise DeadlineExceeded("The request was not sent in its time.") from error
        except BaseException:
            self.app.release()
            raise

    async def _stream(self, call: Call, receive: Receive, send: Send) -> None:
        watch = asyncio.create_task(_watch(receive, call))
        headers = [(b"content-type", frames.CONTENT_TYPE.encode()), (b"cache-control", b"no-store")]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for frame in call.frames():
                for piece in frame:
                    for at in range(0, len(piece), PIECE):
                        await send(
                            {"type": "http.response.body", "body": piece[at : at + PIECE], "more_body": True}
                        )
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            call.stop()  # changes nothing when the work is done
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch


async def _watch(receive: Receive, call: Call) -> None:
    """Stops the work when the caller goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass
    call.stop()


def _timeout(headers: Headers, default: float) -> float:
    given = headers.get("x-darkroom-timeout")
    if given is None:
        return default
    try:
        seconds = float(given)
    except ValueError as error:
        raise Malformed(f"x-darkroom-timeout is {given[:40]!r}, which is not a number of seconds.") from error
    if not 0 < seconds <= MAX_TIMEOUT:
        raise DeadlineExceeded(f"x-darkroom-timeout leaves {given[:40]} seconds.")
    return seconds


def as_error(error: BaseException, request_id: str) -> DarkroomError:
    """What a caller is told of whatever was raised; a fault of ours is logged with its traceback."""
    if isinstance(error, DarkroomError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return Cancelled("The work was stopped.")
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's, which is not imported here
        or getattr(error, "code", None) == _OPENCV_NO_MEMORY
        or (
            isinstance(error, RuntimeError) and "can't start new thread" in str(error)
        )  # no room for its stack
    ):
        return OutOfMemory("The work did not fit into memory.", retry_after=1)
    _log.error("The work failed", exc_info=error, extra={"request_id": request_id})
    return ServiceFault(f"The work failed ({type(error).__name__}).", request_id=request_id)


def problem(error: DarkroomError) -> JSONResponse:
    headers = {} if error.retry_after is None else {"retry-after": str(max(1, round(error.retry_after)))}
    return JSONResponse(error.problem(), status_code=error.status, headers=headers, media_type=PROBLEM_JSON)
