"""Questions of which people are told: the steps that do so, the links they are given, and who has answered how."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from weft import packs
from weft.engine.approving import DEFAULT_URL, Question, Signer, read
from weft.engine.events import Asked, RunStarted
from weft.engine.interpreter import RunFacts
from weft.errors import InvalidInputs, InvalidWorkflow, JournalRefused
from weft.journal.base import Listed
from weft.journal.memory import MemoryJournal
from weft.registry import Registry
from weft.runtime import Runtime

ASKING = """
    name: asking
    steps:
      - id: ok
        approval:
          message: Send it to {{ 1 + 1 }}?
          who: [ann, bo]
          DEADLINE
          notify:
            - id: tell
              for_each: "{{ approval.links }}"
              uses: deliver
              with: {to: "{{ item.who }} {{ approval.message }} {{ item.approve }} {{ item.token }}"}
      - {id: after, uses: echo, with: {value: "{{ steps.ok.output.by }}"}}
    """


def text(deadline: str = "") -> str:
    return ASKING.replace("          DEADLINE\n", f"          {deadline}\n" if deadline else "")


async def until(condition) -> None:
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came to that")


async def test_people_are_told_of_a_question_that_is_on_record(lab):
    """Each who may answer has a link of their own; what tells them begins after the question is kept."""
    delivered = lab.module("deliver").DELIVERED
    running = asyncio.create_task(lab.start(lab.plan(text())))
    await until(lambda: len(delivered) == 2)
    records = await lab.records(lab.run_id)
    await lab.journal.signal(lab.run_id, "/ok", json.dumps({"answer": "approve", "by": "ann"}))
    found = await running

    assert found.status.state == "succeeded"
    kinds = [(each.path, each.kind) for each in records]
    assert kinds.index(("/ok", "waits")) < kinds.index(("/ok/@notify/tell[0]", "begun"))
    names = [to.split()[0] for to, _, _ in delivered]
    assert sorted(names) == ["ann", "bo"]
    link, token = delivered[0][0].split()[-2:]
    assert link == f"{DEFAULT_URL}/approve/{token}?answer=approve"


async def test_tokens_are_in_no_record_report_or_event(lab):
    """What stands for a link is kept; the link itself is made when it is sent, and is masked everywhere else."""
    delivered = lab.module("deliver").DELIVERED
    running = asyncio.create_task(lab.start(lab.plan(text("deadline: 300ms\n          default: approve"))))
    found = await running
    kept = await lab.journal.load(lab.run_id)
    from weft.engine.report import report_of

    token = delivered[0][0].split()[-1]
    told = " ".join([str(kept.records), report_of(kept, lab.planned).model_dump_json(), str(lab.events), str(found)])
    assert token.count(".") == 1
    assert token not in told
    assert lab.redactor.text(f"look: {token}") != f"look: {token}"


async def test_from_every_prefix_nobody_is_told_twice(lab):
    """A crash at any record: whoever was told for certain is not told again, and the same links are made."""
    planned = lab.plan(text())
    delivered = lab.module("deliver").DELIVERED

    async def answer(told: int) -> None:
        await until(lambda: len(delivered) == told)
        await lab.journal.signal(lab.run_id, "/ok", json.dumps({"answer": "approve", "by": "ann"}))

    answering = asyncio.create_task(answer(2))
    whole = await lab.run(planned, run_id="r")
    await answering
    first = sorted(to for to, _, _ in delivered)
    records = await lab.records("r")
    facts = RunFacts("r", whole.started_at.timestamp(), {})
    answered = [each.kind for each in records].index("signal")
    for cut in range(1, answered + 1):
        done = sum(each.kind == "succeeded" and "@notify" in each.path for each in records[:cut])
        delivered.clear()
        lab.events.clear()
        resuming = asyncio.create_task(lab.resume(planned, records[:cut], facts))
        await until(lambda: any(isinstance(each, Asked) for each in lab.events))
        await answer(2 - done)
        again = await resuming
        assert again.state == whole.state, cut
        assert len(delivered) == 2 - done, cut
        assert {to for to, _, _ in delivered} <= set(first), cut


async def test_a_question_of_which_nobody_could_be_told_has_failed(lab):
    """Nobody is waited for who does not know; unless the steps that tell say otherwise."""
    failing = (
        text().replace("uses: deliver", "uses: flaky").replace("to:", "failures: 9, retryable: false, kind: odd, key:")
    )
    report = await lab.run(failing)
    assert (report.state, report.problem.code) == ("failed", "odd")

    tolerant = failing.replace("uses: flaky", "on_error: continue\n              uses: flaky")
    running = asyncio.create_task(lab.start(lab.plan(tolerant)))
    await asyncio.sleep(0.3)
    await lab.journal.signal(lab.run_id, "/ok", json.dumps({"answer": "approve", "by": "ann"}))
    assert (await running).status.state == "succeeded"


async def test_a_question_is_asked_again_under_the_same_step(lab):
    """`retry` of an approval asks once more when nobody has answered; the last question is the one that is answered."""
    planned = lab.plan(
        "name: again\nsteps: [{id: ok, retry: {attempts: 9, backoff: 1ms}, approval: {message: Now?, deadline: 1s}}]"
    )
    running = asyncio.create_task(lab.start(planned))
    await until(lambda: lab.reactor is not None)
    asked: list[int] = []
    while len(asked) < 2:
        await asyncio.sleep(0.05)
        asked = [each.n for each in await lab.records(lab.run_id) if each.kind == "waits"]
    await lab.journal.signal(lab.run_id, "/ok", json.dumps({"answer": "approve", "by": "ann"}))
    found = await running

    assert (found.status.state, asked) == ("succeeded", [1, 2])


def test_steps_that_tell_see_the_question_and_others_do_not(lab):
    """`approval` has a message, a deadline and links; nothing else, and nowhere else."""
    with pytest.raises(InvalidWorkflow) as caught:
        lab.plan(text().replace("approval.message", "approval.massage").replace("steps.ok.output.by", "approval.links"))

    assert [each.code for each in caught.value.problems] == ["unknown_name", "unknown_name"]
    assert caught.value.problems[0].where.step == "ok/notify/tell"


# ---- tokens
QUESTION = Question("run", "/ok", 1, "ann", "Really?", 5.0)


def test_b1_a_token_answers_the_question_that_was_shown_and_no_other():
    """B1: run, step, try, person, what was shown and until when are all signed."""
    signer = Signer(lambda: [b"new", b"old"])
    named = read(signer.token(QUESTION))

    signer.require_signed(named, QUESTION)
    signer.require_signed(read(Signer(lambda: [b"old"]).token(QUESTION)), QUESTION)
    others = [
        replace(QUESTION, run_id="other"),
        replace(QUESTION, path="/other"),
        replace(QUESTION, n=2),
        replace(QUESTION, who="bo"),
        replace(QUESTION, message="Really not?"),
        replace(QUESTION, deadline=6.0),
        replace(QUESTION, deadline=None),
    ]
    for other in others:
        with pytest.raises(InvalidInputs):
            signer.require_signed(named, other)
    with pytest.raises(InvalidInputs):
        Signer(lambda: [b"else"]).require_signed(named, QUESTION)


@pytest.mark.parametrize("token", ["", "x", "a.b", "WzFd.x", "bnVsbA.AAAA", "é.é", "eyJhIjoxfQ.AAAA", "." * 9])
def test_what_is_no_token_is_refused(token):
    """Whatever is pasted: told, not raised as something else."""
    with pytest.raises(InvalidInputs, match="token is not valid"):
        read(token)


@pytest.fixture
async def runtime(tmp_path, monkeypatch):
    lab = Path(__file__).parent.parent / "lab"
    registry = Registry([packs.read(lab, "lab", packs.package_of(lab))])
    monkeypatch.chdir(tmp_path)
    key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
    async with Runtime(tmp_path / "home", registry, environ={"WEFT_KEY": key}, journal=MemoryJournal()) as made:
        yield made


def compiled(runtime, document: str):
    Path("asking.yaml").write_text(textwrap.dedent(document), encoding="utf-8")
    return runtime.compile(Path("asking.yaml"))


async def started(runtime, deadline: str = "") -> tuple[str, asyncio.Task[Listed]]:
    running = asyncio.create_task(runtime.start(compiled(runtime, text(deadline)), {}, run_id="r"))
    module = sys.modules[runtime.registry.action("deliver").load().function.__module__]
    module.DELIVERED.clear()
    await until(lambda: len(module.DELIVERED) == 2)
    return next(to.split()[-1] for to, _, _ in module.DELIVERED if to.startswith("bo")), running


async def test_b1_a_token_answers_once_and_by_whom_is_recorded(runtime):
    """B1: the question can be looked at as often as one likes; it is answered once, and who, how and when is on record."""
    token, running = await started(runtime)
    assert (await runtime.question_of(token)).message == "Send it to 2?"
    await runtime.answer_by_token(token, "approve", "why not")
    found = await running
    with pytest.raises(JournalRefused):
        await runtime.answer_by_token(token, "reject")

    (signal,) = [each for each in (await runtime.journal.load("r")).records if each.kind == "signal"]
    said = json.loads(signal.payload)
    assert found.status.state == "succeeded"
    assert {key: said[key] for key in ("answer", "by", "how", "comment")} == {
        "answer": "approve",
        "by": "bo",
        "how": "token",
        "comment": "why not",
    }
    assert said["at"] >= found.row.started_at


async def test_b1_a_changed_token_answers_nothing(runtime):
    """B1: neither another name nor another signature is taken."""
    import base64

    token, running = await started(runtime)
    named, _, signature = token.partition(".")
    facts = json.loads(base64.urlsafe_b64decode(named + "=="))
    forged = base64.urlsafe_b64encode(json.dumps([*facts[:3], "ann"]).encode()).decode().rstrip("=")
    for wrong in (f"{forged}.{signature}", f"{named}.{signature[:-2]}AA"):
        with pytest.raises(InvalidInputs):
            await runtime.answer_by_token(wrong, "approve")
    await runtime.answer("r", "/ok", "reject", by="ann")
    assert (await running).status.state == "failed"


async def test_who_may_answer_is_a_list_of_names(lab):
    """A list among the names stands for its own, each once; what is no name fails the step instead of asking nobody."""
    asking = """
        name: who
        inputs: {owner: {}, people: {type: array}}
        steps:
          - id: ok
            approval: {message: Go?, who: ["{{ inputs.owner }}", "{{ inputs.people }}"], deadline: 100ms, default: approve}
        """
    report = await lab.run(asking, {"owner": "a", "people": ["a", "b"]})
    waits = [json.loads(each.payload) for each in await lab.records(lab.run_id) if each.kind == "waits"]
    assert (report.state, waits[0]["who"]) == ("succeeded", ["a", "b"])

    report = await lab.run(asking, {"owner": None, "people": []})
    assert (report.state, report.problem and report.problem.code) == ("failed", "not_a_name")


async def test_who_follows_a_run_that_rests_is_told_what_it_asks(lab):
    """A run that waits for an answer is driven by nobody: whoever begins to follow it learns what it is and what it asks."""
    lab.in_memory_s = 0.0
    first = asyncio.create_task(lab.start(lab.plan("name: rest\nsteps: [{id: ok, approval: {message: Go?}}]")))
    await until(lambda: any(isinstance(each, Asked) for each in lab.events) and lab.reactor is None)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    lab.events.clear()
    second = asyncio.create_task(lab.follow())
    await until(lambda: any(isinstance(each, Asked) for each in lab.events))
    assert isinstance(lab.events[0], RunStarted)
    await lab.journal.signal(lab.run_id, "/ok", json.dumps({"answer": "approve", "by": "ann"}))
    report = await second

    assert report.state == "succeeded"
    assert [type(each) for each in lab.events].count(RunStarted) == 1
    assert [type(each) for each in lab.events].count(Asked) == 1


def test_a_token_with_half_a_character_is_none():
    """A token that names a run that no journal could hold is refused like any other that is none of ours."""
    forged = base64.urlsafe_b64encode(json.dumps(["\ud800", "/ok", 1, None]).encode()).decode().rstrip("=")
    with pytest.raises(InvalidInputs):
        read(f"{forged}.AAAA")


async def test_nobody_is_told_of_a_question_that_is_answered(lab):
    """Steps of `notify` that have not begun when somebody answers do not begin, and the run goes on without them."""
    asking = """
        name: remind
        steps:
          - id: ok
            approval:
              message: Go?
              notify:
                - {id: tell, uses: deliver, with: {to: first}}
                - {id: later, wait: {for: 1h}}
                - {id: remind, uses: deliver, with: {to: again}}
          - {id: after, uses: echo, with: {value: "{{ steps.ok.output.by }}"}}
        """
    delivered = lab.module("deliver").DELIVERED
    running = asyncio.create_task(lab.run(asking))
    await until(lambda: delivered)
    await lab.journal.signal(lab.run_id, "/ok", json.dumps({"answer": "approve", "by": "ann"}))
    report = await running

    assert (report.state, [to for to, _, _ in delivered]) == ("succeeded", ["first"])
    assert [step.output for step in report.steps if step.path == "/after"] == [{"value": "ann"}]
    [later] = [step.problem for step in report.steps if step.path == "/ok/@notify/later"]
    assert later is not None
    assert later.message == "It was stopped with what is around it."


async def test_a_deadline_that_is_none_is_told_as_such(lab):
    """A fault in the deadline of a question names it and its place."""
    report = await lab.run(
        "name: d\ninputs: {x: {}}\nsteps: [{id: ok, approval: {message: Go?, deadline: '{{ inputs.x }}'}}]",
        {"x": "soon"},
    )

    assert report.problem is not None
    assert "`approval.deadline`" in report.problem.message
    assert report.problem.where.column is not None
