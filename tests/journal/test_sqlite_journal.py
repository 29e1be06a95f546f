"""What the journal in a file promises beyond what all journals do."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from weft.errors import JournalRefused, JournalUnavailable
from weft.journal import reader, sqlite_file
from weft.journal.base import (
    Claim,
    Ended,
    Gate,
    Journal,
    Meter,
    Occurrence,
    OccurrenceQuery,
    Parent,
    Record,
    Rest,
    RunQuery,
    RunRow,
    Schedule,
    ScheduleMove,
    Settled,
)
from weft.journal.checking import check_file
from weft.journal.life import Life
from weft.journal.restoring import restore
from weft.journal.sqlite import SqliteJournal
from weft.journal.sqlite_file import _unusable, is_busy, kind_in, open_file, refuse_new_beside_live
from weft.journal.sqlite_mark import Mark
from weft.journal.sqlite_schema import MIGRATIONS

DOCUMENT = hashlib.sha256(b"text").hexdigest()


def row(run_id: str = "r1", **facts: Any) -> RunRow:
    given: dict[str, Any] = {"workflow": "w", "inputs": "{}", "trigger": "null", "started_at": 12.5} | facts
    return RunRow(run_id, document=DOCUMENT, **given)


def schedule(id_: str = "s", fire_at: float | None = 1.0, **facts: Any) -> Schedule:
    return Schedule(id_, "w", "here", "{}", DOCUMENT, 0.0, fire_at, fire_at, **facts)


async def decide(journal: Journal, of: Schedule, *decided: Occurrence, runs: Sequence[RunRow] = ()) -> None:
    await journal.schedule(of.id, lambda view: ScheduleMove(of, decided, runs))


def begun(path: str = "/a", payload: str = "{}") -> Record:
    return Record(path, 1, "begun", payload)


@asynccontextmanager
async def opened(file: Path) -> AsyncIterator[SqliteJournal]:
    """A journal with a document that runs can follow."""
    journal = SqliteJournal(file)
    await journal.open()
    try:
        await journal.writer.do(
            lambda connection: connection.execute(
                "INSERT INTO documents VALUES (?, 'text') ON CONFLICT DO NOTHING", (DOCUMENT,)
            ).close()
        )
        yield journal
    finally:
        await journal.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "home" / "journal.db"


@pytest.fixture
async def journal(file: Path) -> AsyncIterator[SqliteJournal]:
    async with opened(file) as kept:
        yield kept


def started(body: str, file: Path, *arguments: str) -> subprocess.Popen[str]:
    """Another process that runs `body` with an open `journal` and `row` at hand."""
    script = """
import asyncio, sys
from dataclasses import replace
from pathlib import Path
from weft.journal.base import *
from weft.journal.sqlite import SqliteJournal

async def main():
    journal = SqliteJournal(Path(sys.argv[1]))
    await journal.open()
    document = await journal.keep_document("text")
    row = lambda run_id: RunRow(run_id, "w", document, "{}", "null", 1.0)
BODY
    await journal.close()

asyncio.run(main())
"""
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            script.replace("BODY", textwrap.indent(textwrap.dedent(body), "    ")),
            file,
            *arguments,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# ---- several processes
async def test_another_process_reads_what_was_acknowledged_after_a_kill(file: Path) -> None:
    """Whatever was acknowledged before a SIGKILL is there, and the run is found and taken over at once."""
    child = started(
        """
        claim = await journal.accept(row("r1"))
        for n in range(1, 1_000_000):
            await journal.write(claim, 0, [Record("/a", n, "begun", "{}")])
            print(n, flush=True)
        """,
        file,
    )
    assert child.stdout is not None
    told = [child.stdout.readline() for _ in range(25)]
    child.kill()
    rest, _ = child.communicate()
    acknowledged = int([line for line in [*told, *rest.splitlines()] if line.strip()][-1])

    async with opened(file) as journal:
        (found,) = await journal.abandoned()
        assert await journal.release("r1", ends=found.status.epoch) == "ready"
        await journal.claim("r1")
        assert acknowledged <= len((await journal.load("r1")).records) <= acknowledged + 1
        assert len(list((file.parent / "alive").iterdir())) == 1  # what the dead one left is gone


async def test_a_kill_between_child_and_parent_leaves_no_half(file: Path) -> None:
    """A21: a wait and its child, an end, its answer and the next through the gate are there together, or not at all."""
    child = started(
        """
        for n in range(1, 1_000_000):
            await journal.submit(replace(row(f"q{n}"), gate=Gate("k", 1, "queue")))
            claim = await journal.accept(row(f"p{n}"))
            called = replace(row(f"c{n}"), parent=Parent(f"p{n}", "/call"), gate=Gate("k", 1, "queue"))
            records = [Record("/call", 1, "waits", '{"deadline":null}')]
            await journal.write(claim, 0, records, Rest("waiting"), children=[called])
            for run_id in (f"q{n}", f"c{n}"):
                await journal.write(await journal.claim(run_id), 0, (), Ended("succeeded", "{}"))
            print(n, flush=True)
        """,
        file,
    )
    assert child.stdout is not None
    for _ in range(20):
        child.stdout.readline()
    child.kill()
    child.communicate()

    assert check_file(file).sound
    async with opened(file) as journal:
        for parent in [run.row.id for run in await journal.runs(RunQuery(limit=10_000)) if run.row.id[0] == "p"]:
            kinds = [record.kind for record in (await journal.load(parent)).records]
            children = [run.status.state for run in await journal.runs(RunQuery(parent=parent))]
            is_over = children == ["succeeded"]
            assert len(children) == ("waits" in kinds)
            assert is_over == ("signal" in kinds)
            assert ((await journal.status(parent)).status.state == "ready") == is_over


async def test_a_stopped_process_is_alive(journal: SqliteJournal, file: Path) -> None:
    """A13: a process that the system holds keeps its runs; its death alone frees them."""
    child = started(
        """
        await journal.accept(row("r1"))
        print("ready", flush=True)
        await asyncio.sleep(60)
        """,
        file,
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        os.kill(child.pid, signal.SIGSTOP)
        await asyncio.sleep(0.2)
        assert await journal.abandoned() == []
    finally:
        child.kill()
        child.communicate()
    assert [run.row.id for run in await journal.abandoned()] == ["r1"]


async def test_two_processes_use_one_file(file: Path) -> None:
    """Two that open a new file at the same time both work, and each sees the other's runs."""
    body = """
        for number in range(50):
            await journal.accept(row(f"{sys.argv[2]}{number}"))
    """
    children = [started(body, file, name) for name in ("a", "b")]
    assert [child.communicate()[1] for child in children] == ["", ""]

    async with opened(file) as journal:
        assert len(await journal.runs(RunQuery(limit=1000))) == 100


