"""`weft run`: one run, from its document to its last line."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click

from weft.cli import closing, logs, rehearsing, remote
from weft.cli.exits import ExitCode
from weft.cli.following import settle
from weft.cli.inputs import given
from weft.cli.interrupts import Interrupts
from weft.cli.lines import PlainLines, Silence
from weft.cli.live import LiveDisplay
from weft.cli.opening import names_here, open_runtime, plan_at, workflow_names
from weft.cli.problems import tell
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
from weft.cli.terminal import is_live, to_json
from weft.cli.view import RunView
from weft.engine.events import Event, Logged, Observer, RunStarted
from weft.engine.report import RunReport
from weft.errors import JournalRefused, JournalUnavailable, Problem
from weft.journal.base import Journal, RunQuery
from weft.plan import Plan
from weft.reading import learn_secrets, redacted, summaries
from weft.rehearsal import dry_run as dry_runs
from weft.rehearsal import recording
from weft.rehearsal.dry_run import DryRun
from weft.runtime import Runtime
from weft.types import JsonObject

if TYPE_CHECKING:
    from weft.client import AsyncClient

MOST_COUNTED = 100
"""Of the other runs that wait."""

WAITED_S = 2.0
"""For how long a run waits before it is told of: a worker needs a moment to take it."""

Display: TypeAlias = LiveDisplay | PlainLines
Work: TypeAlias = Callable[[Observer, bool], Awaitable[RunReport]]
"""Drives a run whose events the observer is told of; the other argument says whether output is to be shown as it comes."""


class _Grouped(click.Command):
    """Shows the options for trying a workflow apart from those for running it."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        trying: list[tuple[str, str]] = []
        running: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            told = parameter.get_help_record(ctx)
            if told is not None and isinstance(parameter, click.Option):
                (trying if parameter.name in _TRYING else running).append(told)
        with formatter.section("Options"):
            formatter.write_dl(running)
        with formatter.section("Try it out"):
            formatter.write_dl(trying)


_TRYING = ("dry_run", "until", "only", "pinned", "record", "replay_from")
_file = click.Path(dir_okay=False, path_type=Path)


@click.command("run", cls=_Grouped)
@click.argument("workflow", metavar="WORKFLOW", required=False, shell_complete=workflow_names)
@click.option("-i", "--input", "pairs", metavar="NAME=VALUE", multiple=True, help="Give one input. May be repeated.")
@click.option(
    "--inputs",
    "file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="Give inputs as a JSON object in a file, `-` for standard input; --input overrides it.",
)
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Show nothing but what went wrong.")
@click.option("--detach", is_flag=True, help="Hand the run over to a worker, and print its id.")
@click.option("--dry-run", is_flag=True, help="Send nothing and open nothing: show what each step would be given.")
@click.option("--until", metavar="STEP", help="Stop after STEP: run it and what it needs, nothing else.")
@click.option("--only", metavar="STEP", help="Run STEP alone.")
@click.option(
    "--pin",
    "pinned",
    metavar="FILE",
    type=_file,
    help="Outputs of steps that are not run: STEP: OUTPUT, as YAML or JSON.",
)
@click.option("--record", metavar="FILE", type=_file, help="Keep the real answers in FILE.")
@click.option("--replay", "replay_from", metavar="FILE", type=_file, help="Take answers from FILE; nothing is opened.")
@server_option
@pack_option
@connections_option
@env_option
@home_option
@pass_state
def command(
    state: State,
    *,
    workflow: str | None,
    pairs: tuple[str, ...],
    file: Path | None,
    as_json: bool,
    quiet: bool,
    detach: bool,
    dry_run: bool,
    until: str | None,
    only: str | None,
    pinned: Path | None,
    record: Path | None,
    replay_from: Path | None,
) -> ExitCode:
    """Run WORKFLOW, a path or a name, and watch it until it ends.

    A name is looked for in workflows/ here, then among the examples of the packs.
    With --json the run's report goes to standard output and the display to standard error.
    """
    _refuse_together(
        {"--dry-run": dry_run, "--replay": replay_from, "--detach": detach, "--record": record},
        {"--until": until, "--only": only},
    )
    if pinned is not None and not (until or only or dry_run):
        raise click.UsageError("--pin goes with --only, --until or --dry-run: a whole run has real outputs.")
    if state.server:
        if workflow is None:
            raise click.UsageError("Missing argument 'WORKFLOW'.")
        remote.refuse_with_server(state, {"--dry-run": dry_run, "--record": record, "--replay": replay_from})
        asked = _Asked(workflow, given(pairs, file), until, only, pinned)
        return remote.with_client(
            state, lambda client: _run_there(state, client, asked, detach=detach, quiet=quiet, as_json=as_json)
        )
    log = logs.start(state)
    relay = Relay()
    runtime = open_runtime(state, relay.progress)
    if workflow is None:
        known = sorted({*names_here(), *runtime.registry.workflows()})
        raise click.UsageError(f"Missing argument 'WORKFLOW'. There are: {', '.join(known)}.")
    whole = plan_at(runtime, workflow)
    plan = rehearsing.part_of(whole, until, only, pinned)
    values = given(pairs, file)
    if replay_from is not None:
        kept = recording.load(replay_from)
        recording.require_of(kept, replay_from, plan.workflow.name)
        inputs = runtime.inputs(plan, {**kept.inputs, **values}, text=bool(pairs))
        work = dry_runs.replay(runtime, plan, kept, replay_from, inputs)
        return _rehearsed(state, runtime, plan, whole, work, as_json=as_json, quiet=quiet)
    inputs = runtime.inputs(plan, values, text=bool(pairs))
    if dry_run:
        work = dry_runs.dry_run(runtime, plan, inputs)
        return _rehearsed(state, runtime, plan, whole, work, as_json=as_json, quiet=quiet)
    if detach:
        return asyncio.run(_handed_over(runtime, plan, inputs, as_json=as_json))
    if record is not None:
        recording.require_writable(record)
    told = rehearsing.left_out(plan, whole)
    if told and not quiet:
        click.echo(told, err=as_json)
    code = asyncio.run(Session(state, runtime, plan, relay, as_json=as_json, quiet=quiet, record=record).run(inputs))
    if log.has_errors:
        click.echo(f"The log has more: {log.file}", err=True)
    return code


