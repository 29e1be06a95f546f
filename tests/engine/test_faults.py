"""What goes wrong around a run: actions that break every promise, journals that refuse, observers that raise, cancels."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from dataclasses import replace

import pytest

from weft import executor
from weft.connections import BuiltIn, Connections
from weft.engine.attempts import Chain, idempotency_key
from weft.engine.events import AttemptStarted, Emitted, RunEnded, StepStarted
from weft.errors import ConnectionUnusable, JournalRefused, NotFound, Problem
from weft.executor import Executor, Prepared
from weft.journal.base import OUTCOMES, Rest
from weft.outcome import Failure, Outcome
from weft.plan import ConnectionFacts
from weft.redaction import Secret
from weft.sdk import Connection, Variant


def one(step, name="a"):
    return f"name: {name}\nsteps: [{{id: a, {step}}}]"


def states(report):
    return {step.path: step.state for step in report.steps}


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def others():
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


# ---- actions
@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("exit", "crashed"),
        ("cancelled", "crashed"),
        ("timeout", "crashed"),
        ("details", "odd"),
        ("large details", "odd"),
        ("numbers", "odd"),
    ],
)
async def test_a4_whatever_an_action_raises_is_one_record(lab, how, code):
    """A4: an end that cannot be stored as it came is stored all the same, and never makes the call again."""
    rogue = lab.module("rogue")
    rogue.CALLS.clear()
    report = await lab.run(one(f"uses: rogue, with: {{how: {how}}}, on_error: continue"))

    assert report.state == "succeeded"
    assert report.steps[0].problem.code == code
    assert len(report.steps[0].problem.message) < 5_000
    assert [how] == rogue.CALLS
    record = (await lab.records("run-1"))[-1]
    assert record.kind == "failed"
    assert len(record.payload) < 200_000
    failure = json.loads(record.payload)["failure"]
    assert (failure["retry_after_s"], failure["effect"]) == (None, "unknown")


@pytest.mark.parametrize("how", ["attempts raise", "attempts nonsense", "attempts empty"])
async def test_attempts_that_are_broken_fail_the_step_by_the_actions_name(lab, how):
    """A third party's `attempts` is never a traceback; the fault names the action and nothing that it was given."""
    rogue = lab.module("rogue")
    rogue.CALLS.clear()
    report = await lab.run(one(f"uses: rogue, with: {{how: {how}}}"))

    assert (report.state, report.problem.code) == ("failed", "broken_attempts")
    assert "'rogue'" in report.problem.message
    assert "prompt" not in report.model_dump_json()
    assert report.problem.where.line == 2
    assert rogue.CALLS == []


async def test_a_check_that_breaks_on_rendered_values_fails_the_step(lab):
    """What only a run can know goes through the same guard as what is known before it."""
    report = await lab.run(
        """
        name: a
        inputs: {how: {}}
        steps: [{id: a, uses: rogue, with: {how: "{{ inputs.how }}"}}]
        """,
        {"how": "check raises"},
    )

    assert (report.state, report.problem.code) == ("failed", "broken_check")


async def test_a_variant_that_breaks_the_manifest_is_a_failed_attempt_without_effect(lab):
    """Arguments of a fallback that do not fit are told by name, and the next variant is tried."""
    report = await lab.run(one("uses: rogue, with: {how: variant breaks}"))

    assert [(a.variant, a.kind) for a in report.steps[0].attempts] == [
        ("bad", "bad_argument"), ("unknown", "bad_argument"), ("good", None)
    ]  # fmt: skip
    told = report.steps[0].attempts[0].problem.where
    assert told.field == "with.how"
    assert (
        one("uses: rogue, with: {how: variant breaks}")
        .splitlines()[told.line - 1][told.column - 1 :]
        .startswith("variant")
    )


