"""From the file in the home to PostgreSQL: all of it, once, and never half (rules A5, A14, A24)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from servers.journals import begun, waits
from servers.postgres import Postgres

from weft.errors import JournalRefused, JournalUnavailable, NotFound
from weft.journal import carrying
from weft.journal.base import (
    LARGEST_INLINE,
    Claim,
    Ended,
    Full,
    Gate,
    Kept,
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
)
from weft.journal.carrying import Moved, move
from weft.journal.moving import note_of, refuse_left_behind, refuse_moved
from weft.journal.postgres import PostgresJournal
from weft.journal.restoring import hold
from weft.journal.sqlite import SqliteJournal
from weft.journal.sqlite_file import open_file
from weft.journal.sqlite_schema import MIGRATIONS

ODD = '{"b": 1.0E5, "a": 10000000000000000000001, "a": "\\u0000 \\ud800"}'
"""JSON that `jsonb`, or a parser that writes it again, would change."""

LARGE = json.dumps("x" * LARGEST_INLINE)
FILE = b"\x00\xff artifact"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "home" / "journal.db"


@pytest.fixture
async def address(postgres_server: Postgres) -> str:
    """A database with the journal's tables."""
    address = postgres_server.database()
    async with _Opened(PostgresJournal(address)):
        return address


class _Opened:
    def __init__(self, journal: Any) -> None:
        self._journal = journal

    async def __aenter__(self) -> Any:
        await self._journal.open()
        return self._journal

    async def __aexit__(self, *_: object) -> None:
        await self._journal.close()


async def _accept(journal: Any, run_id: str, *records: Record, **facts: Any) -> Claim:
    given: dict[str, Any] = {"workflow": "w", "inputs": ODD, "trigger": "null", "started_at": 12.1} | facts
    document = await journal.keep_document(ODD)
    claim: Claim = await journal.accept(RunRow(run_id, document=document, **given), *records)
    return claim


async def _filled(file: Path) -> dict[str, Kept]:
    """Make a journal with a run of every kind, and return what it held when its process died."""
    async with _Opened(SqliteJournal(file)) as journal:
        for number in range(3):
            document = await journal.keep_document(f"document {number}")
            await journal.submit(RunRow(f"ready{number}", "w", document, "{}", "null", 20.0 + number, 21.5, "r0"))
        await journal.keep_document("a document of no run")
        for at, end in enumerate((Ended("succeeded", ODD), Ended("failed", ODD, doubt=True), Ended("cancelled", ODD))):
            claim = await _accept(journal, end.state, begun("/z"), begun("/a"), started_at=1.0 + at)
            await journal.write(claim, 0, [Record("/a", 1, "succeeded", ODD)], end)
        claim = await _accept(journal, "large")
        await journal.save_artifact("large", FILE, name="f", content_type="x/y")
        await journal.write(claim, 0, [Record("/big", 1, "succeeded", LARGE)], Rest("parked", reason=ODD))
        claim = await _accept(journal, "asks", waits("/ask"))
        await journal.write(claim, 0, (), Rest("waiting"))
        claim = await _accept(journal, "sleeps", Record("/nap", 1, "timer", "{}"))
        await journal.write(claim, 0, (), Rest("waiting", wake_at=4_000_000_000.25))
        claim = await _accept(journal, "gone", trigger='"mail"')
        await journal.write(claim, 0, (), Ended("succeeded", "{}"))
        await journal.purge(journal.now() + 1, limit=1)  # the first that ended without a doubt
        for run in await journal.runs(RunQuery(states=("succeeded",))):
            if run.row.id == "gone":
                await journal.purge(journal.now() + 1)
        claim = await _accept(journal, "again", trigger='"mail"', started_at=9.0)
        await journal.write(claim, 0, (), Ended("succeeded", "{}"))
        await _accept(journal, "running", begun("/send"))
        await journal.cancel("running")
        return {each.row.id: await journal.load(each.row.id) for each in await journal.runs(RunQuery(limit=100))}


