"""Tools for agents over streamable HTTP, at `/mcp`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from weft.mcp.http import McpApp
from weft.runtime import DATABASE_URL
from weft.server.deps import Guarded, api
from weft.server.house import House

router = api("mcp", prefix="")


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    mcp: McpApp = scope["app"].state.mcp
    await mcp(scope, receive, send)


router.routes.append(Route("/mcp", Guarded(_answer, "run"), methods=["GET", "POST", "DELETE"], include_in_schema=False))


@contextlib.asynccontextmanager
async def around(app: FastAPI, house: House) -> AsyncIterator[None]:
    """Serve tools while the server runs; with a database there may be other servers that get the next request."""
    app.state.mcp = McpApp(house, shared=bool(os.environ.get(DATABASE_URL)))
    async with app.state.mcp.running():
        yield
