"""What models a service offers now, for the doors that list or name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.state import GatewayState


def models(state: GatewayState, service: str, kind: str = "model") -> list[Mapping[str, Any]]:
    """Those that can be asked for: `kind` is model or lora."""
    status = state.upstream.status().get(service)
    if status is None:
        return []
    return [
        model
        for model in status.models
        if model.get("kind", "model") == kind and model.get("available", True)
    ]


def model(state: GatewayState, service: str, name: str) -> Mapping[str, Any]:
    """What is known of the model of that name or alias; `auto` is the one that would be taken. Empty where unknown."""
    known = models(state, service)
    if name == "auto":
        loaded = [one for one in known if one.get("loaded")] or known
        return max(loaded, key=lambda one: int(one.get("rank", 0)), default={})
    return next((one for one in known if name == one["name"] or name in one.get("aliases", ())), {})
