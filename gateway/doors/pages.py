"""The pages a browser sees: `/` lists the operations with a form to try each, `/docs` shows the OpenAPI.

The forms are plain HTML made from each operation's schema and work without a script; the script shows progress
and the result in place.
"""

from __future__ import annotations

import html
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from gateway.doors.catalogue import describe
from gateway.doors.deps import State
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
    schema = operation["params"]
    required = schema.get("required", [])
    rows = [
        _row(field, value, field in required, operation["pictures"])
        for field, value in sorted(
            schema["properties"].items(), key=lambda item: (item[0] not in required, item[0] == "model")
        )
    ]
    first, rest = [r for r, need in rows if need], [r for r, need in rows if not need]
    more = f"<details><summary>{len(rest)} more settings</summary>{''.join(rest)}</details>" if rest else ""
    return f"""<section class="{state}" id="{name}">
<h2>{name} <small>{html.escape(operation["service"])}</small></h2>
<p>{html.escape(operation["summary"])}</p>{note}
<form method="post" enctype="multipart/form-data" action="{html.escape(operation["url"])}">
{"".join(first)}{more}
<p><button{"" if operation["available"] else " disabled"}>Run</button> <progress hidden></progress></p>
</form><output></output></section>"""


def _row(field: str, schema: dict[str, Any], required: bool, pictures: dict[str, str]) -> tuple[str, bool]:
    label = f'<label><span title="{html.escape(schema.get("description", ""), quote=True)}">{field}</span>'
    need = " required" if required else ""
    if field in pictures and "anyOf" not in schema:
        return f'{label}<input type="file" name="{field}" accept="image/*"{need}></label>', required
    options, kinds = _choices(schema)
    default = schema.get("default")
    if options:
        chosen = "".join(
            f"<option{' selected' if option == default else ''}>{html.escape(str(option))}</option>"
            for option in options
        )
        empty = "" if required or default is not None else '<option value=""></option>'
        return f'{label}<select name="{field}">{empty}{chosen}</select></label>', required
    if "boolean" in kinds:
        return (
            f'{label}<select name="{field}"><option>false</option><option>true</option></select></label>',
            required,
        )
    shown = (
        ""
        if default in (None, [], {})
        else html.escape(default if isinstance(default, str) else json.dumps(default), quote=True)
    )
    number = ' inputmode="decimal"' if kinds & {"number", "integer"} else ""
    hint = html.escape(str(schema.get("examples", [""])[0]), quote=True)
    if "array" in kinds:
        hint = "JSON"
    return (
        f'{label}<input name="{field}" value="{shown}" placeholder="{hint}"{number}{need}></label>',
        required,
    )


def _choices(schema: dict[str, Any]) -> tuple[list[Any], set[str]]:
    branches = schema.get("anyOf", [schema])
    options = [option for branch in branches for option in branch.get("enum", [])]
    kinds = {str(branch.get("type")) for branch in branches}
    return (options if not kinds & {"number", "integer"} else [], kinds)