async def _there(address: str) -> dict[str, Kept]:
    async with _Opened(PostgresJournal(address)) as journal:
        return {each.row.id: await journal.load(each.row.id) for each in await journal.runs(RunQuery(limit=100))}


def _released(kept: Kept) -> Kept:
    """Return the run of a dead process as it is when it was taken from it."""
    return replace(
        kept, status=replace(kept.status, state="ready", epoch=kept.status.epoch + 1, crashes=1, changed_at=0)
    )


def _comparable(found: dict[str, Kept]) -> dict[str, Kept]:
    return {
        name: replace(kept, status=replace(kept.status, changed_at=0)) if name == "running" else kept
        for name, kept in found.items()
    }


def _expected(before: dict[str, Kept]) -> dict[str, Kept]:
    return before | {"running": _released(before["running"])}


class Queue:
    """Takes note of what is enqueued."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def __call__(self, connection: psycopg.AsyncConnection[Any], run_ids: Sequence[str]) -> None:
        self.ids += run_ids


# ---- all of it
async def test_everything_arrives_as_it_was(file: Path, address: str) -> None:
    """A5, A24: runs of every state, their records in order and byte for byte, documents, files, spent ids."""
    before, queue = await _filled(file), Queue()

    moved = await move(file, address, queue)

    assert _comparable(await _there(address)) == _expected(before)
    assert sorted(queue.ids) == ["ready0", "ready1", "ready2", "running"]
    assert moved.released == 1
    assert moved.counts["runs"] == len(before) == sum(moved.states.values())
    async with _Opened(PostgresJournal(address)) as journal:
        for kept in before.values():
            assert await journal.document(kept.row.document)
        artifact = (await journal.save_artifact("asks", FILE, name="f", content_type="x/y"))["artifact"]
        assert await journal.read_artifact("large", artifact) == FILE
        with pytest.raises(JournalRefused, match="known"):
            await _accept(journal, "gone")


async def test_what_was_moved_goes_on(file: Path, address: str) -> None:
    """A24: every run can be claimed, answered, woken or resumed there, and a write continues its records."""
    await _filled(file)
    await move(file, address, None)

    async with _Opened(PostgresJournal(address)) as journal:
        await journal.signal("asks", "/ask", '"yes"')
        await journal.resume("large")
        claim = await journal.claim("running")
        await journal.write(claim, 1, [Record("/send", 1, "succeeded", "{}")], Ended("succeeded", "{}"))
        assert [(record.path, record.kind) for record in (await journal.load("running")).records] == [
            ("/send", "begun"),
            ("", "cancel"),
            ("/send", "succeeded"),
        ]
        assert sorted(await journal.ready(10)) == ["asks", "large", "ready0", "ready1", "ready2"]
        assert await journal.next_wake() == 4_000_000_000.25


async def _tied(journal: Any, prefix: str = "") -> None:
    """Keep runs that wait for each other, schedules and what became of them, and amounts in use."""
    document = await journal.keep_document("of the runs")
    of_schedule = await journal.keep_document("of a schedule alone")

    def row(name: str, **facts: Any) -> RunRow:
        return RunRow(prefix + name, "w", document, "{}", "null", 1.0, **facts)

    for name in ("z", "y", "x"):
        await journal.submit(row(name, gate=Gate("k", 1, "queue"), schedule="s"))
    claim = await journal.accept(row("parent"))
    child = row("child", parent=Parent(prefix + "parent", "/call", 2))
    calls = [Record("/call", 2, "waits", '{"at":0.0,"deadline":null,"child":"child"}')]
    await journal.write(claim, 0, calls, Rest("waiting"), children=[child])
    claim = await journal.accept(row("spends"))
    meters = [Meter("all", 3, 9), Meter("window", 2, 9, window_s=1e9), Meter("live", 1, 1, live=True)]
    assert await journal.hold(claim, 0, begun("/a"), meters) is None

    def think(view: Any) -> ScheduleMove:
        before = view.schedule.watermark if view.schedule else 0.0
        schedule = Schedule("s", "w", "here", ODD, of_schedule, before + 5.0, 11.0, 12.5, paused=True)
        return ScheduleMove(schedule, [Occurrence("s", f"{prefix}k", 1.5, "missed", 2.5, ODD, None, 3)])

    await journal.schedule("s", think)


async def test_what_waits_for_each_other_arrives_so(file: Path, address: str) -> None:
    """A24: gates let the next one in, ends reach their parents, schedules know how far they have come, sums go on."""
    async with _Opened(SqliteJournal(file)) as journal:
        await _tied(journal)
        before = await journal.schedules(), await journal.occurrences(OccurrenceQuery())
        runs = {each.row.id: each.row for each in await journal.runs(RunQuery(limit=100))}
    rehearsed = await move(file, address, None, dry_run=True)
    moved = await move(file, address, None)

    assert {name: moved.counts[name] for name in ("schedules", "occurrences", "meters", "holds")} == (
        {"schedules": 1, "occurrences": 1, "meters": 2, "holds": 2}
    )
    assert rehearsed.counts == moved.counts
    async with _Opened(PostgresJournal(address)) as journal:
        assert (await journal.schedules(), await journal.occurrences(OccurrenceQuery())) == before
        assert {each.row.id: each.row for each in await journal.runs(RunQuery(limit=100))} == runs
        assert [run.row.id for run in await journal.runs(RunQuery(schedule="s")) if run.status.queued] == ["y", "x"]
        for name in ("z", "y"):
            await journal.write(await journal.claim(name), 0, (), Ended("succeeded", "{}"))
        assert not (await journal.status("x")).status.queued
        await journal.write(await journal.claim("child"), 0, (), Ended("succeeded", ODD))
        assert (await journal.load("parent")).records[-1].kind == "signal"
        claim = await journal.claim("spends")
        assert await journal.hold(claim, 0, begun("/b"), [Meter("all", 7, 9)]) == Full("all", 3, 9)
        full = await journal.hold(claim, 0, begun("/b"), [Meter("window", 8, 9, window_s=1e9)])
        assert full is not None
        assert full.used == 2
        assert await journal.used(["live"]) == {"live": 0}
        (schedule,) = before[0]
        assert await journal.document(schedule.document) == "of a schedule alone"


async def test_schedules_and_sums_of_two_homes_are_one(file: Path, address: str, tmp_path: Path) -> None:
    """A24: what one home has decided stays decided for the other; sums add up; the schedule there stays as it is."""
    async with _Opened(PostgresJournal(address)) as journal:
        await _tied(journal, "there")
    async with _Opened(SqliteJournal(file)) as journal:
        await _tied(journal, "here")
        await _later(journal)
    await move(file, address, None, unfinished_only=True)

    async with _Opened(PostgresJournal(address)) as journal:
        (schedule,) = await journal.schedules()
        assert (schedule.watermark, schedule.workflow) == (77.0, "w")
        assert sorted(each.key for each in await journal.occurrences(OccurrenceQuery())) == ["herek", "therek"]
        assert await journal.used(["all", "window"]) == {"all": 6, "window": 4}


async def _later(journal: Any) -> None:
    """Let the schedule be further, and of another workflow."""

    def think(view: Any) -> ScheduleMove:
        return ScheduleMove(replace(view.schedule, watermark=77.0, workflow="other"))

    await journal.schedule("s", think)


async def test_the_file_is_kept_under_another_name(file: Path, address: str) -> None:
    """A24: what the file held is there still, complete without its log; a note says where its runs are now."""
    before = await _filled(file)

    moved = await move(file, address, None)

    assert not list(file.parent.glob("journal.db-*"))
    assert moved.file == file.with_name("journal.db.moved")
    with closing(sqlite3.connect(f"{moved.file.as_uri()}?immutable=1", uri=True)) as connection:
        assert connection.execute("SELECT count(*) FROM statuses").fetchone() == (len(before),)
    assert moved.place in note_of(file).read_text()
    refuse_left_behind(file)
    with pytest.raises(JournalUnavailable, match="moved to a database"):
        refuse_moved(file)
    with pytest.raises(NotFound, match="no journal"):
        await move(file, address, None)


async def test_only_what_has_not_ended(file: Path, address: str) -> None:
    """A11, A24: what guards against repetition goes along: effects in doubt, and the ids that triggers gave."""
    before = await _filled(file)

    await move(file, address, None, unfinished_only=True)

    there = await _there(address)
    assert set(there) == set(before) - {"succeeded", "cancelled", "again"}
    assert "failed" in there  # its effect is in doubt
    async with _Opened(PostgresJournal(address)) as journal:
        for spent in ("gone", "again"):
            with pytest.raises(JournalRefused, match="known"):
                await _accept(journal, spent)


async def test_a_rehearsal_changes_nothing(file: Path, postgres_server: Postgres) -> None:
    """A rehearsal counts, and leaves both sides as they are; the database need not have tables yet."""
    before = await _filled(file)
    empty = postgres_server.database()

    moved = await move(file, empty, None, dry_run=True)

    assert (moved.file, moved.released, moved.counts["runs"]) == (None, 1, len(before))
    with psycopg.connect(empty) as connection:
        assert connection.execute("SELECT to_regnamespace('weft')").fetchone() == (None,)
    async with _Opened(SqliteJournal(file)) as journal:
        assert {
            each.row.id: await journal.load(each.row.id) for each in await journal.runs(RunQuery(limit=100))
        } == before


async def test_two_homes_move_into_one_database(file: Path, address: str, tmp_path: Path) -> None:
    """Documents that both hold are there once, and runs of both."""
    other = tmp_path / "other" / "journal.db"
    await _filled(file)
    async with _Opened(SqliteJournal(other)) as journal:
        await _accept(journal, "elsewhere")

    await move(file, address, None)
    await move(other, address, None)

    assert {"elsewhere", "asks"} <= set(await _there(address))


# ---- never half
MOVE = """
import asyncio, os, signal, sys
from pathlib import Path
from weft.journal.carrying import move

