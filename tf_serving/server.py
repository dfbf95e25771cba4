"""Serves models over TensorFlow Serving's gRPC and REST: `python -m tf_serving.server --help`.

For machines that TensorFlow Serving does not run on. In a program, `async with serving(Flags(...)) as server`
starts one on free ports.
"""

from __future__ import annotations

import os

# before numpy: the threads of its products and those of the requests would be in each other's way
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from types import FrameType

import grpc
import uvicorn

from tf_serving.serving.batching import Batcher
from tf_serving.serving.configuration import METRICS_PATH, metrics_path, one_model, read_batching, read_models
from tf_serving.serving.engines import Means, open_version
from tf_serving.serving.flags import Flags, cores, parse
from tf_serving.serving.grpc_services import ModelService, PredictionService
from tf_serving.serving.metrics import Metrics
from tf_serving.serving.models import Models
from tf_serving.serving.predict import Predictor
from tf_serving.serving.rest import Rest
from tf_serving.serving.status import Code, Refused, invalid
from tf_serving.stubs import ModelServerConfig
from tf_serving.stubs.services import MODEL, PREDICTION, handlers

_log = logging.getLogger("tf_serving")


class Server:
    """One that runs; `serving` makes it."""

    def __init__(self, flags: Flags) -> None:
        self.flags = flags
        self.metrics = Metrics()
        self._metrics_path = metrics_path(flags.monitoring_config_file)
        here = cores()
        self.batcher: Batcher | None = None
        runs = here
        if flags.enable_batching:
            parameters = read_batching(flags.batching_parameters_file, here)
            self.batcher, runs = Batcher(parameters, self.metrics), parameters.num_batch_threads
        means = Means(flags.max_pixels, flags.tensorflow_intra_op_parallelism, runs)
        self.models = Models(
            partial(open_version, means=means),
            self.metrics,
            flags.allow_version_labels_for_unavailable_models,
        )
        self.predictor = Predictor(
            self.models, self.metrics, self.batcher, here + 1, runs, flags.max_requests
        )
        self.port, self.rest_port = 0, 0
        self._grpc = self._made_grpc()
        self._rest: _Rest | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._trouble = ""

    async def start(self) -> None:
        """Loads what the configuration names, and listens. A model that cannot be loaded holds up no other."""
        flags = self.flags
        self.port = _bound(self._grpc, flags.host, flags.port)
        rest_socket = _listening(flags.host, flags.rest_api_port) if flags.rest_api_port >= 0 else None
        config = self._config()
        try:
            await self.models.configure(config)
        except Refused as error:
            if not list(self.models.summary()):  # the configuration itself was refused
                raise
            _log.error(error.message)
        await self._grpc.start()
        if rest_socket is not None:
            self.rest_port = rest_socket.getsockname()[1]
            self._rest = _Rest(self._app(), rest_socket, flags.drain_seconds)
            self._tasks.append(asyncio.create_task(self._rest.serve()))
        if flags.file_system_poll_wait_seconds > 0:
            self._tasks.append(
                asyncio.create_task(_every(flags.file_system_poll_wait_seconds, self.models.poll))
            )
        if flags.model_config_file and flags.model_config_file_poll_wait_seconds > 0:
            reread = partial(self._reread, config)
            self._tasks.append(asyncio.create_task(_every(flags.model_config_file_poll_wait_seconds, reread)))

    def words(self) -> Iterator[str]:
        """Where it listens and what it serves, for people."""
        host = self.flags.host
        yield f"gRPC at {host}:{self.port}"
        if self.rest_port:
            yield f"REST at http://{host}:{self.rest_port}/v1/models"
            if self._metrics_path:
                yield f"metrics at http://{host}:{self.rest_port}{self._metrics_path}"
        yield from self.models.summary()

    async def stop(self) -> None:
        """Takes nothing new; what is under way may finish within `drain_seconds`."""
        stopping = asyncio.create_task(self._grpc.stop(self.flags.drain_seconds))
        if self._rest is not None:
            self._rest.should_exit = True
            with contextlib.suppress(asyncio.CancelledError):
                await self._tasks[0]
        await stopping
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.predictor.close()
        self.models.close()
        if self.batcher is not None:
            self.batcher.close()

    def _config(self) -> ModelServerConfig:
        flags = self.flags
        if flags.model_config_file:
            return read_models(flags.model_config_file)
        return one_model(flags.model_name, flags.model_base_path)

    async def _reread(self, last: ModelServerConfig) -> None:
        """Takes up what has changed in the file; what is refused is asked again each time, and said once."""
        try:
            config = await asyncio.to_thread(self._config)
            if config == last:
                return
            await self.models.configure(config)
        except Refused as error:
            if error.code is Code.UNKNOWN:  # taken up, but for a model that cannot be served yet
                last.CopyFrom(config)
            if error.message != self._trouble:
                self._trouble = error.message
                _log.error("The configuration: %s: %s", error.code.name, error.message)
            return
        last.CopyFrom(config)
        self._trouble = ""
        _log.info("The configuration has changed: %s", "; ".join(self.models.summary()))

    def _app(self) -> Rest:
        flags = self.flags
        return Rest(
            self.models,
            self.predictor,
            self.metrics,
            self._metrics_path,
            flags.max_message_bytes,
            flags.rest_api_timeout_in_ms / 1000,
        )

    def _made_grpc(self) -> grpc.aio.Server:
        flags = self.flags
        usual: dict[str, int | str] = {
            "grpc.max_receive_message_length": flags.max_message_bytes,
            "grpc.max_send_message_length": -1,
            "grpc.so_reuseport": 0,  # a port that is taken is an error
            # clients may ask every ten seconds whether the server still lives
            "grpc.http2.min_ping_interval_without_data_ms": 10_000,
            "grpc.keepalive_permit_without_calls": 1,
        }
        server = grpc.aio.server(options=list((usual | _arguments(flags.grpc_channel_arguments)).items()))
        seconds = flags.grpc_timeout_in_ms / 1000
        prediction = PredictionService(self.models, self.predictor, seconds)
        server.add_generic_rpc_handlers(
            (handlers(PREDICTION, prediction), handlers(MODEL, ModelService(self.models)))
        )
        return server


