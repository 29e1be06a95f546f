"""All faults of a workflow document at once, whatever their kind."""

from __future__ import annotations

import textwrap

import pytest

from weft import source
from weft.errors import Problem, Where
from weft.survey import survey


def surveyed(text):
    return survey(source.read(textwrap.dedent(text), "w.yaml"))


def told(found):
    return [(problem.code, problem.where.line) for problem in found.problems]


def test_a_sound_document_has_no_problems():
    """A survey of a sound document is its model."""
    found = surveyed("name: w\nsteps: [{id: a, uses: echo}]\n")

    assert found.workflow.name == "w"
    assert found.problems == ()


def test_faults_of_form_do_not_hide_broken_rules():
    """A misspelt key, a wrong value and a broken rule are told together, in the order of the document."""
    found = surveyed(
        """
        name: w
        inputs: {word: {type: strin}}
        steps:
          - {id: a, uses: echo, wiht: {value: 1}}
          - {id: B, uses: echo}
          - {id: c, uses: echo, needs: [zz]}
          - {id: d}
          - {id: e, uses: echo, max_parallel: 2}
        """
    )

    assert told(found) == [
        ("invalid_choice", 3), ("unknown_key", 5), ("invalid_value", 6), ("unknown_step", 7), ("exactly_one", 8),
        ("needs_for_each", 9),
    ]  # fmt: skip
    assert [step.id for step in found.workflow.steps] == ["a", "b", "c", "d", "e"]


def test_what_was_taken_out_is_not_missed():
    """Mending a step brings no further problems about."""
    found = surveyed("name: w\nsteps:\n  - {id: a, usse: echo}\n  - {id: b, wait: {fro: 1s}}\n")

    assert told(found) == [("unknown_key", 3), ("unknown_key", 4)]


def test_a_step_that_cannot_be_read_keeps_its_name_for_others():
    """References to an unreadable step are not faults of their own."""
    found = surveyed("name: w\nsteps:\n  - {id: a, uses: 7}\n  - {id: b, uses: echo, needs: [a]}\n")

    assert told(found) == [("wrong_type", 3)]
    assert [step.id for step in found.workflow.steps] == ["a", "b"]


def test_faults_inside_each_other_s_list_are_told_together():
    """An item that cannot be read does not keep the faults of its neighbours from being told."""
    found = surveyed("name: w\non: {schedule: [1, {crno: 0 8 * * *, timezone: UTC}]}\nsteps: [{id: a, uses: echo}]\n")

    assert told(found) == [("wrong_type", 2), ("unknown_key", 2)]


def test_steps_without_names_do_not_take_each_other_s():
    """Two steps that cannot be read are two faults, wherever they stand."""
    found = surveyed("name: w\nsteps:\n  - 1\n  - id: b\n    uses: echo\n    on_error: {steps: [2]}\n")

    assert told(found) == [("wrong_type", 3), ("wrong_type", 6)]


def test_no_problem_repeats_a_credential():
    """A credential is shown neither by the rules that are judged after mending nor by what is found later."""
    key = "sk-" + "a1b2c3d4e5" * 3
    found = surveyed(f"name: w\nsteps:\n  - {{id: a, usse: echo}}\n  - {{id: b, uses: echo, needs: [{key}]}}\n")
    later = Problem("unknown_action", f"There is no action {key!r}.", where=Where("w.yaml", 4, 1, step=key))

    assert told(found) == [("unknown_key", 3), ("credential", 4), ("unknown_step", 4)]
    assert key not in repr(found.with_consequences([later]))


@pytest.mark.parametrize("text", ["[1]", "name: w", "name: w\nsteps: 1", "name: w\nsteps: []", "steps: [1]", "{}"])
def test_too_little_is_told_too(text):
    """A document without any steps to check has its problems, and no model or an empty one."""
    found = surveyed(text)

    assert found.problems