async def test_an_action_says_how_long_to_wait_between_its_tries(lab):
    """A variant's own waits come in their order, the last one again and again; the step's `retry` goes before them."""
    report = await lab.run(one("uses: rogue, with: {how: patient}"))
    own = await lab.run(one("uses: rogue, with: {how: patient}, retry: {attempts: 2, backoff: 1ms, jitter: false}"))

    assert [attempt.wait_s for attempt in report.steps[0].attempts] == [0.01, 0.02, 0.02, 0.0]
    assert [attempt.wait_s for attempt in own.steps[0].attempts] == [0.001, 0.0]


async def test_what_was_done_in_part_is_the_output_when_nothing_more_is_tried(lab):
    """A failure that has an output is tried again as others are; at the end the step has succeeded with it."""
    report = await lab.run(one("uses: rogue, with: {how: partly}"))

    assert [(attempt.state, attempt.kind) for attempt in report.steps[0].attempts] == [("failed", "odd")] * 2
    assert (report.state, report.steps[0].output) == ("succeeded", {"half": True})


async def test_a_thousand_tries_take_time_in_proportion(lab):
    """A long chain of attempts costs little more per attempt than a short one."""
    began = time.process_time()
    report = await lab.run(one("uses: rogue, with: {how: many tries}"))

    assert len(report.steps[0].attempts) == 1_000
    assert time.process_time() - began < 5


async def test_a_plain_function_may_raise_anything(lab):
    """An exception that asyncio cannot carry ends the attempt like any other, at once."""
    report = await lab.run(one("uses: plain, with: {how: stop}"))

    assert report.problem.code == "crashed"
    assert report.ms < 2_000


async def test_observers_hear_of_threads_in_the_loops_own_thread(lab):
    """What a plain function emits reaches observers in order, from the loop's thread, and not after its end."""
    import threading

    threads = set()
    lab.observe = lambda event: threads.add(threading.current_thread())
    report = await lab.run(one("uses: plain, timeout: 50ms, with: {how: late, seconds: 0.2}, on_error: continue"))
    seen = len(lab.events)
    await asyncio.sleep(0.25)

    assert report.steps[0].problem.code == "timeout"
    assert threads == {threading.main_thread()}
    assert "".join(event.text for event in lab.events if isinstance(event, Emitted)) == "late "
    assert len(lab.events) == seen


async def test_a6_nothing_is_tried_beside_a_thread_whatever_the_retry_says(lab, monkeypatch):
    """A6: a retry that names time-outs, too, waits for no thread that may still work."""
    monkeypatch.setattr(executor, "LONGEST_ATTEMPT_S", 0.05)
    plain = lab.module("plain")
    plain.DONE.clear()
    step = "uses: plain, with: {how: slow, seconds: 0.15}, retry: {attempts: 3, backoff: 1ms, on: [timeout]}"
    report = await lab.run(one(step))
    await asyncio.sleep(0.2)

    assert [attempt.kind for attempt in report.steps[0].attempts] == ["timeout"]
    assert plain.DONE == ["slow"]


def chain_of(lab, *, retry):
    """A chain of two variants for a send whose manifest says `retry`."""
    step = lab.plan(one("uses: deliver, with: {to: me}")).steps[0]
    manifest = step.action.manifest.model_copy(update={"retry": retry})
    step = replace(step, action=replace(step.action, manifest=manifest))
    return Chain(step, Prepared({}, (Variant("first", 3), Variant("second"))), "r", 1.0, "/a")


@pytest.mark.parametrize(
    ("retry", "effect", "tried"), [("never", "unknown", 1), ("never", "none", 4), ("guarded", "unknown", 4)]
)
def test_a6_what_must_never_be_retried_is_not_after_doubt(lab, retry, effect, tried):
    """A6: for `retry: never` an attempt that may have had its effect is the last, fallbacks included."""
    chain = chain_of(lab, retry=retry)
    failure = Failure(Problem("busy", "Busy."), retryable=True, retry_after_s=0.0, effect=effect)
    calls = []
    while (call := chain.next()) is not None:
        calls.append(call)
        chain.failed(Outcome("failed", call.variant.name, 1.0, 1.0, failure=failure), failure)

    assert len(calls) == tried


