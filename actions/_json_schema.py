"""JSON Schema (draft 2020-12) for values from elsewhere: nothing is fetched, and no value makes a rule take for ever.

A regular expression is matched by pydantic's engine, whose time grows with the length of the text alone; Python's own
may need years for thirty characters, and stops the whole process meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, UnknownType, ValidationError
from jsonschema.validators import extend
from pydantic_core import SchemaError as NotAPattern
from pydantic_core import SchemaValidator, core_schema
from referencing import Registry
from referencing.exceptions import Unresolvable

from weft.sdk import ActionError, Json, JsonObject, Problem, Where

MOST_TOLD: Final = 10  #: of the faults that a schema finds
LONGEST_MATCHED: Final = 10_000  #: characters of a text that a pattern is for
_NAMED = frozenset({"properties", "$defs", "definitions", "dependentSchemas"})  #: keywords that hold schemas by name
_DATA = frozenset({"const", "enum", "default", "examples"})  #: keywords that hold values
_SAMPLES: Final[tuple[Json, ...]] = ("", {}, [])
_PATTERN_HELP = "Write it without look-around, back references and \\Z, and with small numbers of repetitions."


def faults(value: Json, schema: JsonObject | None) -> list[str]:
    """Return what the schema finds wrong: places and rules, never the values.

    Raises:
        ActionError: The schema cannot be used (`invalid_schema`), or a text is too long for its pattern (`too_large`).
    """
    if schema is None:
        return []
    validator: Any = _Validator(schema, registry=Registry())  # an empty registry: nothing is ever fetched
    try:
        return [_told(error) for error, _ in zip(validator.iter_errors(value), range(MOST_TOLD), strict=False)]
    except Unresolvable:
        raise _unusable("refers to something outside itself", "Write the schema itself.") from None
    except RecursionError:
        raise _unusable("refers to itself in a circle", "Let a reference lead to a part of the value.") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, UnknownType):
        # A reference may lead to where the check of the schema does not look.
        raise _unusable("refers to a part that is no schema", "Keep such parts under `$defs`.") from None


def problems(schema: JsonObject) -> Iterator[Problem]:
    """Yield why a schema cannot be used."""
    where = Where(field="schema")
    try:
        Draft202012Validator.check_schema(schema, format_checker=FormatChecker(formats=()))
        for part in _parts(schema):
            if isinstance(pattern := part.get("pattern"), str):
                _matcher(pattern)
            if "patternProperties" in part:
                raise _unsupported()
        for value in _SAMPLES:
            faults(value, schema)
    except SchemaError as error:
        place = _place(error) or "it"
        message = f"This is no JSON Schema (draft 2020-12): {place} breaks {error.validator}."
        yield Problem("invalid_schema", message, "Correct the schema.", where)
    except RecursionError:
        yield Problem("invalid_schema", "The schema is nested too deeply.", "Make it flatter.", where)
    except ActionError as error:
        yield from error.at(where).problems
    else:
        for part in _parts(schema):
            references = [part[key] for key in ("$ref", "$dynamicRef") if isinstance(part.get(key), str)]
            if any(not str(reference).startswith("#") for reference in references):
                message = "The schema refers to something outside itself."
                yield Problem("invalid_schema", message, "Write the schema itself.", where)


def _parts(schema: Json) -> Iterator[JsonObject]:
    """Yield every schema in a schema, itself first."""
    if isinstance(schema, dict):
        yield schema
        for key, value in schema.items():
            if key in _NAMED and isinstance(value, dict):
                for part in value.values():
                    yield from _parts(part)
            elif key not in _DATA:
                yield from _parts(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _parts(value)


def _place(error: Any) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")


def _told(error: Any) -> str:
    rule = json.dumps(error.validator_value, ensure_ascii=False)
    rule = rule if len(rule) <= 200 else "…"
    return f"{_place(error) or 'the value'} breaks {error.validator}: {rule}"


def _unusable(what: str, remedy: str) -> ActionError:
    return ActionError(f"The schema {what}.", kind="invalid_schema", effect="none", remedy=remedy)


def _unsupported() -> ActionError:
    remedy = "Use `propertyNames` with a `pattern`, and `additionalProperties` for the values."
    return _unusable("has `patternProperties`, which is not supported", remedy)


# -- rules of its own


@lru_cache(maxsize=64)
def _matcher(pattern: str) -> SchemaValidator:
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except NotAPattern:
        raise _unusable(f"has a pattern that cannot be used: {pattern[:100]!r}", _PATTERN_HELP) from None


def _pattern(validator: Any, pattern: str, value: Any, schema: JsonObject) -> Iterator[ValidationError]:
    if not validator.is_type(value, "string"):
        return
    if len(value) > LONGEST_MATCHED:
        raise ActionError(
            f"The value has a text of {len(value)} characters where the schema has a `pattern`; {LONGEST_MATCHED} are"
            " the most that is matched.",
            kind="too_large",
            effect="none",
            remedy="Use `maxLength` there instead.",
        )
    if not _matcher(pattern).isinstance_python(value):
        yield ValidationError("")


def _pattern_properties(validator: Any, patterns: Any, value: Any, schema: JsonObject) -> Iterator[ValidationError]:
    raise _unsupported()


def _unique_items(validator: Any, wanted: bool, value: Any, schema: JsonObject) -> Iterator[ValidationError]:
    """Compare by hash: each with each other takes hours in a long list."""
    if wanted and validator.is_type(value, "array") and len({_hashable(item) for item in value}) < len(value):
        yield ValidationError("")


def _hashable(value: Json) -> Any:
    """Return what is equal for equal values of JSON alone: 1 is 1.0, and not true."""
    if isinstance(value, dict):
        return dict, frozenset((name, _hashable(item)) for name, item in value.items())
    if isinstance(value, list):
        return list, tuple(_hashable(item) for item in value)
    return isinstance(value, bool), value


_Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {"pattern": _pattern, "patternProperties": _pattern_properties, "uniqueItems": _unique_items},
)
