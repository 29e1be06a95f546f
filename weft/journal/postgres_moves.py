"""How a run goes from one state to another: decisions on a row that is locked."""

from __future__ import annotations

from collections.abc import Sequence

from weft.journal.base import (
    ENDS,
    Claim,
    Ended,
    Record,
    State,
    Then,
    another_owner,
    behind,
    has_ended,
    known_already,
    not_ready,
    unknown_document,
    unknown_run,
)
from weft.journal.decisions import is_done, key, not_parked, not_running, poison, unlike, wait_for
from weft.journal.postgres_turn import New, Row, Turn


def accepted(turn: Turn, new: New, records: Sequence[Record]) -> Claim:
    row = _born(turn, new)
    missing = unlike(row.id, records, turn.known(row.id))
    if row.state == "ready":  # an earlier try whose answer was lost has been given back since
        _take(turn, row, new.token, alone=False)
    elif row.state != "running" or row.token != new.token:
        raise known_already(row.id)
    turn.add(row, missing)
    row.claimed_size = row.size
    return Claim(row.id, row.epoch, row.token)


def submitted(turn: Turn, new: New) -> None:
    row = _born(turn, new)
    if row.id in turn.accepted:
        turn.enqueue(row.id)


def _born(turn: Turn, new: New) -> Row:
    """Return the row of a run that this very acceptance has made, now or when its answer was lost."""
    row = turn.row(new.row.id)
    if row is None and new.row.document not in turn.documents:
        raise unknown_document(new.row.document)
    if row is None or row.born != new.token:
        raise known_already(new.row.id)
    return row


def claimed(turn: Turn, run_id: str, token: str, *, alone: bool) -> Claim:
    row = _found(turn, run_id)
    if row.state == "running" and row.token == token:  # the answer was lost
        return Claim(run_id, row.epoch, token)
    if row.state in ENDS:
        raise has_ended(run_id, row.state)
    if row.state != "ready":
        raise not_ready(run_id, row.state)
    _take(turn, row, token, alone=alone)
    return Claim(run_id, row.epoch, token)


def given_back(turn: Turn, run_id: str, token: str) -> None:
    """Make a run ready again whose claim was never told to anybody."""
    row = turn.row(run_id)
    if row is not None and row.state == "running" and row.token == token:
        turn.change(row, "ready")


def released(turn: Turn, run_id: str, ends: int) -> State:
    row = _found(turn, run_id)
    if turn.again and (row.epoch, row.token) == (ends + 1, ""):
        return row.state
    if row.state in ENDS:
        raise has_ended(run_id, row.state)
    if row.state != "running" or row.epoch != ends:
        raise another_owner(run_id)
    verdicts = turn.life.verdicts
    if row.owner in verdicts and turn.beats.get(row.owner) != verdicts[row.owner]:  # it has beaten since
        raise another_owner(run_id)
    turn.life.void.update({row.token} & turn.life.in_hand.keys())
    row.crashes = 1 if row.size > row.claimed_size else row.crashes + 1
    row.epoch, row.token = ends + 1, ""
    row.reason = poison(run_id, row.crashes) if row.alone else None
    turn.change(row, "parked" if row.alone else "ready")
    row.alone = False
    return row.state


def written(turn: Turn, claim: Claim, news: int, records: Sequence[Record], then: Then) -> None:
    row = _found(turn, claim.run_id)
    if claim.token in turn.life.void or (row.epoch, row.token) != (claim.epoch, claim.token):
        raise another_owner(row.id)
    known = turn.known(row.id)
    is_kept = all(known.get(key(each)) == each.payload for each in records)
    going_on = row.state == "running"
    if is_kept and (bool(records) and then is None if going_on else is_done(row.status, then)):
        return
    if not going_on:
        raise not_running(row.id, row.state)
    if row.news != news:
        raise behind(row.id)
    turn.add(row, unlike(row.id, records, known))
    row.changed_at = turn.now
    if isinstance(then, Ended):
        turn.change(row, then.state)
        row.result, row.doubt = then.result, then.doubt
    elif then is not None:
        turn.change(row, then.state)
        row.wake_at, row.reason = then.wake_at, then.reason


def cancelled(turn: Turn, run_id: str) -> int:
    row = _found(turn, run_id)
    if row.state in ENDS:
        raise has_ended(run_id, row.state)
    times = sum(kind == "cancel" for _, _, kind in turn.known(run_id))
    if times < 2 and times != turn.before:
        times += 1
        _tell(turn, row, Record("", times, "cancel", "{}"), rouses=("waiting", "parked"))
    return times


def signalled(turn: Turn, run_id: str, path: str, payload: str) -> None:
    row = _found(turn, run_id)
    found = [(n, kind, text) for (at, n, kind), text in turn.known(run_id).items() if at == path]
    n = wait_for(run_id, path, payload, found, ended=row.state in ENDS, now=turn.now)
    if n is not None:
        _tell(turn, row, Record(path, n, "signal", payload), rouses=("waiting",))


def resumed(turn: Turn, run_id: str) -> None:
    row = _found(turn, run_id)
    if turn.again and row.state != "parked":
        return
    if row.state != "parked":
        raise not_parked(run_id, row.state)
    _rouse(turn, row)
    row.crashes = 0


def _found(turn: Turn, run_id: str) -> Row:
    row = turn.row(run_id)
    if row is None:
        raise unknown_run(run_id)
    return row


def _take(turn: Turn, row: Row, token: str, *, alone: bool) -> None:
    turn.change(row, "running")
    row.epoch += 1
    row.token, row.owner, row.alone, row.claimed_size = token, turn.life.name, alone, row.size


def _tell(turn: Turn, row: Row, record: Record, *, rouses: tuple[State, ...]) -> None:
    turn.add(row, [record])
    row.news += 1
    turn.tell()
    if row.state in rouses:
        _rouse(turn, row)


def _rouse(turn: Turn, row: Row) -> None:
    turn.change(row, "ready")
    row.wake_at = row.reason = None
