"""JSON Schema's faults in our words, and what a schema itself may hold."""

from __future__ import annotations

from typing import Any

import pytest

from weft.values import ValueCheck, schema_problems


@pytest.mark.parametrize(
    ("schema", "value", "told"),
    [
        ({"multipleOf": 2}, 3, "The value must be a multiple of 2, not 3."),
        ({"exclusiveMinimum": 0}, 0, "The value must be more than 0, not 0."),
        ({"exclusiveMaximum": 1}, 1, "The value must be less than 1, not 1."),
        ({"minLength": 2}, "a", 'The value must have at least 2 characters, not "a".'),
        ({"minItems": 2}, [1], "The value must have at least 2 items, not a list of 1."),
        ({"uniqueItems": True}, [1, 1], "The value must not hold the same item twice, not a list of 2."),
        ({"minProperties": 1}, {}, "The value must not be empty."),
        ({"maxProperties": 1}, {"a": 1, "b": 2}, "The value must have at most 1 keys, not a mapping of a, b."),
        ({"const": "x"}, "y", 'The value must be x, not "y".'),
        ({"not": {"type": "string"}}, "y", 'The value must not be of this form, not "y".'),
        ({"contains": {"type": "string"}}, [1], "The value must hold an item of the kind that its schema names, not a list of 1."),
        ({"propertyNames": {"maxLength": 1}}, {"ab": 1}, 'The key "ab" must have at most 1 characters, not "ab".'),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "The value needs 'b' beside 'a'."),
        ({"oneOf": [{"type": "integer"}, {"minimum": 0}]}, 1, "The value fits more than one of the forms that are allowed."),
        ({"anyOf": [{"type": "integer"}, {"type": ["null", "boolean"]}]}, "x", 'The value must be an integer, null or true or false, not "x".'),
        ({"if": {"required": ["a"]}, "then": {"required": ["b"]}}, {"a": 1}, "The value needs 'b'."),
        ({"properties": {"a": False}}, {"a": 1}, "The value is not allowed here."),
        ({"patternProperties": {"^x": {}}, "additionalProperties": False}, {"y": 1}, "The value has a key that is not allowed."),
        ({"enum": [1, "a"]}, True, "The value must be 1 or a, not true."),
        ({"pattern": "^a$"}, "a\n", 'The value must match the pattern ^a$, not "a\\n".'),
    ],
)  # fmt: skip
def test_faults(schema: Any, value: Any, told: str) -> None:
    """Each keyword's fault is one sentence of ours."""
    (problem,) = ValueCheck(schema).problems(value)

    assert problem.message == told


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer"}, 2.0),
        ({"type": "number"}, 3),
        ({"pattern": r"\$"}, "a$b"),
        ({"pattern": "a$"}, "ba"),
        ({"enum": [1]}, 1.0),
    ],
)
def test_what_is_right(schema: Any, value: Any) -> None:
    """Whole floats are integers, integers are numbers, patterns may match anywhere."""
    assert ValueCheck(schema).problems(value) == []


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"type": "text"}, "type"),
        ({"properties": {"a": {"minimum": "1"}}}, "properties.a.minimum"),
        ({"items": {"pattern": "("}}, "items.pattern"),
        ({"patternProperties": {"(": {}}}, "patternProperties"),
        ({"items": {"$ref": "other.json"}}, 'items["$ref"]'),
        ({"allOf": [{"$ref": "https://x.example/s"}]}, 'allOf[0]["$ref"]'),
    ],
)
def test_faults_of_schemas(schema: Any, field: str) -> None:
    """A schema that could not be used, or would fetch something, is told with the place."""
    assert [problem.where.field for problem in schema_problems(schema)] == [field]


def test_property_named_like_a_keyword() -> None:
    """A member may be called `pattern` or `$ref`."""
    assert schema_problems({"properties": {"pattern": {"type": "string"}, "type": {"type": "string"}}}) == []
