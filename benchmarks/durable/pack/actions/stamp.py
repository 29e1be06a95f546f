"""Says when it began."""

from __future__ import annotations

import time

from weft.sdk import ActionContext, JsonObject


async def stamp(context: ActionContext) -> JsonObject:
    """Return the instant of the clock that all processes of a machine share."""
    return {"at": time.monotonic()}
