"""The loop that drives a run under one claim: it performs what the interpreter asks for and puts everything on record.

A run goes on in turns. Each turn takes in what has ended, asks the walk what comes next, and writes one thing: the
outcomes, the choices, the `begun` of what comes next, the end. Nothing begins before that write is on disk, and a
write that is refused ends what the run does here. So no effect is ever ahead of the record of its causes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

from weft.engine.approving import Signer
from weft.engine.children import Children
from weft.engine.events import Asked, AttemptEnded, AttemptStarted, Emitted, Logged, Observer, StepEnded, StepStarted
from weft.engine.interpreter import (
    Ask,
    Key,
    Mark,
    Operation,
    Pause,
    Perform,
    RunFacts,
    RunResult,
    Start,
    Tried,
    Walk,
    key,
)
from weft.engine.metering import Budgets
from weft.engine.room import Room
from weft.errors import Diverged, JournalBehind, JournalRefused, JournalUnavailable, NotFound, Problem, WeftError
from weft.executor import Call, Performer, Watch
from weft.journal.base import (
    LARGEST_RUN,
    OUTCOMES,
    Claim,
    Ended,
    Journal,
    Kept,
    Listed,
    Meter,
    Record,
    Rest,
    Then,
    another_owner,
)
from weft.outcome import Failure, Outcome, encode
from weft.plan import Plan
from weft.types import JsonObject

HEADROOM = 1_000_000
"""Bytes below the limit of a run that outcomes leave to what its end takes."""

WARN_ABOVE = 256_000
"""Bytes of an outcome above which the run's log says so."""

IN_MEMORY_S = 2.0
"""A run that has nothing to do for longer rests; what waits shorter stays in memory."""

LOST = frozenset({"another_owner", "has_ended"})
"""Why a write may be refused without anything being wrong: somebody else has the run now."""

FIRST_RETRY_S, LONGEST_RETRY_S = 0.25, 5.0
"""Between two tries to write while the journal cannot."""

_TOO_LARGE = Problem(
    "run_too_large",
    f"All outputs of the run together are over {LARGEST_RUN:,} bytes; this one was not kept.",
    "Keep large values as artifacts, or divide the work among several runs.",
)

_STOPPED = Problem(
    "effect_unknown",
    "The attempt was stopped while its effect was under way: it may have happened.",
    "Look at the other side before you start it again.",
)

_CUT_OFF = Problem(
    "effect_unknown",
    "The attempt was cut off while its effect was under way: it may have happened, and this step must not repeat it.",
    "Look at the other side before you start it again.",
)

T = TypeVar("T")
_LOG = logging.getLogger("weft.engine")

