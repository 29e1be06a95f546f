"""Gates in one SQLite file: how many runs of a key go on, and who comes next."""

from __future__ import annotations

import sqlite3

from weft.journal.base import RunRow
from weft.journal.decisions import must_wait
from weft.journal.sqlite_records import rouse


def queues(connection: sqlite3.Connection, run: RunRow) -> bool:
    """Tell whether a new run has to wait before its gate.

    Raises:
        JournalRefused: It may not even wait.
    """
    if run.gate is None:
        return False
    admitted = connection.execute(
        "SELECT id FROM statuses INDEXED BY statuses_gate WHERE gate = ? AND queued = 0 AND result IS NULL ORDER BY run",
        (run.gate.key,),
    )
    return must_wait(run, [run_id for (run_id,) in admitted], _count(connection, run.gate.key, queued=True))


def to_make_way(connection: sqlite3.Connection, gate: str, new: int) -> str | None:
    """Return the oldest run of a key that has not been cancelled, other than a new one."""
    for queued in (False, True):
        row = connection.execute(
            "SELECT id FROM statuses AS s INDEXED BY statuses_gate WHERE gate = ? AND queued = ? AND result IS NULL"
            " AND run <> ? AND NOT EXISTS (SELECT 1 FROM records WHERE run = s.run AND path = '' AND kind = 'cancel')"
            " ORDER BY run LIMIT 1",
            (gate, queued, new),
        ).fetchone()
        if row is not None:
            return str(row[0])
    return None


def let_in(connection: sqlite3.Connection, gate: str, now: float) -> None:
    """Make those ready that have waited longest, as many as their gate lets through."""
    going_on = _count(connection, gate, queued=False)
    waiting = connection.execute(
        "SELECT run, gate_limit FROM statuses INDEXED BY statuses_gate"
        " WHERE gate = ? AND queued = 1 AND result IS NULL AND state = 'waiting' ORDER BY run",
        (gate,),
    )
    passed: list[int] = []
    for run, limit in waiting:
        if going_on + len(passed) >= limit:
            break
        passed.append(run)
    waiting.close()
    for run in passed:
        rouse(connection, run, now)


def _count(connection: sqlite3.Connection, gate: str, *, queued: bool) -> int:
    (count,) = connection.execute(
        "SELECT count(*) FROM statuses INDEXED BY statuses_gate WHERE gate = ? AND queued = ? AND result IS NULL",
        (gate, queued),
    ).fetchone()
    return int(count)
