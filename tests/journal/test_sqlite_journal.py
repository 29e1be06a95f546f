"""What the journal in a file promises beyond what all journals do."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from weft.errors import JournalRefused, JournalUnavailable
from weft.journal import sqlite_file
from weft.journal.base import Ended, Record, RunRow
from weft.journal.sqlite import MIGRATIONS, SqliteJournal
from weft.journal.sqlite_file import open_file


def row(run_id: str = "r1") -> RunRow:
    return RunRow(run_id, "w", "{}", "null", 12.5)


def started(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Another process that runs `script`."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_another_process_reads_what_was_acknowledged_after_a_kill(tmp_path: Path) -> None:
    """Whatever was acknowledged before a SIGKILL is there, and the next owner's claim ends the dead one's."""
    file = tmp_path / "journal.db"
    script = f"""
        import asyncio, sys
        from pathlib import Path
        from weft.journal.base import Record, RunRow
        from weft.journal.sqlite import SqliteJournal

        async def main():
            journal = SqliteJournal(Path({str(file)!r}))
            claim = await journal.accept(RunRow("r1", "w", "{{}}", "null", 1.0))
            for n in range(1, 1_000_000):
                await journal.record(claim, Record("/a", n, "begun", "{{}}"))
                print(n, claim.epoch, flush=True)

        asyncio.run(main())
    """
    child = started(script)
    assert child.stdout is not None
    told = [child.stdout.readline() for _ in range(25)]
    child.kill()
    rest, _ = child.communicate()
    acknowledged = int([line for line in [*told, *rest.splitlines()] if line.strip()][-1].split()[0])

    journal = SqliteJournal(file)
    claim = await journal.claim("r1", ends=1)
    found = len((await journal.load("r1"))[1])
    await journal.close()
    assert claim.epoch == 2
    assert acknowledged <= found <= acknowledged + 1


async def test_what_waits_shares_one_commit(tmp_path: Path) -> None:
    """A hundred writers at once need a few transactions, one writer one for each write."""
    journal = SqliteJournal(tmp_path / "journal.db")
    claims = await asyncio.gather(*(journal.accept(row(f"r{number}")) for number in range(100)))
    before = journal.writer.commits
    await asyncio.gather(*(journal.record(claim, Record("/a", 1, "begun", "{}")) for claim in claims))
    together = journal.writer.commits - before
    for n in range(2, 12):
        await journal.record(claims[0], Record("/a", n, "begun", "{}"))
    alone = journal.writer.commits - before - together
    await journal.close()

    assert together <= 10
    assert alone == 10


async def test_a_file_that_another_program_holds_is_waited_for(tmp_path: Path) -> None:
    """A15: while another program holds the lock writes wait, it is seen, and they go through when it lets go."""
    file = tmp_path / "journal.db"
    journal = SqliteJournal(file)
    claim = await journal.accept(row())
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(journal.record(claim, Record("/a", 1, "begun", "{}")))
    while journal.writer.held_since is None:
        await asyncio.sleep(0.01)
    assert not writing.done()
    other.execute("COMMIT")
    other.close()
    await writing

    assert journal.writer.held_since is None
    await journal.close()


async def test_a_full_disk_refuses_and_the_journal_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """A15: what could not be written is answered with an error and is not there; later writes go through."""
    file = tmp_path / "journal.db"
    journal = SqliteJournal(file)
    claim = await journal.accept(row())

    def shrink(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 1}")

    await journal.writer.do(shrink)
    with pytest.raises(JournalUnavailable, match="SQLITE_FULL") as caught:
        await journal.record(claim, Record("/a", 1, "succeeded", "x" * 100_000))
    assert caught.value.problem.remedy == "Make room on the disk."
    await journal.record(claim, Record("/a", 1, "succeeded", "x" * 100_000))

    assert [len(record.payload) for record in (await journal.load("r1"))[1]] == [100_000]
    await journal.close()


async def test_a_writer_that_gave_up_waiting_stops_nobody(tmp_path: Path) -> None:
    """A cancelled caller's write may count; the ones after it are answered as ever."""
    journal = SqliteJournal(tmp_path / "journal.db")
    claim = await journal.accept(row())
    gone = asyncio.create_task(journal.record(claim, Record("/a", 1, "begun", "{}")))
    await asyncio.sleep(0)
    gone.cancel()
    await journal.finish(claim, Ended("succeeded", "{}"))

    assert (await journal.load("r1"))[2] == Ended("succeeded", "{}")
    await journal.close()
    with pytest.raises(JournalUnavailable, match="closed"):
        await journal.load("r1")


