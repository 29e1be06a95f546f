"""`weft budgets`: what workflows and the workspace may use up, and how much of it they have."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from weft import source, structure
from weft.budgets import units
from weft.budgets.caps import Cap
from weft.budgets.keys import day_of
from weft.budgets.standing import Standing, of_day, of_run, of_workspace, standings, step_budgets
from weft.budgets.telling import money
from weft.cli.opening import open_runtime, workflow_names
from weft.cli.problems import tell
from weft.cli.state import State, connections_option, env_option, home_option, json_option, pack_option, pass_state
from weft.cli.terminal import Screen, clean_line, is_live, symbols, to_json
from weft.errors import WeftError
from weft.journal.base import Listed, RunQuery
from weft.runtime import Runtime
from weft.types import JsonObject
from weft.workflow import Budget, StepBudget, Workflow, seconds
from weft.workspace import WorkspaceBudget, read_workspace, workflow_files

T = TypeVar("T")

RUNS: Final = 10
"""The runs that `show` tells of."""

BAR: Final = 20
"""Cells of a bar."""

AMOUNTS: Final = ("used", "reserved", "left", "of")
"""Headers of the amounts."""

GAP: Final = 2
"""Blanks between two columns."""

SHORTEST: Final = 12
"""Characters that are left of a longer name before there is no table any more."""

WORKSPACE: Final = "workspace"


class _Budgets(click.Group):
    """Without a command it lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = bool(args) and args[0].startswith("-") and args[0] not in ctx.help_option_names
        if options or not (args or ctx.resilient_parsing):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("budgets", cls=_Budgets)
def command() -> None:
    """See what workflows may use up, and how much of it they have.

    \b
    weft budgets               today's caps: used, reserved, left
    weft budgets show digest   those of one workflow, and what its last runs took
    """


def _options(function: Any) -> Any:
    for option in (home_option, env_option, connections_option, pack_option, json_option):
        function = option(function)
    return function


@command.command("list")
@_options
@pass_state
def list_(state: State, *, as_json: bool) -> None:
    """List today's caps of the workspace and of its workflows, and where each stands."""
    workflows = list(_workflows(state))

    async def read(runtime: Runtime) -> _Page:
        day = day_of(runtime.journal.now())
        workspace = read_workspace(runtime.home).budget
        caps = [*of_workspace(workspace, day), *(cap for each in workflows for cap in of_day(each, day))]
        return _Page(day, workspace, workflows, await standings(runtime.journal, caps))

    page = _with_runtime(state, read)
    if as_json:
        click.echo(to_json(page.as_json()))
    elif not page.workspace and not workflows:
        click.echo("No workflow here has a budget. To give one: budget: {day: {cost: 1.00}}")
    elif is_live(sys.stdout):
        _print(page.standings, f"{page.day} (UTC)")
        for each in workflows:
            for line in _caps_of_runs(each):
                Screen(sys.stdout).print(Text.assemble((f"{each.name} ", "bold"), (line, "dim")), soft_wrap=True)
    else:
        for standing in page.standings:
            click.echo("\t".join(_cells(standing)))


@command.command("show")
@click.argument("workflow", shell_complete=workflow_names)
@_options
@pass_state
def show(state: State, *, workflow: str, as_json: bool) -> None:
    """Show the caps of WORKFLOW, and what its last runs have taken."""

    async def read(runtime: Runtime) -> _Whole:
        document = structure.load(source.read_file(runtime.find_workflow(workflow)))
        day = day_of(runtime.journal.now())
        runs = await runtime.journal.runs(RunQuery(workflow=document.name, limit=RUNS))
        of_runs = [(each, await standings(runtime.journal, of_run(document, each.row.id))) for each in runs]
        return _Whole(document, day, await standings(runtime.journal, of_day(document, day)), of_runs)

    whole = _with_runtime(state, read)
    if as_json:
        click.echo(to_json(whole.as_json()))
    elif not whole.workflow.budget and not list(step_budgets(whole.workflow)):
        click.echo(f"{whole.workflow.name} has no budget. To give one: budget: {{cost: 0.50, day: {{cost: 1.00}}}}")
    elif is_live(sys.stdout):
        _show(whole)
    else:
        for standing in (*whole.day_standings, *(each for _, found in whole.runs for each in found)):
            click.echo("\t".join(_cells(standing)))


