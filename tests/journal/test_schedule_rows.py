"""Schedules as every journal keeps them: who decides does so alone, by the journal's clock, all or nothing (rule A23)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from servers.journals import Bench, begun, waits
from servers.postgres import Postgres

from weft.errors import JournalRefused, NotFound
from weft.journal.base import (
    Claim,
    Ended,
    Gate,
    Journal,
    Occurrence,
    OccurrenceQuery,
    Parent,
    RunQuery,
    RunRow,
    Schedule,
    ScheduleMove,
    ScheduleView,
)
from weft.journal.postgres import PostgresJournal
from weft.journal.postgres_needs import locking

DONE = Ended("succeeded", "{}")


def a_schedule(bench: Bench, id_: str = "s", **facts: Any) -> Schedule:
    given: dict[str, Any] = {
        "workflow": "w",
        "source": "/here",
        "spec": "{}",
        "document": bench.document,
        "watermark": 10.0,
    }
    return Schedule(id_, **(given | facts))


def fired(run: RunRow | None = None, key: str = "2026-11-23T09:00+01:00", schedule: str = "s") -> Occurrence:
    return Occurrence(schedule, key, 20.0, "fired", 21.0, run_id=None if run is None else run.id)


async def put(bench: Bench, *schedules: Schedule, occurrences: Sequence[Occurrence] = ()) -> None:
    for each in schedules:
        mine = [occurrence for occurrence in occurrences if occurrence.schedule == each.id]
        await bench.journal.schedule(each.id, lambda _, each=each, mine=mine: ScheduleMove(each, mine))  # type: ignore[misc]


async def seen(journal: Journal, id_: str = "s", keys: Sequence[str] = ()) -> ScheduleView:
    views: list[ScheduleView] = []
    assert await journal.schedule(id_, views.append, keys) is None
    return views[-1]


async def refused(asked: Awaitable[Any]) -> str:
    with pytest.raises((JournalRefused, NotFound)) as caught:
        await asked
    return caught.value.problem.code


async def test_a_schedule_is_kept_byte_for_byte(bench: Bench) -> None:
    """What was decided is what the next one finds, in whatever process; nobody is told of one that is not there."""
    whole = a_schedule(bench, spec='{"b":1,"a":[1e400]}', watermark=1_763_912_345.678901, next_at=12.5, fire_at=13.25)
    assert (await seen(bench.journal)).schedule is None
    done = await bench.journal.schedule("s", lambda _: ScheduleMove(whole))
    assert done == ScheduleMove(whole)

    other = await bench.another()
    assert (await seen(other)).schedule == whole
    changed = replace(whole, source="ü", next_at=None, fire_at=None, paused=True, retired=True)
    await other.schedule("s", lambda _: ScheduleMove(changed))
    assert await bench.journal.schedules() == [changed]


async def test_schedules_are_listed_by_workflow_and_id(bench: Bench) -> None:
    """All of them, the retired ones too."""
    await put(
        bench,
        a_schedule(bench, "b", workflow="x"),
        a_schedule(bench, "c", retired=True),
        a_schedule(bench, "a", workflow="x"),
    )
    assert [each.id for each in await bench.journal.schedules()] == ["c", "a", "b"]


async def test_what_is_due_is_told_by_the_journal_s_clock(bench: Bench) -> None:
    """The one that is most overdue first; what is paused, retired or has no instant is never due."""
    now = bench.journal.now()
    assert (await bench.journal.due(5), await bench.journal.next_due()) == ([], None)
    await put(
        bench,
        a_schedule(bench, "late", fire_at=now - 20.0),
        a_schedule(bench, "later", fire_at=now - 30.0),
        a_schedule(bench, "paused", fire_at=now - 50.0, paused=True),
        a_schedule(bench, "retired", fire_at=now - 50.0, retired=True),
        a_schedule(bench, "never"),
        a_schedule(bench, "soon", fire_at=now + 0.3),
    )
    assert await bench.journal.due(5) == ["later", "late"]
    assert (await bench.journal.due(1), await bench.journal.next_due()) == (["later"], now - 30.0)
    await put(bench, a_schedule(bench, "later"), a_schedule(bench, "late", retired=True))
    assert (await bench.journal.due(5), await bench.journal.next_due()) == ([], now + 0.3)
    await bench.sleep(0.35)
    assert await bench.journal.due(5) == ["soon"]


async def test_a_decision_is_kept_whole(bench: Bench) -> None:
    """Watermark, rows, new runs and cancels are one: the runs are ready and say what has started them."""
    await bench.journal.submit(bench.row("before", schedule="s"))
    run = bench.row("r1", schedule="s", scheduled_at=20.0)
    skipped = Occurrence("s", "k2", 25.0, "skipped", 26.0, '{"blocker":"before"}')
    missed = Occurrence("s", "k3", 30.0, "missed", 31.0, count=1_234)
    moved = a_schedule(bench, watermark=30.0)
    await bench.journal.schedule(
        "s", lambda _: ScheduleMove(moved, [fired(run), skipped, missed], [run], ["before", "nobody"])
    )

    assert sorted(await bench.journal.ready(10)) == ["before", "r1"]
    assert [record.kind for record in (await bench.journal.load("before")).records] == ["cancel"]
    assert (await bench.journal.status("r1")).row == run
    assert [each.row.id for each in await bench.journal.runs(RunQuery(schedule="s"))] == ["r1", "before"]
    assert await bench.journal.runs(RunQuery(schedule="other")) == []
    assert await bench.journal.occurrences(OccurrenceQuery()) == [missed, skipped, fired(run)]
    view = await seen(await bench.another(), keys=["k2", "k9"])
    assert (view.schedule, view.known) == (moved, frozenset({"k2"}))


@pytest.mark.parametrize("fault", ["known_occurrence", "known_run", "at_the_limit", "unknown_document"])
async def test_a_decision_that_cannot_be_kept_changes_nothing(bench: Bench, fault: str) -> None:
    """A23: a second row for an instant, a known run or a closed gate refuses all of it: no row, no run, no cancel."""
    gate = Gate("k", 1, "skip")
    await bench.journal.submit(bench.row("known", gate=gate))
    await put(bench, a_schedule(bench), occurrences=[fired()])
    run = bench.row("known" if fault == "known_run" else "r2", schedule="s")
    if fault == "at_the_limit":
        run = replace(run, gate=gate)
    if fault == "unknown_document":
        run = replace(run, document="0" * 64)
    second = fired(run) if fault == "known_occurrence" else fired(run, "another key")
    move = ScheduleMove(
        a_schedule(bench, watermark=99.0), [fired(run, "fine"), second], [bench.row("r1"), run], ["known"]
    )
    assert await refused(bench.journal.schedule("s", lambda _: move)) == fault

    assert (await seen(bench.journal)).schedule == a_schedule(bench)
    assert await bench.journal.occurrences(OccurrenceQuery()) == [fired()]
    assert (await bench.journal.status("known")).status.news == 0
    assert [run.row.id for run in await bench.journal.runs(RunQuery())] == ["known"]


async def test_a_fault_of_the_thought_changes_nothing(bench: Bench) -> None:
    """What is raised comes to the caller as it is, and others can decide."""

    def broken(view: ScheduleView) -> ScheduleMove:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await bench.journal.schedule("s", broken)
    assert (await seen(await bench.another())).schedule is None


async def test_whoever_decides_sees_what_goes_on(bench: Bench) -> None:
    """B7: the schedule's own runs that have not ended, the oldest first, also while they wait before a gate."""
    gate = Gate("k", 1, "queue")
    for number, id_ in enumerate(["c", "b", "a"]):
        await bench.journal.submit(bench.row(id_, schedule="s", gate=gate, started_at=float(number)))
    await bench.journal.submit(bench.row("theirs", schedule="t"))
    await bench.journal.submit(bench.row("nobody's"))
    before = bench.journal.now()
    view = await seen(bench.journal)

    assert [(each.row.id, each.status.queued) for each in view.open] == [("c", False), ("b", True), ("a", True)]
    assert before - 0.2 <= view.now <= bench.journal.now() + 0.2
    await bench.journal.write(await bench.journal.claim("c"), 0, (), DONE)
    assert [each.row.id for each in (await seen(bench.journal)).open] == ["b", "a"]


