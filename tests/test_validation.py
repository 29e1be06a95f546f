"""Faults of a document's form, in our words and with their places."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from weft import source, validation, wording
from weft.errors import InvalidConnections, Problem
from weft.types import Json, JsonObject, Name


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Inner(Model):
    size: int = Field(ge=1, lt=10)
    ratio: float = Field(default=0.5, gt=0, le=1)


class Outer(Model):
    name: Name = "x"
    mode: Literal["fast", "slow"] = "fast"
    choice: Literal["on", "off"] | Inner = "on"
    condition: bool | Annotated[str, Field(min_length=1, max_length=5)] | None = Field(default=None, alias="if")
    amount: int | float | None = None
    many: str | list[Literal["red", "blue"]] = "red"
    parts: list[Inner] = Field(default_factory=list, max_length=2)
    labels: dict[Name, Name] = Field(default_factory=dict)
    value: Json | None = None
    free: JsonObject = Field(default_factory=dict)
    extra: bool | JsonObject = True


def problems(text: str, **options: Any) -> tuple[Problem, ...]:
    with pytest.raises(InvalidConnections) as caught:
        validation.build(Outer, source.read(text, "d.yaml"), InvalidConnections, **options)
    return caught.value.problems


FAULTS = [
    ("mode: fats", "mode", (1, 7), "'mode' must be fast or slow, not \"fats\". Did you mean 'fast'?"),
    ("mode: 3", "mode", (1, 7), "'mode' must be fast or slow, not 3."),
    ("mdoe: fast", "mdoe", (1, 1), "The document has no key \"mdoe\". Did you mean 'mode'?"),
    ("condition: true", "condition", (1, 1), "The document has no key \"condition\". Did you mean 'if'?"),
    ("choice: of", "choice", (1, 9), "'choice' must be on, off or a mapping, not \"of\". Did you mean 'off'?"),
    ("choice: [1]", "choice", (1, 9), "'choice' must be on, off or a mapping, not a list of 1."),
    ("choice: {}", "choice.size", (1, 9), "'choice' needs the key 'size'. Add it."),
    ("choice: {size: 0}", "choice.size", (1, 16), "'size' must be at least 1, not 0."),
    ("choice: {size: 10}", "choice.size", (1, 16), "'size' must be less than 10, not 10."),
    ("choice: {size: 2, ratio: 0}", "choice.ratio", (1, 26), "'ratio' must be more than 0, not 0."),
    ("choice: {size: 2, ratio: 1.5}", "choice.ratio", (1, 26), "'ratio' must be at most 1, not 1.5."),
    ("choice: {size: true}", "choice.size", (1, 16), "'size' must be an integer, not true."),
    ("if: 3", "if", (1, 5), "'if' must be true, false or text, not 3."),
    ("if: ''", "if", (1, 5), "'if' must not be empty."),
    ("if: abcdef", "if", (1, 5), "'if' must have at most 5 characters, not \"abcdef\"."),
    ("amount: x", "amount", (1, 9), "'amount' must be a number, not \"x\"."),
    ("amount: '1.5'", "amount", (1, 9), "'amount' must be a number, not \"1.5\". Write it without quotes."),
    ("choice: {size: 1, ratio: yes}", "choice.ratio", (1, 26), "'ratio' must be a number, not \"yes\"."),
    ("amount: true", "amount", (1, 9), "'amount' must be a number, not true."),
    ("many: 3", "many", (1, 7), "'many' must be text or a list, not 3."),
    ("many: [red, bleu]", "many[1]", (1, 13), "'many[1]' must be red or blue, not \"bleu\". Did you mean 'blue'?"),
    ("parts: {size: 1}", "parts", (1, 8), "'parts' must be a list, not a mapping of size. Begin each item with '- '."),
    ("parts:\n- size: 1\n- siez: 2\n  size: 1", "parts[1].siez", (3, 3), "'parts[1]' has no key \"siez\". Did you mean 'size'?"),
    ("parts: [{size: 1}, {size: 1}, {size: 1}]", "parts", (1, 8), "'parts' must have at most 2 items, not a list of 3."),
    ("labels: {A b: x}", 'labels["A b"]', (1, 10), "The key \"A b\" is not a name: must be a name (lower case letters, digits, '_' and single '-', beginning with a letter). Rename it."),
    ("labels: {a: B}", "labels.a", (1, 13), "'a' must be a name (lower case letters, digits, '_' and single '-', beginning with a letter), not \"B\". Write 'b'."),
    ("extra: 3", "extra", (1, 8), "'extra' must be true, false or a mapping, not 3."),
    ("free: text", "free", (1, 7), "'free' must be a mapping, not \"text\"."),
    ("free:", "free", (1, 1), "'free' has no value. Give it one, or delete the key."),
    ("mode:", "mode", (1, 1), "'mode' has no value. Give it one, or delete the key."),
    ("if:", "if", (1, 1), "'if' has no value. Give it one, or delete the key."),
    ("parts: [{size: 1, ratio: }]", "parts[0].ratio", (1, 19), "'ratio' has no value. Give it one, or delete the key."),
    ("- a", None, (1, 1), "The document must be a mapping, not a list of 1. Write 'key: value' in each line, without '- '."),
    ("mode: " + "x" * 99, "mode", (1, 7), "'mode' must be fast or slow, not \"" + "x" * 59 + "…\"."),
    ("mode: sk-proj-abcdefghijklmnopqrstuvwxyz", "mode", (1, 7), "'mode' must be fast or slow, not \"••••••\"."),
]  # fmt: skip


@pytest.mark.parametrize(("text", "field", "place", "told"), FAULTS)
def test_one_fault_is_one_problem(text: str, field: str | None, place: tuple[int, int], told: str) -> None:
    """Each fault is one problem: its place, its field, what was got, what is allowed, the nearest name."""
    (problem,) = problems(text)

    assert f"{problem.message} {problem.remedy or ''}".strip() == told
    assert (problem.where.field, problem.where.line, problem.where.column) == (field, *place)


def test_unknown_key_without_a_near_one_lists_all() -> None:
    """When no known key is near, all of them are listed."""
    (problem,) = problems("choice: {size: 1, zzz: 2}")

    assert problem.remedy == "Known keys: size, ratio."


def test_all_faults_are_told_in_order() -> None:
    """All faults are told at once, in the order of the document."""
    found = problems("mode: x\nparts:\n  - {}\n  - {size: 0, ratio: x}\nfoo: 1\n")

    assert [problem.where.field for problem in found] == [
        "mode",
        "parts[0].size",
        "parts[1].size",
        "parts[1].ratio",
        "foo",
    ]


def test_private_values_are_not_shown() -> None:
    """Messages about a private document show none of its values."""
    found = problems("mode: hunter2\nif: 123456\nchoice: {size: hunter3}\nlabels: {a: Hunter4}\n", private=True)

    assert len(found) == 4
    assert not any(value in str(problem) for problem in found for value in ("hunter", "Hunter", "123456"))


def test_part_of_a_document() -> None:
    """A part is built by itself, its problems placed in the whole document."""
    read = source.read("list:\n  - mode: fast\n  - mode: fats\n", "d.yaml")
    first = validation.build(Outer, read, InvalidConnections, {"mode": "fast"}, ("list", 0))
    with pytest.raises(InvalidConnections) as caught:
        validation.build(Outer, read, InvalidConnections, {"mode": "fats"}, ("list", 1))

    assert first.mode == "fast"
    assert (caught.value.problem.where.field, caught.value.problem.where.line) == ("list[1].mode", 3)


def test_null_is_a_value_where_any_value_may_stand() -> None:
    """null is refused as a forgotten value, but not where it may be meant."""
    built = validation.build(
        Outer, source.read("value: null\nfree: {a: null}\nextra: {b: }", "d.yaml"), InvalidConnections
    )

    assert (built.value, built.free, built.extra) == (None, {"a": None}, {"b": None})


@pytest.mark.parametrize(
    "path", [(), ("a",), ("a", 0, "b_c"), (3, "x"), ("with space", "a.b", '"q"', "[1]"), ("é", "a-b", "", "x" * 99)]
)
def test_fields_can_be_read_back(path: tuple[str | int, ...]) -> None:
    """A field's text leads back to the path that it was made of."""
    assert wording.path_of(wording.field(path)) == path
