"""Tests that lie beside workflows: what a case can say, and that each of its expectations can fail."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from weft import packs, source
from weft.registry import Registry
from weft.rehearsal.cases import SUFFIX, json_schema
from weft.rehearsal.matching import Difference, differences, picture
from weft.rehearsal.testing import CaseResult, FileResult, run_file
from weft.runtime import Runtime
from weft.values import ValueCheck, schema_problems

WORKFLOW = """
name: tried
inputs: {names: {type: array, default: [ada, eve]}}
steps:
  - {id: ask, uses: generate_chat_completion, connection: local-model, retry: {attempts: 3, backoff: 1h},
     with: {provider: openai, model: smollm2, messages: [{role: user, content: "{{ run.started_at }}"}]}}
  - id: each
    for_each: "{{ inputs.names }}"
    uses: send_email
    connection: outbox
    retry: {attempts: 2}
    with: {to: "{{ item }}@example.com", subject: "{{ steps.ask.output.choices[0].message.content }}", body: "No. {{ index }}"}
  - {id: pause, wait: {for: 2d}}
  - {id: ok, if: "'eve' in inputs.names", approval: {message: Shall we?, deadline: 1d}}
  - id: group
    for_each: "{{ inputs.names }}"
    steps:
      - {id: value, if: "item != 'eve'", uses: set_values, with: {values: {name: "{{ item }}"}}}
finally:
  - {id: done, uses: log, with: {message: done}}
