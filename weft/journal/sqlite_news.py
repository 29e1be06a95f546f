"""What others than its owner do to a run, in one SQLite file."""

from __future__ import annotations

import sqlite3

from weft.journal.base import ENDS, Ended, Record, State, has_ended, unknown_run
from weft.journal.decisions import child_signal, not_parked, wait_for, waits_still
from weft.journal.sqlite_gates import let_in
from weft.journal.sqlite_reads import due, number, text
from weft.journal.sqlite_records import rouse, tell


def cancel(connection: sqlite3.Connection, run_id: str, aim: int | None, now: float) -> int:
    """Cancel a run once more, unless that makes more than `aim` times; return how often it has been."""
    row = connection.execute("SELECT run, state, children FROM statuses WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        raise unknown_run(run_id)
    run, state, children = row
    if state in ENDS:
        raise has_ended(run_id, state)
    times = _cancels(connection, run)
    if times in (2, aim):
        return times
    _cancel_to(connection, run, state, had=times, times=times + 1, now=now)
    if children:
        cancel_children(connection, run_id, times + 1, now)
    return times + 1


def cancel_children(connection: sqlite3.Connection, run_id: str, times: int, now: float) -> None:
    """Cancel the open children of a run, and theirs, until they have been cancelled as often as it."""
    found = connection.execute(
        "SELECT run, id, state, children FROM statuses INDEXED BY statuses_by_parent WHERE parent = ?"
        " AND state IN ('ready', 'running', 'waiting', 'parked')",
        (run_id,),
    ).fetchall()
    for run, child, state, children in found:
        _cancel_to(connection, run, state, had=_cancels(connection, run), times=times, now=now)
        if children:
            cancel_children(connection, child, times, now)


def _cancels(connection: sqlite3.Connection, run: int) -> int:
    (times,) = connection.execute(
        "SELECT count(*) FROM records WHERE run = ? AND path = '' AND kind = 'cancel'", (run,)
    ).fetchone()
    return int(times)


def _cancel_to(connection: sqlite3.Connection, run: int, state: State, *, had: int, times: int, now: float) -> None:
    for n in range(had + 1, times + 1):
        tell(connection, run, Record("", n, "cancel", "{}"))
    if had < times and state in ("waiting", "parked"):
        rouse(connection, run, now)


def signal(connection: sqlite3.Connection, run_id: str, path: str, payload: str, now: float) -> None:
    run, state = _open_run(connection, run_id)
    rows = connection.execute(
        "SELECT n, kind, payload, blob FROM records WHERE run = ? AND path = ?", (run, path)
    ).fetchall()
    found = [(n, kind, text(connection, inline, blob)) for n, kind, inline, blob in rows]
    n = wait_for(run_id, path, payload, found, ended=state in ENDS, now=now)
    if n is not None:
        _answer(connection, run, state, Record(path, n, "signal", payload), now)


def tell_parent(connection: sqlite3.Connection, run: int, run_id: str, parent: str, end: Ended, *, now: float) -> None:
    """Let the step that waits for a child know how that has ended; nothing when it does not wait any more."""
    (path, n) = connection.execute("SELECT parent_path, parent_n FROM statuses WHERE run = ?", (run,)).fetchone()
    answer(connection, parent, Record(path, n, "signal", child_signal(run_id, end.state, end.result)), now)


def answer(connection: sqlite3.Connection, run_id: str, record: Record, now: float) -> None:
    """Answer a wait of an open run, if it is open."""
    row = connection.execute("SELECT run, state FROM statuses WHERE id = ?", (run_id,)).fetchone()
    if row is None or row[1] in ENDS:
        return
    kinds = connection.execute(
        "SELECT kind FROM records WHERE run = ? AND path = ? AND n = ?", (row[0], record.path, record.n)
    ).fetchall()
    if waits_still(kind for (kind,) in kinds):
        run, state = row
        _answer(connection, run, state, record, now)


def _answer(connection: sqlite3.Connection, run: int, state: State, record: Record, now: float) -> None:
    tell(connection, run, record)
    if state == "waiting":
        rouse(connection, run, now)


def _open_run(connection: sqlite3.Connection, run_id: str) -> tuple[int, State]:
    row = connection.execute("SELECT run, state FROM statuses WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        raise unknown_run(run_id)
    run, state = row
    return run, state


def resume(connection: sqlite3.Connection, run_id: str, now: float) -> None:
    row = connection.execute("SELECT run, state, queued, gate FROM statuses WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        raise unknown_run(run_id)
    run, state, queued, gate = row
    if state != "parked":
        raise not_parked(run_id, state)
    if queued:  # it was held for review before it had begun: its gate still decides
        connection.execute(
            "UPDATE statuses SET state = 'waiting', reason = NULL, changed_at = ? WHERE run = ?", (now, run)
        )
        let_in(connection, gate, now)
    else:
        rouse(connection, run, now)
    connection.execute("UPDATE statuses SET crashes = 0 WHERE run = ?", (run,))


def wake(connection: sqlite3.Connection, limit: int, now: float, only: str | None) -> list[str]:
    found = due(connection, limit, now, only)
    for run_id in found:
        rouse(connection, number(connection, run_id), now)
    return found
