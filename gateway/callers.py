"""Who is asking: what a key allows, as every part of the gateway sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from services.errors import Forbidden

Scope = Literal["use", "admin"]


@dataclass(frozen=True, slots=True)
class Caller:
    """A key's identity and limits; 0 means without limit. The secret itself is never here."""

    key_id: str
    name: str
    scopes: frozenset[Scope] = frozenset({"use"})
    rate: float = 0.0
    daily_pictures: int = 0
    concurrent_jobs: int = 0
    weight: float = 1.0

    def needs(self, scope: Scope) -> None:
        if scope not in self.scopes:
            raise Forbidden(f"The key {self.name!r} does not have the scope {scope!r}.")

    def may_see(self, owner: str) -> bool:
        return owner == self.key_id or "admin" in self.scopes


# who asks while no key exists at all, which is possible on loopback only
LOCAL = Caller("local", "local", frozenset({"use", "admin"}))