outputs: {by: "{{ steps.ok.output.by }}", count: "{{ steps.each.output | length }}"}
"""
ANSWERS = "answers: {ask: {stand_in: {choices: [{message: {content: Hi}}]}}, ok: {approve: ann, comment: go on}}"


@cache
def registry() -> Registry:
    return packs.discover()


async def results_of(tmp_path: Path, cases: str, workflow: str = WORKFLOW) -> FileResult:
    """Run the cases of a document beside a workflow."""
    (tmp_path / "tried.yaml").write_text(workflow)
    file = tmp_path / "tried.test.yaml"
    file.write_text(cases)
    async with Runtime(tmp_path / "home", registry()) as runtime:
        return await run_file(runtime, file, lambda name: True)


async def one(tmp_path: Path, expect: str, answers: str = ANSWERS, more: str = "") -> CaseResult:
    """Run one case of the workflow above."""
    found = await results_of(tmp_path, f"cases:\n  - name: one\n    {answers}\n    expect: {expect}\n{more}")
    assert found.problems == (), [str(problem) for problem in found.problems]
    (case,) = found.cases
    return case


GOOD = [
    "{}",
    "{state: succeeded, outputs: {by: ann}}",
    "{outputs: {count: 2}, steps: {pause: {state: succeeded}}}",
    "{steps: {each: {calls: 2, arguments: [{to: ada@example.com, body: No. 0}, {to: eve@example.com}]}}}",
    "{steps: {each: {arguments: {subject: Hi}}}}",
    "{steps: {ok: {output: {answer: approve, comment: go on}}}}",
    "{steps: {group/value: [{state: succeeded, output: {name: ada}}, {state: skipped, calls: 0}]}}",
    "{steps: {done: {state: succeeded}, ask: {calls: 1, arguments: {model: smollm2}}}}",
]
BAD = {
    "{state: failed}": "expect.state",
    "{outputs: {by: joe}}": "expect.outputs.by",
    "{steps: {pause: {state: skipped}}}": "expect.steps.pause.state",
    "{steps: {each: {calls: 3}}}": "expect.steps.each.calls",
    "{steps: {each: {arguments: [{to: ada@example.com}, {to: joe@example.com}]}}}": "expect.steps.each.arguments[1].to",
    "{steps: {each: {arguments: [{to: ada@example.com}]}}}": "expect.steps.each.arguments[1]",
    "{steps: {each: {arguments: {body: No. 0}}}}": "expect.steps.each.arguments.body",
    "{steps: {each: {arguments: {nothing: 1}}}}": "expect.steps.each.arguments.nothing",
    "{steps: {ok: {output: {answer: reject}}}}": "expect.steps.ok.output.answer",
    "{steps: {ok: {error: rejected}}}": "expect.steps.ok.error",
    "{steps: {group/value: {state: succeeded}}}": 'expect.steps["group/value"].state',
    "{steps: {group/value: [{output: {name: ada}}]}}": "1 are expected",
}


@pytest.mark.parametrize("expect", GOOD)
async def test_what_holds_passes(tmp_path: Path, expect: str) -> None:
    """A case whose expectations hold passes; waits and deadlines take no time."""
    case = await one(tmp_path, expect)

    assert (case.state, case.misses) == ("passed", ())
    assert case.ms < 5_000


@pytest.mark.parametrize(("expect", "field"), BAD.items())
async def test_each_expectation_can_fail(tmp_path: Path, expect: str, field: str) -> None:
    """A case with one wrong expectation fails at that one, with its line."""
    case = await one(tmp_path, expect)

    assert case.state == "failed"
    told = [miss.difference.field if miss.difference else miss.message for miss in case.misses]
    assert any(field in each for each in told), told
    assert {miss.where.line for miss in case.misses} == {4}


async def test_a_run_that_fails_unexpectedly_fails_its_case_and_says_why(tmp_path: Path) -> None:
    """Without a word about it a run must succeed; the problem of the run is told with the miss."""
    case = await one(tmp_path, "{}", "answers: {ask: {error: refused}, ok: {approve: ann}}")

    assert case.state == "failed"
    assert case.problem is not None
    assert case.problem.code == "refused"


async def test_lists_answer_attempts_and_turns(tmp_path: Path) -> None:
    """A list answers the attempts of a step; in a loop it answers the items, and lists in it their attempts."""
    case = await one(
        tmp_path,
        "{steps: {ask: {calls: 3}, each: {calls: 3, output: [{state: partly_refused}, {state: sent}]}}}",
        """answers:
      ask: [{error: {kind: rate_limited, retryable: true}}, {error: {kind: busy, retryable: true}}, {stand_in: {}}]
      each: [[{error: {kind: busy, retryable: true}}, {stand_in: {state: partly_refused}}], {stand_in: {}}]
      ok: {approve: ann}""",
    )

    assert (case.state, [miss.message for miss in case.misses]) == ("passed", [])


async def test_time_passes_in_the_order_of_instants(tmp_path: Path) -> None:
    """A question that nobody answers ends at its deadline, and a retry after hours comes before a timeout of days."""
    case = await one(
        tmp_path, "{state: failed, error: no_answer, steps: {group/value: {state: pending}}}", "answers: {}"
    )

    assert (case.state, case.misses) == ("passed", ())


async def test_the_instant_of_the_run_is_given(tmp_path: Path) -> None:
    """`at` is what the run sees as its start; without it, a run starts at the same instant each time."""
    case = await one(
        tmp_path,
        "{steps: {ask: {arguments: {messages: [{content: '2026-03-01T07:00:00.000Z'}]}}}}",
        f"at: 2026-03-01T08:00:00+01:00\n    {ANSWERS}",
    )

    assert case.state == "passed"


UNFIT = [
    "answers: {ok: {approve: ann}, each: [{stand_in: {}}]}",
    "answers: {ok: {approve: ann}, each: [{stand_in: {}}, {stand_in: {}}, {stand_in: {}}]}",
    "answers: {ok: {approve: ann}, ask: [[{stand_in: {}}]]}",
    "answers: {ok: {approve: ann}, ask: [{stand_in: {}}, {stand_in: {}}]}",
]


@pytest.mark.parametrize("answers", UNFIT)
async def test_answers_that_do_not_fit_fail_the_case(tmp_path: Path, answers: str) -> None:
    """An answer that nothing asks for, or one that is missing, is told: the case does not show what it seems to show."""
    case = await one(tmp_path, "{}", answers)

    assert case.state == "failed"
    assert any("answer" in miss.message or "deeper" in miss.message for miss in case.misses)


async def test_an_action_without_effects_can_be_answered_too(tmp_path: Path) -> None:
    """What a case answers is not called, whatever its effect."""
    answers = "answers: {ok: {approve: ann}, done: {output: {level: info, message: other, facts: {}}}}"
    case = await one(tmp_path, "{steps: {done: {output: {message: other}}}}", answers)

    assert case.state == "passed"


async def test_a_question_without_deadline_and_answer_ends_the_case(tmp_path: Path) -> None:
    """A run that waits for somebody for ever is told as such."""
    found = await results_of(
        tmp_path,
        "cases: [{name: one, expect: {state: cancelled}}]",
        "name: tried\nsteps: [{id: ok, approval: {message: Shall we?}}]",
    )

    assert [miss.message for miss in found.cases[0].misses] == ["The run waits for an answer that nobody gives."]


async def test_a_timeout_comes_when_it_would(tmp_path: Path) -> None:
    """Simulated time lets a timeout of a group come before a longer wait inside it."""
    found = await results_of(
        tmp_path,
        "cases: [{name: one, expect: {state: failed, error: timeout}}]",
        "name: tried\nsteps: [{id: group, timeout: 1h, steps: [{id: pause, wait: {for: 2h}}]}]",
    )

    assert [(case.state, case.misses) for case in found.cases] == [("passed", ())]


async def test_a_group_that_is_tried_again_counts_all_tries(tmp_path: Path) -> None:
    """Answers and calls go over all tries of a group; the states are those of the last."""
    found = await results_of(
        tmp_path,
        "cases: [{name: one, answers: {group/mail: [{error: {kind: busy, retryable: true}}, {stand_in: {}}]},"
        " expect: {steps: {group/mail: {state: succeeded, calls: 2}}}}]",
        "name: tried\nsteps: [{id: group, retry: {attempts: 2}, steps: [{id: mail, uses: send_email, connection: outbox,"
        " retry: {attempts: 1}, with: {to: a@example.com, subject: x, body: x}}]}]",
    )

    assert [(case.state, case.misses) for case in found.cases] == [("passed", ())]


async def test_a_child_workflow_that_was_not_started_has_no_calls(tmp_path: Path) -> None:
    """What is expected of the steps of a child holds when it was skipped: they were not reached."""
    (tmp_path / "child.yaml").write_text("name: child\nsteps: [{id: pause, wait: {for: 1s}}]")
    found = await results_of(
        tmp_path,
        "cases: [{name: one, expect: {steps: {sub: {state: skipped}, sub/pause: {state: pending, calls: 0}}}}]",
        "name: tried\nsteps: [{id: sub, if: false, uses: 'workflow:child'}]",
    )

    assert found.problems == ()
    assert [(case.state, case.misses) for case in found.cases] == [("passed", ())]


async def test_steps_of_child_workflows_are_answered_and_expected(tmp_path: Path) -> None:
    """The steps of a child workflow have names behind the step that starts it."""
    (tmp_path / "child.yaml").write_text(
        "name: child\ninputs: {n: {type: integer}}\n"
        "steps: [{id: mail, uses: send_email, connection: outbox, with: {to: a@example.com, subject: 'N{{ inputs.n }}', body: x}}]\n"
        "outputs: {state: '{{ steps.mail.output.state }}'}"
    )
    cases = """
