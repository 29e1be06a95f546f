"""What is written to the journal in one SQLite file; each function is all of its transaction, or a part of a larger one.

A function that refuses has not written anything: others may share its transaction.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence

from weft.journal.base import (
    ENDS,
    LARGEST_INLINE,
    Claim,
    Ended,
    Purged,
    Record,
    RunRow,
    State,
    Status,
    Then,
    another_owner,
    behind,
    has_ended,
    known_already,
    not_ready,
    unknown_document,
    unknown_run,
)
from weft.journal.decisions import Key, is_done, key, not_parked, not_running, poison, unlike, wait_for
from weft.journal.sqlite_reads import due, number, text


def keep_document(connection: sqlite3.Connection, hash_: str, content: str) -> None:
    connection.execute("INSERT INTO documents VALUES (?, ?) ON CONFLICT DO NOTHING", (hash_, content))


def keep_run(
    connection: sqlite3.Connection, run: RunRow, records: Sequence[Record], status: Status, token: str
) -> None:
    """Keep a new run; one with this token is here already, because the answer to the same call was lost."""
    known = connection.execute(
        "SELECT token FROM statuses WHERE id = ?1 UNION ALL SELECT '' FROM spent WHERE id = ?1", (run.id,)
    ).fetchone()
    if known is not None:
        if known[0] == token:
            return
        raise known_already(run.id)
    if connection.execute("SELECT 1 FROM documents WHERE hash = ?", (run.document,)).fetchone() is None:
        raise unknown_document(run.document)
    size = sum(len(record.payload) for record in records)
    about = run.id, run.workflow, run.started_at, status.state, status.epoch, token, status.owner, status.changed_at
    number_ = connection.execute(
        "INSERT INTO statuses(id, workflow, started_at, state, epoch, token, owner, changed_at, size, claimed_size)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*about, size, size),
    ).lastrowid
    connection.execute(
        "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?)",
        (number_, run.document, run.inputs, run.trigger, run.scheduled_at, run.origin),
    )
    _insert(connection, number_, records)
    if run.origin is not None:
        connection.execute(
            "INSERT INTO artifacts SELECT ?, hash FROM artifacts WHERE run = (SELECT run FROM statuses WHERE id = ?)",
            (number_, run.origin),
        )


def claim(connection: sqlite3.Connection, wanted: Claim, owner: str, now: float, *, alone: bool) -> Claim:
    """Claim a run under the token of `wanted`; what that token has claimed already it keeps."""
    run_id = wanted.run_id
    row = connection.execute("SELECT state, epoch, token FROM statuses WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        raise unknown_run(run_id)
    state, epoch, token = row
    if state == "running" and token == wanted.token:
        return Claim(run_id, epoch, token)
    if state in ENDS:
        raise has_ended(run_id, state)
    if state != "ready":
        raise not_ready(run_id, state)
    connection.execute(
        "UPDATE statuses SET state = 'running', epoch = ?, token = ?, owner = ?, changed_at = ?, alone = ?,"
        " claimed_size = size WHERE id = ?",
        (epoch + 1, wanted.token, owner, now, alone, run_id),
    )
    return Claim(run_id, epoch + 1, wanted.token)


def release(connection: sqlite3.Connection, run_id: str, ends: int, now: float) -> State:
    row = connection.execute(
        "SELECT state, epoch, alone, crashes, size > claimed_size FROM statuses WHERE id = ?", (run_id,)
    ).fetchone()
    if row is None:
        raise unknown_run(run_id)
    state, epoch, alone, crashes, went_on = row
    if state in ENDS:
        raise has_ended(run_id, state)
    if (state, epoch) != ("running", ends):
        raise another_owner(run_id)
    crashes = 1 if went_on else crashes + 1
    becomes: State = "parked" if alone else "ready"
    connection.execute(
        "UPDATE statuses SET state = ?, epoch = epoch + 1, token = '', crashes = ?, alone = 0, reason = ?,"
        " changed_at = ? WHERE id = ?",
        (becomes, crashes, poison(run_id, crashes) if alone else None, now, run_id),
    )
    return becomes


def write(
    connection: sqlite3.Connection, held: Claim, news: int, records: Sequence[Record], then: Then, *, now: float
) -> None:
    row = connection.execute(
        "SELECT run, token, state, epoch, owner, changed_at, wake_at, news, crashes, alone, size, reason, result"
        " FROM statuses WHERE id = ?",
        (held.run_id,),
    ).fetchone()
    if row is None:
        raise unknown_run(held.run_id)
    run, token, status = row[0], row[1], Status(*row[2:])
    if (status.epoch, token) != (held.epoch, held.token):
        raise another_owner(held.run_id)
    going_on = status.state == "running"
    kept = _kept(connection, run, records)
    known = all(kept.get(key(record)) == record.payload for record in records)
    if known and (is_done(status, then) if not going_on else bool(records) and then is None):
        return  # the answer to the same write was lost
    if not going_on:
        raise not_running(held.run_id, status.state)
    if status.news != news:
        raise behind(held.run_id)
    new = unlike(held.run_id, records, kept)
    size = status.size + _insert(connection, run, new)
    connection.execute("UPDATE statuses SET size = ?, changed_at = ? WHERE run = ?", (size, now, run))
    if isinstance(then, Ended):
        connection.execute(
            "UPDATE statuses SET state = ?, result = ?, doubt = ? WHERE run = ?",
            (then.state, then.result, then.doubt, run),
        )
    elif then is not None:
        connection.execute(
            "UPDATE statuses SET state = ?, wake_at = ?, reason = ? WHERE run = ?",
            (then.state, then.wake_at, then.reason, run),
        )


def _kept(connection: sqlite3.Connection, run: int, records: Sequence[Record]) -> dict[Key, str]:
    """Return the payloads that stand under the keys of records."""
    kept: dict[Key, str] = {}
    for record in records:
        row = connection.execute(
            "SELECT payload, blob FROM records WHERE run = ? AND path = ? AND n = ? AND kind = ?", (run, *key(record))
        ).fetchone()
        if row is not None:
            kept[key(record)] = text(connection, *row)
    return kept


def _insert(connection: sqlite3.Connection, run: int | None, records: Sequence[Record]) -> int:
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
    return None, _keep_blob(connection, payload.encode())


def _keep_blob(connection: sqlite3.Connection, content: bytes) -> str:
    hash_ = hashlib.sha256(content).hexdigest()
    connection.execute("INSERT INTO blobs VALUES (?, ?) ON CONFLICT DO NOTHING", (hash_, content))
    return hash_


def save_artifact(connection: sqlite3.Connection, run_id: str, content: bytes) -> None:
    run = number(connection, run_id)
    hash_ = _keep_blob(connection, content)
    connection.execute("INSERT INTO artifacts VALUES (?, ?) ON CONFLICT DO NOTHING", (run, hash_))


# ---- what others do to a run
def cancel(connection: sqlite3.Connection, run_id: str, aim: int | None, now: float) -> int:
    """Cancel a run once more, unless that makes more than `aim` times; return how often it has been."""
    run, state = _open_run(connection, run_id)
    if state in ENDS:
        raise has_ended(run_id, state)
    times: int = connection.execute(
        "SELECT count(*) FROM records WHERE run = ? AND path = '' AND kind = 'cancel'", (run,)
    ).fetchone()[0]
    if times in (2, aim):
        return times
    _tell(connection, run, Record("", times + 1, "cancel", "{}"))
    if state in ("waiting", "parked"):
        _rouse(connection, run, now)
    return times + 1


def signal(connection: sqlite3.Connection, run_id: str, path: str, payload: str, now: float) -> None:
    run, state = _open_run(connection, run_id)
    rows = connection.execute(
        "SELECT n, kind, payload, blob FROM records WHERE run = ? AND path = ?", (run, path)
    ).fetchall()
    found = [(n, kind, text(connection, inline, blob)) for n, kind, inline, blob in rows]
    n = wait_for(run_id, path, payload, found, ended=state in ENDS, now=now)
    if n is not None:
        _tell(connection, run, Record(path, n, "signal", payload))
        if state == "waiting":
            _rouse(connection, run, now)


def _open_run(connection: sqlite3.Connection, run_id: str) -> tuple[int, State]:
    row = connection.execute("SELECT run, state FROM statuses WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        raise unknown_run(run_id)
    run, state = row
    return run, state


def _tell(connection: sqlite3.Connection, run: int, record: Record) -> None:
    size = _insert(connection, run, [record])
    connection.execute("UPDATE statuses SET news = news + 1, size = size + ? WHERE run = ?", (size, run))


def _rouse(connection: sqlite3.Connection, run: int, now: float) -> None:
    connection.execute(
        "UPDATE statuses SET state = 'ready', wake_at = NULL, reason = NULL, changed_at = ? WHERE run = ?", (now, run)
    )


def resume(connection: sqlite3.Connection, run_id: str, now: float) -> None:
    run, state = _open_run(connection, run_id)
    if state != "parked":
        raise not_parked(run_id, state)
    _rouse(connection, run, now)
    connection.execute("UPDATE statuses SET crashes = 0 WHERE run = ?", (run,))


def wake(connection: sqlite3.Connection, limit: int, now: float, only: str | None) -> list[str]:
    found = due(connection, limit, now, only)
    for run_id in found:
        _rouse(connection, number(connection, run_id), now)
    return found


# ---- what is no longer needed
def purge(connection: sqlite3.Connection, before: float, limit: int) -> Purged:
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
        "DELETE FROM documents WHERE hash = ?1 AND NOT EXISTS (SELECT 1 FROM runs WHERE document = ?1)",
        sorted({(document,) for *_, document in gone}),
    ).rowcount
    kept = {"doubt": doubtful} if doubtful else {}
    return Purged(len(runs), max(records, 0), max(documents, 0), max(artifacts, 0), kept)


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