async def test_a_deleted_lock_ends_what_was_claimed_under_it(journal: SqliteJournal, file: Path) -> None:
    """A13: where others take this process for dead no effect begins under an old claim, and the runs are found."""
    claim = await journal.accept(row())
    await journal.confirm(claim)
    name = journal.name
    (file.parent / "alive" / f"{name}.alive").unlink()
    with pytest.raises(JournalRefused) as caught:
        await journal.confirm(claim)
    assert caught.value.problem.code == "another_owner"
    assert journal.name != name

    async with opened(file) as other:
        assert [run.row.id for run in await other.abandoned()] == ["r1"]
    assert [run.row.id for run in await journal.abandoned()] == ["r1"]
    await journal.release("r1", ends=1)
    await journal.confirm(await journal.claim("r1"))
    with pytest.raises(JournalRefused):
        await journal.confirm(claim)


async def test_a_beat_finds_out_that_the_lock_is_gone(journal: SqliteJournal, file: Path) -> None:
    """A13: also a process that begins no effect becomes visible again."""
    shutil.rmtree(file.parent / "alive")
    await journal.beat()
    await journal.accept(row())

    async with opened(file) as other:
        assert await other.abandoned() == []


# ---- one thread writes, others read
async def test_what_waits_shares_one_commit(journal: SqliteJournal) -> None:
    """A hundred writers at once need a few transactions, one writer one for each write."""
    claims = await asyncio.gather(*(journal.accept(row(f"r{number}")) for number in range(100)))
    before = journal.writer.commits
    await asyncio.gather(*(journal.write(claim, 0, [begun()]) for claim in claims))
    together = journal.writer.commits - before
    for n in range(2, 12):
        await journal.write(claims[0], 0, [Record("/a", n, "begun", "{}")])
    alone = journal.writer.commits - before - together

    assert together <= 10
    assert alone == 10


async def test_a_file_that_another_program_holds_is_waited_for(journal: SqliteJournal, file: Path) -> None:
    """A15: while another program holds the lock writes wait, it is seen, reads go on, and the writes go through."""
    claim = await journal.accept(row())
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        writing = asyncio.create_task(journal.write(claim, 0, [begun()]))
        while journal.writer.held_since is None:
            await asyncio.sleep(0.01)
        async with asyncio.timeout(2):
            assert (await journal.load("r1")).records == ()
            assert len(await journal.runs(RunQuery())) == 1
            assert await journal.wake(10) == []
            await journal.confirm(claim)
        await asyncio.sleep(2.5 * sqlite_file.BUSY_MS / 1000)
        assert not writing.done()
    finally:
        other.execute("COMMIT")
        other.close()
    await writing

    assert journal.writer.held_since is None
    assert len((await journal.load("r1")).records) == 1


async def test_a_full_disk_refuses_and_the_journal_goes_on_when_there_is_room(journal: SqliteJournal) -> None:
    """A15: what could not be written is answered with an error and is not there; later writes go through."""
    claim = await journal.accept(row())

    def shrink(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 1}")

    await journal.writer.do(shrink)
    with pytest.raises(JournalUnavailable, match="SQLITE_FULL") as caught:
        await journal.write(claim, 0, [begun(payload="x" * 100_000)])
    assert caught.value.problem.remedy == "Make room on the disk."
    assert (await journal.load("r1")).records == ()
    await journal.write(claim, 0, [begun(payload="x" * 100_000)])

    assert [len(record.payload) for record in (await journal.load("r1")).records] == [100_000]


async def test_a_writer_that_gave_up_waiting_stops_nobody(journal: SqliteJournal) -> None:
    """A cancelled caller's write may count; the ones after it are answered as ever."""
    claim = await journal.accept(row())
    gone = asyncio.create_task(journal.write(claim, 0, [begun()]))
    await asyncio.sleep(0)
    gone.cancel()
    await journal.write(claim, 0, (), Ended("succeeded", "{}"))

    assert (await journal.status("r1")).status.state == "succeeded"


