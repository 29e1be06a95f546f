"""Repeating a run from a step on: what the new run inherits, what it does anew (rule A22)."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from conftest import Lab

from weft.cli import usage
from weft.engine.interpreter import Perform, Walk
from weft.engine.reactor import facts_of
from weft.engine.replaying import Inheritance, inherit
from weft.engine.report import RunReport, report_of
from weft.errors import InvalidInputs, NotFound, Problem
from weft.journal.base import Kept, Listed, Record, RunRow, Status
from weft.outcome import Failure, Outcome, encode
from weft.plan import Plan

DIAMOND = """
    name: diamond
    inputs: {x: {default: one}, y: {default: you}}
    steps:
      - {id: a, uses: echo, needs: [], with: {value: "{{ inputs.x }}"}}
      - {id: b, uses: deliver, needs: [a], with: {to: "{{ steps.a.output.value }}"}}
      - {id: c, uses: deliver, needs: [], with: {to: c}}
      - {id: d, uses: echo, needs: [b, c], with: {value: "{{ steps.b.output.delivered }}"}}
      - {id: e, uses: deliver, needs: [c], with: {to: "{{ inputs.y }}"}}
    finally:
      - {id: f, uses: deliver, with: {to: f}}
    """
STANDS_ON = {"a": "abd", "b": "bd", "c": "cde", "d": "d", "e": "e"}
"""Step of the diamond → itself and what needs it."""
CHANGES = {"x": "abd", "y": "e"}
"""Input of the diamond → the steps whose arguments it changes, and what needs them: those of d stay the same."""


class Repeats:
    """A run and those that repeat it, on one journal."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.plan: Plan
        self.source: Kept

    async def run(self, text: str, inputs: Mapping[str, Any] | None = None) -> RunReport:
        self.plan = self.lab.plan(text)
        report = await self.lab.run(self.plan, inputs, "source")
        self.source = await self.lab.journal.load("source")
        return report

    def row(self, **inputs: Any) -> RunRow:
        """The row of the new run; all its own instants are later than those of the old one."""
        at = max(time.time(), math.nextafter(self.source.status.changed_at, math.inf))
        known = {**facts_of(self.source).inputs, **inputs}
        return replace(self.source.row, id="again", started_at=at, inputs=encode(known), origin="source")

    def inherited(self, *steps: str, row: RunRow | None = None, **inputs: Any) -> Inheritance:
        row = row or self.row(**inputs)
        return inherit(self.plan, facts_of(Listed(row, self.source.status)), self.source, steps)

    async def replay(self, *steps: str, **inputs: Any) -> RunReport:
        row = self.row(**inputs)
        records = self.inherited(*steps, row=row).records
        claim = await self.lab.journal.accept(row, *records)
        size = sum(len(record.payload) for record in records)
        kept = Kept(row, Status("running", claim.epoch, self.lab.journal.name, row.started_at, size=size), records)
        assert self.lab.driver is not None
        await asyncio.wait_for(self.lab.driver.go_on(claim, kept, self.plan), 20)
        return report_of(await self.lab.journal.load("again"), self.plan)


@pytest.fixture
def repeats(lab: Lab) -> Repeats:
    return Repeats(lab)


def anew(report: RunReport) -> str:
    """Ids of the steps that the run performed itself, in order."""
    steps = (step for step in report.steps if any(not attempt.inherited for attempt in step.attempts))
    return "".join(sorted(step.path.removeprefix("/@finally").strip("/") for step in steps))


def outcomes(records: Sequence[Record], kind: str = "succeeded") -> list[str]:
    return sorted(record.path for record in records if record.kind == kind)


# ---- what is performed anew
@pytest.mark.parametrize("step", STANDS_ON)
@pytest.mark.parametrize("edited", ["", "x", "y", "xy"])
async def test_from_a_step_on_with_edited_inputs(repeats: Repeats, step: str, edited: str) -> None:
    """A22: for each step and each edit, performed is the step, what needs it, what the edit changes, and `finally`."""
    first = await repeats.run(DIAMOND, {"x": "one", "y": "you"})
    delivered = repeats.lab.module("deliver").DELIVERED
    sent = len(delivered)

    report = await repeats.replay(step, **dict.fromkeys(edited, "new"))

    expected = {*STANDS_ON[step], *"".join(CHANGES[name] for name in edited), "f"}
    if edited and "x" in edited and step not in "abcd":
        expected |= {"a", "b", "d"}
    assert report.state == "succeeded"
    assert anew(report) == "".join(sorted(expected))
    assert len(delivered) - sent == len(expected & set("bcef"))
    assert [step.output for step in report.steps if step.path == "/c"] == [first.steps[2].output]