async def test_closing_writes_what_waits(tmp_path: Path) -> None:
    """What was asked for before the close is done, and answered."""
    journal = SqliteJournal(tmp_path / "journal.db")
    asked = [asyncio.create_task(journal.accept(row(f"r{number}"))) for number in range(5)]
    await asyncio.sleep(0)
    await journal.close()

    assert [(await each).epoch for each in asked] == [1] * 5


async def test_two_processes_use_one_file(tmp_path: Path) -> None:
    """Two that open a new file at the same time both work, and each sees the other's runs."""
    file = tmp_path / "journal.db"
    script = f"""
        import asyncio, sys
        from pathlib import Path
        from weft.journal.base import RunRow
        from weft.journal.sqlite import SqliteJournal

        async def main(name):
            journal = SqliteJournal(Path({str(file)!r}))
            for number in range(50):
                await journal.accept(RunRow(f"{{name}}{{number}}", "w", "{{}}", "null", 1.0))
            await journal.close()

        asyncio.run(main(sys.argv[1]))
    """
    children = [started(script, name) for name in ("a", "b")]
    assert [child.communicate()[1] for child in children] == ["", ""]

    journal = SqliteJournal(file)
    for name in ("a0", "a49", "b0", "b49"):
        assert (await journal.load(name))[0].id == name
    await journal.close()


def test_durability_is_read_back(tmp_path: Path) -> None:
    """The file is in WAL mode with every commit flushed, belongs to its user alone, and lies in a directory that does."""
    file = tmp_path / "home" / "journal.db"
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


def test_what_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    """A file of another kind is refused by its name and keeps its bytes."""
    file = tmp_path / "journal.db"
    file.write_bytes(b"not a database at all" * 100)
    with pytest.raises(JournalUnavailable, match="cannot be used as a journal"):
        open_file(file, MIGRATIONS)

    assert file.read_bytes() == b"not a database at all" * 100


def test_a_second_name_is_refused_and_a_link_is_followed(tmp_path: Path) -> None:
    """A13: a hard link would let two processes miss each other's locks; a symbolic one leads to the same file."""
    file = tmp_path / "journal.db"
    open_file(file, MIGRATIONS).close()
    (tmp_path / "soft.db").symlink_to(file)
    open_file(tmp_path / "soft.db", MIGRATIONS).close()
    assert not (tmp_path / "soft.db-wal").exists()
    os.link(file, tmp_path / "hard.db")
    with pytest.raises(JournalUnavailable, match="hard link"):
        open_file(file, MIGRATIONS)


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where locks do not hold, no journal is begun; the kinds are told by the system's own table of mounts."""
    kind = sqlite_file.file_system(tmp_path)
    assert kind
    assert kind not in sqlite_file.NETWORK
    monkeypatch.setattr(sqlite_file, "NETWORK", {kind})  # a machine of the tests has no network file system
    with pytest.raises(JournalUnavailable, match="network file system"):
        open_file(tmp_path / "journal.db", MIGRATIONS)
    assert list(tmp_path.glob("journal*")) == []


async def test_a_refusal_leaves_no_trace_in_the_batch(tmp_path: Path) -> None:
    """One piece of work that refuses neither writes nor keeps the others of its transaction from writing."""
    journal = SqliteJournal(tmp_path / "journal.db")
    claim = await journal.accept(row())
    first, second, third = await asyncio.gather(
        journal.record(claim, Record("/a", 1, "begun", "1")),
        journal.record(claim, Record("/b", 1, "begun", "1"), Record("/a", 1, "begun", "2")),
        journal.record(claim, Record("/c", 1, "begun", "1")),
        return_exceptions=True,
    )

    assert (first, type(second), third) == (None, JournalRefused, None)
    assert [record.path for record in (await journal.load("r1"))[1]] == ["/a", "/c"]
    await journal.close()
