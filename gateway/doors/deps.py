"""What a FastAPI route asks of its request: the gateway's state, and who is calling."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request

from gateway.callers import Caller
from gateway.state import GatewayState
from services.errors import TooSlow, Unauthorized


def state(request: Request) -> GatewayState:
    found: GatewayState = request.scope["darkroom"]
    return found


def caller(request: Request) -> Caller:
    found: Caller | None = request.scope["caller"]
    if found is None:  # the bearer of a link, where only a key will do
        raise Unauthorized("A signed link shows one picture; this needs a key.")
    return found


@contextlib.asynccontextmanager
async def arriving(state: GatewayState) -> AsyncIterator[None]:
    """Around whatever reads a request's body: it has as long as a synchronous call may take."""
    try:
        async with asyncio.timeout(state.settings.deadline):
            yield
    except TimeoutError as error:
        raise TooSlow(f"The request's body did not arrive within {state.settings.deadline:g} s.") from error


State = Annotated[GatewayState, Depends(state)]
Who = Annotated[Caller, Depends(caller)]