def _with_runtime(state: State, read: Callable[[Runtime], Awaitable[T]]) -> T:
    async def whole() -> T:
        async with open_runtime(state) as runtime:
            await runtime.opened()
            return await read(runtime)

    return asyncio.run(whole())


def _workflows(state: State) -> Iterator[Workflow]:
    """Yield the workflows of the workspace that have a budget; of one with faults it is said that it is left out."""
    for path in workflow_files().paths:
        try:
            workflow = structure.load(source.read_file(path))
        except WeftError as error:
            tell(error.problems[:1], state)
            continue
        if workflow.budget is not None or next(step_budgets(workflow), None):
            yield workflow


# ---- for programs
@dataclass(frozen=True, slots=True)
class _Page:
    day: str
    workspace: WorkspaceBudget | None
    workflows: Sequence[Workflow]
    standings: Sequence[Standing]

    def as_json(self) -> JsonObject:
        own = [each for each in self.standings if each.cap.kept.scope == WORKSPACE]
        budget = self.workspace
        workspace: JsonObject | None = None
        if budget is not None:
            workspace = {
                "currency": budget.currency,
                "unknown_price": budget.unknown_price,
                "day": _amounts(own, steps=True),
            }
        workflows: list[Any] = [
            _workflow_json(each, [found for found in self.standings if found.cap.kept.of == each.name])
            for each in self.workflows
        ]
        return {"day": self.day, "workspace": workspace, "workflows": workflows}


@dataclass(frozen=True, slots=True)
class _Whole:
    workflow: Workflow
    day: str
    day_standings: Sequence[Standing]
    runs: Sequence[tuple[Listed, Sequence[Standing]]]

    def as_json(self) -> JsonObject:
        runs: list[Any] = [
            {"run_id": run.row.id, "state": run.status.state, **_amounts(found, steps=False)}
            for run, found in self.runs
        ]
        return {"date": self.day, **_workflow_json(self.workflow, self.day_standings), "runs": runs}


def _workflow_json(workflow: Workflow, day: Sequence[Standing]) -> JsonObject:
    budget = workflow.budget
    run: JsonObject = dict.fromkeys(("cost", "tokens", "steps", "time_s"))
    if budget is not None:
        time_s = None if budget.time is None else seconds(budget.time)
        run = {"cost": budget.cost, "tokens": budget.tokens, "steps": budget.steps, "time_s": time_s}
    return {
        "workflow": workflow.name,
        "currency": budget.currency if budget else "USD",
        "unknown_price": budget.unknown_price if budget else "block",
        "run": run,
        "day": _amounts(day, steps=True),
        "steps": {name: {"cost": each.cost, "tokens": each.tokens} for name, each in step_budgets(workflow)},
    }


def _amounts(found: Sequence[Standing], *, steps: bool) -> JsonObject:
    """Return where caps stand, None for what has none."""
    known: JsonObject = {each.cap.kept.what: _standing_json(each) for each in found}
    return {what: known.get(what) for what in ("cost", "tokens", *(("steps",) if steps else ()))}


def _standing_json(standing: Standing) -> JsonObject:
    told = units.money if standing.cap.kept.what == "cost" else int
    return {
        "cap": told(standing.cap.most),
        "used": told(standing.used),
        "reserved": told(standing.reserved),
        "left": told(standing.left),
    }


