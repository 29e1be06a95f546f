"""How a journal is: where it stands, how large it is, what waits in it, and what may harm it.

It is asked from outside: nothing is made, brought to a newer version or claimed, and no process is counted alive for it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from weft.errors import JournalRefused, JournalUnavailable, NotFound, Problem
from weft.journal.base import State
from weft.journal.life import SUFFIX, is_alive
from weft.journal.moving import UNFINISHED, is_sealed, note_of
from weft.journal.reader import connect as connect_to_file
from weft.journal.sqlite_file import failed, is_busy

if TYPE_CHECKING:
    from weft.journal.postgres_link import Connection

HELD_S: Final = 1.0
"""How long nobody else must be able to write before a file is said to be held."""

ALIVE_S: Final = 10.0
"""A process without a beat for so long is not counted among the living."""

OLD_SNAPSHOT_S: Final = 900.0
"""Age of a transaction that is worth a warning: what was removed since cannot be cleared away."""

_WRITE_LOCK: Final = 120
"""The byte of SQLite's `-shm` file that whoever writes has locked (sqlite.org/walformat.html §2.3)."""


@dataclass(frozen=True, slots=True)
class Oldest:
    """The run that has waited longest for its end."""

    run_id: str
    workflow: str
    state: State
    started_at: float


@dataclass(frozen=True, slots=True)
class Held:
    """Another program keeps everybody from writing."""

    last_write: float  #: seconds since 1970 of what was written last; it is held since then at the longest
    pid: int | None = None  #: where the system tells
    program: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of a journal."""

    kind: Literal["sqlite", "postgresql"]
    place: str  #: the file, or the database without user and password
    version: int
    lineage: str  #: changes when the journal is put back to an older state
    runs: Mapping[State, int]
    review: int  #: parked runs that are held for review because of a restore
    oldest: Oldest | None
    size: int  #: bytes
    artifacts: int
    artifact_size: int  #: bytes; a file that several runs hold is there once
    processes: int  #: that are alive
    log_size: int | None = None  #: bytes of the write-ahead log of a file
    log_held: int | None = None  #: bytes of it that a reader's snapshot keeps from being put into the file
    snapshot_s: float | None = None  #: age of the oldest transaction in the database
    held: Held | None = None
    warnings: tuple[Problem, ...] = field(default=())


def no_journal(place_: str, remedy: str) -> NotFound:
    return NotFound(f"There is no journal at {place_} yet.", code="no_journal", remedy=remedy)


def living(file: Path) -> int:
    """Return how many processes are alive on a file; what dead ones left is cleared away."""
    directory = file.resolve().parent / "alive"
    return sum(is_alive(directory, path.name.removesuffix(SUFFIX)) for path in directory.glob(f"*{SUFFIX}"))


def in_use(file: Path, count: int | None) -> JournalRefused:
    who = (
        "Another program writes to it."
        if count is None
        else f"{count} {'process works' if count == 1 else 'processes work'} on it."
    )
    return JournalRefused(
        f"{file} is in use. {who}",
        code="journal_in_use",
        remedy="Stop every weft worker and weft run of this home, then call again.",
    )


# ---- a file
def of_file(file: Path) -> Health:
    """Look at the journal in a file.

    Raises:
        NotFound: There is none.
        JournalUnavailable: It cannot be read.
    """
    if not file.exists():
        moved = f"It was moved: see {note_of(file)}." if note_of(file).exists() else None
        raise no_journal(str(file), moved or "The first run makes it: weft run email-results")
    try:
        with contextlib.closing(connect_to_file(file)) as connection:
            return _of_file(file, connection)
    except sqlite3.Error as error:
        raise failed(file, error, "read") from None


def _of_file(file: Path, connection: sqlite3.Connection) -> Health:
    if is_sealed(connection):
        raise JournalUnavailable(
            f"{file} is being moved to a database, and the move has not come to its end.",
            code="journal_moving",
            remedy="Call `weft journal move` again.",
        )
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version == 0:  # a process is just making it
        raise no_journal(str(file), "Look again in a moment.")
    lineage, commits = connection.execute("SELECT lineage, commits FROM file").fetchone()
    _, log, done = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    page = int(connection.execute("PRAGMA page_size").fetchone()[0])
    oldest = connection.execute(
        f"SELECT id, workflow, state, started_at FROM statuses WHERE {UNFINISHED} ORDER BY started_at, id LIMIT 1"  # noqa: S608  ours
    ).fetchone()
    review = "SELECT count(*) FROM statuses WHERE state = 'parked' AND json_extract(reason, '$.code') = 'restored'"
    artifacts, artifact_size = connection.execute(
        "SELECT (SELECT count(*) FROM artifacts), (SELECT ifnull(sum(length(content)), 0) FROM blobs"
        " WHERE hash IN (SELECT hash FROM artifacts))"
    ).fetchone()
    return Health(
        "sqlite",
        str(file),
        version,
        lineage,
        dict(connection.execute("SELECT state, count(*) FROM statuses GROUP BY state").fetchall()),
        int(connection.execute(review).fetchone()[0]),
        None if oldest is None else Oldest(*oldest),
        _size(file),
        artifacts,
        artifact_size,
        living(file),
        log_size=_size(_beside(file, "-wal")),
        log_held=max(0, log - done) * page,
        held=_held(file),
        warnings=_restored(file, lineage, commits),
    )


def _beside(file: Path, suffix: str) -> Path:
    real = file.resolve()
    return real.with_name(real.name + suffix)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _restored(file: Path, lineage: str, commits: int) -> tuple[Problem, ...]:
    """Tell that the file is a copy of an older state, which the next process that opens it will find (rule A14)."""
    mark = _beside(file, "-mark")
    marked = mark.read_text("ascii", "replace").split() if mark.exists() else []
    is_marked = len(marked) == 2 and marked[1].isdecimal()
    if commits >= 0 and (not is_marked or (marked[0] == lineage and int(marked[1]) <= commits)):
        return ()
    message = "This file was restored from a copy. The next start holds its unfinished runs for review."
    return (Problem("restored", message, "Then look at each: weft runs list --state parked", severity="warning"),)


def _held(file: Path) -> Held | None:
    """Try to write for a while; tell who prevents it (rule A15)."""
    until = time.monotonic() + HELD_S
    with contextlib.closing(sqlite3.connect(file.resolve(), isolation_level=None, timeout=0)) as connection:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
            else:
                return None
            if time.monotonic() > until:
                log = _beside(file, "-wal")
                return Held((log if log.exists() else file).stat().st_mtime, *_holder(file))
            time.sleep(0.02)


def _holder(file: Path) -> tuple[int | None, str | None]:
    """Return the process that has the write lock, by Linux's list of locks: type, mode, pid, device and inode, bytes."""
    shared = _beside(file, "-shm")
    try:
        inode = shared.stat().st_ino
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
        for parts in (line.split() for line in lines):
            is_write = parts[1] == "POSIX" and parts[3] == "WRITE" and parts[5].endswith(f":{inode}")
            if is_write and int(parts[6]) <= _WRITE_LOCK and parts[7] in ("EOF", *map(str, range(_WRITE_LOCK, 128))):
                pid = int(parts[4])
                return pid, Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except (OSError, ValueError, IndexError):  # another system, or one that hides it
        return None, None
    return None, None


