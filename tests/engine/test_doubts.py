"""What may happen once only, and perhaps has: the run asks whether it is to be sent again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

from conftest import Lab

from weft.engine.events import Asked
from weft.engine.interpreter import RunFacts
from weft.journal.base import OUTCOMES

ONCE = """
    name: once
    steps:
      - id: a
        uses: deliver
        delivery: at_most_once
        with: {to: me, fault: FAULT}
        retry: {attempts: 5, backoff: 1ms}
        MORE
      - {id: b, uses: echo, needs: [], with: {value: b}}
    """


def document(fault: str = "after", more: str = "on_error: fail") -> str:
    return ONCE.replace("FAULT", fault).replace("MORE", more)


def answering(lab: Lab, *answers: str) -> list[Asked]:
    """Let somebody answer the questions of a run, one after another, and return them as they are asked."""
    asked: list[Asked] = []
    tasks: list[asyncio.Task[None]] = []

    def observe(event: object) -> None:
        if isinstance(event, Asked):
            asked.append(event)
            if len(asked) <= len(answers):
                said = json.dumps({"answer": answers[len(asked) - 1], "by": "ann", "at": time.time()})
                tasks.append(asyncio.create_task(lab.journal.signal(lab.run_id, event.path, said)))

    lab.observe = observe
    return asked


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_run_in_doubt_asks_and_sends_again_when_it_is_let(lab: Lab) -> None:
    """Approved, there is one more attempt, marked and under the same key; the run goes on with what it came to."""
    asked = answering(lab, "approve")
    report = await lab.run(document("once_after"))

    assert (report.state, [step.state for step in report.steps]) == ("succeeded", ["succeeded", "succeeded"])
    assert [(each.path, each.who, each.deadline) for each in asked] == [("/a", (), None)]
    told = "Whether `a` was sent is not known: attempt 1 ended with `delivery_unknown`. Send it again?"
    assert (asked[0].message, report.steps[0].question) == (told, told)
    delivered = lab.module("deliver").DELIVERED
    assert [repeated for _, _, repeated in delivered] == [False, True]
    assert len({key for _, key, _ in delivered}) == 1


async def test_each_attempt_that_is_let_may_leave_a_doubt_of_its_own(lab: Lab) -> None:
    """Each answer lets one attempt be made, not more; rejected, the step fails with what is known, and `on_error` follows."""
    asked = answering(lab, "approve", "approve", "reject")
    more = "on_error: {steps: [{id: tell, uses: echo, with: {value: '{{ steps.a.error.kind }}'}}]}"
    report = await lab.run(document(more=more))

    assert len(asked) == 3
    assert [repeated for _, _, repeated in lab.module("deliver").DELIVERED] == [False, True, True]
    outputs = {step.path: step.output for step in report.steps}
    assert (report.state, outputs["/a/@on_error/tell"]) == ("succeeded", {"value": "delivery_unknown"})
    assert report.steps[0].state == "failed"
    assert (await lab.journal.status(lab.run_id)).status.result is not None
    assert json.loads((await lab.journal.status(lab.run_id)).status.result or "{}")["doubt"] is True


async def test_a_run_that_asks_rests_and_shows_what(lab: Lab) -> None:
    """Nothing is kept busy by a question: the run waits, and its report shows it; steps beside it have ended."""
    lab.in_memory_s = 0.0
    asked = answering(lab)
    running = asyncio.create_task(lab.start(lab.plan(document())))
    await until(lambda: asked and lab.reactor is None)
    from weft.engine.report import report_of

    report = report_of(await lab.journal.load(lab.run_id), lab.planned)
    assert (report.state, [step.state for step in report.steps]) == ("waiting", ["waiting", "succeeded"])
    assert [each.path for each in report.steps[0].asks] == ["/a"]

    await lab.journal.signal(lab.run_id, "/a", json.dumps({"answer": "reject", "by": "ann"}))
    found = await running
    assert found.status.state == "failed"
    assert json.loads(found.status.result or "{}")["problem"]["code"] == "delivery_unknown"
    assert len(lab.module("deliver").DELIVERED) == 1


async def test_the_time_of_a_step_goes_on_while_it_asks(lab: Lab) -> None:
    """When the step's `timeout` is over nobody is waited for: it fails with what is known, and nothing is sent again."""
    asked = answering(lab)
    report = await lab.run(document(more="timeout: 300ms"))

    assert asked[0].deadline is not None
    assert (report.state, report.problem and report.problem.code) == ("failed", "delivery_unknown")
    assert len(lab.module("deliver").DELIVERED) == 1


