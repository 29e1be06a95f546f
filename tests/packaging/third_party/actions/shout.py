"""Says a text in capital letters."""

from __future__ import annotations

from weft.sdk import ActionContext, ActionError, JsonObject

from ._letters import capitals


async def shout(context: ActionContext, text: str, times: int = 1) -> JsonObject:
    """Return `text` in capital letters, `times` times over."""
    if not text.strip():
        raise ActionError("There is nothing to shout.", kind="empty", remedy="Give a text.")
    context.log("shouting", times=times)
    return {"text": " ".join([capitals(text)] * times)}
