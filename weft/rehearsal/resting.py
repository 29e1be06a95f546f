"""Which steps of a plan rest on stand-ins: what they say of their values may be true of stand-ins alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from weft.plan import Plan, PlannedStep, Value, templates


def resting_on(plan: Plan, made_up: Collection[str] = (), *, inputs: bool = False) -> frozenset[str]:
    """Return the ids of the steps that have stand-ins, or whose values, turns or conditions come from such steps.

    Args:
        plan: What is rehearsed.
        made_up: Ids of steps that have stand-ins for other reasons than their effect.
        inputs: Whether the inputs of the run come from stand-ins.
    """
    around = dict(_with_outer(plan))
    found = {steps[0].id for steps in around.values() if _goes_outside(steps[0])} | set(made_up)
    while True:
        more = {
            id_
            for id_, steps in around.items()
            if id_ not in found and any(speaks_of(each, found, inputs=inputs) for each in steps)
        }
        if not more:
            return frozenset(found)
        found |= more


def _with_outer(plan: Plan) -> Iterator[tuple[str, tuple[PlannedStep, ...]]]:
    """Yield the id of each step with the step itself and the groups around it."""

    def each(step: PlannedStep, outer: tuple[PlannedStep, ...]) -> Iterator[tuple[str, tuple[PlannedStep, ...]]]:
        yield step.id, (step, *outer)
        for inner in (*step.steps, *step.notify, *step.on_error):
            yield from each(inner, (step, *outer))

    for step in (*plan.steps, *plan.final, *plan.on_failure):
        yield from each(step, ())


def _goes_outside(step: PlannedStep) -> bool:
    if step.action is not None:
        return step.action.manifest.effects != "none"
    inner = (*step.steps, *(step.child.steps if step.child is not None else ()))
    return any(_goes_outside(each) for each in inner)


def speaks_of(step: PlannedStep, ids: Collection[str], *, inputs: bool = False) -> bool:
    """Tell whether an expression of a step names one of some steps, or the inputs where these count."""
    parts: tuple[Value, ...] = (dict(step.arguments), step.condition, step.for_each, step.wait_for, step.wait_until)
    for value in parts:
        for located in templates(value):
            for reference in located.template.references:
                if reference.path[0] == "steps" and (len(reference.path) == 1 or reference.path[1] in ids):
                    return True
                if reference.path[0] == "inputs" and inputs:
                    return True
    return False
