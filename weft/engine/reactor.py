"""The loop that drives a run: it performs what the interpreter asks for and puts every outcome on record first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from weft.engine.events import (
    AttemptEnded,
    AttemptStarted,
    Emitted,
    Observer,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
)
from weft.engine.interpreter import Mark, Operation, Pause, Perform, RunFacts, RunResult, StepResult, Walk
from weft.errors import JournalRefused, Problem
from weft.executor import Executor, Failure, Outcome, Watch, encode
from weft.journal.base import OUTCOMES, Claim, Ended, Journal, Record
from weft.plan import Plan

_STOPPED = Problem(
    "cancelled",
    "The attempt was stopped while its effect was under way.",
    "Look at the other side: it may have happened.",
)


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
        self._observe = observe
        self._watched = watched
        self._walk: Walk
        self._tasks: dict[asyncio.Task[Record], Operation] = {}
        self._watches: dict[asyncio.Task[Record], Watch] = {}
        self._began: dict[str, float] = {}
        self._untold: list[tuple[Perform, Record]] = []
        self._asked = asyncio.Event()
        self._cancels = 0

    def cancel(self) -> None:
        """Ask the run to stop; asked again, it stops at once and leaves `finally` undone."""
        self._cancels += 1
        self._asked.set()

    async def run(self) -> RunResult:
        """Go on until the run has ended, and return what it came to."""
        began = time.monotonic()
        _, records, _ = await self._around.journal.load(self._claim.run_id)
        self._walk = Walk(self._plan, self._facts, records)
        self._observe(
            RunStarted(
                self._facts.run_id,
                self._plan.workflow.name,
                datetime.fromtimestamp(self._facts.started_at, UTC),
                self._rows(),
            )
        )
        try:
            while True:
                operations = self._walk.advance()
                self._report_attempts(operations)
                self._report_marks()
                if self._walk.result is not None:
                    break
                for operation in operations:
                    self._start(operation)
                await self._one_more()
        finally:
            await self._stop_all()
        result = self._walk.result
        await self._around.journal.finish(self._claim, Ended(result.state, encode({"outputs": result.outputs})))
        ms = round((time.monotonic() - began) * 1000)
        self._observe(RunEnded(self._facts.run_id, result.state, ms, result.outputs, result.problem))
        return result

    def _rows(self) -> tuple[tuple[str, str, str], ...]:
        return tuple((f"/{step.name}", step.uses, step.title) for step in self._plan.steps)

    # ---- operations
    def _start(self, operation: Operation) -> None:
        if isinstance(operation, Pause):
            task = asyncio.create_task(self._pause(operation))
            self._tasks[task] = operation
            return
        watch = self._watch(operation)
        task = asyncio.create_task(self._perform(operation, watch))
        self._tasks[task] = operation
        self._watches[task] = watch

    def _watch(self, operation: Perform) -> Watch:
        call = operation.call

        noted = ""

        def note(text: str) -> None:
            nonlocal noted
            if text != noted:
                noted = text
                self._observe(AttemptStarted(call.path, call.number, call.variant.name, text))

        async def barrier() -> None:
            watch.committed = True

        watch = Watch(note=note, barrier=barrier)
        if self._watched:
            watch.emit = lambda text: self._observe(Emitted(call.path, call.number, text))
        return watch

    async def _perform(self, operation: Perform, watch: Watch) -> Record:
        call = operation.call
        action = call.step.action
        if action is not None and action.manifest.effects == "send":
            await self._around.journal.record(self._claim, Record(call.path, call.number, "begun", "{}"))
        self._observe(AttemptStarted(call.path, call.number, call.variant.name))
        began = self._around.clock()
        try:
            outcome = await self._around.executor.perform(call, watch)
        except asyncio.CancelledError:
            if self._cancels == 0:
                raise
            failure = Failure(_STOPPED.at(call.step.where())) if watch.committed else None
            outcome = Outcome("cancelled", call.variant.name, began, self._around.clock(), failure=failure)
        return Record(call.path, call.number, outcome.state, outcome.to_text())

    async def _pause(self, operation: Pause) -> Record:
        until = operation.until
        if until is None:
            until = self._around.clock() + operation.seconds
            timer = Record(operation.path, operation.n, "timer", encode(until))
            await self._around.journal.record(self._claim, timer)
        try:
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
            raise JournalRefused(f"Run {self._facts.run_id!r} waits for nothing.")
        asked = asyncio.create_task(self._asked.wait())
        try:
            done, _ = await asyncio.wait({*self._tasks, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
        if self._asked.is_set():
            await self._cancel_now()
        for task in [task for task in self._tasks if task in done]:
            operation = self._tasks.pop(task)
            self._watches.pop(task, None)
            record = task.result()
            await self._around.journal.record(self._claim, record)
            self._walk.settle(record)
            if isinstance(operation, Perform):
                self._untold.append((operation, record))

    async def _cancel_now(self) -> None:
        self._asked.clear()
        if self._cancels == 1:
            await self._around.journal.record(self._claim, Record("", 1, "cancel", "{}"))
        self._walk.cancel(hard=self._cancels > 1)
        for task in self._tasks:
            watch = self._watches.get(task)
            if watch is None or not watch.committed or self._cancels > 1:
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
            problem, ms = _ending(record)
            wait_s = waits.get((call.path, call.number), 0.0)
            self._observe(AttemptEnded(call.path, call.number, call.variant.name, ms, problem, wait_s))
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


def _ending(record: Record) -> tuple[Problem | None, int]:
    if record.kind not in OUTCOMES:
        return None, 0
    outcome = Outcome.from_text("failed", record.payload)
    if record.kind == "cancelled":
        return Problem("cancelled", "The attempt was cancelled."), outcome.ms
    return (outcome.failure.problem if outcome.failure else None), outcome.ms