def progress(what, done, total):
    if what == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(move(Path(sys.argv[1]), sys.argv[2], None, progress=progress))
"""


def _kill(file: Path, address: str, moment: str) -> None:
    """Begin a move in a process that is killed at this moment."""
    killed = subprocess.run([sys.executable, "-c", MOVE, str(file), address, moment], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()


@pytest.mark.parametrize("moment", ["documents", "records", "states", "compared", "sealed", "committed"])
async def test_a_move_that_was_killed_is_called_again(file: Path, address: str, moment: str) -> None:
    """A24: killed at any point, nothing runs in both; called again, all is there once."""
    before = await _filled(file)

    _kill(file, address, moment)

    there = await _there(address)
    assert bool(there) == (moment == "committed")
    with pytest.raises(JournalUnavailable, match=r"not ended|not come to its end"):
        refuse_left_behind(file)
    if moment in ("sealed", "committed"):
        with pytest.raises(JournalUnavailable):
            await SqliteJournal(file).open()
    moved = await move(file, address, None)
    assert moved.again == (moment == "committed")
    assert _comparable(await _there(address)) == _expected(before)
    assert moved.file is not None
    with pytest.raises(NotFound):
        await move(file, address, None)


async def test_a_killed_move_leaves_the_file_to_work_with(file: Path, address: str) -> None:
    """A24: as long as the file is not sealed, its runs may go on in it."""
    await _filled(file)
    _kill(file, address, "states")

    async with _Opened(SqliteJournal(file)) as journal:
        claim = await journal.claim("ready0")
        await journal.write(claim, 0, [begun("/new")], Ended("succeeded", "{}"))
    await move(file, address, None)

    kept = (await _there(address))["ready0"]
    assert (kept.status.state, [record.path for record in kept.records]) == ("succeeded", ["/new"])


async def test_progress_there_is_not_undone_by_a_second_call(file: Path, address: str) -> None:
    """A24: a call after the database has committed touches no run, whatever it has become since."""
    await _filled(file)
    _kill(file, address, "committed")
    async with _Opened(PostgresJournal(address)) as journal:
        claim = await journal.claim("ready0")
        await journal.write(claim, 0, [begun("/new")], Ended("succeeded", "{}"))

    await move(file, address, None)

    assert (await _there(address))["ready0"].status.state == "succeeded"


async def test_it_is_not_moved_while_a_process_lives_on_it(file: Path, address: str) -> None:
    """A24: a worker that has runs in hand would go on with them."""
    await _filled(file)

    async with _Opened(SqliteJournal(file)):
        with pytest.raises(JournalRefused, match="1 process works"):
            await move(file, address, None)

    assert await _there(address) == {}
    assert (await move(file, address, None)).file


async def test_it_is_not_moved_while_another_program_writes(file: Path, address: str) -> None:
    """A24: nor while somebody holds the write lock."""
    await _filled(file)

    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalRefused, match="in use"):
            await move(file, address, None)


async def test_a_process_that_comes_meanwhile_cannot_write(
    file: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A24: a process that opens the file during the move waits, and is refused when the move is done."""
    await _filled(file)
    late = SqliteJournal(file)
    submitted: list[asyncio.Task[str]] = []

    async def refuse_known(source: Any, target: Any) -> None:
        await late.open()
        submitted.append(asyncio.create_task(late.keep_document("late")))
        await asyncio.sleep(0.3)

    monkeypatch.setattr(carrying, "_refuse_known", refuse_known)
    await move(file, address, None)

    with pytest.raises(JournalUnavailable):
        await submitted[0]
    await late.close()