async def test_a_claim_that_nobody_waited_for_is_not_lost(journal: SqliteJournal) -> None:
    """Who gave up waiting for a claim gets it with the next try; else the run had an owner that knows nothing of it."""
    await journal.submit(row())
    gone = asyncio.create_task(journal.claim("r1"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)

    await journal.write(await journal.claim("r1"), 0, (), Ended("succeeded", "{}"))


async def test_closing_writes_what_waits(file: Path) -> None:
    """What was asked for before the close is done, and answered."""
    async with opened(file) as journal:
        asked = [asyncio.create_task(journal.accept(row(f"r{number}"))) for number in range(5)]
        await asyncio.sleep(0)
    assert [(await each).epoch for each in asked] == [1] * 5
    with pytest.raises(JournalUnavailable, match="closed"):
        await journal.load("r1")


async def test_a_refusal_leaves_no_trace_in_the_batch(journal: SqliteJournal) -> None:
    """One piece of work that refuses neither writes nor keeps the others of its transaction from writing."""
    claim = await journal.accept(row())
    first, second, third = await asyncio.gather(
        journal.write(claim, 0, [begun(payload="1")]),
        journal.write(claim, 0, [begun("/b"), begun(payload="2")]),
        journal.write(claim, 0, [begun("/c")]),
        return_exceptions=True,
    )

    assert (first, type(second), third) == (None, JournalRefused, None)
    assert [record.path for record in (await journal.load("r1")).records] == ["/a", "/c"]


async def test_a_payload_that_cannot_be_kept_fails_alone(journal: SqliteJournal) -> None:
    """§2.3, pitfall 11: who brings it is told of that very fault; the others of its transaction are kept."""
    claims = [await journal.accept(row(f"r{number}")) for number in range(5)]
    answers = await asyncio.gather(
        *(journal.write(claim, 0, [begun(payload="\ud800" if claim.run_id == "r2" else "1")]) for claim in claims),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers] == [type(None)] * 2 + [UnicodeEncodeError] + [type(None)] * 2
    assert [(await journal.status(claim.run_id)).status.size for claim in claims] == [1, 1, 0, 1, 1]


async def test_a_read_that_fails_is_told_and_the_next_one_goes_on(journal: SqliteJournal) -> None:
    """A15: a fault of the file is answered as unavailable; the file is opened again for the next question."""
    await journal.submit(row())
    for table in ("nowhere", "nowhere"):
        with pytest.raises(JournalUnavailable, match="could not be read"):
            await journal._ask(lambda connection, table=table: connection.execute(f"SELECT * FROM {table}"))
    assert await journal.ready(1) == ["r1"]


async def test_an_idle_process_writes_nothing(journal: SqliteJournal, file: Path) -> None:
    """Looking for work, beating, repeating what is known: none of it is a transaction."""
    claim = await journal.accept(row(), begun())
    await journal.write(await journal.accept(row("r2")), 0, (), Rest("waiting", wake_at=2e12))
    await journal.keep_document("text")
    before = file.with_name("journal.db-wal").read_bytes(), journal.writer.commits
    for _ in range(3):
        await journal.beat()
        await journal.confirm(claim)
        for looking in (
            journal.ready(9),
            journal.wake(9),
            journal.next_wake(),
            journal.abandoned(),
            journal.attention(),
        ):
            await looking
        await journal.write(claim, 0, [begun()])
        await journal.keep_document("text")
        await journal.purge(0.0)
        with pytest.raises(JournalRefused):
            await journal.release("r1", ends=7)

    assert (file.with_name("journal.db-wal").read_bytes(), journal.writer.commits) == before


# ---- answers that are lost
@pytest.fixture
def lose_answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make the next transaction look failed although it is on disk."""
    real = Mark.advance

    def once(mark: Mark, lineage: str, commits: int) -> None:
        monkeypatch.setattr(Mark, "advance", real)
        raise sqlite3.OperationalError("disk I/O error")

    return lambda: monkeypatch.setattr(Mark, "advance", once)


async def test_every_call_may_be_made_again(journal: SqliteJournal, lose_answers: Callable[[], None]) -> None:
    """A8: after a commit whose answer was lost the same call is answered as if it had been the first."""

    async def twice(call: Callable[[], Awaitable[Any]]) -> Any:
        lose_answers()
        with pytest.raises(JournalUnavailable):
            await call()
        return await call()

    claim = await twice(lambda: journal.accept(row(), Record("/ask", 1, "waits", '{"deadline":null}')))
    assert await twice(lambda: journal.cancel("r1")) == 1
    await twice(lambda: journal.signal("r1", "/ask", "1"))
    await twice(lambda: journal.write(claim, 2, [begun()]))
    await twice(lambda: journal.write(claim, 2, [], Ended("succeeded", "{}")))
    await twice(lambda: journal.submit(row("r2")))
    second = await twice(lambda: journal.claim("r2"))
    await twice(lambda: journal.save_artifact("r2", b"x", name="x", content_type="text/plain"))
    await twice(lambda: journal.write(second, 0, [], Rest("waiting", wake_at=1.0)))
    await twice(lambda: journal.keep_document("other"))

    await twice(lambda: journal.submit(row("g1", gate=Gate("k", 1, "queue"))))
    await twice(lambda: journal.submit(row("g2", gate=Gate("k", 1, "cancel"))))
    assert [run.row.id for run in await journal.runs(RunQuery(states=("waiting",))) if run.status.queued] == ["g2"]
    third = await twice(lambda: journal.claim("g1"))
    child = row("child", parent=Parent("g1", "/call"))
    calls = [Record("/call", 1, "waits", '{"deadline":null}')]
    await twice(lambda: journal.write(third, 1, calls, children=[child]))
    meters = [Meter("m", 2, 2), Meter("slot", 1, 1, live=True)]
    assert await twice(lambda: journal.hold(third, 1, begun(), meters)) is None
    end = await twice(lambda: journal.claim("child"))
    await twice(lambda: journal.write(end, 0, [], Ended("succeeded", "{}")))
    outcome = [Record("/a", 1, "succeeded", "{}")]
    await twice(lambda: journal.write(third, 2, outcome, settled=[Settled("/a", 1, {"m": 1})]))
    await twice(lambda: journal.write(third, 2, [], Ended("cancelled", "{}")))
    assert (await journal.status("g2")).status.state == "ready"
    assert await journal.used(["m", "slot"]) == {"m": 1, "slot": 0}
    assert [record.kind for record in (await journal.load("g1")).records] == [
        "cancel", "waits", "begun", "signal", "succeeded",
    ]  # fmt: skip

    kept = await journal.load("r1")
    assert [(record.path, record.kind) for record in kept.records] == [
        ("/ask", "waits"),
        ("", "cancel"),
        ("/ask", "signal"),
        ("/a", "begun"),
    ]
    assert kept.status.state == "succeeded"
    for asked in (journal.accept(row()), journal.submit(row("r2"))):
        with pytest.raises(JournalRefused, match="known already"):
            await asked


async def test_a_lost_claim_gives_nobody_else_a_right(
    journal: SqliteJournal, file: Path, lose_answers: Callable[[], None]
) -> None:
    """A8: the answer that was lost is that caller's alone."""
    await journal.submit(row())
    lose_answers()
    with pytest.raises(JournalUnavailable):
        await journal.claim("r1")
    async with opened(file) as other:
        with pytest.raises(JournalRefused):
            await other.claim("r1")
    assert isinstance(await journal.claim("r1"), Claim)
    with pytest.raises(JournalRefused):
        await journal.claim("r1")


# ---- a million runs
async def test_no_question_reads_what_it_does_not_tell(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Lists, and looks for work, go through an index of their own order: what has ended or waits costs them nothing."""
    statements: list[str] = []
    connect = reader.connect

    def traced(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(reader, "connect", traced)
    async with opened(file) as journal:
        await journal.writer.do(lambda connection: connection.set_trace_callback(statements.append))
        for number in range(20):
            claim = await journal.accept(row(f"r{number}"), Record("/ask", 1, "waits", '{"deadline":null}'))
            then = (None, Ended("succeeded", "{}"), Rest("waiting", wake_at=1.0), Rest("waiting", wake_at=2e12))[
                number % 4
            ]
            await journal.write(claim, 0, [begun()], then)
        await journal.cancel("r0")
        await journal.signal("r3", "/ask", "1")
        await journal.save_artifact("r1", b"x", name="x", content_type="text/plain")
        for query in (
            RunQuery(),
            RunQuery(before="r3"),
            RunQuery(workflow="w", before="r3"),
            RunQuery(states=("succeeded", "failed"), since=1.0, until=99.0),
            RunQuery(workflow="w", states=("running",), since=1.0),
        ):
            await journal.runs(query)
        await journal.ready(10)
        await journal.wake(10)
        await journal.wake(10, only="r2")
        await journal.next_wake()
        await journal.attention()
        await journal.abandoned()
        await journal.unfinished()
        await journal.release("r0", ends=1)
        await journal.claim("r0")
        ties = {"gate": Gate("k", 1, "cancel"), "schedule": "s", "parent": Parent("r4", "/call")}
        await journal.submit(row("t1", gate=ties["gate"]))
        claim = await journal.claim("t1")
        await journal.hold(claim, 0, begun(), [Meter("m", 1, 9), Meter("m", 1, 0, 9.0), Meter("l", 1, 9, live=True)])
        await journal.hold(claim, 0, begun(), [Meter("m", 1, 9), Meter("n", 1, 9, 9.0), Meter("l", 1, 9, live=True)])
        await journal.used(["m", "n", "l"])
        await journal.used(["m", "n", "l"], since=1.0)
        call = Record("/call", 1, "waits", '{"deadline":null}')
        await journal.write(claim, 0, [call], children=[row("t2", **ties | {"parent": Parent("t1", "/call")})])
        await journal.submit(row("t3", **ties))
        await journal.cancel("t1")
        done = Record("/a", 1, "succeeded", "{}")
        await journal.write(claim, 2, [done], Ended("succeeded", "{}"), settled=[Settled("/a", 1, {"m": 2})])
        await journal.write(await journal.claim("t2"), 2, (), Ended("succeeded", "{}"))
        fired = [Occurrence("s", key, 1.0, "fired", 1.0, run_id="t3") for key in "ab"]
        await decide(journal, schedule(), *fired, runs=[row("t4", schedule="s")])
        await journal.schedule("s", lambda view: None, ("a", "z"))
        await decide(journal, schedule("u"), runs=[row("t5", schedule="u")])
        await journal.schedule("u", lambda view: ScheduleMove(schedule("u"), cancels=["t5"]))
        for query in (RunQuery(schedule="s"), RunQuery(parent="t1", before="r3"), RunQuery(schedule="s", workflow="w")):
            await journal.runs(query)
        for asked_for in (OccurrenceQuery(), OccurrenceQuery(schedule="s", since=0.5, fates=("fired",))):
            await journal.occurrences(asked_for)
        await journal.occurrences(OccurrenceQuery(workflow="w", until=9.0))
        await journal.schedules()
        await journal.due(10)
        await journal.next_due()
        await journal.purge(time.time() + 1)

    asked = {statement for statement in statements if re.match(r"SELECT|UPDATE|DELETE", statement)}
    asked = {statement for statement in asked if not re.search(r"UPDATE file|FROM file", statement)}  # it has one row
    assert len(asked) > 90
    connection = open_file(file, MIGRATIONS)
    for statement in asked:
        plan = [step for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
        costly = [step for step in plan if "SCAN" in step or "B-TREE" in step]
        # The names of those who have a running run: as many rows as there are such runs. All schedules: they are told.
        told = (
            ["SCAN statuses USING COVERING INDEX statuses_running"],
            ["SCAN schedules USING INDEX schedules_by_workflow"],
        )
        assert costly in ([], *told), f"{statement}: {plan}"
    connection.close()


async def test_a_run_by_itself_asks_for_nothing_more(journal: SqliteJournal) -> None:
    """A run without gate, parent or meters costs no statement for what it does not have."""
    statements: list[str] = []
    await journal.writer.do(lambda connection: connection.set_trace_callback(statements.append))
    statements.clear()
    claim = await journal.accept(row())
    await journal.write(claim, 0, [begun()])
    await journal.write(claim, 0, [Record("/a", 1, "succeeded", "{}")], Ended("succeeded", "{}"))
    await journal.submit(row("r2"))
    await journal.claim("r2")

    verbs = [re.match(r"\w+( INTO \w+| OR \w+ INTO \w+)?( \w+)?", statement) for statement in statements]
    told = [verb[0] for verb in verbs if verb]
    around = ["BEGIN IMMEDIATE", "UPDATE file", "COMMIT"]
    kept = ["SELECT token", "SELECT 1", "INSERT INTO statuses", "INSERT INTO runs"]
    written = ["SELECT run", "SELECT payload", "INSERT INTO records", "UPDATE statuses"]
    assert told == [
        *(around[0], *kept, *around[1:]),
        *(around[0], *written, *around[1:]),
        *(around[0], *written, *around[1:]),
        *(around[0], *kept, *around[1:]),
        *(around[0], "SELECT state", "UPDATE statuses", *around[1:]),
    ]


# ---- the file
def test_durability_is_read_back(file: Path) -> None:
    """The file is in WAL mode with every commit flushed, belongs to its user alone, and lies in a directory that does."""
    connection = open_file(file, MIGRATIONS)

    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    connection.close()


def test_a_new_version_is_backed_up_first(tmp_path: Path) -> None:
    """A file of an older version is copied whole before it is changed; one of a newer version is not touched."""
    file = tmp_path / "journal.db"
    old = (("CREATE TABLE a(x)", "INSERT INTO a VALUES (1)"),)
    open_file(file, old).close()
    open_file(file, (*old, ("ALTER TABLE a ADD COLUMN y", "UPDATE a SET y = x + 1"))).close()

    backup = sqlite3.connect(tmp_path / "journal.db.v1.backup")
    assert backup.execute("SELECT * FROM a").fetchall() == [(1,)]
    backup.close()
    before = file.read_bytes()
    with pytest.raises(JournalUnavailable, match="version 2, this Weft knows versions up to 1") as caught:
        open_file(file, old)
    assert caught.value.problem.code == "journal_too_new"
    assert file.read_bytes() == before


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    """Half a migration is none."""
    file = tmp_path / "journal.db"
    old = (("CREATE TABLE a(x)",),)
    open_file(file, old).close()
    with pytest.raises(JournalUnavailable):
        open_file(file, (*old, ("CREATE TABLE b(x)", "CREATE TABLE b(x)")))

    connection = open_file(file, old)
    assert [name for (name,) in connection.execute("SELECT name FROM sqlite_schema")] == ["a"]
    connection.close()


def of_version_1(file: Path) -> None:
    """Make a journal as the first version of the tables had it, with one run that goes on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    connection = open_file(file, MIGRATIONS[:1])
    connection.execute("INSERT INTO documents VALUES (?, 'text')", (DOCUMENT,))
    connection.execute("INSERT INTO runs SELECT 1, hash, '{}', 'null', NULL, NULL FROM documents")
    connection.execute(
        "INSERT INTO statuses(run, id, workflow, started_at, state, epoch, token, owner, changed_at, size, claimed_size)"
        " VALUES (1, 'old', 'w', 12.5, 'ready', 1, '', '', 12.5, 2, 2)"
    )
    connection.execute("INSERT INTO records VALUES (1, 1, '/a', 1, 'begun', '{}', NULL)")
    connection.execute("UPDATE file SET commits = 1")
    connection.close()


async def test_a_journal_of_the_first_version_goes_on(file: Path) -> None:
    """Its runs stand by themselves, as they did; a copy of the file as it was stays beside it."""
    of_version_1(file)
    async with opened(file) as journal:
        kept = await journal.load("old")
        assert (kept.row, kept.records, kept.status.queued) == (row("old"), (begun(),), False)
        await journal.write(await journal.claim("old"), 0, (), Ended("succeeded", "{}"))
        assert await journal.schedules() == []

    backup = sqlite3.connect(file.with_name("journal.db.v1.backup"))
    assert backup.execute("SELECT state FROM statuses").fetchall() == [("ready",)]
    backup.close()


def test_a_process_of_the_first_version_goes_on_beside_a_newer_one(file: Path) -> None:
    """What it does was written for the tables as they were: a process that lives on the file is not to fail by others."""
    of_version_1(file)
    connection = open_file(file, MIGRATIONS)
    connection.execute(
        "INSERT INTO statuses(id, workflow, started_at, state, epoch, token, owner, changed_at, size, claimed_size)"
        " VALUES ('new', 'w', 1.0, 'ready', 0, '', '', 1.0, 0, 0)"
    )
    connection.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?)", (2, DOCUMENT, "{}", "null", None, None))
    for table, count in (("documents", 2), ("artifacts", 2), ("blobs", 2), ("spent", 1), ("records", 7)):
        assert len(connection.execute(f"PRAGMA table_info({table})").fetchall()) == count
    connection.close()


def test_a_copy_of_an_older_version_is_checked_and_restored(file: Path, tmp_path: Path) -> None:
    """All of it is looked at, as the version of today will read it, and the copy stays as it is."""
    copy = tmp_path / "copy.db"
    of_version_1(copy)
    before = copy.read_bytes()
    found = check_file(copy, is_copy=True)
    assert (found.sound, found.runs, found.unfinished, found.records) == (True, 1, 1, 1)
    restore(file, copy)

    assert copy.read_bytes() == before
    connection = sqlite3.connect(copy, isolation_level=None)
    connection.execute("UPDATE records SET payload = '{'")
    connection.close()
    assert [problem.code for problem in check_file(copy).problems] == ["journal_unreadable", "journal_size"]


async def test_what_refers_to_nothing_is_told(file: Path) -> None:
    """A schedule without its document, a decision without its schedule, a run that nobody lets through its gate."""
    async with opened(file) as journal:
        await decide(journal, schedule(), Occurrence("s", "a", 1.0, "missed", 1.0))
        for run_id in ("r1", "r2"):
            await journal.submit(row(run_id, gate=Gate("k", 1, "queue")))
    assert check_file(file).sound
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("UPDATE schedules SET id = 't', document = 'gone'")
    connection.execute("UPDATE statuses SET gate = 'other' WHERE id = 'r1'")
    connection.close()

    told = " ".join(problem.message for problem in check_file(file).problems)
    for what in (
        "a schedule without its document",
        "an occurrence without its schedule",
        "Run 'r2' waits before a gate",
    ):
        assert what in told


async def test_what_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    """A file of another kind is refused by its name and keeps its bytes."""
    file = tmp_path / "journal.db"
    file.write_bytes(b"not a database at all" * 100)
    with pytest.raises(JournalUnavailable, match="cannot be used as a journal"):
        await SqliteJournal(file).open()

    assert file.read_bytes() == b"not a database at all" * 100


async def test_a_second_name_is_refused_and_a_link_is_followed(tmp_path: Path) -> None:
    """A13: a hard link would let two processes miss each other's locks; a symbolic one leads to the same file and locks."""
    file = tmp_path / "journal.db"
    async with opened(file) as journal:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "soft.db").symlink_to(file)
        async with opened(tmp_path / "elsewhere" / "soft.db") as other:
            await other.accept(row())
            assert await journal.abandoned() == []
        assert [run.row.id for run in await journal.abandoned()] == ["r1"]
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["soft.db"]
    os.link(file, tmp_path / "hard.db")
    with pytest.raises(JournalUnavailable, match="hard link"):
        await SqliteJournal(file).open()