def test_a_key_is_that_of_one_step_of_one_run():
    """Steps, turns and runs have keys of their own; parts of different length cannot be mistaken for each other."""
    keys = {
        idempotency_key(run, path, series)
        for run, path, series in [("r", "/a", 1), ("r", "/b", 1), ("s", "/a", 1), ("r/", "a", 1), ("r", "/a", 11)]
    }

    assert len(keys) == 5
    assert idempotency_key("r", "/a", 1) in keys


# ---- connections
def with_opener(lab, opener):
    built_in = BuiltIn({"labx": (ConnectionFacts("labx", "account", "built in"), opener)})
    lab.executor = Executor(Connections([built_in], lab.redactor), lab.redactor, lambda run_id: None)
    return one("uses: leak, connection: labx, with: {where: nowhere}, timeout: 100ms")


async def test_a_connection_that_does_not_open_is_no_fault_of_the_action(lab, caplog):
    """What an opener raises is told as the connection's fault, without its text, and the call was not made."""

    async def opener():
        raise OSError("secret-in-an-error")

    report = await lab.run(with_opener(lab, opener))

    assert report.problem.code == "connection_failed"
    assert "'labx'" in report.problem.message
    assert "OSError" in report.problem.message
    assert "secret-in" not in report.model_dump_json()
    assert json.loads((await lab.records("run-1"))[-1].payload)["failure"]["effect"] == "none"


async def test_what_a_connection_says_itself_is_told_as_it_is(lab):
    """An error of ours out of an opener keeps its code and words."""

    async def opener():
        raise ConnectionUnusable("The server did not start.", code="not_started", remedy="Look at its log.")

    assert (await lab.run(with_opener(lab, opener))).problem.code == "not_started"


async def test_the_time_of_a_step_covers_the_opening_of_its_connection(lab):
    """A connection that takes longer than the step's timeout ends it."""

    async def opener():
        await asyncio.sleep(30)
        raise AssertionError

    report = await lab.run(with_opener(lab, opener))

    assert report.problem.code == "timeout"
    assert "labx" in report.problem.message
    assert report.ms < 3_000


async def test_what_opening_took_is_taken_off_the_calls_time(lab):
    """The deadline of the call is the step's, counted from its begin."""

    async def opener():
        await asyncio.sleep(0.2)
        return Connection("labx", "account", {"token": Secret("canary-2")})

    with_opener(lab, opener)
    report = await lab.run(one("uses: leak, connection: labx, with: {where: deadline}, timeout: 5s"))

    assert 1 < report.steps[0].output["remaining_s"] < 4.85


# ---- observers, journal, engine
async def test_an_observer_that_raises_disturbs_nobody(lab, caplog):
    """Whatever an observer does, the run goes on; the log tells of it."""
    lab.observe = lambda event: 1 / 0
    report = await lab.run("name: a\nsteps: [{id: a, uses: echo, with: {value: x}}, {id: b, uses: echo}]")

    assert report.state == "succeeded"
    assert "observer_failed" in caplog.text


class Refusing:
    """A journal that refuses its n-th write."""

    def __init__(self, journal, refused, error=JournalRefused):
        self.journal, self.refused, self.error, self.writes = journal, refused, error, 0

    def __getattr__(self, name):
        return getattr(self.journal, name)

    async def write(self, *args):
        self.writes += 1
        if self.writes == self.refused:
            raise self.error("refused")
        await self.journal.write(*args)


SENDS = "name: s\nsteps: [{id: a, uses: deliver, with: {to: a}}, {id: p, wait: {for: 50ms}}, {id: b, uses: deliver, with: {to: b}}]"


