"""Models and their versions: taken from disk, served, dropped.

A version is served only when it was loaded whole and tried. One that cannot be loaded is END with the reason
in its status, and is tried again when its files change, later each time. What is served stays until something
that replaces it is served (TensorFlow Serving's AvailabilityPreservingPolicy), and what is dropped stays
until its last request is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from tf_serving.serving import folders
from tf_serving.serving.configuration import check_models
from tf_serving.serving.engines import Engine
from tf_serving.serving.metrics import Metrics
from tf_serving.serving.status import Code, Refused, invalid
from tf_serving.stubs import ModelConfig, ModelServerConfig, ModelSpec, ModelVersionStatus

_log = logging.getLogger("tf_serving.models")
Open = Callable[[Path], Engine]
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between attempts at a folder that keeps changing and failing


class State(IntEnum):
    """ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(slots=True)
class Version:
    model: str
    number: int
    folder: Path
    state: State = State.START
    error: Refused | None = None
    engine: Engine | None = None
    users: int = 0
    unused: asyncio.Event = field(default_factory=asyncio.Event)
    seen: folders.Fingerprint = ()
    failures: int = 0
    next_try: float = 0.0

    @property
    def available(self) -> bool:
        return self.state is State.AVAILABLE

    def status(self) -> ModelVersionStatus:
        found = ModelVersionStatus(version=self.number, state=int(self.state))
        found.status.error_code = self.error.number if self.error else 0
        found.status.error_message = self.error.message if self.error else ""
        return found

    def __str__(self) -> str:
        return f"{{name: {self.model} version: {self.number}}}"


@dataclass(slots=True)
class Model:
    config: ModelConfig
    versions: dict[int, Version] = field(default_factory=dict)
    trouble: str = ""  # said once

    @property
    def served(self) -> list[Version]:
        return [version for version in self.versions.values() if version.available]


