from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Any

from weft.sdk import ActionContext, ActionError, Json, Problem, Variant

CALLS: list[str] = []


def check(arguments: Mapping[str, Json]) -> Any:
    match arguments.get("how"):
        case "check raises":
            raise KeyError("prompt-in-a-check")
        case "check nonsense":
            return ["wrong"]
        case "check none":
            return None
    return [Problem("odd", "An odd one.", severity="warning")] if arguments.get("how") == "check warns" else []


def attempts(arguments: Mapping[str, Json]) -> Any:
    match arguments.get("how"):
        case "attempts raise":
            raise KeyError("prompt-in-attempts")
        case "attempts nonsense":
            return [{"name": "x"}]
        case "attempts empty":
            return []
        case "variant breaks":
            return [Variant("bad", 1, {"how": 7}), Variant("unknown", 1, {"hwo": "fine"}), Variant("good")]
        case "many tries":
            return [Variant("again", 1_000)]
        case "partly":
            return [Variant("partly", 2, waits_s=(0.001,))]
        case "patient":
            return [Variant("patient", 4, waits_s=(0.01, 0.02))]
    return [Variant("default")]


async def rogue(context: ActionContext, how: str = "fine") -> Json:
    """Break every promise that an action can break."""
    CALLS.append(how)
    match how:
        case "exit":
            sys.exit(3)
        case "cancelled":
            raise asyncio.CancelledError
        case "timeout":
            raise TimeoutError
        case "details":
            raise ActionError("No.", kind="odd", details={"raw": b"\0", "why": ValueError("x")})
        case "large details":
            raise ActionError("No." * 100_000, kind="odd", details={"body": "x" * 1_000_000})
        case "numbers":
            raise ActionError("No.", kind="odd", retry_after_s=float("nan"), status="busy", details={"max_tries": "x"})  # type: ignore[arg-type]
        case "patient":
            raise ActionError("No.", kind="odd", retryable=True)
        case "partly":
            raise ActionError("Half.", kind="odd", retryable=True, details={"output": {"half": True}})
        case "many tries":
            raise ActionError("No.", kind="odd", retryable=True, retry_after_s=0.0)
    return {"how": how, "variant": context.variant.name}