@pytest.mark.parametrize("refused", range(1, 5))
@pytest.mark.parametrize("error", [JournalRefused, OSError])
async def test_a17_after_a_refused_write_nothing_more_begins(lab, refused, error):
    """A17, A16: refused at any write, the run is parked with its reason, and no effect follows; resumed, it ends."""
    deliver = lab.module("deliver")
    deliver.DELIVERED.clear()
    lab.around = Refusing(lab.journal, refused, error)
    report = await lab.run(SENDS)
    begun = [record for record in await lab.records("run-1") if record.kind == "begun"]

    assert lab.around.writes >= refused
    assert (report.state, report.problem.code) == ("parked", "stuck")
    assert isinstance(lab.events[-1], RunEnded)
    assert len(deliver.DELIVERED) == len(begun)
    assert others() == set()

    await lab.journal.resume("run-1")
    assert (await lab.follow()).state == "succeeded"
    assert [to for to, _, _ in deliver.DELIVERED] == ["a", "b"]


async def test_a_run_that_cannot_even_be_parked_is_not_left_without_an_owner(lab):
    """A16: when its last write is refused as well, the run is ready for whoever goes on."""
    await lab.journal.open()
    lab.around = Refusing(lab.journal, 1)
    lab.around.write = refuse
    run = asyncio.create_task(lab.run("name: a\nsteps: [{id: a, uses: echo}]"))
    await until_async(lambda: crashes(lab))
    run.cancel()

    assert (await lab.journal.status("run-1")).status.crashes >= 1


async def refuse(*_):
    raise JournalRefused("refused")


async def crashes(lab):
    try:
        return (await lab.journal.status("run-1")).status.crashes
    except NotFound:
        return 0


async def until_async(holds):
    while not await holds():
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("broken", ["advance", "settle", "load", "perform"])
async def test_a16_a_fault_of_the_engine_parks_the_run_with_its_reason(lab, monkeypatch, broken):
    """A16: no run stays without an operation, wherever an exception comes from; resumed, it goes on."""

    def fail(*_, **__):
        raise ZeroDivisionError("with a prompt in it")

    from weft.engine import reactor as module
    from weft.engine.interpreter import Walk

    owner = {"load": module, "perform": Executor}.get(broken, Walk)
    planned = lab.plan("name: a\nsteps: [{id: a, uses: echo}]")
    with monkeypatch.context() as patch:
        patch.setattr(owner, "facts_of" if broken == "load" else broken, fail)
        found = await lab.start(planned)

    reason = json.loads(found.status.reason)
    assert (found.status.state, reason["code"]) == ("parked", "stuck")
    assert "ZeroDivisionError" in reason["message"]
    assert "prompt" not in found.status.reason
    assert others() == set()
    await lab.journal.resume("run-1")
    assert (await lab.follow()).state == "succeeded"


async def test_a16_a_begun_effect_ends_before_a_broken_run_does(lab):
    """A fault of the engine cuts nothing off that cannot be taken back; its outcome is on record."""
    deliver = lab.module("deliver")
    deliver.DELIVERED.clear()
    planned = lab.plan(
        """
        name: s
        steps:
          - {id: a, uses: deliver, needs: [], with: {to: me, fault: slow}}
          - {id: b, uses: nap, needs: [], with: {seconds: 0.05}}
        """
    )
    task = asyncio.create_task(lab.run(planned))
    await until(lambda: len([e for e in lab.events if isinstance(e, AttemptStarted)]) == 2)
    lab.reactor._walk.settle = lambda record: 1 / 0
    report = await task

    assert report.state == "parked"
    assert len(deliver.DELIVERED) == 1
    assert ("/a", "succeeded") in {(record.path, record.kind) for record in await lab.records("run-1")}


async def test_a8_two_interpreters_of_one_run_cannot_both_write(lab):
    """A8: when somebody else has claimed the run, the first one's next write ends it."""
    planned = lab.plan("name: a\nsteps: [{id: a, uses: nap, with: {seconds: 0.05}}, {id: b, uses: echo}]")
    task = asyncio.create_task(lab.run(planned))
    await until(lambda: any(isinstance(event, AttemptStarted) for event in lab.events))
    await lab.journal.release("run-1", ends=1)
    other = await lab.journal.claim("run-1")
    await asyncio.sleep(0.2)

    assert [r for r in await lab.records("run-1") if r.kind in OUTCOMES] == []
    assert (await lab.journal.status("run-1")).status.state == "running"
    assert lab.reactor is None
    await lab.journal.write(other, 0, (), Rest("ready"))  # the other one lets go, and the first goes on again
    assert (await task).state == "succeeded"


