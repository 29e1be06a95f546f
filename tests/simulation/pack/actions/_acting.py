from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from weft.sdk import ActionContext, ActionError, Json, Variant


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    value: Json = None
    seconds: float = Field(0.0, ge=0)
    fails: int = Field(0, ge=0)
    tries: int = Field(1, ge=1)
    others: int = Field(0, ge=0)
    wait_s: float = Field(0.0, ge=0)
    doubt: bool = False
    heals: int = Field(0, ge=0)


def digest(value: Json) -> int:
    """Return a small number that tells one value from another."""
    return zlib.crc32(json.dumps(value, sort_keys=True).encode()) % 100_000


def chain(arguments: Mapping[str, Json]) -> Sequence[Variant]:
    tries = int(arguments.get("tries") or 1)  # type: ignore[arg-type]  # checked as an integer
    others = int(arguments.get("others") or 0)  # type: ignore[arg-type]  # checked as an integer
    return [Variant(f"v{i}", tries) for i in range(1 + others)]


async def act(arguments: Arguments, context: ActionContext, *, sends: bool) -> Json:
    """Fail in the first attempts, as many as asked, then return a digest of the value."""
    again = max(map(int, re.findall(r"/@(\d+)", context.path)), default=1)
    healed = arguments.heals > 0 and again >= arguments.heals
    fails = context.attempt <= arguments.fails and not healed
    await asyncio.sleep(arguments.seconds / 2)
    if sends:
        await context.point_of_no_return()
    await asyncio.sleep(arguments.seconds / 2)
    if fails:
        raise ActionError(
            f"Attempt {context.attempt} failed.",
            kind="busy",
            retryable=True,
            retry_after_s=arguments.wait_s or None,
            effect="unknown" if arguments.doubt else "none",
        )
    return {"value": digest(arguments.value), "by": context.variant.name}
