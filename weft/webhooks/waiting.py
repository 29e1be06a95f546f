"""Waiting for the end of a run that anybody may be driving: the journal tells it."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from weft.journal.base import ENDS, Journal, Listed

FIRST_LOOK_S: Final = 0.02
LAST_LOOK_S: Final = 0.4
"""Between two looks at a run that takes long; many may be waited for at a time."""


async def end_of(journal: Journal, run_id: str, seconds: float) -> Listed | None:
    """Return how a run has ended; None when the time is over before, or it is parked.

    Raises:
        NotFound: There is no such run any more.
    """
    until, pause_s = time.monotonic() + seconds, FIRST_LOOK_S
    while True:
        found = await journal.status(run_id)
        if found.status.state in ENDS:
            return found
        left_s = until - time.monotonic()
        if left_s <= 0 or found.status.state == "parked":
            return None
        await asyncio.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 1.3, LAST_LOOK_S)
