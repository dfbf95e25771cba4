"""`/v1/operations` and `/v1/models`: what can be asked here, and of which models; `/healthz` and `/readyz`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from gateway.documents import (
    ModelDocument,
    ModelList,
    OperationDocument,
    OperationList,
    Readiness,
    TrackHealth,
)
from gateway.doors.deps import State, Who
from gateway.problems import documented
from gateway.state import GatewayState
from services.errors import NotFound, Unavailable
from services.operations import OPERATIONS, Operation

router = APIRouter()
# a balancer in front of the gateway must not take it for dead while a service is scaled to zero
Excluded = Annotated[Sequence[str], Query(description="`services`, or names of services, that do not count.")]


def describe(state: GatewayState, operation: type[Operation]) -> dict[str, Any]:
    reason = unavailable(state, operation.service)
    return {
        "name": operation.name(),
        "summary": operation.summary(),
        "service": operation.service,
        "available": reason is None,
        "reason": reason,
        "answers": operation.answers,
        "pictures": {name: kind.__name__.lower() for name, kind in operation.picture_fields().items()},
        "url": f"{state.settings.root_path}/v1/{operation.name()}",
        "params": operation.json_schema(),
    }


def unavailable(state: GatewayState, service: str) -> str | None:
    """Why a service's operations cannot be performed now; None when they can."""
    status = state.upstream.status().get(service)
    if status is None:
        return f"The service {service!r} is not part of this installation."
    return None if status.ready else status.reason or f"Nothing of the service {service!r} is up."


@router.get("/v1/operations", response_model=OperationList, tags=["catalogue"], responses=documented())
async def operations(state: State, _who: Who) -> dict[str, Any]:
    """Every operation with its parameters, and whether it can be asked for now."""
    limits = {
        name: getattr(state.settings, name)
        for name in ("max_body", "max_picture_bytes", "max_pixels", "max_side", "max_lora_bytes", "deadline")
    }
    return {"operations": [describe(state, kind) for kind in OPERATIONS.values()], "limits": limits}


@router.get(
    "/v1/operations/{name}",
    response_model=OperationDocument,
    tags=["catalogue"],
    responses=documented(NotFound),
)
async def operation(name: str, state: State, _who: Who) -> dict[str, Any]:
    """One operation."""
    if name not in OPERATIONS:
        raise NotFound(f"There is no operation {name[:80]!r}.")
    return describe(state, OPERATIONS[name])


@router.get("/v1/models", response_model=ModelList, tags=["catalogue"], responses=documented())
async def models(state: State, _who: Who) -> dict[str, Any]:
    """The models that the services offer, loaded or not; OpenAI's clients can read this list too."""
    return {"object": "list", "data": list(_models(state).values())}


@router.get(
    "/v1/models/{name:path}", response_model=ModelDocument, tags=["catalogue"], responses=documented(NotFound)
)
async def model(name: str, state: State, _who: Who) -> dict[str, Any]:
    """One model of that list."""
    found = _models(state).get(name)
    if found is None:
        raise NotFound(f"There is no model {name[:80]!r}.", help="GET /v1/models has their names.")
    return found


def _models(state: GatewayState) -> dict[str, dict[str, Any]]:
    found = {}
    for service, status in state.upstream.status().items():
        for model in status.models:
            found[model["name"]] = {
                "id": model["name"],
                "object": "model",
                "created": 0,
                "owned_by": "darkroom",
                "service": service,
                **{key: value for key, value in model.items() if key != "name"},
            }
    return found


@router.get("/healthz", tags=["health"], response_model=dict[str, str])
async def healthz() -> dict[str, str]:
    """The gateway is alive; it looks at nothing else."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    tags=["health"],
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "Something that was started is not ready."}},
)
async def readyz(state: State, response: Response, exclude: Excluded = ()) -> dict[str, Any]:
    """200 only when the database answers and every configured service is ready; `exclude=services` looks at the gateway
    alone, `exclude=NAME` at all but that service."""
    services, reasons = {}, []
    for name, status in state.upstream.status().items():
        up = sum(endpoint.health == "up" for endpoint in status.endpoints)
        services[name] = {
            "ready": status.ready,
            "endpoints": len(status.endpoints),
            "up": up,
            "reason": status.reason,
            "tracks": [
                {name: getattr(track, name) for name in TrackHealth.model_fields} for track in status.tracks
            ],
        }
        if not status.ready and "services" not in exclude and name not in exclude:
            reasons.append(f"{name}: {status.reason or 'nothing of it is up'}")
    try:
        await state.db.ping()
    except Unavailable as error:
        reasons.append(error.detail)
    if state.draining:
        reasons.append("the gateway is shutting down")
    if reasons:
        response.status_code = 503
    return {"ready": not reasons, "services": services, "reasons": reasons, "ports": state.ports}
