"""Runs from document to report, on the lab's actions."""

from __future__ import annotations

import asyncio
import json

import pytest

from weft.engine.events import AttemptEnded, AttemptStarted, Emitted, StepEnded, StepStarted
from weft.errors import InvalidWorkflow


def states(report):
    return {step.path: step.state for step in report.steps}


def outputs(report):
    return {step.path: step.output for step in report.steps}


async def test_a_later_step_sees_the_output_of_an_earlier_one(lab):
    """Outputs are woven into later steps with their types."""
    report = await lab.run(
        """
        name: two
        inputs: {word: {default: hello}}
        steps:
          - {id: a, uses: echo, with: {value: [1, "{{ inputs.word }}", null, true]}}
          - {id: b, uses: echo, with: {value: "{{ steps.a.output.value }}"}}
          - {id: c, uses: echo, with: {value: "got {{ steps.b.output.value[1] }}"}}
        outputs: {all: "{{ steps.b.output.value }}", first: "{{ steps.a.output.value[0] }}"}
        """,
        {"word": "hello"},
    )

    assert report.state == "succeeded"
    assert outputs(report)["/b"] == {"value": [1, "hello", None, True]}
    assert outputs(report)["/c"] == {"value": "got hello"}
    assert report.outputs == {"all": [1, "hello", None, True], "first": 1}


async def test_a_false_condition_skips_the_step_and_the_run_goes_on(lab):
    """A skipped step has output null, and what needs it still runs."""
    report = await lab.run(
        """
        name: skipping
        steps:
          - {id: a, uses: echo, if: "{{ 1 > 2 }}"}
          - {id: b, uses: echo, disabled: true}
          - {id: c, uses: echo, if: "steps.a.state == 'skipped' and steps.b.output is none", with: {value: 1}}
        """
    )

    assert states(report) == {"/a": "skipped", "/b": "skipped", "/c": "succeeded"}


async def test_steps_without_needs_of_each_other_run_side_by_side(lab):
    """`needs: []` starts at once, and a join waits for all that it needs."""
    nap = lab.module("nap")
    nap.MOST = 0
    report = await lab.run(
        """
        name: diamond
        steps:
          - {id: left, uses: nap, needs: [], with: {seconds: 0.1}}
          - {id: right, uses: nap, needs: [], with: {seconds: 0.1}}
          - {id: join, uses: echo, needs: [left, right], with: {value: "{{ [steps.left.state, steps.right.state] }}"}}
        """
    )

    assert nap.MOST == 2
    assert outputs(report)["/join"] == {"value": ["succeeded", "succeeded"]}


async def test_a_failed_step_stops_new_starts_and_lets_running_ones_finish(lab):
    """The run fails with the first failure in document order, after `finally` has run."""
    report = await lab.run(
        """
        name: failing
        steps:
          - {id: slow, uses: nap, needs: [], with: {seconds: 0.1}}
          - {id: bad, uses: flaky, needs: [], with: {key: stops, failures: 9, retryable: false}}
          - {id: never, uses: echo, needs: [slow]}
        finally:
          - {id: told, uses: echo, with: {value: "{{ steps.bad.error.kind }} {{ steps.never.state }}"}}
        """
    )

    assert report.state == "failed"
    assert report.problem.code == "busy"
    assert states(report) == {
        "/slow": "succeeded", "/bad": "failed", "/never": "pending", "/@finally/told": "succeeded"
    }  # fmt: skip
    assert outputs(report)["/@finally/told"] == {"value": "busy skipped"}


async def test_a_tolerated_failure_lets_the_run_succeed(lab):
    """`on_error: continue` and `on_error: {steps}` go on, and later steps see what happened."""
    report = await lab.run(
        """
        name: tolerant
        steps:
          - {id: a, uses: flaky, with: {key: t1, failures: 9, retryable: false}, on_error: continue}
          - id: b
            uses: flaky
            with: {key: t2, failures: 9, retryable: false, kind: broken}
            on_error: {steps: [{id: note, uses: echo, with: {value: "{{ steps.b.error.kind }}"}}]}
          - {id: c, uses: echo, with: {value: "{{ steps.a.error.kind }}"}}
        """
    )

    assert report.state == "succeeded"
    assert outputs(report)["/b/@on_error/note"] == {"value": "broken"}
    assert outputs(report)["/c"] == {"value": "busy"}


