"""Schedules in PostgreSQL: decided on one after another, under the lock of their row (rule A23)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

from weft.journal.base import (
    ENDS,
    LARGEST_QUEUE,
    Occurrence,
    OccurrenceQuery,
    RunRow,
    Schedule,
    ScheduleMove,
    ScheduleView,
)
from weft.journal.decisions import known_occurrence
from weft.journal.postgres_life import Life
from weft.journal.postgres_link import Connection, Statement, together, transaction
from weft.journal.postgres_moves import cancelled, submitted
from weft.journal.postgres_needs import Needs, NeedsMore, locking
from weft.journal.postgres_queries import LISTED, listed
from weft.journal.postgres_rows import DOCUMENTS, New, Wanted, columns
from weft.journal.postgres_turn import CHANNEL, Enqueue, Piece, Turn

Think = Callable[[ScheduleView], ScheduleMove | None]

_COLUMNS: Final = "id, workflow, source, spec, document, watermark, next_at, fire_at, paused, retired"
_OCCURRENCE: Final = "schedule, key, at, fate, decided_at, reason, run_id, count"
_YOUNGEST: Final = "at DESC, schedule DESC, key DESC"

_LOCK: Final = f"SELECT {_COLUMNS} FROM weft.schedules WHERE id = %s FOR UPDATE"  # noqa: S608  constants

_OPEN: Final = f"""
{LISTED} WHERE s.schedule = %s AND s.state IN ('ready', 'running', 'waiting', 'parked')
ORDER BY s.started_at, s.id LIMIT {LARGEST_QUEUE}
"""
_KNOWN: Final = "SELECT key FROM weft.occurrences WHERE schedule = %s AND key = ANY(%s)"
_NOW: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"

_PUT: Final = f"""
INSERT INTO weft.schedules ({_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET workflow = excluded.workflow, source = excluded.source, spec = excluded.spec,
    document = excluded.document, watermark = excluded.watermark, next_at = excluded.next_at,
    fire_at = excluded.fire_at, paused = excluded.paused, retired = excluded.retired
"""  # noqa: S608  constants

_DECIDE: Final = f"""
INSERT INTO weft.occurrences ({_OCCURRENCE})
SELECT * FROM unnest(%s::text[], %s::text[], %s::float8[], %s::text[], %s::float8[], %s::text[], %s::text[], %s::integer[])
ON CONFLICT (schedule, key) DO NOTHING RETURNING schedule, key
"""  # noqa: S608  constants

ALL: Final = f"SELECT {_COLUMNS} FROM weft.schedules ORDER BY workflow, id"  # noqa: S608  constants
_IS_DUE: Final = "NOT paused AND NOT retired AND fire_at IS NOT NULL"
DUE: Final = f"""
SELECT id FROM weft.schedules WHERE {_IS_DUE} AND fire_at <= extract(epoch FROM now())::float8
ORDER BY fire_at, id LIMIT %s
"""  # noqa: S608  constants
NEXT: Final = f"SELECT min(fire_at) FROM weft.schedules WHERE {_IS_DUE}"  # noqa: S608  constants


async def decide(
    connection: Connection, id_: str, think: Think, keys: Sequence[str], *, life: Life, enqueue: Enqueue | None
) -> ScheduleMove | None:
    """Let `think` decide under the lock of the schedule, and do what it says in the same transaction.

    Raises:
        JournalRefused: Something of it cannot be done; nothing was.
        NotFound: A document is not kept.
    """
    async with transaction(connection):
        # A schedule that is not there yet has no row to lock.
        await together(connection, locking("schedule", [id_], waits=True))
        found, open_, known, [[now]] = await together(
            connection, (_LOCK, (id_,)), (_OPEN, (id_,)), (_KNOWN, (id_, list(keys))), (_NOW, ())
        )
        schedule = Schedule(*found[0]) if found else None
        view = ScheduleView(schedule, now, tuple(map(listed, open_)), frozenset(key for (key,) in known))
        move = think(view)
        if move is not None:
            await _do(connection, move, life, enqueue)
        return move


async def _do(connection: Connection, move: ScheduleMove, life: Life, enqueue: Enqueue | None) -> None:
    await _keep_occurrences(connection, move.occurrences)  # first: who is late is told of them, not of their runs
    await _submit_and_cancel(connection, move, life, enqueue)
    schedule = move.schedule
    await together(
        connection,
        (DOCUMENTS, ([schedule.document],)),  # it stays, from now on
        (
            _PUT,
            (
                schedule.id,
                schedule.workflow,
                schedule.source,
                schedule.spec,
                schedule.document,
                schedule.watermark,
                schedule.next_at,
                schedule.fire_at,
                schedule.paused,
                schedule.retired,
            ),
        ),
        ("SELECT pg_notify(%s, '')", (CHANNEL,)),
    )


async def _keep_occurrences(connection: Connection, occurrences: Sequence[Occurrence]) -> None:
    if not occurrences:
        return
    [rows] = await together(connection, (_DECIDE, columns([_values(each) for each in occurrences])))
    new = set(rows)
    for each in occurrences:
        if (each.schedule, each.key) not in new:
            raise known_occurrence(each.schedule, each.key)
        new.remove((each.schedule, each.key))


async def _submit_and_cancel(connection: Connection, move: ScheduleMove, life: Life, enqueue: Enqueue | None) -> None:
    pieces = [_cancellation(run_id) for run_id in move.cancels] + [_submission(run) for run in move.runs]
    while pieces:
        await connection.execute("SAVEPOINT moved")
        try:
            await Turn(connection, pieces, life, enqueue=enqueue, waits=True).join()
        except NeedsMore:  # it is noted in the pieces; the locks are given back, to be taken in their order
            await connection.execute("ROLLBACK TO SAVEPOINT moved")
        else:
            return


def _submission(run: RunRow) -> Piece:
    new = New(run, secrets.token_hex(16))
    needs = Needs(gates={run.gate.key}) if run.gate else None
    return Piece(run.id, lambda turn: submitted(turn, new), new=[new], needs=needs)


def _cancellation(run_id: str) -> Piece:
    def decide(turn: Turn) -> None:
        row = turn.row(run_id)
        if row is not None and row.state not in ENDS:
            cancelled(turn, run_id)

    return Piece(run_id, decide, [Wanted("", None, "cancel")], needs=Needs())


def _values(each: Occurrence) -> tuple[Any, ...]:
    return each.schedule, each.key, each.at, each.fate, each.decided_at, each.reason, each.run_id, each.count


def listing(query: OccurrenceQuery) -> Statement:
    """Return the statement that lists what a query asks for."""
    clauses, values = ["true"], []
    for clause, value in (
        ("schedule = %s", query.schedule),
        ("schedule IN (SELECT id FROM weft.schedules WHERE workflow = %s)", query.workflow),
        ("fate = ANY(%s)", list(query.fates) or None),
        ("at >= %s", query.since),
        ("at < %s", query.until),
    ):
        if value is not None:
            clauses.append(clause)
            values.append(value)
    where = " AND ".join(clauses)
    text = f"SELECT {_OCCURRENCE} FROM weft.occurrences WHERE {where} ORDER BY {_YOUNGEST} LIMIT %s"  # noqa: S608  constants
    return text, [*values, query.limit]
