"""What every journal promises, asked of each of them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Awaitable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from servers.journals import Bench, begun, waits

from weft.errors import JournalBehind, JournalRefused, JournalUnavailable, NotFound
from weft.journal.base import (
    LARGEST_ARTIFACT,
    LARGEST_INLINE,
    LARGEST_RUN,
    Claim,
    Ended,
    Journal,
    Kept,
    Meter,
    Parent,
    Purged,
    Record,
    Rest,
    RunQuery,
    RunRow,
    Status,
    Then,
)

AWKWARD = '{"b":1,"a":[1e400,0.1,10000000000000000000001,"\\ud800","\\u0000"],"a":2}'
"""Text that a database which looked into it would change: order, doubles, big numbers, lone surrogate, NUL."""

DONE = Ended("succeeded", "{}")


async def refused(asked: Awaitable[Any], code: str) -> None:
    """Expect a refusal with this code."""
    with pytest.raises((JournalRefused, NotFound)) as caught:
        await asked
    assert caught.value.problem.code == code


def paths(kept: Kept) -> list[str]:
    return [record.path for record in kept.records]


def codes(answers: Iterable[object]) -> list[str]:
    """The codes of what was refused; `ok` of the others."""
    return sorted(each.problem.code if isinstance(each, JournalRefused) else "ok" for each in answers)


async def standing(journal: Journal, run_id: str = "r1") -> Status:
    return (await journal.status(run_id)).status


# ---- keeping
async def test_what_was_accepted_and_written_is_loaded_byte_for_byte(bench: Bench) -> None:
    """A5: row, payloads, result come back as the text that was given, records in the order of their acceptance."""
    facts = {"scheduled_at": 10.25, "origin": "r0", "schedule": "w/nightly", "parent": Parent("p", "/call", 2)}
    run = bench.row(inputs=AWKWARD, trigger=AWKWARD, started_at=1_763_912_345.678901, **facts)
    records = [begun("/z"), Record("/a", 1, "succeeded", AWKWARD), begun("/a[10]"), begun("/a[9]", 2)]
    claim = await bench.journal.accept(run, records[0])
    await bench.journal.write(claim, 0, records[1:2])
    await bench.journal.write(claim, 0, records[2:], Ended("failed", AWKWARD))

    kept = await (await bench.another()).load("r1")
    assert (kept.row, list(kept.records), kept.status.result) == (run, records, AWKWARD)


async def test_documents_are_kept_once_byte_for_byte(bench: Bench) -> None:
    """A document is found under its SHA-256; one that was never kept is told."""
    text = "a: ü\r\n\tb: '\\u0000 😀'\n"
    hash_ = await bench.journal.keep_document(text)
    assert hash_ == await bench.journal.keep_document(text) == hashlib.sha256(text.encode()).hexdigest()

    assert await (await bench.another()).document(hash_) == text
    await refused(bench.journal.document("0" * 64), "unknown_document")


async def test_a_run_needs_its_document(bench: Bench) -> None:
    """A run that could never go on is not accepted."""
    run = bench.row(document="0" * 64)
    await refused(bench.journal.accept(run), "unknown_document")
    await refused(bench.journal.submit(run), "unknown_document")
    await refused(bench.journal.status("r1"), "unknown_run")


async def test_a_run_is_accepted_once(bench: Bench) -> None:
    """A second run of the same id is refused, whoever brings it, and changes nothing."""
    claim = await bench.accept()
    await refused(bench.accept(inputs='{"other":1}'), "known_run")
    await refused(bench.accept(), "known_run")
    await refused((await bench.another()).submit(bench.row()), "known_run")
    answers = await asyncio.gather(*(bench.accept("r2") for _ in range(5)), return_exceptions=True)

    await bench.journal.write(claim, 0, [begun()])
    assert (await bench.journal.load("r1")).row == bench.row()
    assert codes(answers) == ["known_run"] * 4 + ["ok"]


async def test_an_accepted_run_is_running_and_a_submitted_one_is_ready(bench: Bench) -> None:
    """Who accepts a run has it; who submits one leaves it to any worker."""
    await bench.accept()
    await bench.journal.submit(bench.row("r2"))
    ours, anybodys = await standing(bench.journal), await standing(bench.journal, "r2")

    assert (ours.state, ours.epoch, ours.owner, ours.news, ours.size) == ("running", 1, bench.journal.name, 0, 0)
    assert (anybodys.state, anybodys.epoch, anybodys.crashes) == ("ready", 0, 0)
    assert abs(ours.changed_at - bench.journal.now()) < 10


async def test_an_unknown_run_is_told(bench: Bench) -> None:
    """Whatever is asked of a run that is not there says so."""
    journal, nobody = bench.journal, Claim("r9", 1, "t")
    for asked in (
        journal.claim("r9"),
        journal.release("r9", ends=1),
        journal.load("r9"),
        journal.status("r9"),
        journal.write(nobody, 0, [begun()]),
        journal.cancel("r9"),
        journal.signal("r9", "/ask", "{}"),
        journal.resume("r9"),
        journal.save_artifact("r9", b"x", name="x", content_type="text/plain"),
        journal.read_artifact("r9", "sha256:00"),
        journal.runs(RunQuery(before="r9")),
    ):
        await refused(asked, "unknown_run")


# ---- the right to write
async def test_one_of_many_claims_gets_the_run(bench: Bench) -> None:
    """A2: of claims at the same time, from several processes, one gets the run; later deliveries are refused."""
    other = await bench.another()
    await bench.journal.submit(bench.row())
    answers = await asyncio.gather(
        *(journal.claim("r1") for journal in [bench.journal, other] * 5), return_exceptions=True
    )
    (claim,) = (answer for answer in answers if isinstance(answer, Claim))

    assert codes(answers) == ["not_ready"] * 9 + ["ok"]
    assert claim.epoch == 1
    await other.write(claim, 0, [begun()])
    await bench.journal.write(claim, 0, (), DONE)
    await refused(other.claim("r1"), "has_ended")


async def test_the_newest_claim_alone_counts(bench: Bench) -> None:
    """A2, A8: an owner that wakes up late can neither record nor finish, nor repeat what is recorded already."""
    old = await bench.accept()
    await bench.journal.write(old, 0, [begun()])
    await bench.journal.release("r1", ends=1)
    await refused(bench.journal.write(old, 0, [begun("/released")]), "another_owner")
    new = await bench.journal.claim("r1")
    for records, then in (([begun()], None), ([begun("/b")], None), ([], DONE), ([], Rest("ready"))):
        await refused(bench.journal.write(old, 0, records, then), "another_owner")

    await bench.journal.write(new, 0, [begun("/c")])
    assert new.epoch > old.epoch
    assert paths(await bench.journal.load("r1")) == ["/a", "/c"]


async def test_epoch_and_token_must_both_fit(bench: Bench) -> None:
    """A7: a claim of the same epoch with another token, as a stale copy of a database may give, is void."""
    claim = await bench.accept()
    for forged in (Claim("r1", claim.epoch, "0" * 32), Claim("r1", claim.epoch + 1, claim.token)):
        await refused(bench.journal.write(forged, 0, [begun()]), "another_owner")
        await refused(bench.journal.write(forged, 0, (), DONE), "another_owner")


async def test_a_live_claim_is_confirmed(bench: Bench) -> None:
    """A20: a process that lives and has beaten may begin what cannot be taken back."""
    claim = await bench.accept()
    await bench.journal.beat()
    await bench.journal.confirm(claim)


async def test_the_same_record_twice_is_kept_once_and_another_is_refused(bench: Bench) -> None:
    """A8: a write is answered by what stands under its key; other content there is refused, with all that came along."""
    journal, claim = bench.journal, await bench.accept()
    await journal.write(claim, 0, [begun(payload='{"x":1}')])
    await journal.write(claim, 0, [begun(payload='{"x":1}'), begun(payload='{"x":1}')])
    for records in (
        [begun("/new"), begun(payload='{"x":2}')],
        [begun("/twin", payload="1"), begun("/twin", payload="2")],
    ):
        await refused(journal.write(claim, 0, records), "other_content")
        await refused(journal.write(claim, 0, records, DONE), "other_content")
    await refused(bench.accept("r2", *records), "other_content")

    assert (await journal.load("r1")).records == (begun(payload='{"x":1}'),)
    assert (await standing(journal)).state == "running"


@pytest.mark.parametrize(
    "then",
    [
        None,
        Ended("succeeded", AWKWARD),
        Ended("cancelled", "{}", doubt=True),
        Rest("ready"),
        Rest("waiting", wake_at=2_000_000_000.25),
        Rest("waiting"),
        Rest("parked", reason='{"code":"x"}'),
    ],
)
async def test_a_write_whose_answer_was_lost_is_accepted_again(bench: Bench, then: Then) -> None:
    """A8: the same write again, with how it ended or rests, is accepted and changes nothing."""
    claim = await bench.accept()
    records = [begun(), waits()]
    await bench.journal.write(claim, 0, records, then)
    once = await bench.journal.load("r1")
    await bench.journal.write(claim, 0, records, then)

    kept = await bench.journal.load("r1")
    assert kept.records == once.records == tuple(records)
    assert (kept.status.state, kept.status.wake_at, kept.status.reason, kept.status.result, kept.status.size) == (
        (once.status.state, once.status.wake_at, once.status.reason, once.status.result, once.status.size)
    )


async def test_an_owner_that_let_go_writes_no_more(bench: Bench) -> None:
    """A write other than the one that let go is refused, even under the same claim."""
    journal = bench.journal
    for number, then in enumerate((Rest("ready"), Rest("waiting", wake_at=2e9), Rest("parked", reason="{}"))):
        claim = await bench.accept(f"r{number}")
        await journal.write(claim, 0, [begun()], then)
        for records, other in (
            ([begun("/b")], then),
            ([begun()], None),
            ([begun()], DONE),
            ([begun()], Rest("waiting", wake_at=3e9)),
        ):
            await refused(journal.write(claim, 0, records, other), "another_owner")
        assert (await standing(journal, f"r{number}")).state == then.state


async def test_nothing_follows_the_end(bench: Bench) -> None:
    """A run that has ended takes no record, no second end, no claim, no cancel, no signal."""
    journal, claim = bench.journal, await bench.accept("r1", waits())
    await journal.write(claim, 0, (), Ended("succeeded", AWKWARD))
    for late, code in (
        (journal.write(claim, 0, [begun()]), "has_ended"),
        (journal.write(claim, 0, (), Ended("failed", "{}")), "has_ended"),
        (journal.write(claim, 0, (), Ended("succeeded", "{}")), "has_ended"),
        (journal.claim("r1"), "has_ended"),
        (journal.release("r1", ends=1), "has_ended"),
        (journal.cancel("r1"), "has_ended"),
        (journal.signal("r1", "/ask", "{}"), "not_waiting"),
        (journal.resume("r1"), "not_parked"),
    ):
        await refused(late, code)

    kept = await journal.load("r1")
    assert (kept.records, kept.status.state, kept.status.result) == ((waits(),), "succeeded", AWKWARD)


async def test_runs_side_by_side_do_not_mix(bench: Bench) -> None:
    """A refusal to one of many writers at once is that one's alone."""
    claims = [await bench.accept(f"r{number}") for number in range(20)]
    await bench.journal.release("r7", ends=1)
    answers = await asyncio.gather(
        *(bench.journal.write(claim, 0, [begun()]) for claim in claims), return_exceptions=True
    )

    assert [type(answer) for answer in answers] == [type(None)] * 7 + [JournalRefused] + [type(None)] * 12
    assert [len((await bench.journal.load(f"r{number}")).records) for number in range(20)] == [1] * 7 + [0] + [1] * 12


