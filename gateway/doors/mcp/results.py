"""What a tool answers with: an outcome in; pictures to see, links to the whole ones and their description out."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

from mcp_types import CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent
from pydantic import BaseModel, Field

from gateway.assets import Asset
from gateway.callers import Caller
from gateway.desk import Made, Outcome, sentence
from gateway.doors.mcp.views import SIDE, View, Viewer
from gateway.state import GatewayState
from services.errors import BadInput, BadPicture, DarkroomError, DeadlineExceeded, NotFound, UnknownModel
from services.pictures import GIVEN

__all__ = ["ASSETS", "MODELS", "SIDE", "Answer", "Results", "fault", "told"]

ASSETS, MODELS = "darkroom://assets/", "darkroom://models"
LINK_SECONDS = 3600
PROBLEM = "darkroom/problem"  # the key in `_meta` under which an error's document is


class Told(BaseModel):
    """One picture of an answer."""

    uri: str = Field(description="Names the whole picture: to other tools, and to resources/read.")
    url: str = Field(description="For a person: opens the whole picture in a browser, for an hour.")
    role: str = Field(description="`picture`, or `map` for the control map that was used.")
    media_type: str
    width: int
    height: int
    bytes: int
    seed: int | None = Field(description="The same words and the same seed give the same picture.")
    shown: str = Field(description="How this answer shows it: the whole, or scaled to so many pixels.")
    withheld: bool = Field(description="The safety checker withheld it; the picture is blank.")


class Answer(BaseModel):
    """What a tool says beside its pictures."""

    operation: str
    model: str = Field(description="The model that did it; what `auto` became.")
    pictures: list[Told]
    data: Any = Field(None, description="What an operation says that answers with data.")
    seconds: float
    timing: dict[str, Any]


class Results:
    def __init__(self, state: GatewayState) -> None:
        self._state = state
        self._viewer = Viewer()

    async def result(self, outcome: Outcome, caller: Caller, base: str, *, links: bool) -> CallToolResult:
        """Its pictures are kept as the caller's; `base` begins their addresses, `links` says that the client knows
        links to resources."""
        operation = outcome.ask.name()
        views = await self._viewer.views(outcome.pictures) if outcome.pictures else []
        content: list[ContentBlock] = []
        pictures, behind = [], []
        for made, view in zip(outcome.pictures, views, strict=True):
            asset = await self._kept(made, caller, operation)
            pictures.append(self._told(made, view, asset, base))
            content.append(ImageContent(data=view.data, mime_type=view.media_type))
            behind.append(link(asset))
        answer = Answer(
            operation=operation,
            model=outcome.model,
            pictures=pictures,
            data=outcome.data,
            seconds=round(outcome.seconds, 3),
            timing=outcome.timing,
        )
        content.append(TextContent(text=answer.model_dump_json()))
        if links:
            content += behind
        return CallToolResult(content=content, structured_content=answer.model_dump(mode="json"))

    async def _kept(self, made: Made, caller: Caller, operation: str) -> Asset:
        async def pieces() -> AsyncIterator[bytes]:
            yield made.data

        return await self._state.assets.put(
            pieces(),
            owner=caller.key_id,
            media_type=made.media_type,
            width=made.width,
            height=made.height,
            seed=made.seed,
            operation=operation,
        )

    def _told(self, made: Made, view: View, asset: Asset, base: str) -> Told:
        whole = (view.width, view.height) == (made.width, made.height)
        return Told(
            uri=uri(asset),
            url=base + self._state.signer.link(f"/v1/assets/{asset.id}", LINK_SECONDS),
            role=made.role,
            media_type=made.media_type,
            width=made.width,
            height=made.height,
            bytes=len(made.data),
            seed=made.seed,
            shown=f"{'whole' if whole else f'scaled to {view.width}x{view.height}'}, {view.media_type}",
            withheld=made.withheld,
        )


def uri(asset: Asset) -> str:
    return ASSETS + asset.id


def described(asset: Asset) -> dict[str, Any]:
    """What a resource and a link to it have in common."""
    kind = asset.media_type.partition("/")[2]
    about = [f"{asset.width}x{asset.height}"] if asset.width and asset.height else []
    about += [f"seed {asset.seed}"] if asset.seed is not None else []
    return {
        "uri": uri(asset),
        "name": f"{asset.operation or asset.kind}-{asset.id[4:12]}.{kind}",
        "mime_type": asset.media_type,
        "size": asset.size,
        "description": ", ".join(about) or None,
    }


def link(asset: Asset) -> ResourceLink:
    return ResourceLink(**described(asset))


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────

# what to do, where the usual sentence speaks of HTTP
_HELP: dict[type[DarkroomError], str] = {
    BadInput: "Correct the parameter that is named; the tool's input schema says what it takes.",
    BadPicture: "Give a whole PNG, JPEG, WebP, GIF, BMP or TIFF picture.",
    UnknownModel: "`auto` always works; darkroom://models lists the others.",
    DeadlineExceeded: "Ask for less: fewer pictures, fewer steps, fewer pixels.",
    NotFound: "resources/list has what there is; pictures are kept for a set time.",
}


_GIVEN = "the `uri` of an earlier result, an https address, a data URI or base64"


def told(error: DarkroomError) -> str:
    """What is wrong and what to do, for a model that reads it."""
    help_ = error.what_to_do
    if help_ == type(error).help:
        help_ = _HELP.get(type(error), help_)
        if error.retry_after is not None:
            help_ = f"Try again in {max(1, math.ceil(error.retry_after))} seconds."
    return sentence(error, help_).replace(GIVEN, _GIVEN)


def fault(error: DarkroomError) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(text=told(error))], is_error=True, _meta={PROBLEM: error.problem()}
    )
