"""What a client can read: the caller's own pictures as `darkroom://assets/ID`, and the models as `darkroom://models`."""

from __future__ import annotations

import asyncio
import base64

import orjson
from mcp_types import (
    Annotations,
    BlobResourceContents,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)

from gateway.answers import instant
from gateway.callers import Caller
from gateway.doors import offered
from gateway.doors.mcp.results import ASSETS, MODELS, described
from gateway.state import GatewayState
from services.errors import NotFound, TooLarge

PAGE = 50


class Resources:
    def __init__(self, state: GatewayState) -> None:
        self._state = state

    async def page(self, caller: Caller, cursor: str | None) -> ListResourcesResult:
        """The caller's pictures, newest first; before them, on the first page, what is no picture."""
        assets = await self._state.assets.page(caller.key_id, before=cursor, limit=PAGE + 1)
        found = [
            Resource(
                **described(asset),
                annotations=Annotations(last_modified=instant(asset.created_at)),
            )
            for asset in assets[:PAGE]
        ]
        if cursor is None:
            found.insert(
                0,
                Resource(
                    uri=MODELS,
                    name="models",
                    title="Models",
                    description="The models and LoRAs that can be asked for, by service.",
                    mime_type="application/json",
                ),
            )
        more = assets[PAGE - 1].id if len(assets) > PAGE else None
        return ListResourcesResult(resources=found, next_cursor=more)

    def templates(self) -> ListResourceTemplatesResult:
        template = ResourceTemplate(
            uri_template=ASSETS + "{id}",
            name="picture",
            title="A picture",
            description="A picture that a tool made or that was uploaded, whole, by its id.",
        )
        return ListResourceTemplatesResult(resource_templates=[template])

    async def read(self, uri: str, caller: Caller) -> ReadResourceResult:
        if uri == MODELS:
            text = orjson.dumps(self._models(), default=str).decode()
            return ReadResourceResult(
                contents=[TextResourceContents(uri=uri, mime_type="application/json", text=text)]
            )
        if not uri.startswith(ASSETS):
            raise NotFound(
                f"There is no resource {uri[:200]!r}.", help=f"Resources are {ASSETS}ID and {MODELS}."
            )
        asset = await self._state.assets.get(uri.removeprefix(ASSETS)[:64], caller)
        most = self._state.settings.max_picture_bytes
        if asset.size > most:
            raise TooLarge(
                f"The resource has {asset.size} bytes; {most} can be read in one message.",
                help=f"GET /v1/assets/{asset.id} gives it piece by piece.",
            )
        data = b"".join([piece async for piece in await self._state.assets.read(asset)])
        blob = (await asyncio.to_thread(base64.b64encode, data)).decode()
        return ReadResourceResult(
            contents=[BlobResourceContents(uri=uri, mime_type=asset.media_type, blob=blob)]
        )

    def _models(self) -> dict[str, dict[str, list[dict[str, object]]]]:
        return {
            service: {
                kind: [
                    {
                        "name": one["name"],
                        "loaded": bool(one.get("loaded")),
                        "aliases": one.get("aliases", []),
                    }
                    for one in offered.models(self._state, service, kind)
                ]
                for kind in ("model", "lora")
            }
            for service in self._state.upstream.status()
        }
