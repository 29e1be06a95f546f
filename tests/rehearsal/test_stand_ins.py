"""Stand-ins: values made up from schemas are valid, the same each time, and small."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.registry import Registry
from weft.rehearsal.stand_in import is_valid, made, merged

SCHEMAS: list[Any] = [
    {},
    True,
    {"type": "string"},
    {"type": "string", "minLength": 30, "maxLength": 40},
    {"type": "string", "maxLength": 1},
    {"type": "string", "format": "date-time"},
    {"type": "string", "pattern": "^[A-Z]$"},
    {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
    {"type": "integer", "minimum": 5},
    {"type": "integer", "maximum": -5},
    {"type": "integer", "exclusiveMinimum": 5, "maximum": 6},
    {"type": "number", "minimum": 0.25, "maximum": 0.5},
    {"type": "integer", "multipleOf": 7, "minimum": 8},
    {"type": ["null", "boolean"]},
    {"const": {"a": 1}},
    {"enum": ["x", "y"]},
    {"type": "array", "items": {"type": "integer"}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "maxItems": 0},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]},
    {"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "boolean"}}, "additionalProperties": True},
    {"type": "object", "minProperties": 2, "additionalProperties": {"type": "integer"}},
    {"anyOf": [{"type": "string", "pattern": "^never[0-9]{9}$"}, {"type": "integer"}]},
    {"oneOf": [{"type": "object", "required": ["kind"], "properties": {"kind": {"const": "a"}}}, {"type": "null"}]},
    {"allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"properties": {"b": {"const": 1}}, "required": ["b"]}]},
    {"$ref": "#/$defs/x", "$defs": {"x": {"type": "array", "items": {"$ref": "#/$defs/y"}}, "y": {"enum": [3]}}},
    {
        "$ref": "#/$defs/tree",
        "$defs": {"tree": {"type": "object", "properties": {"inner": {"$ref": "#/$defs/tree"}}, "required": ["inner"]}},
    },
    {"type": "string", "contentMediaType": "application/json", "contentSchema": {"type": "object", "required": ["n"]}},
]  # fmt: skip


@pytest.mark.parametrize("schema", [schema for schema in SCHEMAS if "tree" not in str(schema)], ids=str)
def test_a_made_value_satisfies_its_schema(schema: Any) -> None:
    """What is made up fits the schema."""
    assert is_valid(made(schema), schema)


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_a_made_value_is_always_the_same_and_small(schema: Any) -> None:
    """Two values for one schema are equal, and none is larger than a page, one that never ends neither."""
    assert made(schema) == made(schema)
    assert len(json.dumps(made(schema))) < 5_000


def test_what_nothing_satisfies_is_null() -> None:
    """A schema that allows nothing gives null, which whoever uses it checks."""
    assert made(False) is None


def test_each_actions_output_can_be_made_from_its_schema_alone(core_registry: Registry) -> None:
    """For every action that is shipped a valid output is made without looking at the example."""
    for action in core_registry.actions():
        schema = action.manifest.output.json_schema
        assert is_valid(made(schema), schema), action.id


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(base=JSON, changes=JSON)
def test_merged_parts_are_those_that_were_given(base: Any, changes: Any) -> None:
    """Merging twice changes nothing more, and mappings keep what was not changed."""
    once = merged(base, changes)

    assert merged(once, changes) == once
    if isinstance(base, dict) and isinstance(changes, dict):
        assert set(once) == {*base, *changes}  # type: ignore[arg-type]