# ---- news
async def test_an_owner_reads_the_news_before_it_writes(bench: Bench) -> None:
    """A10, A18: after a cancel or a signal a write is refused whole until its writer has seen them."""
    journal, other, claim = bench.journal, await bench.another(), await bench.accept("r1", waits())
    await other.signal("r1", "/ask", '"yes"')
    for then in (None, DONE, Rest("waiting"), Rest("parked", reason="{}")):
        with pytest.raises(JournalBehind):
            await journal.write(claim, 0, [begun()], then)
    await journal.write(claim, 1, [begun()])
    await other.cancel("r1")
    with pytest.raises(JournalBehind):
        await journal.write(claim, 1, [begun("/b")], DONE)
    await journal.write(claim, 2, [begun("/b")], DONE)

    kept = await journal.load("r1")
    assert [(record.path, record.kind) for record in kept.records] == [
        ("/ask", "waits"),
        ("/ask", "signal"),
        ("/a", "begun"),
        ("", "cancel"),
        ("/b", "begun"),
    ]
    assert (kept.status.news, kept.status.state) == (2, "succeeded")


async def test_a_repeated_write_is_no_news_too_late(bench: Bench) -> None:
    """A8: what was accepted before the news came is accepted again after them; nothing new is."""
    claim = await bench.accept()
    await bench.journal.write(claim, 0, [begun()])
    await bench.journal.cancel("r1")
    await bench.journal.write(claim, 0, [begun()])
    for records, then in (([], None), ([begun(), begun("/b")], None), ([begun()], DONE)):
        with pytest.raises(JournalBehind):
            await bench.journal.write(claim, 0, records, then)

    assert paths(await bench.journal.load("r1")) == ["/a", ""]


