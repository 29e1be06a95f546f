"""The arguments of an action, or the inputs of a run, against the parameters that declare them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weft import wording
from weft.errors import Problem, Where
from weft.manifest import Condition, Parameter, Widget, value_schema
from weft.types import Json, JsonObject
from weft.values import ValueCheck, whole_integers
from weft.workflow import Input

__all__ = ["check", "of_inputs", "schema", "value_schema", "with_defaults"]

MOST_KEPT = 256


def check(
    parameters: Sequence[Parameter], arguments: Mapping[str, Json], *, unknown: Collection[str] = ()
) -> list[Problem]:
    """Return everything that is wrong with `arguments`: names, values, and the rules between them.

    null counts as not given. A float that is a whole number is an integer; `with_defaults` makes it one.

    Args:
        parameters: What may be given.
        arguments: What is given.
        unknown: Names whose value is not known yet; they count as given, their value is not judged.
    """
    compiled = _compiled(parameters)
    problems = _unknown_names(compiled, (*arguments, *unknown))
    for parameter in parameters:
        name = parameter.name
        if name in unknown:
            problems += _relations(compiled, parameter, arguments, unknown)
        elif (value := arguments.get(name)) is not None:
            problems += compiled.checks[name].problems(value, (name,), private=parameter.secret)
            problems += _relations(compiled, parameter, arguments, unknown)
        elif parameter.required:
            message = f"{name!r} ({parameter.title}) is required."
            problems.append(Problem("missing", message, "Give it a value.", Where(field=name)))
    return list(dict.fromkeys(problems))


def with_defaults(parameters: Sequence[Parameter], arguments: Mapping[str, Json]) -> dict[str, Json]:
    """Return `arguments` that passed `check` as the action takes them.

    What is null or left out gets its default, or is left out if it has none; whole floats become integers.
    """
    compiled = _compiled(parameters)
    complete: dict[str, Json] = {}
    for parameter in parameters:
        value = arguments.get(parameter.name)
        value = parameter.default if value is None else value
        if value is not None:
            complete[parameter.name] = whole_integers(value, compiled.checks[parameter.name].schema)
    return complete


def schema(parameters: Sequence[Parameter]) -> JsonObject:
    """Return the JSON Schema of a whole arguments object, the rules between parameters included."""
    whole: JsonObject = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {parameter.name: value_schema(parameter) for parameter in parameters},
        "required": [parameter.name for parameter in parameters if parameter.required],
        "additionalProperties": False,
    }
    rules: list[Json] = [
        _rule_schema(parameter.name, _required(rule)) for parameter in parameters for rule in parameter.requires
    ]
    rules += [
        _rule_schema(parameter.name, {"not": {"required": [other]}})
        for parameter in parameters
        for other in parameter.excludes
    ]
    return {**whole, "allOf": rules} if rules else whole


def _rule_schema(name: str, consequence: JsonObject) -> JsonObject:
    return {"if": {"required": [name]}, "then": consequence}


def _required(condition: Condition) -> JsonObject:
    required: JsonObject = {"required": [condition.parameter]}
    if condition.values is None:
        return required
    return {**required, "properties": {condition.parameter: {"enum": condition.values}}}


_WIDGETS: dict[str, Widget] = {
    "string": "text",
    "integer": "number",
    "number": "number",
    "boolean": "switch",
    "array": "list",
    "object": "json",
}


def of_inputs(inputs: Mapping[str, Input]) -> tuple[Parameter, ...]:
    """Return a workflow's inputs as parameters, so that form, check and defaults are the same as an action's."""
    return tuple(
        Parameter(
            name=name,
            title=(declared.title or name)[:60],
            description=declared.description or declared.title or name,
            type=declared.type,
            required=declared.required,
            default=declared.default,
            enum=declared.enum,
            minimum=declared.minimum,
            maximum=declared.maximum,
            pattern=declared.pattern,
            widget="select" if declared.enum else _WIDGETS[declared.type],
        )
        for name, declared in inputs.items()
    )


@dataclass(frozen=True)
class _Compiled:
    """What is made of a list of parameters once, because arguments are checked on every call."""

    parameters: Sequence[Parameter]  #: kept, so that no other list takes their identity
    by_name: Mapping[str, Parameter]
    checks: Mapping[str, ValueCheck]


_kept: dict[tuple[int, ...], _Compiled] = {}


def _compiled(parameters: Sequence[Parameter]) -> _Compiled:
    key = tuple(map(id, parameters))
    found = _kept.get(key)
    if found is None:
        if len(_kept) >= MOST_KEPT:
            _kept.clear()
        found = _Compiled(
            tuple(parameters),
            {parameter.name: parameter for parameter in parameters},
            {parameter.name: ValueCheck(value_schema(parameter)) for parameter in parameters},
        )
        _kept[key] = found
    return found


def _unknown_names(compiled: _Compiled, names: Collection[Any]) -> list[Problem]:
    known = compiled.by_name
    return [
        Problem(
            "unknown_name",
            f"There is no {wording.shown(name)} here.",
            wording.meant(name, known) or (f"Known: {', '.join(known)}." if known else "Nothing may be given."),
            Where(field=str(name)),
        )
        for name in dict.fromkeys(names)
        if name not in known
    ]


def _relations(
    compiled: _Compiled, parameter: Parameter, arguments: Mapping[str, Json], unknown: Collection[str]
) -> list[Problem]:
    """Return the broken rules between a parameter that is given and the others."""
    problems = []
    for rule in parameter.requires:
        if rule.parameter not in unknown and not _holds(rule, compiled, arguments):
            values = "" if rule.values is None else f" to be {wording.choice(rule.values)}"
            message = f"{parameter.name!r} needs {rule.parameter!r}{values}."
            remedy = f"Give {rule.parameter!r}, or leave {parameter.name!r} out."
            problems.append(Problem("requires", message, remedy, Where(field=parameter.name)))
    for other in parameter.excludes:
        if other in unknown or arguments.get(other) is not None:
            one, two = sorted((parameter.name, other))  # both may declare it: it stays one problem
            message = f"{one!r} and {two!r} exclude each other."
            problems.append(Problem("excludes", message, "Leave one of them out.", Where(field=two)))
    return problems


def _holds(rule: Condition, compiled: _Compiled, arguments: Mapping[str, Json]) -> bool:
    value = arguments.get(rule.parameter)
    if value is None and rule.parameter in compiled.by_name:
        value = compiled.by_name[rule.parameter].default
    if value is None:
        return False
    return rule.values is None or any(_equal(value, allowed) for allowed in rule.values)


def _equal(value: Json, allowed: Json) -> bool:
    return value == allowed and isinstance(value, bool) == isinstance(allowed, bool)
