"""A run as it is told to people and programs: the stable shape of `weft run --json` and `weft runs show --json`.

It is read from the records by the same walk that drives a run, so there is no second account of what happened.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from weft.engine.driver import problem_of
from weft.engine.events import StepState
from weft.engine.interpreter import Ask, Mark, Operation, Pause, Perform, StepResult, Tried, Walk
from weft.engine.reactor import asked, attempt_ended, facts_of
from weft.engine.steps import OF_TIMEOUT, without_tries
from weft.errors import Problem, Where
from weft.journal.base import ENDS, Kept, Listed, Record, State
from weft.plan import Plan
from weft.types import Json, JsonObject


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Place(Shape):
    """Where a problem lies; every part may be missing."""

    file: str | None = None
    line: int | None = None
    """From 1."""
    column: int | None = None
    """From 1, in characters."""
    step: str | None = None
    """Its name: `mail`, `each/mail`."""
    field: str | None = None
    """Inside the step: `with.messages[0]`."""

    @classmethod
    def of(cls, where: Where) -> Place:
        return cls(file=where.file, line=where.line, column=where.column, step=where.step, field=where.field)


class ProblemReport(Shape):
    """What went wrong."""

    code: str
    """A stable name, for programs."""
    message: str
    """For people."""
    remedy: str | None = None
    """What can be done."""
    where: Place

    @classmethod
    def of(cls, problem: Problem | None) -> ProblemReport | None:
        if problem is None:
            return None
        return cls(code=problem.code, message=problem.message, remedy=problem.remedy, where=Place.of(problem.where))


class AttemptReport(Shape):
    """One try of a step."""

    number: int
    """From 1, over the whole chain of retries and fallbacks."""
    turn: int | None = None
    """Of a step that is repeated for each item: the item's index."""
    variant: str
    """What was called: `openai/gpt-4o-mini`; `default` for actions without variants."""
    state: Literal["succeeded", "failed", "cancelled"]
    kind: str | None = None
    """The kind of the failure."""
    started_at: datetime
    ms: int
    wait_s: float = 0.0
    """Seconds until the next attempt."""
    repeated: bool = False
    """An attempt before it may have had its effect."""
    inherited: bool = False
    """The run that this one repeats has made it; what it used was counted there."""
    arguments: JsonObject = Field(default_factory=dict)
    """What the action was given."""
    output: Json = None
    """What the action returned; tokens and cost of a completion stand in its `usage` and `weft`."""
    status: int | None = None
    """The protocol's status of a failure, where there was one."""
    details: JsonObject = Field(default_factory=dict)
    """Further facts of a failure, as the action has them: what it cost, who was refused."""
    problem: ProblemReport | None = None


class QuestionReport(Shape):
    """A question that waits for its answer."""

    path: str
    """Under which it is answered: `/ok`, `/each[3]/ok`."""
    message: str
    who: list[str] = Field(default_factory=list)
    """Who may answer; empty: everybody."""
    asked_at: datetime
    deadline: datetime | None = None
    """Until when; null: there is time."""


class StepReport(Shape):
    """A step of the document, or one in a turn of a loop."""

    path: str
    """Ids from the document's root: `/answer`, `/each[3]/mail`."""
    uses: str
    """The action's id; `group`, `wait` or `approval` for steps without an action."""
    title: str
    state: StepState
    started_at: datetime | None = None
    """Null before it has begun, and for what is not on record."""
    ms: int = 0
    """From when it began to when it ended, or something last happened in it."""
    question: str | None = None
    """What an approval asks, or a step that does not know whether it has sent, once it has asked."""
    child: str | None = None
    """Of a child workflow: the run that was started last."""
    asks: list[QuestionReport] = Field(default_factory=list)
    """Of a step that asks: what waits for an answer now; several in a loop over it alone."""
    attempts: list[AttemptReport] = Field(default_factory=list)
    output: Json = None
    problem: ProblemReport | None = None


class RunReport(Shape):
    """A run and all that is known of it: `weft run --json`, `weft runs show --json`, a line of `weft runs export`."""

    run_id: str
    workflow: str
    state: State
    started_at: datetime
    ended_at: datetime | None = None
    """Null while it has not ended."""
    ms: int
    """Until its end, or until something last happened."""
    inputs: JsonObject
    origin: str | None = None
    """The run that it repeats, in whole or in part."""
    complete: bool = True
    """False when what it follows cannot be read here: then titles, arguments and steps not reached are missing."""
    steps: list[StepReport]
    """In document order; the turns of a loop and the members of a group follow in the order in which they began."""
    outputs: Json = None
    """What the document's `outputs` came to."""
    problem: ProblemReport | None = None


