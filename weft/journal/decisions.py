"""What every journal decides alike; none of it touches a store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

from weft.errors import JournalRefused, Problem
from weft.journal.base import (
    ENDS,
    LARGEST_QUEUE,
    OUTCOMES,
    Ended,
    Meter,
    Occurrence,
    Record,
    RecordKind,
    RunRow,
    Schedule,
    State,
    Status,
    Then,
    another_owner,
    at_the_limit,
    has_ended,
    not_waiting,
    other_content,
    queue_is_full,
)
from weft.outcome import encode

Key = tuple[str, int, RecordKind]


def key(record: Record) -> Key:
    """Return what a record is kept under, once in each run."""
    return record.path, record.n, record.kind


def unlike(run_id: str, records: Iterable[Record], kept: Mapping[Key, str]) -> list[Record]:
    """Return the records that are not kept yet, each once.

    Raises:
        JournalRefused: Another payload stands under the key of one of them.
    """
    new: dict[Key, Record] = {}
    for record in records:
        known = kept.get(key(record))
        if known is None:
            known = new.setdefault(key(record), record).payload
        if known != record.payload:
            raise other_content(run_id, record)
    return list(new.values())


def is_done(status: Status, then: Then) -> bool:
    """Tell whether a run stands as `then` asks for: its write was accepted, and the answer was lost."""
    if then is None or status.state != then.state:
        return False
    if isinstance(then, Ended):
        return status.result == then.result
    return (status.wake_at, status.reason) == (then.wake_at, then.reason)


def not_running(run_id: str, state: State) -> JournalRefused:
    """Return the refusal of a write to a run that nobody has."""
    return has_ended(run_id, state) if state in ENDS else another_owner(run_id)


def not_parked(run_id: str, state: State) -> JournalRefused:
    return JournalRefused(f"Run {run_id!r} is {state}; only a run that is parked can be resumed.", code="not_parked")


def wait_for(
    run_id: str, path: str, payload: str, found: Iterable[tuple[int, RecordKind, str]], *, ended: bool, now: float
) -> int | None:
    """Return the number of the wait that a signal answers; None when this very answer is on record already.

    Args:
        run_id: The run.
        path: Of the step.
        payload: Of the signal.
        found: Number, kind and payload of the records at this path.
        ended: Whether the run has ended.
        now: The journal's time, which the deadline is compared with (rule B6).

    Raises:
        JournalRefused: The step waits for no answer.
    """
    kept = {(n, kind): text for n, kind, text in found}
    n = max((n for n, kind in kept if kind == "waits"), default=0)
    if kept.get((n, "signal")) == payload:
        return None
    if ended:
        raise not_waiting(run_id, path, "the run has ended")
    if n == 0:
        raise not_waiting(run_id, path, "it was not reached")
    if (n, "signal") in kept:
        raise not_waiting(run_id, path, "it is answered")
    facts = json.loads(kept[n, "waits"])
    if facts.get("child") is not None:
        raise not_waiting(run_id, path, f"it waits for the end of run {facts['child']!r}")
    deadline = facts["deadline"]
    if (n, "rang") in kept or (deadline is not None and now >= deadline):
        raise not_waiting(run_id, path, "its time is up")
    return n


# ---- gates
def refuse_gate(run: RunRow) -> None:
    """Refuse to accept a run that has to be submitted: whether it may begin is its gate's to say.

    Raises:
        ValueError: It has a gate.
    """
    if run.gate is not None:
        raise ValueError(f"Run {run.id!r} has a gate; submit it.")


def must_wait(run: RunRow, admitted: Sequence[str], queued: int) -> bool:
    """Tell whether a new run has to wait before its gate.

    Args:
        run: The run.
        admitted: The runs of its key that have passed the gate and have not ended, the oldest first.
        queued: How many wait before it already; nobody overtakes them.

    Raises:
        JournalRefused: It may not even wait.
    """
    gate = run.gate
    if gate is None or (len(admitted) < gate.limit and not queued):
        return False
    if gate.policy == "skip":
        raise at_the_limit(run.id, gate, admitted)
    if queued >= LARGEST_QUEUE:
        raise queue_is_full(run.id)
    return True


LEFT_OUT: Final = ("at_the_limit", "queue_full")
"""Codes of the refusals with which a gate keeps a run out."""


# ---- children
def child_signal(run_id: str, state: str, result: str) -> str:
    """Return the payload that tells a waiting step how its child has ended; `result` stands in it byte for byte."""
    return f'{{"run":{encode(run_id)},"state":"{state}","result":{result}}}'


def left_out(run_id: str, refusal: JournalRefused) -> str:
    """Return the payload that tells a waiting step that a gate kept its child out."""
    return child_signal(run_id, "skipped", _reason(refusal.problem))


def waits_still(kinds: Iterable[str]) -> bool:
    """Tell from the kinds of the records of a wait whether it is open."""
    found = set(kinds)
    return "waits" in found and not found & {"signal", "rang"}


# ---- meters
def amounts(meters: Iterable[Meter]) -> list[Meter]:
    """Return what is to be held, each key once, for as long as its longest window."""
    held: dict[str, Meter] = {}
    for meter in meters:
        before = held.get(meter.key)
        if before is None or (before.window_s or 0.0) < (meter.window_s or 0.0):
            held[meter.key] = meter
    return list(held.values())


def room_at(entries: Iterable[tuple[float, int]], meter: Meter, used: int) -> float | None:
    """Return when an amount fits into its window again; None when it never does.

    Args:
        entries: Instants at which the entries leave the window, and their amounts, in that order.
        meter: That is full.
        used: The sum of the entries.
    """
    if meter.amount > meter.most:
        return None
    for leaves_at, amount in entries:
        used -= amount
        if used + meter.amount <= meter.most:
            return leaves_at
    return None


def over(records: Iterable[Record]) -> list[tuple[str, int]]:
    """Return the attempts that are under way no more after these records."""
    return [(record.path, record.n) for record in records if record.kind in OUTCOMES]


# ---- schedules
def known_occurrence(schedule: str, key_: str) -> JournalRefused:
    return JournalRefused(f"Schedule {schedule!r} has decided about {key_} already.", code="known_occurrence")


def unknown_since(schedule: Schedule, now: float) -> Occurrence:
    """Return what is on record of a schedule whose journal was put back to an older state (rule A14).

    How many of its instants have fired since the copy was made is not known, so that none of them fires again.
    """
    at = schedule.next_at if schedule.next_at is not None and schedule.next_at <= now else now
    instant = datetime.fromtimestamp(now, UTC).isoformat()
    return Occurrence(schedule.id, f"restored {instant}", at, "missed", now, restored_schedule(), count=0)


def restored_schedule() -> str:
    """Return why nothing is known of a schedule's instants between a copy and its restore."""
    return _reason(
        Problem(
            "restored",
            "The journal was restored from a copy; what this schedule started after the copy was made is not known.",
            "Start by hand what is still to be done.",
        )
    )


# ---- why a run is parked
def poison(run_id: str, crashes: int) -> str:
    """Return why a run is parked that ended the process which tried it alone (rule A19)."""
    return _reason(
        Problem(
            "poison",
            f"Run {run_id!r} ended the process that was working on it, {crashes} times, and alone at last.",
            "Look at the step that it was in, then resume or cancel it.",
        )
    )


def restored() -> str:
    """Return why runs are parked whose journal was put back to an older state (rule A14)."""
    return _reason(
        Problem(
            "restored",
            "The journal was restored from a copy; what this run did after the copy was made is not known.",
            "Look at what it may have sent, then resume or cancel it.",
        )
    )


def needles(text: str) -> tuple[str, ...]:
    """Return what to look for in lower-case text, so that a text is found in JSON, too, in either case."""
    forms = {text, text.lower(), text.upper()}
    return tuple(sorted({form.lower() for each in forms for form in (each, json.dumps(each)[1:-1])}))


def _reason(problem: Problem) -> str:
    return encode(asdict(problem))