async def test_a_network_file_system_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A13: where locks do not hold, no journal is begun; the kinds are told by the system's own table of mounts."""
    kind = sqlite_file.file_system(file.parent.parent)
    assert kind
    assert kind not in sqlite_file.NETWORK
    monkeypatch.setattr(sqlite_file, "NETWORK", {kind})  # a machine of the tests has no network file system
    with pytest.raises(JournalUnavailable, match="network file system"):
        await SqliteJournal(file).open()
    assert not file.parent.exists()


# ---- a restore of yesterday
async def busy_day(file: Path) -> None:
    """Runs in every state that has not ended, and one that has."""
    async with opened(file) as journal:
        await journal.accept(row("running"), begun())
        await journal.submit(row("ready"))
        for run_id, then in (
            ("waiting", Rest("waiting", wake_at=1.0)),
            ("parked", Rest("parked", reason='{"code":"stuck"}')),
            ("ended", Ended("succeeded", "{}")),
        ):
            await journal.write(await journal.accept(row(run_id)), 0, (), then)


async def states(file: Path) -> dict[str, tuple[str, bool]]:
    """State of each run, and whether it is held because of a restore."""
    async with opened(file) as journal:
        return {
            run.row.id: (run.status.state, '"restored"' in (run.status.reason or ""))
            for run in await journal.runs(RunQuery())
        }


