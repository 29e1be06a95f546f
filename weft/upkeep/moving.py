"""Carries what lies beside the journal to a database: versions, tokens, audit log, webhooks, stored connections (rule A24).

It goes with `weft journal move`, after it, and may be called again: what is there already, with the same content, is left
as it is, and anything else under the same key is refused before a row is written. The files get another name in the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from weft.errors import JournalRefused
from weft.journal.sqlite_file import failed
from weft.state import metadata
from weft.state.blocking import Blocking

ROOMS: Final = (
    "weft.access.tables",
    "weft.documents.tables",
    "weft.connections.database",
    "weft.webhooks.addresses",
    "weft.webhooks.seen",
)
"""Modules that declare tables."""

STAYS: Final = {
    "weft_layout": "says how the tables of one place are laid out",
    "weft_sessions": "logins, which end with the move",
    "weft_entries": "links and logins under way",
    "weft_document_intents": "writes to files that are under way",
    "weft_outbox": "mails stay in the directory of the home",
    "weft_moved_state": "says what came from elsewhere",
}
"""Tables that are not carried, and why."""

STORE: Final = {"weft_store": "weft_connection_store", "weft_connections": "weft_connections"}
"""Tables of connections.db, and what they are called in a database; the secrets in them stay sealed as they are."""

CHUNK: Final = 500
DEADLINE_S: Final = 600.0

MOVED: Final = sa.Table(
    "weft_moved_state",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
)
"""In a database: what was carried there, by a hash over all of it, so that a call that is repeated finds it done."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Carried:
    """What was carried."""

    rows: dict[str, int]  #: by table; those that were there already count
    files: tuple[Path, ...]  #: what the emptied files are called now


def carry(home: Path, address: str, *, dry_run: bool = False) -> Carried:
    """Carry the tables beside the journal from a home to a database.

    Args:
        home: No process may live on it.
        address: Of the database.
        dry_run: Only count.

    Raises:
        JournalRefused: The database holds something else under the same key. Nothing was written.
        JournalUnavailable: A file cannot be read.
        StateUnavailable: The database failed; call again.
    """
    for room in ROOMS:
        importlib.import_module(room)
    files = left_beside(home)
    sources = [{table.name: rows for table, rows in _read(file)} for file in files]
    counts = {name: len(rows) for source in sources for name, rows in source.items() if rows}
    if dry_run or not files:
        return Carried(counts, ())
    # Whatever was written, it is written again or found done: the transaction may be tried until its deadline.
    Blocking(address).do(lambda connection: _write(connection, sources), writes=True, deadline_s=DEADLINE_S)
    return Carried(counts, tuple(_put_away(file) for file in files))


def left_beside(home: Path) -> list[Path]:
    """Return the files beside the journal that were not carried yet."""
    return [file for name in ("state.db", "connections.db") if (file := home / name).exists()]


def _read(file: Path) -> Iterator[tuple[sa.Table, Sequence[Row]]]:
    """Yield the tables that are carried, with their rows."""
    names = STORE if file.name == "connections.db" else {name: name for name in metadata.tables if name not in STAYS}
    try:
        with contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            for name, theirs in names.items():
                if name in there:
                    table = metadata.tables[theirs]
                    found = [_row(table, each) for each in connection.execute(f"SELECT * FROM {name}")]  # noqa: S608  ours
                    yield table, found
    except sqlite3.Error as error:
        raise failed(file, error, "read") from None


def _row(table: sa.Table, found: sqlite3.Row) -> Row:
    row = {name: found[name] for name in found.keys() if name in table.columns}  # noqa: SIM118  a row is no mapping
    if "one" in table.columns:  # of the store: there is one row
        row["one"] = 1
    return {name: _typed(table.columns[name], value) for name, value in row.items()}


def _typed(column: sa.Column[Any], value: Any) -> Any:
    """Return a value as PostgreSQL wants it: SQLite has no truth values."""
    return bool(value) if isinstance(column.type, sa.Boolean) and value is not None else value


def _write(connection: sa.Connection, sources: Sequence[Mapping[str, Sequence[Row]]]) -> None:
    """Write the rows of all files."""
    connection.execute(sa.text("LOCK TABLE weft_moved_state IN SHARE ROW EXCLUSIVE MODE"))
    for source in sources:
        _write_file(connection, source)


def _write_file(connection: sa.Connection, source: Mapping[str, Sequence[Row]]) -> None:
    digest = _digest(source)
    if connection.execute(sa.select(MOVED).where(MOVED.c.digest == digest)).first() is not None:
        return
    for table in metadata.sorted_tables:
        if rows := source.get(table.name):
            _write_table(connection, table, rows)
    connection.execute(MOVED.insert().values(digest=digest, at=time.time()))


def _digest(source: Mapping[str, Sequence[Row]]) -> str:
    """Return a hash over all rows, whatever their order."""
    rows = sorted(repr((name, sorted(row.items()))) for name, found in source.items() for row in found)
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def _write_table(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    keys = [column.name for column in table.primary_key]
    there = {_key(row, keys): row for row in connection.execute(sa.select(table)).mappings()}
    if table.name == "weft_audit_head" and {row["number"] for row in there.values()} <= {0}:
        connection.execute(table.delete())  # of a log that nobody has written to
        there = {}
    others = [row for row in there.values() if table.name in _WHOLE]
    ours = {_key(row, keys) for row in rows}
    for row in rows:
        known = there.get(_key(row, keys))
        if known is not None and any(_plain(known[name]) != _plain(value) for name, value in row.items()):
            raise _known(table.name, _key(row, keys))
    if any(_key(row, keys) not in ours for row in others):
        raise _known(table.name, ())
    new = [dict(row) for row in rows if _key(row, keys) not in there]
    for i in range(0, len(new), CHUNK):
        connection.execute(table.insert(), new[i : i + CHUNK])


_WHOLE: Final = frozenset({"weft_audit", "weft_connection_store"})
"""Tables that make sense as a whole alone: a chain of hashes, a store with its key."""


def _key(row: Row | sa.RowMapping, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value


def _known(table: str, key: tuple[Any, ...]) -> JournalRefused:
    what = f" {'/'.join(map(str, key))}" if key else ""
    return JournalRefused(
        f"The database has{what} in {table!r} already, with other content. Nothing was moved.",
        code="state_known",
        remedy="Move before anything else works with the database, or take what is in it away.",
    )


def _put_away(file: Path) -> Path:
    kept = file.with_name(f"{file.name}.moved")
    number = 2
    while kept.exists():
        kept, number = file.with_name(f"{file.name}.moved-{number}"), number + 1
    for suffix in ("-wal", "-shm"):
        beside = file.with_name(file.name + suffix)
        if beside.exists():
            beside.rename(kept.with_name(kept.name + suffix))
    return file.rename(kept)
