from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from weft.sdk import ActionContext

CALLS: list[str] = []


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    what: Literal["nan", "bytes", "large", "big", "schema", "deep", "surrogate"]


async def weird(arguments: Arguments, context: ActionContext) -> Any:
    """Have an effect, then return what cannot be kept."""
    CALLS.append(arguments.what)
    match arguments.what:
        case "nan":
            return {"value": float("nan")}
        case "bytes":
            return {"value": b"\0"}
        case "large":
            return {"value": "x" * 11_000_000}
        case "big":
            return {"value": "x" * 3_000_000}
        case "schema":
            return ["not", "an", "object"]
        case "deep":
            value: Any = []
            for _ in range(100_000):
                value = [value]
            return {"value": value}
        case "surrogate":
            return {"value": "\ud800"}
