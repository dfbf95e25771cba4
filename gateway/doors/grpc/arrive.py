"""A client's stream of messages becomes what a form is at the native door: fields, and files of which the large lie on
disk.

First the ask comes, which may announce pictures by a name; then their chunks, in any order, until the client says that
it has sent all. The limits are those of a form: bytes of a picture, of all LoRAs, of the whole, and the time for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.blobs import Blob, Spool
from gateway.doors.grpc.calls import Requests, Rpc
from gateway.doors.grpc.convert import Converter, Found
from gateway.doors.grpc.schema import ONE_OF, Schema
from gateway.forms import Limit
from gateway.settings import Settings
from services.errors import BadInput, BadPicture, Malformed, TooLarge, TooSlow
from services.operations import Operation


@dataclass(slots=True)
class Arrived:
    """A request that is here as a whole; whoever takes the files lets go of them."""

    operation: type[Operation]
    fields: dict[str, Any]
    files: dict[str, Blob]
    head: Any  # the first message: what is asked


class Arrivals:
    def __init__(self, settings: Settings, folder: Path, schema: Schema, converter: Converter) -> None:
        self._settings, self._folder = settings, folder
        self._schema, self._converter = schema, converter

    async def take(self, rpc: Rpc, requests: Requests, first: str) -> Arrived:
        """`first` is the member that the first message has: `ask` or `submission`."""
        left = rpc.seconds_left
        seconds = self._settings.deadline if left is None else min(left, self._settings.deadline)
        try:
            async with asyncio.timeout(seconds):
                return await self._take(requests, first)
        except TimeoutError as error:
            raise TooSlow(
                "The request did not arrive within the call's deadline.",
                help="Send the chunks faster, and say when all are sent (half-close the stream).",
            ) from error

    async def _take(self, requests: Requests, first: str) -> Arrived:
        message = await anext(requests, None)
        if message is None or message.WhichOneof(ONE_OF) != first:
            raise Malformed(f"The first message must have `{first}`.", field=first, help=_HELP)
        head = getattr(message, first)
        ask = head if first == "ask" else head.ask
        method = ask.WhichOneof(ONE_OF)
        if method is None:
            raise BadInput("No operation is asked for: set one of Ask's.", field="ask")
        operation = self._schema.shapes.operations[method]
        found = Found()
        fields = self._converter.fields(getattr(ask, method), self._schema.shapes.message(operation), found)
        return Arrived(operation, fields, await self._files(found, requests), head)

    async def _files(self, found: Found, requests: Requests) -> dict[str, Blob]:
        files = _Files(self._settings, self._folder)
        try:
            for path, data in found.inline.items():
                await files.write(path, data, path)
            found.inline.clear()
            if found.chunks:
                async for message in requests:
                    if message.WhichOneof(ONE_OF) != "chunk":
                        raise Malformed("After the first message only chunks may come.", help=_HELP)
                    chunk = message.chunk
                    if chunk.name not in found.chunks:
                        raise BadInput(
                            f"No picture is to come in chunks named {chunk.name[:80]!r}.", field="chunk.name"
                        )
                    await files.write(found.part(chunk.name), chunk.data, found.chunks[chunk.name])
                    del message, chunk
            for name, path in found.chunks.items():
                if found.part(name) not in files.spools:
                    raise BadPicture(f"No chunk named {name[:80]!r} came.", field=path)
            return await files.finish()
        except BaseException:
            files.discard()
            raise


class _Files:
    """The files of one request while they come."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self.spools: dict[str, Spool] = {}
        self._limits: dict[str, Limit] = {}
        self._total = 0

    async def write(self, part: str, data: bytes, field: str) -> None:
        if part not in self.spools:
            self.spools[part] = Spool(self._folder)
            self._limits[part] = Limit(self._settings.max_picture_bytes, self._settings.max_lora_bytes)
        self._total += len(data)
        self._limits[part].count(data, field)
        weights = sum(limit.weights for limit in self._limits.values())
        if weights > self._settings.max_lora_bytes:
            raise TooLarge(
                f"The LoRAs of a request may have {self._settings.max_lora_bytes} bytes at most.", field=field
            )
        if self._total - weights > self._settings.max_body:
            raise TooLarge(
                f"A request may have {self._settings.max_body} bytes at most, LoRAs aside.", field=field
            )
        await self.spools[part].write(data)

    async def finish(self) -> dict[str, Blob]:
        done: dict[str, Blob] = {}
        try:
            for part, spool in self.spools.items():
                done[part] = await spool.finish()
        except BaseException:
            _discard(done)
            raise
        return done

    def discard(self) -> None:
        for spool in self.spools.values():
            spool.discard()


def _discard(files: Mapping[str, Blob]) -> None:
    for blob in files.values():
        blob.discard()


_HELP = "See docs/doors.md: first what is asked, then the chunks of the pictures that it announces."
