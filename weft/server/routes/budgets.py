"""Budgets: what workflows and the workspace may use up, and how much of it they have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self

from fastapi import Path
from pydantic import Field

from weft import structure
from weft.budgets import units
from weft.budgets.keys import day_of
from weft.budgets.standing import Standing, of_day, of_run, of_workspace, standings, step_budgets
from weft.documents.base import source_of
from weft.engine.report import ProblemReport
from weft.errors import WeftError
from weft.journal.base import RunQuery, State
from weft.server.deps import HouseDep, api, needs
from weft.server.house import House
from weft.server.routes.shapes import Shape
from weft.workflow import Workflow, seconds

router = api("budgets")

RUNS: Final = 10
"""The last runs of a workflow of which it is told what they took."""


class Amount(Shape):
    """Where one cap stands."""

    cap: float
    used: float
    """By attempts that are over."""
    reserved: float
    """By attempts that are under way."""
    left: float

    @classmethod
    def of(cls, standing: Standing) -> Self:
        told = units.money if standing.cap.kept.what == "cost" else int
        amounts = {
            "cap": standing.cap.most,
            "used": standing.used,
            "reserved": standing.reserved,
            "left": standing.left,
        }
        return cls.model_validate({name: told(amount) for name, amount in amounts.items()})


class DayAmounts(Shape):
    """Caps of a day; null where there is none."""

    cost: Amount | None = None
    tokens: Amount | None = None
    steps: Amount | None = None

    @classmethod
    def of(cls, found: Sequence[Standing]) -> Self:
        return cls.model_validate({each.cap.kept.what: Amount.of(each) for each in found})


class RunCaps(Shape):
    """What one run may use up; null where there is no cap."""

    cost: float | None = None
    tokens: int | None = None
    steps: int | None = None
    time_s: float | None = None


class StepCaps(Shape):
    """What one step may use up; null where there is no cap."""

    cost: float | None = None
    tokens: int | None = None


class WorkspaceBudgets(Shape):
    """The caps of everything together."""

    currency: str
    unknown_price: Literal["block", "allow"]
    day: DayAmounts


class WorkflowBudgets(Shape):
    """The caps of one workflow."""

    workflow: str
    currency: str
    unknown_price: Literal["block", "allow"]
    run: RunCaps
    day: DayAmounts
    steps: dict[str, StepCaps]
    """By the step's name: `each/ask`."""


class RunAmounts(Shape):
    """What one run has taken of its caps."""

    run_id: str
    state: State
    cost: Amount | None = None
    tokens: Amount | None = None


class LeftOut(Shape):
    """A workflow that cannot be read."""

    workflow: str
    problem: ProblemReport


class BudgetList(Shape):
    """Today's caps."""

    day: str
    """UTC."""
    workspace: WorkspaceBudgets | None
    workflows: list[WorkflowBudgets]
    """Those that have a budget."""
    left_out: list[LeftOut] = Field(default_factory=list)


class WorkflowBudgetHistory(WorkflowBudgets):
    """The caps of one workflow, and what its last runs have taken."""

    date: str
    runs: list[RunAmounts]


@router.get("/budgets", dependencies=[needs("view")])
async def list_budgets(house: HouseDep) -> BudgetList:
    """List today's caps of the workspace and of its workflows, and where each stands."""
    runtime = house.runtime
    journal = await runtime.opened()
    day, budget = day_of(journal.now()), runtime.settings.budget
    workflows, left_out = await _workflows(house)
    found = await standings(
        journal, [*of_workspace(budget, day), *(cap for each in workflows for cap in of_day(each, day))]
    )
    own = [each for each in found if each.cap.kept.scope == "workspace"]
    workspace = None
    if budget is not None:
        workspace = WorkspaceBudgets(
            currency=budget.currency, unknown_price=budget.unknown_price, day=DayAmounts.of(own)
        )
    return BudgetList(
        day=day,
        workspace=workspace,
        workflows=[
            WorkflowBudgets.model_validate(
                _caps(each, [one for one in found if one not in own and one.cap.kept.of == each.name])
            )
            for each in workflows
        ],
        left_out=left_out,
    )


@router.get("/budgets/{workflow}", dependencies=[needs("view")])
async def show_budget(workflow: Annotated[str, Path(max_length=64)], house: HouseDep) -> WorkflowBudgetHistory:
    """Show the caps of a workflow, and what its last runs have taken."""
    runtime = house.runtime
    journal = await runtime.opened()
    planned = await runtime.plan_of(workflow)
    document, day = planned.workflow, day_of(journal.now())
    runs = []
    for each in await journal.runs(RunQuery(workflow=document.name, limit=RUNS)):
        found = await standings(journal, of_run(document, each.row.id))
        amounts = {one.cap.kept.what: Amount.of(one) for one in found}
        runs.append(RunAmounts.model_validate({"run_id": each.row.id, "state": each.status.state, **amounts}))
    caps = _caps(document, await standings(journal, of_day(document, day)))
    return WorkflowBudgetHistory.model_validate({**caps, "date": day, "runs": runs})


async def _workflows(house: House) -> tuple[list[Workflow], list[LeftOut]]:
    """Return the workflows that have a budget, and those that cannot be read."""
    found, left_out = [], []
    documents = house.runtime.documents
    for each in await documents.list():
        try:
            workflow = structure.load(source_of(await documents.peek(each.name)))
        except WeftError as error:
            told = ProblemReport.of(error.problem)
            if told is not None:
                left_out.append(LeftOut(workflow=each.name, problem=told))
            continue
        if workflow.budget is not None or next(step_budgets(workflow), None):
            found.append(workflow)
    return found, left_out


def _caps(workflow: Workflow, day: Sequence[Standing]) -> dict[str, object]:
    budget = workflow.budget
    run = RunCaps()
    if budget is not None:
        time_s = None if budget.time is None else seconds(budget.time)
        run = RunCaps(cost=budget.cost, tokens=budget.tokens, steps=budget.steps, time_s=time_s)
    return {
        "workflow": workflow.name,
        "currency": budget.currency if budget else "USD",
        "unknown_price": budget.unknown_price if budget else "block",
        "run": run,
        "day": DayAmounts.of(day),
        "steps": {name: StepCaps(cost=each.cost, tokens=each.tokens) for name, each in step_budgets(workflow)},
    }