async def test_a_run_that_its_gate_lets_wait_counts_as_started(bench: Bench) -> None:
    """It is submitted like any other: before its gate, in its order, with one place for each."""
    gate = Gate("k", 1, "cancel")
    runs = [bench.row(id_, schedule="s", gate=gate) for id_ in ("a", "b")]
    await bench.journal.schedule("s", lambda _: ScheduleMove(a_schedule(bench), [fired(runs[1])], runs))
    first, second = [(await bench.journal.status(id_)).status for id_ in ("a", "b")]
    assert (first.state, first.news, second.state, second.queued) == ("ready", 1, "waiting", True)


async def test_cancels_reach_the_children_too(bench: Bench) -> None:
    """To make room the schedule cancels a run as anybody would."""
    claim = await bench.accept("r1", schedule="s")
    await bench.journal.write(claim, 0, [begun(), waits("/call")], children=[child(bench, "c1"), child(bench, "c2")])
    await bench.journal.schedule("s", lambda _: ScheduleMove(a_schedule(bench), cancels=["r1"]))
    assert [(await bench.journal.status(id_)).status.news for id_ in ("r1", "c1", "c2")] == [1, 1, 1]


def child(bench: Bench, id_: str) -> RunRow:
    return bench.row(id_, parent=Parent("r1", "/call"))


