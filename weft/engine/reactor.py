"""The loop that drives a run: it performs what the interpreter asks for and puts every outcome on record first."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from weft.engine.events import (
    AttemptEnded,
    AttemptStarted,
    Emitted,
    Observer,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
    guarded,
)
from weft.engine.interpreter import Mark, Operation, Pause, Perform, RunFacts, RunResult, StepResult, Walk
from weft.errors import Problem, WeftError
from weft.executor import Call, Executor, Watch
from weft.journal.base import Claim, Ended, Journal, Record
from weft.outcome import Failure, Outcome, encode
from weft.plan import Plan

_STOPPED = Problem(
    "effect_unknown",
    "The attempt was stopped while its effect was under way: it may have happened.",
    "Look at the other side before you start it again.",
)


_LOG = logging.getLogger("weft.engine")

_Task: TypeAlias = "asyncio.Task[Record]"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run needs from outside."""

    journal: Journal
    executor: Executor
    clock: Callable[[], float] = time.time  #: seconds since 1970, UTC


class Reactor:
    """Drives one run from its records to its end.

    Args:
        plan: What to follow.
        facts: The run's fixed facts.
        claim: The right to write to it.
        around: Journal, executor and clock.
        observe: Told of everything that happens, as it happens.
        watched: Whether somebody wants to see output while it is made.
    """

    def __init__(
        self, plan: Plan, facts: RunFacts, claim: Claim, around: Surroundings, observe: Observer, *, watched: bool
    ) -> None:
        self._plan = plan
        self._facts = facts
        self._claim = claim
        self._around = around
        self._observe = guarded(observe)
        self._watched = watched
        self._walk: Walk
        self._tasks: dict[_Task, tuple[Operation, Watch]] = {}
        self._done: deque[_Task] = deque()  #: ended, not yet looked at
        self._news = asyncio.Event()  #: something ended, or a cancel was asked for
        self._began: dict[str, float] = {}
        self._untold: list[tuple[Perform, Record]] = []
        self._cancels = 0  #: asked for
        self._cancelled = 0  #: on record

    def cancel(self) -> None:
        """Ask the run to stop; asked again, it stops at once and leaves `finally` undone."""
        self._cancels = min(self._cancels + 1, 2)
        self._news.set()

    async def run(self) -> RunResult:
        """Go on until the run has ended, and return what it came to.

        A fault of the engine or the journal ends the run as failed, with its reason; nothing is left running.
        """
        began = time.monotonic()
        started = datetime.fromtimestamp(self._facts.started_at, UTC)
        self._observe(RunStarted(self._facts.run_id, self._plan.workflow.name, started, self._rows()))
        try:
            result = await self._drive()
            await self._finish(result)
        except Exception as error:  # noqa: BLE001  no run may stay without an end
            result = await self._broken(error)
        finally:
            await self._stop_all()
        ms = round((time.monotonic() - began) * 1000)
        self._observe(RunEnded(self._facts.run_id, result.state, ms, result.outputs, result.problem))
        return result

    async def _drive(self) -> RunResult:
        _, records, _ = await self._around.journal.load(self._claim.run_id)
        self._walk = Walk(self._plan, self._facts, records)
        self._cancelled = max((record.n for record in records if record.kind == "cancel"), default=0)
        self._cancels = max(self._cancels, self._cancelled)
        while True:
            operations = self._walk.advance()
            self._report_attempts(operations)
            self._report_marks()
            if self._walk.result is not None:
                return self._walk.result
            if self._cancels > self._cancelled:
                await (
                    self._cancel_now()
                )  # before a start: a task that is cancelled before its first step has no outcome
            for operation in operations:
                self._start(operation)
            await self._one_more()

    async def _finish(self, result: RunResult) -> None:
        ended = {"outputs": result.outputs, "problem": None if result.problem is None else asdict(result.problem)}
        await self._around.journal.finish(self._claim, Ended(result.state, encode(ended)))

    async def _broken(self, error: Exception) -> RunResult:
        """End a run that cannot go on: what cannot be taken back ends first, then the reason is put on record."""
        _LOG.error("run_broken %s", self._facts.run_id, exc_info=error)
        problem = error.problem if isinstance(error, WeftError) else _internal(error)
        for task, (_, watch) in self._tasks.items():
            if not watch.committed:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        result = RunResult("failed", None, problem)
        try:
            ended = [task.result() for task in self._tasks if not task.cancelled() and task.exception() is None]
            await self._around.journal.record(self._claim, *ended)
            await self._finish(result)
        except Exception as refused:  # noqa: BLE001  the journal may be what is broken; the caller is told all the same
            _LOG.error("end_not_recorded %s", self._facts.run_id, exc_info=refused)
        return result

    def _rows(self) -> tuple[tuple[str, str, str], ...]:
        return tuple((step.path, step.uses, step.title) for step in self._plan.steps)

    # ---- operations
    def _start(self, operation: Operation) -> None:
        watch = Watch()
        if self._walk.ends(operation):
            work = self._given_up(operation)
        elif isinstance(operation, Pause):
            work = self._pause(operation)
        else:
            watch = self._watch(operation.call)
            work = self._perform(operation.call, watch)
        task = asyncio.create_task(work)
        self._tasks[task] = operation, watch
        task.add_done_callback(self._ended)

    def _ended(self, task: _Task) -> None:
        self._done.append(task)
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
            watch.committed = True

        watch = Watch(emit=emit if self._watched else None, note=note, barrier=barrier)
        return watch

    async def _perform(self, call: Call, watch: Watch) -> Record:
        action = call.step.action
        began = self._around.clock()
        try:
            if action is not None and action.manifest.effects == "send":
                await self._around.journal.record(self._claim, Record(call.path, call.number, "begun", "{}"))
            self._observe(AttemptStarted(call.path, call.number, call.variant.name))
            outcome = await self._around.executor.perform(call, watch)
        except asyncio.CancelledError:
            if self._cancels == 0:
                raise
            outcome = self._stopped(call, began, in_doubt=watch.committed)
        finally:
            watch.ended = True
        return Record(call.path, call.number, outcome.state, outcome.to_text())

    def _stopped(self, call: Call, began: float, *, in_doubt: bool) -> Outcome:
        failure = Failure(_STOPPED.at(call.step.where())) if in_doubt else None
        return Outcome("cancelled", call.variant.name, began, self._around.clock(), failure=failure)

    async def _given_up(self, operation: Operation) -> Record:
        """Return the end of what a cancel kept from beginning, or a crash left half done before it."""
        if isinstance(operation, Pause):
            return Record(operation.path, operation.n, "rang", encode(self._around.clock()))
        call = operation.call
        outcome = self._stopped(call, self._around.clock(), in_doubt=call.repeated)
        return Record(call.path, call.number, outcome.state, outcome.to_text())

    async def _pause(self, operation: Pause) -> Record:
        try:
            until = operation.until
            if until is None:
                until = self._around.clock() + operation.seconds
                timer = Record(operation.path, operation.n, "timer", encode(until))
                await self._around.journal.record(self._claim, timer)
            # The clock is looked at again every minute: it may have been set, the machine may have slept.
            while (left := until - self._around.clock()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(min(left, 60.0))
        except asyncio.CancelledError:
            if self._cancels == 0:
                raise
        return Record(operation.path, operation.n, "rang", encode(self._around.clock()))

    async def _one_more(self) -> None:
        """Wait until something ends or a cancel is asked for; put on record what ended, then tell the walk."""
        if not self._tasks:
            raise RuntimeError("the run waits for nothing")
        await self._news.wait()
        self._news.clear()
        if self._cancels > self._cancelled:
            await self._cancel_now()
        while self._done:
            task = self._done[0]
            record = task.result()
            await self._around.journal.record(self._claim, record)
            self._done.popleft()
            operation, _ = self._tasks.pop(task)
            self._walk.settle(record)
            if isinstance(operation, Perform):
                self._untold.append((operation, record))

    async def _cancel_now(self) -> None:
        while self._cancelled < self._cancels:
            await self._around.journal.record(self._claim, Record("", self._cancelled + 1, "cancel", "{}"))
            self._cancelled += 1
        hard = self._cancelled > 1
        self._walk.cancel(hard=hard)
        for task, (operation, watch) in self._tasks.items():
            if hard or (self._walk.ends(operation) and not watch.committed):
                task.cancel()

    async def _stop_all(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    # ---- telling
    def _report_attempts(self, next_operations: list[Operation]) -> None:
        waits = {(op.path, op.n): op.seconds for op in next_operations if isinstance(op, Pause)}
        for operation, record in self._untold:
            call = operation.call
            wait_s = waits.get((call.path, call.number), 0.0)
            self._observe(_attempt_ended(call, record, wait_s))
        self._untold.clear()

    def _report_marks(self) -> None:
        while self._walk.marks:
            self._report(self._walk.marks.popleft())

    def _report(self, mark: Mark) -> None:
        if mark.result is None:
            self._began[mark.path] = time.monotonic()
            self._observe(StepStarted(mark.path))
            return
        began = self._began.pop(mark.path, None)
        ms = 0 if began is None else round((time.monotonic() - began) * 1000)
        self._observe(_step_ended(mark.path, mark.result, ms))


def _step_ended(path: str, result: StepResult, ms: int) -> StepEnded:
    return StepEnded(path, result.state, ms, result.output, result.problem)


def _attempt_ended(call: Call, record: Record, wait_s: float) -> AttemptEnded:
    outcome = Outcome.from_text("failed", record.payload)
    failure = outcome.failure
    problem = failure.problem if failure else None
    cancelled = record.kind == "cancelled"
    if cancelled and problem is None:
        problem = Problem("cancelled", "The attempt was cancelled.")
    status, details = (failure.status, failure.details) if failure else (None, {})
    name = call.variant.name
    return AttemptEnded(call.path, call.number, name, outcome.ms, problem, wait_s, status, details, cancelled)


def _internal(error: Exception) -> Problem:
    return Problem(
        "internal",
        f"The run could not go on: {type(error).__name__}.",
        "This is a fault of Weft; the log has the details.",
    )
