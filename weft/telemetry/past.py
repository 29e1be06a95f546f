"""What was known of a run before this process took it in hand: told by others already, and since when its steps go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from weft.engine.interpreter import Tried, Walk
from weft.engine.reactor import facts_of
from weft.engine.report import step_of
from weft.errors import WeftError
from weft.journal.base import NEWS, OUTCOMES, Kept, Record
from weft.plan import Plan


@dataclass(frozen=True, slots=True)
class Past:
    """What was on record of a run when this process took it in hand."""

    ended: frozenset[str] = frozenset()  #: steps
    attempts: frozenset[tuple[str, int]] = frozenset()
    began: dict[str, float] = field(default_factory=dict)  #: path of a step → the first instant that is on record of it


def past_of(kept: Kept, plan: Plan) -> Past:
    """Return what those who had the run before have told of it, by the same walk that they told it from.

    What others have written since, such as an answer, is not a part of that: nobody has gone on from it yet.
    """
    if not kept.records:
        return Past()
    last = max((i for i, record in enumerate(kept.records) if record.kind not in NEWS), default=-1)
    walk = Walk(plan, facts_of(kept), kept.records[: last + 1])
    try:
        walk.advance()
    except WeftError:  # whoever drives it will park it
        return Past()
    tried = {(mark.call.path, mark.call.number) for mark in walk.marks if isinstance(mark, Tried)}
    ended = {mark.path for mark in walk.marks if not isinstance(mark, Tried) and mark.result is not None}
    return Past(frozenset(ended), frozenset(tried), _began(kept))


def _began(kept: Kept) -> dict[str, float]:
    found: dict[str, float] = {}
    since = kept.row.started_at if kept.row.origin is not None else 0.0  # what the origin did is in its own trace
    for record in kept.records:
        at = _instant(record)
        if at is None or at < since:
            continue
        for path in enclosing(record.path):
            found[path] = min(found.get(path, at), at)
    return found


def _instant(record: Record) -> float | None:
    if record.kind not in (*OUTCOMES, "timer", "waits"):
        return None
    facts = json.loads(record.payload)
    at = facts.get("started_at" if record.kind in OUTCOMES else "at") if isinstance(facts, dict) else None
    return float(at) if isinstance(at, int | float) else None


def enclosing(path: str) -> Iterator[str]:
    """Yield the steps that a path is part of, itself first: `/each[3]/mail` → `/each[3]/mail`, `/each`."""
    parts = path.split("/")
    for i in range(len(parts), 1, -1):
        if not _is_try(parts[i - 1]):
            yield step_of("/".join(parts[:i]))


def _is_try(part: str) -> bool:
    return part.startswith("@") and part[1:].isdecimal()


def plain(path: str) -> str:
    """Return a path without turns and tries, so that few names stand for many: `/each[3]/@2/mail` → `/each/mail`."""
    return "/".join(part.split("[")[0] for part in path.split("/") if not _is_try(part))
