"""Rules by which a run is followed as it was recorded, or not at all."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from weft.engine.events import AttemptStarted, Logged
from weft.engine.interpreter import RunFacts
from weft.errors import JournalRefused
from weft.expressions import template
from weft.expressions.sequences import FILTERS
from weft.journal import base
from weft.journal.base import OUTCOMES, Record

PAGE = (Path(__file__).parents[2] / "docs" / "expressions.md").read_text(encoding="utf-8")
SCOPE = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
EXAMPLES = [
    (name, row[1].replace("\\|", "|"))
    for row in re.findall(r"^\| (.*?) \|[^\n]*?\| `(\{\{.*?\}\})` \|", PAGE, re.MULTILINE)
    for name in re.findall(r"`([a-z]+)`", row[0])[:1]
    if name in FILTERS and f"| {name}" in row[1].replace("\\|", "|")
]


def other(value):
    """Something of the same type that is not `value`."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + "x"
        case list():
            return [*value, *value, "x"]
        case dict():
            return {key: other(item) for key, item in value.items()}
        case _:
            return "x"


def changed(function):
    def work(*args, **kwargs):
        result = function(*args, **kwargs)
        return other(list(result) if isinstance(result, tuple) else result)

    return work


def document(expression):
    return f"""
        name: filters
        inputs: {{tags: {{type: array}}, name: {{}}, count: {{type: integer}}, price: {{type: number}}, note: {{type: object}}, nick: {{type: object}}}}
        steps:
          - {{id: rows, uses: echo, with: {{value: {json.dumps(SCOPE["steps"]["rows"]["output"])}}}}}
          - {{id: a, uses: deliver, with: {{to: {json.dumps(f"<{expression}>")}}}}}
          - {{id: b, uses: deliver, with: {{to: b}}}}
        """


@pytest.fixture(autouse=True)
def _forgotten():
    """Nothing that was compiled over a changed filter outlives its test."""
    yield
    forget_templates()


def forget_templates():
    """Have templates compiled anew, as in another process, so that they see what was changed."""
    template._remembered.cache_clear()
    template._remembered_condition.cache_clear()


def test_examples_of_most_filters_are_found():
    """The examples are those of the page that documents them."""
    assert {name for name, _ in EXAMPLES} > {"upper", "sort", "map", "date", "join", "selectattr", "default"}
    assert len(EXAMPLES) > 30


@pytest.mark.parametrize(("name", "expression"), EXAMPLES)
async def test_a3_a_filter_that_changed_between_two_crash_points_parks_the_run(lab, monkeypatch, name, expression):
    """A3: what is on record for other arguments is not taken for these, and nothing more is begun."""
    deliver = lab.module("deliver")
    expression = expression.replace("steps.rows.output", "steps.rows.output.value")
    inputs = {key: value for key, value in SCOPE["inputs"].items() if value is not None}
    planned = lab.plan(document(expression))
    whole = await lab.run(planned, inputs, run_id="r")
    assert whole.state == "succeeded", whole.problem
    records = await lab.records("r")
    facts = RunFacts("r", whole.started_at.timestamp(), inputs)
    begun = next(at for at, record in enumerate(records) if (record.path, record.kind) == ("/a", "begun"))
    monkeypatch.setitem(FILTERS, name, changed(FILTERS[name]))
    forget_templates()
    planned = lab.plan(document(expression))
    for cut in (begun + 1, begun + 2, len(records) - 1):
        deliver.DELIVERED.clear()
        again = await lab.resume(planned, records[:cut], facts, report=False)

        assert (again.status.state, json.loads(again.status.reason)["code"]) == ("parked", "diverged")
        assert deliver.DELIVERED == []
        assert await lab.records("r") == records[:cut]


CHOICES = {
    "if": """
        name: c
        steps:
          - {id: x, uses: echo, with: {value: ada}}
          - {id: a, uses: deliver, if: "{{ steps.x.output.value | upper == 'ADA' }}", with: {to: a}}
          - {id: b, uses: deliver, with: {to: b}}
        """,
    "for_each": """
        name: c
        steps:
          - {id: x, uses: echo, with: {value: [ada, bo]}}
          - {id: a, for_each: "{{ steps.x.output.value | map('upper') }}", max_parallel: 1, uses: deliver, with: {to: always}}
          - {id: b, uses: deliver, with: {to: b}}
        """,
}