HELD = dict.fromkeys(("running", "ready", "waiting", "parked"), ("parked", True)) | {"ended": ("succeeded", False)}


def marked(file: Path) -> tuple[str, int]:
    """Lineage and commits as the mark has them."""
    lineage, commits = file.with_name(f"{file.name}-mark").read_text().split()
    return lineage, int(commits)


async def test_a_file_that_was_put_back_holds_its_runs(file: Path) -> None:
    """A14: a file from before the last commits is noticed; what has not ended is held until somebody resumes it."""
    await busy_day(file)
    shutil.copy(file, file.with_name("yesterday"))
    async with opened(file) as journal:
        await journal.accept(row("today"))
    shutil.copy(file.with_name("yesterday"), file)

    assert await states(file) == HELD
    async with opened(file) as journal:
        assert (await journal.wake(10), await journal.ready(10), await journal.abandoned()) == ([], [], [])
        kept = (await journal.load("running")).records
        await journal.resume("running")
        await journal.claim("running")
        assert kept == (begun(),)
    assert (await states(file))["running"] == ("running", False)  # held once, not again


async def test_schedules_begin_anew_after_a_restore(file: Path) -> None:
    """A14: what fired after the copy was made is not known; none of it fires again, and one row says so."""
    async with opened(file) as journal:
        await decide(journal, schedule("due"), Occurrence("due", "k", 0.5, "fired", 1.0))
        await decide(journal, schedule("later", 2e12))
        await decide(journal, schedule("paused", paused=True))
        await decide(journal, schedule("retired", retired=True))
        await journal.submit(row("g1", gate=Gate("k", 1, "queue")))
        await journal.submit(row("g2", gate=Gate("k", 1, "queue")))
        await journal.hold(await journal.claim("g1"), 0, begun(), [Meter("m", 3, 9), Meter("l", 1, 9, live=True)])
        await journal.back_up(file.with_name("copy"))
    restore(file, file.with_name("copy"))
    before = time.time()
    async with opened(file) as journal:
        told = {each.schedule: each for each in await journal.occurrences(OccurrenceQuery(fates=("missed",)))}
        marks = {each.id: each.watermark >= before for each in await journal.schedules()}
        assert await journal.due(10) == ["due"]  # whoever decides about it sees the watermark
        assert await journal.used(["m", "l"]) == {"m": 3, "l": 0}
        assert [(run.status.state, run.status.queued) for run in await journal.unfinished()] == [
            ("parked", False),
            ("parked", True),
        ]
        await journal.resume("g2")
        assert (await journal.status("g2")).status.queued
        await journal.cancel("g1")
        await journal.write(await journal.claim("g1"), 1, (), Ended("cancelled", "{}"))
        assert await journal.ready(10) == ["g2"]

    assert marks == {"due": True, "later": True, "paused": True, "retired": False}
    assert sorted(told) == ["due", "later"]
    assert (told["due"].at, told["due"].count, told["due"].run_id) == (1.0, 0, None)
    assert told["later"].at >= before
    assert '"restored"' in (told["due"].reason or "")


