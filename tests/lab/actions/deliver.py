from __future__ import annotations

import asyncio
from typing import Literal

from pydantic import BaseModel, ConfigDict

from weft.sdk import ActionContext, ActionError, Json

DELIVERED: list[tuple[str, str, bool]] = []


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    to: str
    fault: Literal["none", "before", "after", "slow", "once_after"] = "none"


async def deliver(arguments: Arguments, context: ActionContext) -> Json:
    """Do something that cannot be taken back."""
    if arguments.fault == "before":
        raise ActionError("Nobody there.", kind="refused", retryable=True, effect="none")
    await context.point_of_no_return()
    if arguments.fault == "slow":
        await asyncio.sleep(0.3)
    DELIVERED.append((arguments.to, context.idempotency_key, context.repeated))
    if arguments.fault == "after" or (arguments.fault == "once_after" and len(DELIVERED) == 1):
        raise ActionError("The line broke.", kind="delivery_unknown", retryable=True, effect="unknown")
    return {"delivered": True}
