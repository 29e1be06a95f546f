"""Parse JSON, and the strict reader behind it."""

from __future__ import annotations

import contextlib
import importlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.sdk import ActionError

parse_json = importlib.import_module("weft_core.actions.parse_json")
json_text = importlib.import_module("weft_core.actions._json_text")

NOTHING: Any = None  #: the action needs nothing of its context


def parse(text: str, **given: Any) -> Any:
    return parse_json.parse_json(parse_json.Arguments.model_validate({"text": text, **given}), NOTHING)


def refused(text: str, **given: Any) -> ActionError:
    with pytest.raises(ActionError) as caught:
        parse(text, **given)
    assert caught.value.effect == "none"
    assert not caught.value.retryable
    return caught.value


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)
containers = st.lists(values, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values)


# -- round trips and no crashes


@given(values, st.booleans(), st.sampled_from([None, 2]))
def test_what_was_written_is_read(value: Any, ascii_only: bool, indent: int | None) -> None:
    """Every JSON value comes back as it was, integers of any size included."""
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert parse(f"\ufeff {text}\n") == value
    assert parse(text, inside=True) == value


@given(
    containers,
    st.sampled_from(["```json\n{}\n```", "Sure!\n\n```\n{}\n```\nBye", "Here it is: {}.", "~~~~JSON\n{}\n~~~~\n"]),
)
def test_what_a_model_wrapped_is_found(value: Any, wrapping: str) -> None:
    """In a block or in a sentence, the one value that stands there is found."""
    text = json.dumps(value)
    assert parse(wrapping.replace("{}", text), inside=True) == value


@given(st.text(st.sampled_from('{}[]",:\\u0dDaeE+-.1 \n\t`~jsontrue\x00é')), st.booleans())
def test_any_text_is_read_or_refused(text: str, inside: bool) -> None:
    """Whatever stands there, the answer is a value or an `ActionError`, never another fault."""
    with contextlib.suppress(ActionError):
        value = parse(text, inside=inside)
        assert json.loads(json.dumps(value)) == value


@given(st.text(max_size=50))
def test_python_agrees(text: str) -> None:
    """What is read is what Python's own reader makes of it."""
    try:
        value = parse(text)
    except ActionError:
        return
    assert value == json.loads(text.removeprefix("\ufeff"))


# -- what is refused


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("", 1, 1),
        ("  \n ", 2, 2),
        ("{", 1, 2),
        ('{"a": 1,}', 1, 9),
        ('{"a": 1} x', 1, 10),
        ('{"a": 1}{"b": 2}', 1, 9),
        ("{'a': 1}", 1, 2),
        ('{"a"\n: tru}', 2, 3),
        ('["a\nb"]', 1, 4),
        ('["\\x"]', 1, 3),
        ("[1, 2", 1, 6),
        ("[01]", 1, 3),
        ("[+1]", 1, 2),
        ("[1.]", 1, 3),
        ("[.5]", 1, 2),
        ("[0x10]", 1, 3),
        ("// note\n[]", 1, 1),
        ("\u00a0[]", 1, 1),
    ],
)
def test_what_is_not_json(text: str, line: int, column: int) -> None:
    """Line and column are told, and nothing of the text."""
    error = refused(text)
    assert (error.kind, error.details) == ("not_json", {"line": line, "column": column})
    assert f"line {line}, column {column}" in str(error)


@pytest.mark.parametrize(
    ("text", "why", "column"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "stands twice", 18),
        ('[{"x": {"a": 1}}, {"a": {"b": "{", "\\u0062": 1}}]', "stands twice", 36),
        ('{"a": "\\",\\"a\\":", "b": ["a", "a"], "a": {}}', "stands twice", 37),
        ("[NaN]", "NaN", 1),
        ("-Infinity", "Infinity", 1),
        ("[1e999]", "too large", 1),
        ("[-1e999]", "too large", 1),
        ("1" * 1001, "digits", 1),
        ("[" * 101 + "]" * 101, "nested", 1),
        ("[" * 100_000, "nested", 1),
        ('{"a":' * 100_000, "nested", 1),
        ('["\\ud800"]', "surrogate", 3),
        ('["\\uDC00\\ud800"]', "surrogate", 3),
        ('{"\\udfff": 1}', "surrogate", 3),
    ],
)
def test_what_readers_understand_differently(text: str, why: str, column: int) -> None:
    """Names that stand twice, numbers that are none, and values that cannot be kept are refused."""
    error = refused(text)
    assert error.kind == "not_json"
    assert why in str(error)
    assert error.details["column"] == column


def test_what_is_allowed() -> None:
    """The limits themselves, pairs of surrogates and whole numbers of any use are fine."""
    assert parse("[" * 100 + "]" * 100) is not None
    assert parse('"\\ud83d\\ude00 \\\\ud800"') == "😀 \\ud800"
    assert parse("9" * 1000) == int("9" * 1000)
    assert parse('{"a": {"a": [{"a": 1}, {"a": 2}]}, "b": {"a": 1}}')["b"] == {"a": 1}
    assert parse(" null ") is None