async def test_a_loop_keeps_order_and_bounds_how_many_run(lab):
    """`for_each` gives the list of outputs in order, with at most `max_parallel` at a time."""
    nap = lab.module("nap")
    nap.MOST = 0
    report = await lab.run(
        """
        name: loop
        steps:
          - {id: each, uses: nap, for_each: "{{ range(7) | list }}", max_parallel: 3,
             with: {seconds: "{{ (7 - index) / 100 }}", name: "n{{ item }}"}}
          - id: group
            for_each: [a, b]
            steps: [{id: x, uses: echo, with: {value: "{{ item }}{{ index }}"}}]
          - {id: after, uses: echo, with: {value: "{{ steps.group.output }}"}}
        """
    )

    assert nap.MOST == 3
    assert [round(item["slept"], 2) for item in outputs(report)["/each"]] == [0.07, 0.06, 0.05, 0.04, 0.03, 0.02, 0.01]
    assert outputs(report)["/after"] == {"value": [{"value": "a0"}, {"value": "b1"}]}


async def test_a_wait_lets_time_pass(lab):
    """`wait` takes a duration, and its end is on record."""
    report = await lab.run("name: w\nsteps: [{id: pause, wait: {for: 50ms}}, {id: b, uses: echo}]")

    assert states(report) == {"/pause": "succeeded", "/b": "succeeded"}
    assert [r.kind for r in await lab.records("run-1") if r.path == "/pause"] == ["timer", "rang"]


@pytest.mark.parametrize("what", ["nan", "bytes", "large", "schema", "deep"])
async def test_a4_an_output_that_cannot_be_kept_is_recorded_and_never_repeats_the_call(lab, what):
    """A4: once a call has returned, no fault of its output makes the call again."""
    weird = lab.module("weird")
    weird.CALLS.clear()
    report = await lab.run(
        f"name: odd\nsteps: [{{id: a, uses: weird, with: {{what: {what}}}, retry: {{attempts: 5}}}}]"
    )

    assert [what] == weird.CALLS
    assert report.state == "failed"
    assert report.steps[0].problem.code in {"bad_output", "output_too_large"}


async def test_outcomes_are_taken_from_their_text(lab):
    """A5: what the run goes on with is what the journal would give back."""
    report = await lab.run(
        """
        name: text
        steps:
          - {id: a, uses: weird, with: {what: surrogate}}
          - {id: b, uses: echo, with: {value: "{{ steps.a.output.value | length }}"}}
        """
    )

    records = await lab.records("run-1")
    assert all(record.payload.isascii() and json.loads(record.payload) is not ... for record in records)
    assert report.state in {"succeeded", "failed"}


async def test_bad_arguments_fail_the_step_before_any_call(lab):
    """Rendered arguments are checked by the manifest, and the message says where the template stands."""
    report = await lab.run(
        """
        name: bad
        inputs: {n: {type: integer, default: -1}}
        steps:
          - {id: a, uses: flaky, with: {key: bad-args, failures: "{{ inputs.n }}"}}
        """,
        {"n": -1},
    )

    problem = report.steps[0].problem
    assert lab.module("flaky").CALLS["bad-args"] == 0
    assert (problem.where.file, problem.where.line, problem.where.step) == ("lab.yaml", 5, "a")
    assert problem.where.field == "with.failures"
    assert report.steps[0].attempts == []


async def test_an_expression_fault_says_where(lab):
    """An expression that fails in a run names file, line, column, step, the name and what exists."""
    report = await lab.run(
        """
        name: fault
        steps:
          - {id: a, uses: echo, with: {value: {answer: 1}}}
          - id: b
            uses: echo
            with:
              value: "text {{ steps.a.output.value.anser }}"
        """
    )

    problem = report.steps[1].problem
    assert (problem.where.line, problem.where.step, problem.where.field) == (8, "b", "with.value")
    assert problem.where.column >= 19
    assert "anser" in problem.message
    assert "answer" in problem.message + (problem.remedy or "")


async def test_a_crash_of_an_action_is_a_failure_without_its_text(lab, caplog):
    """An exception that is not Weft's becomes `crashed`; its text, which may hold anything, stays in the log."""
    lab.environ["LABX_TOKEN"] = "very-secret-token-1"
    report = await lab.run("name: c\nsteps: [{id: a, uses: leak, connection: labx, with: {where: crash}}]")

    assert report.steps[0].problem.code == "crashed"
    assert "KeyError" in report.steps[0].problem.message
    assert "very-secret" not in report.model_dump_json()


