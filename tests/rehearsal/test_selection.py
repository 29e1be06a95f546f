"""Parts of a workflow: what `--until` and `--only` keep, and which pins they need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from weft.errors import InvalidInputs, NotFound
from weft.plan import Plan, Selection
from weft.plan.selection import select
from weft.runtime import Runtime

WORKFLOW = """
name: tried
steps:
  - {id: a, uses: set_values, with: {values: {v: 1}}}
  - {id: b, needs: [], uses: set_values, with: {values: {v: 2}}}
  - {id: c, needs: [a], uses: set_values, with: {values: {v: "{{ steps.a.output.v + 1 }}"}}}
  - id: each
    needs: [c, b]
    for_each: [1, 2]
    steps:
      - {id: d, uses: set_values, with: {values: {v: "{{ item * steps.c.output.v }}"}}}
      - {id: e, uses: set_values, with: {values: {v: "{{ steps.d.output.v }}"}}}
      - {id: f, uses: set_values, with: {values: {v: 6}}}
  - {id: g, uses: set_values, with: {values: {v: "{{ steps.each.output }}"}}}
finally:
  - {id: z, uses: log, with: {message: done}}
outputs: {v: "{{ steps.g.output.v }}"}
"""


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime.open(home=tmp_path / "home")


@pytest.fixture
def plan(runtime: Runtime, tmp_path: Path) -> Iterator[Plan]:
    file = tmp_path / "tried.yaml"
    file.write_text(WORKFLOW)
    return runtime.compile(file)  # type: ignore[return-value]


def names(plan: Plan) -> list[str]:
    return [step.name for step in plan.every_step()]


def test_until_keeps_the_step_and_all_that_it_needs(plan: Plan) -> None:
    """Steps that nothing leads to are left out, and so are `finally` and `outputs`."""
    part = select(plan, Selection(until="c"))

    assert names(part) == ["a", "c"]
    assert (part.final, part.outputs) == ((), {})


def test_until_a_step_in_a_loop_keeps_the_loop_up_to_it(plan: Plan) -> None:
    """Inside the group that holds the step, what comes after it is left out."""
    assert names(select(plan, Selection(until="each/e"))) == ["a", "b", "c", "each", "each/d", "each/e"]
    assert names(select(plan, Selection(until="e"))) == ["a", "b", "c", "each", "each/d", "each/e"]


def test_only_keeps_one_step_and_takes_the_others_from_pins(plan: Plan) -> None:
    """One step alone runs over the outputs that are given for the steps it speaks of."""
    part = select(plan, Selection(only="c", pins={"a": {"v": 41}}))

    assert names(part) == ["c"]
    assert part.steps[0].needs == ()
    assert part.pins == {"a": {"v": 41}}


def test_a_missing_pin_is_named_with_the_step_that_needs_it(plan: Plan) -> None:
    """Each step whose output is used and neither runs nor is given is told."""
    with pytest.raises(InvalidInputs) as caught:
        select(plan, Selection(only="each/e"))

    assert [problem.code for problem in caught.value.problems] == ["missing_pin"]
    assert "'d'" in str(caught.value)


def test_a_pin_of_no_step_is_refused(plan: Plan) -> None:
    """A misspelt step in the file of pins is told with the nearest name."""
    with pytest.raises(InvalidInputs, match="'eech'") as caught:
        select(plan, Selection(only="c", pins={"a": {}, "eech": {}}))

    assert caught.value.problem.remedy == "Did you mean 'each'?"


@pytest.mark.parametrize("name", ["x", "z", "/@finally/z"])
def test_a_step_that_is_not_among_the_steps_is_refused(plan: Plan, name: str) -> None:
    """Neither a step that is not there nor one of `finally` can be asked for."""
    with pytest.raises(NotFound):
        select(plan, Selection(until=name))


def test_nothing_to_run_is_refused(plan: Plan) -> None:
    """When every step that would run has a pin, that is told instead of running nothing."""
    with pytest.raises(InvalidInputs, match="has a pin"):
        select(plan, Selection(only="c", pins={"a": {}, "c": {}}))


async def test_a_part_runs_for_real_and_is_kept_as_that_part(runtime: Runtime, plan: Plan) -> None:
    """A run of one step sees the pinned outputs; what the journal keeps of it is the part, whoever goes on with it."""
    part = select(plan, Selection(only="c", pins={"a": {"v": 41}}))
    async with runtime:
        report = await runtime.run(part, {})
        found = await runtime.journal.status(report.run_id)
        kept = runtime.pinned_plan(await runtime.journal.document(found.row.document))

    outputs: dict[str, Any] = {step.path: step.output for step in report.steps}
    assert (report.state, outputs) == ("succeeded", {"/c": {"v": 42}})
    assert (names(kept), kept.pins, kept.final) == (["c"], {"a": {"v": 41}}, ())
