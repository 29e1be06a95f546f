"""Workflows that start others: what they are given, what they come to, and that they end with each other."""

from __future__ import annotations

import asyncio

import pytest

from weft.errors import InvalidWorkflow
from weft.journal.base import ENDS, RunQuery

CHILD = """
    name: child
    inputs: {who: {type: string, required: true}, often: {type: integer, default: 1}}
    steps:
      - {id: a, uses: deliver, with: {to: "{{ inputs.who }}"}}
      - {id: b, uses: echo, with: {value: "{{ inputs.often }}"}}
    outputs: {told: "{{ inputs.who }}", often: "{{ steps.b.output.value }}"}
    """
PARENT = """
    name: parent
    inputs: {who: {type: string, default: ann}}
    steps:
      - {id: c, uses: workflow:child, with: {who: "{{ inputs.who }}"}}
      - {id: after, uses: deliver, with: {to: "after {{ steps.c.output.told }} {{ steps.c.output.often }}"}}
    """


async def children(lab):
    found = await lab.journal.runs(RunQuery(parent=lab.run_id))
    return sorted(found, key=lambda each: each.row.parent.path)


async def test_the_outputs_of_a_child_run_are_those_of_its_step(lab):
    """A child is a run of its own, driven beside its parent, with inputs checked and complete."""
    lab.documents["child"] = CHILD
    report = await lab.run(PARENT, {"who": "ann"})

    assert (report.state, report.steps[0].output) == ("succeeded", {"told": "ann", "often": 1})
    assert [to for to, _, _ in lab.module("deliver").DELIVERED] == ["ann", "after ann 1"]
    (child,) = await children(lab)
    assert (child.row.workflow, child.row.parent.path, child.status.state) == ("child", "/c", "succeeded")
    assert report.steps[0].child == child.row.id


async def test_a_child_that_fails_fails_its_step_and_names_the_run(lab):
    """`child_failed`, with the run; what the parent says of errors holds."""
    lab.documents["child"] = (
        CHILD.replace("uses: echo", "uses: flaky")
        .replace('value: "{{ inputs.often }}"', "key: x, failures: 9, retryable: false")
        .replace('"{{ steps.b.output.value }}"', "1")
    )
    report = await lab.run(PARENT, {"who": "ann"})

    (child,) = await children(lab)
    assert (report.state, report.problem.code) == ("failed", "child_failed")
    assert child.row.id in report.problem.message
    assert report.problem.remedy == f"Look at it: weft runs show {child.row.id}"


async def test_a_child_is_started_once_whatever_its_parent_went_through(lab):
    """A parent that is taken up again anywhere waits for the child that is on record, and starts no other."""
    lab.documents["child"] = CHILD.replace("steps:", "steps:\n      - {id: w, wait: {for: 700ms}}", 1)
    planned = lab.plan(PARENT)
    running = asyncio.create_task(lab.start(planned, {"who": "ann"}))
    for _ in range(8):
        await asyncio.sleep(0.1)
        if lab.reactor is not None:
            lab.reactor.stop()
    found = await running

    assert (found.status.state, found.status.epoch > 1) == ("succeeded", True)
    assert [to for to, _, _ in lab.module("deliver").DELIVERED] == ["ann", "after ann 1"]
    assert len(await children(lab)) == 1


async def test_each_turn_and_each_try_has_a_child_of_its_own(lab):
    """Ids follow from the parent, the path and the try."""
    lab.documents["child"] = """
        name: child
        inputs: {key: {type: string}, failures: {type: integer}}
        steps: [{id: a, uses: flaky, with: {key: "{{ inputs.key }}", failures: "{{ inputs.failures }}"}}]
        """
    report = await lab.run(
        """
        name: parent
        steps:
          - id: each
            for_each: [0, 2]
            retry: {attempts: 3, backoff: 1ms}
            uses: workflow:child
            with: {key: "k{{ index }}", failures: "{{ item }}"}
        """
    )

    assert report.state == "succeeded"
    found = [(each.row.parent.path, each.row.parent.n, each.status.state) for each in await children(lab)]
    assert sorted(found) == [
        ("/each[0]", 1, "succeeded"),
        ("/each[1]", 1, "failed"),
        ("/each[1]", 2, "failed"),
        ("/each[1]", 3, "succeeded"),
    ]


async def test_a21_a_cancel_goes_through_the_tree_and_all_of_it_ends(lab):
    """A21: a child of a cancelled run is cancelled with it, runs its own `finally`, and then the parent ends."""
    lab.documents["leaf"] = """
        name: leaf
        steps: [{id: w, wait: {for: 1h}}]
        finally: [{id: tidy, uses: deliver, with: {to: tidy}}]
        """
    lab.documents["child"] = "name: child\nsteps: [{id: l, uses: workflow:leaf}]"
    planned = lab.plan(
        "name: parent\nsteps: [{id: c, uses: workflow:child}, {id: n, uses: deliver, with: {to: never}}]"
    )
    running = asyncio.create_task(lab.start(planned))
    await asyncio.sleep(0.6)
    await lab.cancel()
    found = await running
    await lab.driver.children_done()

    everything = await lab.journal.runs(RunQuery())
    assert found.status.state == "cancelled"
    assert {each.row.workflow: each.status.state for each in everything} == dict.fromkeys(
        ("parent", "child", "leaf"), "cancelled"
    )
    assert [to for to, _, _ in lab.module("deliver").DELIVERED] == ["tidy"]


