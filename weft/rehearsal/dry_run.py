"""A run that sends nothing: what each step would be given, and a stand-in for what it would return.

The shapes here are those of `weft run --dry-run --json`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field

from weft.engine.events import StepState
from weft.engine.report import ProblemReport, Shape, StepReport
from weft.errors import InvalidInputs, Problem, Where
from weft.journal.base import State
from weft.plan import Plan, PlannedStep, Selection
from weft.plan.selection import select
from weft.rehearsal.performing import How, Made, name_of, turns_of
from weft.rehearsal.recording import Recording, Replay, require_of
from weft.rehearsal.resting import resting_on, speaks_of
from weft.rehearsal.stage import Rehearsal, Stage
from weft.rehearsal.wanted import Wanted
from weft.runtime import Runtime
from weft.types import Json, JsonObject
from weft.workflow import instant

Effect: TypeAlias = Literal["none", "read", "send"]


class RehearsedCall(Shape):
    """One call that the run would make, or has made."""

    turns: list[int] = Field(default_factory=list)
    """In loops: the indexes of the items, that of the outermost loop first."""
    attempt: int
    """From 1."""
    variant: str
    """What would be called: `openai/gpt-4o-mini`; `default` for actions without variants."""
    how: How
    """Whether the action was really called, or its output was made up, or recorded."""
    arguments: JsonObject
    """What the action is given, rendered."""
    output: Json = None
    """What it returned, or its stand-in."""
    problem: ProblemReport | None = None
    """What it failed for; with a stand-in: what it said of other stand-ins."""


class RehearsedStep(Shape):
    """A step of the document, or of a child workflow that it starts."""

    path: str
    """Ids from the document's root, without the turns of loops: `/each/mail`, `/child/mail` for a step of a child workflow."""
    uses: str
    """The action's id; `group`, `wait`, `approval` or `workflow:<name>` for other steps."""
    title: str
    effect: Effect | None = None
    """What the action does outside: nothing, reading, or something that cannot be taken back; null for other steps."""
    connection: str | None = None
    """The connection that it would open."""
    state: StepState
    passed: str | None = None
    """Of waits and questions: what was not waited for."""
    calls: list[RehearsedCall] = Field(default_factory=list)
    output: Json = None
    """What later steps see; a list for a loop, null for a step in a loop."""
    problem: ProblemReport | None = None
    doubt: ProblemReport | None = None
    """Why it was not rehearsed: its expressions cannot be evaluated over stand-ins. Its output is one, too."""


class DryRun(Shape):
    """What a run would do, or does with recorded answers: `weft run --json` with `--dry-run` or `--replay`."""

    workflow: str
    state: State
    """How the run would end, if all stand-ins were real."""
    inputs: JsonObject
    steps: list[RehearsedStep]
    """In document order; those of a child workflow follow the step that starts it."""
    outputs: Json = None
    warnings: list[ProblemReport] = Field(default_factory=list)
    """What would keep the run from beginning, such as a connection that is not there, and what is doubtful."""
    problem: ProblemReport | None = None
    unfit: list[ProblemReport] = Field(default_factory=list)
    """Of a replay: what was asked and is not recorded, and what is recorded and was not asked."""


async def dry_run(runtime: Runtime, plan: Plan, inputs: JsonObject, *, trigger: Json = None) -> DryRun:
    """Rehearse a plan: actions without effects are called, all others have stand-ins; no connection is opened.

    Waits and retries pass at once, and every question is approved. A step whose expressions cannot be evaluated over
    stand-ins has a stand-in itself, and is rehearsed no further: what it says may be true of stand-ins alone.
    """
    doubts: dict[str, ProblemReport] = {}
    made_up: set[str] = set()
    rehearsed = plan
    while True:
        stage = Stage(runtime, lambda path, call: None, _approved, at=time.time(), lenient=made_up)
        rehearsal = await stage.run(rehearsed, inputs, trigger)
        doubtful = _doubtful(rehearsal, rehearsed, made_up)
        if doubtful is None:
            return _with_untold(_told(rehearsal, plan, rehearsed.pins, doubts), plan)
        step, problem = doubtful
        try:
            rehearsed = _with_pin(plan, rehearsed, step, stage.performer.stand_in(step, plan))
        except InvalidInputs:  # nothing would be left to rehearse
            return _with_untold(_told(rehearsal, plan, rehearsed.pins, doubts), plan)
        doubts[step.path] = problem
        made_up.add(step.id)


def _with_untold(told: DryRun, plan: Plan) -> DryRun:
    """Return a dry run with a warning for each place where a stand-in has what only an expression tells of."""
    warned = {problem.where for problem in plan.warnings}
    found = [problem for problem in Wanted(plan).untold() if problem.where not in warned]
    return told.model_copy(update={"warnings": [*told.warnings, *map(ProblemReport.of, dict.fromkeys(found))]})


def _doubtful(rehearsal: Rehearsal, plan: Plan, made_up: Collection[str]) -> tuple[PlannedStep, ProblemReport] | None:
    """Return the step that rests on stand-ins and failed before it was called, and what it said."""
    if rehearsal.report.state != "failed":
        return None
    resting = resting_on(plan, made_up)
    called = {_plain(made.call.path) for at, made in rehearsal.made if not at}
    failed = {_plain(report.path): report.problem for report in rehearsal.report.steps if report.state == "failed"}
    for step in plan.every_step():
        problem = failed.get(step.path)
        if step.action is not None and problem is not None and step.path not in called and _is_doubtful(step, resting):
            return step, problem
    return None