_Task: TypeAlias = "asyncio.Task[Record]"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run needs from outside."""

    journal: Journal
    executor: Performer
    budgets: Budgets | None = None
    pin: Callable[[Plan], str] | None = None  #: the text of what a child run follows
    signer: Signer | None = None
    in_memory_s: float = IN_MEMORY_S


@dataclass(slots=True)
class Told:
    """What those who watch a run have been told of it; it outlives a claim, so that nothing is told twice."""

    began: dict[str, float] = field(default_factory=dict)  #: path of a step → instant of `time.monotonic()`
    ended: set[str] = field(default_factory=set)
    attempts: set[Key] = field(default_factory=set)
    asked: set[Key] = field(default_factory=set)


@dataclass(slots=True)
class _Running:
    operation: Perform
    watch: Watch
    meters: tuple[Meter, ...] = ()  #: that it was granted


class Reactor:
    """Drives one run from its records until it ends or rests.

    Args:
        plan: What to follow.
        kept: The run as the journal has it, under this claim.
        claim: The right to write to it.
        around: Journal and executor.
        observe: Told of everything that happens, as it happens.
        told: What the observer has been told before.
        watched: Tells whether somebody wants to see output while it is made; asked when an attempt begins.
        started: Told of child runs that were started.
    """

    def __init__(
        self,
        plan: Plan,
        kept: Kept,
        claim: Claim,
        around: Surroundings,
        observe: Observer,
        *,
        told: Told | None = None,
        watched: Callable[[], bool] = lambda: False,
        started: Callable[[Sequence[str]], None] = lambda children: None,
    ) -> None:
        self._plan = plan
        self._kept = kept
        self._claim = claim
        self._around = around
        self._journal, self._executor = around.journal, around.executor
        self._started = started
        self._observe = observe
        self._told = told or Told()
        self._watched = watched
        self._size = kept.status.size
        self._walk: Walk
        self._marks: list[Mark | Tried] = []  #: not told yet: what they speak of is not on record
        self._open: dict[Key, Operation] = {}  #: what the walk waits for and nobody performs
        self._fresh: dict[Key, None] = {}  #: of those, the waits that are not on record yet, in their order
        self._running: dict[_Task, _Running] = {}
        self._ended: deque[_Task] = deque()  #: not yet looked at
        self._outcomes: list[Record] = []  #: the walk knows them, the journal does not yet
        self._happened: set[Key] = set()  #: which of them tell of attempts that were made
        self._room = Room(around.budgets, plan, around.journal, claim, self._insist)
        self._children = Children(around.journal, around.pin, self._insist)
        self._news = asyncio.Event()  #: something ended, somebody wrote, or a stop was asked for
        self._behind = False  #: somebody else has written to the run
        self._stopping = False
        self._may_begin = True  #: what this turn has put on record as begun, and what needs no record
        self._look_again = False
        self._letting_go = False
        self._lost: JournalRefused | None = None  #: an attempt was kept from its effect: the claim is void

    # ---- from outside
    def notice(self) -> None:
        """Look at once what others have written to the run."""
        self._behind = True
        self._news.set()

    def stop(self) -> None:
        """Begin nothing more, and let go of the run when what is under way has ended."""
        self._stopping = True
        self._news.set()

    def stop_now(self) -> None:
        """Let go of the run at once; what is under way has no outcome, and is repeated by whoever goes on."""
        self._letting_go = True
        for task in self._running:
            task.cancel()
        self.stop()

    async def run(self) -> Ended | Rest:
        """Go on until the run has ended, or has nothing to do for a while, and return which.

        A fault of the engine or of an action's own rules parks the run with its reason; nothing is left running.

        Raises:
            JournalRefused: The run has another owner since: nothing more is begun or written.
            JournalUnavailable: The journal was closed.
        """
        try:
            return await self._drive()
        except JournalUnavailable:
            raise
        except JournalRefused as refused:
            if refused.problem.code in LOST:
                raise
            return await self._park(refused)
        except Exception as error:  # noqa: BLE001  no run may stay without somebody who looks after it
            return await self._park(error)
        finally:
            self._letting_go = True
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    # ---- turns
    async def _drive(self) -> Ended | Rest:
        self._walk_anew()
        while True:
            self._go_on()
            then = self._then()
            if not await self._write(then):
                continue
            self._tell()
            if then is not None:
                return then
            if self._walk.rang:
                self._stop_what_is_over()
                if await self._children.call_off(self._open.values(), self._walk):
                    self._look_again = True
            if not await self._start_all() or self._look_again:
                self._look_again = False
                continue
            await self._wait()
            self._take_in()

    def _go_on(self) -> None:
        """Let the walk go on as far as it can without anything being performed."""
        while True:
            told = [self._ask(operation) for operation in self._walk.advance()]
            for at in self._walk.dropped:
                self._forget(at)
            self._walk.dropped.clear()
            over = [each for each in self._open.values() if self._is_over(each)]
            if not over and not any(told):
                break
            for operation in over:
                if self._walk.waits_for(operation):  # what was settled before it may have put an end to its wait
                    self._settle(operation, self._end_of(operation))
        self._marks += self._walk.marks
        self._walk.marks.clear()

    def _ask(self, operation: Operation) -> bool:
        """Wait for an operation; tell whether the walk goes on from that alone."""
        at = key(operation)
        if not isinstance(operation, Perform) and operation.asked_at is None:
            now = self._journal.now()
            length = None if isinstance(operation, Start) else operation.seconds
            until = operation.until if length is None else now + length
            if isinstance(operation, Start):
                operation = replace(operation, asked_at=now)
            else:
                operation = replace(operation, asked_at=now, until=until)
            self._fresh[at] = None
        self._open[at] = operation
        if not (isinstance(operation, Ask) and operation.told and at in self._fresh):
            return False
        del self._fresh[at]
        # What tells people of it begins in this turn, after the write that puts it on record.
        (record,) = _beginning(operation)
        self._outcomes.append(record)
        self._walk.began(record)
        return True

    def _forget(self, at: Key) -> None:
        self._open.pop(at, None)
        self._fresh.pop(at, None)
        self._room.forget(at)

    def _is_over(self, operation: Operation) -> bool:
        if isinstance(operation, Start) and not self._walk.hard:
            # One that was started is waited for: it is cancelled, and has its own `finally`.
            return self._walk.ends(operation) and key(operation) in self._fresh
        if self._walk.ends(operation) or _is_cut_off(operation):
            return True
        until = None if isinstance(operation, Perform) else operation.until
        return until is not None and until <= self._journal.now()

    def _end_of(self, operation: Operation) -> Record:
        """Return the end of a wait, or of what a cancel kept from beginning, or a crash left half done before it."""
        now = self._journal.now()
        if not isinstance(operation, Perform):
            return Record(operation.path, operation.n, "rang", encode(now))
        if self._walk.ends(operation):
            return self._stopped(operation.call, now, in_doubt=operation.call.repeated)
        call, failure = operation.call, Failure(_CUT_OFF.at(operation.call.step.where()))
        return self._record(call, Outcome("failed", call.variant.name, now, now, failure=failure, request=call.request))

    def _settle(self, operation: Operation, record: Record) -> None:
        at = key(operation)
        fresh = at in self._fresh
        self._forget(at)
        if fresh:  # a wait that was over at once: that it began is on record too
            self._outcomes += _beginning(operation)
        self._outcomes.append(record)
        if self._walk.waits_for(operation):
            self._walk.settle(record)

    def _then(self) -> Then:
        """Return how this claim ends with this turn, if it does."""
        if self._walk.result is not None:
            return (
                None
                if self._running
                else _end(
                    self._walk.result,
                    doubt=bool(self._walk.doubts),
                    sent_once=self._kept.row.parent is not None and self._walk.sent_once,
                )
            )
        to_start = any(isinstance(each, Perform) and at not in self._room for at, each in self._open.items())
        if self._fresh and any(isinstance(self._open[at], Start) for at in self._fresh):
            return None  # its gate may answer at once
        if self._walk.rang and any(
            self._children.is_to_be_called_off(each, self._walk) for each in self._open.values()
        ):
            return None
        if self._running or (to_start and not self._stopping):
            return None
        if to_start:
            return Rest("ready")
        if not self._open:
            raise RuntimeError("the run waits for nothing")
        earliest = min(self._instants(), default=None)
        if self._stopping or earliest is None:
            return Rest("waiting", earliest)
        if self._room:
            return self._room.rest(self._deadlines(), self._around.in_memory_s)
        return None if earliest - self._journal.now() < self._around.in_memory_s else Rest("waiting", earliest)

    def _deadlines(self) -> Iterator[float]:
        """Yield the instants at which waits are over."""
        return (until for each in self._open.values() if (until := _until(each)) is not None)

    def _instants(self) -> Iterator[float]:
        """Yield the instants at which there is something to do again."""
        yield from self._deadlines()
        yield from self._room.instants()

    async def _write(self, then: Then) -> bool:
        """Put this turn on record; tell whether it is, or must be thought over because others wrote first."""
        if self._behind and await self._catch_up():
            return False
        self._may_begin = not self._stopping
        records = [*self._outcomes, *self._walk.notes, *self._beginnings(then)]
        starts = [each for at in self._fresh if isinstance(each := self._open[at], Start)]
        if (records or then is not None) and not await self._put(records, then, starts):
            return False
        self._size += sum(len(record.payload) for record in records if record.kind not in OUTCOMES)
        self._outcomes.clear()
        self._happened.clear()
        self._room.written()
        self._walk.notes.clear()
        self._fresh.clear()
        if starts:
            self._look_again = True  # it rests in another turn: a gate may have answered at once
            self._started([each.child for each in starts])
        return True

    async def _put(self, records: Sequence[Record], then: Then, starts: Sequence[Start]) -> bool:
        """Write a turn; tell whether it was accepted, or must be thought over."""
        more = self._room.said_with(records)
        if starts:
            more["children"] = [await self._children.row(self._kept.row, start) for start in starts]
        try:
            await self._insist(lambda: self._journal.write(self._claim, self._kept.status.news, records, then, **more))
        except JournalBehind:
            await self._catch_up()
            return False
        except NotFound as missing:
            if missing.problem.code != "unknown_document":
                raise
            return False  # what a child follows was removed since it was kept: it is kept anew
        return True

    def _stop_what_is_over(self) -> None:
        """Stop attempts that a timeout has ended, now that this is on record; those past the point of no return go on."""
        for task, running in self._running.items():
            if self._walk.ends(running.operation) and (self._walk.hard or not running.watch.committed):
                task.cancel()

    def _beginnings(self, then: Then) -> list[Record]:
        """Return what must be on record before what comes next may begin."""
        if isinstance(then, Ended):
            return []
        found = [record for at in self._fresh for record in _beginning(self._open[at])]
        if not self._may_begin:
            return found
        calls = [(at, each.call) for at, each in self._open.items() if isinstance(each, Perform)]
        begun = [
            Record(each.path, each.number, "begun", encode({"request": each.request}))
            for at, each in calls
            if _sends(each) and not each.begun and self._room.meters(at, each) == ()
        ]
        return found + begun

    async def _insist(self, work: Callable[[], Awaitable[T]]) -> T:
        return await insist(
            work, lambda problem: self._observe(Logged("", f"{problem.message} The run waits until it can be."))
        )

    async def _catch_up(self) -> bool:
        """Read what others wrote and walk anew, so that the run learns of things in the order of their records.

        Returns whether there was anything to read.
        """
        self._behind = False
        kept = await self._insist(lambda: self._journal.load(self._claim.run_id))
        if kept.status.epoch != self._claim.epoch:
            raise another_owner(self._claim.run_id)
        if kept.status.news == self._kept.status.news:
            return False
        # What was only concluded, from a time that was up for one, may come out otherwise after the news.
        self._outcomes = [
            each for each in self._outcomes if (each.path, each.n) in self._happened and _is_outcome(each)
        ]
        waiting = [*self._outcomes, *(task.result() for task in self._ended if not _failed(task))]
        self._kept, self._size = kept, kept.status.size + sum(len(record.payload) for record in waiting)
        self._walk_anew()
        for task, running in self._running.items():
            if not self._walk.waits_for(running.operation) and (self._walk.hard or not running.watch.committed):
                task.cancel()
        self._stop_what_is_over()
        return True

    def _walk_anew(self) -> None:
        records = [*self._kept.records, *self._outcomes]
        self._walk = Walk(self._plan, facts_of(self._kept), records)
        self._marks.clear()  # the new walk tells all of it again
        self._open.clear()
        self._fresh.clear()
        self._room.clear()
        busy = {key(running.operation) for running in self._running.values()}
        for operation in self._walk.advance():
            if key(operation) not in busy:
                self._ask(operation)

    async def _wait(self) -> None:
        """Wait until something ends, a wait is over, or somebody asks for something."""
        instants = list(self._instants())
        if instants:
            # The clock is looked at again every minute: it may have been set, the machine may have slept.
            try:
                async with asyncio.timeout(min(60.0, min(instants) - self._journal.now())):
                    await self._news.wait()
            except TimeoutError:
                return
        else:
            await self._news.wait()
        self._news.clear()

    def _take_in(self) -> None:
        while self._ended:
            task = self._ended.popleft()
            running = self._running.pop(task)
            if task.cancelled() and self._letting_go:
                self._open[key(running.operation)] = running.operation  # whoever goes on performs it
                continue
            self._room.ended(running.operation.call, running.meters, task.result())
            self._happened.add(key(running.operation))
            self._settle(running.operation, task.result())

    async def _park(self, error: Exception) -> Rest:
        """Let go of a run that cannot go on: what cannot be taken back ends first, then the reason is put on record.

        What else was under way has no outcome. An outcome that the journal does not take is put on record as happened,
        without its output; if even that is refused, without it.
        """
        _LOG.error("run_parked %s", self._claim.run_id, exc_info=error)
        rest = Rest("parked", reason=encode(asdict(_reason(error))))
        self._letting_go = True
        for task, running in self._running.items():
            if not running.watch.committed:
                task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        ended = [task.result() for task in self._running if not _failed(task)]
        for task, running in self._running.items():
            if not _failed(task):
                self._room.ended(running.operation.call, running.meters, task.result())
        self._running.clear()
        records = [*self._outcomes, *ended]
        for tried in (records, [_without_output(record) for record in records]):
            try:
                return await self._rest(tried, rest)
            except JournalUnavailable:
                raise
            except Exception as refused:
                if isinstance(refused, JournalRefused) and refused.problem.code in LOST:
                    raise
                _LOG.exception("outcome_refused %s", self._claim.run_id)
        return await self._rest([], rest)

    async def _rest(self, records: list[Record], rest: Rest) -> Rest:
        while True:
            try:
                news, more = self._kept.status.news, self._room.said_with(records)
                await self._insist(lambda: self._journal.write(self._claim, news, records, rest, **more))  # noqa: B023  awaited here
            except JournalBehind:
                self._kept = await self._insist(lambda: self._journal.load(self._claim.run_id))
            else:
                return rest

    # ---- attempts
    async def _start_all(self) -> bool:
        """Begin what is on record as begun; tell whether all that may begin has, or there is more to think over."""
        if not self._may_begin or self._letting_go:  # a stop while the turn was being written changes nothing of it
            return True
        metered: list[Perform] = []
        for at, operation in list(self._open.items()):
            if not isinstance(operation, Perform):
                continue
            if self._room.meters(at, operation.call) != ():
                metered.append(operation)
            else:
                self._begin(at, operation)
        for operation in metered:
            if not await self._hold(operation):
                return False
        return True

    def _begin(self, at: Key, operation: Perform, meters: tuple[Meter, ...] = ()) -> None:
        self._forget(at)
        watch = self._watch(operation.call)
        task = asyncio.create_task(self._perform(operation, watch))
        self._running[task] = _Running(operation, watch, meters)
        task.add_done_callback(self._over)

    async def _hold(self, operation: Perform) -> bool:
        """Begin an attempt if there is room for what it may use up; tell whether nothing has to be thought over."""
        at, call = key(operation), operation.call
        if self._stopping:
            return True
        try:
            found = await self._room.ask(at, call, self._kept.status.news)
        except JournalBehind:
            await self._catch_up()
            return False
        if isinstance(found, Failure):
            self._refuse(operation, found)
            return False
        if isinstance(found, str):
            self._look_again = True  # it may have to wait for so long that the run rests
            self._observe(Logged(call.path, found))
        elif found is not None:
            self._size += 0 if call.begun else len(encode({"request": call.request}))
            if not self._letting_go:
                self._begin(at, operation, found)
        return True

    def _refuse(self, operation: Perform, failure: Failure) -> None:
        """Let an attempt fail that must not begin."""
        call, now = operation.call, self._journal.now()
        failure = replace(failure, problem=failure.problem.at(call.step.where()))
        outcome = Outcome("failed", call.variant.name, now, now, failure=failure, request=call.request)
        self._settle(operation, self._record(call, outcome))

    def _over(self, task: _Task) -> None:
        self._ended.append(task)
        self._news.set()

    def _watch(self, call: Call) -> Watch:
        noted = ""

        def note(text: str) -> None:
            nonlocal noted
            if text != noted and not watch.ended:
                noted = text
                self._observe(AttemptStarted(call.path, call.number, call.variant.name, text))

        def emit(text: str) -> None:
            if not watch.ended:
                self._observe(Emitted(call.path, call.number, text))

        async def barrier() -> None:
            try:
                await self._insist(lambda: self._journal.confirm(self._claim))
            except JournalRefused as refused:
                self._lost = refused
                raise
            watch.committed = True

        watch = Watch(emit=emit if self._watched() else None, note=note, barrier=barrier)
        return watch

    async def _perform(self, operation: Perform, watch: Watch) -> Record:
        call = operation.call
        began = self._journal.now()
        try:
            if _sends(call):
                await self._insist(lambda: self._journal.confirm(self._claim))
            self._observe(AttemptStarted(call.path, call.number, call.variant.name))
            outcome = await self._executor.perform(self._revealed(call), watch)
            if self._lost is not None:  # what the action made of it is no outcome
                raise self._lost
        except asyncio.CancelledError:
            if self._letting_go:
                raise
            return self._stopped(call, began, in_doubt=watch.committed or call.repeated)
        finally:
            watch.ended = True
        return self._record(call, outcome)

    def _revealed(self, call: Call) -> Call:
        """Return a call that knows what the handles in its arguments stand for."""
        if not self._walk.handles or self._around.signer is None:
            return call
        return replace(call, handles=self._around.signer.reveal(self._walk.handles, encode(call.arguments)))

    def _record(self, call: Call, outcome: Outcome) -> Record:
        """Return the outcome as it can be kept: a run that grows too large keeps that it happened, not what it gave."""
        failure = outcome.failure
        if call.repeated and _sends(call) and failure is not None and failure.effect == "none":
            # That it had no effect itself says nothing of the attempt that it repeats (rule A6).
            outcome = replace(outcome, failure=replace(failure, effect="unknown"))
        outcome = replace(outcome, repeated=call.repeated)
        text = outcome.to_text()
        if self._size + len(text) > LARGEST_RUN - HEADROOM:
            failure = Failure(_TOO_LARGE.at(call.step.where()), effect="happened")
            outcome = replace(outcome, state="failed", output=None, failure=failure)
            text = outcome.to_text()
        elif len(text) > WARN_ABOVE:
            told = f"The output has {len(text):,} bytes: it is kept and read with the run again and again."
            self._observe(Logged(call.path, told))
        self._size += len(text)  # at once: others end beside it before it is written
        return Record(call.path, call.number, outcome.state, text)

    def _stopped(self, call: Call, began: float, *, in_doubt: bool) -> Record:
        failure = Failure(_STOPPED.at(call.step.where())) if in_doubt else None
        now = self._journal.now()
        outcome = Outcome("cancelled", call.variant.name, began, now, failure=failure, request=call.request)
        outcome = replace(outcome, repeated=call.repeated)
        return Record(call.path, call.number, outcome.state, outcome.to_text())

    # ---- telling
    def _tell(self) -> None:
        """Tell of what is on record now."""
        for mark in self._marks:
            if isinstance(mark, Tried):
                self._tell_attempt(mark)
            else:
                self._tell_step(mark)
        self._marks.clear()
        if self._walk.result is None:
            self._tell_questions()

    def _tell_questions(self) -> None:
        for at, operation in self._open.items():
            if isinstance(operation, Ask) and at not in self._told.asked:
                self._told.asked.add(at)
                self._observe(asked(operation))

    def _tell_attempt(self, tried: Tried) -> None:
        at = (tried.call.path, tried.call.number)
        if at not in self._told.attempts:
            self._told.attempts.add(at)
            self._observe(attempt_ended(tried))

    def _tell_step(self, mark: Mark) -> None:
        if mark.result is None:
            if mark.path not in self._told.began:
                self._told.began[mark.path] = time.monotonic()
                self._observe(StepStarted(mark.path))
        elif mark.path not in self._told.ended:
            self._told.ended.add(mark.path)
            began = self._told.began.get(mark.path)
            ms = 0 if began is None else round((time.monotonic() - began) * 1000)
            self._observe(StepEnded(mark.path, mark.result.state, ms, mark.result.output, mark.result.problem))


async def insist(work: Callable[[], Awaitable[T]], tell: Callable[[Problem], None]) -> T:
    """Do something with the journal, and while it cannot, try again without end: nothing is lost by waiting.

    Args:
        work: Something that may be done again.
        tell: Told once of the first failure.

    Raises:
        JournalUnavailable: The journal was closed.
    """
    wait_s = FIRST_RETRY_S
    while True:
        try:
            return await work()
        except JournalUnavailable as error:
            if error.problem.code == "journal_closed":
                raise
            if wait_s == FIRST_RETRY_S:
                tell(error.problem)
        await asyncio.sleep(wait_s)
        wait_s = min(LONGEST_RETRY_S, wait_s * 2)


def facts_of(run: Listed) -> RunFacts:
    """Return what is fixed of a run, as its plan sees it."""
    row = run.row
    inputs: dict[str, Any] = json.loads(row.inputs)
    return RunFacts(row.id, row.started_at, inputs, json.loads(row.trigger), row.scheduled_at)


def attempt_ended(tried: Tried) -> AttemptEnded:
    """Return an attempt's end as those who watch are told of it."""
    call, outcome, failure = tried.call, tried.outcome, tried.outcome.failure
    cancelled = outcome.state == "cancelled"
    problem = failure.problem if failure else None
    if cancelled and problem is None:
        problem = Problem("cancelled", "The attempt was cancelled.")
    status, details = (failure.status, failure.details) if failure else (None, {})
    return AttemptEnded(
        call.path,
        call.number,
        outcome.variant,
        outcome.ms,
        problem,
        tried.wait_s,
        status,
        details,
        cancelled,
        outcome.started_at,
        outcome.repeated,
        call.arguments,
        outcome.output,
    )


