"""What a FastAPI route asks of its request: the gateway's state, and who is calling."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from gateway.callers import Caller
from gateway.state import GatewayState


def state(request: Request) -> GatewayState:
    found: GatewayState = request.scope["darkroom"]
    return found


def caller(request: Request) -> Caller:
    found: Caller = request.scope["caller"]
    return found


State = Annotated[GatewayState, Depends(state)]
Who = Annotated[Caller, Depends(caller)]
