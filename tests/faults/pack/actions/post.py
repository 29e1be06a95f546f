from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from weft.sdk import ActionContext, ActionError, Json

from ._marking import mark


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    thing: Json = None
    seconds: float = Field(0.0, ge=0)
    fault: Literal["none", "behind", "die", "eat", "block"] = "none"


async def post(arguments: Arguments, context: ActionContext) -> Json:
    """Do something that cannot be taken back; the line that is written is the effect."""
    await context.point_of_no_return()
    mark(context, "begin")
    match arguments.fault:
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "eat":
            eat()
        case "block":
            time.sleep(arguments.seconds)  # noqa: ASYNC251  that is the fault
    await asyncio.sleep(random.uniform(0, arguments.seconds))
    mark(context, "end")
    if arguments.fault == "behind" and context.attempt == 1:
        raise ActionError("The line broke behind the effect.", kind="broken", retryable=True, effect="unknown")
    return {"token": random.randrange(1_000_000)}


def eat() -> None:
    """Take memory until the kernel ends the process; it is to choose this one."""
    Path("/proc/self/oom_score_adj").write_text("1000")
    taken = []
    while True:
        taken.append(bytearray(os.urandom(1 << 20)))
