"""Logs: records and access lines in, lines on stderr out, JSON for machines or text for people.

The event loop only puts a small dict into a bounded queue. A thread makes the line, takes secrets out of it and
writes; when stderr is slower than the log, lines are dropped and counted, and nobody waits.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import sys
import threading
import time
import traceback
from collections import deque
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson

from gateway import request_id
from gateway.settings import Settings

Line = dict[str, Any]

ACCESS = "access"
QUEUED_LINES = 20_000
# the thread waits this long after the first line, so that a busy gateway writes fifty batches a second, not each line
GATHER = 0.02

_SECRETS = re.compile(
    rb"(?i)"
    rb"(?P<scheme>\b(?:bearer|basic)\s+)[^\s\"',\\]+"
    rb"|\b(?P<key>dk_)[\w-]{20,}"
    rb"|(?P<url>://[^:/@\s\"\\]*:)[^@/\s\"\\]+(?=@)"
    rb"|(?P<name>\b(?:signature|secret|token|password|api[-_]?key|x-amz-signature|x-amz-security-token|sig)=)[^&\s\"'\\]+"
    rb"|(?P<header>\"(?:authorization|cookie|x-api-key|darkroom-signature)\":\s*\")[^\"]+"
)
_HINTS = (
    b"=",
    b"@",
    b"dk_",
    b"bearer",
    b"basic",
    b"authorization",
    b"cookie",
    b"api-key",
    b"darkroom-signature",
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

_about: ContextVar[Line | None] = ContextVar("darkroom_about", default=None)


def begin() -> Line:
    """Start the account of a request; what `tell` adds goes into its access line."""
    line: Line = {}
    _about.set(line)
    return line


def tell(**fields: Any) -> None:
    """Add to the access line of the current request: key, operation, service, endpoint, door ..."""
    line = _about.get()
    if line is not None:
        line.update(fields)


def redact(line: bytes) -> bytes:
    """The line without credentials: authorization values, keys, passwords in addresses, signatures of links."""
    # most lines have nothing that a secret could hang on, and the pattern is the dearest part of a line
    lowered = line.lower()
    return _SECRETS.sub(_hidden, line) if any(hint in lowered for hint in _HINTS) else line


def _hidden(match: re.Match[bytes]) -> bytes:
    return (match[match.lastgroup] if match.lastgroup else b"") + b"[hidden]"


class Writer:
    """The thread that writes; `put` never waits."""

    def __init__(self, descriptor: int = 2, *, text: bool = False, bound: int = QUEUED_LINES) -> None:
        self._descriptor, self._text, self._bound = descriptor, text, bound
        self._queue: deque[Line] = deque()
        self._some = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
        self._thread.start()
        # a process that ends without closing, as one that refuses to start, still says why
        atexit.register(self.close)
        self.dropped = 0
        self.written = 0

    def put(self, line: Line) -> None:
        if len(self._queue) >= self._bound:
            self.dropped += 1
            return
        self._queue.append(line)
        if not self._some.is_set():
            self._some.set()

    def close(self, timeout: float = 2.0) -> None:
        """Write what is queued; a stderr that takes nothing is given up on after `timeout`."""
        atexit.unregister(self.close)
        self._closing = True
        self._some.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        told = 0
        while not (self._closing and not self._queue):
            self._some.wait()
            if not self._closing:
                time.sleep(GATHER)
            self._some.clear()
            lines = [self._line(self._queue.popleft()) for _ in range(len(self._queue))]
            if self.dropped > told:
                lines.append(
                    self._line(
                        _record(
                            "warning",
                            "logs",
                            f"{self.dropped - told} log lines were dropped: stderr is too slow",
                        )
                    )
                )
                told = self.dropped
            if not self._write(b"".join(lines)):
                return
            self.written += len(lines)

    def _write(self, data: bytes) -> bool:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                time.sleep(GATHER)
            except OSError:
                # stderr is gone and with it the only place to say so; the queue's bound keeps memory in check
                return False
        return True

    def _line(self, line: Line) -> bytes:
        try:
            failure = line.pop("exc_info", None)
            if failure:
                line["exception"] = "".join(traceback.format_exception(*failure))
            stamp = line["time"]
            line["time"] = (
                datetime.fromtimestamp(stamp, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            )
            raw = (
                _as_text(line)
                if self._text
                else orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS)
            )
        except Exception as error:  # noqa: BLE001 - a line that cannot be made must not end the thread that makes lines
            raw = orjson.dumps(
                {"level": "error", "logger": "logs", "message": f"a log line could not be made: {error!r}"}
            )
        return redact(raw) + b"\n"


def _as_text(line: Line) -> bytes:
    stamp, level, logger = line.pop("time")[11:23], line.pop("level"), line.pop("logger")
    message, failure = line.pop("message", ""), line.pop("exception", "")
    rest = " ".join(f"{name}={value}" for name, value in line.items() if value not in ("", None))
    text = f"{stamp} {level:7} {logger:9} {message}  {rest}".rstrip()
    return (f"{text}\n{failure}".rstrip() if failure else text).encode(errors="backslashreplace")


def _record(level: str, logger: str, message: str) -> Line:
    return {"time": time.time(), "level": level, "logger": logger, "message": message}


class QueueHandler(logging.Handler):
    """Standard records on their way to the writer."""

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError) as error:
            message = f"{record.msg!r} (its arguments do not fit: {error})"
        line = {
            "time": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
        }
        if current := request_id.current():
            line["request_id"] = current
        line.update((name, value) for name, value in vars(record).items() if name not in _STANDARD)
        if record.exc_info and record.exc_info[0] is not None:
            line["exc_info"] = record.exc_info
        self._writer.put(line)


class Logs:
    """The process's log: `start` takes over the root logger, `access` writes a request's line."""

    def __init__(self, settings: Settings, descriptor: int | None = None) -> None:
        self._settings = settings
        self._writer = Writer(2 if descriptor is None else descriptor, text=settings.log_format == "text")
        self._handler = QueueHandler(self._writer)
        self._level = logging.getLevelNamesMapping()[settings.log_level.upper()]
        self._before: tuple[list[logging.Handler], int] | None = None
        self._accesses = self._level <= logging.INFO

    @property
    def dropped(self) -> int:
        return self._writer.dropped

    def start(self) -> None:
        root = logging.getLogger()
        self._before = (root.handlers[:], root.level)
        root.handlers[:] = [self._handler]
        root.setLevel(self._level)
        # each of these says at info what our own lines say better
        for name in (
            "uvicorn.access",
            "alembic",
            "alembic.runtime.plugins",
            "httpx",
            "httpcore",
            "aiosqlite",
            "asyncio",
        ):
            logging.getLogger(name).setLevel(max(self._level, logging.WARNING))
        logging.captureWarnings(True)

    def close(self) -> None:
        if self._before is not None:
            root = logging.getLogger()
            root.handlers[:], level = self._before
            root.setLevel(level)
            logging.captureWarnings(False)
            self._before = None
        self._writer.close()
        sys.stderr.flush()

    def access(self, line: Line, *, quiet: bool = False) -> None:
        """`line` has what is known of the request; a `quiet` one (health, metrics) shows at debug only."""
        if self._level <= logging.DEBUG if quiet else self._accesses:
            self._writer.put(
                {"time": time.time(), "level": "debug" if quiet else "info", "logger": ACCESS, **line}
            )
