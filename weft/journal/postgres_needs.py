"""What a decision needs besides the row of its run.

All locks of a transaction are taken in one order: the row of a schedule, gates, rows of runs by their ids, meters. Gates
and meters have no rows that could be locked before the first of them is made, so that they are locked by numbers
(transaction-level advisory locks, rule A25), and these by size. So a decision that finds that it needs more than was
locked for it does not go on: it is undone, and decided on anew when all of it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from weft.journal.postgres_link import Statement
from weft.journal.postgres_rows import Wanted

Attempt = tuple[str, str, int, int]
"""A run, a path in it, a number, and the epoch of the claim under which it was made."""

_TRY: Final = """
SELECT x.key FROM unnest(%s::text[], %s::bigint[]) AS x(key, number) WHERE pg_try_advisory_xact_lock(x.number)
"""
_WAIT: Final = "SELECT x.key, pg_advisory_xact_lock(x.number) FROM unnest(%s::text[], %s::bigint[]) AS x(key, number)"


@dataclass(slots=True)
class Needs:
    """Locks, and what is read under them."""

    gates: set[str] = field(default_factory=set)
    runs: set[str] = field(default_factory=set)
    families: set[str] = field(default_factory=set)  #: runs whose open descendants are asked for
    records: set[tuple[str, Wanted]] = field(default_factory=set)
    meters: set[str] = field(default_factory=set)
    windows: set[tuple[str, float]] = field(default_factory=set)  #: meters, and how many seconds of theirs
    live: set[str] = field(default_factory=set)
    attempts: set[Attempt] = field(default_factory=set)  #: what they hold is asked for

    def __bool__(self) -> bool:
        return any(self._all())

    def _all(self) -> tuple[set[str] | set[tuple[str, Wanted]] | set[tuple[str, float]] | set[Attempt], ...]:
        return (
            self.gates,
            self.runs,
            self.families,
            self.records,
            self.meters,
            self.windows,
            self.live,
            self.attempts,
        )

    def add(self, others: Needs) -> None:
        for mine, theirs in zip(self._all(), others._all(), strict=True):
            mine.update(theirs)  # type: ignore[arg-type]  # the same field of both

    def __or__(self, others: Needs) -> Needs:
        both = Needs()
        both.add(self)
        both.add(others)
        return both

    def without(self, others: Needs) -> Needs:
        """Return what is left when others have been met."""
        return Needs(*(mine - theirs for mine, theirs in zip(self._all(), others._all(), strict=True)))  # type: ignore[arg-type]  # the same field of both


class NeedsMore(Exception):
    """A decision needs what was not locked or read for it; nothing of it counts."""

    def __init__(self, needs: Needs) -> None:
        super().__init__()
        self.needs = needs


def locking(kind: Literal["gate", "meter", "schedule"], keys: Iterable[str], *, waits: bool) -> Statement:
    """Return the statement that locks keys in the order of their numbers; without waiting it returns those it got."""
    numbered = sorted((_number(kind, key), key) for key in set(keys))
    values: Sequence[object] = ([key for _, key in numbered], [number for number, _ in numbered])
    return (_WAIT if waits else _TRY), values


def _number(kind: str, key: str) -> int:
    """Return the number of a lock; two keys with the same one would only wait for each other."""
    digest = hashlib.sha256(f"weft {kind} {key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], signed=True)
