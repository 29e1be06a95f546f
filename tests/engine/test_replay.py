"""A run answered from its records goes on where it stopped, from every point at which it may have stopped."""

from __future__ import annotations

import asyncio
import random

import pytest

from weft.engine.events import AttemptStarted
from weft.engine.interpreter import RunFacts
from weft.journal.base import OUTCOMES, Record

pytestmark = pytest.mark.parametrize("lab", ["memory", "sqlite", "postgres"], indirect=True)

DOCUMENTS = {
    "chain": """
        name: chain
        inputs: {word: {default: hi}}
        steps:
          - {id: a, uses: echo, with: {value: "{{ inputs.word }}"}}
          - {id: b, uses: echo, if: "steps.a.output.value == 'hi'", with: {value: "{{ steps.a.output.value ~ '!' }}"}}
          - {id: c, uses: echo, with: {value: "{{ steps.b.output.value | upper }}"}}
        outputs: {last: "{{ steps.c.output.value }}"}
        """,
    "graph": """
        name: graph
        steps:
          - {id: a, uses: echo, needs: [], with: {value: 1}}
          - {id: b, uses: echo, needs: [], with: {value: 2}}
          - {id: c, uses: echo, needs: [a], with: {value: "{{ steps.a.output.value + 10 }}"}}
          - {id: d, uses: echo, needs: [b, c], with: {value: "{{ steps.b.output.value + steps.c.output.value }}"}}
        outputs: {sum: "{{ steps.d.output.value }}"}
        """,
    "loops": """
        name: loops
        steps:
          - id: each
            for_each: "{{ range(4) | list }}"
            max_parallel: 2
            steps:
              - {id: x, uses: echo, with: {value: "{{ item * 2 }}"}}
              - {id: y, uses: echo, with: {value: "{{ steps.x.output.value + index }}"}}
          - {id: sum, uses: echo, with: {value: "{{ steps.each.output | map(attribute='value') | sum }}"}}
        finally: [{id: last, uses: echo, with: {value: "{{ steps.sum.output.value }}"}}]
        outputs: {sum: "{{ steps.sum.output.value }}"}
        """,
    "failures": """
        name: failures
        steps:
          - {id: a, uses: flaky, on_error: continue,
             with: {key: "KEY", failures: 2, num_retries: 1, retry_after_s: 0.001, fallbacks: [second]}}
          - {id: b, uses: deliver, with: {to: "{{ steps.a.output.model }}"}}
          - {id: pause, wait: {for: 1ms}}
          - {id: c, uses: echo, with: {value: "{{ steps.a.state }}"}}
        outputs: {model: "{{ steps.a.output.model }}"}
        """,
}


DOCUMENTS["stopping"] = """
        name: stopping
        steps:
          - id: each
            for_each: "{{ range(6) | list }}"
            max_parallel: 2
            uses: flaky
            with: {key: "KEY{{ index }}", failures: "{{ 9 if index == 1 else 0 }}", retryable: false}
            on_error: continue
          - {id: after, uses: echo, with: {value: "{{ steps.each.state }}"}}
        outputs: {state: "{{ steps.after.output.value }}"}
        """


def performed(records):
    return {(record.path, record.n) for record in records if record.kind in OUTCOMES}


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_from_every_prefix_of_its_records_a_run_comes_to_the_same(lab, name):
    """What is on record is never performed again, and the result is that of the undisturbed run."""
    text = DOCUMENTS[name].replace("KEY", f"replay-{name}")
    planned = lab.plan(text)
    whole = await lab.run(planned, {"word": "hi"}, run_id="r")
    records = await lab.records("r")
    facts = RunFacts("r", whole.started_at.timestamp(), {"word": "hi"})
    flaky = lab.module("flaky")

    for cut in range(len(records) + 1):
        kept = records[:cut]
        if name == "stopping":  # each turn fails or not by itself
            for turn in range(6):
                flaky.CALLS[f"replay-{name}{turn}"] = 0
        flaky.CALLS[f"replay-{name}"] = sum(r.path == "/a" and r.kind in OUTCOMES for r in kept)
        again = await lab.resume(planned, kept, facts)
        after = await lab.records("r")

        assert (again.state, again.outputs) == (whole.state, whole.outputs)
        assert performed(after) == performed(records)
        assert after[:cut] == kept


async def test_records_in_another_order_are_the_same_run(lab):
    """Nothing depends on the order in which parallel steps ended."""
    planned = lab.plan(DOCUMENTS["graph"])
    whole = await lab.run(planned, run_id="r")
    records = await lab.records("r")
    facts = RunFacts("r", whole.started_at.timestamp(), {})
    for seed in range(5):
        random.Random(seed).shuffle(records)
        again = await lab.resume(planned, records, facts)

        assert again.outputs == whole.outputs