class _Rest(uvicorn.Server):
    """uvicorn without its signals: this process has its own."""

    def __init__(self, app: Rest, listening: socket.socket, drain: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=max(1, int(drain)),
            )
        )
        self._listening = listening

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await super().serve([self._listening])


@contextlib.asynccontextmanager
async def serving(flags: Flags) -> AsyncIterator[Server]:
    """A server on this loop, with its ports in `port` and `rest_port`."""
    server = Server(flags)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def serve(flags: Flags) -> None:
    """Serves until SIGTERM, SIGINT, or the end of the parent."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, partial(_tell, loop, over.set))
    parent = os.getppid()
    async with serving(flags) as server:
        _log.info("Serving: %s", "; ".join(server.words()))
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5 if flags.end_with_parent else 3600):
                    await over.wait()
            if flags.end_with_parent and os.getppid() != parent:
                _log.info("The process that started this one has ended, and so does this.")
                break


def main(arguments: Sequence[str] | None = None) -> None:
    flags = parse(arguments)
    logging.basicConfig(
        format="%(asctime)s %(levelname).1s %(name)s %(message)s", level=logging.INFO, stream=sys.stderr
    )
    try:
        asyncio.run(serve(flags))
    except Refused as error:
        raise SystemExit(f"Failed to start server. Error: {error.code.name}: {error.message}") from error


def _tell(
    loop: asyncio.AbstractEventLoop, told: Callable[[], None], _number: int, _frame: FrameType | None
) -> None:
    loop.call_soon_threadsafe(told)


async def _every(seconds: float, call: Callable[[], object]) -> None:
    """Calls again and again; what goes wrong is said and does not end it."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await call()  # type: ignore[misc]
        except Refused as error:
            _log.error("%s: %s", error.code.name, error.message)
        except Exception:  # noqa: BLE001 - the next look may succeed
            _log.exception("Looking for changes")


def _arguments(text: str) -> dict[str, int | str]:
    """`name=value,name=value`: numbers where they are numbers, as server.cc reads them."""
    found: dict[str, int | str] = {}
    for one in filter(None, text.split(",")):
        name, is_there, value = one.partition("=")
        if not is_there:
            raise invalid(f"--grpc_channel_arguments: {one!r} is no name=value.")
        found[name] = int(value) if value.lstrip("-").isdigit() else value
    return found


def _bound(server: grpc.aio.Server, host: str, port: int) -> int:
    try:
        bound = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError:
        bound = 0
    if bound == 0:
        raise _taken(host, port)
    return bound


def _listening(host: str, port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen(1024)  # whoever reads where it listens may come at once
    except OSError as error:
        found.close()
        raise _taken(host, port) from error
    return found


def _taken(host: str, port: int) -> Refused:
    return invalid(
        f"Cannot listen on {host}:{port}: another process does, or it is no address of this machine."
    )


__all__ = ["METRICS_PATH", "Flags", "Server", "main", "serve", "serving"]

if __name__ == "__main__":
    main()
