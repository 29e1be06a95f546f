"""Whether there is room for what an attempt may use up: it begins, is refused, or waits until others have used up less."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from weft.engine.attempts import fraction
from weft.engine.metering import Budgets
from weft.engine.operations import Key
from weft.executor import Call
from weft.journal.base import OUTCOMES, Claim, Full, Journal, Meter, Record, Rest, Settled
from weft.outcome import Failure, Outcome, encode
from weft.plan import Plan

FIRST_LOOK_S, LONGEST_LOOK_S = 0.2, 2.0
"""Between two looks whether there is room for an attempt that waits for others to end."""

LONGEST_FOR_ROOM_S = 30.0
"""A run whose attempts wait for room for longer, and which has nothing else to do, rests."""

T = TypeVar("T")


class Insist(Protocol):
    """Does something with the journal until it can be done."""

    async def __call__(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what `work` returns."""


@dataclass(slots=True)
class _Wait:
    """An attempt that waits until others have used up less."""

    since: float
    again_at: float
    looks: int = 1


class Room:
    """What the attempts of one run may use up, and which of them wait.

    Args:
        budgets: Caps and limits; None: there are none.
        plan: What the run follows.
        journal: Where it is counted.
        claim: Under which the attempts begin.
        insist: Does something with the journal until it can be done.
    """

    def __init__(self, budgets: Budgets | None, plan: Plan, journal: Journal, claim: Claim, insist: Insist) -> None:
        self._budgets = budgets
        self._plan = plan
        self._journal = journal
        self._claim = claim
        self._insist = insist
        self._meters: dict[Key, tuple[Meter, ...] | Failure] = {}  #: of attempts that have not begun
        self._waits: dict[Key, _Wait] = {}
        self._settled: list[Settled] = []  #: what ended attempts have used up, and is not on record

    def meters(self, at: Key, call: Call) -> tuple[Meter, ...] | Failure:
        """Return what a call may use up; with anything, that it has begun is put on record together with that."""
        if self._budgets is None:
            return ()
        if at not in self._meters:
            self._meters[at] = self._budgets.meters(call, self._plan)
        return self._meters[at]

    async def ask(self, at: Key, call: Call, news: int) -> tuple[Meter, ...] | Failure | str | None:
        """Begin an attempt if there is room for what it may use up, and return what it was granted.

        Otherwise return how it fails for which there will be no room, or, once, what it waits for; None: it waits still.

        Raises:
            JournalBehind: Somebody else has written to the run.
        """
        waits, now = self._waits.get(at), self._journal.now()
        if (waits is not None and waits.again_at > now) or self._budgets is None:
            return None
        meters = self.meters(at, call) if waits is None else self._budgets.meters(call, self._plan)
        if isinstance(meters, Failure):
            return meters
        begun = Record(call.path, call.number, "begun", encode({"request": call.request}))
        full = await self._insist(lambda: self._journal.hold(self._claim, news, begun, meters))
        if full is None:
            return meters
        failure = self._budgets.refused(call, meters, full)
        if failure is not None:
            return failure
        self._wait(at, call, waits, full, now)
        return self._budgets.waits(full) if waits is None else None

    def _wait(self, at: Key, call: Call, before: _Wait | None, full: Full, now: float) -> None:
        looks = 1 if before is None else before.looks + 1
        look_s = min(LONGEST_LOOK_S, FIRST_LOOK_S * 2.0 ** min(looks - 1, 10))
        look_s *= fraction(call.run_id, call.path, looks)  # else all look at once, and all but one wait again
        again_at = now + look_s if full.retry_at is None else max(full.retry_at, now + 0.001)
        self._waits[at] = _Wait(now if before is None else before.since, again_at, looks)

    # ---- those that wait
    def __contains__(self, at: Key) -> bool:
        """Whether an attempt waits for room."""
        return at in self._waits

    def __bool__(self) -> bool:
        """Whether any attempt does."""
        return bool(self._waits)

    def instants(self) -> Iterator[float]:
        """Yield the instants at which it is asked again."""
        return (wait.again_at for wait in self._waits.values())

    def rest(self, deadlines: Iterator[float], in_memory_s: float) -> Rest | None:
        """Return how the run rests whose attempts wait for room; None while that may come soon."""
        now = self._journal.now()
        again, until = min(self.instants()), min(deadlines, default=math.inf)
        if any(wait.since + LONGEST_FOR_ROOM_S > now for wait in self._waits.values()):
            if min(again, until) - now < LONGEST_FOR_ROOM_S:
                return None
        else:
            again = max(again, now + LONGEST_FOR_ROOM_S)
        return None if until - now < in_memory_s else Rest("waiting", min(again, until))

    def forget(self, at: Key) -> None:
        """Forget an attempt: it has begun, or never will."""
        self._waits.pop(at, None)
        self._meters.pop(at, None)

    def clear(self) -> None:
        """Forget all that have not begun."""
        self._waits.clear()
        self._meters.clear()

    # ---- those that have ended
    def ended(self, call: Call, granted: tuple[Meter, ...], record: Record) -> None:
        """Take note of what an attempt has really used up, for the write that holds its outcome."""
        if granted and self._budgets is not None:
            outcome = Outcome.from_text(record.kind, record.payload)  # type: ignore[arg-type]  # one of OUTCOMES
            self._settled.append(self._budgets.settled(call, granted, outcome))

    def said_with(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return what a write says besides these records: what their attempts have used up."""
        if not self._settled:
            return {}
        among = {(record.path, record.n) for record in records if record.kind in OUTCOMES}
        return {"settled": tuple(each for each in self._settled if (each.path, each.n) in among)}

    def written(self) -> None:
        """Take note that what was said is on record."""
        self._settled.clear()