async def test_runs_that_the_database_knows_from_elsewhere(file: Path, address: str) -> None:
    """A24: they are named, and nothing is moved."""
    before = await _filled(file)
    async with _Opened(PostgresJournal(address)) as journal:
        await _accept(journal, "asks")

    with pytest.raises(JournalRefused, match="knows 1 of these runs already, from elsewhere: asks"):
        await move(file, address, None)

    assert set(await _there(address)) == {"asks"}
    async with _Opened(SqliteJournal(file)) as journal:
        assert len(await journal.runs(RunQuery(limit=100))) == len(before)


async def test_a_database_that_changes_what_it_is_given(file: Path, address: str) -> None:
    """A5, A24: what arrived is compared before the file is sealed."""
    await _filled(file)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("""
            CREATE FUNCTION weft.lose() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN NEW.payload := replace(NEW.payload, '1.0E5', '100000'); RETURN NEW; END $$;
            CREATE TRIGGER lose BEFORE INSERT ON weft.records FOR EACH ROW EXECUTE FUNCTION weft.lose();
        """)

    with pytest.raises(JournalRefused, match="'records' is not what was carried"):
        await move(file, address, None)

    assert await _there(address) == {}
    async with _Opened(SqliteJournal(file)) as journal:
        assert await journal.claim("ready0")


