"""Groups that are tried again, steps whose time is up, runs whose budget is used up, what `finally` sees and does."""

from __future__ import annotations

import asyncio
import json

import pytest

from weft.engine.interpreter import RunFacts
from weft.engine.replaying import without_turns
from weft.journal.base import OUTCOMES


def states(report):
    return {step.path: step.state for step in report.steps}


def kinds(records, path):
    return [(each.n, each.kind) for each in records if each.path == path]


# ---- groups that are tried again
RETRIED = """
    name: retried
    steps:
      - id: g
        retry: {attempts: 3, backoff: 10ms, jitter: false}
        steps:
          - {id: a, uses: deliver, with: {to: a}}
          - {id: b, uses: flaky, with: {key: b, failures: 2}}
      - {id: after, uses: echo, with: {value: "{{ steps.g.output.calls }}"}}
    """


async def test_a_group_is_tried_again_as_a_whole(lab):
    """Each try stands under a path of its own; what was sent before is sent again under its key, as a repeat."""
    report = await lab.run(RETRIED)

    assert (report.state, states(report)["/after"]) == ("succeeded", "succeeded")
    assert lab.module("flaky").CALLS["b"] == 3
    tried = {record.path for record in await lab.records(lab.run_id) if record.kind in OUTCOMES}
    assert {"/g/a", "/g/@2/a", "/g/@3/a", "/g/@3/b"} < tried
    keys = [(key, repeated) for _, key, repeated in lab.module("deliver").DELIVERED]
    assert keys == [(keys[0][0], False), (keys[0][0], True), (keys[0][0], True)]
    assert without_turns("/each[3]/@2/mail") == "/each/mail"


async def test_from_every_prefix_a_retried_group_comes_to_the_same(lab):
    """Tries of a group survive a crash at any record: none that is on record is made again."""
    planned = lab.plan(RETRIED)
    whole = await lab.run(planned, run_id="r")
    records = await lab.records("r")
    facts = RunFacts("r", whole.started_at.timestamp(), {})
    for cut in range(len(records)):
        known = {(each.path, each.n) for each in records[:cut] if each.kind in OUTCOMES and each.path.endswith("/b")}
        lab.module("flaky").CALLS.clear()
        lab.module("flaky").CALLS["b"] = len(known)
        again = await lab.resume(planned, records[:cut], facts)

        assert (again.state, again.steps[0].output) == (whole.state, whole.steps[0].output), cut
        assert lab.module("flaky").CALLS["b"] == 3, cut


async def test_a_group_is_not_tried_again_for_an_error_that_is_not_named(lab):
    """`on` names the kinds of error; without it, those that say that another try may help."""
    text = """
        name: named
        steps:
          - id: g
            retry: {{attempts: 3, backoff: 1ms{on}}}
            on_error: continue
            steps: [{{id: b, uses: flaky, with: {{key: "{key}", failures: 9, kind: odd, retryable: {retryable}}}}}]
        """
    for key, on, retryable, tried in (
        ("1", "", "true", 3),
        ("2", "", "false", 1),
        ("3", ", on: [odd]", "false", 3),
        ("4", ", on: [even]", "true", 1),
    ):
        await lab.run(text.format(key=key, on=on, retryable=retryable))
        assert lab.module("flaky").CALLS[key] == tried


async def test_what_may_happen_once_only_is_not_repeated_by_its_group(lab):
    """A step with `at_most_once` that was done keeps what it came to; one that is left in doubt lets no other try begin."""
    text = """
        name: once
        steps:
          - id: g
            retry: {attempts: 3, backoff: 1ms}
            steps:
              - {id: a, uses: deliver, delivery: at_most_once, with: {to: a}}
              - {id: b, uses: flaky, with: {key: b, failures: 1}}
        """
    report = await lab.run(text)
    assert (report.state, len(lab.module("deliver").DELIVERED)) == ("succeeded", 1)

    lab.module("deliver").DELIVERED.clear()
    text = text.replace("{to: a}", "{to: a, fault: after}").replace("once, with", "once, timeout: 200ms, with")
    report = await lab.run(text)
    assert (report.state, len(lab.module("deliver").DELIVERED)) == ("failed", 1)


# ---- time that is up
async def test_a_group_whose_time_is_up_has_failed_and_the_run_goes_on_as_it_says(lab):
    """A9: that the time is up is a record before anything acts on it; what was under way has its outcome, then it fails."""
    report = await lab.run(
        """
        name: slow
        steps:
          - id: g
            timeout: 200ms
            on_error: continue
            steps: [{id: n, uses: nap, with: {seconds: 30}}, {id: never, uses: deliver, with: {to: me}}]
          - {id: after, uses: echo, with: {value: "{{ steps.g.error.kind }}"}}
        """
    )
    records = await lab.records(lab.run_id)

    assert report.state == "succeeded"
    assert [step.output for step in report.steps if step.path == "/after"] == [{"value": "timeout"}]
    assert lab.module("deliver").DELIVERED == []
    assert kinds(records, "/g") == [(0, "timer"), (0, "rang")]
    order = [(each.path, each.kind) for each in records]
    assert order.index(("/g", "rang")) < order.index(("/g/n", "cancelled"))


async def test_what_has_passed_its_point_of_no_return_ends_though_the_time_is_up(lab):
    """A timeout cuts off no send: its outcome is on record, and nothing is in doubt."""
    report = await lab.run(
        """
        name: slow
        steps:
          - id: g
            timeout: 100ms
            steps: [{id: a, uses: deliver, with: {to: me, fault: slow}}, {id: b, uses: deliver, with: {to: me}}]
        """
    )

    assert (report.state, report.problem.code) == ("failed", "timeout")
    assert len(lab.module("deliver").DELIVERED) == 1
    assert states(report)["/g/a"] == "succeeded"


