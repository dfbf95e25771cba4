"""An operation as an attribute of the client: `darkroom.cleanup(...)`, and `.stream`, `.submit` and `.batch` of it.

A function of asks.py goes in, which has the operation's parameters as its own and answers with those that were given;
here its signature becomes that of the calls, so that an editor completes them and a type checker judges them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, ParamSpec

if TYPE_CHECKING:
    from gateway.client.answers import Outcome, Result
    from gateway.client.asynchronous import AsyncDarkroom, AsyncJob, AsyncStream
    from gateway.client.sync import Darkroom, Job, Stream

P = ParamSpec("P")


class Ask(NamedTuple):
    """What is asked for: an operation's name, and the parameters that were given."""

    operation: str
    params: dict[str, Any]


class Doing(Generic[P]):
    """One operation of a `Darkroom`: call it for its result."""

    def __init__(self, darkroom: Darkroom, ask: Callable[P, Ask]) -> None:
        self._darkroom, self._ask = darkroom, ask
        update_wrapper(self, ask)

    def __call__(self, *args: P.args, **params: P.kwargs) -> Result:
        operation, given = self._ask(*args, **params)
        return self._darkroom.run(operation, **given)

    def stream(self, *args: P.args, **params: P.kwargs) -> Stream:
        """The same, with its progress."""
        operation, given = self._ask(*args, **params)
        return self._darkroom.stream(operation, **given)

    def submit(self, *args: P.args, **params: P.kwargs) -> Job:
        """The same, as a job; `Darkroom.submit` takes a priority, a webhook and a key for repeats too."""
        operation, given = self._ask(*args, **params)
        return self._darkroom.submit(operation, **given)

    def batch(self, given: Iterable[Any], /, *, concurrency: int = 4, **params: Any) -> Iterator[Outcome]:
        """The same for many; see `Darkroom.batch`."""
        name = self._ask.__name__.replace("_", "-")
        return self._darkroom.batch(name, given, concurrency=concurrency, **params)


class AsyncDoing(Generic[P]):
    """One operation of an `AsyncDarkroom`: await its call for its result."""

    def __init__(self, darkroom: AsyncDarkroom, ask: Callable[P, Ask]) -> None:
        self._darkroom, self._ask = darkroom, ask
        update_wrapper(self, ask)

    async def __call__(self, *args: P.args, **params: P.kwargs) -> Result:
        operation, given = self._ask(*args, **params)
        return await self._darkroom.run(operation, **given)

    def stream(self, *args: P.args, **params: P.kwargs) -> AsyncStream:
        """The same, with its progress."""
        operation, given = self._ask(*args, **params)
        return self._darkroom.stream(operation, **given)

    async def submit(self, *args: P.args, **params: P.kwargs) -> AsyncJob:
        """The same, as a job; `AsyncDarkroom.submit` takes a priority, a webhook and a key for repeats too."""
        operation, given = self._ask(*args, **params)
        return await self._darkroom.submit(operation, **given)

    def batch(
        self, given: Iterable[Any], /, *, concurrency: int = 4, **params: Any
    ) -> AsyncIterator[Outcome]:
        """The same for many; see `AsyncDarkroom.batch`."""
        name = self._ask.__name__.replace("_", "-")
        return self._darkroom.batch(name, given, concurrency=concurrency, **params)


class Does(Generic[P]):
    """Makes an attribute of a client class out of a function of asks.py."""

    def __init__(self, ask: Callable[P, Ask]) -> None:
        self._ask = ask

    def __get__(self, darkroom: Any, owner: type) -> Doing[P]:
        return Doing(darkroom, self._ask)


class AsyncDoes(Generic[P]):
    """The same for the client for asyncio."""

    def __init__(self, ask: Callable[P, Ask]) -> None:
        self._ask = ask

    def __get__(self, darkroom: Any, owner: type) -> AsyncDoing[P]:
        return AsyncDoing(darkroom, self._ask)