async def test_what_is_around_it_ends_a_question(lab: Lab) -> None:
    """The timeout of a group ends what is asked inside; no try follows, and nothing is sent again."""
    text = """
        name: g
        steps:
          - id: g
            timeout: 300ms
            retry: {attempts: 3, backoff: 1ms}
            steps: [{id: a, uses: deliver, delivery: at_most_once, with: {to: me, fault: after}}]
        """
    asked = answering(lab)
    report = await lab.run(text)

    assert len(asked) == 1
    assert (report.state, report.problem and report.problem.code) == ("failed", "timeout")
    assert len(lab.module("deliver").DELIVERED) == 1


async def test_each_turn_asks_for_itself(lab: Lab) -> None:
    """In a loop each turn has a question of its own, under its own path."""
    text = """
        name: turns
        steps:
          - id: each
            for_each: [x, y]
            on_error: continue
            steps: [{id: a, uses: deliver, delivery: at_most_once, with: {to: "{{ item }}", fault: after}}]
          - {id: all, needs: [], for_each: [z], uses: deliver, delivery: at_most_once, on_error: continue,
             with: {to: "{{ item }}", fault: after}}
        """
    asked = answering(lab, "reject", "reject", "reject")
    report = await lab.run(text)

    assert report.state == "succeeded"
    assert {each.path for each in asked} == {"/each[0]/a", "/each[1]/a", "/all[0]"}
    assert sorted(to for to, _, _ in lab.module("deliver").DELIVERED) == ["x", "y", "z"]


async def test_a_cancel_ends_a_question(lab: Lab) -> None:
    """A cancelled run waits for no answer, and says that something is in doubt."""
    asked = answering(lab)
    running = asyncio.create_task(lab.start(lab.plan(document())))
    await until(lambda: asked)
    await lab.cancel()
    found = await running

    assert found.status.state == "cancelled"
    assert json.loads(found.status.result or "{}")["doubt"] is True


async def test_a_crash_at_every_point_sends_nothing_that_nobody_has_let(lab: Lab) -> None:
    """From each prefix of its records a run comes to its end; it sends once, and once for each answer that lets it."""
    answering(lab, "approve")
    planned = lab.plan(document("once_after", "on_error: fail"))
    await lab.run(planned)
    records = await lab.records(lab.run_id)
    row = (await lab.journal.status(lab.run_id)).row
    facts = RunFacts(row.id, row.started_at, {})
    kinds = [(record.n, record.kind) for record in records if record.path == "/a"]
    assert kinds == [(1, "begun"), (1, "failed"), (1, "waits"), (1, "signal"), (2, "begun"), (2, "succeeded")]

    delivered = lab.module("deliver").DELIVERED
    for cut in range(len(records)):
        known = [(each.path, each.n, each.kind) for each in records[:cut]]
        sent = sum(("/a", n, "begun") in known for n in (1, 2))
        ended = sum(path == "/a" and kind in OUTCOMES for path, _, kind in known)
        answered = ("/a", 1, "signal") in known
        delivered[:] = [("me", "", False)] * ended  # what the other side has
        answers = ("reject",) * 3 if answered or sent else ("approve",)
        asked = answering(lab, *answers)
        report = await lab.resume(planned, records[:cut], facts)
        # An attempt that was begun and has no outcome may have been sent: nobody knows.
        most = 1 + (answered or "approve" in answers)
        assert sent - ended + len(delivered) <= most, known
        assert report.state in ("succeeded", "failed")
        assert len(asked) >= (sent > ended), known
        assert all(repeated for _, _, repeated in delivered[max(1, ended) :])
