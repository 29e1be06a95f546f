"""`weft journal`: status, backup, restore, check, move (rules A14, A24, B11)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from rich.cells import cell_len
from servers.postgres import Postgres

from weft.cli import app, journal
from weft.errors import JournalRefused
from weft.journal.base import Ended, Record, Rest, RunRow
from weft.journal.postgres import PostgresJournal
from weft.journal.sqlite import SqliteJournal

Weft = Callable[..., tuple[int, str, str]]

LETTERS = """
name: letters
steps:
  - id: first
    uses: send_email
    connection: outbox
    with: {to: a@example.com, subject: First, body: Hello}
  - id: pause
    wait: {for: 3s}
  - id: second
    uses: send_email
    connection: outbox
    with: {to: a@example.com, subject: Second, body: Hello}
"""

READING = """
name: letters
steps:
  - id: first
    uses: parse_json
    with: {text: '{"a": 1}'}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture
def weft(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Weft:
    """Runs `weft journal` in this process; with `width`, as on a terminal of so many columns."""

    def weft(*arguments: str, width: int | None = None) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            if width is not None:
                patch.setattr(journal, "is_live", lambda stream: stream is sys.stdout)
                patch.setenv("COLUMNS", str(width))
            with pytest.raises(SystemExit) as ended:
                app.main(["journal", *arguments])
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return weft


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "weft-home" / "journal.db"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to stand in."""
    there = tmp_path / "here"
    there.mkdir()
    monkeypatch.chdir(there)
    return there


async def _fill(kept: Any) -> None:
    """Keep a run that is ready, one that waits, and one that has ended."""
    await kept.open()
    document = await kept.keep_document("what runs follow")
    await kept.submit(RunRow("r1", "letters", document, "{}", "null", 20.0))
    claim = await kept.accept(RunRow("r2", "letters", document, "{}", "null", 10.0), Record("/a", 1, "begun", "{}"))
    await kept.save_artifact("r2", b"artifact", name="f", content_type="x/y")
    await kept.write(claim, 0, [Record("/a", 1, "succeeded", "{}")], Rest("waiting"))
    claim = await kept.accept(RunRow("r3", "letters", document, "{}", "null", 30.0))
    await kept.write(claim, 0, (), Ended("succeeded", "{}"))
    await kept.close()


@pytest.fixture
def filled(file: Path) -> Path:
    asyncio.run(_fill(SqliteJournal(file)))
    return file


@pytest.fixture
def database(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with a journal, that WEFT_DATABASE_URL names with a password."""
    address = server.database()
    asyncio.run(_fill(PostgresJournal(address)))
    monkeypatch.setenv("WEFT_DATABASE_URL", address.replace("weft@", "weft:pa55word-of-mine@"))
    return address


def change(file: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount, statement


# ---- status


def test_status_tells_what_there_is(weft: Weft, filled: Path) -> None:
    """Which journal, its version and lineage, runs by state, the oldest that has not ended, sizes, living processes."""
    code, out, err = weft("status", "--json")

    told = json.loads(out)
    assert (code, err) == (0, "")
    assert told["runs"] == {
        "ready": 1, "running": 0, "waiting": 1, "parked": 0, "succeeded": 1, "failed": 0, "cancelled": 0,
    }  # fmt: skip
    assert told["oldest"] == {
        "run_id": "r2", "workflow": "letters", "state": "waiting", "started_at": "1970-01-01T00:00:10+00:00",
    }  # fmt: skip
    assert (told["kind"], told["place"], told["version"]) == ("sqlite", str(filled), 2)
    assert told["size"] == filled.stat().st_size
    assert (told["artifacts"], told["artifact_size"], told["processes"], told["held"]) == (1, 8, 0, None)
    assert len(told["lineage"]) == 32


@pytest.mark.parametrize("width", [60, 100])
def test_status_on_a_terminal(weft: Weft, filled: Path, width: int) -> None:
    """A line for each fact, none wider than the terminal."""
    _, out, _ = weft("status", width=width)

    assert "1 ready, 1 waiting, 1 succeeded" in out
    assert "r2 of letters, waiting, started 1 Jan 1970" in " ".join(out.split())
    assert max(map(cell_len, out.splitlines())) <= width


def test_status_without_a_journal(weft: Weft) -> None:
    """There is none before the first run, and asking makes none."""
    code, _, err = weft("status")

    assert code == 4
    assert "There is no journal" in err
    assert not (Path(os.environ["WEFT_HOME"]) / "journal.db").exists()


def test_status_tells_of_the_log_and_who_keeps_it(weft: Weft, filled: Path) -> None:
    """B11: a reader's old snapshot keeps the log from being put into the file; its size, and how much of it, are told."""
    with contextlib.closing(sqlite3.connect(filled, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM runs").fetchone()
        with contextlib.closing(sqlite3.connect(filled, isolation_level=None)) as writer:
            for number in range(20):
                writer.execute("INSERT INTO spent VALUES (?)", (f"s{number}",))
            told = json.loads(weft("status", "--json")[1])
            lines = weft("status")[1]

    assert told["log_size"] > 0
    assert 0 < told["log_held"] <= told["log_size"]
    assert "kept by a reader" in lines


def test_status_tells_who_holds_the_file(weft: Weft, filled: Path) -> None:
    """A15: another program that holds the file is told, with its process, and since when nothing was written."""
    code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE'); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(filled)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        told = json.loads(weft("status", "--json")[1])
        lines = weft("status")[1]
        other.communicate(b"\n")

    assert told["held"]["pid"] == other.pid
    assert f"held by\tprocess {other.pid}" in lines


def test_status_of_a_database(weft: Weft, database: str) -> None:
    """The same of PostgreSQL: no password, what makes it lose acknowledged things, the age of the oldest transaction."""
    with psycopg.connect(database) as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute("SELECT count(*) FROM weft.runs")
        code, out, err = weft("status", "--json")
        lines = weft("status", width=60)[1]

    told = json.loads(out)
    assert (code, told["kind"], told["runs"]["waiting"], told["oldest"]["run_id"]) == (0, "postgresql", 1, "r2")
    assert (told["artifacts"], told["artifact_size"]) == (1, 8)
    assert told["snapshot_s"] > 0
    assert "fsync is off" in told["warnings"][0]["message"]
    assert "pa55word" not in out + err + lines
    assert max(map(cell_len, lines.splitlines())) <= 60


def test_status_of_a_database_without_a_journal(weft: Weft, server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking makes no tables."""
    address = server.database()
    monkeypatch.setenv("WEFT_DATABASE_URL", address)

    assert weft("status")[0] == 4
    with psycopg.connect(address) as connection:
        assert connection.execute("SELECT to_regnamespace('weft')").fetchone() == (None,)


# ---- backup and restore


async def test_a_backup_while_a_worker_writes(file: Path, tmp_path: Path) -> None:
    """A14: a copy made online is whole: of each run that it holds, it holds all that was acknowledged before."""
    await _fill(SqliteJournal(file))
    kept = SqliteJournal(file)
    await kept.open()
    document = await kept.keep_document("what runs follow")
    written = 0

    async def work() -> None:
        nonlocal written
        while True:
            claim = await kept.accept(RunRow(f"w{written}", "w", document, "{}", "null", 1.0))
            await kept.write(claim, 0, [Record("/a", 1, "begun", "{}")], Ended("succeeded", "{}"))
            written += 1

    task = asyncio.create_task(work())
    try:
        while written < 20:
            await asyncio.sleep(0.01)
        before = written
        command = [sys.executable, "-m", "weft", "journal", "backup", str(tmp_path / "copy")]
        child = await asyncio.create_subprocess_exec(*command)
        assert await child.wait() == 0
        assert written > before
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await kept.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "copy")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        for number in range(before):
            found = copy.execute("SELECT state, size FROM statuses WHERE id = ?", (f"w{number}",)).fetchone()
            assert found == ("succeeded", 2)


def test_a_backup_replaces_nothing_by_itself(weft: Weft, filled: Path, tmp_path: Path) -> None:
    """A file that is there stays, unless --force is given."""
    copy = tmp_path / "copy"
    copy.write_text("precious")

    code, _, err = weft("backup", str(copy))
    assert (code, copy.read_text()) == (1, "precious")
    assert "--force" in err

    assert weft("backup", str(copy), "--force")[0] == 0
    assert weft("check", str(copy))[:2] == (
        0,
        "Sound: 3 runs, 1 document, 1 artifact; 2 that have not ended can be read, with 2 records.\n",
    )


def test_a_backup_that_fails_leaves_nothing(weft: Weft, filled: Path, tmp_path: Path) -> None:
    """It is complete or not at all."""
    code, _, err = weft("backup", str(tmp_path / "nowhere" / "copy"))

    assert code == 74
    assert "No such file or directory" in err
    assert not (tmp_path / "nowhere").exists()


def test_a_backup_of_a_database_is_not_made_here(weft: Weft, database: str, tmp_path: Path) -> None:
    """PostgreSQL has better means, and they are named."""
    code, _, err = weft("backup", str(tmp_path / "copy"))

    assert code == 1
    assert "pg_dump" in err


def test_a_restore_puts_the_file_and_its_log_aside(weft: Weft, filled: Path, tmp_path: Path) -> None:
    """A14: a process that was killed leaves a log; beside the copy it would be read as part of it."""
    copy = tmp_path / "copy"
    weft("backup", str(copy))
    code = (
        "import os, signal, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "[c.execute('INSERT INTO spent VALUES (?)', ('x' * 900 + str(i),)) for i in range(300)];"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(filled)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (filled.parent / "journal.db-wal").stat().st_size > 0

    code_, out, _ = weft("restore", str(copy))

    assert code_ == 0
    assert "2 runs held for review" in out
    assert weft("check")[0] == 0
    told = json.loads(weft("status", "--json")[1])
    assert (told["runs"]["parked"], told["review"], told["warnings"]) == (2, 2, [])
    (aside,) = (
        path for path in filled.parent.glob("journal.db.replaced-*") if not path.name.endswith(("-wal", "-shm"))
    )
    with contextlib.closing(sqlite3.connect(aside)) as old:
        assert old.execute("SELECT count(*) FROM spent").fetchone() == (300,)


def test_a_copy_put_in_place_by_hand_is_told(weft: Weft, filled: Path, tmp_path: Path) -> None:
    """A14: status says what the next start will do, and does not do it."""
    weft("backup", str(tmp_path / "copy"))
    shutil.copyfile(tmp_path / "copy", filled)

    for _ in range(2):
        code, out, err = weft("status")
        assert code == 0
        assert "restored from a copy" in err
        assert "1 ready, 1 waiting" in out


async def test_no_restore_while_a_process_lives(file: Path, tmp_path: Path) -> None:
    """A14: a process would go on with the file that was put aside."""
    await _fill(SqliteJournal(file))
    kept = SqliteJournal(file)
    await kept.open()
    await kept.back_up(tmp_path / "copy")
    command = [sys.executable, "-m", "weft", "journal", "restore", str(tmp_path / "copy")]
    child = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    _, err = await child.communicate()
    await kept.close()

    assert child.returncode == 1
    assert b"1 process works on it" in err
    assert b"journal_in_use" in err
    assert not list(file.parent.glob("*.replaced-*"))


def test_no_restore_of_what_is_not_sound(weft: Weft, filled: Path, tmp_path: Path) -> None:
    """The journal stays as it is."""
    copy = tmp_path / "copy"
    weft("backup", str(copy))
    change(copy, "UPDATE documents SET text = 'another'")

    code, _, err = weft("restore", str(copy))

    assert code == 1
    assert "is not sound" in err
    assert json.loads(weft("status", "--json")[1])["runs"]["ready"] == 1


def test_no_mail_is_sent_again_after_a_restore(weft: Weft, file: Path, elsewhere: Path, tmp_path: Path) -> None:
    """A14: backup, work, restore: the run is held, nothing is sent; when a person lets it go on, the mail keeps its id."""
    (elsewhere / "letters.yaml").write_text(LETTERS)
    command = [sys.executable, "-m", "weft"]
    with subprocess.Popen([*command, "run", "letters.yaml", "--quiet"]) as run:
        until = time.monotonic() + 20
        while not file.exists() or "waiting" not in weft("status")[1]:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert weft("backup", str(tmp_path / "copy"))[0] == 0
    assert run.returncode == 0
    sent = _mails(command)
    assert [mail["subject"] for mail in sent] == ["First", "Second"]

    shutil.copyfile(tmp_path / "copy", file)
    worker = [*command, "worker", "--until-idle"]
    said = subprocess.run(worker, check=True, capture_output=True, text=True).stdout

    assert "restored" in said
    assert _mails(command) == sent
    (held,) = json.loads(_output([*command, "runs", "list", "--json"]))
    assert (held["state"], held["problem"]["code"]) == ("parked", "restored")

    subprocess.run([*command, "runs", "resume", held["run_id"]], check=True, capture_output=True)
    subprocess.run(worker, check=True, capture_output=True)
    subjects = [mail["subject"] for mail in _mails(command)]
    assert subjects == ["First", "Second", "Second"]
    ids = [json.loads(_output([*command, "outbox", "show", str(n), "--json"]))["headers"] for n in (2, 3)]
    second, again = ([value for name, value in headers if name == "Message-ID"] for headers in ids)
    assert second == again


def _mails(command: list[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_output([*command, "outbox", "list", "--json"]))
    return found


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_runs_of_a_restored_database_are_held(weft: Weft, database: str) -> None:
    """A14: what has not ended is parked, whoever has it; its owner has no right to it any more."""

    async def work() -> None:
        kept = PostgresJournal(database)
        await kept.open()
        claim = await kept.claim("r1")
        assert (await asyncio.to_thread(weft, "hold"))[1].startswith("2 runs held for review")
        with pytest.raises(JournalRefused):
            await kept.write(claim, 0, [Record("/a", 1, "begun", "{}")])
        assert await kept.ready(10) == []
        await kept.resume("r1")
        assert await kept.ready(10) == ["r1"]
        await kept.close()

    asyncio.run(work())
    told = json.loads(weft("status", "--json")[1])
    assert (told["runs"]["parked"], told["review"], told["runs"]["succeeded"]) == (1, 1, 1)


def test_a_file_needs_no_hold(weft: Weft, filled: Path) -> None:
    """A14: a restored file is known by itself."""
    assert weft("hold")[0] == 1


# ---- check


@pytest.mark.parametrize(
    ("code", "statements"),
    [
        ("journal_altered", ["UPDATE documents SET text = text || ' '"]),
        ("journal_altered", ["UPDATE blobs SET content = x'00'"]),
        ("journal_unreadable", ["UPDATE records SET payload = '{' || char(10)"]),
        ("journal_unreadable", ["UPDATE records SET kind = 'unheard-of' WHERE kind = 'begun'"]),
        ("journal_unreadable", ["UPDATE runs SET inputs = 'no JSON'"]),
        ("journal_size", ["UPDATE statuses SET size = size + 1 WHERE id = 'r2'"]),
        ("journal_dangling", ["DELETE FROM statuses WHERE id = 'r3'"]),
        ("journal_dangling", ["DELETE FROM blobs"]),
        ("journal_dangling", ["UPDATE records SET payload = NULL"]),
        ("journal_version", ["PRAGMA user_version = 99"]),
    ],
)
def test_check_finds_what_is_not_sound(weft: Weft, filled: Path, code: str, statements: list[str]) -> None:
    """Each fault is named, and the exit code tells."""
    assert weft("check")[0] == 0
    with contextlib.closing(sqlite3.connect(filled, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)

    ended, out, _ = weft("check", "--json")

    assert ended == 1
    told = json.loads(out)
    assert told["sound"] is False
    assert {problem["code"] for problem in told["problems"]} == {code}
    assert "Not sound" in weft("check")[1]


def test_check_finds_damaged_pages(weft: Weft, filled: Path) -> None:
    """A disk that gave back other bytes is noticed."""
    content = bytearray(filled.read_bytes())
    for at in range(8192, len(content), 512):
        content[at : at + 16] = b"\xff" * 16
    filled.write_bytes(content)

    code, out, err = weft("check")

    assert (code, out[:9]) == (1, "Not sound")
    assert "journal_damaged" in err


def test_check_of_what_is_no_journal(weft: Weft, tmp_path: Path) -> None:
    """A file of another kind is refused."""
    (tmp_path / "letter").write_text("Dear all, " * 1000)

    code, _, err = weft("check", str(tmp_path / "letter"))
    assert (code, "Take an older copy." in err, "restore" in err) == (1, True, False)
    code, _, err = weft("check", str(tmp_path / "nothing"))
    assert (code, "yet" in err) == (4, False)


@pytest.mark.parametrize(
    ("code", "statement"),
    [
        ("journal_altered", "UPDATE weft.documents SET content = content || ' '"),
        ("journal_altered", "UPDATE weft.files SET content = '\\x00'"),
        ("journal_unreadable", "UPDATE weft.records SET payload = '{'"),
        ("journal_size", "UPDATE weft.states SET size = size + 1 WHERE id = 'r2'"),
        ("journal_dangling", "DELETE FROM weft.states WHERE id = 'r3'"),
        ("journal_dangling", "DELETE FROM weft.files"),
        ("journal_dangling", "UPDATE weft.records SET payload = NULL, hash = 'x'"),
    ],
)
def test_check_of_a_database(weft: Weft, database: str, code: str, statement: str) -> None:
    """The same questions are asked of PostgreSQL; that it may lose things is a warning."""
    ended, out, err = weft("check")
    assert (ended, out[:5]) == (0, "Sound")
    assert "fsync is off" in err
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(statement.encode())

    ended, out, _ = weft("check", "--json")

    assert ended == 1
    faults = [problem["code"] for problem in json.loads(out)["problems"] if problem["severity"] == "error"]
    assert code in faults


# ---- move


def test_runs_are_moved_and_go_on(
    weft: Weft, file: Path, elsewhere: Path, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A24: with a database set nothing starts while runs would be left behind; moved, a worker there ends them."""
    (elsewhere / "letters.yaml").write_text(READING)
    command = [sys.executable, "-m", "weft"]
    _output([*command, "run", "letters.yaml", "--detach"])
    monkeypatch.setenv("WEFT_DATABASE_URL", server.database())

    for start in (["run", "letters.yaml"], ["worker", "--until-idle"]):
        refused = subprocess.run([*command, *start], check=False, capture_output=True, text=True)
        assert refused.returncode == 1
        assert "journal_left_behind" in refused.stderr

    assert weft("move", "--dry-run")[1].startswith("Would move to")
    assert file.exists()
    code, out, err = weft("move")
    assert (code, "Moved to 'test" in out, "Runs: 1 ready." in out) == (0, True, True), err
    assert {line.split()[0] for line in err.splitlines()} == {"documents", "runs", "records", "artifacts"}
    assert (file.parent / "journal.db.moved").exists()
    assert weft("move")[0] == 4

    _output([*command, "worker", "--until-idle"])
    told = json.loads(weft("status", "--json")[1])
    assert told["runs"]["succeeded"] == sum(told["runs"].values()) == 1


def test_move_needs_a_database(weft: Weft, filled: Path) -> None:
    """It says how to name one."""
    code, _, err = weft("move")

    assert code == 2
    assert "--to URL" in err


def test_move_hides_the_password(weft: Weft, filled: Path, server: Postgres) -> None:
    """What is told, and the note beside the file, hold no password; as JSON it tells what was carried."""
    url = server.database().replace("weft@", "weft:pa55word-of-mine@")

    code, out, err = weft("move", "--to", url, "--json")

    told = json.loads(out)
    assert (code, told["counts"]["runs"], told["states"]) == (0, 3, {"ready": 1, "waiting": 1, "succeeded": 1})
    note = (filled.parent / "journal.db.moved.txt").read_text()
    assert "pa55word" not in out + err + note
    unreachable = url.replace(str(server.port), "1")
    asyncio.run(_fill(SqliteJournal(filled)))
    assert "pa55word" not in "".join(map(str, weft("move", "--to", unreachable)))