class Models:
    """All that a server has."""

    def __init__(self, open_version: Open, metrics: Metrics, labels_for_unavailable: bool) -> None:
        self._open, self._metrics, self._labels_early = open_version, metrics, labels_for_unavailable
        self._models: dict[str, Model] = {}
        self._gone: dict[str, Model] = {}  # out of the configuration; their states can still be asked for
        self._labels: dict[str, dict[str, int]] = {}
        self._turn = asyncio.Lock()  # a poll and a reload do not mix
        self._loader = ThreadPoolExecutor(1, "load")
        self._unloading: set[asyncio.Task[None]] = set()
        metrics.gauge("versions_available", ("model_name",), self._counts)

    # what requests ask

    @contextlib.asynccontextmanager
    async def use(self, spec: ModelSpec) -> AsyncIterator[Version]:
        """The version that a request means; it is not unloaded within."""
        version = self.find(spec)
        version.users += 1
        try:
            yield version
        finally:
            version.users -= 1
            if version.users == 0:
                version.unused.set()

    def find(self, spec: ModelSpec) -> Version:
        """server_core.cc, ServableRequestFromModelSpec; then basic_manager.cc."""
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        number = self.number(spec)
        model = self._models.get(spec.name)
        served = {version.number: version for version in model.served} if model else {}
        if number is None and served:
            return served[max(served)]
        if number in served:
            return served[number]
        asked = f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
        raise Refused(Code.NOT_FOUND, f"Servable not found for request: {asked}")

    def number(self, spec: ModelSpec) -> int | None:
        """The version's number that a request names or labels; None where any will do."""
        match spec.WhichOneof("version_choice"):
            case "version":
                return int(spec.version.value)
            case "version_label":
                try:
                    return self._labels[spec.name][spec.version_label]
                except KeyError:
                    raise invalid(f"Unrecognized servable version label: {spec.version_label}") from None
            case _:
                return None

    def states(self, spec: ModelSpec) -> list[ModelVersionStatus]:
        """get_model_status_impl.cc; a label means the version that it names, as the REST documentation has it."""
        number = self.number(spec)
        model = self._models.get(spec.name) or self._gone.get(spec.name)
        versions = model.versions if model else {}
        if number is not None:
            if number not in versions:
                raise Refused(Code.NOT_FOUND, f"Could not find version {number} of model {spec.name}")
            return [versions[number].status()]
        if not versions:
            raise Refused(Code.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        return [versions[number].status() for number in sorted(versions, reverse=True)]

    def summary(self) -> Iterator[str]:
        """A line for each model, for people."""
        for name, model in self._models.items():
            labels: dict[int, list[str]] = {}
            for label, number in self._labels.get(name, {}).items():
                labels.setdefault(number, []).append(label)
            known = ", ".join(
                str(number) + (f" ({', '.join(labels[number])})" if number in labels else "")
                for number in sorted(version.number for version in model.served)
            )
            yield (
                f"{name}: version {known}"
                if known
                else f"{name}: no version can be served: {_why_none(model)}"
            )

    def counted(self, name: str) -> str:
        """The name under which a request is counted; those that callers make up are one."""
        return name if name in self._models else "unknown"

    def _counts(self) -> list[tuple[tuple[str, ...], float]]:
        return [((name,), float(len(model.served))) for name, model in self._models.items()]

    # what changes them

    async def configure(self, config: ModelServerConfig) -> None:
        """server_core.cc, ReloadConfig: a list of models replaces the one before, or is refused whole."""
        if config.WhichOneof("config") is None:
            return
        wanted = config.model_config_list
        check_models(wanted)
        async with self._turn:
            labels = self._checked_labels(config)
            fresh = {one.name for one in wanted.config} - set(self._models)
            old, self._models = self._models, {}
            for one in wanted.config:
                model = old.pop(one.name, None) or self._gone.pop(one.name, None) or Model(one)
                model.config = one
                model.trouble = ""
                self._models[one.name] = model
            self._labels = labels
            for name, model in old.items():
                self._gone[name] = model
                for version in model.served:
                    self._unload(version)
            for name in self._models:
                await self._refresh(self._models[name])
        self._check_available(fresh)

    async def poll(self) -> None:
        """Looks at the disk once."""
        async with self._turn:
            for model in list(self._models.values()):
                await self._refresh(model)

    def _check_available(self, fresh: set[str]) -> None:
        """server_core.cc, WaitUntilModelsAvailable: a new model of which nothing can be served is told."""
        bad = [model for name, model in self._models.items() if name in fresh and not model.served]
        if bad:
            why = "".join(
                f"{{{{name: {model.config.name}}} due to error: {_why_none(model)}}}, " for model in bad
            )
            raise Refused(Code.UNKNOWN, f"{len(bad)} model(s) did not become available: {{{why}}}")

    def _checked_labels(self, config: ModelServerConfig) -> dict[str, dict[str, int]]:
        """A label goes to what is served; to what is not yet served only where that is allowed and the label is new."""
        found: dict[str, dict[str, int]] = {}
        for one in config.model_config_list.config:
            model = self._models.get(one.name)
            served = {version.number for version in model.served} if model else set()
            for label, number in one.version_labels.items():
                before = self._labels.get(one.name, {}).get(label)
                if number not in served and not (self._labels_early and before in (None, number)):
                    raise Refused(
                        Code.FAILED_PRECONDITION,
                        f"Request to assign label to version {number} of model {one.name}, which is not currently "
                        "available for inference",
                    )
                found.setdefault(one.name, {})[label] = int(number)
        return found

    async def _refresh(self, model: Model) -> None:
        loop = asyncio.get_running_loop()
        config = model.config
        try:
            found = await loop.run_in_executor(self._loader, folders.versions, config)
        except Refused as error:  # the disk may be away for a moment: what is served stays
            _say_once(model, error.message)
            return
        numbers = folders.wanted(config, found)
        if not numbers:
            _say_once(
                model,
                f"No versions of servable {config.name} found under base path {config.base_path}. Did you forget to "
                "name your leaf directory as a number (eg. '/1/')?",
            )
        elif absent := folders.missing(config, found):
            _say_once(model, f"Versions {absent} of {config.name}, which its policy names, are not on disk.")
        else:
            model.trouble = ""
        for number in numbers:
            version = model.versions.get(number)
            if version is None or (version.state is State.END and version.error is None):
                version = model.versions[number] = Version(config.name, number, found[number])
            await self._load(version)
        if not numbers or any(model.versions[number].available for number in numbers):
            for version in model.served:
                if version.number not in numbers:
                    self._unload(version)

    async def _load(self, version: Version) -> None:
        """Loads what is new, or has failed and changed."""
        if version.state not in (State.START, State.END):
            return
        loop = asyncio.get_running_loop()
        seen = await loop.run_in_executor(self._loader, folders.fingerprint, version.folder)
        if version.state is State.END and (seen == version.seen or loop.time() < version.next_try):
            return
        version.state, version.seen = State.LOADING, seen
        _log.info("Loading servable version %s from %s", version, version.folder)
        try:
            version.engine = await loop.run_in_executor(self._loader, self._opened, version)
            version.error, version.state = None, State.AVAILABLE
            _log.info("Successfully loaded servable version %s", version)
        except Refused as error:
            self._failed(version, error)
        except Exception as error:  # noqa: BLE001 - a damaged model can raise anything, and must not end the server
            _log.debug("Loading %s", version, exc_info=True)
            self._failed(version, Refused(Code.UNKNOWN, f"{type(error).__name__}: {error}"))
        self._metrics.loaded(version.model, "OK" if version.error is None else version.error.code.name)

    def _opened(self, version: Version) -> Engine:
        """In the loader's thread."""
        engine = self._open(version.folder)
        if folders.fingerprint(version.folder) != version.seen:
            engine.close()
            raise Refused(Code.UNAVAILABLE, "Its files changed while they were read: they are being copied.")
        return engine

    def _failed(self, version: Version, error: Refused) -> None:
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**version.failures)
        version.failures += 1
        version.next_try = asyncio.get_running_loop().time() + pause
        version.error, version.state = error, State.END
        _log.error(
            "Loading servable: %s failed: %s: %s It is tried again when its files change.",
            version,
            error.code.name,
            error.message,
        )

    def _unload(self, version: Version) -> None:
        version.state = State.UNLOADING
        task = asyncio.get_running_loop().create_task(self._unloaded(version))
        self._unloading.add(task)
        task.add_done_callback(self._unloading.discard)

    async def _unloaded(self, version: Version) -> None:
        while version.users:
            version.unused.clear()
            await version.unused.wait()
        engine, version.engine = version.engine, None
        if engine is not None:
            engine.close()
        version.state = State.END
        _log.info("Done unloading servable version %s", version)

    def close(self) -> None:
        self._loader.shutdown(wait=False, cancel_futures=True)


def _why_none(model: Model) -> str:
    errors = [
        f"version {version.number}: {version.error.message}"
        for version in model.versions.values()
        if version.error
    ]
    return "; ".join(errors) or model.trouble or f"nothing found below {model.config.base_path}"


def _say_once(model: Model, trouble: str) -> None:
    if model.trouble != trouble:
        model.trouble = trouble
        _log.warning(trouble)
