"""Tools over standard input and output, for a client that starts this process as its own."""

from __future__ import annotations

import asyncio
import contextlib

from mcp.server.stdio import stdio_server

from weft.mcp.calling import WAIT_S, Calls, Here
from weft.mcp.offering import Offering
from weft.mcp.serving import McpServer
from weft.runtime import Runtime

LOCAL = "local"
"""Whose runs these are: of whoever uses this machine."""


async def serve(runtime: Runtime, offering: Offering, stop: asyncio.Event, *, wait_s: float = WAIT_S) -> None:
    """Serve one client, until it closes standard input or `stop` is set.

    Runs are driven in this process. Those that go on at the end rest, ready for any worker, once the runtime is closed.
    """
    server = McpServer(runtime, offering, Calls(runtime, offering, Here(runtime), wait_s=wait_s), lambda ctx: LOCAL)
    async with stdio_server() as (read, write):
        serving = asyncio.create_task(server.run(read, write, server.create_initialization_options()))
        announcing = asyncio.create_task(server.announce())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (serving, announcing, stopping):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        await asyncio.wait({announcing, stopping})
        await server.settled()