async def test_a_copy_of_what_was_moved_is_not_moved(file: Path, address: str, tmp_path: Path) -> None:
    """A24: a copy of the file may hold other things since; its runs would begin again."""
    await _filled(file)
    copy = tmp_path / "copied"
    shutil.copytree(file.parent, copy)
    await move(file, address, None)

    with pytest.raises(JournalRefused, match="taken in this journal before"):
        await move(copy / "journal.db", address, None)


async def test_a_move_that_was_begun_ends_where_it_was_begun(
    file: Path, address: str, postgres_server: Postgres
) -> None:
    """A24: a sealed file may be in the first database already, so it is not moved to a second one."""
    await _filled(file)
    _kill(file, address, "sealed")

    with pytest.raises(JournalRefused, match="is being moved to"):
        await move(file, postgres_server.database(), None)


async def test_a_restored_file_moves_with_its_runs_held(file: Path, address: str) -> None:
    """A14: a move is a start, too: what the runs of a copy have done since is not known."""
    await _filled(file)
    copy = file.with_name("copy")
    async with _Opened(SqliteJournal(file)) as journal:
        await journal.back_up(copy)
    shutil.copyfile(copy, file)

    moved: Moved = await move(file, address, None)

    assert moved.held
    there = (await _there(address)).values()
    unfinished = {kept.status.state for kept in there if kept.status.result is None}
    assert unfinished == {"parked"}


