"""What every journal decides alike; none of it touches a store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict

from weft.errors import JournalRefused, Problem
from weft.journal.base import (
    ENDS,
    Ended,
    Record,
    RecordKind,
    State,
    Status,
    Then,
    another_owner,
    has_ended,
    not_waiting,
    other_content,
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
    deadline = json.loads(kept[n, "waits"])["deadline"]
    if (n, "rang") in kept or (deadline is not None and now >= deadline):
        raise not_waiting(run_id, path, "its time is up")
    return n


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
