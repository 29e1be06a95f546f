"""`weft budgets`: what workflows and the workspace may use up, and how much of it they have."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from weft import structure
from weft.budgets import units
from weft.budgets.caps import Cap
from weft.budgets.keys import Kept, What, day_of
from weft.budgets.standing import Standing, of_day, of_run, of_workspace, standings, step_budgets
from weft.budgets.telling import money
from weft.cli import remote
from weft.cli.opening import open_runtime, workflow_names
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
from weft.cli.terminal import Screen, clean_line, duration, is_live, symbols, to_json
from weft.errors import Problem, WeftError
from weft.journal.base import Listed, RunQuery
from weft.runtime import Runtime
from weft.types import JsonObject
from weft.workflow import Budget, StepBudget, Workflow, seconds
from weft.workspace import WorkspaceBudget, read_workspace

if TYPE_CHECKING:
    from weft.client import models

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
    for option in (server_option, home_option, env_option, connections_option, pack_option, json_option):
        function = option(function)
    return function


@command.command("list")
@_options
@pass_state
def list_(state: State, *, as_json: bool) -> None:
    """List today's caps of the workspace and of its workflows, and where each stands."""

    async def read(runtime: Runtime) -> _Page:
        workflows = await _workflows(runtime, state)
        day = day_of(runtime.journal.now())
        workspace = read_workspace(runtime.home).budget
        caps = [*of_workspace(workspace, day), *(cap for each in workflows for cap in of_day(each, day))]
        return _Page(day, workspace, workflows, await standings(runtime.journal, caps))

    if state.server:
        _list_there(state, remote.with_client(state, lambda client: client.list_budgets()), as_json=as_json)
        return
    page = _with_runtime(state, read)
    if as_json:
        click.echo(to_json(page.as_json()))
    elif not page.workspace and not page.workflows:
        click.echo("No workflow here has a budget. To give one: budget: {day: {cost: 1.00}}")
    elif is_live(sys.stdout):
        _print(page.standings, f"{page.day} (UTC)")
        for each in page.workflows:
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
        document = structure.load(await runtime.source_at(workflow))
        day = day_of(runtime.journal.now())
        runs = await runtime.journal.runs(RunQuery(workflow=document.name, limit=RUNS))
        of_runs = [(each, await standings(runtime.journal, of_run(document, each.row.id))) for each in runs]
        return _Whole(document, day, await standings(runtime.journal, of_day(document, day)), of_runs)

    if state.server:
        _show_there(remote.with_client(state, lambda client: client.show_budget(workflow)), as_json=as_json)
        return
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


async def _workflows(runtime: Runtime, state: State) -> list[Workflow]:
    """Return the workflows of the workspace that have a budget; of one with faults it is said that it is left out."""
    found = []
    for facts in await runtime.documents.list():
        try:
            workflow = structure.load(await runtime.source_of(facts.name))
        except WeftError as error:
            tell(error.problems[:1], state)
            continue
        if workflow.budget is not None or next(step_budgets(workflow), None):
            found.append(workflow)
    return found


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


# ---- on a server
def _list_there(state: State, page: models.BudgetList, *, as_json: bool) -> None:
    for one in page.left_out:
        tell([Problem(one.problem.code, one.problem.message, one.problem.remedy)], state)
    found: list[Standing] = []
    if page.workspace is not None:
        found += _standings(page.workspace.day, Kept("cost", "workspace", "", page.day), page.workspace.currency)
    for each in page.workflows:
        found += _standings(each.day, Kept("cost", "workflow", each.workflow, page.day), each.currency)
    if as_json:
        value = remote.told(page)
        assert isinstance(value, dict)  # noqa: S101  a model
        click.echo(to_json({name: value[name] for name in ("day", "workspace", "workflows")}))
    elif page.workspace is None and not page.workflows:
        click.echo("No workflow there has a budget. To give one: budget: {day: {cost: 1.00}}")
    elif is_live(sys.stdout):
        _print(found, f"{page.day} (UTC)")
        for each in page.workflows:
            for line in _caps_there(each):
                Screen(sys.stdout).print(Text.assemble((f"{each.workflow} ", "bold"), (line, "dim")), soft_wrap=True)
    else:
        for standing in found:
            click.echo("\t".join(_cells(standing)))


def _show_there(whole: models.WorkflowBudgetHistory, *, as_json: bool) -> None:
    day = list(_standings(whole.day, Kept("cost", "workflow", whole.workflow, whole.date), whole.currency))
    runs = [one for run in whole.runs for one in _standings(run, Kept("cost", "run", run.run_id), whole.currency)]
    caps = list(_caps_there(whole))
    if as_json:
        click.echo(to_json(remote.told(whole)))
    elif not day and not runs and not caps:
        click.echo(f"{whole.workflow} has no budget. To give one: budget: {{cost: 0.50, day: {{cost: 1.00}}}}")
    elif is_live(sys.stdout):
        _show_tables(day, whole.date, caps, runs)
    else:
        for standing in (*day, *runs):
            click.echo("\t".join(_cells(standing)))


def _standings(amounts: Any, kept: Kept, currency: str) -> Iterator[Standing]:
    """Yield where the caps stand that a server has told of; those that it has not told of are none."""
    names: tuple[What, ...] = ("cost", "tokens", "steps")
    for what in names:
        told = getattr(amounts, what, None)
        if told is not None:
            read = units.cap if what == "cost" else int
            cap = Cap(replace(kept, what=what, currency=currency if what == "cost" else kept.currency), read(told.cap))
            yield Standing(cap, read(told.used), read(told.reserved))


def _caps_there(told: models.WorkflowBudgets | models.WorkflowBudgetHistory) -> Iterator[str]:
    run = told.run
    own = [
        "" if run.cost is None else money(units.cap(run.cost), told.currency),
        "" if run.tokens is None else f"{run.tokens:,} tokens",
        "" if run.steps is None else f"{run.steps:,} steps",
        "" if run.time_s is None else duration(run.time_s),
    ]
    if line := ", ".join(filter(None, own)):
        yield f"each run: {line}"
    for name, each in told.steps.items():
        amounts = [
            "" if each.cost is None else money(units.cap(each.cost), told.currency),
            "" if each.tokens is None else f"{each.tokens:,} tokens",
        ]
        yield f"step {clean_line(name)} of each run: {', '.join(filter(None, amounts))}"


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
    found = [each for _, standing in whole.runs for each in standing]
    _show_tables(whole.day_standings, whole.day, list(_caps_of_runs(whole.workflow)), found)


def _show_tables(of_day: Sequence[Standing], day: str, caps: Sequence[str], found: Sequence[Standing]) -> None:
    screen = Screen(sys.stdout)
    if of_day:
        _print(of_day, f"{day} (UTC)")
    for line in caps:
        screen.print(Text(line, "dim"), soft_wrap=True)
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
