"""Schedules: what starts by the clock, when, and what became of every start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import Query
from pydantic import Field, StringConstraints

from weft.access import Identity
from weft.errors import InvalidInputs
from weft.journal.base import Fate, Journal, Occurrence, OccurrenceQuery, Schedule
from weft.schedules import asking, deciding
from weft.schedules.arming import decided, look, sync
from weft.schedules.report import (
    BackfillReport,
    ChangeReport,
    InstantReport,
    OccurrenceReport,
    ScheduleHistory,
    ScheduleReport,
    SyncReport,
    faulty_report,
    occurrence_report,
    schedule_report,
)
from weft.schedules.standing import Standing
from weft.server.deps import Cursor, HouseDep, Limit, Page, Who, api, cursor, needs, read_cursor
from weft.server.house import House
from weft.server.routes.shapes import Asked
from weft.types import JsonObject

router = api("schedules")

Which = Annotated[
    str,
    Query(min_length=1, max_length=200, description="A workflow's name, or the id of a schedule of it: `digest/2`."),
]
Moment = Annotated[str, StringConstraints(min_length=4, max_length=60)]


class Named(Asked):
    """The schedules that are meant."""

    schedule: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """A workflow's name, for all of its schedules, or the id of one: `digest/2`."""


class Backfill(Named):
    """Instants that are past."""

    begin: Moment = Field(alias="from")
    """The first instant, or day; in the schedule's zone when it has no offset."""
    end: Moment = Field(alias="to")
    """The last one, inclusive."""
    dry_run: bool = False
    """Only say what would be started."""


class Sync(Asked):
    """How to bring the schedules to what the workspace says."""

    take: bool = False
    """Also take over what another workspace has armed under the same names."""


# ---- to look at
@router.get("/schedules", dependencies=[needs("view")])
async def list_schedules(
    house: HouseDep,
    every: Annotated[bool, Query(alias="all", description="Also those that are retired.")] = False,
    cursor_: Annotated[Cursor, Query(alias="cursor")] = None,
    limit: Annotated[Limit, Query()] = 100,
) -> Page[ScheduleReport]:
    """List schedules: what each is, when it starts next, what became of its last start."""
    journal = await house.runtime.opened()
    after = ("", "") if cursor_ is None else tuple(read_cursor(cursor_, str, str))
    rows = sorted(await journal.schedules(), key=lambda row: (row.workflow, row.id))
    rows = [row for row in rows if (every or not row.retired) and (row.workflow, row.id) > after]
    shown = rows[:limit]
    more = cursor(shown[-1].workflow, shown[-1].id) if len(rows) > limit else None
    return Page(items=await _reports(journal, shown), next=more)


@router.get("/schedules/history", dependencies=[needs("view")])
async def show_schedule(
    house: HouseDep, schedule: Which, limit: Annotated[int, Query(ge=1, le=500, description="Starts of each.")] = 10
) -> list[ScheduleHistory]:
    """Show one schedule, or all of a workflow, with what became of the last starts."""
    journal = await house.runtime.opened()
    histories = []
    for row in asking.chosen(await journal.schedules(), schedule):
        found = await journal.occurrences(OccurrenceQuery(schedule=row.id, limit=limit))
        told = [occurrence_report(each, await asking.backfilled(journal, row, each)) for each in found]
        report = schedule_report(row, found[0] if found else None)
        histories.append(ScheduleHistory(schedule=report, occurrences=told))
    return histories


@router.get("/schedules/next", dependencies=[needs("view")])
async def next_starts(
    house: HouseDep,
    schedule: Which,
    count: Annotated[int, Query(ge=1, le=500)] = 5,
    after: Annotated[
        str | None, Query(alias="from", max_length=60, description="Those after this instant, or day.")
    ] = None,
) -> list[InstantReport]:
    """Tell the next starts, in UTC and in the zone of the schedule: exactly those that will be.

    Of a workflow that is not armed the starts are told that it would have, if it were armed at that instant.
    """
    runtime = house.runtime
    rows = await (await runtime.opened()).schedules()
    armed = {row.workflow for row in rows if not row.retired}
    if armed & {schedule, schedule.rpartition("/")[0]}:
        found = asking.chosen(rows, schedule)
        begin = None if after is None else asking.read_moment(after, Standing.of(found[0]).times.zone)
        return asking.first(found, begin, count)
    planned = await runtime.plan_of(schedule)
    says = planned.workflow.on.schedule
    if not says:
        raise InvalidInputs(f"{schedule} has no schedule.", code="no_schedule", remedy="Write one under `on`.")
    begin = runtime.journal.now() if after is None else asking.read_moment(after, ZoneInfo(says[0].timezone))
    coming = asking.would_come(planned.workflow.name, says, begin)
    return [each for _, each in zip(range(count), coming, strict=False)]