class RunSummary(Shape):
    """A run without its steps: `weft runs list --json`, and what `cancel`, `answer` and `--detach` print with `--json`."""

    run_id: str
    workflow: str
    state: State
    started_at: datetime
    ended_at: datetime | None = None
    """Null while it has not ended."""
    ms: int
    """Until its end, or until something last happened."""
    trigger: str | None = None
    """What started it, such as `schedule`; null for a person."""
    origin: str | None = None
    """The run that it repeats, in whole or in part."""
    wake_at: datetime | None = None
    """When a waiting run goes on by itself; null when it waits for an answer, or for other runs, alone."""
    queued: bool = False
    """Whether it waits, before its first step, for others to end: see `concurrency`."""
    schedule: str | None = None
    """The schedule that started it."""
    parent: str | None = None
    """The run of which a step waits for this one's end."""
    crashes: int = 0
    """Processes that died of it in a row, without getting any further."""
    problem: ProblemReport | None = None
    """What it failed for, or why it is parked."""


def summary_of(run: Listed) -> RunSummary:
    """Return a run as lists tell it."""
    status = run.status
    started_at, ended_at, ms = times_of(run)
    return RunSummary(
        run_id=run.row.id,
        workflow=run.row.workflow,
        state=status.state,
        started_at=started_at,
        ended_at=ended_at,
        ms=ms,
        trigger=_trigger(run),
        origin=run.row.origin,
        wake_at=instant(status.wake_at) if status.state == "waiting" and status.wake_at is not None else None,
        queued=status.queued,
        schedule=run.row.schedule,
        parent=None if run.row.parent is None else run.row.parent.run_id,
        crashes=status.crashes,
        problem=ProblemReport.of(problem_of(run.status)),
    )


def report_of(run: Kept, plan: Plan) -> RunReport:
    """Return the report of a run, whether it has ended or not, from what is on record of it.

    Args:
        run: The run as the journal has it.
        plan: What it follows.

    Raises:
        Diverged: The records answer something else than what the plan asks for.
    """
    walk = Walk(plan, facts_of(run), run.records)
    open_ = walk.advance()
    history = _History(plan, run)
    for mark in walk.marks:
        history.take_in(mark)
    for operation in open_:
        history.still_open(operation)
    return history.report()


class _History:
    """What a report needs, gathered from the walk over the records."""

    def __init__(self, plan: Plan, run: Kept) -> None:
        self._run = run
        self._plan = plan
        self._titles = {step.path: (step.uses, step.title) for step in plan.every_step()}
        parked = run.status.state == "parked"  # then it is told what is still to come at the end, too (rule B9)
        listed = (*plan.steps, *plan.final) if parked else plan.steps
        self._steps: dict[str, StepResult | None] = {step.path: None for step in listed}
        self._states: dict[str, StepState] = {}
        self._attempts: dict[str, list[AttemptReport]] = {}
        self._spans: dict[str, tuple[float, float]] = {}
        self._questions: dict[str, str] = {}
        self._children: dict[str, str] = {}
        self._asks: dict[str, list[QuestionReport]] = {}
        for record in run.records:
            self._span_of_wait(record)

    def take_in(self, mark: Mark | Tried) -> None:
        if isinstance(mark, Tried):
            path, began, ended = mark.call.path, mark.outcome.started_at, mark.outcome.ended_at
            inherited = is_inherited(self._run, began)
            self._attempts.setdefault(step_of(path), []).append(_attempt(mark, inherited=inherited))
            self._spread(path, began, ended)
        else:
            self._steps[mark.path] = mark.result
            self._states[mark.path] = "running" if mark.result is None else mark.result.state

    def still_open(self, operation: Operation) -> None:
        if isinstance(operation, Pause) and operation.n == OF_TIMEOUT:
            return
        if not isinstance(operation, Perform):
            self._states[step_of(operation.path)] = "waiting"
        if isinstance(operation, Ask) and operation.asked_at is not None:
            self._asks.setdefault(step_of(operation.path), []).append(_question(operation))

    def report(self) -> RunReport:
        row, status = self._run.row, self._run.status
        started_at, ended_at, ms = times_of(self._run)
        return RunReport(
            run_id=row.id,
            workflow=row.workflow,
            state=status.state,
            started_at=started_at,
            ended_at=ended_at,
            ms=ms,
            inputs=json.loads(row.inputs),
            origin=row.origin,
            steps=[self._step(path) for path in self._steps],
            outputs=outputs_of(self._run),
            problem=ProblemReport.of(problem_of(self._run.status)),
        )

    def _step(self, path: str) -> StepReport:
        uses, title = self._titles.get(_plain(path), ("", ""))
        result = self._steps[path]
        began = self._spans.get(path)
        begin, end = began or (0.0, 0.0)
        return StepReport(
            path=path,
            uses=uses,
            title=title,
            state=self._states.get(path, "pending"),
            started_at=None if began is None else instant(begin),
            ms=round((end - begin) * 1000),
            question=self._questions.get(path),
            child=self._children.get(path),
            asks=self._asks.get(path, []),
            attempts=self._attempts.get(path, []),
            output=None if result is None else result.output,
            problem=None if result is None else ProblemReport.of(result.problem),
        )

    def _span_of_wait(self, record: Record) -> None:
        if record.kind in ("timer", "waits"):
            facts = json.loads(record.payload)
            self._spread(record.path, facts["at"], facts["at"])
            if "child" in facts:
                self._children[step_of(record.path)] = facts["child"]
            elif record.kind == "waits":
                self._questions[step_of(record.path)] = facts["message"]
        elif record.kind == "rang":
            end = json.loads(record.payload)
            self._spread(record.path, end, end)
        elif record.kind == "signal" and isinstance(end := json.loads(record.payload).get("at"), int | float):
            self._spread(record.path, end, end)

    def _spread(self, path: str, begin: float, end: float) -> None:
        """Widen the time of a step and of all that it is part of; of this run, unless nothing in it is of this run."""
        parts = path.split("/")
        for i in range(2, len(parts) + 1):
            for outer in {"/".join(parts[:i]), step_of("/".join(parts[:i]))}:
                first, last = self._spans.get(outer, (begin, end))
                if is_inherited(self._run, first) and not is_inherited(self._run, begin):
                    first, last = begin, end
                elif not is_inherited(self._run, first) and is_inherited(self._run, begin):
                    continue
                self._spans[outer] = (min(first, begin), max(last, end))