def test_decimals_as_they_are_written() -> None:
    """With `decimals: text` amounts keep every digit; integers are numbers all the same."""
    text = '{"price": 1.10, "rate": 0.1234567890123456789, "n": 3, "big": 1e3}'
    assert parse(text, decimals="text") == {"price": "1.10", "rate": "0.1234567890123456789", "n": 3, "big": "1e3"}
    assert parse(text)["price"] == 1.1
    assert parse("[-1E999]", decimals="text") == ["-1E999"]
    assert "digits" in str(refused("1." + "1" * 1000, decimals="text"))


def test_the_text_is_never_shown() -> None:
    """No error holds a word of what was read."""
    for text in ("canary7 {", '{"canary7": 1, "canary7": 2}', '{"a": canary7}', '"canary7'):
        for inside in (False, True):
            error = refused(text, inside=inside)
            assert "canary7" not in str(error) + json.dumps(error.details)


# -- inside other text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('Sure, here you go:\n\n```json\n{"a": 1}\n```\nAnything else?', {"a": 1}),
        ('```\n["x"]\n```', ["x"]),
        ('~~~ json ~~~\n{"a": 1}', {"a": 1}),
        ('````json\n{"a": "```"}\n````', {"a": "```"}),
        ('  ```JSON  \n  {"a": 1}\n  ```', {"a": 1}),
        ('```json\n"only a text"\n```', "only a text"),
        ('```python\n{"not": "this"}\n```\n```json\n{"but": "this"}\n```', {"but": "this"}),
        ('```json\n{"cut fence": true}', {"cut fence": True}),
        ('The answer is {"a": {"b": [1]}}, I think.', {"a": {"b": [1]}}),
        ('As [the docs] say {here}: {"a": 1}', {"a": 1}),
        ('{"a": 1}\n\nHope this helps {:', {"a": 1}),
        ("[]", []),
        ("true", True),
    ],
)
def test_json_within_text(text: str, value: Any) -> None:
    """Blocks labelled json come first, then blocks without a label, then what stands in the text."""
    assert parse(text, inside=True) == value
    if text[0] not in "[t":
        assert refused(text).kind == "not_json"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "no_json"),
        ("I cannot answer that.", "no_json"),
        ("The answer is 42 and true.", "no_json"),
        ("{ [ {", "no_json"),
        ('{"a": 1} or {"a": 2}', "ambiguous"),
        ('See [1]: {"a": 1}', "ambiguous"),
        ('```json\n{"a": 1}\n```\n```json\n{"a": 2}\n```', "ambiguous"),
        ('{"items": [{"a": 1}, {"a": 2', "not_json"),
        ('{"items": [{"a": 1}, {"a": "cut', "not_json"),
        ('Here: {"items": [{"a": 1}, {"a": 2}]', "not_json"),
        ('```json\n{"items": [{"a": 1}]\n```\nor {"b": 1}', "not_json"),
        ('{"a": {"x": 1}, "a": {"y": 2}}', "not_json"),
        ('It is {"a": NaN, "b": {"c": 1}}', "not_json"),
    ],
)
def test_nothing_is_guessed(text: str, kind: str) -> None:
    """Several values, a broken one and a part of a broken one are errors: an answer that was cut is not half read."""
    assert refused(text, inside=True).kind == kind


def test_a_schema_tells_which_is_meant() -> None:
    """Of several values the one that fits is taken."""
    schema = {"type": "object", "required": ["a"]}
    assert parse('See [1] and {"b": 1}: {"a": 1}', inside=True, schema=schema) == {"a": 1}
    assert refused('{"a": 1} {"a": 2}', inside=True, schema=schema).kind == "ambiguous"
    assert refused("[1] [2]", inside=True, schema=schema).kind == "schema_mismatch"


@pytest.mark.parametrize(
    "text",
    [
        "{" * 1_000_000,
        "[" * 1_000_000,
        "[1," * 300_000,
        '{"a": [' * 100_000,
        "[ " * 500_000 + "x",
        '["' * 300_000,
        "```json\n" * 100_000,
        "`" * 1_000_000,
        "```" + " " * 1_000_000,
        '{"' + "a" * 1_000_000,
        '[{"a":1},' * 100_000,
    ],
)
def test_a_hostile_text_takes_no_time(text: str) -> None:
    """However the text is made, looking for JSON in it ends soon."""
    begun = time.process_time()
    refused(text, inside=True)
    assert time.process_time() - begun < 10  # what is not linear takes minutes


# -- schema

SCHEMA = {
    "type": "object",
    "properties": {"mood": {"enum": ["good", "bad"]}, "items": {"type": "array", "items": {"$ref": "#/$defs/item"}}},
    "required": ["mood"],
    "additionalProperties": False,
    "$defs": {"item": {"type": "object", "properties": {"price": {"type": "number", "minimum": 0}}}},
}


