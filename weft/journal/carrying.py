"""Carries a journal from the file in the home to a database (rule A24).

A move is one transaction of the database, under the write lock of the file. Between the last row and the database's
COMMIT the file is sealed: from then on no process can write to it. So a move that is cut off anywhere has either not
happened, or nothing runs on either side until it is called again; the database remembers which file it has taken in.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql

from weft.errors import JournalRefused, JournalUnavailable, NotFound
from weft.journal.base import State
from weft.journal.carried import TABLES, Source, Table, locked
from weft.journal.moving import note_of
from weft.journal.postgres_group import described
from weft.journal.postgres_link import Connection, connect, place
from weft.journal.postgres_turn import CHANNEL, Enqueue
from weft.journal.sqlite_file import failed

Progress = Callable[[str, int, int], None]
"""Told what is being carried, how many of how many are there; `sealed` and `committed` are its last words."""

_LOG = logging.getLogger("weft.journal")

CHUNK: Final = 1_000
"""Rows that are compared, or runs that are enqueued, at a time."""


class Moved(NamedTuple):
    """What was carried, or would be."""

    place: str  #: the database
    counts: dict[str, int]  #: rows by table
    states: dict[State, int]  #: runs by the state in which they arrive
    released: int  #: runs whose process was gone
    held: bool  #: the file was restored from a copy, so that its unfinished runs are held for review
    file: Path | None  #: where the sealed file is; None: nothing was moved, this was a rehearsal
    again: bool = False  #: an earlier call had carried it all; this one did what was left


async def move(
    file: Path,
    address: str,
    enqueue: Enqueue | None,
    *,
    unfinished_only: bool = False,
    dry_run: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> Moved:
    """Carry the journal in a file to a database that has the journal's tables, and seal the file.

    Cut off at any point, it may be called again.

    Args:
        file: Of the embedded journal.
        address: Of the database.
        enqueue: Makes jobs of the runs that are ready.
        unfinished_only: Carry what has not ended, and what guards against repetition; the rest stays in the sealed file.
        dry_run: Change nothing.
        progress: Told how far it is.

    Raises:
        NotFound: There is no such file.
        JournalRefused: A process is alive on the file, or what it holds is in the database in part.
        JournalUnavailable: The file or the database failed; call again.
    """
    _require(file)
    to = place(address)
    try:
        with locked(file, rehearsal=dry_run) as source:
            source.choose(unfinished_only=unfinished_only)
            async with _target(address) as target:
                moved = await _carry(source, target, to, enqueue, dry_run=dry_run, progress=progress)
    except sqlite3.Error as error:
        raise failed(file, error, "moved") from None
    except (psycopg.Error, OSError) as error:
        _LOG.error("journal_move_failed %s %s", to, described(error))
        raise JournalUnavailable(
            f"The move to {to} was cut off ({described(error)}).",
            code="journal_moving",
            remedy="Call `weft journal move` again; until it has come to its end, nothing runs twice.",
        ) from error
    return moved if dry_run else moved._replace(file=_put_away(file, to, moved))


def _require(file: Path) -> None:
    if not file.exists():
        before = f"It was moved before: see {note_of(file)}." if note_of(file).exists() else None
        raise NotFound(f"There is no journal at {file}.", code="no_journal", remedy=before)


async def _carry(
    source: Source, target: Connection, to: str, enqueue: Enqueue | None, *, dry_run: bool, progress: Progress
) -> Moved:
    counts = source.counts()
    moved = Moved(to, counts, source.states(), source.released, source.held, None)
    if dry_run and not await _has_tables(target):
        return moved
    if await _has_taken_in(source, target, to):
        return moved._replace(again=True)
    await _refuse_known(source, target)
    if dry_run:
        return moved
    told = [await _copied(table, source, target, counts.get(table.name, 0), progress) for table in TABLES]
    for table, ours in zip(TABLES, told, strict=True):
        theirs = await _read_back(table, source, target, ours.rows, progress) if table.is_compared else ours
        if ours != theirs:
            raise JournalRefused(
                f"What {to} holds of {table.name!r} is not what was carried there: {ours.rows} rows here, "
                f"{theirs.rows} there. Nothing was moved.",
                code="journal_altered",
                remedy="Look whether a trigger or a rule of the database changes what is written.",
            )
    for some in _chunks(source.ids("ready")):
        if enqueue is not None:
            await enqueue(target, some)
    await target.execute(
        "INSERT INTO weft.moved (lineage, commits, at) VALUES (%s, %s, extract(epoch FROM now())::float8)",
        (source.lineage, source.commits),
    )
    await target.execute("SELECT pg_notify(%s, '')", (CHANNEL,))
    source.seal(to)
    progress("sealed", 1, 1)
    await target.execute("COMMIT")
    progress("committed", 1, 1)
    return moved


async def _has_tables(target: Connection) -> bool:
    [found] = await (await target.execute("SELECT to_regclass('weft.moved') IS NOT NULL")).fetchall()
    return bool(found[0])


async def _has_taken_in(source: Source, target: Connection, to: str) -> bool:
    """Tell whether the database has this very file already: its last answer was lost.

    Raises:
        JournalRefused: The file was being moved elsewhere, or is a copy of one that was moved.
    """
    if source.sealed_for not in (None, to):
        raise JournalRefused(
            f"{source.file} is being moved to {source.sealed_for}, not to {to}.",
            code="journal_moving",
            remedy=f"Call `weft journal move` for {source.sealed_for}.",
        )
    found = await target.execute("SELECT commits FROM weft.moved WHERE lineage = %s", (source.lineage,))
    row = await found.fetchone()
    if row is not None and source.sealed_for is None:
        raise JournalRefused(
            f"{to} has taken in this journal before; {source.file} is a copy of it, and may hold other things since.",
            code="journal_moved",
            remedy="Move the copy away: what it held when it was moved is in the database.",
        )
    return row is not None


async def _refuse_known(source: Source, target: Connection) -> None:
    """Refuse to carry runs that the database knows from elsewhere."""
    known: list[str] = []
    for some in _chunks(source.ids()):
        found = await target.execute(
            "SELECT id FROM weft.runs WHERE id = ANY(%(ids)s) UNION SELECT id FROM weft.spent WHERE id = ANY(%(ids)s)",
            {"ids": some},
        )
        known += [run_id for (run_id,) in await found.fetchall()]
    if known:
        raise JournalRefused(
            f"The database knows {len(known)} of these runs already, from elsewhere: {', '.join(sorted(known)[:3])}"
            f"{' ...' if len(known) > 3 else ''}. Nothing was moved.",
            code="known_run",
            remedy="Cancel or purge them on one of both sides, then call again.",
        )


def _put_away(file: Path, to: str, moved: Moved) -> Path:
    """Rename the sealed file, and leave a note."""
    real = file.resolve()
    names = (
        real.with_name(f"{real.name}.moved{number}")
        for number in itertools.chain([""], map("-{}".format, itertools.count(2)))
    )
    kept = next(name for name in names if not name.exists())
    note_of(real).write_text(
        f"The runs of {real.name} were moved to the database {to} on {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC.\n"
        f"{kept.name} is what the file held; nothing runs in it any more. Keep it for as long as you like.\n"
        f"Carried: {', '.join(f'{count} {name}' for name, count in moved.counts.items())}.\n",
        encoding="utf-8",
    )
    real.rename(kept)
    real.with_name(f"{real.name}-mark").unlink(missing_ok=True)
    return kept


# ---- the database
@contextlib.asynccontextmanager
async def _target(address: str) -> AsyncIterator[Connection]:
    """One transaction of the database; left without COMMIT, nothing of it counts."""
    connection = await connect(address)
    try:
        await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        await connection.execute(
            "SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '10s', true),"
            " set_config('idle_in_transaction_session_timeout', '0', true)"
        )
        yield connection
    finally:
        await connection.close()


@dataclass(slots=True)
class _Digest:
    """Counts rows, and sums their hashes, so that their order is of no account."""

    rows: int = 0
    total: int = 0

    def add(self, row: Sequence[Any]) -> None:
        hash_ = hashlib.sha256()
        for value in row:
            data = value if isinstance(value, bytes) else (value if isinstance(value, str) else repr(value)).encode()
            hash_.update(f"{type(value).__name__} {len(data)} ".encode())
            hash_.update(data)
        self.rows += 1
        self.total = (self.total + int.from_bytes(hash_.digest())) % 2**256


async def _copied(table: Table, source: Source, target: Connection, whole: int, progress: Progress) -> _Digest:
    """Write the rows of a table to the database."""
    digest = _Digest()
    into, columns = sql.SQL("weft." + table.name), sql.SQL(table.columns)
    if table.shared:  # rows that others may have put there, and that are the same then
        await target.execute(
            sql.SQL("CREATE TEMP TABLE {} (LIKE {}) ON COMMIT DROP").format(sql.Identifier(f"new_{table.name}"), into)
        )
        into = sql.SQL(f"new_{table.name}")
    async with target.cursor() as cursor, cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(into, columns)) as copy:
        for row in source.rows(table):
            await copy.write_row(row)
            digest.add(row[: len(row) - table.own])
            if digest.rows % CHUNK == 0:
                progress(table.name, digest.rows, whole)
    if table.shared:
        await target.execute(
            sql.SQL("INSERT INTO {} ({columns}) SELECT {columns} FROM {} ON CONFLICT {} DO {}").format(
                sql.SQL("weft." + table.name),
                into,
                sql.SQL("" if table.known == "NOTHING" else f"({table.key})"),
                sql.SQL(table.known),
                columns=columns,
            )
        )
    progress(table.name, digest.rows, whole or digest.rows)
    return digest


async def _read_back(table: Table, source: Source, target: Connection, whole: int, progress: Progress) -> _Digest:
    """Return what the database says that it was given."""
    digest = _Digest()
    for some in _chunks(source.keys(table)):
        async with target.cursor(f"back_{table.name}") as cursor:
            lock = " FOR KEY SHARE" if table.shared else ""  # what is removed meanwhile would be missed
            await cursor.execute(
                f"SELECT {table.columns} FROM weft.{table.name} WHERE {table.key} = ANY(%s){lock}".encode(),  # noqa: S608
                (some,),
            )
            async for row in cursor:
                digest.add(row[: len(row) - table.own])
        progress("compared", digest.rows, whole)
    return digest


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while some := list(itertools.islice(rest, CHUNK)):
        yield some