@dataclass(frozen=True, slots=True)
class _Asked:
    """A run that a server is to make."""

    workflow: str
    inputs: JsonObject
    until: str | None
    only: str | None
    pinned: Path | None


async def _run_there(
    state: State, client: AsyncClient, asked: _Asked, *, detach: bool, quiet: bool, as_json: bool
) -> ExitCode:
    """Have a server make a run, and show it."""
    from weft.client import models  # noqa: PLC0415  only commands on a server need it

    inputs = await remote.typed(client, asked.workflow, asked.inputs)
    pins = None if asked.pinned is None else rehearsing.pins(asked.pinned)
    start = models.Start(workflow=asked.workflow, inputs=inputs, until=asked.until, only=asked.only, pins=pins)
    started = await client.start_run(start)
    if detach:
        sentence = f"Run {started.run_id} is ready; a worker of the server goes on with it."
        return remote.tell_done(started, sentence, as_json=as_json)
    return await remote.Follower(state, client, as_json=as_json, quiet=quiet, stops=True).follow(started.run_id)


def _refuse_together(*groups: dict[str, object]) -> None:
    """Refuse options of which only one can be meant."""
    for group in groups:
        given_ = [name for name, value in group.items() if value]
        if len(given_) > 1:
            raise click.UsageError(f"{given_[0]} and {given_[1]} exclude each other.")


def _rehearsed(
    state: State,
    runtime: Runtime,
    plan: Plan,
    whole: Plan,
    work: Coroutine[None, None, DryRun],
    *,
    as_json: bool,
    quiet: bool,
) -> ExitCode:
    """Return the exit code of a run that is played in memory, and show it; the journal of the home stays closed."""

    async def played() -> DryRun:
        async with runtime:
            await learn_secrets(runtime, plan)
            return await work

    return rehearsing.show(asyncio.run(played()), plan, whole, state, runtime.redactor, as_json=as_json, quiet=quiet)


async def _handed_over(runtime: Runtime, plan: Plan, inputs: JsonObject, *, as_json: bool) -> ExitCode:
    """Have a run accepted for any worker, and say how to watch it."""
    async with runtime:
        run_id = await runtime.submit(plan, inputs)
        if as_json:
            (summary,) = await summaries(runtime, [await runtime.journal.status(run_id)])
            click.echo(to_json(summary.model_dump(mode="json")))
        else:
            click.echo(f"Run {run_id} is ready; a worker goes on with it: weft worker")
            click.echo(f"Watch it: weft runs watch {run_id}")
    return ExitCode.OK


async def _waiting(journal: Journal, besides: str) -> int:
    """Count the other runs that nobody goes on with, up to `MOST_COUNTED`: no worker is there, or none has room."""
    found = set(await journal.ready(MOST_COUNTED, for_s=WAITED_S))
    found |= {run.row.id for run in await journal.abandoned()}
    late = journal.now() - WAITED_S
    wake_at = await journal.next_wake()
    if wake_at is not None and wake_at < late:
        sleeping = await journal.runs(RunQuery(states=("waiting",), limit=MOST_COUNTED))
        found |= {run.row.id for run in sleeping if run.status.wake_at is not None and run.status.wake_at < late}
    return len(found - {besides})


class Relay:
    """Passes on how far a download is, to the display that exists only later."""

    def __init__(self) -> None:
        self.display: Display | None = None

    def progress(self, what: str, done: int, total: int) -> None:
        if self.display is not None:
            self.display.progress(what, done, total)


