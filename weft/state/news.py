"""Hearing that something was written, by this process or by another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class News:
    """What one listener has heard. Each listener takes its own, so that none hears in another's place.

    Args:
        told: How often something was written, as far as is known.
        attend: Sees to it that somebody watches; called with every wait.
    """

    def __init__(self, told: Told, attend: Callable[[], None]) -> None:
        self._told = told
        self._attend = attend
        self._seen = -1  #: so that the first question is answered with yes: nobody knows what was before

    async def changed(self, timeout_s: float) -> bool:
        """Return True as soon as something may have been written since the last True, False after the time-out."""
        self._attend()
        if self._seen == self._told.times and not await self._told.wait(self._seen, timeout_s):
            return False
        self._seen = self._told.times
        return True


class Told:
    """How often something was written, and a bell for those who wait for the next time."""

    def __init__(self) -> None:
        self.times = 0
        self.waiting = 0  #: how many wait for it
        self._bell = asyncio.Event()

    def tell(self) -> None:
        """Something was written. Called in the loop of the listeners."""
        self.times += 1
        self._bell.set()
        self._bell = asyncio.Event()

    async def wait(self, seen: int, timeout_s: float) -> bool:
        """Return True when it was told more often than `seen`, False after the time-out."""
        self.waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                while self.times == seen:
                    await self._bell.wait()
        except TimeoutError:
            return False
        finally:
            self.waiting -= 1
        return True
