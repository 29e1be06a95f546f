"""Ways to break the engine, each of which the simulation must notice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch

from simulation.world import Line

from weft.engine.attempts import Chain, Spent
from weft.engine.children import Children
from weft.engine.interpreter import Key, Operation, Perform, Walk
from weft.engine.reactor import Reactor
from weft.errors import JournalBehind, JournalUnavailable
from weft.journal.base import Claim, Record, RunRow, Then
from weft.journal.memory import MemoryJournal

_settle, _is_over = Walk.settle, Reactor._is_over
_beginnings, _insist, _resumed, _write = Reactor._beginnings, Reactor._insist, Walk._resumed, Reactor._write
_ask_to_write, _next, _claim, _line_write, _perform = (
    Line.write,
    Chain.next,
    MemoryJournal.claim,
    Line._write,
    Reactor._perform,
)


def _no_begun(self: Reactor, then: Then) -> list[Record]:
    return [record for record in _beginnings(self, then) if record.kind != "begun"]


async def _deaf(self: Reactor, work: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await _insist(self, work)
    except JournalBehind:
        return None


async def _careless(
    self: Line, claim: Claim, news: int, records: Sequence[Record] = (), then: Then = None, **more: Any
) -> None:
    try:
        await _ask_to_write(self, claim, news, records, then, **more)
    except JournalUnavailable as error:
        if error.problem.code == "journal_closed":
            raise


async def _unfenced(self: Line, claim: Claim, news: int, records: Sequence[Record], then: Then, *more: Any) -> None:
    run = self._store.runs[claim.run_id]
    await _line_write(self, Claim(claim.run_id, run.status.epoch, run.token), run.status.news, records, then, *more)


def _forgetful(self: Walk, at: Key, wish: Operation) -> Operation:
    found = _resumed(self, at, wish)
    return replace(found, call=replace(found.call, repeated=False)) if isinstance(found, Perform) else found


async def _hasty(self: Reactor, then: Then) -> bool:
    if then is None:
        await self._start_all()
    return await _write(self, then)


def _unmarked(self: Chain) -> Any:
    self._repeated = False
    return _next(self)


async def _thief(self: MemoryJournal, run_id: str, *, alone: bool = False) -> Claim:
    run = self._run(run_id)
    if run.status.state == "running":
        run.set(state="ready")
    return await _claim(self, run_id, alone=alone)


def _in_heaps(self: Walk, record: Record) -> None:
    with patch.object(self, "_go_on", lambda: None):
        _settle(self, record)


async def _unconfirmed(self: Reactor, operation: Perform, watch: Any) -> Record:
    async def barrier() -> None:
        watch.committed = True

    watch.barrier = barrier
    return await _perform(self, operation, watch)


async def _unwritten(self: Reactor, then: Then) -> bool:
    if self._walk.rang:
        self._stop_what_is_over()
    self._outcomes = [each for each in self._outcomes if (each.n, each.kind) != (0, "rang")]
    return await _write(self, then)


async def _left_alone(self: Children, child: str) -> None:
    """Do nothing."""


def _impatient(self: Reactor, operation: Operation) -> bool:
    return self._walk.ends(operation) or _is_over(self, operation)


async def _apart(  # noqa: PLR0917  as it is called
    self: Line, claim: Claim, news: int, records: Sequence[Record], then: Then, children: Sequence[RunRow] = ()
) -> None:
    for child in children:
        await MemoryJournal.submit(self, replace(child, id=f"{child.id}-{news}"))
    await _line_write(self, claim, news, records, then, children)


def _new_series(self: Chain, succeeded: bool) -> Spent:
    return Spent(1, "none")


MUTANTS: Final[dict[str, tuple[type, str, Any]]] = {
    "a send begins without `begun` on record": (Reactor, "_beginnings", _no_begun),
    "what others wrote is ignored": (Reactor, "_insist", _deaf),
    "a write that nobody has confirmed counts as kept": (Line, "write", _careless),
    "an older claim may still write": (Line, "_write", _unfenced),
    "after a crash a repeat is not told": (Walk, "_resumed", _forgetful),
    "after an unknown effect a repeat is not told": (Chain, "next", _unmarked),
    "effects start before the write": (Reactor, "_write", _hasty),
    "a second delivery takes a running run": (MemoryJournal, "claim", _thief),
    "several ends are taken in before anything follows": (Walk, "settle", _in_heaps),
    "nobody asks whether the process is alive": (Reactor, "_perform", _unconfirmed),
    "that a time is up is acted on and not put on record": (Reactor, "_write", _unwritten),
    "a timeout leaves its child alone": (Children, "_cancel", _left_alone),
    "a step does not wait for the end of its child": (Reactor, "_is_over", _impatient),
    "a child is begun apart from its record": (Line, "_write", _apart),
    "another try of a group knows nothing of the one before": (Chain, "spent", _new_series),
}


def broken(name: str) -> Any:
    """Return a context in which the engine is broken in this way."""
    where, what, instead = MUTANTS[name]
    return patch.object(where, what, instead)
