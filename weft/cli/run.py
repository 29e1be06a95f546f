"""`weft run`: one run, from its document to its last line."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import click

from weft.cli import closing, logs
from weft.cli.exits import ExitCode
from weft.cli.interrupts import Interrupts
from weft.cli.lines import PlainLines, Silence
from weft.cli.live import LiveDisplay
from weft.cli.opening import documents, open_runtime, workflow_names
from weft.cli.problems import tell
from weft.cli.state import (
    State,
    connections_option,
    env_option,
    home_option,
    json_option,
    pack_option,
    pass_state,
)
from weft.cli.terminal import is_live, to_json
from weft.cli.view import RunView
from weft.engine.events import Event, RunStarted
from weft.engine.report import RunReport
from weft.errors import InvalidInputs, Problem, Where
from weft.plan import Plan
from weft.runtime import Runtime
from weft.types import Json, JsonObject

Display: TypeAlias = LiveDisplay | PlainLines


@click.command("run")
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
@pack_option
@connections_option
@env_option
@home_option
@pass_state
def command(
    state: State, *, workflow: str | None, pairs: tuple[str, ...], file: Path | None, as_json: bool, quiet: bool
) -> ExitCode:
    """Run WORKFLOW, a path or a name, and watch it until it ends.

    A name is looked for in workflows/ here, then among the examples of the packs.
    With --json the run's report goes to standard output and the display to standard error.
    """
    log = logs.start(state)
    relay = Relay()
    runtime = open_runtime(state, relay.progress)
    if workflow is None:
        known = sorted({path.stem for path in documents()} | set(runtime.registry.workflows()))
        raise click.UsageError(f"Missing argument 'WORKFLOW'. There are: {', '.join(known)}.")
    plan = runtime.compile(runtime.find_workflow(workflow))
    inputs = runtime.inputs(plan, _from_file(file) | _pairs(pairs), text=bool(pairs))
    code = asyncio.run(Session(state, runtime, plan, relay, as_json=as_json, quiet=quiet).run(inputs))
    if log.has_errors:
        click.echo(f"The log has more: {log.file}", err=True)
    return code


class Relay:
    """Passes on how far a download is, to the display that exists only later."""

    def __init__(self) -> None:
        self.display: Display | None = None

    def progress(self, what: str, done: int, total: int) -> None:
        if self.display is not None:
            self.display.progress(what, done, total)


class Session:
    """One run and those who watch it."""

    def __init__(self, state: State, runtime: Runtime, plan: Plan, relay: Relay, *, as_json: bool, quiet: bool) -> None:
        self._state, self._runtime, self._plan, self._relay = state, runtime, plan, relay
        self._as_json = as_json
        self._view = RunView({step.name: (step.uses, step.title) for step in plan.every_step()})
        self._display = self._relay.display = self._choose_display(quiet)
        self._asked = 0  #: times that somebody asked to stop

    async def run(self, inputs: JsonObject) -> ExitCode:
        """Run to the end, show it, and return the exit code."""
        with Interrupts(self._stop) as interrupts:
            async with self._runtime:
                with self._display:
                    watched = isinstance(self._display, LiveDisplay)
                    report = await self._runtime.run(self._plan, inputs, self._observe, watched=watched)
                    self._display.finish([closing.summary(self._view), *closing.outputs(self._view), *self._mails()])
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
        self._display(event)
        if isinstance(event, RunStarted):
            for _ in range(self._asked):  # it was asked to stop before it had begun
                self._runtime.cancel(event.run_id)

    def _stop(self) -> None:
        self._asked += 1
        again = "cancelling: press Ctrl-C again to stop at once"
        self._display.remark(again if self._asked == 1 else "stopping at once")
        if self._view.run_id:
            self._runtime.cancel(self._view.run_id)

    def _mails(self) -> Iterator[str]:
        outbox = "weft outbox" if self._state.home is None else f"weft outbox --home {self._state.home}"
        connections = {step.name: step.connection for step in self._plan.every_step()}
        return closing.mails(self._view, connections, self._number_of, outbox)

    def _number_of(self, reply: str) -> int | None:
        """Return the number of the mail that the outbox has acknowledged with `reply`."""
        return next((kept.number for kept in reversed(self._runtime.outbox.messages()) if kept.id in reply), None)

    def _print(self, report: RunReport) -> None:
        if report.state == "failed":
            if isinstance(self._display, LiveDisplay):
                click.echo(err=True)
            tell(self._problems(), self._state)
        if self._as_json:
            click.echo(to_json(report.model_dump(mode="json")))

    def _problems(self) -> list[Problem]:
        """Return what the run failed for, first what ended it."""
        found = [self._view.problem, *(step.problem for step in self._view.steps if step.state == "failed")]
        return list(dict.fromkeys(problem for problem in found if problem is not None))


def _pairs(pairs: tuple[str, ...]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE.", param_hint="'--input'")
        found[name] = value
    return found


def _from_file(file: Path | None) -> dict[str, Json]:
    if file is None:
        return {}
    try:
        value = json.loads(sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes())
    except json.JSONDecodeError as error:
        where = Where("standard input" if str(file) == "-" else str(file), error.lineno, error.colno)
        raise InvalidInputs(f"The inputs are not JSON: {error.msg}.", remedy=_ONE_OBJECT, where=where) from None
    except (UnicodeDecodeError, RecursionError):
        raise InvalidInputs(f"The inputs in {str(file)!r} are not JSON.", remedy=_ONE_OBJECT) from None
    if not isinstance(value, dict):
        raise InvalidInputs(f"The inputs in {str(file)!r} are no JSON object.", remedy=_ONE_OBJECT)
    return value


_ONE_OBJECT = 'Give one JSON object, in UTF-8: {"name": "value"}.'
