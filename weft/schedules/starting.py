"""The run of an instant: its id, its inputs, and what it waits for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeAlias

from weft import expressions
from weft.engine.gates import gate_of
from weft.engine.results import RunFacts
from weft.journal.base import Gate, RunRow
from weft.outcome import encode
from weft.plan import Plan
from weft.schedules.standing import Standing
from weft.schedules.times import Instant
from weft.triggers import trigger_run_id
from weft.types import Json, JsonObject, Scope

Check: TypeAlias = Callable[[Plan, JsonObject], JsonObject]
"""Checks inputs against what a plan declares, and fills in the defaults; raises `InvalidInputs`."""

KIND: Final = "schedule"


def run_id_of(standing: Standing, instant: Instant) -> str:
    """Return the id of the run of an instant; there is no other (rule A11)."""
    return trigger_run_id(KIND, standing.row.workflow, standing.row.id, instant.key)


def run_of(
    planned: Plan, check: Check, standing: Standing, instant: Instant, now: float, *, backfill: bool = False
) -> RunRow:
    """Return the run of an instant.

    Args:
        planned: What it follows.
        check: Judges its inputs.
        standing: Its schedule.
        instant: For which it runs.
        now: The journal's time.
        backfill: It is started by hand, for an instant that is past.

    Raises:
        ExpressionError: A template of its inputs cannot be evaluated.
        InvalidInputs: They do not fit.
    """
    row, says = standing.row, standing.spec.says
    run_id = run_id_of(standing, instant)
    trigger: JsonObject = {
        "type": KIND,
        "schedule": row.id,
        "at": instant.key,
        "timezone": says.timezone,
        "overlap": says.overlap,
    }
    if backfill:
        trigger["backfill"] = True
    facts = RunFacts(run_id, now, {}, trigger, instant.at)
    scope = facts.scope(planned.workflow.variables)
    inputs = check(planned, {name: _rendered(value, scope) for name, value in says.inputs.items()})
    return RunRow(
        run_id,
        row.workflow,
        row.document,
        encode(inputs),
        json.dumps(trigger),
        now,
        instant.at,
        schedule=row.id,
        gate=gate_of(planned, replace(facts, inputs=inputs)) or _gate(standing, backfill=backfill),
    )


def _rendered(value: Json, scope: Scope) -> Json:
    match value:
        case str() if expressions.has_expression(value):
            return expressions.compile(value).render(scope)
        case dict():
            return {key: _rendered(item, scope) for key, item in value.items()}
        case list():
            return [_rendered(item, scope) for item in value]
        case _:
            return value


def _gate(standing: Standing, *, backfill: bool) -> Gate | None:
    """Return what lets the runs of a schedule go on one after another, where the document says nothing of its own."""
    if standing.spec.says.overlap == "allow":
        return None
    key = f"schedule:{standing.row.id}"
    return Gate(f"{key}:backfill" if backfill else key, 1, "queue")
