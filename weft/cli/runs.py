"""`weft runs`: what ran, and what can be done with it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, aclosing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar, get_args

import click

from weft import retention
from weft.cli import remote, run_view, runs_table
from weft.cli.exits import ExitCode
from weft.cli.following import code_of, watch
from weft.cli.instants import Since
from weft.cli.opening import open_runtime, workflow_names
from weft.cli.run_doing import COMMANDS
from weft.cli.run_ids import find
from weft.cli.state import (
    State,
    connections_option,
    env_option,
    home_option,
    json_option,
    pack_option,
    pass_state,
    server_option,
)
from weft.cli.terminal import Screen, clean_line, is_live, to_json
from weft.engine.replaying import without_turns
from weft.engine.report import RunReport, RunSummary, StepReport
from weft.errors import NotFound
from weft.journal.base import ENDS, Journal, Listed, RunQuery
from weft.journal.base import State as RunState
from weft.reading import Reading, summaries
from weft.runtime import Runtime
from weft.wording import choice, meant

if TYPE_CHECKING:
    from weft.client import AsyncClient

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

PAGE = 50
"""Runs that an export reads at a time (rule B11): nobody waits for a long read, and no snapshot grows old."""

LARGE_PAGE = 1_000
SERVER_PAGE = 500
"""Runs that a server gives at a time."""


class _Runs(click.Group):
    """Without a command it lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = bool(args) and args[0].startswith("-") and args[0] not in ctx.help_option_names
        if options or not (args or ctx.resilient_parsing):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("runs", cls=_Runs)
def command() -> None:
    """See what ran, and cancel, resume, repeat or remove it.

    \b
    weft runs                          the youngest runs
    weft runs list --state failed      those that failed
    weft runs show 0193a5              all about one; the beginning of its id is enough
    weft runs watch 0193a5             follow one that another process drives
    weft runs rerun 0193a5             all of it once more
    weft runs replay 0193a5 --from mail
                                       once more from a step on
    """


for _each in COMMANDS:
    command.add_command(_each)


def runtime_options(function: F) -> F:
    """Add the options of every command that opens the runtime."""
    for option in (home_option, env_option, connections_option, pack_option):
        function = option(function)
    return function


def with_runtime(state: State, work: Callable[[Runtime], Awaitable[T]]) -> T:
    """Return what `work` makes of an open runtime."""

    async def whole() -> T:
        async with open_runtime(state) as runtime:
            await runtime.opened()
            return await work(runtime)

    return asyncio.run(whole())


@dataclass(frozen=True, slots=True)
class Filter:
    """Which runs are meant."""

    workflow: str | None
    states: tuple[RunState, ...]
    since: float | None
    until: float | None
    text: str | None

    @property
    def asked(self) -> bool:
        return self != Filter(None, (), None, None, None)

    def query(self, limit: int, before: str | None = None) -> RunQuery:
        return RunQuery(self.workflow, self.states, self.since, self.until, self.text, limit, before)


