"""What a step gives its action, judged as far as it is known before a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from weft import arguments, expressions, wording
from weft.errors import PackError, Problem
from weft.plan.hooks import own_problems
from weft.registry import Action
from weft.sdk import Known
from weft.types import DocumentPath, Json, JsonObject
from weft.workflow import Step, Workflow

CERTAIN = frozenset({"missing", "unknown_key"})
"""Faults of a list or mapping that stay, whatever the templates in it will give."""

BETWEEN = frozenset({"requires", "excludes", "unknown_name"})
"""Faults between parameters, whatever their values."""

STEP_KEYS = frozenset(info.alias or name for name, info in Step.model_fields.items())


def problems(action: Action, given: Mapping[str, Json], known: Known) -> list[Problem]:
    """Return what is wrong with a step's arguments; where a template stands, nothing is judged.

    Args:
        action: What is called.
        given: The arguments as the document has them.
        known: What the action's own rules are told.

    Returns:
        Problems whose `where.field` is the path inside `with`.
    """
    places = {path for name, value in given.items() for path in _templates(value, (name,))}
    whole = {path[0] for path in places if len(path) == 1}
    found = [
        _named(action, problem)
        for problem in arguments.check(action.manifest.all_parameters, given, unknown={str(name) for name in whole})
        if _known(wording.path_of(problem.where.field or ""), problem.code, places)
    ]
    if any(problem.severity == "error" for problem in found):
        return found
    try:
        return found + own_problems(action, constants(given), known)
    except PackError as error:
        return found + list(error.problems)


def child_problems(child: Workflow, given: Mapping[str, Json]) -> list[Problem]:
    """Return what is wrong with what a step gives to a child workflow; where a template stands, nothing is judged."""
    places = {path for name, value in given.items() for path in _templates(value, (name,))}
    whole = {str(path[0]) for path in places if len(path) == 1}
    return [
        replace(problem, code="unknown_input") if problem.code == "unknown_name" else problem
        for problem in arguments.check(arguments.of_inputs(child.inputs), given, unknown=whole)
        if _known(wording.path_of(problem.where.field or ""), problem.code, places)
    ]


def constants(given: Mapping[str, Json]) -> JsonObject:
    """Return the arguments in which no template stands."""
    return {name: value for name, value in given.items() if next(_templates(value, ()), None) is None}


def _templates(value: Json, path: DocumentPath) -> Iterator[DocumentPath]:
    match value:
        case str() if expressions.has_expression(value):
            yield path
        case dict():
            for key, item in value.items():
                yield from _templates(item, (*path, key))
        case list():
            for i, item in enumerate(value):
                yield from _templates(item, (*path, i))


def _known(path: DocumentPath, code: str, places: set[DocumentPath]) -> bool:
    """Whether a fault at `path` is one whatever the templates give."""
    if len(path) == 1 and code in BETWEEN:
        return True
    inside = any(path[: len(place)] == place for place in places)
    around = any(place[: len(path)] == path for place in places)
    return not inside and (not around or code in CERTAIN)


def _named(action: Action, problem: Problem) -> Problem:
    """The problem in the words of the one who writes the step."""
    if problem.code != "unknown_name":
        return problem
    name = problem.where.field or ""
    remedy = "Move it out of 'with': it is a key of the step." if name in STEP_KEYS else problem.remedy
    message = f"{action.id!r} has no parameter {wording.shown(name)}."
    return replace(problem, code="unknown_parameter", message=message, remedy=remedy)