async def test_a_run_is_cancelled_twice_at_most(bench: Bench) -> None:
    """A18: each cancel is a record with its number and a piece of news; a third does nothing."""
    await bench.accept()
    assert [await bench.journal.cancel("r1") for _ in range(4)] == [1, 2, 2, 2]

    kept = await bench.journal.load("r1")
    assert [(record.path, record.n, record.kind) for record in kept.records] == [("", 1, "cancel"), ("", 2, "cancel")]
    assert (kept.status.state, kept.status.news) == ("running", 2)


@pytest.mark.parametrize("rest", [Rest("waiting", wake_at=2e9), Rest("waiting"), Rest("parked", reason='{"a":1}')])
async def test_a_cancel_makes_a_resting_run_ready(bench: Bench, rest: Rest) -> None:
    """Somebody has to end it: what waits or is parked becomes ready, and no old instant or reason is left."""
    await bench.journal.write(await bench.accept(), 0, (), rest)
    await bench.journal.cancel("r1")

    status = await standing(bench.journal)
    assert (status.state, status.wake_at, status.reason) == ("ready", None, None)
    assert await bench.journal.next_wake() is None


async def test_a_signal_answers_the_open_wait(bench: Bench) -> None:
    """The answer stands under path and number of the wait, and the waiting run becomes ready."""
    journal = bench.journal
    await journal.write(await bench.accept(), 0, [waits(), waits("/other")], Rest("waiting", wake_at=2e9))
    await journal.signal("r1", "/ask", AWKWARD)

    kept = await journal.load("r1")
    assert kept.records[-1] == Record("/ask", 1, "signal", AWKWARD)
    assert (kept.status.state, kept.status.wake_at, kept.status.news) == ("ready", None, 1)
    await journal.write(await journal.claim("r1"), 1, [waits(n=2)], Rest("waiting"))
    await journal.signal("r1", "/ask", "2")
    assert (await journal.load("r1")).records[-1] == Record("/ask", 2, "signal", "2")