@pytest.mark.parametrize("failing", [0, 1])
async def test_a9_what_a_failure_kept_from_beginning_is_not_begun_by_a_replay(lab, failing):
    """A9: a loop that stopped at a failure has the same turns after a crash, whichever turn ended first."""
    planned = lab.plan(
        f"""
        name: early
        steps:
          - id: each
            for_each: "{{{{ range(5) | list }}}}"
            max_parallel: 2
            on_error: continue
            steps:
              - {{id: nap, uses: nap, with: {{seconds: "{{{{ 0.01 if index == {failing} else 0.1 }}}}"}}}}
              - {{id: x, uses: flaky, if: "{{{{ index == {failing} }}}}", with: {{key: stop{failing}, failures: 99}}}}
        """
    )
    await lab.run(planned, run_id="r")
    records = await lab.records("r")
    begun = {path for path, _ in performed(records)}
    assert not any(path.startswith("/each[2]") for path in begun)
    for cut in range(len(records) + 1):
        await lab.resume(planned, records[:cut], RunFacts("r", 1.0, {}))

        assert {path for path, _ in performed(await lab.records("r"))} == begun


async def test_a18_a_cancelled_run_replays_to_the_same_end(lab):
    """A18: what had succeeded before the cancel is still seen by `finally` after a crash, and nothing more begins."""
    planned = lab.plan(
        """
        name: cancelled
        steps:
          - {id: a, uses: echo, with: {value: 1}}
          - {id: b, uses: nap, with: {seconds: 30}}
          - {id: c, uses: echo}
        finally:
          - {id: tidy, uses: echo, with: {value: "{{ [steps.a.output.value, steps.b.state, steps.c.state] }}"}}
        """
    )
    task = asyncio.create_task(lab.run(planned, run_id="r"))
    async with asyncio.timeout(5):
        while not any(isinstance(event, AttemptStarted) and event.path == "/b" for event in lab.events):
            await asyncio.sleep(0.01)
    await lab.cancel()
    await task
    records = await lab.records("r")
    cancelled = next(i for i, record in enumerate(records) if record.kind == "cancel")
    for cut in range(cancelled + 1, len(records) + 1):
        report = await lab.resume(planned, records[:cut], RunFacts("r", 1.0, {}))

        assert report.state == "cancelled"
        assert report.steps[-1].output == {"value": [1, "cancelled", "skipped"]}
        assert performed(await lab.records("r")) == performed(records)


async def test_a18_a_begun_effect_of_a_cancelled_run_is_recorded_as_in_doubt(lab):
    """A18: after a crash of a cancelled run, a begun send is not made again but marked: it may have happened."""
    deliver = lab.module("deliver")
    deliver.DELIVERED.clear()
    planned = lab.plan("name: d\nsteps: [{id: a, uses: deliver, with: {to: me}}]")
    await lab.run(planned, run_id="r")
    history = [(await lab.records("r"))[0], Record("", 1, "cancel", "{}")]
    deliver.DELIVERED.clear()
    report = await lab.resume(planned, history, RunFacts("r", 1.0, {}))

    assert report.state == "cancelled"
    assert deliver.DELIVERED == []
    assert "may have happened" in report.steps[0].problem.message
    assert (await lab.records("r"))[-1].kind == "cancelled"


async def test_an_effect_begun_before_a_crash_is_repeated_as_a_repeat(lab):
    """A `begun` without an outcome makes the next call of the same attempt a marked repeat under the same key."""
    deliver = lab.module("deliver")
    deliver.DELIVERED.clear()
    planned = lab.plan("name: d\nsteps: [{id: a, uses: deliver, with: {to: me}}]")
    await lab.resume(planned, [], RunFacts("r", 1.0, {}))
    begun = (await lab.records("r"))[0]
    assert begun.kind == "begun"
    await lab.resume(planned, [begun], RunFacts("r", 1.0, {}))

    assert [repeated for _, _, repeated in deliver.DELIVERED] == [False, True]
    assert len({key for _, key, _ in deliver.DELIVERED}) == 1


async def test_a_cancel_on_record_stays_a_cancel(lab):
    """A run that was cancelled before a crash starts nothing after it but `finally`."""
    planned = lab.plan("name: d\nsteps: [{id: a, uses: echo}]\nfinally: [{id: tidy, uses: echo}]")
    report = await lab.resume(planned, [Record("", 1, "cancel", "{}")], RunFacts("r", 1.0, {}))

    assert report.state == "cancelled"
    assert [step.state for step in report.steps] == ["cancelled", "succeeded"]
    assert not [event for event in lab.events if isinstance(event, AttemptStarted) and event.path == "/a"]