async def test_the_parts_of_a_loop_beside_the_step_are_inherited(repeats: Repeats) -> None:
    """A22: in every turn, also of a loop that runs one turn at a time, only the step itself is performed anew."""
    await repeats.run("""
        name: loop
        steps:
          - id: each
            for_each: [x, y, z]
            max_parallel: 1
            steps:
              - {id: send, uses: deliver, with: {to: "{{ item }}"}}
              - {id: echo, uses: echo, with: {value: "{{ item }}"}}
        """)
    delivered = repeats.lab.module("deliver").DELIVERED

    assert outcomes(repeats.inherited("each/echo").records) == [f"/each[{i}]/send" for i in range(3)]
    assert outcomes(repeats.inherited("each[1]/send").records) == [
        "/each[0]/echo",
        "/each[0]/send",
        "/each[2]/echo",
        "/each[2]/send",
    ]
    report = await repeats.replay("each/echo")
    assert report.state == "succeeded"
    assert len(delivered) == 3


async def test_items_that_are_the_same_answer_and_new_ones_are_performed(repeats: Repeats) -> None:
    """A22: of a list that was edited, only the turns are performed whose arguments are others, and those that are new."""
    text = """
        name: list
        inputs: {names: {type: array}}
        steps:
          - {id: send, for_each: "{{ inputs.names }}", uses: deliver, with: {to: "{{ item }}"}}
          - {id: last, uses: echo}
        """
    await repeats.run(text, {"names": ["a", "b", "c"]})
    delivered = repeats.lab.module("deliver").DELIVERED

    report = await repeats.replay("last", names=["a", "B", "c", "d"])

    assert report.state == "succeeded"
    assert sorted(to for to, _, _ in delivered[3:]) == ["B", "d"]


async def test_a_condition_that_an_edit_turns_is_decided_anew(repeats: Repeats) -> None:
    """A22: a choice of the old run does not bind the new one, which would be parked as diverged."""
    text = """
        name: choice
        inputs: {go: {type: boolean}}
        steps:
          - {id: send, if: inputs.go, uses: deliver, with: {to: a}}
          - {id: last, uses: echo}
        """
    await repeats.run(text, {"go": False})

    report = await repeats.replay("last", go=True)

    assert [step.state for step in report.steps] == ["succeeded", "succeeded"]


async def test_the_new_run_sends_under_keys_of_its_own(repeats: Repeats) -> None:
    """B10: what a replay sends again has another idempotency key, so that the other side does not take it for a repeat."""
    await repeats.run(DIAMOND, {"x": "one", "y": "you"})
    await repeats.replay("b")

    b = [key for to, key, _ in repeats.lab.module("deliver").DELIVERED if to == "one"]
    assert len(b) == len(set(b)) == 2


