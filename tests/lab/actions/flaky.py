from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from weft.sdk import ActionContext, ActionError, Json, Variant

CALLS: Counter[str] = Counter()
SEEN: list[ActionContext] = []


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    failures: int = Field(0, ge=0)
    kind: str = "busy"
    retryable: bool = True
    retry_after_s: float = Field(0.0, ge=0)
    max_tries: int = Field(99, ge=1)
    fallback: bool = True
    num_retries: int = Field(0, ge=0)
    model: str = "first"
    fallbacks: list[str] = Field(default_factory=list)


def attempts(arguments: Mapping[str, Json]) -> Sequence[Variant]:
    models = [str(arguments["model"]), *(str(name) for name in arguments.get("fallbacks") or [])]
    return [Variant(name, 1 + int(arguments.get("num_retries") or 0), {"model": name}) for name in models]


async def flaky(arguments: Arguments, context: ActionContext) -> Json:
    """Fail as often as asked, then succeed."""
    CALLS[arguments.key] += 1
    SEEN.append(context)
    if CALLS[arguments.key] > arguments.failures:
        return {"model": arguments.model, "calls": CALLS[arguments.key], "earlier": len(context.previous)}
    raise ActionError(
        f"Call {CALLS[arguments.key]} failed.",
        kind=arguments.kind,
        retryable=arguments.retryable,
        retry_after_s=arguments.retry_after_s,
        details={"max_tries": arguments.max_tries, "fallback": arguments.fallback},
        status=503,
    )