@pytest.mark.parametrize("what", CHOICES)
async def test_a3_a_choice_that_comes_out_otherwise_parks_the_run(lab, monkeypatch, what):
    """A3: `if` and the items of a loop are on record before anything acts on them."""
    deliver = lab.module("deliver")
    planned = lab.plan(CHOICES[what])
    await lab.run(planned, run_id="r")
    records = await lab.records("r")
    chosen = next(at for at, record in enumerate(records) if record.kind == "choice")
    assert chosen < next(at for at, record in enumerate(records) if record.kind == "begun")
    monkeypatch.setitem(FILTERS, "upper", lambda *_, **__: "OTHER")
    forget_templates()
    planned = lab.plan(CHOICES[what])
    for cut in range(chosen + 1, len(records) + 1):
        deliver.DELIVERED.clear()
        again = await lab.resume(planned, records[:cut], RunFacts("r", 1.0, {}), report=False)

        assert (again.status.state, json.loads(again.status.reason)["code"]) == ("parked", "diverged")
        assert deliver.DELIVERED == []


async def test_a3_a_diverged_run_goes_on_where_nothing_has_changed(lab, monkeypatch):
    """A3: resumed over the code that it began with, the run ends as if nothing had been."""
    planned = lab.plan(CHOICES["if"])
    whole = await lab.run(planned, run_id="r")
    records = (await lab.records("r"))[:3]
    with monkeypatch.context() as patch:
        patch.setitem(FILTERS, "upper", lambda *_, **__: "OTHER")
        forget_templates()
        changed_plan = lab.plan(CHOICES["if"])
        assert (await lab.resume(changed_plan, records, RunFacts("r", 1.0, {}), report=False)).status.state == "parked"
    await lab.journal.resume("r")
    lab.turn_to(planned)
    report = await lab.follow()

    assert [step.state for step in report.steps] == [step.state for step in whole.steps]


@pytest.mark.parametrize("what", ["nan", "bytes", "deep", "schema", "large"])
async def test_a4_an_effect_whose_output_cannot_be_kept_is_on_record_as_happened(lab, what):
    """A4: neither a retry nor a fallback makes the call again, also when the author names the kind."""
    weird = lab.module("weird")
    weird.CALLS.clear()
    await lab.run(
        f"name: o\nsteps: [{{id: a, uses: weird, with: {{what: {what}}}, retry: {{attempts: 4, backoff: 1ms, on: [bad_output, output_too_large]}}}}]"
    )
    outcome = json.loads((await lab.records("run-1"))[-1].payload)

    assert [what] == weird.CALLS
    assert outcome["failure"]["effect"] == "happened"
    assert outcome["output"] is None


async def test_a4_a_large_output_is_kept_whole_and_told_of(lab):
    """3 MB come back byte for byte, from the first pass and from a replay; the log of the run says how large it is."""
    planned = lab.plan(
        """
        name: large
        steps:
          - {id: a, uses: weird, with: {what: big}}
          - {id: b, uses: echo, with: {value: "{{ steps.a.output.value | length }}"}}
        """
    )
    report = await lab.run(planned, run_id="r")
    records = await lab.records("r")

    assert report.state == "succeeded", report.problem
    assert report.steps[1].output == {"value": 3_000_000}
    assert any(isinstance(event, Logged) and "bytes" in event.message for event in lab.events)
    again = await lab.resume(planned, records[:1], RunFacts("r", 1.0, {}))
    assert again.steps[0].output == {"value": "x" * 3_000_000}
    assert again.steps[1].output == {"value": 3_000_000}


async def test_b4_a_run_that_grows_too_large_keeps_that_a_step_happened(lab, monkeypatch):
    """B4: the outcome that would pass the limit is on record as happened, without its output, and is not made again."""
    monkeypatch.setattr("weft.engine.reactor.LARGEST_RUN", 3_000)
    deliver = lab.module("deliver")
    deliver.DELIVERED.clear()
    report = await lab.run(
        f"""
        name: growing
        steps:
          - id: each
            for_each: "{{{{ range(9) | list }}}}"
            max_parallel: 1
            uses: echo
            with: {{value: {"x" * 700}}}
        finally: [{{id: tell, uses: deliver, with: {{to: me}}}}]
        """
    )

    assert (report.state, report.problem.code) == ("failed", "run_too_large")
    assert sum(len(record.payload) for record in await lab.records("run-1")) < 6_000
    assert base.LARGEST_RUN > 10_000_000


