"""IOPaint, which lives on a server of its own: in go a part of a picture and its hole, out comes what that server made.

It brings models that are not here (MAT, ZITS, MI-GAN, LDM, FcF ...), in an environment whose libraries are of 2024.
The server holds one model at a time; an entry of the catalogue that names one has it switched first. Strategies are
ours: the server is shown one part at a time, and the whole of it.
"""

from __future__ import annotations

import base64
import http.client
import json
import select
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from services.cleanup.engines import Check, Sight
from services.cleanup.pieces import Hole, Pixels
from services.errors import BadUpstream, DarkroomError, DeadlineExceeded, OutOfMemory, Unavailable
from services.settings import CleanupSettings

TRIES, PAUSE = 3, 0.3  # where it does not answer at all; a fill that began is never begun twice
LOOK = 0.2  # seconds between two looks whether somebody still waits
SHORT = 5.0  # seconds for a question that is no work
TRIGGER, MARGIN = 800, 128  # as IOPaint's own page
_DOWN = (ConnectionRefusedError, ConnectionResetError, http.client.RemoteDisconnected, BrokenPipeError)
_HELP = "Start it (docs/cleanup.md says how), or correct DARKROOM_IOPAINT_URL."


class IOPaintServer:
    """One server's HTTP interface. One request at a time: it does no more, and its model is everybody's."""

    def __init__(self, settings: CleanupSettings) -> None:
        address = urlsplit(settings.iopaint_url)
        self.url = settings.iopaint_url.rstrip("/")
        self._host, self._path = address.netloc, address.path.rstrip("/")
        self._secure = address.scheme == "https"
        self._timeout = settings.iopaint_timeout
        self.turn = threading.Lock()

    def models(self) -> set[str]:
        """The models that it has on its disk; none where it does not answer."""
        try:
            told = self._json("GET", "/api/v1/server-config")
            return {str(one["name"]) for one in told["modelInfos"]}
        except DarkroomError:
            return set()
        except (KeyError, TypeError):
            return set()

    def current(self) -> str:
        """The model that it holds now."""
        told = self._json("GET", "/api/v1/model")
        if not isinstance(told, dict) or "name" not in told:
            raise self._nonsense("does not tell its model")
        return str(told["name"])

    def switch(self, model: str, check: Check) -> None:
        if self.current() != model:
            self._json("POST", "/api/v1/model", {"name": model}, self._timeout, check)
            if (now := self.current()) != model:
                raise self._nonsense(f"was asked for the model {model} and holds {now}")

    def fill(self, image: bytes, mask: bytes, check: Check) -> bytes:
        ask = {
            "image": base64.b64encode(image).decode(),
            "mask": base64.b64encode(mask).decode(),
            "hd_strategy": "Original",
            "sd_keep_unmasked_area": True,
        }
        return self._ask("POST", "/api/v1/inpaint", ask, self._timeout, check)

    # ── HTTP ────────────────────────────────────────────────────────────────────────────────────────────────

    def _json(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        timeout: float = SHORT,
        check: Check = lambda: None,
    ) -> Any:
        answer = self._ask(method, path, body, timeout, check)
        try:
            return json.loads(answer)
        except ValueError as error:
            raise self._nonsense("answers with something that is not JSON") from error

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None, timeout: float, check: Check
    ) -> bytes:
        until = time.monotonic() + timeout
        for left in reversed(range(TRIES)):
            try:
                return self._once(method, path, body, until, check)
            except _DOWN as error:
                if not left:
                    raise Unavailable(
                        f"The IOPaint server {self.url} does not answer.", help=_HELP
                    ) from error
                check()
                time.sleep(PAUSE)
            except TimeoutError as error:
                raise self._late(timeout) from error
            except (OSError, http.client.HTTPException) as error:
                raise Unavailable(
                    f"The IOPaint server {self.url} cannot be reached: {error or type(error).__name__}.",
                    help=_HELP,
                ) from error
        raise AssertionError("a try either returns or raises")

    def _once(self, method: str, path: str, body: dict[str, Any] | None, until: float, check: Check) -> bytes:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, timeout=max(0.1, until - time.monotonic()))
        try:
            connection.request(
                method,
                self._path + path,
                json.dumps(body).encode() if body is not None else None,
                {"content-type": "application/json", "accept": "*/*"},
            )
            while not select.select([connection.sock], [], [], LOOK)[0]:
                check()
                if time.monotonic() > until:
                    raise TimeoutError
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != http.client.OK:
                raise self._refusal(answer.status, content)
            return content
        finally:
            connection.close()

    def _refusal(self, status: int, content: bytes) -> DarkroomError:
        said = content[:2000].decode(errors="replace")
        try:
            told = json.loads(content)
            said = next((str(told[key]) for key in ("errors", "detail") if told.get(key)), said)
        except (ValueError, AttributeError):
            pass
        said = " ".join(said.split())[:300]
        if "out of memory" in said.lower():
            return OutOfMemory(f"The IOPaint server ran out of memory: {said}")
        return BadUpstream(f"The IOPaint server {self.url} answered {status}: {said}")

    def _late(self, timeout: float) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"The IOPaint server {self.url} took longer than {timeout:g} s.",
            help="Ask for a smaller `limit`; an operator can raise DARKROOM_IOPAINT_TIMEOUT.",
        )

    def _nonsense(self, what: str) -> BadUpstream:
        return BadUpstream(
            f"The IOPaint server {self.url} {what}.",
            help="See whether DARKROOM_IOPAINT_URL names IOPaint 1.x.",
        )


class IOPaintEngine:
    """Fills with one model of the server; with none named, with whichever it holds."""

    sight = Sight(side=TRIGGER, margin=MARGIN)

    def __init__(self, server: IOPaintServer, model: str = "") -> None:
        self._server, self._model = server, model
        self.held = model  # the model that filled last

    def fill(self, part: Pixels, hole: Hole, check: Check, *, whole: bool = False) -> Pixels:
        image, mask = _png(part[..., ::-1]), _png(hole.astype(np.uint8) * 255)
        with self._server.turn:
            if self._model:
                self._server.switch(self._model, check)
            else:
                self.held = self._server.current()
            answer = self._server.fill(image, mask, check)
        found = cv2.imdecode(np.frombuffer(answer, np.uint8), cv2.IMREAD_COLOR) if answer else None
        if found is None or found.shape != part.shape:
            raise BadUpstream(
                f"The IOPaint server {self._server.url} gave something that is not the picture, filled.",
                help="See whether DARKROOM_IOPAINT_URL names IOPaint 1.x, and what it logs.",
            )
        return np.asarray(found[..., ::-1])


def _png(pixels: Pixels) -> bytes:
    _, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return bytes(data)
