"""Follows a run that another process drives: what is new in its report is told as the events that a display draws from."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from weft.cli import closing
from weft.cli.exits import ExitCode
from weft.cli.lines import PlainLines
from weft.cli.live import LiveDisplay
from weft.cli.run_tree import in_tree
from weft.cli.terminal import is_live
from weft.cli.view import RunView
from weft.engine.events import Asked, AttemptEnded, Event, RunEnded, RunStarted, StepEnded, StepStarted, StepState
from weft.engine.report import AttemptReport, ProblemReport, QuestionReport, RunReport, StepReport
from weft.errors import Problem, Where
from weft.journal.base import ENDS, Journal, Listed
from weft.plan import Plan
from weft.reading import Reading

LOOK_S = 1.0
"""The longest time between two looks; a journal says sooner when something was written."""

DONE = ("succeeded", "failed", "skipped", "cancelled")


async def watch(journal: Journal, found: Listed, reading: Reading, *, as_json: bool) -> RunReport:
    """Show a run until it has ended or is parked, and return its report.

    Args:
        journal: Where it is.
        found: The run; its process is left alone.
        reading: Reads its report.
        as_json: Standard output is for the report.
    """
    stream = sys.stderr if as_json else sys.stdout
    plan = await reading.plan(found)
    title, names = found.row.workflow, {}
    if isinstance(plan, Plan):
        title = plan.workflow.title or title
        names = {step.name: (step.uses, step.title) for step in plan.every_step()}
    last: RunReport | None = None
    told = ""
    with (LiveDisplay if is_live(stream) else PlainLines)(stream, title, RunView(names)) as display:
        while True:
            report, _ = await reading.report(found)
            for event in events_between(last, report):
                display(event)
            last = report
            if found.status.state in (*ENDS, "parked"):
                display.settle(lambda view, report=report: settle(view, report))  # type: ignore[misc]
                display.finish([closing.summary(display.view), *closing.outputs(display.view)])
                return report
            while (now := await journal.status(found.row.id)) == found:
                note = await _note(journal, found, report)
                if note != told and (note or isinstance(display, LiveDisplay)):
                    display.remark(note)
                told = note
                await asyncio.sleep(LOOK_S)
            found = now


async def _note(journal: Journal, found: Listed, report: RunReport) -> str:
    """Say why a run does not go on by itself."""
    state = found.status.state
    if state == "ready":
        return f"waits for a worker: weft worker, or weft runs resume {found.row.id}"
    if state == "waiting" and found.status.wake_at is None and not any(step.asks for step in report.steps):
        what = "until others of its kind have ended" if found.status.queued else "for an answer, or for another run"
        return f"waits {what}: weft runs show {found.row.id}"
    if state == "running" and any(each.row.id == found.row.id for each in await journal.abandoned()):
        return f"its process is gone: weft worker, or weft runs resume {found.row.id}"
    return ""


def events_between(before: RunReport | None, after: RunReport) -> Iterator[Event]:
    """Yield what has happened between two reports of a run, the first of which may not be there."""
    known = {} if before is None else {step.path: step for step in before.steps}
    if before is None:
        outer = [step for step in after.steps if "/" not in step.path.strip("/")]
        rows = tuple((step.path, step.uses, step.title) for step in outer)
        yield RunStarted(after.run_id, after.workflow, after.started_at, rows)
    ends: list[tuple[int, list[Event]]] = []  #: of steps whose inner ones are told first, with their depth
    for step, depth in in_tree(after.steps):
        while ends and ends[-1][0] >= depth:
            yield from ends.pop()[1]
        one = known.get(step.path)
        state = "pending" if before is None or one is None else _state(before, one)
        began, ended = _of_step(one, state, step, _state(after, step))
        yield from began
        ends.append((depth, ended))
    for _, events in reversed(ends):
        yield from events
    if after.state in (*ENDS, "parked"):
        yield RunEnded(after.run_id, after.state, after.ms, after.outputs, problem_of_report(after.problem))


def _state(run: RunReport, step: StepReport) -> StepState:
    """Return the state of a step; of a run that nobody has, what would come next has not begun."""
    if run.state == "ready" and step.state == "running" and step.started_at is None:
        return "pending"
    return step.state


def _of_step(
    before: StepReport | None, state: StepState, after: StepReport, now: StepState
) -> tuple[list[Event], list[Event]]:
    """Return what is told of a step before and after the steps within it."""
    began: list[Event] = []
    if state == "pending" and now not in ("pending", "skipped"):
        began.append(StepStarted(after.path))
    ended: list[Event] = [
        _ended(after.path, attempt) for attempt in after.attempts[0 if before is None else len(before.attempts) :]
    ]
    ended += [_asked(each) for each in after.asks if before is None or each not in before.asks]
    if state not in DONE and after.state in DONE:
        ended.append(StepEnded(after.path, after.state, after.ms, after.output, problem_of_report(after.problem)))
    return began, ended


def _asked(question: QuestionReport) -> Asked:
    return Asked(question.path, question.message, tuple(question.who), question.asked_at, question.deadline)


def settle(view: RunView, report: RunReport) -> None:
    """Bring a view to what is on record: others may have had the run, and told nothing here."""
    for step in report.steps:
        row = view.step(step.path)
        if row.state != step.state:
            row.state, row.output, row.problem, row.question = (
                step.state,
                step.output,
                problem_of_report(step.problem),
                None,
            )
            row.ms = step.ms if row.ms is None else row.ms
    rows = {row.path: row for row in view.steps}
    for step in report.steps:
        for attempt in step.attempts:
            if (shown := rows.get(_path(step.path, attempt))) is not None:
                shown.inherited = attempt.inherited


def _path(path: str, attempt: AttemptReport) -> str:
    return path if attempt.turn is None else f"{path}[{attempt.turn}]"


def _ended(path: str, attempt: AttemptReport) -> AttemptEnded:
    spent = (datetime.now(UTC) - attempt.started_at).total_seconds() - attempt.ms / 1000
    return AttemptEnded(
        _path(path, attempt),
        attempt.number,
        attempt.variant,
        attempt.ms,
        problem_of_report(attempt.problem),
        max(0.0, attempt.wait_s - spent) if attempt.wait_s else 0.0,
        attempt.status,
        attempt.details,
        attempt.state == "cancelled",
    )


def problem_of_report(told: ProblemReport | None) -> Problem | None:
    return None if told is None else Problem(told.code, told.message, told.remedy, Where(**told.where.model_dump()))


def code_of(state: str) -> ExitCode:
    """Return the exit code of `weft run` for a run that came to this."""
    match state:
        case "succeeded":
            return ExitCode.OK
        case "cancelled":
            return ExitCode.CANCELLED
        case _:
            return ExitCode.RUN_FAILED
