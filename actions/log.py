"""Write a line to the run's log."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from weft.sdk import ActionContext, JsonObject


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    message: Annotated[str, Field(min_length=1, max_length=10_000)]
    level: Literal["info", "warning", "error"] = "info"
    facts: JsonObject | None = None


async def log(arguments: Arguments, context: ActionContext) -> JsonObject:
    """Show the message where the run is watched, and keep it with its facts as the step's output."""
    facts = arguments.facts or {}
    context.log(arguments.message, level=arguments.level, facts=facts)
    return {"level": arguments.level, "message": arguments.message, "facts": facts}