def is_inherited(run: Listed, began: float) -> bool:
    """Whether what began at an instant was done by the run that this one repeats, and not by this one."""
    return run.row.origin is not None and began < run.row.started_at


def instant(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def times_of(run: Listed) -> tuple[datetime, datetime | None, int]:
    """Return when a run started and ended, and the milliseconds until its end, or until something last happened."""
    row, status = run.row, run.status
    ended = instant(status.changed_at) if status.state in ENDS else None
    return instant(row.started_at), ended, max(0, round((status.changed_at - row.started_at) * 1000))


def outputs_of(run: Listed) -> Json:
    return json.loads(run.status.result).get("outputs") if run.status.result else None


def _trigger(run: Listed) -> str | None:
    trigger = json.loads(run.row.trigger)
    if trigger is None:
        return None
    kind = trigger.get("type") if isinstance(trigger, dict) else None
    return kind if isinstance(kind, str) else "trigger"


def _plain(path: str) -> str:
    """Return a path without the turns of its loops and the tries of its groups: `/each[3]/@2/mail` → `/each/mail`."""
    return "/".join(part.split("[")[0] for part in without_tries(path).split("/"))


def step_of(attempt_path: str) -> str:
    """Return the path of the step whose attempt it is: `/each[3]/mail` itself, `/each` for its turn `/each[3]`."""
    return attempt_path.rsplit("[", 1)[0] if attempt_path.endswith("]") else attempt_path


def turn_of(attempt_path: str) -> int | None:
    """Return the turn of a loop over a single step that an attempt is of: 3 for `/each[3]`, none for `/each[3]/mail`."""
    return int(attempt_path[:-1].rpartition("[")[2]) if attempt_path.endswith("]") else None


def _question(operation: Ask) -> QuestionReport:
    told = asked(operation)
    return QuestionReport(
        path=told.path, message=told.message, who=list(told.who), asked_at=told.at, deadline=told.deadline
    )


def _attempt(tried: Tried, *, inherited: bool) -> AttemptReport:
    event = attempt_ended(tried)
    problem = event.problem
    state: Literal["succeeded", "failed", "cancelled"] = (
        "cancelled" if event.cancelled else "succeeded" if problem is None else "failed"
    )
    return AttemptReport(
        number=event.attempt,
        turn=turn_of(tried.call.path),
        variant=event.variant,
        state=state,
        kind=None if problem is None else problem.code,
        started_at=datetime.fromtimestamp(tried.outcome.started_at, UTC),
        ms=event.ms,
        wait_s=event.wait_s,
        status=event.status,
        arguments=dict(tried.call.arguments),
        repeated=tried.outcome.repeated,
        inherited=inherited,
        output=tried.outcome.output,
        details=dict(event.details),
        problem=ProblemReport.of(problem),
    )