def asked(question: Ask) -> Asked:
    """Return a question that is on record as those who watch are told of it."""
    at, until = question.asked_at, question.until
    return Asked(
        question.path,
        question.message,
        question.who,
        datetime.fromtimestamp(at or 0.0, UTC),
        None if until is None else datetime.fromtimestamp(until, UTC),
    )


def _is_outcome(record: Record) -> bool:
    return record.kind in OUTCOMES


def _failed(task: _Task) -> bool:
    return task.cancelled() or task.exception() is not None


def _without_output(record: Record) -> Record:
    """Return a record of an attempt's end that says no more than that it happened."""
    if record.kind not in OUTCOMES:
        return record
    outcome = Outcome.from_text(record.kind, record.payload)  # type: ignore[arg-type]
    told = Problem(
        "not_recorded", "The attempt ended, and what came of it could not be kept.", "The log has the details."
    )
    kept = replace(outcome, state="failed", output=None, failure=Failure(told, effect="happened"))
    return Record(record.path, record.n, "failed", kept.to_text())


def _until(operation: Operation) -> float | None:
    return None if isinstance(operation, Perform) else operation.until


def _beginning(operation: Operation) -> list[Record]:
    """Return what puts on record that a wait has begun."""
    match operation:
        case Pause():
            timer: JsonObject = {"at": operation.asked_at, "until": operation.until}
            return [Record(operation.path, operation.n, "timer", encode(timer))]
        case Ask():
            facts: JsonObject = {
                "at": operation.asked_at,
                "deadline": operation.until,
                "message": operation.message,
                "who": list(operation.who),
            }
            return [Record(operation.path, operation.n, "waits", encode(facts))]
        case Start():
            child: JsonObject = {
                "at": operation.asked_at,
                "deadline": None,
                "child": operation.child,
                "request": operation.request,
            }
            return [Record(operation.path, operation.n, "waits", encode(child))]
        case Perform():
            return []


def _is_cut_off(operation: Operation) -> bool:
    """Whether a crash left the attempt half done and it must not be made again."""
    return isinstance(operation, Perform) and operation.call.begun and operation.call.step.once


def _sends(call: Call) -> bool:
    return call.step.action is not None and call.step.action.manifest.effects == "send"


def _end(result: RunResult, *, doubt: bool, sent_once: bool) -> Ended:
    problem = None if result.problem is None else asdict(result.problem)
    told: JsonObject = {"outputs": result.outputs, "problem": problem}
    if doubt:
        told["doubt"] = True
    if sent_once:  # whoever has started it must not start it again
        told["sent_once"] = True
    return Ended(result.state, encode(told), doubt)


def _reason(error: Exception) -> Problem:
    if isinstance(error, Diverged):
        return error.problem
    if isinstance(error, WeftError):
        return replace(error.problem, code="stuck")
    return Problem(
        "stuck",
        f"The run could not go on: {type(error).__name__}.",
        "This is a fault of Weft, or of what it stands on; the log has the details. `weft runs resume` tries it again.",
    )
