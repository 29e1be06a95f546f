"""Runs that steps of other runs wait for: begun with the wait, ended with the answer (rule A21)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

import pytest
from servers.journals import Bench, begun

from weft.errors import JournalBehind, JournalRefused, NotFound
from weft.journal.base import (
    LARGEST_INLINE,
    Claim,
    Ended,
    Gate,
    Parent,
    Record,
    Rest,
    RunQuery,
    RunRow,
    Status,
)

DONE = Ended("succeeded", "{}")
ASLEEP = Rest("waiting")
ODD = '{"b": 1.0E5, "a": 10000000000000000000001, "a": "\\u0000 \\ud800"}'
"""JSON that would change if it were read and written again."""


def waits(child: str, path: str = "/call", n: int = 1) -> Record:
    return Record(path, n, "waits", json.dumps({"at": 0.0, "deadline": None, "child": child}))


def row(bench: Bench, run_id: str = "c", path: str = "/call", n: int = 1, **facts: Any) -> RunRow:
    return bench.row(run_id, **({"parent": Parent("p", path, n), "trigger": '{"kind":"child"}'} | facts))


async def call(bench: Bench, *children: RunRow, then: Any = ASLEEP) -> Claim:
    """Let run `p` begin children, and wait for them."""
    claim = await bench.accept("p")
    records = [waits(child.id, child.parent.path, child.parent.n) for child in children if child.parent]
    await bench.journal.write(claim, 0, records, then, children=children)
    return claim


async def end(bench: Bench, run_id: str = "c", then: Ended = DONE) -> None:
    status = await standing(bench, run_id)
    await bench.journal.write(await bench.journal.claim(run_id), status.news, (), then)


async def standing(bench: Bench, run_id: str = "p") -> Status:
    return (await bench.journal.status(run_id)).status


async def signals(bench: Bench, run_id: str = "p") -> dict[tuple[str, int], Any]:
    records = (await bench.journal.load(run_id)).records
    return {(each.path, each.n): json.loads(each.payload) for each in records if each.kind == "signal"}


async def refused(asked: Awaitable[Any], code: str) -> None:
    with pytest.raises((JournalRefused, NotFound)) as caught:
        await asked
    assert caught.value.problem.code == code


# ---- begun
async def test_a_child_is_there_with_the_wait_for_it(bench: Bench) -> None:
    """A21: it is ready for any worker, and known by its parent."""
    await call(bench, row(bench), row(bench, "d", "/other", 2, inputs=ODD))

    kept = await (await bench.another()).load("d")
    assert (kept.row, kept.status.state, kept.records) == (row(bench, "d", "/other", 2, inputs=ODD), "ready", ())
    assert sorted(await bench.journal.ready(10)) == ["c", "d"]
    await bench.accept("another", started_at=99.0)
    assert [run.row.id for run in await bench.journal.runs(RunQuery(parent="p"))] == ["d", "c"]
    assert [run.row.id for run in await bench.journal.runs(RunQuery(parent="p", before="d"))] == ["c"]
    assert await bench.journal.runs(RunQuery(parent="p", states=("running",))) == []
    assert await bench.journal.runs(RunQuery(parent="c")) == []


async def test_a_refused_write_begins_no_child(bench: Bench) -> None:
    """A21: without the claim, with news that were not read, with other content, for a child that cannot be: nothing is kept."""
    claim = await bench.accept("p", begun())
    await bench.accept("known")
    journal, child = bench.journal, row(bench)
    for given, records, children, code in (
        (Claim("p", 1, "0" * 32), [waits("c")], [child], "another_owner"),
        (claim, [waits("c"), begun(payload="[2]")], [child], "other_content"),
        (claim, [waits("c")], [child, row(bench, "known", "/b")], "known_run"),
        (claim, [waits("c")], [child, row(bench, "c", "/b")], "known_run"),
        (claim, [waits("c")], [child, row(bench, "d", "/b", document="0" * 64)], "unknown_document"),
    ):
        await refused(journal.write(given, 0, records, ASLEEP, children=children), code)
    await journal.cancel("p")
    with pytest.raises(JournalBehind):
        await journal.write(claim, 0, [waits("c")], ASLEEP, children=[child])

    await refused(journal.status("c"), "unknown_run")
    assert [record.kind for record in (await journal.load("p")).records] == ["begun", "cancel"]
    await journal.write(claim, 1, [waits("c")], ASLEEP, children=[child])
    assert (await standing(bench, "c")).news == 0  # begun after the cancel: by `finally`


async def test_the_same_write_again_begins_each_child_once(bench: Bench) -> None:
    """A8: also when the child has begun, or ended, since; and when the records had been kept before the child."""
    claim = await call(bench, row(bench), then=None)
    journal = bench.journal
    again = {"records": [waits("c")], "children": [row(bench)]}
    await journal.write(claim, 0, **again)
    await journal.write(await journal.claim("c"), 0, [begun()])
    await journal.write(claim, 0, **again)
    await journal.write(claim, 0, [waits("d", "/d")])
    for _ in range(2):
        await journal.write(claim, 0, [waits("d", "/d")], children=[row(bench, "d", "/d")])
    await end(bench, "d")
    await journal.write(claim, 0, [waits("d", "/d")], children=[row(bench, "d", "/d")])

    assert len(await journal.runs(RunQuery(parent="p"))) == 2
    assert (await standing(bench)).news == 1


# ---- ended
@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
async def test_the_end_of_a_child_is_the_answer(bench: Bench, state: Any) -> None:
    """A21: in the same transaction the step has its signal, the result byte for byte, and the parent is ready."""
    await call(bench, row(bench, n=3))
    await end(bench, "c", Ended(state, ODD, doubt=True))

    kept = await bench.journal.load("p")
    told = Record("/call", 3, "signal", f'{{"run":"c","state":"{state}","result":{ODD}}}')
    assert kept.records[-1] == told
    assert (kept.status.state, kept.status.news, kept.status.wake_at) == ("ready", 1, None)
    assert kept.status.size == sum(len(record.payload) for record in kept.records)


async def test_a_parent_that_goes_on_has_news(bench: Bench) -> None:
    """A running parent is told as of any signal; one that is held for a reason stays so."""
    claim = await call(bench, row(bench), row(bench, "d", "/d"), row(bench, "e", "/e"), then=None)
    await end(bench, "c")
    assert await bench.journal.attention() == {"p": 1}
    with pytest.raises(JournalBehind):
        await bench.journal.write(claim, 0, [begun()])
    await bench.journal.write(claim, 1, (), Rest("parked", reason='{"code":"stuck"}'))
    await end(bench, "d")
    assert (await standing(bench)).reason == '{"code":"stuck"}'
    await bench.journal.resume("p")
    await end(bench, "e")

    assert ((await standing(bench)).state, (await standing(bench)).news) == ("ready", 3)


async def test_the_end_told_again_is_told_once(bench: Bench) -> None:
    """A8: a repeated end gives no second signal."""
    await call(bench, row(bench))
    claim = await bench.journal.claim("c")
    for _ in range(2):
        await bench.journal.write(claim, 0, [begun()], DONE)

    assert (await standing(bench)).news == 1


async def test_a_large_result_comes_whole(bench: Bench) -> None:
    """What is too large to stand in a record is told all the same."""
    await call(bench, row(bench))
    await end(bench, "c", Ended("succeeded", json.dumps("x" * LARGEST_INLINE)))

    assert len((await signals(bench))["/call", 1]["result"]) == LARGEST_INLINE


async def test_an_end_that_nobody_waits_for_is_dropped(bench: Bench) -> None:
    """A21: the parent has ended or was removed; the wait was given up; the step never waited."""
    rows = [row(bench, "rang", "/rang"), row(bench, "late", "/late"), row(bench, "later", "/later")]
    claim = await call(bench, *rows, then=None)
    await bench.journal.submit(row(bench, "stray", "/nowhere"))
    await bench.journal.write(claim, 0, [Record("/rang", 1, "rang", "{}")])
    await end(bench, "rang")
    await end(bench, "stray")
    assert await signals(bench) == {}
    await bench.journal.write(claim, 0, (), DONE)
    await end(bench, "late")
    assert await signals(bench) == {}
    await bench.sleep(0.1)
    await bench.journal.purge(bench.journal.now())
    await refused(bench.journal.status("p"), "unknown_run")
    await end(bench, "later")

    assert (await standing(bench, "later")).state == "succeeded"


async def test_nobody_else_answers_for_a_child(bench: Bench) -> None:
    """A step that waits for a run takes no answer from a person."""
    await call(bench, row(bench))
    with pytest.raises(JournalRefused, match="waits for the end of run 'c'") as caught:
        await bench.journal.signal("p", "/call", '{"run":"c","state":"succeeded","result":{}}')
    assert caught.value.problem.code == "not_waiting"
    await end(bench, "c")

    assert (await signals(bench))["/call", 1]["state"] == "succeeded"


async def test_no_end_is_slept_through(bench: Bench) -> None:
    """A10, A21: of 200 races between a parent that goes to rest and the end of its child, none ends with a sleeper."""
    other = await bench.another()
    for number in range(200):
        parent, child = f"p{number}", f"c{number}"
        claim = await bench.accept(parent)
        await bench.journal.write(
            claim, 0, [waits(child)], children=[row(bench, child, parent=Parent(parent, "/call"))]
        )
        theirs = await other.claim(child)
        asked: list[Awaitable[None]] = [
            bench.journal.write(claim, 0, (), Rest("waiting", wake_at=2e9)),
            other.write(theirs, 0, (), DONE),
        ]
        rested, ended = await asyncio.gather(*(asked if number % 2 else asked[::-1]), return_exceptions=True)
        rested, ended = (rested, ended) if number % 2 else (ended, rested)
        status = await standing(bench, parent)
        assert (ended, status.news) == (None, 1)
        assert status.state == ("ready" if rested is None else "running")
        assert rested is None or isinstance(rested, JournalBehind)


async def test_a_deadline_and_the_end_race(bench: Bench) -> None:
    """A10: a parent that is woken by its deadline while its child ends is ready once, and has the answer."""
    other = await bench.another()
    for number in range(50):
        parent, child = f"p{number}", f"c{number}"
        claim = await bench.accept(parent)
        rest = Rest("waiting", wake_at=bench.journal.now() - 1)
        await bench.journal.write(
            claim, 0, [waits(child)], rest, children=[row(bench, child, parent=Parent(parent, "/call"))]
        )
        theirs = await other.claim(child)
        woken, _ = await asyncio.gather(bench.journal.wake(1, only=parent), other.write(theirs, 0, (), DONE))
        assert woken in ([], [parent])
        status = await standing(bench, parent)
        assert (status.state, status.news) == ("ready", 1)


# ---- cancelled
async def family(bench: Bench) -> None:
    """`p` waits for `c`, which waits for `g`; a second child of `p` has ended."""
    await call(bench, row(bench), row(bench, "ended", "/b"))
    await end(bench, "ended")
    grandchild = row(bench, "g", parent=Parent("c", "/call"))
    await bench.journal.write(await bench.journal.claim("c"), 0, [waits("g")], ASLEEP, children=[grandchild])


async def test_a_cancel_reaches_all_that_are_open(bench: Bench) -> None:
    """A21: children and theirs have the cancel on record and become ready; what has ended, and strangers, do not."""
    await family(bench)
    await bench.accept("stranger")
    assert await bench.journal.cancel("p") == 1

    assert [(await standing(bench, run_id)).state for run_id in "cg"] == ["ready", "ready"]
    kinds = {run_id: [r.kind for r in (await bench.journal.load(run_id)).records] for run_id in ("c", "g", "ended")}
    assert kinds == {"c": ["waits", "cancel"], "g": ["cancel"], "ended": []}
    assert (await standing(bench, "stranger")).news == 0


async def test_a_second_cancel_reaches_them_too(bench: Bench) -> None:
    """A18: they are cancelled as often as their parent, and no more: their own cancel counts."""
    await family(bench)
    await bench.journal.cancel("g")
    await bench.journal.cancel("p")
    assert [(await standing(bench, run_id)).news for run_id in "cg"] == [1, 1]
    assert [await bench.journal.cancel("p") for _ in range(2)] == [2, 2]

    assert [(await standing(bench, run_id)).news for run_id in "cg"] == [2, 2]


async def test_a_child_of_a_run_that_is_cancelled_twice(bench: Bench) -> None:
    """One that `finally` began after the first cancel is ended by the second as its parent is."""
    claim = await bench.accept("p")
    await bench.journal.cancel("p")
    await bench.journal.write(claim, 1, [waits("c")], ASLEEP, children=[row(bench)])
    await bench.journal.cancel("p")

    assert (await standing(bench, "c")).news == 2


async def test_nobody_is_left_behind(bench: Bench) -> None:
    """A21: what a parent that ends has left open is cancelled with its end, for nobody waits for it."""
    await family(bench)
    status = await standing(bench)
    claim = await bench.journal.claim("p")
    await bench.journal.write(claim, status.news, (), Ended("failed", "{}"))

    assert [(await standing(bench, run_id)).news for run_id in "cg"] == [1, 1]


# ---- before a gate
async def test_a_child_that_begins_with_the_end_of_its_parent_is_cancelled(bench: Bench) -> None:
    """A run that ends in the very write that begins a child leaves nobody behind; what its gate keeps out answers nobody."""
    gate = Gate("k", 1, "skip")
    children = [row(bench), row(bench, "d", "/other", gate=gate), row(bench, "e", "/third", gate=gate)]
    await call(bench, *children, then=DONE)

    assert [(await standing(bench, each)).news for each in ("c", "d")] == [1, 1]
    await refused(bench.journal.status("e"), "unknown_run")
    assert (await standing(bench)).state == "succeeded"
    assert await signals(bench) == {}


async def test_a_child_of_a_write_that_is_kept_already_needs_all_news(bench: Bench) -> None:
    """A21: records that are there already do not let a child in after a cancel that was not read, nor after the end."""
    claim = await call(bench, row(bench), then=None)
    known = [waits("c")]
    await bench.journal.cancel("p")
    with pytest.raises(JournalBehind):
        await bench.journal.write(claim, 0, known, children=[row(bench), row(bench, "d", "/d")])
    await bench.journal.write(claim, 1, (), DONE)
    with pytest.raises(JournalRefused):
        await bench.journal.write(claim, 1, (), DONE, children=[row(bench, "d", "/d")])

    await refused(bench.journal.status("d"), "unknown_run")


async def test_a_gate_answers_for_the_child_that_it_keeps_out(bench: Bench) -> None:
    """B7: with `skip` the step has its signal at once, with who is in the way; there is no such run."""
    gate = Gate("k", 1, "skip")
    await bench.journal.submit(bench.row("busy", gate=gate))
    claim = await call(bench, row(bench, gate=gate), row(bench, "d", "/d"))

    told = (await signals(bench))["/call", 1]
    assert (told["run"], told["state"], told["result"]["code"]) == ("c", "skipped", "at_the_limit")
    assert "busy" in told["result"]["remedy"]
    assert ((await standing(bench)).state, (await standing(bench)).news) == ("ready", 1)
    await refused(bench.journal.status("c"), "unknown_run")
    assert (await standing(bench, "d")).state == "ready"
    again = await bench.journal.claim("p")
    await end(bench, "busy")
    await bench.journal.write(again, 1, [waits("c")], children=[row(bench, gate=gate)])
    await refused(bench.journal.status("c"), "unknown_run")  # it is answered
    assert again.epoch == claim.epoch + 1


async def test_a_child_waits_before_its_gate(bench: Bench) -> None:
    """It begins when the one before it ends; cancelled meanwhile, it is somebody's to end."""
    gate = Gate("k", 1, "queue")
    await bench.journal.submit(bench.row("busy", gate=gate))
    await call(bench, row(bench, gate=gate), row(bench, "d", "/d", gate=gate))
    assert (await standing(bench, "c")).queued
    await end(bench, "busy")
    assert ((await standing(bench, "c")).state, (await standing(bench, "d")).queued) == ("ready", True)
    await bench.journal.cancel("p")
    assert (await standing(bench, "d")).state == "ready"
    await end(bench, "c", Ended("cancelled", "{}"))
    await end(bench, "d", Ended("cancelled", "{}"))

    assert {at: told["state"] for at, told in (await signals(bench)).items()} == {
        ("/call", 1): "cancelled",
        ("/d", 1): "cancelled",
    }


async def test_a_child_that_was_removed_does_not_begin_again(bench: Bench) -> None:
    """A11: its id is spent as that of any run that a trigger started."""
    claim = await call(bench, row(bench), then=None)
    await end(bench)
    await bench.sleep(0.1)
    await bench.journal.purge(bench.journal.now())
    await bench.journal.write(claim, 1, [waits("c")], children=[row(bench)])  # answered: left alone

    await refused(bench.journal.submit(row(bench)), "known_run")
