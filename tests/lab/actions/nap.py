from __future__ import annotations

import asyncio
import time

from weft.sdk import ActionContext, Json

RUNNING = 0
MOST = 0
LOG: list[str] = []


async def nap(context: ActionContext, seconds: float = 0.01, name: str = "") -> Json:
    """Sleep, and know how many sleep beside."""
    global RUNNING, MOST
    RUNNING += 1
    MOST = max(MOST, RUNNING)
    LOG.append(f"+{name}")
    try:
        await asyncio.sleep(seconds)
    finally:
        RUNNING -= 1
        LOG.append(f"-{name}")
    return {"slept": seconds, "at": time.monotonic()}