# ---- for people
def _print(found: Sequence[Standing], title: str) -> None:
    """Print a table, its names cut where they must be; no amount is ever cut, for half of one is another amount."""
    screen = Screen(sys.stdout)
    rows = [_cells(each) for each in found]
    name, *others = (max(map(cell_len, column)) for column in zip((title, "", *AMOUNTS), *rows, strict=True))
    room = screen.width - sum(others) - GAP * len(others)
    if room < min(name, SHORTEST):
        _print_below(screen, rows, title)
        return
    wide = room - BAR - GAP >= min(name, SHORTEST)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(title, no_wrap=True, overflow="ellipsis", style="bold", max_width=room - (BAR + GAP) * wide)
    for header, justify in (("", "left"), *((("", "left"),) if wide else ()), *((each, "right") for each in AMOUNTS)):
        table.add_column(header, justify=justify, no_wrap=True)
    for each, (who, what, *amounts) in zip(found, rows, strict=True):
        table.add_row(who, what, *((_bar(each),) if wide else ()), *amounts)
    screen.print(table)


def _print_below(screen: Screen, rows: Sequence[Sequence[str]], title: str) -> None:
    """Print each amount on a line of its own, where they have no room beside each other."""
    screen.print(Text(title, "dim"), soft_wrap=True)
    for who, what, *amounts in rows:
        screen.print(Text.assemble((who, "bold"), f" {what}"), soft_wrap=True)
        for header, amount in zip(AMOUNTS, amounts, strict=True):
            screen.print(Text.assemble((f"  {header:<{max(map(len, AMOUNTS))}}  ", "dim"), amount), soft_wrap=True)


def _show(whole: _Whole) -> None:
    screen = Screen(sys.stdout)
    if whole.day_standings:
        _print(whole.day_standings, f"{whole.day} (UTC)")
    for line in _caps_of_runs(whole.workflow):
        screen.print(Text(line, "dim"), soft_wrap=True)
    found = [each for _, standing in whole.runs for each in standing]
    if found:
        screen.print()
        _print(found, "run")


def _caps_of_runs(workflow: Workflow) -> Iterator[str]:
    budget = workflow.budget
    currency = budget.currency if budget else "USD"
    if budget is not None:
        own = [*_amounts_of(budget, currency), f"{budget.steps:,} steps" if budget.steps else "", budget.time or ""]
        if told := ", ".join(filter(None, own)):
            yield f"each run: {told}"
    for name, each in step_budgets(workflow):
        yield f"step {clean_line(name)} of each run: {', '.join(_amounts_of(each, currency))}"


def _amounts_of(budget: Budget | StepBudget, currency: str) -> Iterator[str]:
    if budget.cost is not None:
        yield money(units.cap(budget.cost), currency)
    if budget.tokens is not None:
        yield f"{budget.tokens:,} tokens"


def _cells(standing: Standing) -> list[str]:
    """Return whose cap it is, of what, and what is used, reserved, left, and allowed."""
    kept = standing.cap.kept
    name = WORKSPACE if kept.scope == WORKSPACE else clean_line(kept.of)
    amounts = (standing.used, standing.reserved, standing.left, standing.cap.most)
    return [name, kept.what, *(_text(standing.cap, each) for each in amounts)]


def _text(cap: Cap, amount: int) -> str:
    return money(amount, cap.kept.currency) if cap.kept.what == "cost" else f"{amount:,}"


def _bar(standing: Standing) -> Text:
    """Draw what is used, reserved and left: `████▒▒··············`."""
    used, reserved, left = ("█", "▒", "·") if symbols(sys.stdout).bar == "│" else ("#", "=", ".")
    most = max(standing.cap.most, standing.used + standing.reserved, 1)
    filled = -(-standing.used * BAR // most)
    upto = -(-(standing.used + standing.reserved) * BAR // most)
    full = "yellow" if not standing.left else "green"
    return Text.assemble((used * filled, full), (reserved * (upto - filled), "cyan"), (left * (BAR - upto), "dim"))