def filters(function: F) -> F:
    """Add the options that choose runs."""
    options = (
        click.option("--workflow", metavar="NAME", shell_complete=workflow_names, help="Only runs of this workflow."),
        click.option(
            "--state",
            "states",
            type=click.Choice(get_args(RunState)),
            multiple=True,
            help="Only runs in this state. May be repeated.",
        ),
        click.option("--since", type=Since(), help="Only runs started then or later: 2h, 3d or 2026-11-23T08:00."),
        click.option("--until", type=Since(), help="Only runs started before."),
        click.option("--text", metavar="TEXT", help="Only runs with this in id, workflow, inputs, outputs or error."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@command.command("list", short_help="List runs, the youngest first.")
@filters
@click.option("--limit", type=click.IntRange(1, LARGE_PAGE), default=20, show_default=True, help="How many.")
@click.option("--before", metavar="RUN", help="Only runs older than this one: the next page.")
@json_option
@server_option
@runtime_options
@pass_state
def list_(
    state: State,
    *,
    workflow: str | None,
    states: tuple[RunState, ...],
    since: float | None,
    until: float | None,
    text: str | None,
    limit: int,
    before: str | None,
    as_json: bool,
) -> None:
    """List runs, the youngest first: what became of them, what they wait for, why they failed."""
    chosen = Filter(workflow, states, since, until, text)

    async def ask(client: AsyncClient) -> runs_table.Page:
        last = None if before is None else (await remote.find(client, before)).run_id
        found: list[RunSummary] = []
        more: str | None = None
        while len(found) < limit:
            page = await client.list_runs(
                workflow=workflow,
                state=list(states) or None,
                since=_iso(since),
                until=_iso(until),
                text=text,
                before=last,
                cursor=more,
                limit=min(limit - len(found), SERVER_PAGE),
            )
            found += remote.as_shapes(RunSummary, page.items)
            more = page.next
            if more is None:
                break
        return runs_table.Page(found, more is not None, asked=chosen.asked or before is not None, server=True)

    async def work(runtime: Runtime) -> runs_table.Page:
        journal = runtime.journal
        last = None if before is None else (await find(journal, before)).row.id
        found = await journal.runs(chosen.query(limit + 1, last))
        shown = found[:limit]
        orphans = [each.row.id for each in await journal.abandoned()]
        told = [each.row.id for each in shown if each.row.id in set(orphans)]
        return runs_table.Page(
            await summaries(runtime, shown), len(found) > limit, told, chosen.asked or before is not None
        )

    page = remote.with_client(state, ask) if state.server else with_runtime(state, work)
    if as_json:
        click.echo(to_json([run.model_dump(mode="json") for run in page.runs]))
    elif is_live(sys.stdout):
        runs_table.show(page)
    else:
        now = datetime.now(UTC)
        for run in page.runs:
            click.echo(runs_table.plain(run, now, orphan=run.run_id in page.orphans))


@command.command("show", short_help="Show all about one run.")
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--step", "wanted", metavar="STEP", help="Show this step in full: `mail`, `each/mail` or `each[3]/mail`.")
@json_option
@server_option
@runtime_options
@pass_state
def show(state: State, *, run_id: str | None, wanted: str | None, as_json: bool) -> None:
    """Show a run: its steps, when each was at work, and what each attempt was given, gave, took and cost.

    RUN is an id or its beginning, the youngest run when it is left out. Long values are cut; --step shows one step whole.
    """

    async def work(runtime: Runtime) -> tuple[RunReport, str, Any]:
        found = await found_run(runtime.journal, run_id)
        report, why = await Reading(runtime).report(found)
        return report, why, (await summaries(runtime, [found]))[0]

    async def ask(client: AsyncClient) -> tuple[RunReport, str, Any]:
        summary = await remote.find(client, run_id)
        report = await remote.report_of(client, summary.run_id)
        return report, "" if report.complete else "The server cannot read what it follows.", summary

    report, why, summary = remote.with_client(state, ask) if state.server else with_runtime(state, work)
    steps = [] if wanted is None else _steps_at(report, wanted)
    screen = Screen(sys.stdout)
    if as_json:
        told = report.model_dump(mode="json")
        click.echo(to_json([step.model_dump(mode="json") for step in steps] if wanted is not None else told))
    else:
        lines = run_view.page(report, summary, screen, why)
        for line in lines if wanted is None else run_view.step_page(steps, report, screen):
            screen.print(line, soft_wrap=True)


async def found_run(journal: Journal, given: str | None) -> Listed:
    """Return the run that is meant, the youngest when none is named."""
    if given is not None:
        return await find(journal, given)
    youngest = await journal.runs(RunQuery(limit=1))
    if not youngest:
        raise NotFound("There are no runs yet.", code="unknown_run", remedy="Start one: weft run email-results")
    return youngest[0]


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()


def _steps_at(report: RunReport, wanted: str) -> list[StepReport]:
    """Return the steps at a path, all turns of it when it names none."""
    name = wanted.strip("/")
    exact = [step for step in report.steps if step.path.strip("/").replace("@", "") == name.replace("@", "")]
    found = exact or [step for step in report.steps if without_turns(step.path).strip("/").replace("@", "") == name]
    if not found:
        known = sorted({without_turns(step.path).strip("/").replace("@", "") for step in report.steps})
        remedy = meant(name, known) or (f"There are: {choice(known)}." if known else None)
        raise NotFound(f"The run has no step {wanted!r}.", code="unknown_step", remedy=remedy)
    return found


@command.command("watch", short_help="Follow a run that another process drives.")
@click.argument("run_id", metavar="RUN")
@json_option
@server_option
@runtime_options
@pass_state
def watch_(state: State, *, run_id: str, as_json: bool) -> ExitCode:
    """Follow a run until it ends, and end with its exit code. Ctrl-C leaves the run alone."""

    async def work(runtime: Runtime) -> RunReport:
        found = await find(runtime.journal, run_id)
        return await watch(runtime.journal, found, Reading(runtime), as_json=as_json)

    async def ask(client: AsyncClient) -> ExitCode:
        run = (await remote.find(client, run_id)).run_id
        return await remote.Follower(state, client, as_json=as_json, stops=False).follow(run)

    if state.server:
        return remote.with_client(state, ask)
    report = with_runtime(state, work)
    if as_json:
        click.echo(to_json(report.model_dump(mode="json")))
    return code_of(report.state)


@command.command("export", short_help="Write reports of runs, one JSON object a line.")
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--all", "every", is_flag=True, help="All runs that the filters leave.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@filters
@runtime_options
@pass_state
def export(
    state: State,
    *,
    run_id: str | None,
    every: bool,
    output: Path | None,
    workflow: str | None,
    states: tuple[RunState, ...],
    since: float | None,
    until: float | None,
    text: str | None,
) -> None:
    """Write the report of RUN, or with --all of many runs, the youngest first: a JSON object a line, secrets masked."""
    chosen = Filter(workflow, states, since, until, text)
    if every == (run_id is not None):
        raise click.UsageError("Give a RUN, or --all.")
    if run_id is not None and chosen.asked:
        raise click.UsageError("The filters choose among --all runs.")

    async def work(runtime: Runtime) -> tuple[int, int]:
        count = short = 0
        with ExitStack() as stack:
            stream: TextIO = sys.stdout
            if output is not None:
                stream = stack.enter_context(output.open("w", encoding="utf-8"))
            async with aclosing(exported(runtime, chosen, run_id)) as lines:
                async for report, why in lines:
                    click.echo(json.dumps(report.model_dump(mode="json")), file=stream)
                    count += 1
                    if why:
                        short += 1
        return count, short

    count, short = with_runtime(state, work)
    if output is not None or short:
        told = f"{count} {'run' if count == 1 else 'runs'}" + (f" written to {output}" if output else "")
        click.echo(told + (f"; {short} of them without titles and arguments" if short else ""), err=True)


async def exported(runtime: Runtime, chosen: Filter, run_id: str | None) -> AsyncGenerator[tuple[RunReport, str], None]:
    """Yield reports of runs, each read by itself, a page of ids at a time (rule B11)."""
    reading = Reading(runtime)
    if run_id is not None:
        yield await reading.report(await find(runtime.journal, run_id))
        return
    async for found in each_run(runtime.journal, chosen, PAGE):
        try:
            yield await reading.report(found)
        except NotFound:  # it was removed meanwhile
            continue


async def each_run(journal: Journal, chosen: Filter, size: int) -> AsyncIterator[Listed]:
    """Yield the runs that are meant, the youngest first, read page by page."""
    before: str | None = None
    while True:
        try:
            page = await journal.runs(chosen.query(size, before))
        except (
            NotFound
        ):  # the last of the page before was removed meanwhile: what is older was so, too, or soon will be
            return
        for found in page:
            yield found
        if len(page) < size:
            return
        before = page[-1].row.id


@command.command("purge", short_help="Remove runs that ended long ago.")
@click.option("--older-than", metavar="DURATION", required=True, help="How long ago they ended: 30d, 12h.")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
@json_option
@server_option
@runtime_options
@pass_state
def purge(state: State, *, older_than: str, dry_run: bool, as_json: bool) -> None:
    """Remove runs that ended longer ago than DURATION, with their records and files.

    What guards against repetition stays: the ids of runs that a trigger started, and runs with an effect of which nobody
    knows whether it happened. WEFT_KEEP_RUNS=30d lets workers do this daily.
    """
    keep_s = retention.length(older_than, "--older-than")

    async def work(runtime: Runtime) -> dict[str, Any]:
        if dry_run:
            return {"runs": await _old(runtime.journal, keep_s), "dry_run": True}
        return {**asdict(await retention.apply(runtime.journal, keep_s)), "dry_run": False}

    async def ask(client: AsyncClient) -> dict[str, Any]:
        from weft.client import models  # noqa: PLC0415  only commands on a server need it

        found = await client.purge_runs(models.Purge(older_than=older_than))
        return {**found.model_dump(mode="json"), "dry_run": False}

    remote.refuse_with_server(state, {"--dry-run": dry_run})
    counts = remote.with_client(state, ask) if state.server else with_runtime(state, work)
    if as_json:
        click.echo(to_json(counts))
        return
    for line in _purged(counts, older_than):
        click.echo(clean_line(line))


async def _old(journal: Journal, keep_s: float) -> int:
    before = journal.now() - keep_s
    ended = replace(Filter(None, ENDS, None, None, None), until=before)
    return sum([found.status.changed_at < before async for found in each_run(journal, ended, LARGE_PAGE)])


REASONS = {"doubt": "with an effect of which nobody knows whether it happened"}
"""Why runs stay though they are old enough."""


def _purged(counts: dict[str, Any], older_than: str) -> list[str]:
    number = counts["runs"]
    runs = f"{number} {'run' if number == 1 else 'runs'}"
    if counts["dry_run"]:
        return [f"{runs} ended more than {older_than} ago; those with an effect in doubt would stay."]
    if not number:
        lines = [
            f"Nothing to remove: no run ended more than {older_than} ago"
            + (", but those kept." if counts["kept"] else ".")
        ]
    else:
        parts = [f"{counts[name]} {name}" for name in ("records", "documents", "artifacts") if counts[name]]
        lines = [f"Removed {runs}" + (f" with {', '.join(parts)}" if parts else "") + "."]
    return lines + [f"Kept {count} {REASONS.get(why, f'({why})')}." for why, count in counts["kept"].items()]
