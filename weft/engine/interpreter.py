"""What comes next in a run: a pure function of the plan, the inputs and what is on record.

Control flow is written as generators (`steps`). A block yields the operations it waits for and is sent their outcome;
`Walk` keeps the blocks and answers what the journal already knows, so a replay is the same walk and performs nothing twice.
There is no clock here, no I/O, nothing random: instants come from records, jitter from the run's id.

Outcomes are found by path and attempt; a step sees only the steps that it needs, so that the order in which parallel
steps ended cannot show in a value. It does decide what had begun when a step failed, its time was up or the run was
cancelled; so a replay takes the records in the order in which they were accepted.

What a record answers must be what is asked for now: it carries a hash of what was asked, and the choices of `if` and
`for_each` are on record too. A difference means that something under the run has changed; then the run is not
followed any further.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from weft.engine.approving import Handle
from weft.engine.blocks import Block, Child, OnRecord, Spawn, Timed
from weft.engine.known import Known, diverged
from weft.engine.operations import Ask, Key, Operation, Pause, Perform, Start, key, key_of
from weft.engine.results import CANCELLED, Mark, RunFacts, RunResult, StepResult, Tried
from weft.engine.steps import Steps
from weft.journal.base import OUTCOMES, Record
from weft.outcome import Outcome
from weft.plan import Plan

__all__ = [
    "Ask",
    "Key",
    "Mark",
    "Operation",
    "Pause",
    "Perform",
    "RunFacts",
    "RunResult",
    "Start",
    "StepResult",
    "Tried",
    "Walk",
    "key",
    "key_of",
]


class Walk:
    """One run, synchronous: told what happened, it says what to do next.

    Args:
        plan: What to follow.
        facts: The run's fixed facts.
        records: What is on record of it, in the order in which it was accepted.
    """

    def __init__(self, plan: Plan, facts: RunFacts, records: Iterable[Record] = ()) -> None:
        self._known = Known(records)
        self._steps = Steps(plan, facts, self._known)
        self.result: RunResult | None = None
        self.doubts: set[str] = set()  #: paths of steps whose last attempt may have had its effect, unknown to us
        self.hard = False  #: nothing begins any more, `finally` neither
        self.rang = False  #: the time of something was up
        self.dropped: list[Key] = []  #: timers that are not waited for any more; whoever takes note clears it
        self._early: dict[Key, Record] = {}  #: answers to what has not been asked yet
        self._root = self._steps.run()
        self._ready: deque[tuple[Block, Any]] = deque([(self._root, None)])
        self._waiting: dict[Key, Block | Timed] = {}
        self._wishes: dict[Key, Operation] = {}  #: what each block that waits has asked for
        self._asked: dict[Key, Operation] = {}  #: not yet handed out
        self._homes: dict[Block, tuple[Spawn, str | int] | Timed] = {}
        self._listening: dict[Key, Block] = {}  #: what waits for a question to be on record
        self._on_record: dict[Key, Any] = {}  #: questions that are, and nobody has waited for that yet

    @property
    def marks(self) -> deque[Mark | Tried]:
        """What began and ended, for those who watch; whoever takes it clears it."""
        return self._steps.marks

    @property
    def notes(self) -> list[Record]:
        """Choices that are not on record yet; whoever has put them there clears it."""
        return self._known.notes

    @property
    def handles(self) -> Mapping[str, Handle]:
        """What stands for links and tokens in arguments."""
        return self._steps.handles

    @property
    def sent_once(self) -> bool:
        """Whether it has had an effect, perhaps, that must not be repeated."""
        return self._steps.sent_once

    @property
    def cancelled(self) -> bool:
        """Whether somebody has cancelled the run."""
        return self._steps.cancelled

    def advance(self) -> list[Operation]:
        """Go on until every block waits; return what they newly wait for.

        Raises:
            Diverged: A record answers something else than what is asked for.
        """
        self._go_on()
        history, self._known.history = self._known.history, []
        for record in history:
            self._replay(record)
        asked = [self._resumed(at, wish) for at, wish in self._asked.items()]
        self._asked.clear()
        return asked

    def settle(self, record: Record) -> None:
        """Take in how an operation ended: an attempt's outcome, or a pause that is over.

        What follows from it follows before the next record is looked at, as in a replay: which of two ends came first
        decides what still begins (rule A9).
        """
        at = key_of(record)
        self._asked.pop(at, None)
        block, wish = self._waiting.pop(at), self._wishes.pop(at)
        if isinstance(block, Timed):
            self._ring(block)
        else:
            self._ready.append((block, self._answer(record, wish)))
        self._go_on()

    def began(self, record: Record) -> None:
        """Take in that a question is on record, or will be before anything that follows from it begins."""
        at = key_of(record)
        facts = json.loads(record.payload)
        if at in self._listening:
            self._ready.append((self._listening.pop(at), facts))
            self._go_on()
        else:
            self._on_record[at] = facts

    def waits_for(self, operation: Operation) -> bool:
        """Whether some block waits for the operation's end."""
        return key(operation) in self._waiting

    def cancel(self, *, hard: bool = False) -> None:
        """Start nothing more but what `finally` asks for, or nothing at all."""
        reaches = self._steps.reaches
        self._steps.cancelled = True
        reaches.main.end()
        reaches.told.end()
        if hard:
            self.hard = True
            reaches.final.end()
        if self.result is not None:  # all was done, but the cancel was on record before the end (rule A18)
            self.result = RunResult("cancelled", None, CANCELLED)

    def ends(self, operation: Operation) -> bool:
        """Whether a cancel, or a time that is up, has put an end to the operation."""
        return self._wishes.get(key(operation), operation).reach.is_over

    def _replay(self, record: Record) -> None:
        if record.kind == "cancel":
            self.cancel(hard=record.n > 1)
        elif record.kind == "waits":
            self.began(record)
        elif key_of(record) in self._waiting:
            self.settle(record)
        else:
            self._early.setdefault(key_of(record), record)  # a signal that came after the time was up answers nothing

    def _go_on(self) -> None:
        while self._ready:
            block, answer = self._ready.popleft()
            try:
                wish = block.send(answer)
            except StopIteration as end:
                self._ended(block, end.value)
                continue
            match wish:
                case Spawn():
                    wish.parent = block
                    self._start_children(wish)
                case Timed():
                    wish.parent = block
                    self._start_timed(wish)
                case OnRecord():
                    self._listen(block, wish)
                case _:
                    self._wait(block, wish)

    def _wait(self, block: Block, wish: Operation) -> None:
        at = key(wish)
        if (early := self._early.pop(at, None)) is not None:
            self._ready.append((block, self._answer(early, wish)))
        else:
            self._waiting[at] = block
            self._wishes[at] = self._asked[at] = wish

    def _listen(self, block: Block, wish: OnRecord) -> None:
        if wish.key in self._on_record:
            self._ready.append((block, self._on_record.pop(wish.key)))
        else:
            self._listening[wish.key] = block

    def _resumed(self, at: Key, wish: Operation) -> Operation:
        """The operation as it must be asked for now: a crash may have left it half done."""
        known = self._known
        match wish:
            case Perform(call):
                if at not in known.begun:
                    return wish
                known.same(call, known.begun[at])
                return replace(wish, call=replace(call, repeated=True, begun=True))
            case Pause() | Ask() if at in known.waits:
                facts: Any = known.waits[at]
                return replace(
                    wish, asked_at=facts["at"], until=facts["until" if isinstance(wish, Pause) else "deadline"]
                )
            case Start() if at in known.waits:
                known.same_child(wish)
                begun: Any = known.waits[at]
                return replace(wish, asked_at=begun["at"], child=begun["child"])
            case _:
                return wish

    def _answer(self, record: Record, wish: Operation) -> Any:
        """What the block is sent for a record; always read from the text, so that a replay is sent the same."""
        if isinstance(wish, Perform):
            if record.kind not in OUTCOMES:
                raise diverged(wish.call.step, "an attempt", f"{record.kind!r}")
            outcome = Outcome.from_text(record.kind, record.payload)  # type: ignore[arg-type]
            self._known.same(wish.call, outcome.request)
            if outcome.failure is not None and outcome.failure.effect == "unknown":
                self.doubts.add(record.path)
            else:
                self.doubts.discard(record.path)
            return outcome
        if isinstance(wish, Start) and key(wish) in self._known.waits:
            self._known.same_child(wish)
        return json.loads(record.payload) if record.kind == "signal" else None

    # ---- blocks side by side
    def _start_children(self, spawn: Spawn) -> None:
        while not self._stops(spawn) and (spawn.limit is None or spawn.running < spawn.limit):
            child = self._next_child(spawn)
            if child is None:
                break
            block = child.start(spawn.results)
            self._homes[block] = (spawn, child.key)
            spawn.running += 1
            self._ready.append((block, None))
        if not spawn.running and spawn.parent is not None:
            self._ready.append((spawn.parent, spawn.results))
            spawn.parent = None

    def _stops(self, spawn: Spawn) -> bool:
        return spawn.stopped or spawn.reach.is_over

    @staticmethod
    def _next_child(spawn: Spawn) -> Child | None:
        for child in spawn.waiting:
            if all(need in spawn.results for need in child.needs):
                spawn.waiting.remove(child)
                return child
        for child in spawn.children:
            if all(need in spawn.results for need in child.needs):
                return child
            spawn.waiting.append(child)
        return None

    def _start_timed(self, timed: Timed) -> None:
        at = key(timed.timer)
        self._homes[timed.block] = timed
        self._ready.append((timed.block, None))
        if self._early.pop(at, None) is not None:
            self._ring(timed)
        else:
            self._waiting[at] = timed
            self._wishes[at] = self._asked[at] = timed.timer

    def _ring(self, timed: Timed) -> None:
        """The time is up, or what is around it is over: then nothing more is to be said of its time."""
        if not timed.timer.reach.is_over:
            self.rang = timed.rang = True
            timed.inner.end()

    def _ended(self, block: Block, value: Any) -> None:
        if block is self._root:
            self.result = value
            return
        home = self._homes.pop(block)
        if isinstance(home, Timed):
            self._drop(home)
            assert home.parent is not None  # noqa: S101  set before its block began
            self._ready.append((home.parent, (value, home.rang)))
            return
        spawn, name = home
        spawn.results[name] = value
        spawn.running -= 1
        spawn.stopped = spawn.stopped or value.failed
        self._start_children(spawn)

    def _drop(self, timed: Timed) -> None:
        """Wait no longer for the timer of a block that has ended."""
        at = key(timed.timer)
        self.dropped.append(at)
        for kept in (self._waiting, self._wishes, self._asked):
            kept.pop(at, None)
