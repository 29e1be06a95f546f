"""What is read from the journal in one SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, Final

from weft.journal.base import (
    ENDS,
    LARGEST_RUN,
    OPEN,
    Claim,
    Gate,
    Kept,
    Listed,
    Parent,
    Record,
    RunQuery,
    RunRow,
    Status,
    another_owner,
    too_large,
    unknown_artifact,
    unknown_document,
    unknown_run,
)
from weft.journal.decisions import needles

NEVER: Final = 1e15
"""An instant that no clock shows."""

_LISTED: Final = (
    "SELECT s.id, s.workflow, r.document, r.inputs, r.trigger, s.started_at, r.scheduled_at, r.origin, s.schedule,"
    " s.parent, s.parent_path, s.parent_n, s.gate, s.gate_limit, s.gate_policy,"
    " s.state, s.epoch, s.owner, s.changed_at, s.wake_at, s.news, s.crashes, s.alone, s.size, s.reason, s.result, s.queued"
    " FROM statuses s{} JOIN runs r ON r.run = s.run "
)
"""Columns of a run; what is left open is the index to use: without statistics the planner guesses, and often wrong."""


def number(connection: sqlite3.Connection, run_id: str) -> int:
    """Return the number under which the tables know a run."""
    row = connection.execute("SELECT run FROM statuses WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        raise unknown_run(run_id)
    return int(row[0])


def listed(connection: sqlite3.Connection, run_id: str) -> Listed:
    row = connection.execute(f"{_LISTED.format('')} WHERE s.id = ?", (run_id,)).fetchone()
    if row is None:
        raise unknown_run(run_id)
    return _listed(row)


def _listed(row: tuple[Any, ...]) -> Listed:
    parent, gate = (
        Parent(*row[9:12]) if row[9] is not None else None,
        Gate(*row[12:15]) if row[12] is not None else None,
    )
    *status, alone, size, reason, result, queued = row[15:]
    return Listed(
        RunRow(*(*row[:9], parent, gate)), Status(*(*status, bool(alone), size, reason, result, bool(queued)))
    )


def load(connection: sqlite3.Connection, run_id: str) -> Kept:
    found = listed(connection, run_id)
    if found.status.size > LARGEST_RUN:
        raise too_large(run_id, found.status.size)
    rows = connection.execute(
        "SELECT path, n, kind, payload, blob FROM records WHERE run = ? ORDER BY seq", (number(connection, run_id),)
    )
    records = tuple(
        Record(path, n, kind, text(connection, payload, blob)) for path, n, kind, payload, blob in rows.fetchall()
    )
    return Kept(found.row, found.status, records)


def text(connection: sqlite3.Connection, payload: str | None, blob: str | None) -> str:
    """Return a payload, wherever it is kept."""
    if payload is not None:
        return payload
    content = connection.execute("SELECT content FROM blobs WHERE hash = ?", (blob,)).fetchone()[0]
    return bytes(content).decode()


def confirm(connection: sqlite3.Connection, claim: Claim, owner: str) -> None:
    """Refuse a claim that is not the present one of this owner."""
    row = connection.execute(
        "SELECT 1 FROM statuses WHERE id = ? AND state = 'running' AND epoch = ? AND token = ? AND owner = ?",
        (claim.run_id, claim.epoch, claim.token, owner),
    ).fetchone()
    if row is None:
        raise another_owner(claim.run_id)


def document(connection: sqlite3.Connection, hash_: str) -> str:
    row = connection.execute("SELECT text FROM documents WHERE hash = ?", (hash_,)).fetchone()
    if row is None:
        raise unknown_document(hash_)
    return str(row[0])


def artifact(connection: sqlite3.Connection, run_id: str, name: str) -> bytes:
    row = connection.execute(
        "SELECT content FROM artifacts JOIN blobs USING (hash) WHERE run = ? AND hash = ?",
        (number(connection, run_id), name.removeprefix("sha256:")),
    ).fetchone()
    if row is None:
        raise unknown_artifact(name)
    return bytes(row[0])


# ---- what is to be done
def ready(connection: sqlite3.Connection, limit: int, until: float) -> list[str]:
    rows = connection.execute(
        "SELECT id FROM statuses INDEXED BY statuses_ready WHERE state = 'ready' AND changed_at <= ? ORDER BY changed_at, id LIMIT ?",
        (until, limit),
    )
    return [run_id for (run_id,) in rows]


def due(connection: sqlite3.Connection, limit: int, now: float, only: str | None) -> list[str]:
    """Return the waiting runs whose instant has come."""
    if only is not None:
        found = connection.execute(
            "SELECT id FROM statuses WHERE id = ? AND state = 'waiting' AND wake_at <= ?", (only, now)
        )
    else:
        found = connection.execute(
            "SELECT id FROM statuses INDEXED BY statuses_wake WHERE state = 'waiting' AND wake_at IS NOT NULL AND wake_at <= ?"
            " ORDER BY wake_at, id LIMIT ?",
            (now, limit),
        )
    return [run_id for (run_id,) in found]


def next_wake(connection: sqlite3.Connection) -> float | None:
    row = connection.execute(
        "SELECT wake_at FROM statuses INDEXED BY statuses_wake WHERE state = 'waiting' AND wake_at IS NOT NULL"
        " ORDER BY wake_at LIMIT 1"
    ).fetchone()
    return None if row is None else float(row[0])


def attention(connection: sqlite3.Connection, owner: str) -> dict[str, int]:
    rows = connection.execute(
        "SELECT id, news FROM statuses INDEXED BY statuses_news WHERE state = 'running' AND news > 0 AND owner = ?",
        (owner,),
    )
    return dict(rows.fetchall())


def owners(connection: sqlite3.Connection) -> list[str]:
    """Return the names of all that have a running run."""
    rows = connection.execute("SELECT DISTINCT owner FROM statuses INDEXED BY statuses_running WHERE state = 'running'")
    return [owner for (owner,) in rows]


def owned(connection: sqlite3.Connection, names: Iterable[str]) -> list[Listed]:
    """Return the running runs of some owners."""
    listing = _LISTED.format(" INDEXED BY statuses_running")
    rows = (
        row
        for owner in names
        for row in connection.execute(f"{listing} WHERE s.state = 'running' AND s.owner = ?", (owner,))
    )
    return [_listed(row) for row in rows]


def unfinished(connection: sqlite3.Connection) -> list[Listed]:
    listing = _LISTED.format(" INDEXED BY statuses_by_state")
    rows = (row for state in OPEN for row in connection.execute(f"{listing} WHERE s.state = ?", (state,)))
    return sorted((_listed(row) for row in rows), key=lambda run: (run.row.started_at, run.row.id))


def open_of_schedule(connection: sqlite3.Connection, schedule: str, limit: int) -> list[Listed]:
    """Return the runs of a schedule that have not ended, the oldest first."""
    listing = _LISTED.format(" INDEXED BY statuses_by_schedule")
    rows = (
        row
        for state in OPEN
        for row in connection.execute(
            f"{listing} WHERE s.schedule = ? AND s.state = ? ORDER BY s.started_at, s.id LIMIT ?",
            (schedule, state, limit),
        )
    )
    return sorted((_listed(row) for row in rows), key=lambda run: (run.row.started_at, run.row.id))[:limit]


# ---- lists
def page(connection: sqlite3.Connection, query: RunQuery) -> list[Listed]:
    """Return a page of runs, the youngest first.

    Each state has an index of its own order, so that the page is made of the first few of each.
    """
    states = query.states or (*OPEN, *ENDS)
    found = sorted((each for state in dict.fromkeys(states) for each in _first(connection, query, state)), reverse=True)
    rows = (connection.execute(f"{_LISTED.format('')} WHERE s.run = ?", (run,)) for _, _, run in found[: query.limit])
    return [_listed(row) for each in rows for row in each]


def _narrowest(query: RunQuery) -> str:
    """Return what the index goes by that leaves the fewest runs to look at."""
    facts = {"parent": query.parent, "schedule": query.schedule, "workflow": query.workflow}
    return next((name for name, value in facts.items() if value is not None), "state")


def _first(connection: sqlite3.Connection, query: RunQuery, state: str) -> Iterator[tuple[float, str, int]]:
    where, given = ["s.state = ?"], [state]
    facts: list[tuple[str, Any]] = [
        ("s.workflow = ?", query.workflow),
        ("s.schedule = ?", query.schedule),
        ("s.parent = ?", query.parent),
        ("s.started_at >= ?", query.since),
        ("s.started_at < ?", query.until),
    ]
    for condition, value in facts:
        if value is not None:
            where.append(condition)
            given.append(value)
    if query.before is not None:
        last = listed(connection, query.before).row
        where.append("(s.started_at, s.id) < (?, ?)")
        given += [last.started_at, last.id]  # type: ignore[list-item]  # parameters of several types
    tables = f"statuses s INDEXED BY statuses_by_{_narrowest(query)}"
    if query.text is not None:
        tables += " JOIN runs r ON r.run = s.run"
        columns = "s.id || char(10) || s.workflow || char(10) || r.inputs || char(10) || ifnull(s.result, '')"
        columns += " || char(10) || ifnull(s.reason, '')"
        forms = needles(query.text)
        where.append(f"({' OR '.join([f'instr(lower({columns}), ?)'] * len(forms))})")
        given += forms
    yield from connection.execute(
        f"SELECT s.started_at, s.id, s.run FROM {tables} WHERE {' AND '.join(where)}"  # noqa: S608  conditions are ours
        " ORDER BY s.started_at DESC, s.id DESC LIMIT ?",
        (*given, query.limit),
    )
