"""The dispatcher of one machine: it asks the journal what is ready."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from weft.dispatch.base import Advance, Hands, first_of
from weft.errors import JournalUnavailable
from weft.journal.base import Journal

if TYPE_CHECKING:
    import psycopg

BREATH_S: Final = 0.01
"""How long the first free place waits for others, so that runs that return together are replaced together."""

_LOG = logging.getLogger("weft.dispatch")

PATIENCE: Final = 3
"""How often a run that stays ready is taken before it is left alone for a while."""

LONGEST_PAUSE_S: Final = 30.0


class _Pause(NamedTuple):
    times: int  #: that the run was taken and ready again
    until: float  #: instant of `time.monotonic()`


class LocalDispatcher:
    """Takes runs from `journal.ready()`, the oldest first, never more than it has room for.

    It looks when it is told to (`look`), and from time to time, for other processes of this machine write to the same
    journal. While more is waiting than it can take, it looks when half of what it took last has returned, or soon after the
    first (§1.6, pitfalls 3 and 4: a search per returned run would be quadratic, a task per waiting run fills the memory).

    Args:
        journal: Where the runs are.
        limit: How many runs to have in hand at a time.
        look_s: Seconds between two looks when nobody says anything.
    """

    def __init__(self, journal: Journal, *, limit: int = 100, look_s: float = 1.0) -> None:
        self._journal = journal
        self._look_s = look_s
        self._hands = Hands(limit)
        self._news = asyncio.Event()
        self._pauses: dict[str, _Pause] = {}  #: of the runs that were taken and have been ready at every look since

    @property
    def limit(self) -> int:
        return self._hands.limit

    @property
    def in_hand(self) -> int:
        return len(self._hands)

    async def install(self) -> None:
        """Do nothing: it keeps nothing."""

    async def enqueue(self, connection: psycopg.AsyncConnection[Any], run_ids: Sequence[str]) -> None:
        self.look()

    async def again(self, run_ids: Sequence[str]) -> None:
        self.look()

    def look(self) -> None:
        self._news.set()

    def stop(self) -> None:
        self._hands.stopping.set()

    async def run(self, advance: Advance) -> None:
        try:
            while not self._hands.stopping.is_set():
                await self._turn(advance)
            await self._hands.below(1)
        except BaseException:
            await self._hands.drop()
            raise

    async def _turn(self, advance: Advance) -> None:
        self._news.clear()  # before the look, so that what comes during it is not lost (§1.6, pitfall 3)
        taken, more = await self._take(advance)
        stopping = self._hands.stopping
        if more:
            now = self.in_hand
            await first_of(stopping.wait(), self._hands.below(now), timeout_s=self._look_s)
            await first_of(stopping.wait(), self._hands.below(now - taken // 2), timeout_s=BREATH_S)
        else:
            await first_of(stopping.wait(), self._news.wait(), timeout_s=self._look_s)

    async def _take(self, advance: Advance) -> tuple[int, bool]:
        """Take what there is room for; return how many, and whether more may be waiting."""
        if self.in_hand >= self.limit:
            return 0, True
        now = time.monotonic()
        paused = {run_id for run_id, pause in self._pauses.items() if pause.until > now}
        try:
            found = await self._journal.ready(self.limit + len(self._pauses))
        except JournalUnavailable:  # the keeper tells of it
            return 0, False
        except Exception:  # noqa: BLE001  a worker stays, whatever the journal meets
            _LOG.exception("look_failed")
            return 0, False
        wanted = [run_id for run_id in found if run_id not in paused]
        known, room = [each for each in wanted if each in self._hands], self.limit - self.in_hand
        new = [each for each in wanted if each not in self._hands][:room]
        for run_id in known + new:  # one in hand may be new there, or about to leave
            self._hands.take(run_id, advance)
        self._count(found, new, now)
        return len(new), len(known) + len(new) < len(wanted) or len(wanted) >= self.limit

    def _count(self, found: list[str], taken: list[str], now: float) -> None:
        """Pause runs that are ready again at each look: nobody here can claim them, and they must not keep others back."""
        self._pauses = {run_id: pause for run_id in found if (pause := self._pauses.get(run_id)) is not None}
        for run_id in taken:
            times = self._pauses[run_id].times + 1 if run_id in self._pauses else 0
            pause_s = 0.0 if times < PATIENCE else min(self._look_s * 2 ** (times - PATIENCE), LONGEST_PAUSE_S)
            self._pauses[run_id] = _Pause(times, now + pause_s)
