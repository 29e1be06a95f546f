"""A process that starts what is due, for a while: `firing_child.py SECONDS SKEW`; its clock is wrong by SKEW seconds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time

SECONDS, SKEW = float(sys.argv[1]), float(sys.argv[2])
_true = time.time
if SKEW:
    time.time = lambda: _true() + SKEW

from weft.runtime import Runtime  # noqa: E402  the clock is wrong before anything asks it
from weft.schedules.firing import Firing  # noqa: E402
from weft.types import Json  # noqa: E402


def say(event: str, **facts: Json) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


async def main() -> None:
    async with Runtime.open() as runtime:
        await runtime.opened()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SECONDS):
                await Firing(runtime, say).run()


asyncio.run(main())
