"""Is a journal sound? Everything in it is looked at, and nothing is changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, get_args

from weft.errors import NotFound, Problem, WeftError
from weft.journal import sqlite_reads as reads
from weft.journal.base import LARGEST_RUN, Kept, Record, RecordKind, too_large
from weft.journal.health import database, rows
from weft.journal.moving import UNFINISHED
from weft.journal.postgres_life import durability
from weft.journal.postgres_link import Connection
from weft.journal.postgres_queries import ONE, RECORDS, listed
from weft.journal.postgres_schema import NEWEST
from weft.journal.reader import connect
from weft.journal.sqlite_file import advance, failed
from weft.journal.sqlite_schema import MIGRATIONS

SHOWN: Final = 20
"""Faults of one kind that are told one by one."""

KINDS: Final = get_args(RecordKind)


@dataclass(slots=True)
class Checked:
    """What was looked at, and what was found."""

    runs: int = 0
    unfinished: int = 0  #: each of whose records was read as whoever goes on with it reads them
    records: int = 0  #: of those
    documents: int = 0
    artifacts: int = 0  #: and large payloads
    problems: list[Problem] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return all(problem.severity != "error" for problem in self.problems)

    def fault(self, code: str, message: str, remedy: str | None = None) -> None:
        self.problems.append(Problem(code, message, remedy))


_BACKUP: Final = "Put a backup in its place: weft journal restore FILE"
_OLDER_COPY: Final = "Take an older copy."

_DANGLING: Final = {
    "a run without its state": "SELECT run FROM runs WHERE run NOT IN (SELECT run FROM statuses)",
    "a state without its run": "SELECT id FROM statuses WHERE run NOT IN (SELECT run FROM runs)",
    "a run without its document": "SELECT id FROM statuses JOIN runs USING (run) WHERE document NOT IN (SELECT hash FROM documents)",
    "a record without its run": "SELECT path FROM records WHERE run NOT IN (SELECT run FROM statuses)",
    "a record without its payload": "SELECT path FROM records WHERE payload IS NULL"
    " AND (blob IS NULL OR blob NOT IN (SELECT hash FROM blobs))",
    "an artifact without its content": "SELECT hash FROM artifacts WHERE hash NOT IN (SELECT hash FROM blobs)",
    "an artifact without its run": "SELECT hash FROM artifacts WHERE run NOT IN (SELECT run FROM statuses)",
    "a schedule without its document": "SELECT id FROM schedules WHERE document NOT IN (SELECT hash FROM documents)",
    "an occurrence without its schedule": "SELECT key FROM occurrences WHERE schedule NOT IN (SELECT id FROM schedules)",
    "an amount without its run": "SELECT key FROM holds WHERE run IS NOT NULL AND run NOT IN (SELECT run FROM statuses)",
}
"""What refers to something that is not there, in a file."""

_DANGLING_THERE: Final = {
    "a run without its state": "SELECT id FROM weft.runs AS r WHERE NOT EXISTS (SELECT FROM weft.states AS s WHERE s.id = r.id)",
    "a state without its run": "SELECT id FROM weft.states AS s WHERE NOT EXISTS (SELECT FROM weft.runs AS r WHERE r.id = s.id)",
    "a run without its document": "SELECT id FROM weft.runs AS r"
    " WHERE NOT EXISTS (SELECT FROM weft.documents AS d WHERE d.hash = r.document)",
    "a record without its run": "SELECT DISTINCT run_id FROM weft.records AS x"
    " WHERE NOT EXISTS (SELECT FROM weft.states AS s WHERE s.id = x.run_id)",
    "a record without its payload": "SELECT path FROM weft.records AS x WHERE hash IS NOT NULL"
    " AND NOT EXISTS (SELECT FROM weft.payloads AS p WHERE p.run_id = x.run_id AND p.hash = x.hash)",
    "an artifact without its content": "SELECT hash FROM weft.artifacts AS a"
    " WHERE NOT EXISTS (SELECT FROM weft.files AS f WHERE f.hash = a.hash)",
    "an artifact without its run": "SELECT hash FROM weft.artifacts AS a"
    " WHERE NOT EXISTS (SELECT FROM weft.runs AS r WHERE r.id = a.run_id)",
    "a schedule without its document": "SELECT id FROM weft.schedules AS s"
    " WHERE NOT EXISTS (SELECT FROM weft.documents AS d WHERE d.hash = s.document)",
    "an occurrence without its schedule": "SELECT key FROM weft.occurrences AS o"
    " WHERE NOT EXISTS (SELECT FROM weft.schedules AS s WHERE s.id = o.schedule)",
    "an amount without its run": "SELECT key FROM weft.holds AS h WHERE run_id IS NOT NULL"
    " AND NOT EXISTS (SELECT FROM weft.runs AS r WHERE r.id = h.run_id)",
}
"""The same, in a database."""

_STUCK: Final = (
    "SELECT id FROM statuses AS s WHERE queued = 1 AND state = 'waiting'"
    " AND NOT EXISTS (SELECT 1 FROM statuses WHERE gate = s.gate AND queued = 0 AND result IS NULL)"
)
_STUCK_THERE: Final = (
    "SELECT id FROM weft.states AS s WHERE queued AND state = 'waiting'"  # noqa: S608  ours
    f" AND NOT EXISTS (SELECT FROM weft.states AS o WHERE o.gate = s.gate AND NOT o.queued AND o.{UNFINISHED})"
)
"""The runs that wait before a gate at which nobody is whose end would let them through, in a file and in a database."""

_ALTERED_THERE: Final = {
    "document": "SELECT hash FROM weft.documents WHERE encode(sha256(convert_to(content, 'UTF8')), 'hex') <> hash",
    "payload": "SELECT hash FROM weft.payloads WHERE encode(sha256(convert_to(payload, 'UTF8')), 'hex') <> hash",
    "artifact": "SELECT hash FROM weft.files WHERE encode(sha256(content), 'hex') <> hash",
}


# ---- a file
def check_file(file: Path, *, is_copy: bool = False) -> Checked:
    """Check the journal in a file.

    Args:
        file: Of the journal.
        is_copy: It is a backup: what is wrong with it is not mended by putting another in its place.

    Raises:
        NotFound: There is none.
        JournalUnavailable: It cannot be read at all.
    """
    if not file.exists():
        raise NotFound(
            f"There is no journal at {file}.", code="no_journal", remedy="Name the file of a journal or of a backup."
        )
    found = Checked()
    try:
        with contextlib.closing(connect(file)) as connection:
            connection.execute("BEGIN")
            for check in (_check_version, _check_settings, _check_pages):
                if found.sound:  # else every other question may get a wrong answer
                    check(connection, found)
            if found.sound:
                with _newest(connection) as newest:
                    _check_rows(newest, found)
    except sqlite3.OperationalError as error:
        raise failed(file, error, "read") from None
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        found.fault("journal_damaged", f"{file} is no sound journal ({name}).", _BACKUP)
    if is_copy:
        found.problems = [_of_copy(problem) for problem in found.problems]
    return found


@contextlib.contextmanager
def _newest(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Give a connection to the same content in the newest version; an older file itself stays as it is."""
    if connection.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS):
        yield connection
        return
    with (
        tempfile.TemporaryDirectory() as place,
        contextlib.closing(sqlite3.connect(Path(place, "journal.db"), isolation_level=None)) as copy,
    ):
        connection.backup(copy)
        advance(copy, MIGRATIONS)
        yield copy


