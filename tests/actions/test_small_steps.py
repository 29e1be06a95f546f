"""Set Values, Fail and Log: by themselves, and in a run."""

from __future__ import annotations

import contextlib
import importlib
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft import plan, source, structure
from weft.engine.events import Logged
from weft.engine.report import RunReport
from weft.runtime import Runtime
from weft.sdk import ActionContext, ActionError

set_values = importlib.import_module("weft_core.actions.set_values")
convert = importlib.import_module("weft_core.actions._convert")

NOTHING: Any = None  #: the actions need nothing of their context


async def values(given: dict[str, Any], types: dict[str, str] | None = None) -> Any:
    return await set_values.set_values(set_values.Arguments.model_validate({"values": given, "types": types}), NOTHING)


# -- Set Values


async def test_the_output_is_the_mapping() -> None:
    """Values without a type stay as they are, whatever they are."""
    given = {"a": 1, "b": [1, {"c": None}], "d e": "2", "n": None, "t": True}
    assert await values(given) == given


@pytest.mark.parametrize(
    ("kind", "given", "wanted"),
    [
        ("text", "x", "x"),
        ("text", " x ", " x "),
        ("text", 12, "12"),
        ("text", 1.5, "1.5"),
        ("text", True, "true"),
        ("integer", " 42 ", 42),
        ("integer", "-007", -7),
        ("integer", 2.0, 2),
        ("integer", "9" * 40, int("9" * 40)),
        ("number", "1.50", 1.5),
        ("number", "1e3", 1000.0),
        ("number", "12", 12),
        ("number", 7, 7),
        ("boolean", "TRUE", True),
        ("boolean", "no", False),
        ("boolean", "1", True),
        ("boolean", False, False),
        ("date", "2026-02-28", "2026-02-28"),
        ("datetime", "2026-11-22T08:00:00+01:00", "2026-11-22T07:00:00Z"),
        ("datetime", "2026-11-22T08:00:00.5Z", "2026-11-22T08:00:00.500000Z"),
        *((kind, None, None) for kind in convert.KINDS),
    ],
)
async def test_a_value_becomes_its_type(kind: str, given: Any, wanted: Any) -> None:
    """What is exactly of the type is converted, null stays null."""
    output = await values({"v": given}, {"v": kind})
    assert output == {"v": wanted}
    assert type(output["v"]) is type(wanted)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        *(("text", value) for value in ([], {"a": 1})),
        *(("integer", value) for value in ("", "1.5", "1e3", "0x10", "1_000", "٣", 1.5, 1e300, True, [1], "9" * 301)),
        *(("number", value) for value in ("", "1,5", ".5", "5.", "1e999", "NaN", "inf", "1_0", True, "٣.٥", {})),
        *(("boolean", value) for value in ("", "maybe", "on", 1, 0, "2")),
        *(("date", value) for value in ("22.11.2026", "2026-02-30", "20261122", "2026-1-2", "2026-W47-7", 20261122)),
        *(
            ("datetime", value)
            for value in ("2026-11-22", "2026-11-22T08:00", "soon", 1700000000, "0001-01-01T00:00+14:00")
        ),
    ],
)
async def test_a_value_that_is_not_of_its_type(kind: str, given: Any) -> None:
    """Nothing is guessed; the error names the value and what is wanted, and shows it not."""
    with pytest.raises(ActionError) as caught:
        await values({"total": given}, {"total": kind})
    assert (caught.value.kind, caught.value.effect) == ("wrong_type", "none")
    assert caught.value.problem.where.field == "values.total"
    assert "'total' must be" in str(caught.value)


@given(st.text() | st.integers() | st.floats() | st.booleans(), st.sampled_from(convert.KINDS))
def test_a_conversion_is_stable(value: Any, kind: Any) -> None:
    """Whatever comes in is converted or refused, and what was converted is of its type already."""
    with contextlib.suppress(ValueError):
        once = convert.convert(value, kind)
        assert convert.convert(once, kind) == once