async def test_each_of_two_waits_has_its_own_answer(bench: Bench) -> None:
    """A10: two steps that wait are answered at the same time; one answer wakes the run, and none is lost."""
    journal, other = bench.journal, await bench.another()
    for number in range(20):
        run_id = f"r{number:02}"
        await journal.write(await bench.accept(run_id), 0, [waits("/a"), waits("/b")], Rest("waiting", wake_at=2e9))
        await asyncio.gather(journal.signal(run_id, "/a", '"a"'), other.signal(run_id, "/b", '"b"'))

        kept = await journal.load(run_id)
        assert {each.path: each.payload for each in kept.records if each.kind == "signal"} == {"/a": '"a"', "/b": '"b"'}
        assert (kept.status.state, kept.status.news) == ("ready", 2)


async def test_a_signal_that_nobody_waits_for_is_refused(bench: Bench) -> None:
    """A10: not reached, answered already, its time over: each is told, and nothing is kept."""
    journal = bench.journal
    await bench.accept("r1", waits(), waits("/rang"), Record("/rang", 1, "rang", "{}"), begun("/begun"))
    await journal.signal("r1", "/ask", '"yes"')
    for path, why in (
        ("/nowhere", "not reached"),
        ("/begun", "not reached"),
        ("/ask", "answered"),
        ("/rang", "time is up"),
    ):
        with pytest.raises(JournalRefused, match=why) as caught:
            await journal.signal("r1", path, '"no"')
        assert caught.value.problem.code == "not_waiting"

    assert (await standing(journal)).news == 1


async def test_the_same_answer_twice_is_kept_once(bench: Bench) -> None:
    """A8: a signal whose answer was lost may be sent again, also when the run has gone on or ended since."""
    journal, claim = bench.journal, await bench.accept("r1", waits())
    await journal.signal("r1", "/ask", '"yes"')
    await journal.signal("r1", "/ask", '"yes"')
    await journal.write(claim, 1, (), DONE)
    await journal.signal("r1", "/ask", '"yes"')

    assert ((await standing(journal)).news, len((await journal.load("r1")).records)) == (1, 2)


async def test_a_deadline_goes_by_the_journals_clock(bench: Bench) -> None:
    """B6: an answer counts until the deadline by the time of the journal, whatever that of the process is."""
    journal = bench.journal
    deadline = journal.now() + 0.4
    await bench.accept("r1", waits("/a", 1, deadline), waits("/b", 1, deadline))
    await journal.signal("r1", "/a", "1")
    await bench.sleep(0.5)
    with pytest.raises(JournalRefused, match="time is up"):
        await journal.signal("r1", "/b", "1")


async def test_a_parked_run_takes_an_answer_and_stays(bench: Bench) -> None:
    """What is held for a reason is not let go by an answer to one of its steps."""
    await bench.journal.write(await bench.accept(), 0, [waits()], Rest("parked", reason='{"code":"stuck"}'))
    await bench.journal.signal("r1", "/ask", "1")

    status = await standing(bench.journal)
    assert (status.state, status.reason, status.news) == ("parked", '{"code":"stuck"}', 1)


async def test_no_signal_is_slept_through(bench: Bench) -> None:
    """A10: of 200 races between going to rest and an answer, none ends with an answered run that waits."""
    journal, other = bench.journal, await bench.another()
    claims = [await bench.accept(f"r{number:03}", waits()) for number in range(200)]
    ends = {"slept": 0, "behind": 0}
    for number, claim in enumerate(claims):
        asked: list[Awaitable[None]] = [
            journal.write(claim, 0, (), Rest("waiting", wake_at=2e9)),
            other.signal(claim.run_id, "/ask", "1"),
        ]
        parked, told = await asyncio.gather(*(asked if number % 2 else asked[::-1]), return_exceptions=True)
        parked, told = (parked, told) if number % 2 else (told, parked)
        status = await standing(journal, claim.run_id)
        assert (told, status.news) == (None, 1)
        if parked is None:
            ends["slept"] += 1
            assert (status.state, status.wake_at) == ("ready", None)
        else:
            ends["behind"] += 1
            assert isinstance(parked, JournalBehind)
            assert status.state == "running"

    assert sum(ends.values()) == 200


async def test_answer_and_deadline_race(bench: Bench) -> None:
    """A10: in 200 races, a run that is woken and answered at the same time is ready once, and has its answer."""
    journal, other = bench.journal, await bench.another()
    for number in range(200):
        run_id = f"r{number:03}"
        await journal.write(await bench.accept(run_id), 0, [waits()], Rest("waiting", wake_at=journal.now() - 1))
        woken, told = await asyncio.gather(journal.wake(10), other.signal(run_id, "/ask", "1"))
        assert woken in ([], [run_id])
        assert told is None
        status = await standing(journal, run_id)
        assert (status.state, status.news) == ("ready", 1)
        await journal.write(await journal.claim(run_id), 1, (), DONE)


# ---- owners that die
async def test_what_a_dead_process_had_is_found(bench: Bench) -> None:
    """The running runs of a process that has gone are told; those of one that lives, and those that rest, are not."""
    journal, other = bench.journal, await bench.another()
    await bench.accept("mine")
    for run_id in ("a", "b", "rests", "ended"):
        await journal.submit(bench.row(run_id))
        claim = await other.claim(run_id)
        if run_id == "rests":
            await other.write(claim, 0, (), Rest("waiting"))
        if run_id == "ended":
            await other.write(claim, 0, (), DONE)
    name = other.name
    await journal.beat()
    assert await journal.abandoned() == []
    await other.close()
    until = time.monotonic() + bench.dead_s + 5
    while len(found := await journal.abandoned()) < 2:
        assert time.monotonic() < until
        await asyncio.sleep(0.02)
        await journal.beat()

    assert sorted((run.row.id, run.status.owner, run.status.epoch) for run in found) == [("a", name, 1), ("b", name, 1)]
    assert await journal.release("a", ends=1) == "ready"
    assert [run.row.id for run in await journal.abandoned()] == ["b"]


