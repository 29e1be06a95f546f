"""Records and large contents in one SQLite file, and what each of them changes about its run."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator, Sequence

from weft.errors import WeftError
from weft.journal.base import LARGEST_INLINE, Record
from weft.journal.decisions import Key, key
from weft.journal.sqlite_reads import text


def kept_payloads(connection: sqlite3.Connection, run: int, records: Sequence[Record]) -> dict[Key, str]:
    """Return the payloads that stand under the keys of records."""
    kept: dict[Key, str] = {}
    for record in records:
        row = connection.execute(
            "SELECT payload, blob FROM records WHERE run = ? AND path = ? AND n = ? AND kind = ?", (run, *key(record))
        ).fetchone()
        if row is not None:
            kept[key(record)] = text(connection, *row)
    return kept


def insert(connection: sqlite3.Connection, run: int | None, records: Sequence[Record]) -> int:
    """Keep records that are new, and return the bytes of their payloads."""
    connection.executemany(
        "INSERT INTO records(run, path, n, kind, payload, blob) VALUES (?, ?, ?, ?, ?, ?)",
        [(run, *key(record), *_inline(connection, record.payload)) for record in records],
    )
    return sum(len(record.payload) for record in records)


def _inline(connection: sqlite3.Connection, payload: str) -> tuple[str | None, str | None]:
    """Return what stands in the record: the payload, or the hash of the blob that was made of it."""
    if len(payload) <= LARGEST_INLINE:
        return payload, None
    return None, keep_blob(connection, payload.encode())


def keep_blob(connection: sqlite3.Connection, content: bytes) -> str:
    hash_ = hashlib.sha256(content).hexdigest()
    connection.execute("INSERT INTO blobs VALUES (?, ?) ON CONFLICT DO NOTHING", (hash_, content))
    return hash_


def tell(connection: sqlite3.Connection, run: int, record: Record) -> None:
    """Keep a piece of news."""
    size = insert(connection, run, [record])
    connection.execute("UPDATE statuses SET news = news + 1, size = size + ? WHERE run = ?", (size, run))


def rouse(connection: sqlite3.Connection, run: int, now: float) -> None:
    """Make a run ready that rests, or waits before its gate."""
    connection.execute(
        "UPDATE statuses SET state = 'ready', wake_at = NULL, reason = NULL, queued = 0, changed_at = ? WHERE run = ?",
        (now, run),
    )


@contextlib.contextmanager
def undone_if_refused(connection: sqlite3.Connection) -> Iterator[None]:
    """Take back what was written when a refusal comes after it; others may share the transaction."""
    connection.execute("SAVEPOINT piece")
    try:
        yield
    except WeftError:
        connection.execute("ROLLBACK TO piece")
        connection.execute("RELEASE piece")
        raise
    connection.execute("RELEASE piece")
