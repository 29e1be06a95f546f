"""What every dispatcher promises: that somebody is told of each run that is ready, at least once.

A delivery is a message, never a right. Whoever gets it claims the run in the journal, and a claim that is refused ends the
matter (rule A2); so a delivery may come twice, late, or to two workers. Who is dead is decided by the journal alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from weft.errors import JournalUnavailable

if TYPE_CHECKING:
    import psycopg

Advance: TypeAlias = Callable[[str], Awaitable[None]]
"""Claims a run and goes on with it until it ends or rests; a run that is not there to claim is dropped silently."""

TRIES: Final = 5
"""How often an advance that fails for a reason other than the journal is tried before it is left to the sweep."""

_LOG = logging.getLogger("weft.dispatch")


class Dispatcher(Protocol):
    """Delivers runs that are ready to this process, and takes note of those that become ready."""

    @property
    def limit(self) -> int:
        """How many runs this process has in hand at most."""

    @property
    def in_hand(self) -> int:
        """How many it has now."""

    async def install(self) -> None:
        """Make what the dispatcher keeps in the database, if it is not there; any number of processes at a time.

        Raises:
            JournalUnavailable: The database does not answer, or forbids it.
        """

    async def enqueue(self, connection: psycopg.AsyncConnection[Any], run_ids: Sequence[str]) -> None:
        """Have runs delivered if, and as soon as, the transaction of this connection is committed."""

    async def again(self, run_ids: Sequence[str]) -> None:
        """Deliver runs that have been ready for long: what was to be delivered may be lost.

        Raises:
            JournalUnavailable: The database does not answer.
        """

    def look(self) -> None:
        """Say that runs may have become ready."""

    async def run(self, advance: Advance) -> None:
        """Deliver until `stop()`, whatever happens to the database; return when what is in hand has returned.

        Cancelled, it cancels what is in hand.
        """

    def stop(self) -> None:
        """Deliver no more."""


class Hands:
    """The advances under way in this process. They live apart from the engine, whose failures do not reach them.

    Args:
        limit: How many at a time.
        pause_s: Before a failed advance is tried again; doubles each time.
        longest_pause_s: The longest such pause.
    """

    def __init__(self, limit: int, *, pause_s: float = 0.1, longest_pause_s: float = 2.0) -> None:
        self.limit = limit
        self.stopping = asyncio.Event()
        self.left: set[str] = set()  #: delivered, and not tried any more because of the stop
        self._pause_s = pause_s
        self._longest_pause_s = longest_pause_s
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._freed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._tasks

    def take(self, run_id: str, advance: Advance) -> None:
        """Begin an advance.

        A run in hand is tried once more when its advance returns: it may have become ready while that was leaving, and
        then nobody else hears of it. The claim drops what was a mere double.
        """
        if run_id in self._tasks:
            self._again.add(run_id)
        else:  # noted at once, not when the task begins: the next look must count it (§1.6, pitfall 4)
            self._tasks[run_id] = asyncio.create_task(self._carry(run_id, advance), name=f"advance {run_id}")

    async def below(self, number: int) -> None:
        """Return when fewer than this are in hand, or none."""
        while len(self._tasks) >= max(1, number):
            self._freed.clear()
            await self._freed.wait()

    async def drop(self) -> None:
        """Cancel everything in hand."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry(self, run_id: str, advance: Advance) -> None:
        try:
            await self._try(run_id, advance)
            while run_id in self._again and not self.stopping.is_set():
                self._again.discard(run_id)
                await self._try(run_id, advance)
        finally:
            if run_id in self._again:
                self._again.discard(run_id)
                self.left.add(run_id)
            del self._tasks[run_id]
            self._freed.set()

    async def _try(self, run_id: str, advance: Advance) -> None:
        pause_s, tries = self._pause_s, 1
        while True:
            try:
                return await advance(run_id)
            except JournalUnavailable:  # nobody could claim it: the delivery still stands
                _LOG.debug("advance_waits %s", run_id)
            except Exception:  # noqa: BLE001  a fault of one run is none of the others
                _LOG.exception("advance_failed %s", run_id)
                if tries == TRIES:
                    return None
                tries += 1
            if await happens(self.stopping, pause_s):
                self.left.add(run_id)
                return None
            pause_s = min(2 * pause_s, self._longest_pause_s)


async def happens(event: asyncio.Event, timeout_s: float) -> bool:
    """Return True as soon as the event is set, or False after `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            return await event.wait()
    except TimeoutError:
        return False


async def first_of(*waits: Awaitable[Any], timeout_s: float | None = None) -> None:
    """Return when the first of them has come, or after `timeout_s`; the others are given up."""
    tasks = [asyncio.ensure_future(each) for each in waits]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
