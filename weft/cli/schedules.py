"""`weft schedules`: what starts by the clock, when, and what became of every start."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click
from click.shell_completion import CompletionItem

from weft.cli import remote
from weft.cli import schedules_view as view
from weft.cli.exits import ExitCode
from weft.cli.opening import workflow_names
from weft.cli.runs import runtime_options, with_runtime
from weft.cli.state import State, json_option, pass_state, server_option
from weft.cli.terminal import Screen, clean_line, is_live, to_json
from weft.errors import InvalidInputs
from weft.journal.base import Journal, Occurrence, OccurrenceQuery, Schedule
from weft.runtime import Runtime
from weft.schedules import asking, deciding
from weft.schedules.arming import decided, look, sync
from weft.schedules.report import (
    BackfillReport,
    ChangeReport,
    InstantReport,
    ScheduleHistory,
    ScheduleReport,
    SyncReport,
    faulty_report,
    occurrence_report,
    schedule_report,
)
from weft.schedules.standing import Standing

if TYPE_CHECKING:
    from weft.client import AsyncClient

DAYS = 7
"""That the picture of a schedule shows."""

PICTURED = 2_000
"""Instants that it is made of, at most."""


class _Schedules(click.Group):
    """Without a command it lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = bool(args) and args[0].startswith("-") and args[0] not in ctx.help_option_names
        if options or not (args or ctx.resilient_parsing):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("schedules", cls=_Schedules)
def command() -> None:
    """See what starts by the clock and what became of every start; pause it, or make up for starts that are past.

    \b
    weft schedules                     all schedules and their next start
    weft schedules next digest         when it starts next
    weft schedules show digest         what became of its last starts
    weft schedules pause digest        start nothing until it is resumed
    weft schedules backfill digest --from 2026-11-01 --to 2026-11-07
                                       start by hand what is past
    weft schedules sync                arm what workflows/ says, as a worker does
    """


def _schedule_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return workflow_names(context, parameter, incomplete)


_WHICH = click.argument("workflow", metavar="WORKFLOW", shell_complete=_schedule_names)


async def _last(journal: Journal, row: Schedule) -> Occurrence | None:
    found = await journal.occurrences(OccurrenceQuery(schedule=row.id, limit=1))
    return found[0] if found else None


async def _reports(journal: Journal, rows: Sequence[Schedule]) -> list[ScheduleReport]:
    return [schedule_report(row, await _last(journal, row)) for row in rows]


def _dump(reports: Sequence[Any]) -> str:
    return to_json([report.model_dump(mode="json") for report in reports])


# ---- looking
@command.command("list", short_help="List schedules and their next start.")
@click.option("--all", "every", is_flag=True, help="Also those that are retired.")
@json_option
@server_option
@runtime_options
@pass_state
def list_(state: State, *, every: bool, as_json: bool) -> None:
    """List schedules: what each is, when it starts next, what became of its last start."""

    async def work(runtime: Runtime) -> list[ScheduleReport]:
        rows = await runtime.journal.schedules()
        return await _reports(runtime.journal, [row for row in rows if every or not row.retired])

    async def ask(client: AsyncClient) -> list[ScheduleReport]:
        return [remote.as_shape(ScheduleReport, each) async for each in client.each_of_schedules(all_=every)]

    reports = remote.with_client(state, ask) if state.server else with_runtime(state, work)
    if as_json:
        click.echo(_dump(reports))
    elif is_live(sys.stdout):
        view.show_list(reports)
    else:
        for report in reports:
            click.echo(view.plain(report))


@command.command("show", short_help="Show what became of the last starts of a schedule.")
@_WHICH
@click.option("--limit", type=click.IntRange(1, 1_000), default=10, show_default=True, help="How many starts to list.")
@json_option
@server_option
@runtime_options
@pass_state
def show(state: State, *, workflow: str, limit: int, as_json: bool) -> None:
    """Show a schedule, the starts of the last days as a picture, and the youngest of them in a table.

    WORKFLOW is the name of a workflow, for all of its schedules, or the id of one, such as digest/2.
    """

    async def work(runtime: Runtime) -> tuple[list[ScheduleHistory], dict[str, list[Occurrence]]]:
        journal = runtime.journal
        histories, pictured = [], {}
        since = journal.now() - timedelta(days=DAYS).total_seconds()
        for row in asking.chosen(await journal.schedules(), workflow):
            found = await journal.occurrences(OccurrenceQuery(schedule=row.id, limit=limit))
            told = [occurrence_report(each, await asking.backfilled(journal, row, each)) for each in found]
            report = schedule_report(row, found[0] if found else None)
            histories.append(ScheduleHistory(schedule=report, occurrences=told))
            query = OccurrenceQuery(schedule=row.id, since=since, limit=PICTURED)
            pictured[row.id] = [] if as_json else await journal.occurrences(query)
        return histories, pictured

    async def ask(client: AsyncClient) -> tuple[list[ScheduleHistory], dict[str, list[Occurrence]]]:
        told = remote.as_shapes(ScheduleHistory, await client.show_schedule(schedule=workflow, limit=min(limit, 500)))
        return told, {each.schedule.id: [] if as_json else await _pictured(client, each.schedule.id) for each in told}

    histories, pictured = remote.with_client(state, ask) if state.server else with_runtime(state, work)
    if as_json:
        click.echo(_dump(histories))
        return
    screen = Screen(sys.stdout)
    for history in histories:
        for line in view.page(history, pictured[history.schedule.id], screen, DAYS, is_whole=_is_whole(pictured)):
            screen.print(line, soft_wrap=True)


