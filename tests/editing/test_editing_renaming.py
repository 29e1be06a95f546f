"""A step gets another id, and who means it by the old one gets to know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from weft import plan, source
from weft.editing import Edited, RenameStep, edit
from weft.errors import EditRefused, InvalidWorkflow, Problem
from weft.registry import Registry
from weft.survey import Survey, survey

DOCUMENT = """\
name: renaming
concurrency: {key: "{{ inputs.ask }}"}
steps:
  - id: ask   # the one
    title: ask steps.ask {{ steps.ask.output }}
    uses: generate_chat_completion
    with: {prompt: "ask {{ inputs.ask }}"}
    on_error:
      steps:
        - id: told
          uses: log
          with: {message: "{{ steps.ask.error }}"}
  - id: group
    needs: [ask]
    if: steps.ask.state == 'succeeded' and steps["ask"].output
    steps:
      - id: inner
        for_each: steps.ask.output.items
        uses: log
        with:
          steps.ask: key
          message: >-
            steps.ask is text, {{ 'steps.ask' }} too, but {{
            steps.ask.output }} is none
            {% if steps['ask'].output %}{{ steps . ask.output }}{% endif %}
          other: '{{ steps[''ask''].output }} {% set steps = {} %}{{ steps.ask }}'
          plain: Dear {{ steps.ask.output }}   # steps.ask
          list:
            - "{{ item.steps.ask }}"
            - "{{ steps.ask2 }} {{ steps.asked }} {{ steps.group.output.ask }}"
            - "\\u007b{ steps.ask.output }}"
  - id: look
    needs:
      - ask
      - group
    wait: {for: "{{ steps.ask.output.time }}"}
  - id: approve
    approval:
      message: "{{ steps.ask.output }}?"
      notify:
        - id: ask
          uses: log
          with: {message: "{{ steps.ask.output }}"}
        - id: after
          needs: [ask]
          uses: log
          with: {message: "{{ steps.ask.output }} {{ steps.group.output }}"}
finally:
  - id: last
    uses: log
    with: {message: "{{ steps.ask.state }}"}
outputs:
  ask: "{{ steps.ask.output | default('steps.ask') }}"
