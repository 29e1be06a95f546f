from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.expressions import methods, words
from weft.expressions.completing import candidates, described, spot
from weft.expressions.known import Known
from weft.expressions.predicates import PREDICATES
from weft.expressions.sequences import FILTERS

NAMES = {
    "inputs": Known({"name": "Ada", "tags": ["a", "b"], "my-x": 1}),
    "steps": Known(
        named={
            "ask": Known(
                named={
                    "output": Known(
                        schema={
                            "properties": {
                                "choices": {"type": "array", "items": {"$ref": "#/$defs/Choice"}},
                                "either": {
                                    "anyOf": [{"type": "string"}, {"properties": {"deep": {"type": "integer"}}}]
                                },
                            }
                        },
                        root={
                            "$defs": {"Choice": {"properties": {"text": {"type": "string", "description": "Said."}}}}
                        },
                        note="not run yet",
                    )
                }
            )
        }
    ),
}


def found(marked: str, *, bare: bool = False) -> tuple[str, str, list[str]] | None:
    """Return the kind, what is replaced, and the labels at the `¦` of a text."""
    text = marked.replace("¦", "")
    at = spot(text, marked.index("¦"), bare=bare)
    if at is None:
        return None
    return at.kind, text[at.start : at.end], [each.label for each in candidates(at, NAMES)]


@pytest.mark.parametrize(
    ("marked", "kind", "replaced", "first"),
    [
        ("Hi {{ ¦", "name", "", "inputs"),
        ("{{ in¦puts }}", "name", "inputs", "inputs"),
        ("{{ 'a' ~ ¦ }}", "name", "", "inputs"),
        ("{{ inputs.¦ }}", "member", "", "name"),
        ("{{ inputs . na¦", "member", "na", "name"),
        ("{{ inputs['¦", "member", "", "name"),
        ("{{ inputs['na¦me'] }}", "member", "name']", "name"),
        ("{{ steps.ask.output.choices[0].¦ }}", "member", "", "text"),
        ("{{ steps.ask.output.choices.0.¦ }}", "member", "", "text"),
        ("{{ steps.ask.output.either.¦ }}", "member", "", "deep"),
        ("{{ inputs.tags.¦ }}", "member", "", "[0]"),
        ("{{ inputs.name | ¦", "filter", "", "capitalize"),
        ("{{ inputs.tags | fi¦ }}", "filter", "fi", "count"),
        ("{{ inputs.name is ¦ }}", "test", "", "boolean"),
        ("{{ inputs.name is not de¦f }}", "test", "def", "boolean"),
        ("{{ inputs.name ¦ }}", "operator", "", "and"),
        ("{% ¦", "statement", "", "elif"),
        ("{% for t in ¦ %}", "name", "", "inputs"),
        ("{{ inputs.name }}{{ in¦ }}", "name", "in", "inputs"),
        ("{{ '}}' ~ ¦", "name", "", "inputs"),
    ],
)
def test_spots(marked: str, kind: str, replaced: str, first: str) -> None:
    """What is being written is told from what stands before, and what a choice replaces."""
    at = found(marked)

    assert at is not None
    assert (at[0], at[1], at[2][0]) == (kind, replaced, first)


@pytest.mark.parametrize(
    "marked", ["plain ¦", "{{ x }} ¦", "{# a ¦ #}", "{{ 'in a text ¦", "{{ 12¦ }}", "{% for ¦", "{¦"]
)
def test_nowhere(marked: str) -> None:
    """Outside of an expression, and where a name of one's own is being written, nothing is offered."""
    assert found(marked) is None


def test_bare() -> None:
    """A condition may stand without braces, and is none with them."""
    assert found("inputs.¦", bare=True) is not None
    assert found("inputs.¦ {{ x }}", bare=True) is None


def test_own_names() -> None:
    """Names that the template itself sets are offered, with what is known of them."""
    assert "t" in (found("{% for t in inputs.tags %}{{ ¦") or ("", "", []))[2]
    assert (found("{% for t in steps.ask.output.choices %}{{ t.¦") or ("", "", []))[2][0] == "text"
    assert (found("{% set c = steps.ask.output.choices[0] %}{{ c.¦") or ("", "", []))[2][0] == "text"
    assert "loop" in (found("{% for t in inputs.tags %}{{ ¦") or ("", "", []))[2]
    assert "loop" not in (found("{% for t in inputs.tags %}{% endfor %}{{ ¦") or ("", "", []))[2]


def test_words_are_whole() -> None:
    """Every filter, test by name, and method has its sentence, and nothing else has one."""
    assert set(words.FILTERS) == set(FILTERS) == {each.label for each in described("filter")}
    assert set(words.TESTS) == {name for name in PREDICATES if name.isidentifier()}
    assert set(words.METHODS) == set(methods.CANDIDATES)
    assert all(told in words.FILTERS for those in words.FITTING.values() for told in those)


@given(st.text(alphabet="{}%#|.'\"[]() \n-abisx0_", max_size=40), st.integers(0, 45))
def test_any_text(text: str, cursor: int) -> None:
    """Whatever is written, asking what may follow ends, and speaks of characters that are there."""
    at = spot(text, cursor)

    if at is not None:
        assert 0 <= at.start <= min(cursor, len(text)) <= at.end <= len(text)
        candidates(at, NAMES)
