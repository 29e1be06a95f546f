"""Says of most valid values that they are valid, much sooner than a whole validator of JSON Schema could.

It knows the usual keywords and values of JSON alone. Where it is not sure it says no, and the validator decides: so it
lets nothing pass that the validator would refuse, and never has to say what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

from pydantic_core import SchemaError, SchemaValidator, core_schema

from weft.types import JsonObject

Fits: TypeAlias = Callable[[Any], bool]

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_NOTES: Final = frozenset(
    {"title", "description", "default", "examples", "readOnly", "writeOnly", "$schema", "$defs", "$comment"}
)
_BESIDE: Final = {"additionalProperties": "properties", "then": "if", "else": "if"}
"""Keywords that are looked at together with another one."""

MOST_FOLLOWED: Final = 5_000
"""References that are followed for one value.

Where a schema leads back to itself, each level of a value that is not sure to fit doubles what there is to try: the
validator, which is sure, is done long before.
"""


@dataclass(slots=True)
class _Whole:
    """The schema that references are of."""

    schema: JsonObject
    left: int = 0  #: references that may still be followed for the value that is looked at


_COUNT: Final = frozenset({"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"})
_LIMIT: Final = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_TEXT: Final = frozenset({"title", "description", "pattern", "format", "$ref", "$comment"})
_SCHEMA: Final = frozenset({"items", "additionalProperties", "not", "if", "then", "else"})
_SCHEMAS: Final = frozenset({"allOf", "anyOf", "oneOf"})


def is_plain_schema(schema: object) -> bool:
    """Tell whether something is a schema by its form: true only of what the meta-schema of draft 2020-12 allows.

    A validator takes a hundred times as long, most of it for being loaded.
    """
    return isinstance(schema, bool) or (
        isinstance(schema, dict) and all(_is_plain(keyword, value) for keyword, value in schema.items())
    )


def _is_plain(keyword: object, value: Any) -> bool:
    match keyword:
        case "type":
            names = value if isinstance(value, list) else [value]
            return bool(names) and all(isinstance(name, str) and name in _TYPES for name in names) and _unique(names)
        case "properties" | "$defs":
            return isinstance(value, dict) and all(map(is_plain_schema, value.values()))
        case "required":
            return isinstance(value, list) and all(isinstance(name, str) for name in value) and _unique(value)
        case "enum" | "examples":
            return isinstance(value, list)
        case "const" | "default":
            return True
        case "uniqueItems":
            return isinstance(value, bool)
        case _ if keyword in _SCHEMA:
            return is_plain_schema(value)
        case _ if keyword in _SCHEMAS:
            return isinstance(value, list) and bool(value) and all(map(is_plain_schema, value))
        case _ if keyword in _COUNT:
            return isinstance(value, int) and not isinstance(value, bool) and value >= 0
        case _ if keyword in _LIMIT:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            return keyword in _TEXT and isinstance(value, str)


def _unique(names: Sequence[str]) -> bool:
    return len(set(names)) == len(names)


def quick(schema: JsonObject) -> Fits:
    """Return a function that is true only of values that `schema` allows."""
    whole = _Whole(schema)
    test = _fits(schema, whole)
    if "$defs" not in schema:
        return test

    def fits(value: Any) -> bool:
        whole.left = MOST_FOLLOWED
        try:
            return test(value)
        except RecursionError:  # the validator may never come to the branch that leads in a circle
            return False

    return fits


@cache
def expression(pattern: str) -> Fits:
    """Return a function that tells whether a text has what a schema's regular expression looks for.

    The engine is pydantic's, which takes time in proportion to the text (docs.rs/regex, "Untrusted input"). With Python's
    own one a text of forty characters keeps a process busy for years, if a pattern such as `(a+)+` is looked for in it.
    `$` does not match before a last line break, as in ECMA 262.

    Raises:
        ValueError: It is none, or needs look-around or references back, which no such engine has.
    """
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex")).isinstance_python
    except SchemaError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        said = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[-1])
        raise ValueError(said.removeprefix("SchemaError: ")) from None


def _fits(schema: Any, whole: _Whole) -> Fits:
    if schema is True:
        return _any
    if not isinstance(schema, dict):
        return _unsure
    names: list[str] = [name for name in schema if name not in _NOTES]
    keywords = dict.fromkeys(_BESIDE.get(name, name) for name in names)
    if not _RULES.keys() >= keywords.keys():
        return _unsure
    return _all([_RULES[keyword](schema.get(keyword), schema, whole) for keyword in keywords])


def _any(value: Any) -> bool:
    return True


def _unsure(value: Any) -> bool:
    return False


def _all(tests: Sequence[Fits]) -> Fits:
    def fits(value: Any) -> bool:
        for test in tests:  # noqa: SIM110  a generator would cost as much as the tests
            if not test(value):
                return False
        return True

    return tests[0] if len(tests) == 1 else fits


def _type(rule: Any, *_: Any) -> Fits:
    kinds = frozenset(kind for name in (rule if isinstance(rule, list) else [rule]) for kind in _TYPES.get(name, ()))
    return lambda value: type(value) in kinds


def _members(rule: Any, schema: JsonObject, whole: _Whole) -> Fits:
    known = {name: _fits(each, whole) for name, each in (rule or {}).items()}
    other = _fits(schema.get("additionalProperties", True), whole)

    def fits(value: Any) -> bool:
        if isinstance(value, dict):
            for name, member in value.items():
                if not known.get(name, other)(member):
                    return False
        return True

    return fits


def _items(rule: Any, schema: JsonObject, whole: _Whole) -> Fits:
    test = _fits(rule, whole)
    return lambda value: not isinstance(value, list) or all(map(test, value))


def _required(rule: Any, *_: Any) -> Fits:
    names = frozenset(rule)
    return lambda value: not isinstance(value, dict) or names <= value.keys()


def _one_of(rule: Any, *_: Any) -> Fits:
    allowed = frozenset(each for each in rule if isinstance(each, str) or each is None)  # 1 is 1.0, but not true
    return lambda value: (isinstance(value, str) or value is None) and value in allowed


def _any_of(rule: Any, schema: JsonObject, whole: _Whole) -> Fits:
    tests = [_fits(each, whole) for each in rule]
    return lambda value: any(test(value) for test in tests)


def _if(rule: Any, schema: JsonObject, whole: _Whole) -> Fits:
    """Of values that may or may not be meant by `if`, both of what may follow must hold."""
    meant, others = _fits(rule, whole), _is_other(rule)
    then, otherwise = (_fits(schema.get(keyword, True), whole) for keyword in ("then", "else"))
    return lambda value: (then(value) or others(value)) and (otherwise(value) or meant(value))


def _is_other(rule: Any) -> Fits:
    """Return a function that is true only of values that `rule` refuses, by a text that names their kind."""
    members = rule.get("properties", {}) if isinstance(rule, dict) else {}
    choices = {name: each.get("enum", [each.get("const")]) for name, each in members.items() if isinstance(each, dict)}
    named = {name: found for name, found in choices.items() if all(isinstance(each, str) for each in found)}

    def is_other(value: Any) -> bool:
        if not isinstance(value, dict):
            return False
        return any(isinstance(kind := value.get(name), str) and kind not in found for name, found in named.items())

    return is_other


def _reference(rule: Any, schema: JsonObject, whole: _Whole) -> Fits:
    found = re.fullmatch(r"#/\$defs/([A-Za-z0-9_-]+)", str(rule))
    definitions = whole.schema.get("$defs")
    target = definitions.get(found[1]) if found and isinstance(definitions, dict) else None
    made: list[Fits] = []  # later: what refers to itself would be made without end

    def fits(value: Any) -> bool:
        if not whole.left:
            return False
        whole.left -= 1
        if not made:
            made.append(_fits(target, whole))
        return made[0](value)

    return fits


def _pattern(rule: Any, *_: Any) -> Fits:
    found = expression(rule)
    return lambda value: not isinstance(value, str) or found(value)


def _size(kind: type[Sized], holds: Callable[[int, Any], bool]) -> Callable[..., Fits]:
    return lambda rule, *_: lambda value: not isinstance(value, kind) or holds(len(value), rule)


def _number(holds: Callable[[Any, Any], bool]) -> Callable[..., Fits]:
    return lambda rule, *_: lambda value: not isinstance(value, int | float) or holds(value, rule)


_RULES: Final[Mapping[str, Callable[..., Fits]]] = {
    "type": _type,
    "properties": _members,
    "items": _items,
    "required": _required,
    "enum": _one_of,
    "const": lambda rule, *_: _one_of([rule]),
    "anyOf": _any_of,
    "allOf": lambda rule, schema, whole: _all([_fits(each, whole) for each in rule]),
    "if": _if,
    "$ref": _reference,
    "pattern": _pattern,
    "minLength": _size(str, lambda size, rule: size >= rule),
    "maxLength": _size(str, lambda size, rule: size <= rule),
    "minItems": _size(list, lambda size, rule: size >= rule),
    "maxItems": _size(list, lambda size, rule: size <= rule),
    "minimum": _number(lambda value, rule: value >= rule),
    "maximum": _number(lambda value, rule: value <= rule),
}