async def test_a_plain_function_runs_in_a_thread(lab):
    """A plain `def` action does not hold up the loop."""
    report = await lab.run(
        """
        name: threads
        steps:
          - {id: a, uses: block, needs: [], with: {seconds: 0.2}}
          - {id: b, uses: nap, needs: [], with: {seconds: 0.01}}
        """
    )

    by_path = {step.path: step for step in report.steps}
    assert by_path["/a"].output["thread"].startswith("weft-action")
    assert by_path["/b"].ms < by_path["/a"].ms


async def test_events_tell_the_whole_story_in_order(lab):
    """Observers hear of steps, attempts, emitted pieces and ends, in the order in which they happen."""
    await lab.run("name: e\nsteps: [{id: a, uses: echo, with: {value: one two}}]")

    kinds = [type(event).__name__ for event in lab.events]
    assert kinds == [
        "RunStarted", "StepStarted", "AttemptStarted", "Emitted", "Emitted", "AttemptEnded", "StepEnded", "RunEnded"
    ]  # fmt: skip
    assert "".join(event.text for event in lab.events if isinstance(event, Emitted)) == "one two "
    assert [event.path for event in lab.events if isinstance(event, StepStarted | StepEnded)] == ["/a", "/a"]


async def test_a_document_with_faults_never_starts(lab):
    """Faults that can be known before a run are told before it, all at once, in the order of the file."""
    with pytest.raises(InvalidWorkflow) as caught:
        lab.plan(
            """
            name: faults
            inputs: {word: {default: x}}
            steps:
              - {id: a, uses: ecko}
              - {id: b, uses: echo, with: {value: "{{ inputs.wrod }}"}}
              - {id: c, uses: echo, with: {valeu: 1}}
              - {id: d, uses: echo, with: {value: "{{ steps.e.output }}"}}
              - {id: e, uses: flaky, with: {failures: -1}}
              - {id: f, uses: leak, with: {where: nowhere}}
              - {id: g, uses: echo, with: {value: "{{ 1 + }}"}}
              - {id: h, uses: echo, if: "steps.z.output", with: {value: "{{ item }}"}}
              - {id: i, uses: flaky, with: {key: k, num_retries: 1}, retry: {attempts: 2}}
              - {id: j, uses: echo, delivery: at_most_once}
            """
        )

    codes = [problem.code for problem in caught.value.problems]
    lines = [problem.where.line for problem in caught.value.problems]
    assert lines == sorted(lines)
    assert {
        "unknown_action", "unknown_input", "unknown_parameter", "later_step", "missing_connection", "unknown_step",
        "two_retries", "needless_delivery",
    } <= set(codes)  # fmt: skip
    by_line = {problem.where.line: problem for problem in caught.value.problems}
    assert "echo" in by_line[5].remedy
    assert "word" in by_line[6].remedy
    assert by_line[6].where.column == 43
    assert "value" in str(by_line[7])


# ---- attempts
async def test_every_attempt_is_a_record_and_a_retry_goes_on_where_it_stopped(lab):
    """Attempts, their waits and their kinds are on record and in the report."""
    report = await lab.run(
        "name: r\nsteps: [{id: a, uses: flaky, with: {key: r1, failures: 2, num_retries: 2, retry_after_s: 0.01}}]"
    )

    step = report.steps[0]
    assert step.output == {"model": "first", "calls": 3, "earlier": 2}
    assert [(a.number, a.variant, a.state, a.kind, a.wait_s) for a in step.attempts] == [
        (1, "first", "failed", "busy", 0.01), (2, "first", "failed", "busy", 0.01), (3, "first", "succeeded", None, 0.0)
    ]  # fmt: skip
    assert [(r.n, r.kind) for r in await lab.records("run-1")] == [
        (1, "failed"), (1, "timer"), (1, "rang"), (2, "failed"), (2, "timer"), (2, "rang"), (3, "succeeded")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "calls", "variants"),
    [
        ("failures: 9", 1, ["first"]),
        ("failures: 9, num_retries: 2", 3, ["first"] * 3),
        ("failures: 9, num_retries: 2, retryable: false", 1, ["first"]),
        ("failures: 9, num_retries: 5, max_tries: 2", 2, ["first"] * 2),
        ("failures: 9, num_retries: 1, fallbacks: [b, c]", 6, ["first"] * 2 + ["b"] * 2 + ["c"] * 2),
        ("failures: 9, num_retries: 1, retryable: false, fallbacks: [b, c]", 3, ["first", "b", "c"]),
        ("failures: 9, num_retries: 1, retryable: false, fallback: false, fallbacks: [b]", 1, ["first"]),
        ("failures: 1, fallbacks: [b, c]", 2, ["first", "b"]),
    ],
)
async def test_the_chain_is_walked_as_declared(lab, arguments, calls, variants):
    """Retries come before fallbacks, and only what may help is tried."""
    key = f"chain {arguments}"
    report = await lab.run(
        f"name: r\nsteps: [{{id: a, uses: flaky, with: {{key: '{key}', {arguments}, retry_after_s: 0.001}}}}]"
    )

    assert lab.module("flaky").CALLS[key] == calls
    assert [attempt.variant for attempt in report.steps[0].attempts] == variants
    ended = [event for event in lab.events if isinstance(event, AttemptEnded)]
    assert [event.attempt for event in ended] == list(range(1, calls + 1))


