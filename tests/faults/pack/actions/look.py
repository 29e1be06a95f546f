from __future__ import annotations

import asyncio
import random

from pydantic import BaseModel, ConfigDict, Field

from weft.sdk import ActionContext, Json

from ._marking import mark


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    most: int = Field(3, ge=1)
    seconds: float = Field(0.0, ge=0)


async def look(arguments: Arguments, context: ActionContext) -> Json:
    """Read some things, another number of them at each look."""
    mark(context, "begin")
    await asyncio.sleep(random.uniform(0, arguments.seconds))
    found = [random.randrange(1_000_000) for _ in range(random.randint(1, arguments.most))]
    mark(context, "end")
    return {"things": found}