async def test_an_old_owner_has_no_right_after_a_restore(file: Path) -> None:
    """A14: a claim from before the restore is void."""
    async with opened(file) as journal:
        claim = await journal.accept(row())
        await journal.back_up(file.with_name("copy"))
        await journal.write(claim, 0, [begun()])
    for part in ("", "-wal", "-shm"):
        file.with_name(f"journal.db{part}").unlink(missing_ok=True)
    file.with_name("copy").rename(file)
    async with opened(file) as journal:
        with pytest.raises(JournalRefused):
            await journal.write(claim, 0, [begun("/b")])


async def test_a_backup_is_whole_and_known_as_one(file: Path, tmp_path: Path) -> None:
    """A14: a copy made while runs write has all that was acknowledged before; opened anywhere, it holds its runs."""
    await busy_day(file)
    copy = tmp_path / "away" / "journal.db"
    copy.parent.mkdir()
    copy.write_text("an older backup")
    async with opened(file) as journal:
        claim = await journal.accept(row("busy"))
        stop = asyncio.Event()

        async def write() -> None:
            n = 0
            while not stop.is_set():
                n += 1
                await journal.write(claim, 0, [Record("/a", n, "begun", "{}")])

        writing = asyncio.create_task(write())
        await asyncio.sleep(0.05)
        before = len((await journal.load("busy")).records)
        await journal.back_up(copy)
        stop.set()
        await writing
        assert [path.name for path in copy.parent.iterdir()] == ["journal.db"]
        with pytest.raises(JournalRefused, match="the journal itself"):
            await journal.back_up(file)
        with pytest.raises(JournalUnavailable):
            await journal.back_up(tmp_path / "nowhere" / "copy")

    assert await states(copy) == HELD | {"busy": ("parked", True)}
    async with opened(copy) as journal:
        assert len((await journal.load("busy")).records) >= before > 0
    assert (await states(file))["busy"] == ("running", False)