async def test_each_instant_is_decided_on_once(bench: Bench) -> None:
    """A23: 40 decide at the same time, from three processes, about a schedule that is new: each sees the one before."""
    journals = [bench.journal, await bench.another(), await bench.another()]

    def next_one(view: ScheduleView) -> ScheduleMove:
        schedule = view.schedule or a_schedule(bench, watermark=0.0)
        run = bench.row(f"r{schedule.watermark:02.0f}", schedule="s")
        moved = replace(schedule, watermark=schedule.watermark + 1)
        return ScheduleMove(moved, [fired(run, run.id)], [run])

    await asyncio.gather(*(journals[number % 3].schedule("s", next_one) for number in range(40)))
    assert (await seen(bench.journal)).schedule == a_schedule(bench, watermark=40.0)
    assert len(await bench.journal.occurrences(OccurrenceQuery(limit=100))) == 40
    assert sorted(await bench.journal.ready(100)) == [f"r{number:02}" for number in range(40)]


async def test_occurrences_are_listed_the_youngest_first(bench: Bench) -> None:
    """By schedule, by workflow, by fate, by time, so many of them."""
    rows = [
        Occurrence("s", "a", 1.0, "fired", 9.0, run_id="r"),
        Occurrence("t", "a", 2.0, "missed", 9.0, count=3),
        Occurrence("s", "b", 3.0, "skipped", 9.0, '{"why":"ü"}'),
        Occurrence("t", "b", 3.0, "fired", 9.0),
    ]
    await put(bench, a_schedule(bench, "s"), a_schedule(bench, "t", workflow="x"), occurrences=rows)

    async def listed(**query: Any) -> list[str]:
        found = await bench.journal.occurrences(OccurrenceQuery(**query))
        return [f"{each.schedule}{each.key}" for each in found]

    assert await bench.journal.occurrences(OccurrenceQuery()) == rows[::-1]
    assert await listed(schedule="s") == ["sb", "sa"]
    assert await listed(workflow="x") == ["tb", "ta"]
    assert await listed(fates=("missed", "skipped")) == ["sb", "ta"]
    assert await listed(since=2.0, until=3.0) == ["ta"]
    assert await listed(limit=2) == ["tb", "sb"]


