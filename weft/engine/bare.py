"""A run told from its records alone, where what it follows cannot be read: a pack is gone, or something has changed."""

from __future__ import annotations

import json
from collections.abc import Iterable

from weft.engine.driver import problem_of
from weft.engine.events import StepState
from weft.engine.report import (
    AttemptReport,
    ProblemReport,
    RunReport,
    StepReport,
    instant,
    is_inherited,
    outputs_of,
    step_of,
    times_of,
    turn_of,
)
from weft.journal.base import ENDS, OUTCOMES, Kept, Listed, Record
from weft.outcome import Outcome
from weft.types import Json


def bare_report_of(run: Kept) -> RunReport:
    """Return what is on record of a run, without titles, arguments and steps that were not reached."""
    paths: dict[str, list[Record]] = {}
    for record in run.records:
        if record.path:
            paths.setdefault(step_of(record.path), []).append(record)
    return _report(run, [_step(run, path, records) for path, records in paths.items()])


def bare_report_without_records(run: Listed) -> RunReport:
    """Return what a run's row says, for one whose records are too large to be read."""
    return _report(run, [])


def _report(run: Listed, steps: list[StepReport]) -> RunReport:
    started_at, ended_at, ms = times_of(run)
    return RunReport(
        run_id=run.row.id,
        workflow=run.row.workflow,
        state=run.status.state,
        started_at=started_at,
        ended_at=ended_at,
        ms=ms,
        inputs=json.loads(run.row.inputs),
        origin=run.row.origin,
        complete=False,
        steps=steps,
        outputs=outputs_of(run),
        problem=ProblemReport.of(problem_of(run.status)),
    )


def _step(run: Kept, path: str, records: list[Record]) -> StepReport:
    attempts = [_attempt(run, each) for each in records if each.kind in OUTCOMES]
    last = attempts[-1] if attempts else None
    begins = [each.started_at.timestamp() for each in attempts] + list(_instants(records))
    ends = [each.started_at.timestamp() + each.ms / 1000 for each in attempts] + list(_instants(records))
    return StepReport(
        path=path,
        uses="",
        title=path.strip("/"),
        state=_state(run, records, last),
        started_at=instant(min(begins)) if begins else None,
        ms=round((max(ends) - min(begins)) * 1000) if begins else 0,
        question=next((json.loads(each.payload).get("message") for each in records if each.kind == "waits"), None),
        attempts=attempts,
        output=None if last is None else last.output,
        problem=None if last is None else last.problem,
    )


def _state(run: Kept, records: list[Record], last: AttemptReport | None) -> StepState:
    kinds = [each.kind for each in records]
    if kinds[-1] in ("timer", "waits"):
        return "cancelled" if run.status.state in ENDS else "waiting"
    if kinds[-1] == "begun":
        return "cancelled" if run.status.state in ENDS else "running"
    if kinds[-1] in ("rang", "signal") and last is None:
        return "succeeded"
    if last is not None:
        return last.state
    return "succeeded" if run.status.state == "succeeded" else "pending"


def _attempt(run: Kept, record: Record) -> AttemptReport:
    outcome = Outcome.from_text(record.kind, record.payload)  # type: ignore[arg-type]  # one of OUTCOMES
    failure = outcome.failure
    return AttemptReport(
        number=record.n,
        turn=turn_of(record.path),
        variant=outcome.variant,
        state=outcome.state,
        kind=None if failure is None else failure.kind,
        started_at=instant(outcome.started_at),
        ms=outcome.ms,
        inherited=is_inherited(run, outcome.started_at),
        output=outcome.output,
        status=None if failure is None else failure.status,
        details={} if failure is None else dict(failure.details),
        problem=None if failure is None else ProblemReport.of(failure.problem),
    )


def _instants(records: Iterable[Record]) -> Iterable[float]:
    """Yield when waits began and ended."""
    for record in records:
        if record.kind in ("timer", "waits", "rang"):
            said: Json = json.loads(record.payload)
            at = said["at"] if isinstance(said, dict) else said
            if isinstance(at, int | float):
                yield float(at)