@router.get("/schedules/occurrences", dependencies=[needs("view")])
async def list_occurrences(
    *,
    house: HouseDep,
    schedule: Annotated[str, Query(min_length=1, max_length=200, description="The id of one schedule: `digest/1`.")],
    fate: Annotated[list[Fate] | None, Query(max_length=3)] = None,
    since: Annotated[datetime | None, Query(description="With an offset; without one, UTC.")] = None,
    cursor_: Annotated[Cursor, Query(alias="cursor")] = None,
    limit: Annotated[Limit, Query()] = 100,
) -> Page[OccurrenceReport]:
    """List what became of the instants of a schedule, the youngest first."""
    journal = await house.runtime.opened()
    (row, *_) = asking.chosen(await journal.schedules(), schedule)
    until = None if cursor_ is None else _instant(cursor_)
    query = OccurrenceQuery(
        schedule=row.id,
        fates=tuple(fate or ()),
        since=None if since is None else (since if since.tzinfo else since.replace(tzinfo=UTC)).timestamp(),
        until=until,
        limit=limit + 1,
    )
    found = await journal.occurrences(query)
    items = [occurrence_report(each, await asking.backfilled(journal, row, each)) for each in found[:limit]]
    return Page(items=items, next=cursor(repr(found[limit - 1].at)) if len(found) > limit else None)


def _instant(cursor_: str) -> float:
    try:
        return float(read_cursor(cursor_, str)[0])
    except ValueError:
        raise InvalidInputs("This cursor is none of this list.", code="bad_cursor") from None


async def _reports(journal: Journal, rows: Sequence[Schedule]) -> list[ScheduleReport]:
    return [schedule_report(row, await _last(journal, row)) for row in rows]


async def _last(journal: Journal, row: Schedule) -> Occurrence | None:
    found = await journal.occurrences(OccurrenceQuery(schedule=row.id, limit=1))
    return found[0] if found else None


# ---- by hand
@router.post("/schedules/pause", dependencies=[needs("run")])
async def pause_schedule(asked: Named, who: Who, house: HouseDep) -> list[ScheduleReport]:
    """Pause a schedule, or all of a workflow: its instants are skipped, each with a row that says so."""
    return await _changed(house, who, asked.schedule, deciding.pause, "schedule.paused")


@router.post("/schedules/resume", dependencies=[needs("run")])
async def resume_schedule(asked: Named, who: Who, house: HouseDep) -> list[ScheduleReport]:
    """Resume a schedule, or all of a workflow, with the next instant. Those of the pause are not made up for."""
    return await _changed(house, who, asked.schedule, deciding.resume, "schedule.resumed")


async def _changed(
    house: House, who: Identity, name: str, think: Callable[..., Any], action: str
) -> list[ScheduleReport]:
    journal = await house.runtime.opened()
    ids = [row.id for row in asking.chosen(await journal.schedules(), name)]
    rows = [row for id_ in ids if (row := await decided(journal, id_, think)) is not None]
    await house.audit.record(who, action, name, {"schedules": [*ids]})
    reports = await _reports(journal, rows)
    for report in reports:
        house.hub.publish("schedules", "schedule", report.model_dump(mode="json"))
    return reports


@router.post("/schedules/backfill", dependencies=[needs("run")])
async def backfill_schedule(asked: Backfill, who: Who, house: HouseDep) -> list[BackfillReport]:
    """Start the runs of instants that are past: those missed or skipped, and those before the schedule was armed.

    Each instant has one run, whoever starts it.
    """
    found: list[BackfillReport] = []
    journal = await house.runtime.opened()
    for row in asking.chosen(await journal.schedules(), asked.schedule):
        zone = Standing.of(row).times.zone
        span = asking.read_moment(asked.begin, zone), asking.read_moment(asked.end, zone, end=True)
        if span[0] > span[1]:
            raise InvalidInputs("`from` is after `to`.", code="empty_range", remedy="Swap them.")
        instants = asking.past(row, *span)
        start = partial(asking.would_start, journal) if asked.dry_run else partial(asking.start_past, house.runtime)
        found += await start(row, instants)
    if not asked.dry_run:
        facts: JsonObject = {
            "from": asked.begin,
            "to": asked.end,
            "started": sum(each.outcome == "started" for each in found),
        }
        await house.audit.record(who, "schedule.backfilled", asked.schedule, facts)
    return found


@router.post("/schedules/sync", dependencies=[needs("edit")])
async def sync_schedules(who: Who, house: HouseDep, asked: Sync | None = None) -> SyncReport:
    """Bring the schedules to what the enabled workflows of the workspace say, as a worker does by itself."""
    await house.runtime.opened()
    found = await sync(house.runtime, await look(house.runtime), take=asked is not None and asked.take)
    changes = [ChangeReport(change=each.change, schedule=schedule_report(each.schedule)) for each in found.schedules]
    counts: JsonObject = {"changed": sum(each.change != "unchanged" for each in changes), "faulty": len(found.faulty)}
    await house.audit.record(who, "schedules.synced", house.runtime.documents.place, counts)
    return SyncReport(schedules=changes, faulty=[faulty_report(each) for each in found.faulty])