async def test_a26_a_key_changes_only_after_a_proved_non_effect(lab):
    """A26: what may have happened is repeated under its key; after a refusal the next request has another one."""
    deliver = lab.module("deliver")
    deliver.DELIVERED.clear()
    planned = lab.plan(
        "name: k\nsteps: [{id: a, uses: deliver, with: {to: me, fault: after}, retry: {attempts: 3, backoff: 1ms}}]"
    )
    await lab.run(planned)
    keys = [key for _, key, _ in deliver.DELIVERED]

    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert [repeated for _, _, repeated in deliver.DELIVERED] == [False, True, True]


async def test_a26_begun_names_the_request_that_a_repeat_must_equal(lab):
    """A26: other bytes are not sent under the same key: the run is parked instead."""
    deliver = lab.module("deliver")
    planned = lab.plan("name: k\nsteps: [{id: a, uses: deliver, with: {to: me}}]")
    other_plan = lab.plan("name: k\nsteps: [{id: a, uses: deliver, with: {to: you}}]")
    await lab.run(planned, run_id="r")
    begun = (await lab.records("r"))[:1]
    deliver.DELIVERED.clear()
    again = await lab.resume(other_plan, begun, RunFacts("r", 1.0, {}), report=False)

    assert again.status.state == "parked"
    assert deliver.DELIVERED == []


@pytest.mark.parametrize("lab", ["sqlite"], indirect=True)
async def test_commits_are_counted(lab):
    """Four for two sends: the run, the first `begun`, an outcome with what begins next, and the last outcome with the end."""
    planned = lab.plan("name: c\nsteps: [{id: a, uses: deliver, with: {to: a}}, {id: b, uses: deliver, with: {to: b}}]")
    counts = []
    for run_id in ("r1", "r2"):
        await lab.run(planned, run_id=run_id)
        counts.append(lab.journal.writer.commits)

    assert counts[1] - counts[0] == 4


async def test_an_approval_waits_as_a_row_and_goes_on_when_answered(lab):
    """A step that asks rests in the journal; the answer, and who gave it, is its output."""
    planned = lab.plan("name: a\nsteps: [{id: ok, approval: {message: Go on?}}, {id: b, uses: echo, with: {value: 1}}]")
    task = asyncio.create_task(lab.start(planned))
    while lab.driver is None or lab.driver.live or not lab.events:
        await asyncio.sleep(0.01)
    while (await lab.journal.status(lab.run_id)).status.state != "waiting":
        await asyncio.sleep(0.01)
    await lab.journal.signal(lab.run_id, "/ok", json.dumps({"answer": "approve", "by": "ada"}))
    assert (await task).status.state == "succeeded"
    records = await lab.records(lab.run_id)

    assert [record.kind for record in records if record.path == "/ok"] == ["waits", "signal"]
    report = await lab.resume(planned, records, RunFacts(lab.run_id, 1.0, {}))
    assert report.steps[0].output == {"answer": "approve", "by": "ada"}


@pytest.mark.parametrize(("default", "state"), [("approve", "succeeded"), ("reject", "failed"), (None, "failed")])
async def test_an_approval_that_nobody_answers_has_its_default(lab, default, state):
    """At the deadline the default counts; without one the step fails, and the journal refuses a late answer."""
    given = f", default: {default}" if default else ""
    report = await lab.run(f"name: a\nsteps: [{{id: ok, approval: {{message: Go?, deadline: 20ms{given}}}}}]")

    assert report.state == state
    with pytest.raises(JournalRefused):
        await lab.journal.signal("run-1", "/ok", "{}")
    assert all(isinstance(record, Record) for record in await lab.records("run-1"))
    assert not [record for record in await lab.records("run-1") if record.kind in OUTCOMES]


class Picky:
    """A journal that does not take outcomes, as a database with a rule of its own would."""

    def __init__(self, journal):
        self.journal = journal

    def __getattr__(self, name):
        return getattr(self.journal, name)

    async def write(self, claim, news, records=(), then=None):
        if any(record.kind == "succeeded" for record in records):
            raise JournalRefused("no outcome of this kind")
        await self.journal.write(claim, news, records, then)


