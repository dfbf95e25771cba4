"""BentoML as a service's host: in goes a Service class, out comes what `bentoml serve` runs.

BentoML gives /livez, /readyz, /metrics, the bento's packaging and typed methods for its own clients; the way
of the gateway is the ASGI app that is mounted beside them (serving.py says why). The typed methods are made from
the operations: pictures are files in and out (of several the
first), and they share the slots, limits and errors of the gateway's way.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, get_args

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml
from bentoml.exceptions import BentoMLException

from services.errors import DarkroomError, TooLarge, from_problem
from services.frames import Event, FrameDecoder
from services.intake import Part, validate
from services.operations import Operation
from services.pictures import Picture
from services.serving import Service, ServiceApp

# BentoML's own limit on a request would end a long generation; every call has its own deadline instead
NO_TIMEOUT = 24 * 3600
_HAS_STATUS = frozenset(status.value for status in HTTPStatus)


def hosted(kind: type[Service]) -> Any:
    """A BentoML service that hosts `kind`; `.inner.app` is its ServiceApp."""
    app = ServiceApp(kind)

    async def is_ready(_: Any) -> bool:
        return app.ready

    members: dict[str, Any] = {
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
        "app": app,
        "__is_ready__": is_ready,
    }
    for operation in app.operations.values():
        method = _typed_method(app, operation)
        if method is not None:
            members[operation.method()] = bentoml.api(method)
    mounted = bentoml.asgi_app(app.asgi, path="/")(type(kind.__name__, (), members))
    return bentoml.service(
        name=app.name,
        workers=1,
        threads=app.capacity,
        traffic={"timeout": NO_TIMEOUT},
        logging={"access": {"enabled": False}},
    )(mounted)


def _typed_method(app: ServiceApp, operation: type[Operation]) -> Callable[..., Awaitable[Any]] | None:
    """The operation as a function of files and values; None where it needs what BentoML's types cannot say."""
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    for name, field in operation.model_fields.items():
        kind = _type_for_bentoml(field.annotation)
        if kind is None and field.is_required():
            return None
        if kind is None:
            continue
        default = (
            inspect.Parameter.empty if field.is_required() else field.get_default(call_default_factory=True)
        )
        if isinstance(default, Picture):
            continue
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        )
    parameters.append(inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=bentoml.Context))
    answer = dict[str, Any] if operation.answers == "data" else Path

    async def method(_: Any, **given: Any) -> Any:
        folder = Path(given.pop("ctx").temp_dir)
        try:
            bodies, data = await _perform(app, operation, given)
        except DarkroomError as error:
            status = error.status if error.status in _HAS_STATUS else HTTPStatus.SERVICE_UNAVAILABLE
            raise BentoMLException(
                f"{error.detail} {error.what_to_do}", error_code=HTTPStatus(status)
            ) from error
        if operation.answers == "data":
            return data
        path = folder / f"picture.{given.get('format') or 'png'}"
        await asyncio.to_thread(path.write_bytes, bodies[0])
        return path

    method.__name__ = operation.method()
    method.__doc__ = operation.__doc__
    method.__signature__ = inspect.Signature(parameters, return_annotation=answer)  # type: ignore[attr-defined]
    method.__annotations__ = {p.name: p.annotation for p in parameters[1:]} | {"return": answer}
    return method


def _type_for_bentoml(annotation: Any) -> Any:
    """A picture is a file; what holds pictures deeper inside has no type there."""
    choices = get_args(annotation) or (annotation,)
    pictures = [c for c in choices if isinstance(c, type) and issubclass(c, Picture)]
    if pictures and str not in choices:
        return (Path | None) if type(None) in choices else Path
    if pictures or _holds_pictures(annotation):
        return None
    return annotation


def _holds_pictures(annotation: Any) -> bool:
    fields = getattr(annotation, "model_fields", {})
    if any(isinstance(f.annotation, type) and issubclass(f.annotation, Picture) for f in fields.values()):
        return True
    return any(_holds_pictures(inner) or inner is Picture for inner in get_args(annotation))


async def _perform(
    app: ServiceApp, operation: type[Operation], given: dict[str, Any]
) -> tuple[list[bytes], Any]:
    """Runs one call to its end: the pictures' bytes and the data."""
    app.admit(operation.name(), None)
    try:
        parts: dict[str, Part] = {
            name: await _read(app, name, value) for name, value in given.items() if isinstance(value, Path)
        }
        named = {name: f"part:{name}" for name in parts}
        ask = validate(operation, {name: value for name, value in given.items() if value is not None} | named)
        deadline = time.monotonic() + app.settings.default_timeout
        call = app.start_call(ask, parts, deadline)
    except BaseException:
        app.release()
        raise
    bodies: list[bytes] = []
    decoder, wanted = FrameDecoder(), False
    try:
        await call.admission()
        async for frame in call.frames():
            for item in decoder.feed(b"".join(frame)):
                if not isinstance(item, Event):
                    if wanted:
                        bodies[-1] += bytes(item)
                    continue
                wanted = item.kind == "result"
                if wanted:
                    bodies.append(b"")
                elif item.kind == "error":
                    raise from_problem(item["problem"])
                elif item.kind == "done":
                    return bodies, item.get("data")
    finally:
        call.stop()
    raise RuntimeError("The frames ended without `done` or `error`.")


async def _read(app: ServiceApp, name: str, path: Path) -> bytes:
    size = (await asyncio.to_thread(path.stat)).st_size
    if size > app.settings.max_picture_bytes:
        raise TooLarge(
            f"{name} has {size:,} bytes; {app.settings.max_picture_bytes:,} are allowed.", field=name
        )
    return await asyncio.to_thread(path.read_bytes)
