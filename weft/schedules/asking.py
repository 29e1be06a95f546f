"""What people ask of schedules: which there are, what comes next, what to pause, what to make up for by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from heapq import merge
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from weft import wording
from weft.errors import InvalidInputs, JournalRefused, NotFound
from weft.journal.base import Journal, Occurrence, RunRow, Schedule
from weft.runtime import Runtime
from weft.schedules.deciding import backfill
from weft.schedules.report import BackfillReport, InstantReport, instant_report, moment
from weft.schedules.standing import Standing
from weft.schedules.starting import run_id_of, run_of
from weft.schedules.times import Instant, Times
from weft.workflow import Schedule as Says

LARGEST_BACKFILL: Final = 500
"""Instants that one command makes up for by hand; their runs wait for one another."""


def chosen(rows: Sequence[Schedule], name: str) -> list[Schedule]:
    """Return the schedules that a name means: an id, or all of a workflow that are in use, or that were.

    Raises:
        NotFound: There are none; the nearest name is told.
    """
    of_workflow = [row for row in rows if row.workflow == name]
    found = [row for row in rows if row.id == name] or [row for row in of_workflow if not row.retired] or of_workflow
    if not found:
        known = sorted({row.workflow for row in rows} | {row.id for row in rows})
        remedy = wording.meant(name, known) or "Arm those of this workspace: weft schedules sync"
        raise NotFound(f"There is no schedule {wording.shown(name)}.", code="unknown_schedule", remedy=remedy)
    return found


# ---- what comes next
def coming(row: Schedule, after: float | None) -> Iterator[InstantReport]:
    """Yield the instants of an armed schedule that come next, or those after an instant."""
    if row.retired:
        return
    standing = Standing.of(row)
    first = standing.next
    if after is None:
        found: Iterable[Instant] = standing.ahead()
    elif first is not None and row.watermark <= after < first.at:
        found = (each for each in standing.ahead() if each.at > after)
    else:
        found = standing.times.after(after)
    yield from _reports(row.id, standing.times, standing.spec.says, found)


def would_come(workflow: str, says: Sequence[Says], after: float) -> Iterator[InstantReport]:
    """Yield the instants that schedules would have, if they were armed at an instant."""
    parts = []
    for number, each in enumerate(says, 1):
        times = Times(each, float(int(after)))
        parts.append(_reports(f"{workflow}/{number}", times, each, times.after(after), armed=False))
    return merge(*parts, key=_at)


def first(rows: Sequence[Schedule], after: float | None, count: int) -> list[InstantReport]:
    """Return the next instants of several armed schedules together."""
    return list(islice(merge(*(coming(row, after) for row in rows), key=_at), count))


def _at(report: InstantReport) -> datetime:
    return report.utc


def _reports(
    id_: str, times: Times, says: Says, instants: Iterable[Instant], *, armed: bool = True
) -> Iterator[InstantReport]:
    for each in instants:
        yield instant_report(id_ if armed else None, each, times.due(id_, each), says.timezone)


# ---- by hand
def read_moment(text: str, zone: ZoneInfo, *, end: bool = False) -> float:
    """Return the instant that a person means, in the schedule's zone when the text has no offset.

    Args:
        text: ISO 8601, with or without a time.
        zone: The schedule's.
        end: A date alone means the end of that day, else its beginning.

    Raises:
        InvalidInputs: It is no instant.
    """
    try:
        found = datetime.fromisoformat(text)
        if end and len(text) <= len("2026-11-23"):
            found += timedelta(days=1, milliseconds=-1)
        return (found if found.tzinfo else found.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidInputs(
            f"{wording.shown(text)} is no instant.",
            code="not_an_instant",
            remedy="Write a date or an instant, such as 2026-11-23 or 2026-11-23T08:00+01:00.",
        ) from None


def past(row: Schedule, begin: float, end: float) -> list[Instant]:
    """Return the instants from one to another that are past, both included, the earliest first.

    Raises:
        InvalidInputs: There are too many for one command.
    """
    times = Standing.of(row).times
    found: list[Instant] = []
    for each in times.after(begin - 0.001):
        if each.at > min(end, row.watermark):
            break
        if len(found) == LARGEST_BACKFILL:
            raise InvalidInputs(
                f"There are more than {LARGEST_BACKFILL} starts of {row.id} in this time.",
                code="too_many_starts",
                remedy=f"Begin with those until {found[-1].key}, and go on when their runs have ended.",
            )
        found.append(each)
    return found


async def start_past(runtime: Runtime, row: Schedule, instants: Sequence[Instant]) -> list[BackfillReport]:
    """Start the runs of instants that are past, each once, and return what became of each.

    Raises:
        WeftError: A run cannot be made, or is not accepted; those before it are started.
    """
    planned = runtime.pinned_plan(await runtime.journal.document(row.document))
    runtime.refuse_unfit(planned)

    def make(standing: Standing, instant: Instant, now: float) -> RunRow:
        return run_of(planned, runtime.inputs, standing, instant, now, backfill=True)

    found = []
    for instant in instants:
        outcome = "started"
        try:
            await runtime.journal.schedule(row.id, partial(backfill, instant=instant, make=make), [instant.key])
        except JournalRefused as refused:
            if refused.problem.code not in ("known_run", "known_occurrence"):
                raise
            outcome = "known"
        found.append(_backfill_report(row, instant, outcome))
    runtime.dispatcher.look()
    return found


async def would_start(journal: Journal, row: Schedule, instants: Sequence[Instant]) -> list[BackfillReport]:
    """Return what `start_past` would do, as far as runs are kept."""
    standing = Standing.of(row)
    found = []
    for instant in instants:
        known = await _kept(journal, run_id_of(standing, instant))
        found.append(_backfill_report(row, instant, "known" if known else "planned"))
    return found


def _backfill_report(row: Schedule, instant: Instant, outcome: str) -> BackfillReport:
    run_id = run_id_of(Standing.of(row), instant)
    facts = {"schedule": row.id, "utc": moment(instant.at), "local": instant.key, "run_id": run_id}
    return BackfillReport.model_validate({**facts, "outcome": outcome})


async def backfilled(journal: Journal, row: Schedule, occurrence: Occurrence) -> str | None:
    """Return the run that was started by hand for an instant that was skipped or missed, None when there is none."""
    if occurrence.fate == "fired" or occurrence.count != 1:
        return None
    return await _kept(journal, run_id_of(Standing.of(row), Instant(occurrence.at, occurrence.key)))


async def _kept(journal: Journal, run_id: str) -> str | None:
    """Return the id of a run, None when the journal does not have it."""
    try:
        return (await journal.status(run_id)).row.id
    except NotFound:
        return None