async def test_one_of_many_takes_over(bench: Bench) -> None:
    """A2: of several that saw the same owner die one ends its claim; the others, and those who come later, are refused."""
    other = await bench.another()
    await bench.accept()
    answers = await asyncio.gather(
        *(journal.release("r1", ends=1) for journal in [bench.journal, other] * 3), return_exceptions=True
    )
    assert codes(answers) == ["another_owner"] * 5 + ["ok"]
    status = await standing(bench.journal)
    assert (status.state, status.epoch, status.crashes) == ("ready", 2, 1)
    await refused(other.release("r1", ends=2), "another_owner")
    claim = await other.claim("r1")
    await refused(bench.journal.release("r1", ends=1), "another_owner")

    assert claim.epoch == 3


async def test_crashes_count_while_nothing_new_is_written(bench: Bench) -> None:
    """A19: a crash counts on from the one before unless there is a record since the claim; letting go counts nothing."""
    journal, claim, crashes = bench.journal, await bench.accept("r1", begun()), []
    for path in (None, None, "/new", None):
        if path is not None:
            await journal.write(claim, 0, [begun(path)])
        await journal.release("r1", ends=claim.epoch)
        crashes.append((await standing(journal)).crashes)
        claim = await journal.claim("r1")
    await journal.write(claim, 0, (), Rest("ready"))
    claim = await journal.claim("r1")
    await journal.write(claim, 0, [begun()])  # known already: nothing new
    await journal.release("r1", ends=claim.epoch)

    assert crashes == [1, 2, 1, 2]
    assert (await standing(journal)).crashes == 3


async def test_a_run_that_ends_its_process_alone_is_parked(bench: Bench) -> None:
    """A19: only a crash of a process that did nothing else parks a run; resumed, it begins to count anew."""
    journal = bench.journal
    await bench.accept()
    await journal.release("r1", ends=1)
    claim = await journal.claim("r1", alone=True)
    assert (await standing(journal)).alone
    assert await journal.release("r1", ends=claim.epoch) == "parked"
    status = await standing(journal)
    assert (status.state, status.crashes, json.loads(status.reason or "")["code"]) == ("parked", 2, "poison")
    await refused(journal.claim("r1"), "not_ready")
    await journal.resume("r1")

    status = await standing(journal)
    assert (status.state, status.crashes, status.reason) == ("ready", 0, None)
    await refused(journal.resume("r1"), "not_parked")
    assert not (await standing(journal)).alone


# ---- what is to be done
async def test_those_that_have_been_ready_longest_come_first(bench: Bench) -> None:
    """A sweep finds runs that have been ready for some time, in that order, and as many as it asks for."""
    journal = bench.journal
    for run_id in ("c", "a", "b"):
        await journal.submit(bench.row(run_id))
        await bench.sleep(0.05)
    await bench.sleep(0.4)
    await journal.submit(bench.row("d"))
    await journal.cancel("c")  # news of a run that is ready do not send it to the end

    assert await journal.ready(10) == ["c", "a", "b", "d"]
    assert await journal.ready(2) == ["c", "a"]
    assert await journal.ready(10, for_s=0.3) == ["c", "a", "b"]
    await journal.claim("c")
    assert await journal.ready(1) == ["a"]


@pytest.mark.parametrize("bench", ["memory", "sqlite"], indirect=True)  # a database's clock is not ours to set
async def test_a_clock_that_was_set_back_hides_nothing(bench: Bench) -> None:
    """What is ready is found, whatever the clock said when it became so."""
    assert bench.clock is not None
    await bench.journal.submit(bench.row("r1"))
    bench.clock.now -= 7_200

    assert await bench.journal.ready(10) == ["r1"]
    assert await bench.journal.ready(10, for_s=60) == []


async def test_what_is_due_is_woken(bench: Bench) -> None:
    """A waiting run becomes ready when its instant has come, once, the most overdue first, as many as were asked for."""
    journal = bench.journal
    now = journal.now()
    for run_id, wake_at in (("a", now - 1), ("b", now - 2), ("c", now - 3), ("later", now + 1e6), ("never", None)):
        await journal.write(await bench.accept(run_id), 0, (), Rest("waiting", wake_at=wake_at))

    assert await journal.next_wake() == now - 3
    assert await journal.wake(10, only="b") == ["b"]
    assert await journal.wake(10, only="later") == []
    assert await journal.wake(1) == ["c"]
    assert await journal.wake(10) == ["a"]
    assert await journal.wake(10) == []
    assert await journal.next_wake() == now + 1e6
    assert (await standing(journal, "a")).wake_at is None
    assert sorted(await journal.ready(10)) == ["a", "b", "c"]