def _of_copy(problem: Problem) -> Problem:
    return replace(problem, remedy=_OLDER_COPY) if problem.remedy is _BACKUP else problem


def _check_version(connection: sqlite3.Connection, found: Checked) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if not 0 < version <= len(MIGRATIONS):
        message = f"It has version {version}; this Weft knows versions 1 to {len(MIGRATIONS)}."
        found.fault("journal_version", message, "Use the Weft that wrote it.")


def _check_settings(connection: sqlite3.Connection, found: Checked) -> None:
    (commits,) = connection.execute("SELECT commits FROM file").fetchone()
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if mode != "wal" and commits >= 0:  # a backup has no log of its own until it is opened
        found.fault("journal_mode", f"Its journal_mode is {mode}; wal is needed.", "Start Weft once: it sets it.")


def _check_pages(connection: sqlite3.Connection, found: Checked) -> None:
    for (told,) in connection.execute(f"PRAGMA integrity_check({SHOWN})"):
        if told != "ok":
            found.fault("journal_damaged", f"SQLite says: {told}.", _BACKUP)
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        found.fault("journal_dangling", f"Row {row} of {table} refers to a row of {parent} that is not there.", _BACKUP)


def _check_rows(connection: sqlite3.Connection, found: Checked) -> None:
    for what, query in _DANGLING.items():
        _tell_dangling(found, what, [str(name) for (name,) in connection.execute(query)])
    _tell_stuck(found, [run_id for (run_id,) in connection.execute(_STUCK)])
    is_whole = found.sound
    for hash_, text in connection.execute("SELECT hash, text FROM documents"):
        found.documents += 1
        _compare(found, "document", hash_, text.encode())
    for hash_, content in connection.execute("SELECT hash, content FROM blobs"):
        found.artifacts += 1
        _compare(found, "artifact", hash_, bytes(content))
    (found.runs,) = connection.execute("SELECT count(*) FROM statuses").fetchone()
    if not is_whole:
        return
    for (run_id,) in connection.execute(f"SELECT id FROM statuses WHERE {UNFINISHED}").fetchall():  # noqa: S608  ours
        try:
            kept = reads.load(connection, run_id)
        except WeftError as error:
            found.problems += error.problems
        else:
            _check_run(found, kept)


