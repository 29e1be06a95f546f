from __future__ import annotations

from weft.sdk import ActionContext, Json


async def echo(context: ActionContext, value: Json = None) -> Json:
    """Return what is given."""
    for piece in str(value).split():
        context.emit(f"{piece} ")
    return {"value": value}