async def test_two_wakers_wake_each_run_once(bench: Bench) -> None:
    """Of two processes that wake at the same time each run is told to one."""
    journal, other = bench.journal, await bench.another()
    ids = [f"r{number:02}" for number in range(30)]
    for run_id in ids:
        await journal.write(await bench.accept(run_id), 0, (), Rest("waiting", wake_at=journal.now() - 1))
    woken = await asyncio.gather(*(each.wake(10) for each in [journal, other] * 4))

    assert sorted(run_id for part in woken for run_id in part) == sorted({run_id for part in woken for run_id in part})
    assert len(await journal.ready(100)) == sum(len(part) for part in woken)


async def test_attention_is_for_ones_own_news(bench: Bench) -> None:
    """A process is told of the runs that it has and that others have written to; not of theirs, not of resting ones."""
    journal, other = bench.journal, await bench.another()
    for run_id in ("quiet", "rests", "ended"):
        await bench.accept(run_id)
    claim = await bench.accept("told", waits())
    await other.accept(bench.row("theirs"))
    await journal.cancel("theirs")
    await journal.write(await bench.accept("let-go"), 0, (), Rest("waiting"))
    await journal.cancel("let-go")
    await other.cancel("told")
    await other.signal("told", "/ask", "1")

    assert await journal.attention() == {"told": 2}
    assert await other.attention() == {"theirs": 1}
    await journal.write(claim, 2, (), DONE)
    assert await journal.attention() == {}


async def test_a_change_by_another_process_is_noticed_soon(bench: Bench) -> None:
    """Within 250 ms a process hears that others may have written; while nothing happens it hears nothing."""
    journal, other = bench.journal, await bench.another()
    await bench.accept()
    while await journal.changed(0.3):
        pass
    began = time.monotonic()
    watching = asyncio.create_task(journal.changed(5))
    await asyncio.sleep(0.02)
    assert not watching.done()
    await other.cancel("r1")
    assert await watching
    assert time.monotonic() - began < 0.02 + 0.25
    while await journal.changed(0.3):
        pass
    began = time.monotonic()
    assert not await journal.changed(0.2)
    assert 0.15 < time.monotonic() - began < 1


async def test_what_was_written_between_two_looks_is_not_missed(bench: Bench) -> None:
    """A change while nobody watches is told at the next look."""
    journal, other = bench.journal, await bench.another()
    await bench.accept()
    while await journal.changed(0.3):
        pass
    await other.cancel("r1")
    assert await journal.changed(2)


async def test_the_oldest_unfinished_comes_first(bench: Bench) -> None:
    """Every run that has not ended is told, in whatever state it is, with its inputs."""
    journal = bench.journal
    for number, then in enumerate((None, Rest("ready"), Rest("waiting"), Rest("parked", reason="{}"), DONE)):
        claim = await bench.accept(f"r{number}", started_at=100.0 - number, inputs=f"[{number}]")
        await journal.write(claim, 0, (), then)

    found = await journal.unfinished()
    assert [(run.row.id, run.row.inputs, run.status.state) for run in found] == [
        ("r3", "[3]", "parked"),
        ("r2", "[2]", "waiting"),
        ("r1", "[1]", "ready"),
        ("r0", "[0]", "running"),
    ]


# ---- reading
async def test_a_run_is_told_without_its_records(bench: Bench) -> None:
    """The status is that of the loaded run; its size counts the bytes of all payloads."""
    await bench.accept("r1", begun(payload="[1]"), waits())
    await bench.journal.signal("r1", "/ask", '"yes"')
    kept, listed = await bench.journal.load("r1"), await bench.journal.status("r1")

    assert (kept.row, kept.status) == (listed.row, listed.status)
    assert kept.status.size == sum(len(record.payload) for record in kept.records)


async def listed_runs(bench: Bench) -> Journal:
    """Six runs of two workflows, in several states; `r2` and `r3` began at the same instant."""
    journal = bench.journal
    facts: list[tuple[str, float, str, Then]] = [
        ("v", 1.0, '{"name":"Ada"}', DONE),
        ("w", 2.0, "{}", Ended("failed", '{"why":"No Room"}')),
        ("v", 3.0, "{}", Rest("parked", reason='{"code":"stuck"}')),
        ("w", 3.0, '{"name":"\\u00dcnal"}', Rest("waiting")),
        ("w", 5.0, "{}", None),
        ("w", 6.0, "{}", DONE),
    ]
    for number, (workflow, started_at, inputs, then) in enumerate(facts):
        claim = await bench.accept(f"r{number}", workflow=workflow, started_at=started_at, inputs=inputs)
        await journal.write(claim, 0, (), then)
    return journal


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (RunQuery(), "543210"),
        (RunQuery(limit=2), "54"),
        (RunQuery(workflow="w"), "5431"),
        (RunQuery(workflow="nobody"), ""),
        (RunQuery(states=("succeeded",)), "50"),
        (RunQuery(states=("failed", "parked")), "21"),
        (RunQuery(workflow="w", states=("succeeded", "running")), "54"),
        (RunQuery(workflow="w", states=("succeeded",), limit=1), "5"),
        (RunQuery(since=3.0), "5432"),
        (RunQuery(until=3.0), "10"),
        (RunQuery(since=2.0, until=5.0, workflow="w"), "31"),
        (RunQuery(before="r3"), "210"),
        (RunQuery(before="r2"), "10"),
        (RunQuery(before="r4", limit=1, workflow="w"), "3"),
        (RunQuery(before="r5", states=("succeeded",)), "0"),
        (RunQuery(text="ADA"), "0"),
        (RunQuery(text="no room"), "1"),
        (RunQuery(text="stuck"), "2"),
        (RunQuery(text="R4"), "4"),
        (RunQuery(text="V", workflow="v"), "20"),
        (RunQuery(text="Ünal"), "3"),
        (RunQuery(text="ünal"), "3"),
        (RunQuery(text="%"), ""),
        (RunQuery(text="_"), ""),
        (RunQuery(text="r", states=("succeeded",), limit=1), "5"),
    ],
)
async def test_runs_are_listed_the_youngest_first(bench: Bench, query: RunQuery, expected: str) -> None:
    """Every filter, alone and with others; the order goes by start, then id."""
    journal = await listed_runs(bench)

    found = await journal.runs(query)
    assert "".join(run.row.id[1:] for run in found) == expected
    assert [run for run in found if run != await journal.status(run.row.id)] == []


