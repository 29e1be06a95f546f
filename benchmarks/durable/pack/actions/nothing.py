"""Does nothing."""

from __future__ import annotations

from weft.sdk import ActionContext, JsonObject


async def nothing(context: ActionContext, value: int = 0) -> JsonObject:
    """Return what was given."""
    return {"value": value}
