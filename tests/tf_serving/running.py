"""A server of this package as a process of its own, over two nets so simple that a test can say what comes
out."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from PIL import Image

from tf_serving.stubs import DT_STRING, PredictRequest
from tf_serving.stubs.services import MODEL, PREDICTION, Stub

NETS = Path(__file__).parent / "nets"
SIDE = 16


def put_version(folder: Path, net: str = "swap", **more: Any) -> Path:
    """A version folder, whole from its first moment."""
    fresh = folder.parent / f".{folder.name}.new"
    fresh.mkdir(parents=True)
    shutil.copy(NETS / f"{net}.tflite", fresh / "model.tflite")
    (fresh / "model.json").write_text(json.dumps({"name": "toy", "side": SIDE, "pictures": 1} | more))
    fresh.rename(folder)
    return folder


def png(colour: tuple[int, ...] = (255, 0, 0), size: tuple[int, int] = (20, 12), kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGBA" if len(colour) == 4 else "RGB", size, colour).save(out, kind)
    return out.getvalue()


def colour_of(data: bytes) -> tuple[int, ...]:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG" and image.mode == "RGB"
        return tuple(int(value) for value in image.getpixel((image.width // 2, image.height // 2)))  # type: ignore[union-attr]


def asked(*pictures: bytes, model: str = "toy", signature: str = "", **spec: Any) -> PredictRequest:
    """A Predict of pictures' bytes."""
    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    tensor = request.inputs["image_bytes"]
    tensor.dtype = DT_STRING
    tensor.string_val.extend(pictures)
    tensor.tensor_shape.dim.add(size=len(pictures))
    return request


class Running:
    """A server process: `predict`, `models` speak gRPC, `rest` speaks HTTP, `log` is what it has said."""

    def __init__(self, *flags: str, tmp: Path) -> None:
        self._log = tmp / f"server-{time.monotonic_ns()}.log"
        command = (sys.executable, "-m", "tf_serving.server", "--port=0", "--rest_api_port=0", *flags)
        with self._log.open("wb") as sink:
            self.process = subprocess.Popen(command, stdout=sink, stderr=sink, env=environment())
        try:
            self.wait_for(lambda: "Serving: " in self.log, 60)
        except BaseException:
            self.stop()
            raise
        said = re.search(r"gRPC at (\S+:\d+); REST at (http://\S+)/v1/models", self.log)
        assert said, self.log
        self.address, url = said[1], said[2]
        self.channel = grpc.insecure_channel(self.address)
        self.prediction, self.models = Stub(self.channel, PREDICTION), Stub(self.channel, MODEL)
        self.rest = httpx.Client(base_url=url, timeout=30, trust_env=False)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def predict(self, request: PredictRequest, timeout: float = 20) -> Any:
        return self.prediction.Predict(request, timeout=timeout)

    def refused(self, request: Any, call: str = "Predict") -> tuple[str, str]:
        """The code and the words with which a call is refused."""
        with pytest.raises(grpc.RpcError) as caught:
            getattr(self.models if hasattr(self.models, call) else self.prediction, call)(request, timeout=20)
        return caught.value.code().name, caught.value.details()  # type: ignore[attr-defined]

    def state(self, number: int, model: str = "toy") -> dict[str, Any]:
        answer = self.rest.get(f"/v1/models/{model}/versions/{number}").json()
        return (
            dict(answer["model_version_status"][0]) if "model_version_status" in answer else {"state": "none"}
        )

    def wait_for_state(self, number: int, state: str, model: str = "toy") -> dict[str, Any]:
        self.wait_for(lambda: self.state(number, model)["state"] == state, 15)
        return self.state(number, model)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 15) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"The server ended:\n{self.log}"
            assert time.monotonic() < until, f"Not within {seconds} s. The server said:\n{self.log}"
            time.sleep(0.05)

    def stop(self) -> int:
        with contextlib.suppress(AttributeError):
            self.channel.close()
            self.rest.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
            raise


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "TF_NUM_INTRAOP_THREADS": "1",
    }


@contextlib.contextmanager
def in_threads(*calls: Callable[[], Any]) -> Iterator[list[Any]]:
    """Runs calls at the same time; their results are there at the end."""
    found: list[Any] = [None] * len(calls)

    def run(number: int, call: Callable[[], Any]) -> None:
        try:
            found[number] = call()
        except Exception as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=(number, call)) for number, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    yield found
    for thread in threads:
        thread.join(60)
