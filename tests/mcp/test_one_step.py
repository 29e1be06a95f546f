"""The call of an action as a workflow: whatever it is given stands there as it is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weft import expressions, packs
from weft.errors import InvalidInputs
from weft.manifest import Manifest
from weft.mcp.one_step import document_of
from weft.types import Json

MANIFEST: Manifest = packs.discover([]).action("set_values").manifest
TEXTS = st.text(st.sampled_from("{}%#\"'\\ \n\tx<&é\x85\u2028\ufeff😀-"), max_size=30) | st.text(max_size=20)
VALUES = st.recursive(
    TEXTS | st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=8,
)


def rendered(value: Any) -> Json:
    """Return a value of a document as a step is given it."""
    match value:
        case str() if expressions.has_expression(value):
            return expressions.compile(value).render({})
        case dict():
            return {key: rendered(item) for key, item in value.items()}
        case list():
            return [rendered(item) for item in value]
        case _:
            found: Json = value
            return found


@given(VALUES)
@example("{{ inputs.x }} {% raw %}{# #}\n")
@example("{{{%{#")
def test_what_is_given_stands_there_as_it_is(value: Json) -> None:
    """Nothing in an argument is read as a template, as YAML, or as another type; no line end is lost."""
    if "\ud800" <= max(str(value), default="") <= "\udfff":
        return
    document = document_of(MANIFEST, {"values": value}, None)

    assert isinstance(document.value, dict)
    (step,) = document.value["steps"]  # type: ignore[misc]
    assert rendered(step["with"]["values"]) == value  # type: ignore[index, call-overload]


def test_what_is_too_large_for_a_document_is_refused() -> None:
    """Arguments that no document can hold are told as wrong arguments."""
    nested: Json = 1
    for _ in range(100):
        nested = [nested]
    for value in (nested, "x" * 1_000_001, 2**70):
        with pytest.raises(InvalidInputs):
            document_of(MANIFEST, {"values": value}, None)
