"""The application: every route of every module, behind one door."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from weft import __version__
from weft.server import problems
from weft.server.deps import Guarded, GuardedRoute, needed
from weft.server.house import House
from weft.server.middleware import Door
from weft.server.routes import (
    actions,
    approvals,
    audit,
    budgets,
    checks,
    connections,
    events,
    expressions,
    health,
    mcp,
    options,
    outbox,
    pages,
    runs,
    schedules,
    session,
    webhooks,
    workflows,
)

ROUTES: Final[tuple[ModuleType, ...]] = (
    session,
    audit,
    actions,
    options,
    checks,
    expressions,
    workflows,
    runs,
    approvals,
    schedules,
    budgets,
    connections,
    outbox,
    events,
    webhooks,
    health,
    mcp,
    pages,
)
"""Modules of routes. Each has a `router` (of `deps.api`), and may have another for pages outside the API, `pages`; it may
have `around(app, house)`, an asynchronous context manager that is entered before the first request and left after the last.
"""

PUBLIC: Final = {
    "/health": "Whether the process lives; tells nothing else.",
    "/ready": "Whether it can do its work; tells nothing else.",
    "/login": "Where people log in.",
    "/login/start": "Sends a browser to the identity provider.",
    "/login/return": "Where the identity provider sends it back to.",
    "/hooks/{path}": "Whoever posts here proves it with a signature.",
    "/approve/{token}": "The token in the path is the proof.",
    "/assets/{name}": "Style sheets of the pages above.",
}
"""Paths that answer without credentials, and why. Every other one needs a scope."""


def create_app(house: House) -> FastAPI:
    """Return the application of a server.

    Raises:
        RuntimeError: A route neither needs a scope nor is public.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for module in ROUTES:
                if hasattr(module, "around"):
                    await stack.enter_async_context(module.around(app, house))
            yield

    app = Application(
        title="Weft",
        version=__version__,
        description="Workflows whose steps are actions. Everything that the canvas and the command line do goes here.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        separate_input_output_schemas=False,
        redirect_slashes=False,
    )
    app.state.house = house
    problems.install(app)
    for module in ROUTES:
        for router in (module.router, getattr(module, "pages", None)):
            app.router.routes.extend(router.routes if router is not None else ())
    for route in app.router.routes:
        refuse_open(route)
    return app


class Application(FastAPI):
    """An application behind the door; even the answer to a fault of its own goes through it."""

    def build_middleware_stack(self) -> ASGIApp:
        return Door(super().build_middleware_stack(), self.state.house.settings)

    def openapi(self) -> dict[str, Any]:
        """Return the API as OpenAPI, each operation with the scope that it needs (`x-scope`)."""
        if self.openapi_schema is None:
            document = super().openapi()
            for route in self.router.routes:
                if isinstance(route, GuardedRoute) and route.include_in_schema:
                    scopes = [each.scope for each in needed(route) if each.scope is not None]
                    for method in route.methods or ():
                        document["paths"][route.path_format][method.lower()]["x-scope"] = " ".join(scopes) or None
        return self.openapi_schema or {}


def refuse_open(route: BaseRoute) -> None:
    """Refuse a route that anybody could use without being meant to.

    Raises:
        RuntimeError: It neither needs a scope nor is public.
    """
    match route:
        case GuardedRoute() if needed(route) or route.path in PUBLIC:
            return
        case Route(app=Guarded()) if not isinstance(route, APIRoute):
            return
        case _:
            raise RuntimeError(f"{route!r} has no needs(…), and is not among what is public")
