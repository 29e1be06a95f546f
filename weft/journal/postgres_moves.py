"""How a run goes from one state to another: decisions on a row that is locked.

Other runs are touched only after all that is needed for it is known to be locked. Gates let runs through, and children
tell their parents of their ends, in the transaction in which that happens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from weft.errors import JournalRefused
from weft.journal.base import (
    ENDS,
    Claim,
    Ended,
    Full,
    Meter,
    Parent,
    Record,
    Rest,
    RunRow,
    Settled,
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
from weft.journal.decisions import (
    LEFT_OUT,
    child_signal,
    is_done,
    key,
    left_out,
    must_wait,
    not_parked,
    not_running,
    poison,
    unlike,
    wait_for,
    waits_still,
)
from weft.journal.postgres_gates import Standing
from weft.journal.postgres_needs import Needs
from weft.journal.postgres_rows import New, Row, Wanted
from weft.journal.postgres_turn import Turn


def accepted(turn: Turn, new: New, records: Sequence[Record]) -> Claim:
    row = _born(turn, new)
    missing = unlike(row.id, records, turn.known(row.id))
    if row.state == "ready":  # an earlier try whose answer was lost has been given back since
        _take(turn, row, new.token, alone=False)
    elif row.state != "running" or row.token != new.token:
        raise known_already(row.id)
    turn.take(row)
    turn.add(row, missing)
    row.claimed_size = row.size
    return Claim(row.id, row.epoch, row.token)


def submitted(turn: Turn, new: New) -> None:
    row = _born(turn, new)
    if row.id in turn.accepted:
        _begin(turn, row, new.row)


def _begin(turn: Turn, row: Row, run: RunRow) -> None:
    """Make a run that was accepted in this transaction ready, or let it wait before its gate."""
    if run.gate is None:
        turn.take(row)
        turn.enqueue(row.id)
        return
    turn.require(Needs(gates={run.gate.key}))
    gate = turn.gate(run.gate.key)
    if not must_wait(run, gate.admitted, gate.queued):
        turn.take(row)
        turn.enqueue(row.id)
        gate.admit(row.id, from_queue=False)
        return
    if run.gate.policy == "cancel":
        _cancel_blocker(turn, gate)
    turn.take(row)
    turn.change(row, "waiting")
    row.queued = True
    gate.wait(row.id)


def _cancel_blocker(turn: Turn, gate: Standing) -> None:
    """Cancel the oldest run of a gate that nobody has cancelled."""
    while gate.blockers:
        run_id = gate.blockers.pop(0)
        turn.require(_to_cancel(run_id))
        row = turn.row(run_id)
        if row is not None and row.state not in ENDS and not _times(turn, run_id):
            was_queued = row.queued
            _cancel(turn, [row, *_descendants(turn, row)], 1)
            if was_queued:
                gate.admit(run_id, from_queue=True)
            return


def _let_through(turn: Turn, gate: Standing) -> None:
    """Make the runs ready that have waited longest, as many as may go on."""
    while gate.queue:
        run_id = gate.queue[0]
        turn.require(Needs(runs={run_id}))
        row = turn.row(run_id)
        if row is not None and row.queued and row.state == "waiting":
            if row.gate is None or len(gate.admitted) >= row.gate.limit:
                return
            gate.admit(run_id, from_queue=True)
            _rouse(turn, row)
        elif row is not None and row.state not in ENDS and not row.queued:  # cancelled since
            gate.admit(run_id, from_queue=True)
        else:  # held for review
            gate.queue.pop(0)


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


def written(
    turn: Turn,
    claim: Claim,
    news: int,
    records: Sequence[Record],
    then: Then,
    *,
    children: Sequence[New] = (),
    settled: Sequence[Settled] = (),
) -> None:
    row = _owned(turn, claim)
    known = turn.known(row.id)
    is_kept = all(known.get(key(each)) == each.payload for each in records)
    going_on = row.state == "running"
    absent = [new for new in children if not _is_there(turn, row, new)]
    repeats = bool(records) and then is None if going_on else is_done(row.status, then)
    if is_kept and repeats and not absent:
        return
    _require_up_to_date(row, news)
    missing = unlike(row.id, records, known)
    if isinstance(then, Ended) and row.is_tied:
        turn.require(ties(row))
    turn.add(row, missing)
    row.changed_at = turn.now
    _stand(turn, row, then)
    _bear(turn, row, absent)  # after it, since a gate may answer at once, which rouses a run that waits
    if isinstance(then, Ended):
        _tell_of_end(turn, row, then)
    for each in settled:  # last: it is not undone when something else is refused
        turn.meters.settle((row.id, each.path, each.n, claim.epoch), each.amounts)


def _stand(turn: Turn, row: Row, then: Then) -> None:
    if then is None:
        return
    turn.change(row, then.state)
    if isinstance(then, Rest):
        row.wake_at, row.reason = then.wake_at, then.reason
        return
    row.result, row.doubt = then.result, then.doubt
    if row.gate is not None:
        turn.gate(row.gate.key).leave(row.id)


def held(turn: Turn, claim: Claim, news: int, begun: Record, meters: Sequence[Meter]) -> Full | None:
    row = _owned(turn, claim)
    attempt = row.id, begun.path, begun.n, claim.epoch
    known = turn.known(row.id)
    wanted = turn.meters.missing(attempt, meters)
    if row.state == "running" and known.get(key(begun)) == begun.payload and not wanted:
        return None
    _require_up_to_date(row, news)
    missing = unlike(row.id, [begun], known)
    if full := turn.meters.full(wanted, turn.now):
        return full
    turn.add(row, missing)
    row.changed_at = turn.now
    turn.meters.hold(attempt, wanted, turn.now)
    return None


def _owned(turn: Turn, claim: Claim) -> Row:
    row = _found(turn, claim.run_id)
    if claim.token in turn.life.void or (row.epoch, row.token) != (claim.epoch, claim.token):
        raise another_owner(row.id)
    return row


def _require_up_to_date(row: Row, news: int) -> None:
    if row.state != "running":
        raise not_running(row.id, row.state)
    if row.news != news:
        raise behind(row.id)


# ---- children
def ties(row: Row) -> Needs:
    """Return what the end of a run touches: its gate, its parent, its children."""
    needs = Needs()
    if row.gate is not None:
        needs.gates.add(row.gate.key)
    if row.parent is not None:
        needs.runs.add(row.parent.run_id)
        needs.records |= {(row.parent.run_id, each) for each in _answer_to(row.parent)}
    if row.children:
        needs.families.add(row.id)
    return needs


def _answer_to(parent: Parent) -> Iterator[Wanted]:
    for kind in ("waits", "signal", "rang"):
        yield Wanted(parent.path, parent.n, kind)


def bearing(run_id: str, children: Sequence[RunRow]) -> Needs:
    """Return what has to be known for a run to have children."""
    needs = Needs(gates={child.gate.key for child in children if child.gate is not None})
    for child in children:
        if child.parent is not None:
            needs.records |= {(run_id, each) for each in _answer_to(child.parent)}
    return needs


def _is_there(turn: Turn, parent: Row, new: New) -> bool:
    """Tell whether a child was begun by an earlier call, or left out by its gate."""
    row, known = turn.row(new.row.id), turn.known(parent.id)
    answered = new.row.parent is not None and (new.row.parent.path, new.row.parent.n, "signal") in known
    return answered or (row is not None and row.id not in turn.accepted and row.parent == new.row.parent)


def _bear(turn: Turn, parent: Row, children: Iterable[New]) -> None:
    """Submit runs for which steps wait."""
    for new in children:
        row = _born(turn, new)
        try:
            _begin(turn, row, new.row)
        except JournalRefused as refusal:
            if refusal.problem.code not in LEFT_OUT:
                raise
            _answer(turn, parent, new.row.parent, left_out(row.id, refusal))
        else:
            turn.change(parent).children = True


def _answer(turn: Turn, row: Row, parent: Parent | None, payload: str) -> None:
    """Tell a step how the run has ended that it waits for, if it still waits."""
    if parent is None or row.state in ENDS:
        return
    known = turn.known(row.id)
    if waits_still(
        each.kind for each in _answer_to(parent) if each.kind and (parent.path, parent.n, each.kind) in known
    ):
        _tell(turn, row, Record(parent.path, parent.n, "signal", payload), rouses=("waiting",))


def _tell_of_end(turn: Turn, row: Row, end: Ended) -> None:
    """Let those go on who wait for the end of a run; nobody waits for its children any more."""
    if row.parent is not None and (parent := turn.row(row.parent.run_id)) is not None:
        _answer(turn, parent, row.parent, child_signal(row.id, end.state, end.result))
    _cancel(turn, _descendants(turn, row), 1)
    if row.gate is not None:
        _let_through(turn, turn.gate(row.gate.key))


# ---- what others do to a run
def cancelled(turn: Turn, run_id: str) -> int:
    row = _found(turn, run_id)
    if row.state in ENDS:
        raise has_ended(run_id, row.state)
    times = _times(turn, run_id)
    if times < 2 and times != turn.before:
        times += 1
        _cancel(turn, [row, *_descendants(turn, row)], times)
    return times


def _to_cancel(*run_ids: str) -> Needs:
    return Needs(
        runs=set(run_ids),
        families=set(run_ids[:1]),
        records={(run_id, Wanted("", None, "cancel")) for run_id in run_ids},
    )


def _times(turn: Turn, run_id: str) -> int:
    return sum(kind == "cancel" for _, _, kind in turn.known(run_id))


def _cancel(turn: Turn, rows: Iterable[Row], times: int) -> None:
    """Bring runs to as many cancels."""
    for row in rows:
        for number in range(_times(turn, row.id) + 1, times + 1):
            _tell(turn, row, Record("", number, "cancel", "{}"), rouses=("waiting", "parked"))


def _descendants(turn: Turn, row: Row) -> list[Row]:
    """Return the open runs that steps of a run wait for, and those that steps of these do, and so on."""
    if not row.children:
        return []
    turn.require(Needs(families={row.id}))
    ids = list(turn.children(row.id))
    for run_id in ids:  # it grows
        ids += turn.children(run_id)
    turn.require(_to_cancel(row.id, *ids))
    return [each for each in map(turn.row, ids) if each is not None and each.state not in ENDS]


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
    if row.queued and row.gate is not None:  # it was parked before its gate, by a restore
        turn.require(Needs(gates={row.gate.key}))
        gate = turn.gate(row.gate.key)
        turn.change(row, "waiting")
        row.reason, row.crashes = None, 0
        _let_through(turn, gate)
        return
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
    if row.is_tied:
        turn.life.ties[token] = ties(row)


def _tell(turn: Turn, row: Row, record: Record, *, rouses: tuple[State, ...]) -> None:
    turn.add(row, [record])
    row.news += 1
    turn.tell()
    if row.state in rouses:
        _rouse(turn, row)


def _rouse(turn: Turn, row: Row) -> None:
    turn.change(row, "ready")
    row.wake_at, row.reason, row.queued = None, None, False
