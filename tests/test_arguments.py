"""Arguments against the parameters that declare them: every rule, defaults, and the schema made of them."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import Any

import jsonschema
import pytest

from weft import arguments
from weft.manifest import Condition, Options, Parameter, Widget
from weft.workflow import Input


def parameter(name: str, type_: Any = "string", widget: Widget = "text", **rest: Any) -> Parameter:
    return Parameter(name=name, title=name.title(), description="D.", type=type_, widget=widget, **rest)


MESSAGE: dict[str, Any] = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"role": {"const": "user"}, "content": {"type": ["string", "array"]}},
            "required": ["role", "content"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {
                "role": {"enum": ["tool", "function"]},
                "content": {"type": "string", "minLength": 1},
                "tool_call_id": {"type": "string"},
            },
            "required": ["role", "content", "tool_call_id"],
            "additionalProperties": False,
        },
    ]
}

PARAMETERS = (
    parameter("model", required=True, min_length=1, max_length=20, pattern="[a-z0-9-]+"),
    parameter("messages", "array", "messages", required=True, items=MESSAGE, min_length=1, max_length=3),
    parameter("temperature", "number", minimum=0, maximum=2, default=1.0),
    parameter("n", "integer", minimum=1, maximum=5, default=1),
    parameter("logprobs", "boolean", "switch", default=False),
    parameter("top_logprobs", "integer", requires=[Condition(parameter="logprobs", values=[True])]),
    parameter("max_tokens", "integer", excludes=["max_completion_tokens"]),
    parameter("max_completion_tokens", "integer", excludes=["max_tokens"]),
    parameter("tools", "array", "tools", items={"type": "object", "required": ["type"]}),
    parameter("parallel", "boolean", "switch", requires=[Condition(parameter="tools")]),
    parameter(
        "choice", ["string", "object"], "json", required_properties=["type"], properties={"type": {"type": "string"}}
    ),
    parameter("effort", "string", "select", enum=["low", "high"]),
    parameter("style", "string", "select", options=Options(values=["plain", "rich"], closed=True)),
    parameter("hints", "array", "list", items={"type": "string"}, options=Options(values=["a", "b"], closed=True)),
    parameter("bias", "object", "key_value", additional_properties={"type": "integer", "minimum": -100}),
    parameter("key", "string", "password", secret=True, pattern="k-[0-9]+"),
)
GOOD: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def found(unknown: tuple[str, ...] = (), **given: Any) -> list[tuple[str | None, str]]:
    problems = arguments.check(PARAMETERS, {**GOOD, **given}, unknown=unknown)
    return [(problem.where.field, f"{problem.message} {problem.remedy or ''}".strip()) for problem in problems]


def test_good_arguments() -> None:
    """Arguments that keep every rule have no problems."""
    assert found() == []
    assert (
        found(
            temperature=2,
            n=3,
            logprobs=True,
            top_logprobs=2,
            max_tokens=5,
            tools=[{"type": "function"}],
            parallel=False,
            choice={"type": "function", "x": 1},
            effort="low",
            style="rich",
            hints=["a", "b"],
            bias={"7": -3},
            key="k-12",
        )
        == []
    )


@pytest.mark.parametrize(
    ("given", "field", "told"),
    [
        ({"modle": "x"}, "modle", "There is no \"modle\" here. Did you mean 'model'?"),
        ({"model": None}, "model", "'model' (Model) is required. Give it a value."),
        ({"model": 3}, "model", "'model' must be text, not 3. Write it in quotes: \"3\"."),
        ({"model": ""}, "model", "'model' must not be empty."),
        ({"model": "x" * 21}, "model", f"'model' must have at most 20 characters, not \"{'x' * 21}\"."),
        ({"model": "a\n"}, "model", "'model' must match the pattern ^(?:[a-z0-9-]+)$, not \"a\\n\"."),
        ({"model": "ab cd"}, "model", "'model' must match the pattern ^(?:[a-z0-9-]+)$, not \"ab cd\"."),
        ({"temperature": 2.5}, "temperature", "'temperature' must be at most 2, not 2.5."),
        ({"temperature": True}, "temperature", "'temperature' must be a number, not true."),
        ({"temperature": "1"}, "temperature", "'temperature' must be a number, not \"1\". Write it without quotes."),
        ({"temperature": math.nan}, "temperature", "'temperature' holds the number nan, which is not a JSON value."),
        ({"n": 2.5}, "n", "'n' must be an integer, not 2.5."),
        ({"n": 1e300}, "n", "'n' must be an integer, not 1e+300."),
        ({"n": False}, "n", "'n' must be an integer, not false."),
        ({"n": 0}, "n", "'n' must be at least 1, not 0."),
        ({"logprobs": 1}, "logprobs", "'logprobs' must be true or false, not 1."),
        ({"messages": []}, "messages", "'messages' must not be empty."),
        ({"messages": {}}, "messages", "'messages' must be a list, not an empty mapping."),
        ({"messages": ["hi"]}, "messages[0]", "'messages[0]' must be a mapping, not \"hi\"."),
        ({"messages": [{"role": "usr", "content": "x"}]}, "messages[0].role", "'role' must be user, tool or function, not \"usr\". Did you mean 'user'?"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "'messages[0]' needs 'content'."),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content", "'content' must be text or a list, not 3."),
        ({"messages": [{"role": "user", "content": "x", "nmae": "y"}]}, "messages[0].nmae", "'messages[0]' has no key \"nmae\". Known keys: role, content."),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "'messages[0]' needs 'tool_call_id'."),
        ({"messages": [{"role": "tool", "content": "", "tool_call_id": "x"}]}, "messages[0].content", "'content' must not be empty."),
        ({"messages": GOOD["messages"] * 4}, "messages", "'messages' must have at most 3 items, not a list of 4."),
        ({"messages": ({"role": "user"},)}, "messages", "'messages' holds a value of type tuple, which is not a JSON value."),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content", "'content' holds half of a surrogate pair, which is not a JSON value."),
        ({"messages": [{"role": "user", 1: "x"}]}, "messages[0]", "'messages[0]' holds the key 1, which is not a JSON value."),
        ({"model": datetime(2026, 1, 1, tzinfo=UTC)}, "model", "'model' holds a value of type datetime, which is not a JSON value."),
        ({"model": b"m"}, "model", "'model' holds a value of type bytes, which is not a JSON value."),
        ({"top_logprobs": 2}, "top_logprobs", "'top_logprobs' needs 'logprobs' to be true. Give 'logprobs', or leave 'top_logprobs' out."),
        ({"top_logprobs": 2, "logprobs": False}, "top_logprobs", "'top_logprobs' needs 'logprobs' to be true. Give 'logprobs', or leave 'top_logprobs' out."),
        ({"parallel": False}, "parallel", "'parallel' needs 'tools'. Give 'tools', or leave 'parallel' out."),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", "'max_completion_tokens' and 'max_tokens' exclude each other. Leave one of them out."),
        ({"tools": [{}]}, "tools[0].type", "'tools[0]' needs 'type'."),
        ({"choice": 3}, "choice", "'choice' must be text or a mapping, not 3."),
        ({"choice": {}}, "choice.type", "'choice' needs 'type'."),
        ({"effort": "hgih"}, "effort", "'effort' must be low or high, not \"hgih\". Did you mean 'high'?"),
        ({"style": "rch"}, "style", "'style' must be plain or rich, not \"rch\". Did you mean 'rich'?"),
        ({"hints": ["a", "c"]}, "hints[1]", "'hints[1]' must be a or b, not \"c\"."),
        ({"bias": {"7": -101}}, 'bias["7"]', "'[\"7\"]' must be at least -100, not -101."),
    ],
)  # fmt: skip
def test_each_rule(given: dict[str, Any], field: str, told: str) -> None:
    """Each broken rule is one problem, told with the place inside the arguments."""
    assert found(**given) == [(field, told)]


def test_all_problems_at_once() -> None:
    """Every problem of every argument is told."""
    given = {"messages": [{"role": "user"}, 3], "n": 0, "x": 1}
    fields = [problem.where.field for problem in arguments.check(PARAMETERS, given)]

    assert fields == ["x", "model", "messages[0].content", "messages[1]", "n"]


def test_unknown_values_are_not_judged() -> None:
    """An argument that is not known yet counts as given, satisfies what needs it, and is not judged."""
    text = "{{ x }}"

    assert found(unknown=("model", "n", "logprobs"), model=text, n=text, logprobs=text, top_logprobs=1) == []
    assert found(unknown=("tools", "parallel"), parallel=text) == []
    assert found(unknown=("max_tokens",), max_tokens=text, max_completion_tokens=1)[0][0] == "max_tokens"
    assert found(unknown=("top_logprobs",), top_logprobs=text)[0][0] == "top_logprobs"
    assert found(unknown=("typo",), typo=text)[0][0] == "typo"


def test_secrets_are_not_shown() -> None:
    """A secret argument that breaks its rule is told without its value."""
    assert found(key="hunter2") == [("key", "'key' must match the pattern ^(?:k-[0-9]+)$.")]


def test_defaults() -> None:
    """Defaults fill what is left out or null; what has none stays out; whole floats become integers."""
    nested = (parameter("deep", "object", "json", properties={"a": {"type": "array", "items": {"type": "integer"}}}),)

    complete = arguments.with_defaults(PARAMETERS, {**GOOD, "n": 2.0, "temperature": None, "bias": {"1": 3.0}})

    assert complete == {**GOOD, "n": 2, "temperature": 1.0, "logprobs": False, "bias": {"1": 3}}
    assert (type(complete["n"]), type(complete["temperature"])) == (int, float)
    assert (
        repr(arguments.with_defaults(nested, {"deep": {"a": [1.0, 2], "b": 1.0}}))
        == "{'deep': {'a': [1, 2], 'b': 1.0}}"
    )


def test_default_satisfies_what_requires_it() -> None:
    """A rule that asks for a value is satisfied by a default."""
    declared = (
        parameter("mode", default="a"),
        parameter("x", requires=[Condition(parameter="mode", values=["a"])]),
    )

    assert arguments.check(declared, {"x": "1"}) == []
    assert len(arguments.check(declared, {"x": "1", "mode": "b"})) == 1


def test_schema_says_the_same() -> None:
    """The JSON Schema of all arguments accepts and refuses what check does."""
    schema = arguments.schema(PARAMETERS)
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)

    for given in (
        {},
        {"logprobs": True, "top_logprobs": 1},
        {"top_logprobs": 1},
        {"parallel": True},
        {"max_tokens": 1, "max_completion_tokens": 1},
        {"effort": "x"},
        {"zzz": 1},
        {"n": True},
        {"hints": ["z"]},
        {"choice": {"type": "x"}},
        {"choice": {}},
    ):
        assert validator.is_valid({**GOOD, **given}) == (found(**given) == []), given
    assert schema["properties"]["n"]["default"] == 1  # type: ignore[call-overload, index]
    assert schema["properties"]["key"]["writeOnly"] is True  # type: ignore[call-overload, index]


def test_inputs_of_a_workflow() -> None:
    """A workflow's inputs are checked, and filled with defaults, as an action's arguments are."""
    declared = arguments.of_inputs(
        {
            "who": Input(required=True, title="Who", pattern="[a-z]+"),
            "level": Input(type="integer", default=2, minimum=1, maximum=3),
            "mode": Input(enum=["a", "b"]),
        }
    )

    assert [item.widget for item in declared] == ["text", "number", "select"]
    assert arguments.with_defaults(declared, {"who": "me"}) == {"who": "me", "level": 2}
    problems = arguments.check(declared, {"level": 9, "mode": "c", "whom": "x"})
    assert [problem.where.field for problem in problems] == ["whom", "who", "level", "mode"]


def test_check_is_cheap() -> None:
    """Checking a call of ten parameters costs well under a millisecond once its parameters are known."""
    given = {**GOOD, "temperature": 1.5, "n": 2, "logprobs": True, "top_logprobs": 2, "max_tokens": 9}
    given |= {"effort": "low", "style": "rich", "key": "k-1"}
    assert arguments.check(PARAMETERS, given) == []
    spent = []
    for _ in range(5):
        begin = time.process_time()
        for _ in range(100):
            arguments.check(PARAMETERS, given)
        spent.append((time.process_time() - begin) / 100)

    assert min(spent) < 0.001