# ---- cancel
async def test_a18_a_plain_send_is_not_abandoned_by_a_cancel(lab):
    """A18: a thread that sends cannot be stopped, so the run waits for what comes of it."""
    plain = lab.module("plain")
    plain.DONE.clear()
    task = asyncio.create_task(lab.run(lab.plan(one("uses: plain, with: {how: sent, seconds: 0.2}"))))
    await until(lambda: any(isinstance(event, Emitted) for event in lab.events))
    await lab.cancel()
    report = await task

    assert plain.DONE == ["sent"]
    assert (report.state, states(report)) == ("cancelled", {"/a": "succeeded"})


async def test_a_cancelled_wait_has_not_succeeded(lab):
    """A pause that was cut short is told as cancelled."""
    task = asyncio.create_task(lab.run(lab.plan("name: c\nsteps: [{id: a, wait: {for: 1h}}]")))
    await until(lambda: any(isinstance(event, StepStarted) for event in lab.events))
    await lab.cancel()

    assert states(await task) == {"/a": "cancelled"}


async def test_a18_the_first_cancel_leaves_finally_alone(lab):
    """A18: a cancel that comes while `finally` runs lets it end, retries included; the run is cancelled."""
    planned = lab.plan(
        """
        name: c
        steps: [{id: a, uses: echo}]
        finally:
          - {id: nap, uses: nap, with: {seconds: 0.1}}
          - {id: pause, wait: {for: 20ms}}
          - {id: tidy, uses: flaky, with: {key: tidy-cancel, failures: 2, num_retries: 2, retry_after_s: 0.01}}
        """
    )
    task = asyncio.create_task(lab.run(planned))
    await until(lambda: any(isinstance(e, AttemptStarted) and e.path == "/@finally/nap" for e in lab.events))
    await lab.cancel()
    report = await task

    assert report.state == "cancelled"
    assert set(states(report).values()) == {"succeeded"}
    assert len(report.steps[-1].attempts) == 3


async def test_a18_a_second_cancel_ends_finally_and_is_on_record(lab):
    """A18: asked twice, `finally` ends too; both cancels are records, also when they come together."""
    planned = lab.plan(
        "name: c\nsteps: [{id: a, uses: nap, with: {seconds: 9}}]\nfinally: [{id: b, uses: nap, with: {seconds: 9}}]"
    )
    for together in (True, False):
        lab.events.clear()
        task = asyncio.create_task(lab.run(planned, run_id=f"twice-{together}"))
        await until(lambda: any(isinstance(event, AttemptStarted) for event in lab.events))
        await lab.cancel()
        if not together:
            await until(lambda: any(isinstance(e, AttemptStarted) and e.path == "/@finally/b" for e in lab.events))
        await lab.cancel()
        report = await task

        assert report.state == "cancelled"
        assert report.ms < 3_000
        cancels = [r.n for r in await lab.records(f"twice-{together}") if r.kind == "cancel"]
        assert cancels == [1, 2]


CANCELLED = """
    name: many
    steps:
      - {id: a, uses: nap, needs: [], with: {seconds: 0.01}}
      - {id: s, uses: deliver, needs: [], with: {to: me, fault: slow}}
      - {id: p, needs: [], wait: {for: 15ms}}
      - id: each
        needs: [a]
        for_each: "{{ range(6) | list }}"
        max_parallel: 2
        steps:
          - {id: x, uses: nap, with: {seconds: 0.01}}
          - {id: y, uses: flaky, with: {key: "k{{ index }}", failures: 1, num_retries: 2, retry_after_s: 0.005}}
      - {id: t, uses: block, needs: [a], with: {seconds: 0.02}}
      - {id: last, uses: deliver, needs: [each, s, p, t], with: {to: you}}
    finally: [{id: tidy, uses: nap, with: {seconds: 0.01}}]
    """


