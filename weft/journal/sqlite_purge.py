"""What is removed from the journal in one SQLite file when it is old."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from weft.journal.base import Purged
from weft.journal.sqlite_meters import forget


def purge(connection: sqlite3.Connection, before: float, limit: int, *, now: float) -> Purged:
    """Remove old runs; the last of several that need a document or a blob takes it along."""
    (doubtful,) = connection.execute(
        "SELECT count(*) FROM statuses INDEXED BY statuses_ended WHERE result IS NOT NULL AND doubt = 1 AND changed_at < ?",
        (before,),
    ).fetchone()
    gone = connection.execute(
        "SELECT run, id, trigger, document FROM statuses INDEXED BY statuses_ended JOIN runs USING (run)"
        " WHERE result IS NOT NULL AND doubt = 0 AND changed_at < ? ORDER BY changed_at LIMIT ?",
        (before, limit),
    ).fetchall()
    runs = [(run,) for run, *_ in gone]
    spent = [(run_id,) for _, run_id, trigger, _ in gone if trigger != "null"]
    connection.executemany("INSERT INTO spent VALUES (?)", spent)
    blobs = _blobs(connection, runs)
    records = connection.executemany("DELETE FROM records WHERE run = ?", runs).rowcount
    artifacts = connection.executemany("DELETE FROM artifacts WHERE run = ?", runs).rowcount
    connection.executemany("DELETE FROM statuses WHERE run = ?", runs)
    connection.executemany("DELETE FROM runs WHERE run = ?", runs)
    connection.executemany(
        "DELETE FROM blobs WHERE hash = ?1 AND NOT EXISTS (SELECT 1 FROM records WHERE blob = ?1)"
        " AND NOT EXISTS (SELECT 1 FROM artifacts WHERE hash = ?1)",
        blobs,
    )
    documents = connection.executemany(
        "DELETE FROM documents WHERE hash = ?1 AND NOT EXISTS (SELECT 1 FROM runs WHERE document = ?1)"
        " AND NOT EXISTS (SELECT 1 FROM schedules WHERE document = ?1)",
        sorted({(document,) for *_, document in gone}),
    ).rowcount
    forget(connection, runs, before, now)
    _forget_occurrences(connection, before, limit)
    kept = {"doubt": doubtful} if doubtful else {}
    return Purged(len(runs), max(records, 0), max(documents, 0), max(artifacts, 0), kept)


def _forget_occurrences(connection: sqlite3.Connection, before: float, limit: int) -> None:
    """Remove what was decided long ago, for good, about instants whose runs have gone."""
    connection.execute(
        "DELETE FROM occurrences WHERE (schedule, key) IN (SELECT o.schedule, o.key"
        " FROM occurrences o INDEXED BY occurrences_decided JOIN schedules s ON s.id = o.schedule WHERE o.decided_at < ?"
        " AND o.at <= s.watermark AND NOT EXISTS (SELECT 1 FROM statuses WHERE id = o.run_id) LIMIT ?)",
        (before, limit),
    )


def _blobs(connection: sqlite3.Connection, runs: Sequence[tuple[int]]) -> list[tuple[str]]:
    """Return the hashes of all blobs that runs refer to."""
    found = {
        row
        for run in runs
        for row in connection.execute(
            "SELECT blob FROM records WHERE run = ?1 AND blob IS NOT NULL UNION ALL SELECT hash FROM artifacts WHERE run = ?1",
            run,
        )
    }
    return sorted(found)