async def test_pages_hold_every_run_once(bench: Bench) -> None:
    """Page after page gives all runs, also those that began at the same instant."""
    for number in range(23):
        await bench.accept(f"r{number:02}", started_at=float(number // 5))
    seen: list[str] = []
    while page := await bench.journal.runs(RunQuery(limit=4, before=seen[-1] if seen else None)):
        seen += [run.row.id for run in page]

    assert seen == [f"r{number:02}" for number in reversed(range(23))]


# ---- what is large
async def test_large_payloads_come_back_whole(bench: Bench) -> None:
    """What is too large to stand in a record comes back all the same; it is repeated and refused as any other."""
    journal, claim = bench.journal, await bench.accept("r1", waits())
    large, other = f'"{"x" * LARGEST_INLINE}"', f'"{"y" * LARGEST_INLINE}"'
    await journal.write(claim, 0, [Record("/a", 1, "succeeded", large), Record("/b", 1, "succeeded", large)])
    await journal.write(claim, 0, [Record("/a", 1, "succeeded", large)])
    await refused(journal.write(claim, 0, [Record("/a", 1, "succeeded", other)]), "other_content")
    await journal.signal("r1", "/ask", large)
    await journal.signal("r1", "/ask", large)

    kept = await journal.load("r1")
    assert [record.payload for record in kept.records[1:]] == [large] * 3
    assert kept.status.size == sum(len(record.payload) for record in kept.records)


async def test_a_run_that_grew_too_large_is_not_loaded(bench: Bench) -> None:
    """B4: nothing is refused after its effect, but a run above the limit is not read; it can still be ended."""
    journal, claim = bench.journal, await bench.accept()
    large = f'"{"x" * (LARGEST_RUN // 2)}"'
    await journal.write(claim, 0, [Record("/a", 1, "succeeded", large)])
    await journal.write(claim, 0, [Record("/b", 1, "succeeded", large)])

    await refused(journal.load("r1"), "run_too_large")
    assert (await standing(journal)).size == 2 * len(large)
    await journal.write(claim, 0, (), DONE)


async def test_artifacts_belong_to_their_run(bench: Bench) -> None:
    """A file is found under the hash of its content in its own run alone."""
    journal = bench.journal
    await bench.accept()
    await bench.accept("r2")
    kept = await journal.save_artifact("r1", b"\0\xff", name="x.bin", content_type="application/octet-stream")
    again = await journal.save_artifact("r1", b"\0\xff", name="y.bin", content_type="application/octet-stream")

    assert kept["artifact"] == again["artifact"] == f"sha256:{hashlib.sha256(bytes([0, 255])).hexdigest()}"
    assert (kept["name"], kept["size"]) == ("x.bin", 2)
    assert await (await bench.another()).read_artifact("r1", str(kept["artifact"])) == b"\0\xff"
    await refused(journal.read_artifact("r2", str(kept["artifact"])), "unknown_artifact")
    with pytest.raises(JournalRefused, match="at most"):
        await journal.save_artifact("r1", bytes(LARGEST_ARTIFACT + 1), name="x", content_type="text/plain")


async def test_a_repetition_has_the_files_of_its_origin(bench: Bench) -> None:
    """What earlier steps kept is there for the steps that are performed anew, and stays when the origin is removed."""
    journal = bench.journal
    first = await bench.accept("old")
    kept = await journal.save_artifact("old", b"file", name="x", content_type="text/plain")
    await journal.write(first, 0, (), DONE)
    await bench.accept("new", origin="old")
    await journal.purge(journal.now() + 3600)

    assert await journal.read_artifact("new", str(kept["artifact"])) == b"file"


# ---- what is removed
async def test_old_runs_go_with_what_only_they_need(bench: Bench) -> None:
    """Runs that ended before the instant go with records, files, documents; all others keep theirs, shared ones too."""
    journal = bench.journal
    own = await journal.keep_document("of the old run alone")
    large = f'"{"x" * LARGEST_INLINE}"'
    record = Record("/a", 1, "succeeded", large)
    old = await bench.accept("old", record, document=own)
    shares = await bench.accept("shares", begun())
    file = await journal.save_artifact("old", b"same", name="x", content_type="text/plain")
    await journal.write(old, 0, (), DONE)
    await journal.write(shares, 0, (), DONE)
    await bench.sleep(0.2)
    instant = journal.now()
    await bench.sleep(0.2)
    await bench.accept("open", record)
    await journal.save_artifact("open", b"same", name="x", content_type="text/plain")
    await journal.write(await bench.accept("young"), 0, (), DONE)
    gone = await journal.purge(instant)

    assert gone == Purged(runs=2, records=2, documents=1, artifacts=1)
    assert [run.row.id for run in await journal.runs(RunQuery())] == ["young", "open"]
    assert (await journal.load("open")).records == (record,)
    assert await journal.read_artifact("open", str(file["artifact"])) == b"same"
    await refused(journal.document(own), "unknown_document")
    assert await journal.document(bench.document)
    await refused(journal.load("old"), "unknown_run")
    assert await journal.purge(instant) == Purged()


async def test_ids_of_triggers_outlive_their_runs(bench: Bench) -> None:
    """A11: what a trigger started once does not start again after its run was removed; a person's id is free again."""
    journal = bench.journal
    for run_id, trigger in (("hook", '{"kind":"webhook"}'), ("person", "null")):
        await journal.write(await bench.accept(run_id, trigger=trigger), 0, (), DONE)
    await bench.accept("keeps-the-document")
    await bench.sleep(0.1)
    assert (await journal.purge(journal.now())).runs == 2

    await refused(bench.accept("hook", trigger='{"kind":"webhook"}'), "known_run")
    await refused((await bench.another()).submit(bench.row("hook")), "known_run")
    await bench.accept("person")


async def test_runs_in_doubt_stay(bench: Bench) -> None:
    """A11: a run with an effect of which nobody knows whether it happened is kept, and counted as such."""
    journal = bench.journal
    for run_id, doubt in (("a", True), ("b", False), ("c", True)):
        await journal.write(await bench.accept(run_id, begun()), 0, (), Ended("failed", "{}", doubt=doubt))
    await bench.sleep(0.1)
    gone = await journal.purge(journal.now())

    assert (gone.runs, gone.kept) == (1, {"doubt": 2})
    assert len((await journal.load("a")).records) == 1
    again = await journal.purge(journal.now())
    assert (again.runs, again.kept) == (0, {"doubt": 2})


async def test_what_was_used_up_outlives_its_run(bench: Bench) -> None:
    """A27: a window counts what a removed run has used for as long as it is open, the sum of all time for ever."""
    journal, claim = bench.journal, await bench.accept("old")
    meters = [Meter("long", 2, 2, window_s=3600.0), Meter("short", 2, 2, window_s=0.1), Meter("all", 2, 2)]
    assert await journal.hold(claim, 0, begun(), meters) is None
    await journal.write(claim, 0, (), DONE)
    await bench.sleep(0.2)
    await bench.accept("keeps-the-document")
    assert (await journal.purge(journal.now())).runs == 1
    claim = await bench.accept("new")

    asked = [(begun(f"/{meter.key}"), [replace(meter, amount=1)]) for meter in meters]
    found = [await journal.hold(claim, 0, record, some) for record, some in asked]
    assert [full and (full.key, full.used) for full in found] == [("long", 2), None, ("all", 2)]
    assert await journal.used(["all", "long"]) == {"all": 2, "long": 2}
    assert await journal.used(["short"], since=0.0) == {"short": 1}


async def test_removal_goes_in_steps(bench: Bench) -> None:
    """No more runs than asked for are removed at a time, the oldest first, until nothing is left to remove."""
    journal = bench.journal
    for number in range(5):
        await journal.write(await bench.accept(f"r{number}"), 0, (), DONE)
        await bench.sleep(0.01)
    await bench.sleep(0.1)
    steps = []
    while (gone := await journal.purge(journal.now(), limit=2)).runs:
        steps.append(gone.runs)
        steps.append(len(await journal.runs(RunQuery())))

    assert steps == [2, 3, 2, 1, 1, 0]


# ---- the process
async def test_each_process_has_a_name(bench: Bench) -> None:
    """It stands beside what the process claims."""
    other = await bench.another()
    await bench.journal.submit(bench.row())
    await other.claim("r1")

    assert bench.journal.name != other.name
    assert (await standing(bench.journal)).owner == other.name


async def test_a_closed_journal_says_so(bench: Bench) -> None:
    """What is asked after the close is refused as unavailable, and what was asked before it counts."""
    other = await bench.another()
    asked = asyncio.create_task(other.accept(bench.row()))
    await asyncio.sleep(0)
    await other.close()

    assert (await asked).epoch == 1
    for late in (other.load("r1"), other.submit(bench.row("r2")), other.ready(1)):
        with pytest.raises(JournalUnavailable):
            await late
    assert (await standing(bench.journal)).state == "running"


async def test_time_is_told(bench: Bench) -> None:
    """The journal's time goes on, and is what changes are dated by."""
    before = bench.journal.now()
    await bench.sleep(0.05)
    await bench.accept()

    assert before < bench.journal.now()
    assert abs((await standing(bench.journal)).changed_at - bench.journal.now()) < 2


def test_a_run_row_is_what_the_suite_thinks_it_is() -> None:
    """A new field of the row has to be given to the round trip above; a gate is in that of the gates."""
    assert RunRow.__slots__ == (
        *("id", "workflow", "document", "inputs", "trigger", "started_at", "scheduled_at", "origin"),
        *("schedule", "parent", "gate"),
    )