@pytest.mark.parametrize(
    "step",
    [
        "wait: {for: 1h}",
        "approval: {message: Really?}",
        "for_each: [1, 2, 3], max_parallel: 1, uses: nap, with: {seconds: 9}",
    ],
)
async def test_waits_questions_and_loops_have_a_timeout_as_a_whole(lab, step):
    """Whatever a step does, its timeout is of all of it."""
    report = await lab.run(f"name: slow\nsteps: [{{id: s, timeout: 150ms, {step}}}]")

    assert (report.state, report.problem.code) == ("failed", "timeout")


async def test_a_timeout_that_was_not_needed_leaves_no_trace_in_what_follows(lab):
    """A step that ends in time is done, and its timer is waited for no longer."""
    report = await lab.run(
        "name: fast\nsteps: [{id: g, timeout: 1h, steps: [{id: a, uses: echo, with: {value: 1}}]}]\noutputs: {x: '{{ steps.g.output.value }}'}"
    )

    assert (report.state, report.outputs) == ("succeeded", {"x": 1})


async def test_from_every_prefix_a_timeout_comes_to_the_same(lab):
    """A9: a crash before or after the record that the time is up changes nothing."""
    planned = lab.plan(
        """
        name: prefix
        steps:
          - id: g
            timeout: 100ms
            on_error: continue
            steps: [{id: a, uses: deliver, with: {to: a}}, {id: w, wait: {for: 1h}}, {id: b, uses: deliver, with: {to: b}}]
          - {id: after, uses: deliver, with: {to: after}}
        """
    )
    whole = await lab.run(planned, run_id="r")
    records = await lab.records("r")
    facts = RunFacts("r", whole.started_at.timestamp(), {})
    for cut in range(len(records)):
        lab.module("deliver").DELIVERED.clear()
        again = await lab.resume(planned, records[:cut], facts)
        assert again.state == whole.state, cut
        assert [states(again)[path] for path in ("/g", "/after")] == ["failed", "succeeded"], cut
        assert "b" not in [to for to, _, _ in lab.module("deliver").DELIVERED], cut


# ---- budgets of a run
async def test_a_run_begins_no_more_actions_than_its_budget_allows(lab):
    """`budget.steps` counts actions, each turn of a loop one, tries none; what is above it is not begun, on_error or not."""
    report = await lab.run(
        """
        name: capped
        budget: {steps: 3}
        steps:
          - {id: a, uses: flaky, with: {key: a, failures: 1, num_retries: 3}}
          - {id: each, for_each: [1, 2, 3], max_parallel: 1, on_error: continue, uses: deliver, with: {to: "{{ item }}"}}
          - {id: never, uses: deliver, with: {to: never}}
        finally: [{id: tidy, uses: echo, with: {value: 1}}]
        """.replace('"{{ item }}"', '"{{ item | string }}"')
        .replace("| string", "")
        .replace("[1, 2, 3]", '["1", "2", "3"]')
    )

    assert (report.state, report.problem.code) == ("failed", "budget_exceeded")
    assert [to for to, _, _ in lab.module("deliver").DELIVERED] == ["1", "2"]
    assert states(report)["/@finally/tidy"] == "succeeded"


async def test_a_run_ends_when_its_time_is_used_up(lab):
    """`budget.time` is a timer of the run: `finally` runs, then it has failed."""
    report = await lab.run(
        """
        name: late
        budget: {time: 150ms}
        steps: [{id: w, wait: {for: 1h}}]
        finally: [{id: tidy, uses: echo, with: {value: "{{ steps.w.state }}"}}]
        """
    )

    assert (report.state, report.problem.code) == ("failed", "budget_exceeded")
    assert [step.output for step in report.steps if step.path == "/@finally/tidy"] == [{"value": "cancelled"}]


# ---- the end
async def test_b9_finally_sees_every_step_and_adds_its_failure(lab):
    """B9: each step has a state, those never reached too; a failure in it is added to the first one, and replaces nothing."""
    report = await lab.run(
        """
        name: end
        steps:
          - {id: a, uses: flaky, with: {key: a, failures: 9, kind: first, retryable: false}}
          - {id: b, uses: echo}
        finally:
          - {id: see, uses: echo, with: {value: "{{ [steps.a.state, steps.b.state] }}"}}
          - {id: bad, uses: flaky, with: {key: c, failures: 9, kind: second, retryable: false}}
        """
    )

    assert [step.output for step in report.steps if step.path == "/@finally/see"] == [{"value": ["failed", "skipped"]}]
    assert report.problem.code == "first"
    assert "`finally` failed, too: Call 1 failed." in report.problem.message


async def test_b9_a_failing_finally_fails_a_run_that_had_succeeded_and_is_told_of_a_cancelled_one(lab):
    """B9: by itself it is the run's problem; beside a cancel it is added."""
    text = """
        name: end
        steps: [{id: w, wait: {for: DURATION}}]
        finally: [{id: bad, uses: flaky, with: {key: c, failures: 9, kind: second, retryable: false}}]
        """
    report = await lab.run(text.replace("DURATION", "0s"))
    assert (report.state, report.problem.code) == ("failed", "second")

    planned = lab.plan(text.replace("DURATION", "1h"))
    running = asyncio.create_task(lab.start(planned))
    await asyncio.sleep(0.2)
    await lab.cancel()
    found = await running
    assert found.status.state == "cancelled"
    assert "`finally` failed, too" in json.loads(found.status.result)["problem"]["message"]