async def _pictured(client: AsyncClient, schedule: str) -> list[Occurrence]:
    """Return what became of the last days' instants of a server's schedule, the youngest first."""
    since = (datetime.now(UTC) - timedelta(days=DAYS)).isoformat()
    found: list[Occurrence] = []
    async for each in client.each_of_occurrences(schedule=schedule, since=since, limit=500):
        at, decided_at = each.utc.timestamp(), each.decided_at.timestamp()
        found.append(
            Occurrence(each.schedule, each.local, at, each.fate, decided_at, run_id=each.run_id, count=each.count)
        )
        if len(found) >= PICTURED:
            break
    return found


def _is_whole(pictured: dict[str, list[Occurrence]]) -> bool:
    return all(len(each) < PICTURED for each in pictured.values())


@command.command("next", short_help="Print when a workflow starts next.")
@_WHICH
@click.option("--count", type=click.IntRange(1, 10_000), default=5, show_default=True, help="How many.")
@click.option("--from", "after", metavar="INSTANT", help="Those after this instant, or day [default: now].")
@json_option
@server_option
@runtime_options
@pass_state
def next_(state: State, *, workflow: str, count: int, after: str | None, as_json: bool) -> None:
    """Print the next starts of WORKFLOW, in UTC and in the zone of its schedule: exactly those that will be.

    WORKFLOW is the name of a workflow, the id of one of its schedules, or a file. Of one that is not armed the starts are
    printed that it would have, if it were armed at that instant.
    """

    of = "" if Path(workflow).is_file() else workflow.rpartition("/")[0]  # of an id: its workflow

    async def work(runtime: Runtime) -> tuple[list[InstantReport], str]:
        rows = await runtime.journal.schedules()
        armed = {row.workflow for row in rows if not row.retired}
        if armed & {workflow, of}:
            found = asking.chosen(rows, workflow)
            begin = None if after is None else asking.read_moment(after, Standing.of(found[0]).times.zone)
            paused = [row.id for row in found if row.paused]
            return asking.first(found, begin, count), view.while_paused(paused)
        return await _of_file(runtime, workflow, count, after)

    async def ask(client: AsyncClient) -> tuple[list[InstantReport], str]:
        found = await client.next_starts(schedule=workflow, count=min(count, 500), from_=after)
        return remote.as_shapes(InstantReport, found), ""

    instants, note = remote.with_client(state, ask) if state.server else with_runtime(state, work)
    if as_json:
        click.echo(_dump(instants))
    elif is_live(sys.stdout):
        view.show_next(instants, note)
    else:
        for each in instants:
            click.echo(view.plain_instant(each))


async def _of_file(runtime: Runtime, workflow: str, count: int, after: str | None) -> tuple[list[InstantReport], str]:
    """Return the instants that a workflow would have, and that it is not armed."""
    planned = await runtime.plan_at(workflow)
    path = planned.source.file
    says = planned.workflow.on.schedule
    if not says:
        raise InvalidInputs(
            f"{path} has no schedule.", code="no_schedule", remedy="Write one under `on`: docs/schedules.md."
        )
    begin = runtime.journal.now()
    if after is not None:
        begin = asking.read_moment(after, ZoneInfo(says[0].timezone))
    found = asking.would_come(planned.workflow.name, says, begin)
    enabled = planned.workflow.enabled
    why = "it is armed when a worker runs here, or by: weft schedules sync" if enabled else "it says `enabled: false`"
    return [each for _, each in zip(range(count), found, strict=False)], f"{path} is not armed: {why}."


