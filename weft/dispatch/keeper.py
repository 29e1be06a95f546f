"""The loops that every process with runs in hand needs.

A short `weft run` minds its own runs: it proves that it lives, and hears what others do to them. A worker (a keeper with a
dispatcher) also wakes those that waited, takes over from dead processes, and has delivered again what was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Final, Protocol, Self, TypeAlias

from weft.dispatch.base import Dispatcher
from weft.errors import JournalRefused, JournalUnavailable, NotFound
from weft.journal.base import Journal, Listed, RunQuery, State
from weft.types import JsonObject

AT_ONCE: Final = 500
"""Runs that one look wakes or delivers again."""

RETRY_S: Final = 0.1
"""Before a loop tries again what has failed; doubles each time, up to `LONGEST_RETRY_S`."""

LONGEST_RETRY_S: Final = 2.0

BREATH_S: Final = 0.05
"""Between two looks at what others wrote, however much they write."""

UNASKED_S: Final = 1.0
"""After so long news are looked for though nothing seems to have changed: a notification may have been lost."""

Turn: TypeAlias = Callable[[], Awaitable[float]]
"""Does something once, and returns after how many seconds it is to be done again."""

_LOG = logging.getLogger("weft.keeper")


class Driver(Protocol):
    """What the keeper knows of the one who drives the runs of this process."""

    @property
    def live(self) -> Mapping[str, object]:
        """The runs in hand, by id."""

    def holds(self, run_id: str) -> bool:
        """Tell whether a run is in hand, or about to be: claimed, and being loaded."""

    def notice(self, run_id: str) -> None:
        """Say that others have written to a run in hand."""


class Keeper:
    """Keeps a process alive for others, and its runs informed; `async with` runs its loops.

    Every loop survives a journal that is away, and any other fault (A16): it tries again. An outage is logged once, and once
    more when it is over.

    Args:
        journal: Open, under the name of this process.
        dispatcher: Whose runs are minded, of whatever process; without one, only this process's own runs are.
        driver: Drives the runs of this process.
        beat_s: Seconds between two signs of life (A12: each is a write through the journal's own queue).
        attention_s: The longest time until a run that has come into hand is looked after.
        wake_s: The longest time between two looks for runs whose instant has come.
        takeover_s: Seconds between two looks for runs of dead processes.
        sweep_s: Seconds between two sweeps, and how long a run has to be ready to be swept up.
    """

    def __init__(
        self,
        journal: Journal,
        dispatcher: Dispatcher | None,
        driver: Driver,
        *,
        beat_s: float = 2.0,
        attention_s: float = 0.2,
        wake_s: float = 1.0,
        takeover_s: float = 1.0,
        sweep_s: float = 60.0,
    ) -> None:
        self._journal = journal
        self._dispatcher = dispatcher
        self._driver = driver
        self._beat_s = beat_s
        self._attention_s = attention_s
        self._wake_s = wake_s
        self._takeover_s = takeover_s
        self._sweep_s = sweep_s
        self._told: dict[str, int] = {}  #: the news that the driver was told of
        self._hand: set[str] = set()  #: the runs in hand at the last look
        self._attended_at = 0.0
        self._astray: set[tuple[str, int]] = set()  #: claims of this process that nobody drives, at the last sweep
        self._failing: dict[str, float] = {}  #: loop → monotonic instant of its first failure
        self._beaten_at: float | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.spared: set[str] = set()  #: runs of child processes that this process minds itself
        self.took_over: Callable[[Listed, State], None] = lambda run, state: None  #: told of what dead processes left

    async def __aenter__(self) -> Self:
        loops: dict[str, Turn] = {"beat": self._beat, "attention": self._attend}
        if self._dispatcher is not None:
            loops |= {"wake": self._wake, "takeover": self._take_over, "sweep": self._sweep}
        self._tasks = [
            asyncio.create_task(self._forever(name, turn), name=f"keeper {name}") for name, turn in loops.items()
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def failing_s(self) -> float:
        """For how many seconds the journal has not answered; 0 while it does."""
        return time.monotonic() - min(self._failing.values()) if self._failing else 0.0

    def health(self) -> JsonObject:
        """Return facts: seconds since the journal fails (None: it does not), and since the last confirmed sign of life."""
        now = time.monotonic()
        facts: JsonObject = {
            "journal_unavailable_s": self.failing_s or None,
            "beat_s": None if self._beaten_at is None else now - self._beaten_at,
            "runs": len(self._driver.live),
        }
        if self._dispatcher is not None:
            facts |= {"in_hand": self._dispatcher.in_hand, "limit": self._dispatcher.limit}
        return facts

    # ---- the loops
    async def _forever(self, name: str, turn: Turn) -> None:
        retry_s = RETRY_S
        while True:
            try:
                pause_s = await turn()
            except JournalUnavailable as error:
                self._away(name, error)
            except Exception:  # noqa: BLE001  a loop that ends would leave runs for dead, or deaf
                _LOG.exception("keeper_failed %s", name)
            else:
                self._back(name)
                retry_s = RETRY_S
                await asyncio.sleep(pause_s)
                continue
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, LONGEST_RETRY_S)

    def _away(self, name: str, error: JournalUnavailable) -> None:
        if not self._failing:
            _LOG.warning("journal_away %s", error.problem.message)
        self._failing.setdefault(name, time.monotonic())

    def _back(self, name: str) -> None:
        since = self._failing.pop(name, None)
        if since is not None and not self._failing:
            _LOG.warning("journal_back")

    async def _beat(self) -> float:
        await self._journal.beat()
        self._beaten_at = time.monotonic()
        return self._beat_s

    async def _attend(self) -> float:
        changed = await self._journal.changed(self._attention_s)
        if changed:
            self._look()
        hand, now = set(self._driver.live), time.monotonic()
        if hand and (changed or not hand <= self._hand or now - self._attended_at >= UNASKED_S):
            await self._tell_driver()
            self._attended_at = now
        self._hand = hand
        return BREATH_S

    async def _tell_driver(self) -> None:
        """Tell the driver once of each piece of news; one of a run that is not in hand yet is told when it is."""
        news = await self._journal.attention()
        self._told = {run_id: number for run_id, number in self._told.items() if run_id in news}
        for run_id, number in news.items():
            if number > self._told.get(run_id, 0) and run_id in self._driver.live:
                self._told[run_id] = number
                self._driver.notice(run_id)

    async def _wake(self) -> float:
        """Make runs ready whose instant has come; they have no job before (§2.3, pitfall 5)."""
        at = await self._journal.next_wake()
        if at is None:
            return self._wake_s
        if (left := at - self._journal.now()) > 0:
            return min(left, self._wake_s)
        if not await self._journal.wake(AT_ONCE):
            return self._wake_s  # another process was faster
        self._look()
        return 0.0

    async def _take_over(self) -> float:
        """Take runs from dead processes; of several observers, one succeeds with each (§2.3, pitfall 9)."""
        for run in await self._journal.abandoned():
            if run.row.id not in self.spared:
                await self._release(run)
        return self._takeover_s

    async def _sweep(self) -> float:
        """Have delivered again what has been ready for long: whatever lost its job, it is only late (§2.3, pitfall 4)."""
        late = await self._journal.ready(AT_ONCE, for_s=self._sweep_s)
        if late and self._dispatcher is not None:
            await self._dispatcher.again(late)
        await self._find_astray()
        return self._sweep_s

    async def _find_astray(self) -> None:
        """Release what this process has claimed without learning of it: the answer was lost with the connection.

        A run astray at two sweeps is, between them, in nobody's hands.
        """
        astray = {
            (run.row.id, run.status.epoch): run
            for run in await self._running()
            if run.status.owner == self._journal.name and not self._driver.holds(run.row.id)
        }
        for claimed, run in astray.items():
            if claimed in self._astray:
                await self._release(run)
        self._astray = set(astray)

    async def _running(self) -> list[Listed]:
        found: list[Listed] = []
        query = RunQuery(states=("running",), limit=AT_ONCE)
        while page := await self._journal.runs(query):
            found += page
            query = replace(query, before=page[-1].row.id)
        return found

    async def _release(self, run: Listed) -> None:
        with contextlib.suppress(JournalRefused, NotFound):  # somebody else was faster, or the owner lives after all
            state = await self._journal.release(run.row.id, ends=run.status.epoch)
            _LOG.warning("run_taken_over %s from %s: %s", run.row.id, run.status.owner, state)
            self.took_over(run, state)
            self._look()

    def _look(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.look()