async def test_another_journal_in_its_place_is_noticed(file: Path) -> None:
    """A14: a file of another lineage than the mark's holds its runs, however many commits it has."""
    async with opened(file) as journal:
        await journal.accept(row())
    await busy_day(other := file.parent / "other" / "journal.db")
    shutil.copy(other, file)

    assert await states(file) == HELD


async def test_a_mark_that_is_behind_or_gone_means_nothing(file: Path) -> None:
    """A14: the mark is not flushed, so that after a power cut it may be older than the file, or missing, or torn."""
    await busy_day(file)
    undisturbed = await states(file)
    mark = file.with_name("journal.db-mark")
    older = mark.read_bytes()
    async with opened(file) as journal:
        await journal.keep_document("more")
    assert marked(file)[1] == int(older.split()[1]) + 1
    mark.write_bytes(older)
    assert await states(file) == undisturbed
    mark.write_bytes(b"\0" * 20)
    assert await states(file) == undisturbed
    mark.unlink()
    assert await states(file) == undisturbed
    assert marked(file)[1] > int(older.split()[1])


async def test_the_mark_keeps_up_with_several_processes(file: Path) -> None:
    """A14: it tells of the last commit of either, and never goes back."""
    async with opened(file) as one, opened(file) as two:
        await one.accept(row("r0"))
        for number in range(1, 10):
            await (one, two)[number % 2].submit(row(f"r{number}"))
        commits = await one.writer.do(lambda connection: connection.execute("SELECT commits FROM file").fetchone()[0])
        lineage, told = marked(file)
        assert told == commits
        Mark.advance(one.writer._mark, lineage, commits - 5)
        assert marked(file) == (lineage, commits)