async def test_the_step_own_retry_backs_off_and_chooses_by_kind(lab):
    """`retry` of a step tries the kinds that it names, with its own back-off."""
    report = await lab.run(
        """
        name: r
        steps:
          - {id: a, uses: flaky, with: {key: own1, failures: 2, retryable: false, kind: odd}, on_error: continue,
             retry: {attempts: 3, backoff: 10ms, jitter: false, on: [odd]}}
          - {id: b, uses: flaky, with: {key: own2, failures: 2, kind: even}, on_error: continue,
             retry: {attempts: 3, backoff: 10ms, on: [odd]}}
        """
    )

    flaky = lab.module("flaky")
    assert (flaky.CALLS["own1"], flaky.CALLS["own2"]) == (3, 1)
    assert states(report) == {"/a": "succeeded", "/b": "failed"}


async def test_retry_after_beyond_the_timeout_is_not_waited_for(lab):
    """What the other side asks for is honoured up to the step's timeout and no further."""
    report = await lab.run(
        "name: r\nsteps: [{id: a, uses: flaky, timeout: 2s, with: {key: ra, failures: 1, num_retries: 3, retry_after_s: 60}}]"
    )

    assert lab.module("flaky").CALLS["ra"] == 1
    assert report.ms < 1500


async def test_what_is_asked_without_a_timeout_has_a_limit(lab):
    """A server that wants us back in hours, or never, is not waited for: the next variant is tried at once."""
    for key, asked in (("hours", 9_999), ("ages", 1e15)):
        report = await lab.run(
            f"name: r\nsteps: [{{id: a, uses: flaky, with: {{key: {key}, failures: 1, num_retries: 3, "
            f"retry_after_s: {asked}, fallbacks: [spare]}}}}]"
        )
        assert [attempt.variant for attempt in report.steps[0].attempts] == ["first", "spare"]
        assert report.steps[0].attempts[0].wait_s == 0


async def test_a_timeout_covers_the_whole_step(lab):
    """A step's timeout stops the attempt in flight and leaves no time for another."""
    report = await lab.run(
        "name: t\nsteps: [{id: a, uses: nap, timeout: 100ms, with: {seconds: 5}, retry: {attempts: 3, backoff: 1ms}}]"
    )

    assert report.steps[0].problem.code == "timeout"
    assert len(report.steps[0].attempts) == 1
    assert report.ms < 1500


async def test_a6_no_attempt_starts_beside_a_thread_that_may_still_work(lab):
    """A6: a thread cannot be stopped, so a timeout of a plain function is final."""
    block = lab.module("block")
    block.CALLS.clear()
    report = await lab.run(
        "name: t\nsteps: [{id: a, uses: block, timeout: 5s, with: {seconds: 0.05}, retry: {attempts: 3, backoff: 1ms}}]"
    )
    assert report.state == "succeeded"
    report = await lab.run(
        "name: t\nsteps: [{id: a, uses: block, timeout: 50ms, with: {seconds: 0.3}, retry: {attempts: 3, backoff: 1ms}}]"
    )

    assert report.steps[0].problem.code == "timeout"
    assert len(block.CALLS) == 2
    await asyncio.sleep(0.3)


