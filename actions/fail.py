"""End with an error of the author's own."""

from __future__ import annotations

from typing import Annotated, Never

from pydantic import BaseModel, ConfigDict, Field

from weft.sdk import ActionContext, ActionError, JsonObject


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    message: Annotated[str, Field(min_length=1, max_length=2000)]
    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)] = "failed"
    remedy: Annotated[str, Field(max_length=1000)] | None = None
    details: JsonObject | None = None


async def fail(arguments: Arguments, context: ActionContext) -> Never:
    """Fail the step, and with it the run unless the step says `on_error`.

    Raises:
        ActionError: Always; nothing happened, and trying again would not help.
    """
    raise ActionError(
        arguments.message,
        kind=arguments.kind,
        remedy=arguments.remedy,
        retryable=False,
        effect="none",
        details=arguments.details,
    )