@pytest.mark.parametrize("seed", range(12))
async def test_a18_a_cancel_at_any_time_ends_cleanly(lab, seed):
    """A18: at whatever moment a cancel comes, no task is left, begun sends end, and `finally` is done."""
    deliver = lab.module("deliver")
    deliver.DELIVERED.clear()
    lab.module("flaky").CALLS.clear()
    task = asyncio.create_task(lab.run(lab.plan(CANCELLED)))
    await asyncio.sleep(random.Random(seed).random() * 0.4)
    if lab.reactor is not None:
        await lab.cancel()
    report = await task
    records = await lab.records("run-1")

    assert report.state in {"cancelled", "succeeded"}
    assert states(report)["/@finally/tidy"] == "succeeded"
    assert others() == set()
    begun = {(r.path, r.n) for r in records if r.kind == "begun"}
    assert begun <= {(r.path, r.n) for r in records if r.kind in OUTCOMES}
    done = [r.path for r in records if r.kind == "succeeded" and r.path in ("/s", "/last")]
    assert len(deliver.DELIVERED) == len(done)
    assert report.state == ("cancelled" if any(r.kind == "cancel" for r in records) else "succeeded")


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_a_cancel_at_any_turn_of_the_loop_ends_cleanly(lab, turns):
    """Between any two steps of the event loop a cancel is a cancel, never an exception."""
    task = asyncio.create_task(
        lab.run(lab.plan("name: a\nsteps: [{id: a, uses: deliver, with: {to: me}}, {id: b, uses: echo}]"))
    )
    while lab.reactor is None:
        await asyncio.sleep(0)
    for _ in range(turns):
        await asyncio.sleep(0)
    with contextlib.suppress(JournalRefused):  # it has ended
        await lab.cancel()

    assert (await task).state in {"cancelled", "succeeded"}
    assert others() == set()


# ---- size
async def test_a_loop_over_many_items_takes_time_in_proportion(lab):
    """Each of 5,000 items costs less than 2 ms, alone and inside a group, and no more than one of 1,000 does."""
    text = """
        name: many
        inputs: {count: {type: integer}}
        steps:
          - {id: each, for_each: "{{ range(inputs.count) | list }}", uses: echo, with: {value: "{{ item }}"}}
          - id: group
            for_each: "{{ steps.each.output }}"
            max_parallel: 10
            steps: [{id: x, uses: echo, with: {value: "{{ item.value }}"}}]
        """

    async def cpu_s(count):
        began = time.process_time()
        report = await lab.run(text, {"count": count})
        assert (report.state, len(report.steps)) == ("succeeded", 2 + count)
        return time.process_time() - began

    few, many = min([await cpu_s(1_000), await cpu_s(1_000)]), await cpu_s(5_000)

    assert many < 5_000 * 2 * 0.002
    assert many < 10 * few


async def test_a_loop_over_what_is_no_list_says_where(lab):
    """The place is the expression that gave it."""
    report = await lab.run("name: a\nsteps:\n  - {id: a, uses: echo, for_each: '{{ 1 }}'}\n")

    assert (report.problem.code, report.problem.where.line) == ("not_a_list", 3)
    assert report.problem.where.column > 30


@pytest.mark.parametrize("length", ["1e300", "-1", "true", "'soon'", "none", "[1]"])
async def test_a_wait_of_no_length_fails_and_says_where(lab, length):
    """What a template gives for a duration is checked as in a document."""
    report = await lab.run(f'name: a\nsteps:\n  - {{id: a, wait: {{for: "{{{{ {length} }}}}"}}}}\n')

    assert (report.problem.code, report.problem.where.line) == ("not_a_duration", 3)
    assert report.problem.where.field == "wait.for"
