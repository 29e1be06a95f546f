"""What rendered values of a document must be, said with the place where they stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from weft import arguments
from weft.engine.results import StepResult
from weft.errors import Problem, WeftError
from weft.plan import Located, Plan, PlannedStep, Value, templates
from weft.types import Json, JsonObject
from weft.workflow import seconds

LONGEST_WAIT_S: Final = 3650 * 86_400.0
"""Of a `wait`, as in documents."""


def is_computed(value: Value) -> bool:
    """Tell whether a value holds an expression."""
    return any(True for _ in templates(value))


def with_steps(scope: Mapping[str, Any], results: Mapping[str, StepResult]) -> dict[str, Any]:
    """Return a scope that knows these steps, too."""
    return {**scope, "steps": {**scope["steps"], **{name: result.in_scope() for name, result in results.items()}}}


def first_failure(steps: Iterable[PlannedStep], results: Mapping[str, StepResult]) -> StepResult | None:
    """Return the result of the first step, in document order, that failed."""
    return next((each for step in steps if (each := results.get(step.id)) is not None and each.failed), None)


def problem_of(result: StepResult | None) -> Problem | None:
    return None if result is None else result.problem or Problem("failed", "A step failed.")


def items(step: PlannedStep, value: Json) -> list[Json]:
    """Return the items of a `for_each`.

    Raises:
        WeftError: It is no list.
    """
    if not isinstance(value, list):
        raise WeftError(
            f"`for_each` needs a list, got {_kind(value)}.",
            code="not_a_list",
            where=step.for_each.where() if isinstance(step.for_each, Located) else step.where(),
        )
    return value


def names(step: PlannedStep, value: Json) -> tuple[str, ...]:
    """Return a list of names without doubles; a single one may stand for itself, and a list for its own.

    Raises:
        WeftError: One of them is none.
    """
    found: dict[str, None] = {}
    for each in value if isinstance(value, list) else [value]:
        for name in each if isinstance(each, list) else [each]:
            if not isinstance(name, str) or not name.strip():
                where = step.who.where() if isinstance(step.who, Located) else step.where()
                raise WeftError(f"`approval.who` needs names, got {_kind(name)}.", code="not_a_name", where=where)
            found[name] = None
    return tuple(found)


def duration(step: PlannedStep, key: str, written: Value, value: Json) -> float:
    """Return the length of a wait in seconds; `key` and `written` say what of the document it is.

    Raises:
        WeftError: It is no duration.
    """
    try:
        length = seconds(value) if isinstance(value, str) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        length = -1.0
    if isinstance(value, bool) or not 0 <= length <= LONGEST_WAIT_S:
        raise WeftError(
            f"`{key}` needs a duration of at most 3650d, like '90s' or '1h30m', got {_kind(value)}.",
            code="not_a_duration",
            where=written.where() if isinstance(written, Located) else step.where(),
        )
    return length


def instant(step: PlannedStep, value: Json, latest: float) -> float:
    """Return the instant until which to wait, in seconds since 1970.

    Raises:
        WeftError: It is none, or is too far away.
    """
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise WeftError(
            f"`wait.until` needs an instant with its offset like '2026-11-23T08:00:00+01:00', got {_kind(value)}.",
            code="not_an_instant",
            where=step.wait_until.where() if isinstance(step.wait_until, Located) else step.where(),
        )
    if found.timestamp() > latest:
        raise WeftError(
            "`wait.until` is more than 3650d after the run's start.",
            code="wait_too_long",
            remedy="Wait for less, or start another run then.",
            where=step.wait_until.where() if isinstance(step.wait_until, Located) else step.where(),
        )
    return found.timestamp()


def inputs(plan: Plan, given: Mapping[str, Json]) -> JsonObject:
    """Return the inputs of a child run, checked and complete.

    Raises:
        WeftError: They do not fit what the child declares.
    """
    parameters = arguments.of_inputs(plan.workflow.inputs)
    problems = [problem for problem in arguments.check(parameters, given) if problem.severity == "error"]
    if problems:
        raise WeftError(problems=problems)
    return arguments.with_defaults(parameters, given)


def _kind(value: Value) -> str:
    named = {str: "a text", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    return named.get(type(value), "nothing")