async def test_inherited_attempts_say_so_and_their_use_is_not_counted_again(repeats: Repeats) -> None:
    """A22: inherited attempts are marked, lie before the run's start, and are left out of what it used."""
    await repeats.run("""
        name: used
        steps:
          - {id: a, uses: echo, with: {value: 1}}
          - {id: b, uses: echo, with: {value: 2}}
        """)
    report = await repeats.replay("b")

    assert [[attempt.inherited for attempt in step.attempts] for step in report.steps] == [[True], [False]]
    assert report.steps[0].started_at < report.started_at <= report.steps[1].started_at
    tokens = {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    attempts = [step.attempts[0].model_copy(update={"output": tokens}) for step in report.steps]
    assert list(usage.total(attempts).told()) == ["3 + 4 tokens"]


# ---- what was left half done
PAIR = """
    name: pair
    steps:
      - {id: send, needs: [], uses: deliver, DELIVERY with: {to: a}}
      - {id: last, needs: [], uses: echo}
    """


async def half_done(repeats: Repeats, text: str, inputs: Mapping[str, Any] | None = None) -> None:
    """Let the run look as a crash leaves it that is parked then: its send was begun, and nobody knows more."""
    await repeats.run(text, inputs)
    records = tuple(record for record in repeats.source.records if (record.path, record.kind) != ("/send", "succeeded"))
    status = replace(repeats.source.status, state="parked", result=None)
    repeats.source = Kept(repeats.source.row, status, records)
    repeats.lab.module("deliver").DELIVERED.clear()


async def test_what_was_begun_counts_as_an_attempt_with_its_effect_unknown(repeats: Repeats) -> None:
    """A22: an attempt without an outcome is inherited as one that may have had its effect, and the next is a repeat."""
    await half_done(repeats, PAIR.replace("DELIVERY", "retry: {attempts: 2, backoff: 1ms},"))

    assert outcomes(repeats.inherited("last").records, "failed") == ["/send"]
    report = await repeats.replay("last")

    assert report.state == "succeeded"
    first, second = report.steps[0].attempts
    assert (first.kind, first.inherited, second.repeated, second.inherited) == ("effect_unknown", True, True, False)
    assert [repeated for _, _, repeated in repeats.lab.module("deliver").DELIVERED] == [True]


async def test_a_repeat_of_what_was_in_doubt_has_the_key_of_the_run_before(repeats: Repeats) -> None:
    """A22: begun at a step in doubt, or after it, a new run sends the same again under the old key, marked as a repeat."""
    await half_done(repeats, PAIR.replace("DELIVERY", "delivery: at_most_once,"))
    key = under_way(repeats.source, repeats.plan)[0].call.idempotency_key

    report = await repeats.replay("send")

    assert report.state == "succeeded"
    assert [(sent, repeated) for _, sent, repeated in repeats.lab.module("deliver").DELIVERED] == [(key, True)]
    assert [attempt.repeated for attempt in report.steps[0].attempts] == [True]


async def test_what_is_sent_anew_with_other_arguments_repeats_nothing(repeats: Repeats) -> None:
    """A22: a send that differs from the one in doubt is another one, with a key of its own and no mark."""
    text = DIAMOND.replace("{id: b,", "{id: send, delivery: at_most_once,").replace("[b, c]", "[send, c]")
    await half_done(repeats, text.replace("steps.b", "steps.send"), {"x": "one", "y": "you"})
    report = await repeats.replay("send", x="two")

    assert report.state == "succeeded"
    sent = repeats.lab.module("deliver").DELIVERED
    assert [(to, repeated) for to, _, repeated in sent if to == "two"] == [("two", False)]


async def test_a_repeat_of_a_repeat_keeps_the_first_key(repeats: Repeats) -> None:
    """A22: whoever repeats a run that has repeated a doubt, and is in doubt again, uses the key of the first one."""
    await half_done(repeats, PAIR.replace("DELIVERY", "delivery: at_most_once,"))
    first = under_way(repeats.source, repeats.plan)[0].call.idempotency_key
    await repeats.replay("send")
    again = await repeats.lab.journal.load("again")
    records = tuple(record for record in again.records if (record.path, record.kind) != ("/send", "succeeded"))

    repeated = inherit(repeats.plan, facts_of(again), Kept(again.row, again.status, records), ["send"])

    assert [json.loads(each.payload)["key"] for each in repeated.records if each.kind == "choice"] == [first]


async def test_what_may_be_sent_once_only_is_not_sent_again_by_the_way(repeats: Repeats) -> None:
    """A22: a send that is in doubt and may happen at most once asks in a replay from elsewhere; begun there, it is sent."""
    await half_done(repeats, PAIR.replace("DELIVERY", "delivery: at_most_once,"))
    key = under_way(repeats.source, repeats.plan)[0].call.idempotency_key
    assert [each.again for each in repeats.inherited("last", "send").sends] == [("/send",)]

    running = asyncio.create_task(repeats.replay("last"))
    while not any(each.kind == "waits" for each in await records_of(repeats)):
        await asyncio.sleep(0.02)
    assert repeats.lab.module("deliver").DELIVERED == []
    await repeats.lab.journal.signal("again", "/send", encode({"answer": "approve", "by": "ann"}))
    report = await running

    assert (report.state, [each.inherited for each in report.steps[0].attempts]) == ("succeeded", [True, False])
    assert [(sent, repeated) for _, sent, repeated in repeats.lab.module("deliver").DELIVERED] == [(key, True)]


async def records_of(repeats: Repeats) -> Sequence[Record]:
    try:
        return (await repeats.lab.journal.load("again")).records
    except NotFound:
        return ()


def under_way(source: Kept, plan: Plan) -> list[Perform]:
    """What a run has begun, and nobody knows how it ended."""
    return [each for each in Walk(plan, facts_of(source), source.records).advance() if isinstance(each, Perform)]


async def test_a_cancelled_run_is_taken_up_again(repeats: Repeats) -> None:
    """A22: neither the cancel nor what it cut short is inherited: the wait begins anew, and the new run ends by itself."""
    lab = repeats.lab
    text = """
        name: cut
        steps:
          - {id: first, uses: deliver, with: {to: a}}
          - {id: rest, wait: {for: 1s}}
          - {id: last, uses: echo}
        """

    def stop(event: object) -> None:
        if getattr(event, "path", "") == "/rest":
            lab.observe = lambda event: None
            tasks.append(asyncio.create_task(lab.cancel()))

    tasks: list[asyncio.Task[None]] = []
    lab.observe = stop
    assert (await repeats.run(text)).state == "cancelled"

    assert [record.kind for record in repeats.inherited("last").records] == ["begun", "succeeded"]
    report = await repeats.replay("last")
    assert report.state == "succeeded"
    assert [len(lab.module("deliver").DELIVERED), report.ms >= 1000] == [1, True]


async def test_an_attempt_that_a_cancel_cut_off_is_made_again(repeats: Repeats) -> None:
    """A22: an attempt that ended by a cancel answers nothing; one that may have had its effect is repeated as such."""
    lab = repeats.lab
    await repeats.run("""
        name: cut
        steps:
          - {id: nap, needs: [], uses: nap}
          - {id: send, needs: [], uses: deliver, retry: {attempts: 2, backoff: 1ms}, with: {to: a}}
          - {id: last, needs: [], uses: echo}
        """)
    doubt = Failure(Problem("effect_unknown", "It was cut off."), effect="unknown")

    def cut(record: Record) -> Record:
        if record.path == "/last" or record.kind != "succeeded":
            return record
        outcome = Outcome.from_text("succeeded", record.payload)
        failure = doubt if record.path == "/send" else None
        return replace(record, kind="cancelled", payload=replace(outcome, output=None, failure=failure).to_text())

    repeats.source = replace(repeats.source, records=tuple(map(cut, repeats.source.records)))
    lab.module("deliver").DELIVERED.clear()
    report = await repeats.replay("last")

    assert report.state == "succeeded"
    assert [(len(step.attempts), step.attempts[-1].inherited) for step in report.steps] == [
        (1, False),
        (2, False),
        (1, False),
    ]
    assert [repeated for _, _, repeated in lab.module("deliver").DELIVERED] == [True]


async def test_a_wait_that_is_over_is_not_waited_for_again_unless_it_is_another(repeats: Repeats) -> None:
    """A22: a wait answers when it was as long as it is now."""
    text = """
        name: wait
        inputs: {long: {default: 10ms}}
        steps:
          - {id: rest, wait: {for: "{{ inputs.long }}"}}
          - {id: last, uses: echo}
        """
    await repeats.run(text, {"long": "10ms"})

    assert [record.kind for record in repeats.inherited("last").records] == ["timer", "rang"]
    assert repeats.inherited("last", long="20ms").records == ()


async def test_an_answer_counts_for_the_same_question_only(repeats: Repeats) -> None:
    """A22: an approval is inherited when the message that was shown is the same; otherwise it is asked anew."""
    lab = repeats.lab
    text = """
        name: ask
        inputs: {what: {default: this}}
        steps:
          - {id: ok, approval: {message: "Send {{ inputs.what }}?"}}
          - {id: last, uses: echo, with: {value: "{{ steps.ok.output.by }}"}}
        """

    async def answer() -> None:
        while True:
            await asyncio.sleep(0.02)
            records = (await lab.journal.load("source")).records if lab.runs and lab.document else ()
            if any(record.kind == "waits" for record in records):
                await lab.journal.signal("source", "/ok", encode({"answer": "approve", "by": "me", "comment": None}))
                return

    def begin(event: object) -> None:
        lab.observe = lambda event: None
        tasks.append(asyncio.create_task(answer()))

    tasks: list[asyncio.Task[None]] = []
    lab.observe = begin
    assert (await repeats.run(text, {"what": "this"})).state == "succeeded"

    assert [record.kind for record in repeats.inherited("last").records] == ["waits", "signal"]
    assert repeats.inherited("last", what="that").records == ()


# ---- what is told, and refused
async def test_what_would_be_sent_again_is_told_first(repeats: Repeats) -> None:
    """A22: each send that is not inherited is named, with where it was sent before; one that never left is not a repeat."""
    await repeats.run("""
        name: sends
        steps:
          - {id: a, uses: deliver, with: {to: a}}
          - {id: b, for_each: [x, y], uses: deliver, with: {to: "{{ item }}"}}
          - {id: c, uses: deliver, on_error: continue, with: {to: c, fault: before}}
          - {id: d, if: "false", uses: deliver, with: {to: d}}
        """)

    sends = repeats.inherited("b").sends
    assert [(each.step.id, sorted(each.again)) for each in sends] == [("b", ["/b[0]", "/b[1]"]), ("c", []), ("d", [])]


async def test_a_run_that_would_fail_as_before_is_refused(repeats: Repeats) -> None:
    """A failure before or beside the step is not inherited in silence: it is said where to begin as well."""
    await repeats.run("""
        name: failed
        steps:
          - {id: a, uses: flaky, with: {key: a, failures: 9, retryable: false}}
          - {id: b, uses: deliver, with: {to: b}}
        """)

    with pytest.raises(InvalidInputs, match="step 'a'") as refused:
        repeats.inherited("b")
    assert refused.value.problem.remedy == "Begin there, too: --from a"
    assert (await repeats.replay("a")).steps[0].attempts[0].inherited is False


async def test_a_step_that_is_not_there_is_named_with_those_that_are(repeats: Repeats) -> None:
    """A step's name is checked against the document that the run follows."""
    await repeats.run(DIAMOND, {"x": "one", "y": "you"})

    with pytest.raises(NotFound) as refused:
        repeats.inherited("g")
    assert refused.value.problem.remedy == "There are: a, b, c, d, e or finally/f."


async def test_a_condition_that_leaves_the_step_out_is_told(repeats: Repeats) -> None:
    """A replay that would do nothing of what was asked for is refused."""
    await repeats.run("""
        name: out
        steps:
          - {id: group, if: "1 > 2", steps: [{id: in, uses: deliver, with: {to: a}}]}
        """)

    with pytest.raises(InvalidInputs, match="would not come to 'group/in'"):
        repeats.inherited("group/in")


async def test_only_finally_may_be_repeated_after_a_failure(repeats: Repeats) -> None:
    """A22: a replay may begin in `finally`, where failures are expected; all of it is performed anew then."""
    await repeats.run("""
        name: tidy
        steps:
          - {id: a, uses: flaky, with: {key: a, failures: 9, retryable: false}}
        finally:
          - {id: e, uses: deliver, with: {to: e}}
          - {id: f, uses: deliver, with: {to: f}}
        """)
    report = await repeats.replay("finally/f")

    assert report.state == "failed"
    assert [attempt.inherited for attempt in report.steps[0].attempts] == [True]
    assert [to for to, _, _ in repeats.lab.module("deliver").DELIVERED] == ["e", "f", "e", "f"]


async def test_a_wait_that_was_open_begins_anew(repeats: Repeats) -> None:
    """A parked run whose wait was open is replayed with a wait that begins anew."""
    await repeats.run("""
        name: open
        steps:
          - {id: a, uses: echo}
          - {id: rest, wait: {for: 5ms}}
          - {id: b, uses: echo}
        """)
    open_ = tuple(record for record in repeats.source.records if record.kind != "rang" and record.path != "/b")
    repeats.source = Kept(repeats.source.row, replace(repeats.source.status, state="parked"), open_)

    assert [record.kind for record in repeats.inherited("b").records] == ["succeeded"]
