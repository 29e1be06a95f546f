"""Schedules as programs read them: `weft schedules … --json`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from weft import workflow
from weft.engine.report import Place, ProblemReport, Shape
from weft.journal.base import Fate, Occurrence, Schedule
from weft.schedules.arming import Faulty
from weft.schedules.reasons import told
from weft.schedules.standing import Standing
from weft.schedules.times import Instant
from weft.types import JsonObject


class InstantReport(Shape):
    """An instant to come: an element of `weft schedules next --json`."""

    schedule: str | None
    """Null when the workflow is not armed."""
    utc: datetime
    """The instant."""
    local: str
    """The same in the schedule's zone, with its offset; the key of its row."""
    timezone: str
    due: datetime
    """When it starts: the instant, put off by its jitter."""


class OccurrenceReport(Shape):
    """What became of one instant."""

    schedule: str
    utc: datetime
    """The instant."""
    local: str
    """The same in the schedule's zone, with its offset; its key."""
    fate: Fate
    decided_at: datetime
    code: str = ""
    """Why, for programs; empty when there is nothing to say."""
    message: str = ""
    """Why, for people."""
    facts: JsonObject = Field(default_factory=dict)
    """What else is known of the reason, such as `blockers`: the runs that had not ended."""
    run_id: str | None = None
    """The run that was started."""
    backfilled: str | None = None
    """The run that was started by hand later, for an instant that was skipped or missed."""
    count: int = 1
    """How many instants this row stands for, this one the first; 0 when nobody knows."""


class ScheduleReport(Shape):
    """A schedule and where it stands: an element of `weft schedules list --json`."""

    id: str
    workflow: str
    state: Literal["armed", "paused", "ended", "retired"]
    """`ended`: it has no instant to come; `retired`: its workflow no longer has it, or is not enabled."""
    cron: str | None
    every: str | None
    timezone: str
    start: str | None
    end: str | None
    jitter: str | None
    catch_up: Literal["none", "last", "all"]
    grace: str | None
    overlap: Literal["skip", "queue", "cancel", "allow"]
    inputs: JsonObject
    source: str
    """The workspace that armed it."""
    document: str
    """SHA-256 of what its runs follow."""
    watermark: datetime
    """Every instant until then has its fate."""
    next: InstantReport | None
    skips: int
    """Starts skipped in a row."""
    paused_at: datetime | None
    last: OccurrenceReport | None = None
    """What became of the last instant."""


class ScheduleHistory(Shape):
    """A schedule with its last instants, the youngest first: an element of `weft schedules show --json`."""

    schedule: ScheduleReport
    occurrences: list[OccurrenceReport]


class ChangeReport(Shape):
    """What became of a schedule in `weft schedules sync --json`."""

    change: Literal["new", "edited", "unchanged", "retired", "foreign", "elsewhere"]
    """`foreign`: another workspace has armed it otherwise, it was left alone; `elsewhere`: only another workspace has it."""
    schedule: ScheduleReport


class FaultyReport(Shape):
    """A workflow that cannot be armed as it is written."""

    workflow: str
    problem: ProblemReport
    kept: list[str]
    """Its schedules that go on as they were armed last."""


class SyncReport(Shape):
    """What `weft schedules sync --json` prints."""

    schedules: list[ChangeReport]
    faulty: list[FaultyReport]


class BackfillReport(Shape):
    """One instant in what `weft schedules backfill --json` prints."""

    schedule: str
    utc: datetime
    local: str
    run_id: str
    outcome: Literal["started", "known", "planned"]
    """`known`: its run had been started before; `planned`: `--dry-run`."""


def moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def instant_report(schedule: str | None, instant: Instant, due: float, timezone: str) -> InstantReport:
    return InstantReport(
        schedule=schedule, utc=moment(instant.at), local=instant.key, timezone=timezone, due=moment(due)
    )


def occurrence_report(occurrence: Occurrence, backfilled: str | None = None) -> OccurrenceReport:
    reason = told(occurrence)
    facts = {key: value for key, value in reason.items() if key not in ("code", "message")}
    return OccurrenceReport(
        schedule=occurrence.schedule,
        utc=moment(occurrence.at),
        local=occurrence.key,
        fate=occurrence.fate,
        decided_at=moment(occurrence.decided_at),
        code=str(reason["code"]),
        message=str(reason["message"]),
        facts=facts,
        run_id=occurrence.run_id,
        backfilled=backfilled,
        count=occurrence.count,
    )


def schedule_report(row: Schedule, last: Occurrence | None = None) -> ScheduleReport:
    standing = Standing.of(row)
    says, upcoming = standing.spec.says, None if row.retired else standing.next
    return ScheduleReport(
        id=row.id,
        workflow=row.workflow,
        state="retired" if row.retired else "paused" if row.paused else "armed" if upcoming else "ended",
        cron=says.cron,
        every=says.every,
        timezone=says.timezone,
        start=says.start,
        end=says.end,
        jitter=says.jitter,
        catch_up=says.catch_up,
        grace=says.grace,
        overlap=says.overlap,
        inputs=says.inputs,
        source=row.source,
        document=row.document,
        watermark=moment(row.watermark),
        next=None
        if upcoming is None
        else instant_report(row.id, upcoming, standing.times.due(row.id, upcoming), says.timezone),
        skips=standing.spec.skips,
        paused_at=None if standing.spec.paused_at is None else moment(standing.spec.paused_at),
        last=None if last is None else occurrence_report(last),
    )


def faulty_report(faulty: Faulty) -> FaultyReport:
    problem = faulty.problem
    told_ = ProblemReport(
        code=problem.code, message=problem.message, remedy=problem.remedy, where=Place.of(problem.where)
    )
    return FaultyReport(workflow=faulty.workflow, problem=told_, kept=[row.id for row in faulty.kept])


def times_of(says: workflow.Schedule | ScheduleReport) -> str:
    """Tell when a schedule starts runs, in a few words."""
    return says.cron or f"every {says.every}"
