"""What is slow to load is loaded when nobody waits: after the server is ready, in a thread that yields to requests."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Final

from weft.errors import WeftError
from weft.registry import Registry

PAUSE_S: Final = 0.5
"""After the server is ready; the browser that it has opened asks for its first page then."""
SWITCH_S: Final = 0.0005
"""How long the thread may compute while a request wants to; Python's own 5 ms would be felt in each of its steps."""

MODULES: Final = ("weft.mcp.serving", "mcp.server.streamable_http_manager")
"""What the first request of an agent would load."""

_LOG = logging.getLogger("weft.server")


@contextlib.asynccontextmanager
async def warming(registry: Registry) -> AsyncIterator[None]:
    """Load the code of all actions, and what they say is slow, while the block goes on."""
    task = asyncio.create_task(_warm(registry))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _warm(registry: Registry) -> None:
    await asyncio.sleep(PAUSE_S)
    with _polite():
        for module in MODULES:
            await asyncio.to_thread(importlib.import_module, module)
        for action in registry.actions():
            try:
                callables = await asyncio.to_thread(action.load)
                if callables.warm is not None:
                    await asyncio.to_thread(callables.warm)
            except WeftError as error:  # the step that needs it tells it in its own words
                _LOG.warning("warming_failed %s %s", action.id, error.problem.code)
            except Exception:  # noqa: BLE001  the code of a pack: a server stays, whatever is wrong with one action
                _LOG.warning("warming_failed %s", action.id, exc_info=True)


@contextlib.contextmanager
def _polite() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