async def test_a_timeout_ends_the_child_before_its_step(lab):
    """What runs inside is cancelled, once; the step has failed when it has ended."""
    lab.documents["child"] = """
        name: child
        steps: [{id: w, wait: {for: 1h}}]
        finally: [{id: tidy, uses: deliver, with: {to: tidy}}]
        """
    report = await lab.run("name: parent\nsteps: [{id: c, timeout: 300ms, uses: workflow:child}]")

    (child,) = await children(lab)
    assert (report.state, report.problem.code, child.status.state) == ("failed", "timeout", "cancelled")
    assert [to for to, _, _ in lab.module("deliver").DELIVERED] == ["tidy"]
    kept = await lab.journal.load(child.row.id)
    assert sum(record.kind == "cancel" for record in kept.records) == 1


async def test_a_child_that_its_gate_leaves_out_skips_its_step(lab):
    """With `skip`, one more is left out: the step is skipped, and the run goes on."""
    lab.documents["child"] = """
        name: child
        concurrency: {key: all, policy: skip}
        inputs: {n: {type: integer}}
        steps: [{id: w, wait: {for: 1s}}]
        """
    report = await lab.run(
        "name: parent\nsteps: [{id: a, uses: workflow:child, with: {n: 1}}, {id: b, needs: [], uses: workflow:child, with: {n: 2}}]"
    )

    assert report.state == "succeeded"
    assert sorted(step.state for step in report.steps) == ["skipped", "succeeded"]


# ---- who is told of a failure
TOLD = """
    name: told
    inputs: {run: {type: object}, workflow: {type: string}}
    steps: [{id: a, uses: deliver, with: {to: "{{ inputs.run.error.kind }} {{ inputs.run.error.step }} {{ inputs.workflow }}"}}]
    """
FAILING = "name: bad\nsteps: [{id: a, uses: flaky, with: {key: a, failures: 9, kind: odd, retryable: false}}]"


@pytest.mark.parametrize("own", [True, False], ids=["of the document", "of the workspace"])
async def test_a_workflow_is_told_of_a_failure(lab, own):
    """It is given what it declares of the failed run; the default of a workspace does the same."""
    lab.documents["told"] = TOLD
    lab.on_failure = None if own else "told"
    report = await lab.run(f"{FAILING}\n" + ("on_failure: {workflow: told}\n" if own else ""))

    assert (report.state, report.problem.code) == ("failed", "odd")
    assert [to for to, _, _ in lab.module("deliver").DELIVERED] == ["odd a bad"]


async def test_a_failure_of_who_is_told_changes_nothing(lab):
    """It stands in the report of the run; the run's problem is its own."""
    lab.documents["told"] = TOLD.replace("uses: deliver", "uses: flaky").replace("to:", "failures: 9, key:")
    report = await lab.run(f"{FAILING}\non_failure: {{workflow: told}}\n")

    assert report.problem.code == "odd"
    assert [(step.path, step.problem.code) for step in report.steps][-1] == ("/@on_failure", "child_failed")


# ---- faults of documents
@pytest.mark.parametrize(
    ("documents", "text", "code", "line"),
    [
        ({}, "name: p\nsteps:\n  - {id: c, uses: workflow:nowhere}", "unknown_workflow", 3),
        (
            {"a": "name: a\nsteps: [{id: b, uses: workflow:p}]", "p": "name: p\nsteps: [{id: c, uses: workflow:a}]"},
            "name: p\nsteps:\n  - {id: c, uses: workflow:a}",
            "cycle",
            3,
        ),
        ({"child": CHILD}, "name: p\nsteps:\n  - {id: c, uses: workflow:child}", "missing", 3),
        (
            {"child": CHILD},
            "name: p\nsteps:\n  - id: c\n    uses: workflow:child\n    with: {who: a, whom: b}",
            "unknown_input",
            5,
        ),
        ({"child": CHILD}, "name: p\nsteps:\n  - id: c\n    uses: workflow:child\n    with: {who: 1}", "wrong_type", 5),
        (
            {"child": "name: child\nsteps: [{id: a, uses: nothing}]"},
            "name: p\nsteps:\n  - {id: c, uses: workflow:child}",
            "unknown_action",
            3,
        ),
        (
            {"told": CHILD.replace("child", "told")},
            "name: p\nsteps: [{id: a, uses: echo}]\non_failure: {workflow: told}",
            "missing_input",
            3,
        ),
    ],
)
def test_faults_of_child_workflows_are_told_where_they_are_named(lab, documents, text, code, line):
    """Unknown, circular, given what it does not take, broken itself: at the place in the parent's file."""
    lab.documents.update(documents)
    with pytest.raises(InvalidWorkflow) as caught:
        lab.plan(text)

    assert [(each.code, each.where.line, each.where.file) for each in caught.value.problems] == [
        (code, line, "lab.yaml")
    ]


