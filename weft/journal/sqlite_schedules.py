"""Schedules in one SQLite file: whoever decides about one is alone with it, as every writer is alone with the file."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from weft.journal.base import (
    ENDS,
    LARGEST_QUEUE,
    Occurrence,
    OccurrenceQuery,
    Schedule,
    ScheduleMove,
    ScheduleView,
    Status,
)
from weft.journal.decisions import known_occurrence, unknown_since
from weft.journal.sqlite_news import cancel
from weft.journal.sqlite_reads import NEVER, open_of_schedule
from weft.journal.sqlite_records import undone_if_refused
from weft.journal.sqlite_writes import keep_run

_COLUMNS = "id, workflow, source, spec, document, watermark, next_at, fire_at, paused, retired"
_ALL = f"SELECT {_COLUMNS} FROM schedules INDEXED BY schedules_by_workflow ORDER BY workflow, id"  # noqa: S608  ours
_OCCURRENCE = "o.schedule, o.key, o.at, o.fate, o.decided_at, o.reason, o.run_id, o.count"


def decide(
    connection: sqlite3.Connection,
    id_: str,
    think: Callable[[ScheduleView], ScheduleMove | None],
    keys: Sequence[str],
    now: float,
) -> ScheduleMove | None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM schedules WHERE id = ?", (id_,)).fetchone()  # noqa: S608  ours
    known = frozenset(key for key in keys if _is_known(connection, id_, key))
    going_on = open_of_schedule(connection, id_, LARGEST_QUEUE)
    move = think(ScheduleView(None if row is None else _schedule(row), now, tuple(going_on), known))
    if move is not None:
        with undone_if_refused(connection):
            _do(connection, move, now)
    return move


def _do(connection: sqlite3.Connection, move: ScheduleMove, now: float) -> None:
    keep(connection, move.schedule)
    for occurrence in move.occurrences:
        if _is_known(connection, occurrence.schedule, occurrence.key):
            raise known_occurrence(occurrence.schedule, occurrence.key)
        keep_occurrence(connection, occurrence)
    for run_id in move.cancels:
        row = connection.execute("SELECT state FROM statuses WHERE id = ?", (run_id,)).fetchone()
        if row is not None and row[0] not in ENDS:
            cancel(connection, run_id, None, now)
    for run in move.runs:
        keep_run(connection, run, (), Status("ready", 0, "", now), secrets.token_hex(16))


def keep(connection: sqlite3.Connection, each: Schedule) -> None:
    connection.execute(
        f"INSERT OR REPLACE INTO schedules({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608  ours
        (
            *(each.id, each.workflow, each.source, each.spec, each.document),
            *(each.watermark, each.next_at, each.fire_at, each.paused, each.retired),
        ),
    )


def keep_occurrence(connection: sqlite3.Connection, each: Occurrence) -> None:
    """Keep what became of an instant, unless that is known."""
    connection.execute(
        "INSERT OR IGNORE INTO occurrences VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (each.schedule, each.key, each.at, each.fate, each.decided_at, each.reason, each.run_id, each.count),
    )


def _is_known(connection: sqlite3.Connection, id_: str, key: str) -> bool:
    found = connection.execute("SELECT 1 FROM occurrences WHERE schedule = ? AND key = ?", (id_, key))
    return found.fetchone() is not None


def _schedule(row: tuple[Any, ...]) -> Schedule:
    *facts, paused, retired = row
    return Schedule(*(*facts, bool(paused), bool(retired)))


def schedules(connection: sqlite3.Connection) -> list[Schedule]:
    return [_schedule(row) for row in connection.execute(_ALL)]


def due(connection: sqlite3.Connection, limit: int, now: float) -> list[str]:
    rows = connection.execute(
        "SELECT id FROM schedules INDEXED BY schedules_due"
        " WHERE fire_at IS NOT NULL AND paused = 0 AND retired = 0 AND fire_at <= ? ORDER BY fire_at, id LIMIT ?",
        (now, limit),
    )
    return [id_ for (id_,) in rows]


def next_due(connection: sqlite3.Connection) -> float | None:
    row = connection.execute(
        "SELECT fire_at FROM schedules INDEXED BY schedules_due"
        " WHERE fire_at IS NOT NULL AND paused = 0 AND retired = 0 ORDER BY fire_at LIMIT 1"
    ).fetchone()
    return None if row is None else float(row[0])


def occurrences(connection: sqlite3.Connection, query: OccurrenceQuery) -> list[Occurrence]:
    facts: list[tuple[str, Any]] = [
        ("o.schedule = ?", query.schedule),
        ("o.schedule IN (SELECT id FROM schedules WHERE workflow = ?)", query.workflow),
        ("o.at >= ?", query.since),
        ("o.at < ?", NEVER if query.until is None else query.until),
    ]
    where = [condition for condition, value in facts if value is not None]
    given = [value for _, value in facts if value is not None]
    if query.fates:
        where.append(f"o.fate IN ({', '.join('?' * len(query.fates))})")
        given += query.fates
    index = "occurrences_by_time" if query.schedule is None else "occurrences_of_schedule"
    rows = connection.execute(
        f"SELECT {_OCCURRENCE} FROM occurrences o INDEXED BY {index} WHERE {' AND '.join(where)}"  # noqa: S608  ours
        " ORDER BY o.at DESC, o.schedule DESC, o.key DESC LIMIT ?",
        (*given, query.limit),
    )
    return [Occurrence(*row) for row in rows]


def hold_for_review(connection: sqlite3.Connection, now: float) -> None:
    """Let no instant fire that may have fired after the copy was made from which the journal was restored (rule A14)."""
    for each in schedules(connection):
        if not each.retired:
            connection.execute("UPDATE schedules SET watermark = ? WHERE id = ?", (max(now, each.watermark), each.id))
            if not each.paused:
                keep_occurrence(connection, unknown_since(each, now))
