"""A part of a workflow: up to a step, or a step alone with the outputs of others given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from weft import wording
from weft.errors import InvalidInputs, NotFound, Problem
from weft.plan.model import Plan, PlannedStep, Selection, Value, ancestors, templates
from weft.types import Json


def select(plan: Plan, selection: Selection) -> Plan:
    """Return a plan of the selected steps.

    With `until` these are the step and all that it needs; with `only`, the step alone; of the groups and loops that it
    is in, just what leads to it. Steps with a pin are left out: others see its value as their output. `finally`,
    `on_failure` and `outputs` belong to whole runs, and are left out.

    Raises:
        NotFound: There is no such step.
        InvalidInputs: A pin of an output is missing, or is for no step; every one is named.
    """
    named = selection.until or selection.only
    steps = plan.steps if named is None else _towards(plan.steps, _way(plan, named), alone=selection.only is not None)
    _refuse_unknown_pins(plan, selection.pins)
    kept = tuple(_without(steps, frozenset(selection.pins)))
    if not kept:
        raise InvalidInputs(
            "Every step that would run has a pin.", code="nothing_to_run", remedy="Take one of them out."
        )
    if named is None:
        return replace(
            plan, steps=kept, selection=selection, pins=dict(selection.pins), kept=None, whole=plan.whole or plan
        )
    found = replace(
        plan,
        steps=kept,
        final=(),
        on_failure=(),
        failure_workflow=None,
        outputs={},
        selection=selection,
        pins=dict(selection.pins),
        kept=None,
        whole=plan.whole or plan,
    )
    _refuse_missing_pins(found, selection)
    return found


def _way(plan: Plan, named: str) -> list[str]:
    """Return the ids that lead to a step: of the groups that it is in, then its own.

    Raises:
        NotFound: There is none of this name among the steps and their groups.
    """
    wanted = named.strip("/")
    ways = dict(_ways(plan.steps, ()))
    found = [way for name, way in ways.items() if wanted in (name, way[-1])]
    if len(found) == 1:
        return list(found[0])
    elsewhere = {step.id for step in (*plan.final, *plan.on_failure)}
    message = f"There is no step {named!r}."
    if wanted in elsewhere:
        message = f"Step {named!r} belongs to `finally` or `on_failure`, which a part of a workflow does not have."
    elif found:
        message = f"There are several steps {named!r}."
    remedy = wording.meant(wanted, ways) or f"There are: {', '.join(ways)}."
    raise NotFound(message, code="unknown_step", remedy=remedy)


def _ways(steps: Sequence[PlannedStep], outer: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for step in steps:
        way = (*outer, step.id)
        yield "/".join(way), way
        yield from _ways(step.steps, way)


def _towards(steps: tuple[PlannedStep, ...], way: list[str], *, alone: bool) -> tuple[PlannedStep, ...]:
    """Return the steps of a list that are kept, so that the way leads to its end."""
    wanted, rest = way[0], way[1:]
    seen = frozenset() if alone else ancestors(wanted, {step.id: step.needs for step in steps})
    found = []
    for step in steps:
        if step.id == wanted:
            inner = _towards(step.steps, rest, alone=alone) if rest else step.steps
            found.append(replace(step, steps=inner, needs=tuple(need for need in step.needs if need in seen)))
        elif step.id in seen:
            found.append(step)
    return tuple(found)


def _without(steps: Sequence[PlannedStep], pinned: frozenset[str]) -> Iterator[PlannedStep]:
    """Yield the steps that have no pin; what needed one that has needs what that one needed."""
    gone = {step.id: step.needs for step in steps if step.id in pinned}
    for step in steps:
        if step.id in gone:
            continue
        inner = tuple(_without(step.steps, pinned))
        if step.steps and not inner:
            raise InvalidInputs(
                f"Every step of the group {step.name!r} has a pin.",
                code="nothing_to_run",
                remedy=f"Pin {step.id!r} itself.",
            )
        yield replace(step, steps=inner, needs=_needs(step.needs, gone))


def _needs(needs: Sequence[str], gone: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for need in needs:
        found.update(dict.fromkeys(_needs(gone[need], gone) if need in gone else (need,)))
    return tuple(found)


def _refuse_unknown_pins(plan: Plan, pins: Mapping[str, Json]) -> None:
    known = [step.id for step in plan.every_step()]
    problems = [
        Problem(
            "unknown_step",
            f"The pins have an output for {name!r}, and there is no such step.",
            wording.meant(name, known) or f"There are: {', '.join(known)}.",
        )
        for name in pins
        if name not in known
    ]
    if problems:
        raise InvalidInputs(problems=problems)


def _refuse_missing_pins(plan: Plan, selection: Selection) -> None:
    """Refuse a part whose expressions speak of steps that are neither in it nor pinned."""
    there = {step.id for step in plan.every_step()} | set(selection.pins)
    missing: dict[str, PlannedStep] = {}
    for step in plan.every_step():
        for name in _spoken_of(step):
            if name not in there:
                missing.setdefault(name, step)
    if missing:
        raise InvalidInputs(
            problems=[
                Problem(
                    "missing_pin",
                    f"Step {step.name!r} uses the output of {name!r}, which does not run.",
                    f"Give it in the file of --pin: {name}: …",
                    step.where(),
                )
                for name, step in missing.items()
            ]
        )


def _spoken_of(step: PlannedStep) -> Iterator[str]:
    """Yield the ids of the steps that a step's own expressions name."""
    values: tuple[Value, ...] = (
        dict(step.arguments),
        step.condition,
        step.for_each,
        step.wait_for,
        step.wait_until,
        step.message,
        step.who,
        step.deadline,
    )
    for value in values:
        for located in templates(value):
            for reference in located.template.references:
                if reference.path[0] == "steps" and len(reference.path) > 1 and not reference.optional:
                    yield str(reference.path[1])
