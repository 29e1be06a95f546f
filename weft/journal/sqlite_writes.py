"""What is written to the journal in one SQLite file; each function is all of its transaction, or a part of a larger one.

A function that refuses has not written anything: others may share its transaction.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from weft.errors import JournalRefused
from weft.journal.base import (
    ENDS,
    Claim,
    Ended,
    Full,
    Meter,
    Record,
    RunRow,
    Settled,
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
from weft.journal.decisions import (
    LEFT_OUT,
    is_done,
    key,
    left_out,
    not_running,
    poison,
    unlike,
)
from weft.journal.sqlite_gates import let_in, queues, to_make_way
from weft.journal.sqlite_meters import Attempt, let_go, missing, reserve, settle
from weft.journal.sqlite_news import answer, cancel, cancel_children, tell_parent
from weft.journal.sqlite_reads import number
from weft.journal.sqlite_records import insert, keep_blob, kept_payloads, undone_if_refused


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
    waits = queues(connection, run)
    size = sum(len(record.payload) for record in records)
    state: State = "waiting" if waits else status.state
    about = run.id, run.workflow, run.started_at, state, status.epoch, token, status.owner, status.changed_at
    number_ = connection.execute(
        "INSERT INTO statuses(id, workflow, started_at, state, epoch, token, owner, changed_at, size, claimed_size)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*about, size, size),
    ).lastrowid
    connection.execute(
        "INSERT INTO runs(run, document, inputs, trigger, scheduled_at, origin) VALUES (?, ?, ?, ?, ?, ?)",
        (number_, run.document, run.inputs, run.trigger, run.scheduled_at, run.origin),
    )
    if (run.schedule, run.parent, run.gate) != (None, None, None):
        _tie(connection, number_, run, waits=waits)
    insert(connection, number_, records)
    if run.origin is not None:
        connection.execute(
            "INSERT INTO artifacts SELECT ?, hash FROM artifacts WHERE run = (SELECT run FROM statuses WHERE id = ?)",
            (number_, run.origin),
        )
    if waits and run.gate is not None and run.gate.policy == "cancel":
        oldest = to_make_way(connection, run.gate.key, number_ or 0)
        if oldest is not None:
            cancel(connection, oldest, None, status.changed_at)


def _tie(connection: sqlite3.Connection, number_: int | None, run: RunRow, *, waits: bool) -> None:
    """Keep what a run has to do with others."""
    parent, gate = run.parent, run.gate
    connection.execute(
        "UPDATE statuses SET schedule = ?, parent = ?, parent_path = ?, parent_n = ?, gate = ?, gate_limit = ?,"
        " gate_policy = ?, queued = ? WHERE run = ?",
        (
            *(run.schedule, parent and parent.run_id, parent and parent.path, parent and parent.n),
            *(gate and gate.key, gate and gate.limit, gate and gate.policy, waits, number_),
        ),
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
        "SELECT state, epoch, alone, crashes, size > claimed_size, run, held FROM statuses WHERE id = ?", (run_id,)
    ).fetchone()
    if row is None:
        raise unknown_run(run_id)
    state, epoch, alone, crashes, went_on, run, held = row
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
    if held:
        let_go(connection, run)
    return becomes


class _Standing(NamedTuple):
    """A run under the claim that writes to it."""

    run: int
    gate: str | None
    parent: str | None
    children: int
    held: int
    token: str
    epoch: int
    news: int
    size: int
    state: State
    wake_at: float | None
    reason: str | None
    result: str | None

    @property
    def goes_on(self) -> bool:
        return self.state == "running"

    def is_done(self, then: Then) -> bool:
        """Tell whether the run stands as an earlier call has left it."""
        facts = self.wake_at, self.news, 0, False, self.size, self.reason, self.result
        return is_done(Status(self.state, self.epoch, "", 0.0, *facts), then)


def _standing(connection: sqlite3.Connection, claim: Claim) -> _Standing:
    row = connection.execute(
        "SELECT run, gate, parent, children, held, token, epoch, news, size, state, wake_at, reason, result"
        " FROM statuses WHERE id = ?",
        (claim.run_id,),
    ).fetchone()
    if row is None:
        raise unknown_run(claim.run_id)
    standing = _Standing._make(row)
    if (standing.epoch, standing.token) != (claim.epoch, claim.token):
        raise another_owner(claim.run_id)
    return standing


class Write(NamedTuple):
    """What the owner of a run gives to be kept, all or nothing."""

    claim: Claim
    news: int
    records: Sequence[Record] = ()
    then: Then = None
    children: Sequence[RunRow] = ()
    settled: Sequence[Settled] = ()


def write(connection: sqlite3.Connection, given: Write, now: float) -> None:
    if not given.children:
        return _write(connection, given, now)
    with undone_if_refused(connection):
        return _write(connection, given, now)


def _write(connection: sqlite3.Connection, given: Write, now: float) -> None:
    found = _standing(connection, given.claim)
    run, then = found.run, given.then
    kept = kept_payloads(connection, run, given.records)
    absent = [child for child in given.children if not _is_there(connection, run, child)]
    if not absent and all(kept.get(key(record)) == record.payload for record in given.records):
        repeats = bool(given.records) and then is None if found.goes_on else found.is_done(then)
        if repeats:
            return  # the answer to the same write was lost
    if not found.goes_on:
        raise not_running(given.claim.run_id, found.state)
    if found.news != given.news:
        raise behind(given.claim.run_id)
    size = found.size + insert(connection, run, unlike(given.claim.run_id, given.records, kept))
    _stand(connection, run, size, then, now)
    if found.held:
        settle(connection, run, found.epoch, given.records, given.settled)
        if then is not None:
            let_go(connection, run)
    if absent:
        _begin_children(connection, run, absent, now)
    if isinstance(then, Ended):
        _tell_of_end(connection, given.claim.run_id, found._replace(children=found.children or bool(absent)), then, now)


def _stand(connection: sqlite3.Connection, run: int, size: int, then: Then, now: float) -> None:
    """Keep where a run stands after a write."""
    if then is None:
        connection.execute("UPDATE statuses SET size = ?, changed_at = ? WHERE run = ?", (size, now, run))
    elif isinstance(then, Ended):
        connection.execute(
            "UPDATE statuses SET size = ?, changed_at = ?, state = ?, result = ?, doubt = ? WHERE run = ?",
            (size, now, then.state, then.result, then.doubt, run),
        )
    else:
        connection.execute(
            "UPDATE statuses SET size = ?, changed_at = ?, state = ?, wake_at = ?, reason = ? WHERE run = ?",
            (size, now, then.state, then.wake_at, then.reason, run),
        )


def _tell_of_end(connection: sqlite3.Connection, run_id: str, ended: _Standing, then: Ended, now: float) -> None:
    """Let those go on who wait for the end of a run; nobody waits for its children any more."""
    if ended.parent is not None:
        tell_parent(connection, ended.run, run_id, ended.parent, then, now=now)
    if ended.children:
        cancel_children(connection, run_id, 1, now)
    if ended.gate is not None:
        let_in(connection, ended.gate, now)


def _is_there(connection: sqlite3.Connection, run: int, child: RunRow) -> bool:
    """Tell whether a child was begun by an earlier call, or left out by its gate.

    Raises:
        ValueError: It says of no step that it waits for it.
    """
    if child.parent is None:
        raise ValueError(f"Run {child.id!r} is no child.")
    begun = connection.execute(
        "SELECT 1 FROM statuses WHERE id = ? AND parent = ? AND parent_path = ? AND parent_n = ?",
        (child.id, child.parent.run_id, child.parent.path, child.parent.n),
    ).fetchone()
    told = connection.execute(
        "SELECT 1 FROM records WHERE run = ? AND path = ? AND n = ? AND kind = 'signal'",
        (run, child.parent.path, child.parent.n),
    ).fetchone()
    return begun is not None or told is not None


def _begin_children(connection: sqlite3.Connection, run: int, children: Sequence[RunRow], now: float) -> None:
    connection.execute("UPDATE statuses SET children = 1 WHERE run = ?", (run,))
    for child in children:
        parent = child.parent
        if parent is None:
            continue
        try:
            keep_run(connection, child, (), Status("ready", 0, "", now), secrets.token_hex(16))
        except JournalRefused as refusal:
            if refusal.problem.code not in LEFT_OUT:
                raise
            answer(connection, parent.run_id, Record(parent.path, parent.n, "signal", left_out(child.id, refusal)), now)


def hold(
    connection: sqlite3.Connection, claim: Claim, news: int, begun: Record, meters: Sequence[Meter], *, now: float
) -> Full | None:
    """Keep what an attempt may use up with the record that it has begun, or nothing."""
    found = _standing(connection, claim)
    new = unlike(claim.run_id, [begun], kept_payloads(connection, found.run, [begun]))
    attempt = Attempt(found.run, begun.path, begun.n, found.epoch)
    wanted = missing(connection, attempt, meters)
    if found.goes_on and not new and not wanted:
        return None  # the answer to the same call was lost
    if not found.goes_on:
        raise not_running(claim.run_id, found.state)
    if found.news != news:
        raise behind(claim.run_id)
    full = reserve(connection, attempt, wanted, now)
    if full is None:
        size = found.size + insert(connection, found.run, new)
        connection.execute(
            "UPDATE statuses SET size = ?, changed_at = ?, held = 1 WHERE run = ?", (size, now, found.run)
        )
    return full


def save_artifact(connection: sqlite3.Connection, run_id: str, content: bytes) -> None:
    run = number(connection, run_id)
    hash_ = keep_blob(connection, content)
    connection.execute("INSERT INTO artifacts VALUES (?, ?) ON CONFLICT DO NOTHING", (run, hash_))
