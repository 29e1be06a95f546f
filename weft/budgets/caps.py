"""Which caps hold for an attempt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from weft.budgets import units
from weft.budgets.keys import Kept
from weft.executor import Call
from weft.workflow import Budget, DayBudget, StepBudget


class OfAll(Protocol):
    """The budget of a workspace."""

    @property
    def currency(self) -> str: ...
    @property
    def day(self) -> DayBudget: ...
    @property
    def unknown_price(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Cap:
    """The most that may be used up of something."""

    kept: Kept
    most: int
    blocks: bool = True  #: whether it keeps back a call of which nobody knows what it may use up


def caps(call: Call, workflow: str, budget: Budget | None, of_all: OfAll | None, day: str) -> tuple[Cap, ...]:
    """Return the caps that an attempt must keep, the narrowest first.

    Args:
        call: The attempt.
        workflow: The name of its workflow.
        budget: The workflow's.
        of_all: The workspace's.
        day: The date in UTC.
    """
    own = budget or _NONE
    found: list[Cap] = []
    if call.step.budget is not None:
        found += of_amounts(call.step.budget, own, Kept("cost", "step", f"{call.run_id} {call.step.path}"))
    if budget is not None:
        found += of_amounts(budget, own, Kept("cost", "run", call.run_id))
        found += of_amounts(budget.day, own, Kept("cost", "workflow", workflow, day))
    if of_all is not None:
        found += of_amounts(of_all.day, of_all, Kept("cost", "workspace", "", day))
    return tuple(found)


_NONE = Budget()


def of_amounts(amounts: StepBudget | Budget | DayBudget | None, budget: Budget | OfAll, kept: Kept) -> Iterator[Cap]:
    """Yield the caps that some amounts of a budget are; `kept` says what they are of."""
    if amounts is None:
        return
    blocks = budget.unknown_price == "block"
    if amounts.cost is not None:
        yield Cap(replace(kept, what="cost", currency=budget.currency), units.cap(amounts.cost), blocks)
    if amounts.tokens is not None:
        yield Cap(replace(kept, what="tokens"), min(amounts.tokens, units.LARGEST), blocks)
    if isinstance(amounts, DayBudget) and amounts.steps is not None:  # those of a run the run counts itself
        yield Cap(replace(kept, what="steps"), min(amounts.steps, units.LARGEST), blocks=False)