"""


def renamed(text: str, path: tuple[str | int, ...], name: str) -> Edited:
    return edit(source.read(text, "flow.yaml"), [RenameStep(path=path, id=name)])


def test_all_who_mean_a_step_learn_its_name() -> None:
    """Every reference by the rules of scope is rewritten, and nothing that only looks like one."""
    edited = renamed(DOCUMENT, ("steps", 0), "judge")

    wanted = DOCUMENT.replace("  - id: ask   # the one", "  - id: judge   # the one")
    for old, new in [
        ('"{{ steps.ask.error }}"', '"{{ steps.judge.error }}"'),
        ("needs: [ask]\n    if", "needs: [judge]\n    if"),
        ("if: steps.ask.state == 'succeeded' and steps[\"ask\"]", "if: steps.judge.state == 'succeeded' and steps[\"judge\"]"),
        ("for_each: steps.ask", "for_each: steps.judge"),
        ("            steps.ask.output }} is", "            steps.judge.output }} is"),
        ("{% if steps['ask'].output %}{{ steps . ask.", "{% if steps['judge'].output %}{{ steps . judge."),
        ("'{{ steps[''ask'']", "'{{ steps[''judge'']"),
        ("Dear {{ steps.ask.", "Dear {{ steps.judge."),
        ('"\\u007b{ steps.ask.', '"\\u007b{ steps.judge.'),
        ("      - ask\n      - group", "      - judge\n      - group"),
        ("{{ steps.ask.output.time", "{{ steps.judge.output.time"),
        ('"{{ steps.ask.output }}?"', '"{{ steps.judge.output }}?"'),
        ('"{{ steps.ask.state }}"', '"{{ steps.judge.state }}"'),
        ("{{ steps.ask.output | default", "{{ steps.judge.output | default"),
    ]:  # fmt: skip
        assert wanted.count(old) == 1
        wanted = wanted.replace(old, new)
    assert edited.source.text == wanted
    assert edited.references == 16
    assert edit(edited.source, edited.inverse).source.text == DOCUMENT


def test_an_inner_step_of_the_same_name_has_its_own_references() -> None:
    """A list within another has names of its own, and its steps mean those."""
    path = ("steps", 3, "approval", "notify", 0)
    edited = renamed(DOCUMENT, path, "told-them")

    assert edited.references == 3
    assert "needs: [told-them]" in edited.source.text
    assert """{message: "{{ steps['told-them'].output }} {{ steps.group.output }}"}""" in edited.source.text
    assert "needs: [ask]\n    if" in edited.source.text


def test_a_name_that_needs_brackets_gets_them() -> None:
    """A name with a hyphen is written in brackets, in quotes that the text around can hold."""
    text = "steps:\n  - id: a\n  - id: b\n    if: steps.a.output\n    with: {x: '{{ steps.a.output }}', y: steps.a}\n    for_each: [x, \"{{ steps.a }}\"]\n"
    edited = renamed(text, ("steps", 0), "a-b")

    assert edited.source.text == (
        "steps:\n  - id: a-b\n  - id: b\n    if: steps['a-b'].output\n"
        "    with: {x: '{{ steps[''a-b''].output }}', y: steps.a}\n    for_each: [x, \"{{ steps['a-b'] }}\"]\n"
    )


def test_a_half_written_document_can_be_renamed_in() -> None:
    """What looks like a reference in an unfinished expression is one; steps without id are no obstacle."""
    text = 'steps:\n  - id: a\n  -\n  - with: {x: "{{ steps.a.output", y: "steps.a {{ b. }}", z: "{{ x.steps.a. }} {{ steps[\'a\'] + }}"}\noutputs:\n'
    edited = renamed(text, ("steps", 0), "b")

    assert edited.source.text == text.replace("id: a", "id: b").replace(
        "{{ steps.a.output", "{{ steps.b.output"
    ).replace("steps['a']", "steps['b']")


def test_of_two_steps_with_one_name_the_first_is_meant() -> None:
    """After a step was copied, giving the copy its own name takes no reference away from the first."""
    text = 'steps:\n  - id: a\n  - id: a\n  - id: b\n    with: {x: "{{ steps.a }}"}\n'

    assert renamed(text, ("steps", 1), "c").source.text == text.replace("- id: a\n  - id: b", "- id: c\n  - id: b")


@pytest.mark.parametrize(
    ("text", "path", "code", "line"),
    [
        ("steps:\n  - id: a\n  - id: taken\n", ("steps", 0), "duplicate_id", 3),
        ("steps:\n  - id: a\n    steps:\n      - id: taken\n", ("steps", 0), "duplicate_id", 4),
        ("steps:\n  - id: taken\n    steps:\n      - id: a\n", ("steps", 0, "steps", 0), "duplicate_id", 2),
        ("steps:\n  - uses: log\n", ("steps", 0), "unfit_path", 2),
        ("steps:\n  - id: a\nother:\n  - id: b\n", ("other", 0), "unfit_path", 4),
        ("steps:\n  - id: a\n", ("steps", 1), "no_such_path", 2),
        ("steps:\n  - id: a\n  - id: b\n    if: (steps).a\n", ("steps", 0), "edit_refused", 4),
    ],
)
def test_a_renaming_that_would_mix_up_steps_is_refused(
    text: str, path: tuple[str | int, ...], code: str, line: int
) -> None:
    """An id that is taken, a step without id, and a reference that cannot be rewritten are told with their line."""
    with pytest.raises(EditRefused) as caught:
        renamed(text, path, "taken")

    assert (caught.value.problem.code, caught.value.problem.where.line) == (code, line)


def _steps(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the path and id of every step, found by its shape alone."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if key != "with":
            yield from _steps(item, (*path, key))
    if isinstance(value, dict) and isinstance(value.get("id"), str) and path and path[0] != "inputs":
        yield path, value["id"]


def test_renamed_workflows_still_compile(core_registry: Registry) -> None:
    """Whichever step of our own workflows gets another id, the plan finds no reference that leads nowhere."""
    renamings = references = 0
    for file in sorted((Path(__file__).parents[2] / "workflows").glob("*.yaml")):
        document = source.read_file(file)
        if "steps" not in document.value:  # type: ignore[operator]
            continue
        for path, name in _steps(document.value):
            edited = renamed(document.text, path, "some-other-name")
            found = survey(edited.source)
            faults = [*found.problems, *_faults(found, core_registry)]
            assert [problem for problem in faults if problem.code in ("unknown_step", "later_step")] == [], (
                file.name,
                name,
            )
            renamings, references = renamings + 1, references + edited.references
    assert renamings > 50
    assert references > 50


def _faults(found: Survey, registry: Registry) -> tuple[Problem, ...]:
    try:
        assert found.workflow is not None
        return plan.compile(found.workflow, found.source, registry).warnings
    except InvalidWorkflow as invalid:
        return invalid.problems