cases:
  - name: one
    answers: {sub/mail: [{stand_in: {state: partly_refused}}, {stand_in: {}}]}
    expect:
      outputs: {states: [partly_refused, sent]}
      steps: {sub/mail: [{calls: 1, arguments: {subject: N1}}, {arguments: {subject: N2}}], sub: {state: succeeded}}
"""
    found = await results_of(
        tmp_path,
        cases,
        "name: tried\nsteps: [{id: sub, for_each: [1, 2], uses: 'workflow:child', with: {n: '{{ item }}'}}]\n"
        "outputs: {states: \"{{ steps.sub.output | map(attribute='state') | list }}\"}",
    )

    assert found.problems == ()
    assert [(case.state, case.misses) for case in found.cases] == [("passed", ())]


INVALID = {
    "cases: [{name: a, expect: {steps: {eech: {calls: 1}}}}]": ("unknown_step", "Did you mean 'each'?"),
    "cases: [{name: a, answers: {eech: {error: x}}}]": ("unknown_step", "Did you mean 'each'?"),
    "cases: [{name: a, expect: {outputs: {bi: x}}}]": ("unknown_output", "There are: by, count."),
    "cases: [{name: a, expect: {stat: failed}}]": ("unknown_key", "Did you mean 'state'?"),
    "cases: [{name: a, answers: {each: {outputs: {}}}}]": ("unknown_key", "Did you mean 'output'?"),
    "cases: [{name: a, answers: {each: {error: x, stand_in: {}}}}]": ("exactly_one", None),
    "cases: [{name: a, answers: {each: {}}}]": ("exactly_one", None),
    "cases: [{name: a, answers: {each: {output: {state: sent}}}}]": ("missing", None),
    "cases: [{name: a, answers: {ok: {error: x}}}]": ("other_kind", None),
    "cases: [{name: a, answers: {each: {approve: ann}}}]": ("other_kind", None),
    "cases: [{name: a, answers: {group: {error: x}}}]": ("other_kind", None),
    "cases: [{name: a}, {name: a}]": ("duplicate", None),
    "cases: [{name: a, expect: {error: x}}]": ("needs_failed", None),
    "cases: []": ("invalid_value", None),
    "cases: [{name: a, at: yesterday}]": ("invalid_value", None),
}


@pytest.mark.parametrize(("text", "fault"), INVALID.items())
async def test_faults_of_a_document_are_told_with_their_place(
    tmp_path: Path, text: str, fault: tuple[str, str | None]
) -> None:
    """What a document of tests says of steps and outputs that there are not is an error, with line and column."""
    found = await results_of(tmp_path, text)

    assert found.cases == ()
    problems = [problem for problem in found.problems if problem.code == fault[0]]
    assert problems, [str(problem) for problem in found.problems]
    assert (problems[0].where.line, fault[1] in (None, problems[0].remedy)) == (1, True)


async def test_inputs_that_do_not_fit_are_an_error_of_the_case(tmp_path: Path) -> None:
    """A case that cannot be run is in error, the others run."""
    found = await results_of(
        tmp_path,
        f"cases:\n  - {{name: a, inputs: {{name: x}}}}\n  - name: b\n    {ANSWERS}\n    expect: {{state: succeeded}}",
    )

    assert [case.state for case in found.cases] == ["error", "passed"]
    assert found.cases[0].misses[0].message.startswith("inputs.name: ")


SHIPPED = sorted(Path(__file__).parents[2].glob(f"workflows/*{SUFFIX}"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_the_schema_for_editors_knows_each_shipped_document(file: Path) -> None:
    """What editors complete and check is what the reader reads."""
    schema = json_schema()

    assert schema_problems(schema) == []
    assert ValueCheck(schema).problems(source.read_file(file).value) == []


@pytest.mark.parametrize(
    "case",
    [
        {"name": "a", "expects": {}},
        {"name": "a", "answers": {"x": {"error": "y", "output": 1}}},
        {"name": "a", "answers": {"x": [1]}},
    ],
)
def test_the_schema_for_editors_refuses_what_the_reader_refuses(case: dict[str, Any]) -> None:
    """A key that there is not, and an answer that says two things, are marked while they are written."""
    assert ValueCheck(json_schema()).problems({"cases": [case]})


# -- comparing


@pytest.mark.parametrize(
    ("expected", "got", "fields"),
    [
        ({"a": 1}, {"a": 1.0, "b": 2}, []),
        ({"a": True}, {"a": 1}, ["a"]),
        ({"a": None}, {}, ["a"]),
        ([1, 2], [1], ["[1]"]),
        ([], [1], ["[0]"]),
        ({"a": [{"b": "x"}]}, {"a": [{"b": "y", "c": 1}]}, ["a[0].b"]),
        ({}, {"a": 1}, []),
    ],
)
def test_values_are_compared_part_by_part(expected: Any, got: Any, fields: list[str]) -> None:
    """Mappings may hold more than was expected, lists not; true is not 1, and what is not there is not null."""
    assert [each.field for each in differences(expected, got, subset=True)] == fields


def test_a_picture_points_at_the_first_character_that_differs() -> None:
    """Long texts are cut around the place where they differ, and a mark stands below it."""
    expected, got, mark = picture(Difference(("a",), "x" * 500 + "A" + "x" * 500, "x" * 500 + "B" + "x" * 500))

    assert len(expected) == len(got) < 200
    assert (expected[mark.index("^")], got[mark.index("^")]) == ("A", "B")


def test_texts_of_several_lines_are_shown_line_by_line() -> None:
    """Only the lines around a difference are shown, marked by which text has them."""
    lines = [f"line {i}" for i in range(40)]
    shown = picture(Difference((), "\n".join(lines), "\n".join([*lines[:20], "other", *lines[21:]])))

    assert "  - │ line 20" in shown
    assert "  + │ other" in shown
    assert len(shown) < 12
