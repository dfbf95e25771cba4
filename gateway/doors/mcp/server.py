"""The protocol's side of the door: the official package's server, one message at a time.

    Message ──> the package (versions, framing, JSON or events) ──> a handler here ──> Desk, assets
                                                 └ progress on the call's own stream

Nothing is kept between two messages, so that any gateway can answer any of them. Importing this takes a good half
second (the package's); `door.py` does it when the first message comes.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from mcp import MCPError
from mcp.server import CacheHint, Server, ServerRequestContext
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    EmptyResult,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    SetLevelRequestParams,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, is_version_at_least
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from gateway import logs
from gateway.callers import Caller
from gateway.desk import Desk, Guest
from gateway.doors.mcp import prompts, tools
from gateway.doors.mcp.message import Message
from gateway.doors.mcp.resources import Resources
from gateway.doors.mcp.results import Results, fault, told
from gateway.doors.mcp.running import Running
from gateway.doors.watch import Watch
from gateway.problems import translate
from services.errors import DarkroomError, NotFound
from services.frames import Event

logging.getLogger("mcp").setLevel(logging.WARNING)  # it tells of each message's beginning and end

ASKED = "darkroom.mcp"  # where in the scope a handler finds what was asked
REQUEST_CANCELLED = -32800
RESOURCE_NOT_FOUND = -32002  # until the version of 2026, which has INVALID_PARAMS for it
LINKS_SINCE = "2025-06-18"
INSTRUCTIONS = """Darkroom makes and changes pictures: each tool is one operation on its own models.
Pictures that a tool made stay here. Hand one on by its `uri` (darkroom://assets/ID) instead of its bytes, as from
text-to-image to remove-background. A user's picture may be an https address, a data URI or base64.
Answers show pictures scaled down. Give people the `url` of a result: it opens the whole picture for an hour.
A `mask` is a picture, too: white where the work happens. The same `seed` and words give the same picture.
What went wrong is said in words, with what to do; `model: auto` is always right to begin with."""


@dataclass(slots=True)
class Asked:
    """What a handler needs of the request that it answers."""

    message: Message
    running: Running
    caller: Caller
    request_id: str
    base: str  # of links to pictures


Context = ServerRequestContext[Any, Any]


class McpServer:
    def __init__(self, desk: Desk) -> None:
        self._desk, self._state = desk, desk.state
        self._results, self._resources = Results(desk.state), Resources(desk.state)
        minute, hour = CacheHint(ttl_ms=60_000), CacheHint(ttl_ms=3_600_000)
        self._server: Server[Any] = Server(
            "darkroom",
            version=version("darkroom"),
            title="Darkroom",
            description="A self-hosted picture studio.",
            instructions=INSTRUCTIONS,
            cache_hints={"tools/list": minute, "prompts/list": hour, "resources/templates/list": hour},
            get_tool_input_schema=lambda _name: None,  # none of them has a parameter that is a header
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
            on_list_prompts=self._list_prompts,
            on_get_prompt=self._get_prompt,
        )
        # the package's own argument for it warns that it is going out of use
        self._server.add_request_handler("logging/setLevel", SetLevelRequestParams, _set_level)

    async def answer(self, asked: Asked, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one message; raises `ClientGone` where the client left, which ends the work."""
        message = asked.message
        # only a call lasts so long that there is something to tell meanwhile, or a connection to keep alive
        streamed = message.method == "tools/call" and _takes_events(scope)
        manager = StreamableHTTPSessionManager(
            self._server,
            json_response=not streamed,
            stateless=True,
            max_request_body_size=max(1, len(message.body)),  # the body has been read, within our limits
        )
        headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
        inner = {**scope, "headers": headers, ASKED: asked}
        with Watch(receive):
            async with manager.run():
                await manager.handle_request(inner, message.receive(), send)

    # ── tools ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _list_tools(self, ctx: Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        here = tools.here(self._state)
        return ListToolsResult(tools=[tools.tool(self._state, kind) for kind in here.values()])

    async def _call_tool(self, ctx: Context, params: CallToolRequestParams) -> CallToolResult:
        asked, here = _asked(ctx), tools.here(self._state)
        operation = here.get(params.name)
        if operation is None:
            close = difflib.get_close_matches(params.name, here, 1)
            hint = f" Did you mean {close[0]!r}?" if close else " tools/list has their names."
            raise MCPError(INVALID_PARAMS, f"There is no tool {params.name[:80]!r} here.{hint}")
        progress = _Progress(ctx)
        try:
            with asked.running.scope:
                fields = tools.fields(asked.message.arguments, operation, asked.base)
                asked.message.arguments.clear()
                guest = Guest(asked.caller, asked.request_id)
                outcome = await self._desk.run(operation, fields, guest, tell=progress)
                links = is_version_at_least(ctx.protocol_version, LINKS_SINCE)
                return await self._results.result(outcome, asked.caller, asked.base, links=links)
        except Exception as error:  # noqa: BLE001 - whatever it is, a model reads it as the tool's answer
            refusal = translate(error)
            if refusal.status == 429:
                self._state.metrics.refused(refusal.slug)
            logs.tell(problem=refusal.slug)
            return fault(refusal)
        raise MCPError(REQUEST_CANCELLED, "The call was cancelled.")

    # ── resources ────────────────────────────────────────────────────────────────────────────────────────────

    async def _list_resources(
        self, ctx: Context, params: PaginatedRequestParams | None
    ) -> ListResourcesResult:
        with _as_protocol_errors(ctx):
            return await self._resources.page(_asked(ctx).caller, params.cursor if params else None)

    async def _list_templates(
        self, ctx: Context, params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        return self._resources.templates()

    async def _read_resource(self, ctx: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        with _as_protocol_errors(ctx):
            return await self._resources.read(params.uri, _asked(ctx).caller)

    # ── prompts ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _list_prompts(self, ctx: Context, params: PaginatedRequestParams | None) -> ListPromptsResult:
        found = self._recipes().items()
        return ListPromptsResult(prompts=[prompts.prompt(name, recipe) for name, recipe in found])

    async def _get_prompt(self, ctx: Context, params: GetPromptRequestParams) -> GetPromptResult:
        recipe = self._recipes().get(params.name)
        if recipe is None:
            raise MCPError(INVALID_PARAMS, f"There is no prompt {params.name[:80]!r} here.")
        with _as_protocol_errors(ctx):
            return prompts.written(recipe, params.arguments or {})

    def _recipes(self) -> dict[str, prompts.Recipe]:
        here = tools.here(self._state).keys()
        return {name: one for name, one in prompts.RECIPES.items() if here >= set(one.operations)}


class _Progress:
    """An operation's events as progress that only grows, as the protocol wants it: a chain's links count on."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._before = self._step = 0

    async def __call__(self, event: Event) -> None:
        if event.kind != "progress":
            return
        step, total = int(event["step"]), event.get("total")
        if step == self._step:
            return
        if step < self._step:
            self._before += self._step
        self._step = step
        await self._ctx.session.report_progress(
            float(self._before + step),
            None if total is None else float(self._before + total),
            f"step {step}" if total is None else f"step {step} of {total}",
        )


async def _set_level(ctx: Context, params: SetLevelRequestParams) -> EmptyResult:
    """Accepted, and without effect: there is no log for clients."""
    return EmptyResult()


def _asked(ctx: Context) -> Asked:
    request: Request = ctx.request  # type: ignore[assignment]  # over HTTP there is always one
    asked: Asked = request.scope[ASKED]
    return asked


@contextmanager
def _as_protocol_errors(ctx: Context) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        refusal = error if isinstance(error, DarkroomError) else translate(error)
        code = INTERNAL_ERROR if refusal.status >= 500 else INVALID_PARAMS
        if isinstance(refusal, NotFound) and ctx.protocol_version in HANDSHAKE_PROTOCOL_VERSIONS:
            code = RESOURCE_NOT_FOUND
        raise MCPError(code, told(refusal), refusal.problem()) from error


def _takes_events(scope: Scope) -> bool:
    accepted = b",".join(value for name, value in scope["headers"] if name == b"accept").lower()
    kinds = {kind.partition(b";")[0].strip() for kind in accepted.split(b",")}
    return bool(kinds & {b"text/event-stream", b"text/*", b"*/*"})
