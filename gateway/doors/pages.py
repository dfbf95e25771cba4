"""The pages a browser sees: `/` lists the operations with a form to try each, `/docs` shows the OpenAPI.

The forms are plain HTML made from each operation's schema (fields.py) and work without a script; the script shows
progress and the result in place.
"""

from __future__ import annotations

import html
from importlib.resources import files
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from gateway.doors.catalogue import describe
from gateway.doors.deps import State
from gateway.doors.fields import form_fields
from gateway.state import GatewayState
from services.operations import OPERATIONS

router = APIRouter(include_in_schema=False)
_FOLDER = Path(str(files("gateway"))) / "pages"
_SWAGGER = Path(fastapi_offline.__file__).parent / "static"


def install(app: FastAPI) -> None:
    app.mount("/pages", StaticFiles(directory=_FOLDER), name="pages")
    app.mount("/swagger", StaticFiles(directory=_SWAGGER), name="swagger")
    app.include_router(router)


@router.get("/")
async def index(state: State) -> HTMLResponse:
    described = [describe(state, kind) for kind in OPERATIONS.values()]
    described.sort(key=lambda operation: not operation["available"])  # what works comes first
    sections = "\n".join(map(_section, described))
    page = (_FOLDER / "index.html").read_text()
    return HTMLResponse(
        page.replace("{{sections}}", sections).replace("{{root}}", html.escape(state.settings.root_path))
    )


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    state: GatewayState = request.scope["darkroom"]
    return HTMLResponse(
        (_FOLDER / "docs.html").read_text().replace("{{root}}", html.escape(state.settings.root_path))
    )


def _section(operation: dict[str, Any]) -> str:
    name, note = operation["name"], ""
    state = "ready" if operation["available"] else "away"
    if not operation["available"]:
        note = f'<p class="note">{html.escape(operation["reason"])}</p>'
    return f"""<section class="{state}" id="{name}">
<h2>{name} <small>{html.escape(operation["service"])}</small></h2>
<p>{html.escape(operation["summary"])}</p>{note}
<form method="post" enctype="multipart/form-data" action="{html.escape(operation["url"])}">
{form_fields(operation["params"])}
<p><button{"" if operation["available"] else " disabled"}>Run</button> <progress hidden></progress></p>
</form><output></output></section>"""