# ---- a database
async def check_database(address: str) -> Checked:
    """Check the journal in a database.

    What SQLite's own check is for a file, PostgreSQL does with its page checksums and `pg_amcheck`; see docs/journal.md.

    Raises:
        NotFound: There is none.
        JournalUnavailable: The database does not answer.
    """
    found = Checked()
    async with database(address) as connection:
        [(version,)] = await rows(connection, "SELECT number FROM weft.version")
        if version != NEWEST:
            message = f"It has version {version}; this Weft works with version {NEWEST}."
            found.fault("journal_version", message, "Start the newest Weft once: it brings it to its own.")
            return found
        for what, query in _DANGLING_THERE.items():
            _tell_dangling(found, what, [name for (name,) in await rows(connection, query)])
        _tell_stuck(found, [run_id for (run_id,) in await rows(connection, _STUCK_THERE)])
        is_whole = found.sound
        for what, query in _ALTERED_THERE.items():
            for (hash_,) in await rows(connection, query):
                found.problems.append(_altered(what, hash_))
        [(found.runs, found.documents, found.artifacts)] = await rows(
            connection,
            "SELECT (SELECT count(*) FROM weft.states), (SELECT count(*) FROM weft.documents),"
            " (SELECT count(*) FROM weft.files) + (SELECT count(*) FROM weft.payloads)",
        )
        if is_whole:
            await _check_runs(connection, found)
        found.problems += await durability(connection)
    return found


async def _check_runs(connection: Connection, found: Checked) -> None:
    for (run_id,) in await rows(connection, f"SELECT id FROM weft.states WHERE {UNFINISHED} ORDER BY id"):  # noqa: S608  ours
        kept = await _kept(connection, run_id)
        if kept is not None:
            _check_run(found, kept)


async def _kept(connection: Connection, run_id: str) -> Kept | None:
    """Return a run with its records, in one state of the database; None when it has gone since, or lacks its other half."""
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        found = await rows(connection, ONE, (run_id,))
        records = await rows(connection, RECORDS, (run_id, run_id, LARGEST_RUN))
    if not found:
        return None
    run = listed(found[0])
    return Kept(run.row, run.status, tuple(Record(*each) for each in records))


# ---- both
def _tell_dangling(found: Checked, what: str, names: Sequence[str]) -> None:
    if names:
        some = ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
        found.fault("journal_dangling", f"There is {what}, {len(names)} times: {some}.", _BACKUP)


def _tell_stuck(found: Checked, ids: Sequence[str]) -> None:
    for run_id in ids[:SHOWN]:
        found.fault(
            "journal_stuck",
            f"Run {run_id!r} waits before a gate at which there is nobody whose end would let it through.",
            f"Cancel it: weft runs cancel {run_id}",
        )


def _compare(found: Checked, what: str, hash_: str, content: bytes) -> None:
    if hashlib.sha256(content).hexdigest() != hash_:
        found.problems.append(_altered(what, hash_))


def _altered(what: str, hash_: str) -> Problem:
    return Problem("journal_altered", f"The content of {what} {hash_} does not have this hash.", _BACKUP)


def _check_run(found: Checked, kept: Kept) -> None:
    """Read all of a run as whoever goes on with it does."""
    found.unfinished += 1
    if kept.status.size > LARGEST_RUN:
        found.problems += too_large(kept.row.id, kept.status.size).problems
        return
    found.records += len(kept.records)
    for what, fault in _faults(kept):
        message = f"Run {kept.row.id!r} holds {what} that cannot be read ({fault})."
        found.fault(
            "journal_unreadable", message, f"Nobody can go on with it; cancel it: weft runs cancel {kept.row.id}"
        )
    size = sum(len(record.payload) for record in kept.records)
    if size != kept.status.size:
        found.fault(
            "journal_size", f"Run {kept.row.id!r} says {kept.status.size:,} bytes, and holds {size:,}.", _BACKUP
        )


def _faults(kept: Kept) -> Iterator[tuple[str, str]]:
    texts: list[tuple[str, str | None]] = [
        ("inputs", kept.row.inputs),
        ("a trigger", kept.row.trigger),
        ("a reason", kept.status.reason),
        *((f"a record {record.kind!r} of {record.path!r} {record.n}", record.payload) for record in kept.records),
    ]
    for what, text in texts:
        if text is not None and (fault := _fault(text)):
            yield what, fault
    for record in kept.records:
        if record.kind not in KINDS:
            yield f"a record of {record.path!r} {record.n}", f"kind {record.kind!r} is not known"


def _fault(text: str) -> str | None:
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        return type(error).__name__
    return None