async def test_what_a_schedule_needs_is_not_removed(bench: Bench) -> None:
    """A11: the document of a schedule stays though no run has it; so do the ids of its runs, and its watermark."""
    document = await bench.journal.keep_document("of the schedule")
    await put(bench, a_schedule(bench, document=document))
    claim: Claim = await bench.accept("r1", document=document, schedule="s", trigger='"s"')
    await bench.journal.write(claim, 0, (), DONE)
    await bench.sleep(0.01)
    purged = await bench.journal.purge(bench.journal.now())
    assert (purged.runs, purged.documents) == (1, 0)
    assert await bench.journal.document(document) == "of the schedule"
    assert await refused(bench.journal.submit(bench.row("r1", document=document))) == "known_run"


async def test_rows_of_occurrences_go_when_they_guard_nothing(bench: Bench) -> None:
    """Old ones below the watermark whose runs have gone; what lies ahead of it, or still has a run, stays."""
    await bench.accept("r1")
    rows = [
        Occurrence("s", "gone", 1.0, "fired", 5.0, run_id="r0"),
        Occurrence("s", "young", 1.0, "fired", bench.journal.now() + 60, run_id="r0"),
        Occurrence("s", "ahead", 11.0, "skipped", 5.0),
        Occurrence("s", "kept", 1.0, "fired", 5.0, run_id="r1"),
    ]
    await put(bench, a_schedule(bench), occurrences=rows)
    await bench.journal.purge(bench.journal.now())
    assert {each.key for each in await bench.journal.occurrences(OccurrenceQuery())} == {"young", "ahead", "kept"}


# ---- several machines
async def test_wrong_clocks_and_several_processes_fire_each_instant_once_at_its_time(
    postgres_server: Postgres,
) -> None:
    """A23: four processes, clocks ten minutes ahead and behind: each instant once, none before its time."""
    address = postgres_server.database()
    journal = PostgresJournal(address)
    await journal.open()
    document = await journal.keep_document("what runs follow")
    start = journal.now() + 1.0
    first = Schedule("s", "w", "/here", "{}", document, start - 1, next_at=start, fire_at=start)
    await journal.schedule("s", lambda _: ScheduleMove(first))
    program = str(Path(__file__).with_name("schedule_child.py"))
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, program, address, skew, str(start + 0.9), stdout=asyncio.subprocess.PIPE
        )
        for skew in ("600", "-600", "0", "0")
    ]
    told = [(await each.communicate())[0].split() for each in processes]
    occurrences = await journal.occurrences(OccurrenceQuery(limit=1000))
    runs = await journal.runs(RunQuery(schedule="s", limit=1000))
    await journal.close()

    assert sum(int(fired_) for fired_, _ in told) == len(occurrences) == len(runs) >= 19
    assert [int(refused_) for _, refused_ in told] == [0, 0, 0, 0]
    steps = [round((each.at - start) / 0.05, 3) for each in reversed(occurrences)]
    assert steps == list(range(len(steps)))
    assert all(0 <= each.decided_at - each.at < 5 for each in occurrences)


async def test_who_waits_for_a_schedule_sees_what_the_one_before_has_left(postgres_server: Postgres) -> None:
    """A25: also on a site whose default is `repeatable read`, and also when there was no row to lock: one thought."""
    address = postgres_server.database()
    journal = PostgresJournal(address)
    await journal.open()
    document = await journal.keep_document("what runs follow")
    thoughts: list[Schedule | None] = []
    with psycopg.connect(address) as foreign:
        assert foreign.execute("SHOW default_transaction_isolation").fetchone() == ("repeatable read",)
        lock, values = locking("schedule", ["s"], waits=True)
        foreign.execute(lock.encode(), values)
        deciding = asyncio.create_task(journal.schedule("s", lambda view: thoughts.append(view.schedule)))
        await waited(address)
        before = Schedule("s", "w", "", "{}", document, 7.0)
        foreign.execute(
            "INSERT INTO weft.schedules VALUES ('s', 'w', '', '{}', %s, 7.0, NULL, NULL, false, false)", (document,)
        )
        foreign.commit()
    await deciding
    await journal.close()
    assert thoughts == [before]


async def waited(address: str) -> None:
    """Return when somebody waits for a lock."""
    with psycopg.connect(address, autocommit=True) as connection:
        while connection.execute("SELECT true FROM pg_locks WHERE NOT granted").fetchone() is None:
            await asyncio.sleep(0.02)
