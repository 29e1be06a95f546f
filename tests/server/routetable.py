"""The routes of the server as tests see them: whatever module has added them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.routing import Route

from weft.access import Scope
from weft.server.app import PUBLIC
from weft.server.deps import Guarded, GuardedRoute, needed

FILLED = {"name": "hello", "workflow": "hello", "id": "nothing"}


@dataclass(frozen=True)
class Door:
    """One method of one route."""

    method: str
    template: str
    scopes: tuple[Scope | None, ...]  #: what it needs; empty: it is public

    @property
    def path(self) -> str:
        """The path with something in the place of its parameters."""
        return re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: FILLED.get(match[1], "nothing"), self.template)

    @property
    def is_public(self) -> bool:
        return not self.scopes and self.template in PUBLIC

    def __str__(self) -> str:
        return f"{self.method} {self.template}"


def doors(app: FastAPI) -> list[Door]:
    """Return every method of every route of an application."""
    return [
        Door(method, route.path, tuple(each.scope for each in _needed(route)))
        for route in app.router.routes
        if isinstance(route, Route)
        for method in sorted((route.methods or set()) - {"HEAD"})
    ]


def _needed(route: Any) -> list[Any]:
    if isinstance(route, GuardedRoute):
        return needed(route)
    return [route.app.needs] if isinstance(route.app, Guarded) else []