# ---- the start
def test_a_start_is_refused_that_would_leave_runs_behind(file: Path) -> None:
    """A24: with a database set, unfinished runs in the file would be nobody's."""
    refuse_left_behind(file)  # no file

    asyncio.run(_filled(file))

    with pytest.raises(JournalUnavailable, match="7 runs that have not ended") as caught:
        refuse_left_behind(file)
    assert caught.value.problem.code == "journal_left_behind"


async def test_a_start_is_refused_that_would_leave_schedules_behind(file: Path) -> None:
    """A24: an armed schedule in the file would begin anew in the database; a retired one fires nowhere."""
    async with _Opened(SqliteJournal(file)) as journal:
        document = await journal.keep_document("text")
        schedule = Schedule("s", "w", "here", "{}", document, 0.0, paused=True)
        await journal.schedule("s", lambda view: ScheduleMove(schedule))
        with pytest.raises(JournalUnavailable, match="1 armed schedule;") as caught:
            refuse_left_behind(file)
        assert caught.value.problem.code == "journal_left_behind"
        await journal.schedule("s", lambda view: ScheduleMove(replace(schedule, retired=True)))

    refuse_left_behind(file)


async def test_a_file_of_the_first_version_is_looked_at_and_moved(file: Path, address: str) -> None:
    """A24: a file that an older Weft has left refuses the start, is rehearsed as it is, and moves as any other."""
    file.parent.mkdir()
    connection = open_file(file, MIGRATIONS[:1])
    connection.execute("INSERT INTO documents VALUES (?, 'text')", (hashlib.sha256(b"text").hexdigest(),))
    connection.execute("INSERT INTO runs SELECT 1, hash, '{}', 'null', NULL, NULL FROM documents")
    connection.execute(
        "INSERT INTO statuses(run, id, workflow, started_at, state, epoch, token, owner, changed_at, size, claimed_size)"
        " VALUES (1, 'old', 'w', 12.5, 'ready', 1, '', '', 12.5, 0, 0)"
    )
    connection.close()
    with pytest.raises(JournalUnavailable, match="1 run that has not ended"):
        refuse_left_behind(file)
    rehearsed = await move(file, address, None, dry_run=True)
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    moved = await move(file, address, None)

    assert moved.counts == rehearsed.counts
    assert set(await _there(address)) == {"old"}


async def test_a_database_that_was_put_back_holds_its_schedules(address: str) -> None:
    """A14: what fired after the copy was made is not known; none of it fires again, and one row says so."""
    async with _Opened(PostgresJournal(address)) as journal:
        await _tied(journal)
        await journal.schedule("s", lambda view: ScheduleMove(replace(view.schedule, paused=False)))
        before = journal.now()
        await hold(address)
        (schedule,) = await journal.schedules()
        (row,) = [each for each in await journal.occurrences(OccurrenceQuery()) if each.key != "k"]

        assert schedule.watermark >= before - 1
        assert (row.at, row.fate, row.count) == (11.0, "missed", 0)
        assert await journal.used(["live", "all"]) == {"live": 0, "all": 3}