def _is_doubtful(step: PlannedStep, resting: Collection[str]) -> bool:
    """Tell whether a step speaks of what is made up; that it goes outside itself says nothing of its own expressions."""
    return step.id in resting and speaks_of(step, resting)


def _with_pin(plan: Plan, rehearsed: Plan, step: PlannedStep, output: Json) -> Plan:
    whole = plan.selection or Selection()
    value = output if step.for_each is None else [output]
    return select(plan, replace(whole, pins={**whole.pins, **rehearsed.pins, step.id: value}))


async def replay(runtime: Runtime, plan: Plan, recording: Recording, file: Path, inputs: JsonObject) -> DryRun:
    """Run a plan in memory with the answers of a recording; nothing is opened.

    Args:
        runtime: Actions and secrets.
        plan: What to follow.
        recording: The answers.
        file: Where they come from, for messages.
        inputs: As `Runtime.inputs` returned them.

    Raises:
        InvalidInputs: The answers are those of another workflow.
    """
    require_of(recording, file, plan.workflow.name)
    answers = Replay(recording, file, runtime.redactor)
    begin = instant(recording.started_at)
    at = time.time() if begin is None else begin.timestamp()
    stage = Stage(runtime, answers.answer, lambda path, question: answers.approve(path), at=at, run_id=recording.run)
    told = _told(await stage.run(plan, inputs, recording.trigger), plan, plan.pins, {})
    unfit = [*answers.problems]
    if plan.selection is None:
        unfit += [
            Problem("unused_answer", f"The recorded answer to {each} was not asked for.", where=Where(str(file)))
            for each in answers.unused()
        ]
    return told.model_copy(update={"unfit": [ProblemReport.of(each) for each in unfit]})


def _approved(path: str, question: Mapping[str, Any]) -> JsonObject:
    who = question.get("who") or [None]
    return {"answer": "approve", "by": who[0], "comment": "This is a dry run."}


def _told(rehearsal: Rehearsal, plan: Plan, pins: Mapping[str, Json], doubts: Mapping[str, ProblemReport]) -> DryRun:
    report = rehearsal.report
    steps = (_doubted(step, pins, doubts) for step in _steps(rehearsal, plan))
    return DryRun(
        workflow=report.workflow,
        state=report.state,
        inputs=report.inputs,
        steps=list(steps),
        outputs=report.outputs,
        warnings=[told for problem in plan.warnings if (told := ProblemReport.of(problem)) is not None],
        problem=report.problem,
    )


def _doubted(step: RehearsedStep, pins: Mapping[str, Json], doubts: Mapping[str, ProblemReport]) -> RehearsedStep:
    """Return a step that could not be rehearsed as the others saw it: with a stand-in."""
    if step.path not in doubts:
        return step
    output = pins[step.path.rsplit("/", 1)[-1]]
    return step.model_copy(update={"state": "succeeded", "output": output, "doubt": doubts[step.path]})


def _steps(rehearsal: Rehearsal, plan: Plan) -> Iterator[RehearsedStep]:
    """Yield the steps of a plan in document order, those of a child workflow behind the step that starts it."""
    reports: dict[str, list[StepReport]] = {}
    for scene in rehearsal.scenes:
        for report in scene.report.steps:
            reports.setdefault(_plain(scene.at + report.path), []).append(report)
    calls: dict[str, list[RehearsedCall]] = {}
    for at, made in rehearsal.made:
        calls.setdefault(_plain(at + made.call.path), []).append(_call(at, made))
    for path, step in _every(plan, ""):
        ordered = sorted(calls.get(path, []), key=lambda call: (call.turns, call.attempt))
        yield _step(step, path, reports.get(path, []), ordered)


def _every(plan: Plan, before: str) -> Iterator[tuple[str, PlannedStep]]:
    for step in plan.every_step():
        yield before + step.path, step
        if step.child is not None:
            yield from _every(step.child, before + step.path)


def _step(step: PlannedStep, path: str, reports: Sequence[StepReport], calls: Sequence[RehearsedCall]) -> RehearsedStep:
    last = reports[-1] if reports else None
    problem = next((each.problem for each in reports if each.problem is not None), None)
    return RehearsedStep(
        path=path,
        uses=step.uses or step.kind,
        title=step.title,
        effect=None if step.action is None else step.action.manifest.effects,
        connection=step.connection,
        state=_state(reports),
        passed=_passed(step, last),
        calls=list(calls),
        output=last.output if last is not None and len(reports) == 1 else None,
        problem=problem,
    )


def _state(reports: Sequence[StepReport]) -> StepState:
    """Return the state of a step that may have had several turns: that of the first that did not succeed."""
    states: list[StepState] = [each.state for each in reports]
    return next(
        (state for state in states if state not in ("succeeded", "skipped")), states[0] if states else "pending"
    )


def _passed(step: PlannedStep, last: StepReport | None) -> str | None:
    if last is None or last.state in ("pending", "skipped"):
        return None
    match step.kind:
        case "wait":
            return "The wait passed at once."
        case "approval":
            return f"Approved at once: {last.question}" if last.question else "Approved at once."
        case _:
            return None


def _call(at: str, made: Made) -> RehearsedCall:
    failure = made.outcome.failure
    problem = made.doubt or (None if failure is None else failure.problem)
    return RehearsedCall(
        turns=list(turns_of(at + made.call.path)),
        attempt=made.call.number,
        variant=made.call.variant.name,
        how=made.how,
        arguments=dict(made.call.arguments),
        output=made.outcome.output,
        problem=ProblemReport.of(problem),
    )


def _plain(path: str) -> str:
    return f"/{name_of(path)}"