# ---- effects
async def test_an_effect_is_announced_before_it_and_known_as_a_repeat_after_doubt(lab):
    """`begun` stands before the outcome of a send; after an unknown end the next attempt is marked as a repeat."""
    deliver = lab.module("deliver")
    deliver.DELIVERED.clear()
    report = await lab.run(
        "name: d\nsteps: [{id: a, uses: deliver, with: {to: me, fault: once_after}, retry: {attempts: 2, backoff: 1ms}}]"
    )

    assert report.state == "succeeded"
    assert [(to, repeated) for to, _, repeated in deliver.DELIVERED] == [("me", False), ("me", True)]
    assert len({key for _, key, _ in deliver.DELIVERED}) == 1
    kinds = [(record.n, record.kind) for record in await lab.records("run-1")]
    assert kinds[0] == (1, "begun")
    assert (2, "begun") in kinds


async def test_what_may_happen_once_is_tried_again_when_it_is_proved_that_nothing_happened(lab):
    """With `delivery: at_most_once` a proved non-effect is tried again; of a doubt the run asks (`test_doubts.py`)."""
    report = await lab.run(
        """
        name: d
        steps: [{id: a, uses: deliver, delivery: at_most_once, with: {to: me, fault: before},
                 retry: {attempts: 3, backoff: 1ms}}]
        """
    )

    assert len(report.steps[0].attempts) == 3


# ---- cancel
async def test_cancel_stops_what_runs_and_still_does_finally(lab):
    """A cancel stops attempts, starts nothing but `finally`, and ends as cancelled."""
    planned = lab.plan(
        """
        name: c
        steps: [{id: a, uses: nap, with: {seconds: 30}}, {id: b, uses: echo}]
        finally: [{id: tidy, uses: echo, with: {value: tidied}}]
        """
    )
    task = asyncio.create_task(lab.run(planned))
    await _until(lambda: any(isinstance(event, AttemptStarted) for event in lab.events))
    await lab.cancel()
    report = await task

    assert report.state == "cancelled"
    assert states(report) == {"/a": "cancelled", "/b": "pending", "/@finally/tidy": "succeeded"}
    assert lab.module("nap").RUNNING == 0


async def test_a18_a_begun_effect_ends_before_the_run_is_cancelled(lab):
    """A18: past the point of no return an attempt runs to its end, and its outcome is on record."""
    deliver = lab.module("deliver")
    deliver.DELIVERED.clear()
    planned = lab.plan("name: c\nsteps: [{id: a, uses: deliver, with: {to: me, fault: slow}}, {id: b, uses: echo}]")
    task = asyncio.create_task(lab.run(planned))
    await _until(lambda: any(isinstance(event, AttemptStarted) for event in lab.events))
    await asyncio.sleep(0.05)
    await lab.cancel()
    report = await task

    assert len(deliver.DELIVERED) == 1
    assert (report.state, states(report)) == ("cancelled", {"/a": "succeeded", "/b": "pending"})


async def test_a_second_cancel_stops_at_once(lab):
    """Asked twice, a run leaves `finally` undone and says of a begun effect that it may have happened."""
    planned = lab.plan(
        """
        name: c
        steps: [{id: a, uses: deliver, with: {to: me, fault: slow}}]
        finally: [{id: tidy, uses: echo}]
        """
    )
    task = asyncio.create_task(lab.run(planned))
    await _until(lambda: any(isinstance(event, AttemptStarted) for event in lab.events))
    await asyncio.sleep(0.05)
    await lab.cancel()
    await lab.cancel()
    report = await task

    assert report.state == "cancelled"
    assert "/@finally/tidy" not in states(report)
    assert report.steps[0].problem.code == "effect_unknown"
    assert "may have happened" in report.steps[0].problem.message
    assert [attempt.state for attempt in report.steps[0].attempts] == ["cancelled"]


async def test_a_cancel_ends_a_wait(lab):
    """A cancel does not wait for a timer."""
    task = asyncio.create_task(lab.run(lab.plan("name: c\nsteps: [{id: a, wait: {for: 1h}}, {id: b, uses: echo}]")))
    await _until(lambda: any(isinstance(event, StepStarted) for event in lab.events))
    await asyncio.sleep(0.05)
    await lab.cancel()
    report = await task

    assert report.state == "cancelled"
    assert report.ms < 5000


async def _until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)