# ---- by hand
@command.command("pause", short_help="Start nothing until it is resumed.")
@_WHICH
@json_option
@server_option
@runtime_options
@pass_state
def pause(state: State, *, workflow: str, as_json: bool) -> None:
    """Pause a schedule, or all of a workflow. Its instants are skipped, each with a row that says so.

    What is due already and has not been started is not started. Runs that have begun go on. An edit of the workflow does
    not end the pause.
    """
    _changed(state, workflow, deciding.pause, as_json=as_json)


@command.command("resume", short_help="Go on with the next start.")
@_WHICH
@json_option
@server_option
@runtime_options
@pass_state
def resume(state: State, *, workflow: str, as_json: bool) -> None:
    """Resume a schedule, or all of a workflow, with the next instant. Those of the pause are not made up for."""
    _changed(state, workflow, deciding.resume, as_json=as_json)


def _changed(state: State, workflow: str, think: Callable[..., Any], *, as_json: bool) -> None:
    async def work(runtime: Runtime) -> list[ScheduleReport]:
        journal = runtime.journal
        ids = [row.id for row in asking.chosen(await journal.schedules(), workflow)]
        rows = [await decided(journal, id_, think) for id_ in ids]
        return await _reports(journal, [row for row in rows if row is not None])

    async def ask(client: AsyncClient) -> list[ScheduleReport]:
        from weft.client import models  # noqa: PLC0415  only commands on a server need it

        change = client.pause_schedule if think is deciding.pause else client.resume_schedule
        return remote.as_shapes(ScheduleReport, await change(models.Named(schedule=workflow)))

    reports = remote.with_client(state, ask) if state.server else with_runtime(state, work)
    if as_json:
        click.echo(_dump(reports))
    else:
        for report in reports:
            click.echo(clean_line(view.sentence(report)))


@command.command("backfill", short_help="Start what is past.")
@_WHICH
@click.option("--from", "begin", metavar="INSTANT", required=True, help="The first instant, or day.")
@click.option("--to", "end", metavar="INSTANT", required=True, help="The last instant, or day, inclusive.")
@click.option("--dry-run", is_flag=True, help="Only print what would be started.")
@json_option
@server_option
@runtime_options
@pass_state
def backfill(state: State, *, workflow: str, begin: str, end: str, dry_run: bool, as_json: bool) -> None:
    """Start the runs of instants that are past: those missed or skipped, and those before the schedule was armed.

    Each instant has one run, whoever starts it: what has been started is left alone. The runs wait for one another, not
    for those that the clock starts. A worker has to run.
    """

    async def work(runtime: Runtime) -> list[BackfillReport]:
        found: list[BackfillReport] = []
        for row in asking.chosen(await runtime.journal.schedules(), workflow):
            zone = Standing.of(row).times.zone
            span = asking.read_moment(begin, zone), asking.read_moment(end, zone, end=True)
            if span[0] > span[1]:
                raise InvalidInputs("--from is after --to.", code="empty_range", remedy="Swap them.")
            instants = asking.past(row, *span)
            if dry_run:
                found += await asking.would_start(runtime.journal, row, instants)
            else:
                found += await asking.start_past(runtime, row, instants)
        return found

    async def ask(client: AsyncClient) -> list[BackfillReport]:
        from weft.client import models  # noqa: PLC0415  only commands on a server need it

        asked = models.Backfill.model_validate({"schedule": workflow, "from": begin, "to": end, "dry_run": dry_run})
        return remote.as_shapes(BackfillReport, await client.backfill_schedule(asked))

    reports = remote.with_client(state, ask) if state.server else with_runtime(state, work)
    if as_json:
        click.echo(_dump(reports))
        return
    for report in reports:
        click.echo(view.line([report.local, report.outcome, report.run_id]))
    click.echo(clean_line(view.after_backfill(reports)), err=True)


@command.command("sync", short_help="Arm what workflows/ says.")
@click.option("--take", is_flag=True, help="Also take over what another workspace has armed under the same names.")
@json_option
@runtime_options
@pass_state
def sync_(state: State, *, take: bool, as_json: bool) -> ExitCode:
    """Bring the schedules of the journal to what the enabled workflows in workflows/ say, as a worker does by itself.

    New times count from now on. A workflow with faults keeps what was armed of it last; then the exit code is 3.
    """

    async def work(runtime: Runtime) -> SyncReport:
        found = await sync(runtime, await look(runtime), take=take)
        changes = [
            ChangeReport(change=each.change, schedule=schedule_report(each.schedule)) for each in found.schedules
        ]
        return SyncReport(schedules=changes, faulty=[faulty_report(each) for each in found.faulty])

    report = with_runtime(state, work)
    if as_json:
        click.echo(to_json(report.model_dump(mode="json")))
    else:
        for line in view.synced(report):
            click.echo(clean_line(line))
    return ExitCode.INVALID_DOCUMENT if report.faulty else ExitCode.OK
