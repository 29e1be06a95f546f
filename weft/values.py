"""Checks a JSON value against a JSON Schema (draft 2020-12) and says in our words what is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from weft import wording
from weft.errors import Problem, Where
from weft.quick import Fits, expression, is_plain_schema, quick
from weft.types import DocumentPath, Json, JsonObject

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_Error: TypeAlias = Any
"""A `jsonschema.ValidationError`; its attributes are typed for a case that does not come up, that they are unset."""

TYPE_NAMES = {
    "string": "text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}

LARGEST_EXACT = 2**53
"""Up to here a float holds every integer; a larger one may not be the number that was meant."""


class ValueCheck:
    """One schema, compiled once, for any number of values."""

    def __init__(self, schema: JsonObject) -> None:
        self.schema = schema

    @cached_property
    def _validator(self) -> Validator:
        return _validator_class()(self.schema)

    @cached_property
    def _fits(self) -> Fits:
        return quick(self.schema)

    def problems(self, value: Json, path: DocumentPath = (), *, private: bool = False) -> list[Problem]:
        """Return what is wrong with `value`, which stands at `path`; messages never show it when it is `private`."""
        if foreign := next(_foreign(value, path), None):
            place, what = foreign
            label = wording.label(place) if place else "The value"
            return [_problem(place, "not_json", f"{label} holds {what}, which is not a JSON value.")]
        if self._fits(value):
            return []
        found: dict[str | None, Problem] = {}  # one for each place: of another type, every other rule is broken too
        for error in sorted(self._validator.iter_errors(value), key=_is_secondary):
            for problem in _translated(error, path, private):
                found.setdefault(problem.where.field, problem)
        return list(found.values())


def schema_problems(schema: JsonObject, path: DocumentPath = (), *, references: bool = True) -> list[Problem]:
    """Return what is wrong with a schema itself.

    Args:
        schema: The schema.
        path: Where it stands in its document.
        references: Whether it may refer to parts of itself. Nothing is ever fetched to check a value.
    """
    allowed = "#" if references else ()
    return _misformed(schema, path) or list(_unusable(schema, path, allowed))


def _misformed(schema: JsonObject, path: DocumentPath) -> list[Problem]:
    if is_plain_schema(schema):
        return []
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - costs as much as all else that `weft --help` imports

    checker = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    return [problem for error in checker.iter_errors(schema) for problem in _translated(error, path)]


def _unusable(schema: Any, path: DocumentPath, allowed: str | tuple[str, ...]) -> Iterator[Problem]:
    """Yield what a schema may hold by its form and still cannot be used: other references than `allowed`, bad patterns."""
    if isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from _unusable(value, (*path, index), allowed)
    for key, value in schema.items() if isinstance(schema, dict) else ():
        place = (*path, key)
        if key in ("$ref", "$dynamicRef") and isinstance(value, str) and not value.startswith(allowed):
            message = f"{key} is not allowed here, or leads out of this schema."
            yield _problem(place, "reference", message, "Write the schema itself.")
        patterns = [value] if key == "pattern" else value if key == "patternProperties" else []
        for pattern in patterns:
            if isinstance(pattern, str) and (fault := pattern_fault(pattern)):
                yield _problem(place, "pattern", f"{key!r} holds no regular expression: {fault}.", "Correct it.")
        yield from _unusable(value, place, allowed)


def pattern_fault(pattern: str) -> str | None:
    """Return what is wrong with a regular expression."""
    try:
        expression(pattern)
    except ValueError as error:
        return str(error)
    return None


def whole_integers(value: Json, schema: JsonObject) -> Json:
    """Return `value` with floats such as 2.0 made integers wherever `schema` asks for an integer."""
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if isinstance(value, float) and "integer" in kinds and "number" not in kinds and _is_whole(value):
        return int(value)
    if isinstance(value, list) and isinstance(items := schema.get("items"), dict):
        return [whole_integers(item, items) for item in value]
    if isinstance(value, dict):
        members = schema.get("properties")
        members = members if isinstance(members, dict) else {}
        rest = schema.get("additionalProperties")
        return {key: _whole_member(item, members.get(key, rest)) for key, item in value.items()}
    return value


def _whole_member(value: Json, schema: Json) -> Json:
    return whole_integers(value, schema) if isinstance(schema, dict) else value


def _is_whole(value: float) -> bool:
    return value.is_integer() and abs(value) <= LARGEST_EXACT


@cache
def _validator_class() -> Callable[[JsonObject], Validator]:
    """Return jsonschema's validator with our notions of integer and of the end of a text.

    2.0 is an integer as in JSON Schema, but not 1e300; booleans are no numbers; `$` does not match before a last
    line break, as it does not in ECMA 262, whose regular expressions JSON Schema uses.
    """
    from jsonschema import Draft202012Validator, ValidationError, validators  # noqa: PLC0415 - as above

    def is_integer(_checker: Any, value: Any) -> bool:
        if isinstance(value, float):
            return _is_whole(value)
        return isinstance(value, int) and not isinstance(value, bool)

    def pattern(_validator: Any, wanted: str, value: Any, _schema: Any) -> Iterator[_Error]:
        if isinstance(value, str) and not expression(wanted)(value):
            yield ValidationError("does not match")

    checker = Draft202012Validator.TYPE_CHECKER.redefine("integer", is_integer)
    extend: Any = validators.extend  # it has no types of its own
    extended: Callable[[JsonObject], Validator] = extend(
        Draft202012Validator, {"pattern": pattern}, type_checker=checker
    )
    return extended


def _foreign(value: Any, path: DocumentPath) -> Iterator[tuple[DocumentPath, str]]:
    """Yield the places of what is not JSON: other types, keys that are not text, NaN, infinity, half surrogates."""
    if isinstance(value, str):
        if not value.isascii() and _HALF.search(value):
            yield path, "half of a surrogate pair"
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, str):
                yield from _foreign(item, (*path, key))
            else:
                yield path, f"the key {wording.shown(key)}"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _foreign(item, (*path, index))
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield path, f"the number {value}"
    elif value is not None and not isinstance(value, int):
        yield path, f"a value of type {type(value).__name__}"


_HALF = re.compile("[\ud800-\udfff]")


def _problem(path: DocumentPath, code: str, message: str, remedy: str | None = None) -> Problem:
    return Problem(code, message, remedy, Where(field=wording.field(path) or None))


def _is_secondary(error: _Error) -> bool:
    return error.validator not in ("type", "minLength", "minItems")


def _translated(error: _Error, path: DocumentPath, private: bool = False) -> list[Problem]:
    """Return the problems that one error of jsonschema stands for."""
    place = (*path, *error.relative_path)
    label = wording.label(place) if place else "The value"
    got = "" if private else f", not {wording.shown(error.instance)}"
    limit: Any = error.validator_value
    if "propertyNames" in error.relative_schema_path:
        label = f"The key {wording.shown(error.instance)}"
    match error.validator:
        case None:  # the schema `false`
            return [_problem(place, "not_allowed", f"{label} is not allowed here.")]
        case "anyOf" | "oneOf":
            return _of_union(error, path, private)
        case "type":
            return [_wrong_type(place, label, [error.schema], error.instance, private)]
        case "enum" | "const":
            allowed = limit if error.validator == "enum" else [limit]
            return [_choice(place, label, allowed, "" if private else error.instance)]
        case "required":
            missing = [name for name in limit if name not in error.instance]  # of each of them there is an error
            return [_problem((*place, name), "missing", f"{label} needs {name!r}.") for name in missing]
        case "additionalProperties" | "unevaluatedProperties":
            return _unknown(error, place, label)
    rule = _rule(error.validator, limit, error)
    return [_problem(place, "invalid_value", f"{label} {rule}{got if _is_about_value(rule) else ''}.")]


def _is_about_value(rule: str) -> bool:
    return rule.startswith("must") and not rule.endswith("empty")


def _choice(place: DocumentPath, label: str, allowed: Sequence[Any], got: Any) -> Problem:
    remedy = wording.meant(got, [value for value in allowed if isinstance(value, str)])
    message = f"{label} must be {wording.choice(allowed)}" + (f", not {wording.shown(got)}." if got != "" else ".")
    return _problem(place, "invalid_choice", message, remedy)


def _unknown(error: _Error, place: DocumentPath, label: str) -> list[Problem]:
    schema: Mapping[str, Any] = error.schema
    known = list(schema.get("properties", {}))
    unknown = [key for key in error.instance if key not in known]
    if isinstance(error.validator_value, dict) or "patternProperties" in schema:
        return [_problem(place, "unknown_key", f"{label} has a key that is not allowed.")]
    listed = f"Known keys: {', '.join(known)}." if known else None
    return [
        _problem(
            (*place, key),
            "unknown_key",
            f"{label} has no key {wording.shown(key)}.",
            wording.meant(key, known) or listed,
        )
        for key in unknown
    ]


_RULES: dict[str, Callable[[Any], str]] = {
    "minimum": lambda limit: f"must be at least {limit}",
    "maximum": lambda limit: f"must be at most {limit}",
    "exclusiveMinimum": lambda limit: f"must be more than {limit}",
    "exclusiveMaximum": lambda limit: f"must be less than {limit}",
    "multipleOf": lambda limit: f"must be a multiple of {limit}",
    "minLength": lambda limit: f"must have at least {limit} characters" if limit > 1 else "must not be empty",
    "maxLength": lambda limit: f"must have at most {limit:,} characters",
    "minItems": lambda limit: f"must have at least {limit} items" if limit > 1 else "must not be empty",
    "maxItems": lambda limit: f"must have at most {limit:,} items",
    "minProperties": lambda limit: f"must have at least {limit} keys" if limit > 1 else "must not be empty",
    "maxProperties": lambda limit: f"must have at most {limit:,} keys",
    "uniqueItems": lambda limit: "must not hold the same item twice",
    "pattern": lambda limit: f"must match the pattern {limit}",
    "contains": lambda limit: "must hold an item of the kind that its schema names",
    "not": lambda limit: "must not be of this form",
}


def _rule(keyword: str, limit: Any, error: _Error) -> str:
    if keyword == "dependentRequired":
        pairs = [(key, name) for key, names in limit.items() if key in error.instance for name in names]
        missing = [(key, name) for key, name in pairs if name not in error.instance]
        return f"needs {missing[0][1]!r} beside {missing[0][0]!r}" if missing else "needs another key"
    return _RULES[keyword](limit) if keyword in _RULES else "is not of the form that its schema asks for"


def _wrong_type(
    place: DocumentPath, label: str, schemas: Iterable[Mapping[str, Any]], value: Any, private: bool
) -> Problem:
    kinds: dict[str, None] = {}
    for schema in schemas:
        kind = schema.get("type", [])
        kinds |= dict.fromkeys(kind if isinstance(kind, list) else [kind])
    names = wording.choice([TYPE_NAMES.get(kind, kind) for kind in kinds])
    got = "" if private else f", not {wording.shown(value)}"
    remedy = None if private else wording.retyped(value, kinds)
    return _problem(place, "wrong_type", f"{label} must be {names}{got}.", remedy)


def _of_union(error: _Error, path: DocumentPath, private: bool) -> list[Problem]:
    """Return the problems of that branch of a union which the value was most likely meant for."""
    branches: dict[Any, list[_Error]] = {}
    for inner in error.context or ():
        branches.setdefault(inner.relative_schema_path[0], []).append(inner)
    place = (*path, *error.relative_path)
    label = wording.label(place) if place else "The value"
    if not branches:
        return [_problem(place, "ambiguous", f"{label} fits more than one of the forms that are allowed.")]
    fitting = [errors for errors in branches.values() if not any(_of_type(inner) for inner in errors)]
    if not fitting:
        schemas = [inner.schema for errors in branches.values() for inner in errors if _of_type(inner)]
        return [_wrong_type(place, label, schemas, error.instance, private)]
    chosen = [errors for errors in fitting if not any(map(_of_kind, errors))]
    if not chosen:
        return [_kinds(fitting, place, private)]
    return [problem for inner in min(chosen, key=len) for problem in _translated(inner, place, private)]


def _of_type(error: _Error) -> bool:
    return error.validator == "type" and not error.relative_path


def _of_kind(error: _Error) -> bool:
    """Return whether an error says that the value is of another kind: `role: user` where this branch is for `tool`."""
    return error.validator in ("const", "enum") and len(error.relative_path) <= 1


def _kinds(branches: list[list[_Error]], place: DocumentPath, private: bool) -> Problem:
    """Return one problem that lists what all branches allow at the place where the first one fails."""
    first = next(inner for inner in branches[0] if _of_kind(inner))
    same = [inner for errors in branches for inner in errors if _of_kind(inner)]
    same = [inner for inner in same if list(inner.relative_path) == list(first.relative_path)]
    allowed: list[Any] = []
    for inner in same:
        values = inner.validator_value if inner.validator == "enum" else [inner.validator_value]
        allowed.extend(value for value in values if value not in allowed)
    where = (*place, *first.relative_path)
    got = "" if private else first.instance
    return _choice(where, wording.label(where) if where else "The value", allowed, got)
