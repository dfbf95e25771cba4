"""A stand-in for an IOPaint server, for what a real one does not do on demand: fail, dawdle, talk nonsense.

It answers as one holding `model` and having `models`, and fills by a plain colour; `how` says what goes wrong.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np

COLOUR = (10, 200, 30)


class StandIn:
    def __init__(self) -> None:
        self.model, self.models, self.how = "cv2", ["cv2", "mat"], ""
        self.fills = 0
        self.asked: list[str] = []
        self.url = ""

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        self.asked.append(f"{method} {path}")
        if path == "/api/v1/server-config":
            return 200, json.dumps({"modelInfos": [{"name": name} for name in self.models]}).encode()
        if path == "/api/v1/model":
            if method == "POST" and self.how != "stubborn":
                self.model = body["name"]
            return 200, json.dumps({"name": self.model}).encode()
        self.fills += 1
        return self._filled(body)

    def _filled(self, body: dict[str, Any]) -> tuple[int, bytes]:
        match self.how:
            case "memory":
                return 500, json.dumps({"error": "RuntimeError", "errors": "CUDA out of memory."}).encode()
            case "error":
                return 500, json.dumps(
                    {"error": "ValueError", "detail": "", "errors": "a bad thing"}
                ).encode()
            case "page":
                return 502, b"<html>no such place</html>"
            case "nonsense":
                return 200, b"no picture"
            case "slow":
                time.sleep(3)
        sent = cv2.imdecode(np.frombuffer(base64.b64decode(body["image"]), np.uint8), cv2.IMREAD_COLOR)
        sent[:] = COLOUR[::-1]
        if self.how == "small":
            sent = sent[:-1]
        return 200, bytes(cv2.imencode(".png", sent)[1])


@contextmanager
def stand_in() -> Iterator[StandIn]:
    state = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("GET", {})

        def do_POST(self) -> None:
            self._answer("POST", json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def _answer(self, method: str, body: dict[str, Any]) -> None:
            status, content = state.answer(method, self.path, body)
            if state.how == "hangs up" and "inpaint" in self.path:
                self.connection.close()
                return
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A client that went away is what some tests want."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