class Session:
    """One run and those who watch it."""

    def __init__(
        self,
        state: State,
        runtime: Runtime,
        plan: Plan,
        relay: Relay,
        *,
        as_json: bool,
        quiet: bool,
        record: Path | None = None,
    ) -> None:
        self._state, self._runtime, self._plan, self._relay = state, runtime, plan, relay
        self._as_json = as_json
        self._record = record  #: the file to which the answers of the run go
        self._view = RunView({step.name: (step.uses, step.title) for step in plan.every_step()})
        self._display = self._relay.display = self._choose_display(quiet)
        self._asked = 0  #: times that somebody asked to stop
        self._cancelling: set[asyncio.Task[None]] = set()

    async def run(self, inputs: JsonObject) -> ExitCode:
        """Run to the end, show it, and return the exit code; the runtime is closed then."""
        with Interrupts(self._stop) as interrupts:
            async with self._runtime:
                await learn_secrets(self._runtime, self._plan)
                report = await self._shown(
                    lambda observe, watched: self._runtime.run(self._plan, inputs, observe, watched=watched)
                )
                code = self._end(report, interrupts)
                if self._record is not None:
                    click.echo(await self._recorded(self._record, report.run_id), err=self._as_json)
        return code

    async def follow(self, work: Work) -> ExitCode:
        """Show what `work` makes of a run, and return the exit code; the runtime stays open."""
        with Interrupts(self._stop) as interrupts:
            report = await self._shown(work)
        return self._end(report, interrupts)

    async def _shown(self, work: Work) -> RunReport:
        with self._display:
            report = await work(self._observe, isinstance(self._display, LiveDisplay))
            self._display.settle(lambda view: settle(view, report))
            redactor = self._runtime.redactor
            self._view.outputs = recording.masked(self._view.outputs, redactor)  # before they are cut to fit a line
            lines = [closing.summary(self._view), *closing.outputs(self._view), *self._mails()]
            lines += await self._others(report.run_id)
            self._display.finish([recording.masked(line, redactor) for line in lines])
        return report

    def _end(self, report: RunReport, interrupts: Interrupts) -> ExitCode:
        self._print(report)
        match report.state:
            case "succeeded":
                return ExitCode.OK
            case "cancelled":
                return interrupts.code
            case _:
                return ExitCode.RUN_FAILED

    def _choose_display(self, quiet: bool) -> Display:
        stream = sys.stderr if self._as_json else sys.stdout
        title = self._plan.workflow.title or self._plan.workflow.name
        if quiet:
            return Silence(stream, title, self._view)
        return (LiveDisplay if is_live(stream) else PlainLines)(stream, title, self._view)

    def _observe(self, event: Event) -> None:
        if isinstance(event, Logged):
            event = replace(event, message=recording.masked(event.message, self._runtime.redactor))
            if not event.path:
                self._display.remark(event.message)
                return
        self._display(event)
        if isinstance(event, RunStarted):
            for _ in range(self._asked):  # it was asked to stop before it had begun
                self._cancel(event.run_id)

    def _cancel(self, run_id: str) -> None:
        task = asyncio.create_task(self._cancelled(run_id))
        self._cancelling.add(task)
        task.add_done_callback(self._cancelling.discard)

    async def _cancelled(self, run_id: str) -> None:
        with contextlib.suppress(JournalRefused):  # it has ended by itself
            await self._runtime.cancel(run_id)

    def _stop(self) -> None:
        self._asked += 1
        again = "cancelling: press Ctrl-C again to stop at once"
        self._display.remark(again if self._asked == 1 else "stopping at once")
        if self._view.run_id:
            self._cancel(self._view.run_id)

    async def _recorded(self, file: Path, run_id: str) -> str:
        """Keep the answers of the run in a file, and say so."""
        count = await recording.save(file, self._runtime, run_id)
        return f"{count} answer{'' if count == 1 else 's'} kept in {file}"

    async def _others(self, run_id: str) -> list[str]:
        """Say which other runs wait for somebody to go on with them."""
        try:
            count = await _waiting(self._runtime.journal, run_id)
        except JournalUnavailable:
            return []
        if not count:
            return []
        told = "1 other run waits" if count == 1 else f"{count} other runs wait"
        return [f"{told}{' or more' if count >= MOST_COUNTED else ''}: weft worker"]

    def _mails(self) -> Iterator[str]:
        outbox = "weft outbox" if self._state.home is None else f"weft outbox --home {self._state.home}"
        connections = {step.name: step.connection for step in self._plan.every_step()}
        return closing.mails(self._view, connections, self._number_of, outbox)

    def _number_of(self, reply: str) -> int | None:
        """Return the number of the mail that the outbox has acknowledged with `reply`."""
        return next((kept.number for kept in reversed(self._runtime.outbox.messages()) if kept.id in reply), None)

    def _print(self, report: RunReport) -> None:
        if report.state in ("failed", "parked"):
            if isinstance(self._display, LiveDisplay):
                click.echo(err=True)
            tell(self._problems(), self._state)
        if self._as_json:
            click.echo(to_json(redacted(report, self._runtime.redactor).model_dump(mode="json")))

    def _problems(self) -> list[Problem]:
        """Return what the run failed for, first what ended it."""
        found = [self._view.problem, *(step.problem for step in self._view.steps if step.state == "failed")]
        return list(dict.fromkeys(problem for problem in found if problem is not None))