def test_a_type_without_a_value() -> None:
    """It is found before the run."""
    [problem] = set_values.check({"values": {"a": 1}, "types": {"b": "text"}})
    assert (problem.code, problem.where.field) == ("unknown_value", "types.b")
    assert list(set_values.check({"values": {"a": 1}})) == []
    assert list(set_values.check({"types": {"b": "text"}})) == []


# -- in a run


async def run(text: str, tmp_path: Path, events: list[Any] | None = None) -> RunReport:
    """Run a workflow as `weft run` does."""
    document = source.read(textwrap.dedent(text), "w.yaml")
    async with Runtime.open(home=tmp_path) as runtime:
        planned = plan.compile(structure.load(document), document, runtime.registry)
        return await runtime.run(planned, {}, (events if events is not None else []).append)


async def test_values_in_a_run(tmp_path: Path) -> None:
    """An expression keeps its type, a text around one is a text, and later steps read values by name."""
    report = await run(
        """
        name: w
        variables: {rows: [3, 4]}
        steps:
          - id: order
            uses: set_values
            with:
              values: {total: "{{ variables.rows | sum }}", note: "{{ variables.rows | length }} rows", price: "{{ '2.50' }}"}
              types: {price: number}
        outputs:
          sum: "{{ steps.order.output.total + steps.order.output.price }}"
          note: "{{ steps.order.output.note }}"
        """,
        tmp_path,
    )
    assert report.state == "succeeded", report.problem
    assert report.outputs == {"sum": 9.5, "note": "2 rows"}


async def test_fail_ends_the_run(tmp_path: Path) -> None:
    """The run fails with the author's words, and later steps do not begin."""
    report = await run(
        """
        name: w
        variables: {lines: 0}
        steps:
          - id: check
            if: variables.lines == 0
            uses: fail
            with:
              message: "The order has {{ variables.lines }} lines."
              kind: empty_order
              remedy: Add a line.
              details: {lines: "{{ variables.lines }}"}
          - {id: later, uses: log, with: {message: never}}
        """,
        tmp_path,
    )
    assert report.state == "failed"
    step = next(step for step in report.steps if step.path == "/check")
    assert len(step.attempts) == 1
    assert step.problem is not None
    told = (step.problem.code, step.problem.message, step.problem.remedy)
    assert told == ("empty_order", "The order has 0 lines.", "Add a line.")
    assert [step.state for step in report.steps if step.path == "/later"] != ["succeeded"]


async def test_fail_can_be_handled(tmp_path: Path) -> None:
    """With `on_error` the run goes on and reads the kind."""
    report = await run(
        """
        name: w
        steps:
          - {id: check, uses: fail, on_error: continue, with: {message: Oh no., kind: own_kind}}
        outputs:
          kind: "{{ steps.check.error.kind }}"
        """,
        tmp_path,
    )
    assert (report.state, report.outputs) == ("succeeded", {"kind": "own_kind"})


async def test_log_is_shown_in_the_run(tmp_path: Path) -> None:
    """The message is told while the run goes on, and stands in the output with its facts."""
    events: list[Any] = []
    report = await run(
        """
        name: w
        steps:
          - id: say
            uses: log
            with: {message: "{{ 3 * 4 }} orders", level: warning, facts: {message: own, orders: "{{ 3 * 4 }}"}}
        outputs: {said: "{{ steps.say.output }}"}
        """,
        tmp_path,
        events,
    )
    assert [event.message for event in events if isinstance(event, Logged)] == ["12 orders"]
    assert report.outputs == {
        "said": {"message": "12 orders", "level": "warning", "facts": {"message": "own", "orders": 12}}
    }


async def test_what_log_hands_over() -> None:
    """Level and facts go to the run's log under names of their own, whatever the facts are called."""
    log = importlib.import_module("weft_core.actions.log")
    written: list[Any] = []
    context = ActionContext(
        run_id="r", path="/l", attempt=1, started_at=NOTHING, idempotency_key="k", deadline=0.0,
        write=lambda message, facts: written.append((message, facts)),
    )  # fmt: skip
    await log.log(log.Arguments(message="m", facts={"self": 1, "message": 2, "level": 3}), context)
    assert written == [("m", {"level": "info", "facts": {"self": 1, "message": 2, "level": 3}})]
