from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from weft.sdk import ActionContext, Json

from ._marking import mark


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(1000, ge=0)


async def bulk(arguments: Arguments, context: ActionContext) -> Json:
    """Do something that cannot be taken back; the line that is written is the effect, the answer is long."""
    await context.point_of_no_return()
    mark(context, "begin")
    mark(context, "end")
    return {"text": "x" * arguments.size}