def test_workflows_are_not_nested_without_end(lab):
    """At most eight, each the child of the one before it."""
    for i in range(9):
        lab.documents[f"w{i}"] = f"name: w{i}\nsteps: [{{id: c, uses: workflow:w{i + 1}}}]"
    lab.documents["w9"] = "name: w9\nsteps: [{id: a, uses: echo}]"
    with pytest.raises(InvalidWorkflow, match="at most 8"):
        lab.plan(lab.documents["w0"])
    assert lab.plan(lab.documents["w2"])


async def test_what_a_child_follows_is_pinned_with_its_parent(lab):
    """A change of the child's file after the parent was accepted reaches no run."""
    lab.documents["child"] = CHILD
    planned = lab.plan(PARENT)
    lab.documents["child"] = "name: child\nsteps: [{id: a, uses: nothing}]"
    report = await lab.run(planned, {"who": "ann"})

    assert report.state == "succeeded"
    assert all(each.status.state in ENDS for each in await children(lab))


async def test_a_run_whose_outputs_cannot_be_made_tells_of_its_failure(lab):
    """Outputs that fail are a failure like any other: `on_failure` is done for it."""
    report = await lab.run(
        """
        name: told
        steps: [{id: a, uses: echo, with: {value: x}}]
        outputs: {n: "{{ steps.a.output.value.nothing.more }}"}
        on_failure: {steps: [{id: tell, uses: deliver, with: {to: team}}]}
        """
    )

    assert (report.state, report.problem and report.problem.code) == ("failed", "expression_missing")
    assert [to for to, _, _ in lab.module("deliver").DELIVERED] == ["team"]


async def test_a_child_whose_key_cannot_be_evaluated_fails_its_step(lab):
    """The key of a child's `concurrency` is evaluated over what the child is given; a fault in it is the step's."""
    lab.documents["c"] = """
        name: c
        inputs: {x: {type: object}}
        concurrency: {key: "{{ inputs.x.a.b }}"}
        steps: [{id: a, uses: echo}]
        """
    report = await lab.run(
        """
        name: p
        steps:
          - {id: c, on_error: continue, uses: "workflow:c", with: {x: {a: null}}}
          - {id: after, uses: echo, with: {value: "{{ steps.c.state }}"}}
        """
    )

    assert [(step.path, step.state) for step in report.steps] == [("/c", "failed"), ("/after", "succeeded")]


async def test_a_workflow_for_failures_that_does_not_take_the_facts_changes_nothing(lab):
    """The run has failed for what it has failed for, though nobody could be told."""
    lab.documents["told"] = """
        name: told
        inputs: {workflow: {type: string, enum: [other]}}
        steps: [{id: a, uses: echo}]
        """
    report = await lab.run(
        """
        name: p
        steps: [{id: a, uses: flaky, with: {key: never, failures: 99}}]
        on_failure: {workflow: told}
        """
    )

    assert (report.state, report.problem and report.problem.where.step) == ("failed", "a")


async def test_the_default_workflow_for_failures_may_start_those_that_it_tells_of(lab):
    """A child has no default of the workspace: what the default starts is no circle, though it is run by itself, too."""
    lab.documents["helper"] = "name: helper\nsteps: [{id: a, uses: flaky, with: {key: h, failures: 1}}]"
    lab.documents["told"] = "name: told\nsteps: [{id: h, uses: 'workflow:helper'}]"
    lab.on_failure = "told"
    report = await lab.run(lab.documents["helper"])

    assert report.state == "failed"
    runs = {found.row.workflow: found.status.state for found in await lab.journal.runs(RunQuery())}
    assert runs["told"] == "succeeded"


async def test_a_child_that_has_sent_what_is_sent_once_is_not_tried_again(lab):
    """A failed one is not begun anew, and one that was done keeps what it came to in another try of its group."""
    lab.documents["once"] = """
        name: once
        inputs: {failures: {type: integer}}
        steps:
          - {id: a, uses: deliver, delivery: at_most_once, with: {to: me}}
          - {id: b, uses: flaky, with: {key: inner, failures: "{{ inputs.failures }}"}}
        """
    delivered = lab.module("deliver").DELIVERED
    text = """
        name: p
        steps: [{id: c, retry: {attempts: 3, backoff: 1ms}, uses: "workflow:once", with: {failures: 1}}]
        """
    report = await lab.run(text)
    assert (report.state, len(delivered)) == ("failed", 1)

    delivered.clear()
    report = await lab.run(
        """
        name: p
        steps:
          - id: g
            retry: {attempts: 3, backoff: 1ms}
            steps:
              - {id: c, uses: "workflow:once", with: {failures: 0}}
              - {id: d, uses: flaky, with: {key: outer, failures: 1}}
        """
    )
    assert (report.state, len(delivered)) == ("succeeded", 1)