def test_a_value_that_fits() -> None:
    """References within the schema are followed."""
    assert parse('{"mood": "good", "items": [{"price": 1}]}', schema=SCHEMA) == {
        "mood": "good",
        "items": [{"price": 1}],
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[]", 'the value breaks type: "object"'),
        ("{}", 'the value breaks required: ["mood"]'),
        ('{"mood": "canary7"}', 'mood breaks enum: ["good", "bad"]'),
        ('{"mood": "bad", "items": [{}, {"price": -7.25}]}', "items[1].price breaks minimum: 0"),
        ('{"mood": "bad", "canary7": 1}', "the value breaks additionalProperties: false"),
    ],
)
def test_a_value_that_does_not_fit(text: str, told: str) -> None:
    """The error says where and by which rule, and shows no value."""
    error = refused(text, schema=SCHEMA)
    assert (error.kind, error.details["problems"]) == ("schema_mismatch", [told])
    assert told in str(error)
    assert "canary7" not in str(error)
    assert "7.25" not in str(error)


def test_all_faults_are_told() -> None:
    """The details list the faults, up to ten."""
    error = refused("[1, 2, 3]", schema={"items": {"type": "string"}})
    assert len(error.details["problems"]) == 3
    assert "and 2 more" in str(error)
    assert len(refused(str([1] * 50), schema={"items": {"type": "string"}}).details["problems"]) == 10


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "txt"},
        {"properties": {"a": {"minimum": "0"}}},
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"properties": {"a": {"$ref": "other.json#/x"}}},
        {"$dynamicRef": "https://example.com/"},
        {"$ref": "#"},
        {"$ref": "#/x", "x": {"type": 5}},
        {"pattern": "("},
        {"properties": {"pattern": {"pattern": r"(a)\1"}}},
        {"pattern": r"(\w{1,100}\s?){30}Z"},
        {"patternProperties": {"^a": {}}},
    ],
)
def test_a_schema_that_is_none(schema: Any) -> None:
    """It is found before the run, and one that would have to be fetched is refused."""
    [problem] = parse_json.check({"text": "{}", "schema": schema})
    assert (problem.code, problem.where.field) == ("invalid_schema", "schema")
    assert list(parse_json.check({"schema": SCHEMA})) == []
    assert list(parse_json.check({})) == []


@pytest.mark.parametrize(
    "schema",
    [{"pattern": "("}, {"$ref": "#"}, {"$ref": "#/x", "x": {"type": 5}}, {"$ref": "#/x", "x": {"minLength": "a"}}],
)
def test_a_schema_that_nobody_checked_is_no_crash(schema: Any) -> None:
    """Past the check a schema that cannot be used is an error like any other."""
    assert refused('"a"', schema=schema).kind == "invalid_schema"


def test_a_hostile_pattern_takes_no_time() -> None:
    """A pattern that takes Python's own engine years is matched at once, and a text too long for one is refused."""
    begun = time.process_time()
    schema = {"additionalProperties": {"pattern": "^(a+)+$"}}
    assert list(parse_json.check({"schema": schema})) == []
    assert refused(json.dumps({"x": "a" * 50 + "!"}), schema=schema).kind == "schema_mismatch"
    assert parse(json.dumps({"x": "a" * 50}), schema=schema) == {"x": "a" * 50}
    assert refused(json.dumps({"x": "a" * 10_001}), schema=schema).kind == "too_large"
    assert time.process_time() - begun < 5


@pytest.mark.parametrize(
    ("text", "unique"),
    [
        ('[1, true, 0, false, "1", null]', True),
        ("[1, 1.0]", False),
        ('[{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}]', False),
        ('[[["a"]], ["a"], {"a": 1}, {"a": true}]', True),
    ],
)
def test_unique_items(text: str, unique: bool) -> None:
    """Items are compared as JSON has them, in a long list as well."""
    schema = {"uniqueItems": True}
    if unique:
        parse(text, schema=schema)
    else:
        assert refused(text, schema=schema).kind == "schema_mismatch"
    begun = time.process_time()
    assert len(parse(json.dumps([{"n": n} for n in range(20_000)]), schema=schema)) == 20_000
    assert time.process_time() - begun < 5


def test_nothing_is_fetched_for_a_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even past the check a reference to elsewhere opens no connection."""
    import urllib.request

    opened: list[Any] = []
    monkeypatch.setattr(urllib.request, "urlopen", opened.append)
    schema = {"$id": "http://127.0.0.1:9/a", "properties": {"a": {"$ref": "b"}}}
    assert refused('{"a": 1}', schema=schema).kind == "invalid_schema"
    assert opened == []
    assert refused("1", schema={"$ref": "#/nowhere"}).kind == "invalid_schema"