# ---- a database
async def of_database(address: str) -> Health:
    """Look at the journal in a database.

    Raises:
        NotFound: There is none.
        JournalUnavailable: The database does not answer.
    """
    async with database(address) as connection:
        return await _of_database(address, connection)


@contextlib.asynccontextmanager
async def database(address: str) -> AsyncIterator[Connection]:
    """A connection to a database that holds a journal.

    Raises:
        NotFound: It holds none.
        JournalUnavailable: It does not answer.
    """
    import psycopg  # noqa: PLC0415  a tenth of a second, of which a file needs nothing

    from weft.journal.postgres_link import connect, place  # noqa: PLC0415  the same

    to = place(address)
    try:
        connection = await connect(address)
        try:
            if not await rows(
                connection, "SELECT true FROM pg_catalog.pg_tables WHERE schemaname = 'weft' AND tablename = 'version'"
            ):
                raise no_journal(to, "The first run makes it: weft run email-results")
            yield connection
        finally:
            await connection.close()
    except (psycopg.Error, OSError) as error:
        raise JournalUnavailable(
            f"The database {to} could not be asked ({type(error).__name__}).",
            remedy="Look whether it runs, can be reached, and lets this user read the schema weft.",
        ) from error


async def rows(connection: Connection, text: str, values: Any = None) -> list[tuple[Any, ...]]:
    return await (await connection.execute(text.encode(), values)).fetchall()


async def _of_database(address: str, connection: Connection) -> Health:
    from weft.journal.postgres_life import durability  # noqa: PLC0415  as above
    from weft.journal.postgres_link import place  # noqa: PLC0415  as above

    [(version,)] = await rows(connection, "SELECT number FROM weft.version")
    states = await rows(connection, "SELECT state, count(*) FROM weft.states GROUP BY state")
    [(review,)] = await rows(
        connection,
        "SELECT count(*) FROM weft.states WHERE state = 'parked' AND reason::json ->> 'code' = 'restored'",
    )
    oldest = await rows(
        connection,
        "SELECT r.id, r.workflow, s.state, r.started_at FROM weft.states AS s JOIN weft.runs AS r USING (id)"  # noqa: S608
        f" WHERE s.{UNFINISHED} ORDER BY s.started_at, s.id LIMIT 1",
    )
    [facts] = await rows(connection, _FACTS, (ALIVE_S,))
    lineage, size, artifacts, artifact_size, processes, snapshot_s = facts
    found = await durability(connection)
    if snapshot_s is not None and snapshot_s > OLD_SNAPSHOT_S:
        found.append(
            Problem(
                "old_snapshot",
                f"A transaction is open for {snapshot_s:,.0f} seconds; until it ends, nothing that was removed since can be "
                "cleared away.",
                "Look for it in pg_stat_activity, and end it.",
                severity="warning",
            )
        )
    return Health(
        "postgresql",
        place(address),
        version,
        lineage,
        dict(states),
        review,
        Oldest(*oldest[0]) if oldest else None,
        size,
        artifacts,
        artifact_size,
        processes,
        snapshot_s=snapshot_s,
        warnings=tuple(found),
    )


_FACTS: Final = """
SELECT (SELECT system_identifier::text FROM pg_control_system()) || '/' || (SELECT timeline_id FROM pg_control_checkpoint()),
    (SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_catalog.pg_class AS c
        WHERE c.relnamespace = 'weft'::regnamespace AND c.relkind = 'r'),
    (SELECT count(*) FROM weft.artifacts), (SELECT coalesce(sum(octet_length(content)), 0)::bigint FROM weft.files),
    (SELECT count(*) FROM weft.processes WHERE at > clock_timestamp() - make_interval(secs => %s)),
    (SELECT max(extract(epoch FROM clock_timestamp() - xact_start))::float8 FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL))
"""