async def test_a4_an_outcome_that_the_journal_does_not_take_repeats_nothing(lab):
    """A4, A16: the run is parked, and that the effect happened is on record; resumed, it is not made again."""
    deliver = lab.module("deliver")
    deliver.DELIVERED.clear()
    lab.around = Picky(lab.journal)
    planned = lab.plan("name: p\nsteps: [{id: a, uses: deliver, with: {to: me}}]")
    found = await lab.start(planned)
    outcome = (await lab.records("run-1"))[-1]

    assert (found.status.state, len(deliver.DELIVERED)) == ("parked", 1)
    assert (outcome.kind, json.loads(outcome.payload)["failure"]["effect"]) == ("failed", "happened")
    await lab.journal.resume("run-1")
    lab.around = None
    lab.turn_to(planned)
    assert (await lab.follow()).state == "failed"
    assert len(deliver.DELIVERED) == 1


async def test_b4_outcomes_that_come_together_stay_below_the_limit(lab, monkeypatch):
    """B4: what ends side by side is counted before it is written, so that the run can always be loaded."""
    monkeypatch.setattr("weft.engine.reactor.LARGEST_RUN", 9_000)
    monkeypatch.setattr("weft.engine.reactor.HEADROOM", 1_000)
    report = await lab.run(
        f"""
        name: side
        steps:
          - id: each
            for_each: "{{{{ range(20) | list }}}}"
            uses: echo
            with: {{value: {"x" * 700}}}
        """
    )
    kept = [json.loads(record.payload) for record in await lab.records("run-1") if record.kind in OUTCOMES]

    assert report.problem.code == "run_too_large"
    assert sum(len(json.dumps(each["output"])) for each in kept) < 8_000
    assert any(each["failure"] and each["failure"]["effect"] == "happened" for each in kept)


async def test_a16_a_fault_cancels_nobody(lab):
    """A16: what was under way beside a fault of the engine has no outcome; resumed, it is performed, not cancelled."""
    planned = lab.plan(
        """
        name: side
        steps:
          - {id: a, uses: nap, needs: [], with: {seconds: 0.05}}
          - {id: b, uses: nap, needs: [], with: {seconds: 0.4}}
          - {id: c, uses: echo, needs: [a, b]}
        """
    )
    task = asyncio.create_task(lab.start(planned))
    while not [event for event in lab.events if isinstance(event, AttemptStarted) and event.path == "/b"]:
        await asyncio.sleep(0.005)
    lab.reactor._walk.settle = lambda record: 1 / 0
    assert (await task).status.state == "parked"
    assert not [record for record in await lab.records("run-1") if record.kind == "cancelled"]
    await lab.journal.resume("run-1")

    assert (await lab.follow()).state == "succeeded"


async def test_the_instant_of_a_wait_is_what_counts_after_a_crash(lab):
    """B3: a wait that a crash cut off ends when it would have ended, not its whole length later."""
    planned = lab.plan("name: w\nsteps: [{id: w, wait: {for: 900ms}}]")
    await lab.run(planned, run_id="r")
    [timer] = [record for record in await lab.records("r") if record.kind == "timer"]
    facts = json.loads(timer.payload)
    began = lab.journal.now()
    facts = {"at": began - 0.7, "until": began + 0.2}
    await lab.resume(planned, [Record(timer.path, timer.n, "timer", json.dumps(facts))], RunFacts("r", 1.0, {}))

    assert 0.15 < lab.journal.now() - began < 0.8


async def test_a_wait_is_not_longer_than_ten_years(lab):
    """An instant that no clock can show is a fault of its step, and keeps nobody from reading lists."""
    report = await lab.run('name: w\nsteps: [{id: w, wait: {until: "9999-12-31T23:59:59-12:00"}}]')

    assert (report.state, report.problem.code) == ("failed", "wait_too_long")


async def test_a_repeat_is_told_by_its_record(lab):
    """An attempt that a crash cut off is shown as repeated, whoever reads the run afterwards."""
    planned = lab.plan("name: d\nsteps: [{id: a, uses: deliver, with: {to: me}}]")
    await lab.run(planned, run_id="r")
    begun = (await lab.records("r"))[:1]
    report = await lab.resume(planned, begun, RunFacts("r", 1.0, {}))

    assert [attempt.repeated for attempt in report.steps[0].attempts] == [True]


async def test_a_run_that_comes_back_again_and_again_is_tried_alone_and_parked(lab):
    """A19: whoever follows a run gives it up, too, after two crashes without a new record."""
    planned = lab.plan("name: a\nsteps: [{id: a, uses: echo}]")

    async def refuse(*_):
        raise JournalRefused("refused")

    await lab.journal.open()
    lab.around = Picky(lab.journal)
    lab.around.write = refuse
    found = await lab.start(planned)

    assert (found.status.state, json.loads(found.status.reason)["code"]) == ("parked", "poison")
