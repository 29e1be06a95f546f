"""What the quick check of values says yes to, and that it never says more than the validator would."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from weft.arguments import value_schema
from weft.packs import discover
from weft.quick import MOST_FOLLOWED, is_plain_schema, quick
from weft.values import ValueCheck

NAMES = st.sampled_from(["a", "b"])
TEXTS = st.sampled_from(["", "a", "b", "a\n", "ab"])
SCALARS: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.5, 1e300]) | TEXTS
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner), max_leaves=6)
KINDS = st.sampled_from(["string", "integer", "number", "boolean", "array", "object", "null"])
SIZES = st.integers(0, 2)
LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "type": KINDS | st.lists(KINDS, min_size=1, max_size=3, unique=True),
    "enum": st.lists(SCALARS, min_size=1, max_size=3),
    "const": SCALARS,
    "required": st.lists(NAMES, unique=True),
    "pattern": st.sampled_from(["a", "^a$", "^b"]),
    "minLength": SIZES,
    "maxLength": SIZES,
    "minItems": SIZES,
    "maxItems": SIZES,
    "minimum": SIZES,
    "maximum": SIZES,
    "uniqueItems": st.just(True),
    "minProperties": SIZES,
    "$ref": st.just("#/$defs/one"),
}


def within(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    members = st.dictionaries(NAMES, inner, max_size=2)
    several = st.lists(inner, min_size=1, max_size=2)
    keywords: dict[str, st.SearchStrategy[Any]] = {
        "properties": members,
        "additionalProperties": inner,
        "patternProperties": members,
        "items": inner,
        "prefixItems": several,
        "anyOf": several,
        "allOf": several,
        "oneOf": several,
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
    }
    return st.fixed_dictionaries({}, optional=keywords)


PLAIN = st.fixed_dictionaries({}, optional=LEAVES) | st.booleans()
FEW = st.sampled_from(sorted(LEAVES)).flatmap(lambda name: st.fixed_dictionaries({name: LEAVES[name]}))
SCHEMAS = st.recursive(FEW | PLAIN, within, max_leaves=6).filter(lambda schema: isinstance(schema, dict))
META = Draft202012Validator(Draft202012Validator.META_SCHEMA)
META_KEYWORDS = {"type", "properties", "$defs", "required", "enum", "uniqueItems", "items", "if", "allOf", "anyOf"} | {
    *("minLength", "maxItems", "minimum", "exclusiveMaximum", "title", "pattern", "$ref", "additionalProperties", "x")
}
DEFINED = st.fixed_dictionaries({}, optional={name: LEAVES[name] for name in ("type", "enum", "const", "minimum")})


@settings(max_examples=400, deadline=None)
@given(schema=SCHEMAS, definition=DEFINED, value=VALUES)
def test_it_lets_nothing_pass_that_the_validator_refuses(schema: Any, definition: Any, value: Any) -> None:
    """Whatever the schema, a value that is let pass at once has no fault."""
    schema = {**schema, "$defs": {"one": definition}}

    assert not quick(schema)(value) or not list(ValueCheck(schema)._validator.iter_errors(value))


@settings(max_examples=400, deadline=None)
@given(schema=SCHEMAS, keyword=st.sampled_from(sorted(META_KEYWORDS)), value=VALUES | KINDS)
def test_no_schema_is_plain_that_the_meta_schema_refuses(schema: Any, keyword: str, value: Any) -> None:
    """Whatever stands under whichever keyword, at the top or further in."""
    for changed in ({**schema, keyword: value}, {"properties": {"a": {**schema, keyword: value}}}):
        assert not is_plain_schema(changed) or not list(META.iter_errors(changed))


def test_the_schemas_of_our_own_actions_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no command loads a validator for them."""
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    assert len(discover().actions()) > 5


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer"}, 1e300),
        ({"enum": [1]}, True),
        ({"if": {"minimum": 0}, "then": {"maximum": 1}}, 2),
        ({"if": {"enum": [2]}, "then": {"maximum": 1}}, 2),
        ({"if": {"minimum": 0}, "else": {"maximum": -3}}, -1),
        ({"if": {"properties": {"a": {"const": "x"}}}, "then": {"required": ["b"]}}, {}),
    ],
)
def test_it_is_not_sure_of_what_is_wrong(schema: Any, value: Any) -> None:
    """What looks nearly right, and what a condition refuses, is left to the validator, which refuses it."""
    assert not quick(schema)(value)
    assert ValueCheck(schema).problems(value)


NODE: Any = {
    "anyOf": [
        {"properties": {"next": {"$ref": "#/$defs/node"}, "size": {"type": "integer"}}},
        {"properties": {"next": {"$ref": "#/$defs/node"}, "size": {"maximum": 0}}},
    ]
}


def test_a_schema_that_leads_back_to_itself_does_not_make_it_slow() -> None:
    """Of 2.0, which is an integer to the validator, it is not sure; it gives up before it has tried all there is."""
    value: Any = {"size": 2.0}
    for _ in range(40):
        value = {"next": value}
    schema: Any = {"$ref": "#/$defs/node", "$defs": {"node": NODE}}

    begun = time.process_time()
    assert not quick(schema)(value)
    assert time.process_time() - begun < 1  # it would be years
    assert not ValueCheck(schema).problems(value)


def test_it_gives_up_on_each_value_by_itself() -> None:
    """One that was too much leaves all that can be looked at to the next."""
    schema: Any = {"items": {"$ref": "#/$defs/one"}, "$defs": {"one": {"type": "integer"}}}
    fits = quick(schema)

    assert [fits([1] * MOST_FOLLOWED), fits([1] * (MOST_FOLLOWED + 1)), fits([1])] == [True, False, True]


def test_a_branch_that_leads_in_a_circle_is_left_to_the_validator() -> None:
    """It never comes to such a branch when one before it fits."""
    circle = {"$ref": "#/$defs/circle"}
    schema: Any = {"anyOf": [{"minProperties": 0}, circle], "$defs": {"circle": circle}}

    assert not quick(schema)({})
    assert not ValueCheck(schema).problems({})


def test_it_is_sure_of_what_actions_give() -> None:
    """The outputs that manifests show are let pass at once, and so are nearly all arguments."""
    actions = discover().actions()
    outputs = [(action.manifest.output.json_schema, action.manifest.output.example) for action in actions]
    arguments = [
        (value_schema(parameter), parameter.example)
        for action in actions
        for parameter in action.manifest.all_parameters
        if parameter.example is not None
    ]

    assert all(quick(schema)(example) for schema, example in outputs)
    assert sum(quick(schema)(example) for schema, example in arguments) > 0.95 * len(arguments)


@pytest.mark.parametrize(
    ("message", "sure"),
    [
        ({"role": "user", "content": "x"}, True),
        ({"role": "user", "content": [{"type": "text", "text": "x"}]}, True),
        ({"role": "assistant", "content": "x"}, True),
        ({"role": "tool", "content": "x", "tool_call_id": "1"}, True),
        ({"role": "tool", "content": "x"}, False),
        ({"role": "user", "content": [{"type": "text"}]}, False),
        ({"role": "user"}, False),
    ],
)
def test_conditions(message: Any, sure: bool) -> None:
    """Where a text names the kind of a value, it is sure of which conditions concern it."""
    manifest = next(each.manifest for each in discover().actions() if each.id == "generate_chat_completion")
    messages = next(each for each in manifest.all_parameters if each.name == "messages")

    assert quick(value_schema(messages))([message]) is sure
