"""How much of a budget is used up, reserved and left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from weft.budgets.caps import Cap, OfAll, of_amounts
from weft.budgets.keys import Kept
from weft.journal.base import Journal
from weft.workflow import Step, StepBudget, Workflow


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one cap stands."""

    cap: Cap
    used: int  #: by attempts that are over; one that was cut off counts as it was reserved
    reserved: int  #: by attempts that are under way

    @property
    def left(self) -> int:
        """What may still be reserved; 0 where more was used up than was reserved for it."""
        return max(0, self.cap.most - self.used - self.reserved)


def of_day(workflow: Workflow, day: str) -> tuple[Cap, ...]:
    """Return the caps of a workflow's day."""
    budget = workflow.budget
    return () if budget is None else tuple(of_amounts(budget.day, budget, Kept("cost", "workflow", workflow.name, day)))


def of_run(workflow: Workflow, run_id: str) -> tuple[Cap, ...]:
    """Return the caps of a run that its journal counts: money and tokens."""
    budget = workflow.budget
    return () if budget is None else tuple(of_amounts(budget, budget, Kept("cost", "run", run_id)))


def of_workspace(budget: OfAll | None, day: str) -> tuple[Cap, ...]:
    """Return the caps of everything that is run from a workspace."""
    return () if budget is None else tuple(of_amounts(budget.day, budget, Kept("cost", "workspace", "", day)))


def step_budgets(workflow: Workflow) -> Iterator[tuple[str, StepBudget]]:
    """Yield the budgets of steps with the name of the step, groups before it: `each/ask`."""
    failure = workflow.on_failure.steps if workflow.on_failure else None
    for steps in (workflow.steps, workflow.final, failure):
        yield from _of_steps(steps or (), "")


def _of_steps(steps: Sequence[Step], outer: str) -> Iterator[tuple[str, StepBudget]]:
    for step in steps:
        name = f"{outer}{step.id}"
        if step.budget is not None:
            yield name, step.budget
        further = None if isinstance(step.on_error, str) else step.on_error.steps
        for inner in (step.steps, further):
            yield from _of_steps(inner or (), f"{name}/")


async def standings(journal: Journal, caps: Sequence[Cap]) -> list[Standing]:
    """Return where caps stand, in their order."""
    keys = [cap.kept.key for cap in caps]
    if not keys:
        return []
    whole = await journal.used(keys)
    reserved = await journal.used(keys, reserved=True)
    # Between the two questions something may have been reserved.
    open_ = {key: min(whole[key], reserved[key]) for key in keys}
    return [Standing(cap, whole[cap.kept.key] - open_[cap.kept.key], open_[cap.kept.key]) for cap in caps]
