from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from weft import source, wording
from weft.errors import InvalidSource, InvalidWorkflow, NotFound, Problem
from weft.plan import pasting
from weft.plan.studying import Around, Study, step_problems, study
from weft.registry import Registry
from weft.runtime import Runtime

EXAMPLES = sorted(path for path in (Path(__file__).parents[1] / "workflows").glob("*.yaml") if "." not in path.stem)
NESTED = """\
name: nested
inputs: {x: {}}
steps:
  - id: one
    uses: set_values
    with: {values: {a: 1}}
  - id: each
    for_each: "{{ [1, 2] }}"
    steps:
      - id: inner
        uses: set_values
        with: {values: {b: "{{ item }}"}}
      - id: last
        uses: log
        with: {message: "{{ steps.inner.output.b }} {{ index }}"}
  - id: ask
    approval:
      message: "{{ steps.one.output.a }}?"
      notify:
        - id: tell
          uses: log
          with: {message: "{{ approval.message }}"}
  - id: may-fail
    uses: fail
    with: {message: no}
    on_error:
      steps:
        - id: tidy
          uses: log
          with: {message: "{{ steps['may-fail'].error }}"}
finally:
  - id: end
    uses: log
    with: {message: "{{ steps.ask.output.answer }}"}
"""
FAULTS: list[Callable[[str], str]] = [
    lambda text: text.replace("steps.inner.output.b", "steps.innr.output.b"),
    lambda text: text.replace("{{ item }}", "{{ itm }}"),
    lambda text: text.replace("uses: log", "uses: lgo"),
    lambda text: text.replace("message: no", "mesage: no"),
    lambda text: text.replace("id: tidy", "id: one"),
    lambda text: text.replace('for_each: "{{ [1, 2] }}"', 'for_each: "{{ steps.ask.output }}"'),
    lambda text: text.replace("inputs: {x: {}}", "inputs: {x: {type: txt}}"),
    lambda text: text.replace("  - id: one", "  - idd: one"),
    lambda text: text.replace("approval:", "aproval:"),
    lambda text: text.replace("{{ index }}", "{{ index "),
]


@pytest.fixture
def runtime(tmp_path: Path, core_registry: Registry) -> Runtime:
    return Runtime(tmp_path, core_registry)


def around(runtime: Runtime) -> Around:
    return Around(runtime.registry, runtime.connections, runtime.catalogue)


def told(runtime: Runtime, document: source.Source) -> tuple[Problem, ...]:
    """Return what the command line tells of a document."""
    try:
        return tuple(runtime.compile_source(document).warnings)
    except InvalidWorkflow as invalid:
        return invalid.problems


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples(runtime: Runtime, path: Path) -> None:
    """A study of a document tells what a compilation tells, and has a plan when that has one."""
    document = source.read_file(path)
    found = study(document, replace(around(runtime), documents=None))

    known = {problem for problem in told(runtime, document) if not problem.message.startswith(str(path.parent))}
    assert set(found.problems) <= known
    assert found.plan is not None
    assert [place.name for place in found.places.values()][: len(found.plan.steps)]


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(runtime: Runtime, fault: Callable[[str], str]) -> None:
    """Whatever is wrong with a document, a study tells all that a compilation tells, and each step alone tells its own."""
    text = fault(NESTED)
    assert text != NESTED
    document = source.read(text, "nested.yaml")
    found = study(document, around(runtime))

    assert found.problems == told(runtime, document)
    for at, place in found.places.items():
        step = written(found, at)
        if step is None:  # its place is that of the mended document
            continue
        own = [each for each in found.problems if is_of(each, place.name, wording.field(at))]
        alone = step_problems(found, at, step, around(runtime))
        assert {each.code for each in alone} <= {each.code for each in own}
        assert {each.code for each in own if each.where.step == place.name} <= {each.code for each in alone}


def is_of(problem: Problem, name: str, field: str) -> bool:
    return (problem.where.step or "").startswith(name) or (problem.where.field or "").startswith(field)


def written(found: Study, at: tuple[str | int, ...]) -> Any:
    value: Any = found.source.value
    for part in at:
        try:
            value = value[part]
        except (KeyError, IndexError):
            return None
    return value


def test_places(runtime: Runtime) -> None:
    """Each step knows the names that it sees: those before it, those of its groups, and nothing after it."""
    found = study(source.read(NESTED, "nested.yaml"), around(runtime))

    seen = {place.name: (sorted(place.visible.steps), place.visible.loop) for place in found.places.values()}
    assert found.problems == ()
    assert seen == {
        "one": ([], False),
        "each": (["one"], True),
        "each/inner": (["one"], True),
        "each/last": (["inner", "one"], True),
        "ask": (["each", "one"], False),
        "ask/notify/tell": (["each", "one"], False),
        "may-fail": (["ask", "each", "one"], False),
        "may-fail/on_error/tidy": (["ask", "each", "may-fail", "one"], False),
        "finally/end": (["ask", "each", "may-fail", "one"], False),
    }
    assert "approval" in found.place("ask/notify/tell").visible.roots
    assert found.place("each").outer.loop is False
    with pytest.raises(NotFound):
        found.place("nobody")


def test_schemas_of_outputs(runtime: Runtime) -> None:
    """What is declared of a step's output is told: of actions, loops and approvals."""
    found = study(source.read(NESTED, "nested.yaml"), around(runtime))

    assert set(found.place("ask").schema["properties"]) == {"answer", "by", "how", "comment", "at"}  # type: ignore[index,arg-type,call-overload]
    assert found.place("each").schema == {"type": "array", "items": True}
    assert found.place("one").example == found.place("one").action.manifest.output.example  # type: ignore[union-attr]


def test_nothing_understood(runtime: Runtime) -> None:
    """Of a text that is no workflow its faults are told, and a step of it cannot be judged."""
    document = source.read("- a\n- b\n", "list.yaml")
    found = study(document, around(runtime))

    assert (found.workflow, found.plan, dict(found.places)) == (None, None, {})
    assert found.problems == told(runtime, document)
    with pytest.raises(NotFound):
        step_problems(found, ("steps", 0), {"id": "a"}, around(runtime))
    with pytest.raises(InvalidSource):
        source.read("a: [", "torn.yaml")


def test_pasting(core_registry: Registry) -> None:
    """A step to paste reads as the step to insert, and uses what it says."""
    for action in core_registry.actions():
        step = pasting.step(action.manifest)

        assert source.read(pasting.example(action.manifest), "x.yaml").value == [step]
        assert step["uses"] == action.id