async def test_a_restored_file_is_judged_by_one_at_a_time(file: Path) -> None:
    """A14: while one process compares file and mark, another that opens the file waits for it."""
    await busy_day(file)
    handle = os.open(file.with_name("journal.db-mark"), os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    opening = asyncio.create_task(states(file))
    await asyncio.sleep(0.3)
    waited = not opening.done()
    os.close(handle)

    assert waited
    assert len(await opening) == 5


async def test_processes_that_open_a_restored_file_hold_its_runs_once(file: Path) -> None:
    """A14: of several that open it at the same time one begins the new lineage; none takes the others' work from them."""
    await busy_day(file)
    shutil.copy(file, file.with_name("yesterday"))
    async with opened(file) as journal:
        await journal.accept(row("today"))
    shutil.copy(file.with_name("yesterday"), file)
    children = [started('await journal.submit(row(f"new{sys.argv[2]}"))', file, str(number)) for number in range(3)]
    told = [child.communicate()[1] for child in children]

    assert sorted(text.startswith("journal_restored") for text in told) == [False, False, True]
    assert await states(file) == HELD | {f"new{number}": ("ready", False) for number in range(3)}


async def test_a_file_that_is_moved_away_is_noticed(tmp_path: Path) -> None:
    """A14: nothing is written to a journal that is not at its place any more, and no empty one is begun beside it."""
    path = tmp_path / "home" / "journal.db"
    journal = SqliteJournal(path)
    await journal.open()
    document = await journal.keep_document("x")
    files = [file for file in path.parent.iterdir() if file.name.startswith("journal.db")]
    for file in files:
        file.rename(tmp_path / file.name)
    await journal.beat()
    with pytest.raises(JournalUnavailable) as caught:
        await journal.keep_document("y")
    assert caught.value.problem.code == "journal_moved_away"
    with pytest.raises(JournalUnavailable):
        await SqliteJournal(path).open()
    assert not path.exists()

    for file in files:
        (tmp_path / file.name).rename(file)
    await journal.beat()
    assert await journal.document(document) == "x"
    await journal.close()


def put_away(file: Path, to: Path) -> None:
    for part in list(file.parent.glob("journal.db*")):
        part.rename(to / part.name)


def is_there(file: Path) -> bool:
    return file.exists()


async def test_nothing_is_confirmed_while_the_file_is_away(journal: SqliteJournal, file: Path, tmp_path: Path) -> None:
    """A13: no effect begins whose outcome could not be kept, not even before the next beat."""
    claim = await journal.accept(row())
    await journal.confirm(claim)
    put_away(file, tmp_path)

    with pytest.raises(JournalUnavailable) as caught:
        await journal.confirm(claim)
    assert caught.value.problem.code == "journal_moved_away"


async def test_no_new_file_is_made_after_a_fault(journal: SqliteJournal, file: Path, tmp_path: Path) -> None:
    """A13: who has to open the file anew, and does not find it, makes no empty one, also before the next beat."""

    def broken(connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    put_away(file, tmp_path)
    for work in (journal.writer.do(broken), journal.keep_document("x")):
        with pytest.raises(JournalUnavailable):
            await work
    assert not is_there(file)


def test_a_first_start_beside_another_is_not_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A13: a process that makes the file and begins to live between two looks of this one is no sign of a loss."""
    other, exists = Life(file.parent / "alive"), Path.exists

    def just_before(path: Path) -> bool:
        found = exists(path)
        if path == file and not found:
            other.begin()
            file.touch()
        return found

    monkeypatch.setattr(Path, "exists", just_before)
    refuse_new_beside_live(file, file.parent / "alive")
    other.end()


@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY, sqlite3.SQLITE_BUSY_SNAPSHOT])
def test_whoever_holds_the_file_is_waited_for_whatever_for(code: int) -> None:
    """A15: SQLite tells in the upper bits of its code what the other process is doing."""
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = code

    assert is_busy(error)


def test_a_mount_whose_name_is_not_ascii_is_seen() -> None:
    """A13: the table of mounts writes what is special in octal, and the rest as it is."""
    table = b"1 0 8:1 / / rw - ext4 /dev/x rw\n2 1 0:5 / /mnt/f\xc3\xbcr\\040uns rw - nfs4 host:/x rw\n"

    assert kind_in(table, Path("/mnt/für uns/home/journal.db")) == "nfs4"
    assert kind_in(table, Path("/mnt/other/journal.db")) == "ext4"
    assert kind_in(table.replace(b"uns", b"\runs"), Path("/mnt/für \runs/journal.db")) == "nfs4"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("SQLITE_NOTADB", "backup"),
        ("SQLITE_CORRUPT", "backup"),
        ("SQLITE_IOERR_SHMSIZE", "room"),
        ("SQLITE_FULL", "room"),
    ],
)
def test_nobody_is_told_to_begin_anew_for_want_of_room(error: str, told: str) -> None:
    """Only what is no journal may be moved away; a full disk or a closed door loses no run."""
    fault = sqlite3.DatabaseError("x")
    fault.sqlite_errorname, fault.sqlite_errorcode = error, 26
    remedy = str(_unusable(Path("journal.db"), fault).problem.remedy)

    assert told in remedy
    assert ("move the file away" in remedy) == (told == "backup")


async def test_after_a_fault_of_the_file_it_is_opened_anew(tmp_path: Path) -> None:
    """A15: whatever was left half done on a connection goes with it; the same work is done on another one."""

    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO documents VALUES ('half', 'done')")
        raise sqlite3.OperationalError("disk I/O error")

    journal = SqliteJournal(tmp_path / "journal.db")
    await journal.open()
    before = journal.writer._connection
    with pytest.raises(JournalUnavailable):
        await journal.writer.do(broken)
    kept = await journal.keep_document("x")

    assert journal.writer._connection is not before
    assert await journal.document(kept) == "x"
    with sqlite3.connect(tmp_path / "journal.db") as other:
        assert other.execute("SELECT count(*) FROM documents").fetchone() == (1,)
    other.close()
    await journal.close()
