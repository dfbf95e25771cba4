"""`/v1/assets`: pictures in and out. They never change, so they carry an ETag, may be cached, and take ranges."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import StreamingResponse

from gateway.answers import instant
from gateway.assets import Asset
from gateway.documents import AssetDocument, AssetPage, SignedLink
from gateway.doors.deps import State, Who, arriving
from gateway.intake import HEAD, look, look_at_weights, measure
from gateway.problems import documented, encode
from services.errors import (
    BadInput,
    BadPicture,
    BeyondTheEnd,
    Malformed,
    NotFound,
    TooLarge,
    TooSlow,
    Unavailable,
    UnsupportedMedia,
)
from services.uploads import looks_like_weights

router = APIRouter(tags=["assets"])
_RANGE = re.compile(r"bytes=(\d{0,40})-(\d{0,40})$")
_PICTURE = {"image/*": {"schema": {"type": "string", "format": "binary"}}}
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
            **_PICTURE,
        },
    }
}


def _document(asset: Asset, base: str) -> dict[str, Any]:
    document = asset.document(base)
    return document | {key: instant(document[key]) for key in ("created_at", "expires_at")}


@router.post(
    "/v1/assets",
    status_code=201,
    response_model=AssetDocument,
    openapi_extra=_UPLOAD,
    responses=documented(BadPicture, Malformed, TooLarge, TooSlow, UnsupportedMedia, Unavailable),
)
async def upload(request: Request, response: Response, state: State, who: Who) -> dict[str, Any]:
    """Keep a picture, or a LoRA's file: as the body itself, or as the one file of a form."""
    reader, content_type = request.scope["darkroom.reader"], request.headers.get("content-type", "")
    if content_type.startswith("multipart/"):
        async with arriving(state):
            form = await reader.form(content_type, request.stream())
        if len(form.files) != 1 or form.fields:
            form.discard()
            raise BadInput("Send a form with one file part and nothing else.", field="file")
        field, blob = next(iter(form.files.items()))
    elif content_type.startswith("image/") or content_type == "application/octet-stream":
        async with arriving(state):
            field, blob = "body", await reader.blob(content_type, request.stream())
    else:
        raise UnsupportedMedia(
            "Send the picture as multipart/form-data, or as a body of type image/png and the like."
        )
    try:
        size: tuple[int | None, int | None] = (None, None)
        if looks_like_weights(await blob.head(16)):
            await look_at_weights(blob, field, state.settings)
        else:
            await look(blob, field, state.settings)
            size = measure(await blob.head(HEAD), field)[1] or size
        asset = await state.assets.put(
            blob.pieces(),
            owner=who.key_id,
            media_type=blob.media_type,
            kind="input",
            width=size[0],
            height=size[1],
        )
    finally:
        blob.discard()
    document = _document(asset, state.settings.root_path)
    response.headers["location"] = document["url"]
    return document


@router.get("/v1/assets", response_model=AssetPage, responses=documented(BadInput, NotFound, Unavailable))
async def index(
    state: State,
    who: Who,
    before: Annotated[
        str | None,
        Query(max_length=64, pattern=r"^\w+$", description="Read on from here: `next` of the last page."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    """Your pictures, newest first; an admin key sees everyone's."""
    owner = None if "admin" in who.scopes else who.key_id
    found = await state.assets.page(owner, before=before, limit=limit)
    base = state.settings.root_path
    return {
        "assets": [_document(a, base) for a in found],
        "next": found[-1].id if len(found) == limit else None,
    }


@router.get(
    "/v1/assets/{asset_id}",
    response_class=Response,
    responses=documented(
        BadInput,
        NotFound,
        BeyondTheEnd,
        Unavailable,
        also={
            200: {"description": "The picture.", "content": _PICTURE},
            206: {"description": "The part of it that Range asked for.", "content": _PICTURE},
            304: {"description": "It has not changed; it never does."},
        },
    ),
)
@router.head("/v1/assets/{asset_id}", include_in_schema=False)
async def read(
    asset_id: str,
    request: Request,
    state: State,
    expires: Annotated[str | None, Query(max_length=16, description="Of a signed link.")] = None,
    signature: Annotated[str | None, Query(max_length=128, description="Of a signed link.")] = None,
) -> Response:
    """A picture's bytes."""
    caller = request.scope["caller"]
    if caller is None:
        state.signer.check_link(f"/v1/assets/{asset_id}", expires or "", signature or "")
    asset = await state.assets.get(asset_id, caller)
    etag = f'"{asset.sha256}"'
    headers = {
        "etag": etag,
        "accept-ranges": "bytes",
        "cache-control": f"private, max-age={max(0, int(asset.expires_at - time.time()))}, immutable",
        "content-disposition": f'inline; filename="{asset.id}.{asset.media_type.rpartition("/")[2]}"',
    }
    known = request.headers.get("if-none-match", "")
    if etag in known or known.strip() == "*":
        return Response(status_code=304, headers=headers)
    span = _span(request.headers.get("range", ""), asset.size)
    if span == "beyond":
        status, told, body = encode(
            BeyondTheEnd(f"The picture has {asset.size} bytes.", field="Range"), request.scope["request_id"]
        )
        beyond = Response(body, status)
        beyond.raw_headers = [*told, (b"content-range", f"bytes */{asset.size}".encode())]
        return beyond
    start, end = span or (0, asset.size)
    headers["content-length"] = str(end - start)
    if span:
        headers["content-range"] = f"bytes {start}-{end - 1}/{asset.size}"
    status = 206 if span else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=asset.media_type)
    pieces: AsyncIterator[bytes] = await state.assets.read(asset, start, end if span else None)
    return StreamingResponse(pieces, status, headers, asset.media_type)


def _span(header: str, size: int) -> Any:
    """(start, end) of the one range asked for, None for the whole, "beyond" where nothing of it exists."""
    match = _RANGE.match(header.strip())
    if not match or (not match[1] and not match[2]):
        return None
    if match[1] and match[2] and int(match[2]) < int(match[1]):
        return None  # no range at all, so the whole is asked for (RFC 9110, 14.1.1)
    if not match[1]:
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(int(match[2]) + 1 if match[2] else size, size)
    return (start, end) if start < end else "beyond"


@router.delete(
    "/v1/assets/{asset_id}", status_code=204, responses=documented(BadInput, NotFound, Unavailable)
)
async def delete(asset_id: str, state: State, who: Who) -> Response:
    """Delete a picture now, rather than when its time is over."""
    await state.assets.delete(asset_id, who)
    return Response(status_code=204)


@router.post(
    "/v1/assets/{asset_id}/link",
    response_model=SignedLink,
    responses=documented(BadInput, NotFound, Unavailable),
)
async def link(
    asset_id: str,
    state: State,
    who: Who,
    seconds: Annotated[int, Query(ge=1, le=7 * 86400, description="How long the link shall work.")] = 3600,
) -> dict[str, Any]:
    """A link that shows the picture to whoever has it, for a time."""
    asset = await state.assets.get(asset_id, who)
    now = time.time()
    seconds = min(seconds, int(asset.expires_at - now))
    return {
        "url": state.settings.public_base + state.signer.link(f"/v1/assets/{asset.id}", seconds),
        "expires_at": instant(now + seconds),
    }
