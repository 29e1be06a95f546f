"""What goes on, and what waits, before a gate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from weft.journal.postgres_link import Statement

FIRST: Final = 4
"""How many of those that wait longest are locked with their gate; more are locked when more may pass at once."""

_KNOWN: Final = 50

_STANDING: Final = """
SELECT s.gate, s.id, s.queued, s.number FROM (
    SELECT gate, id, queued, gate_at,
        row_number() OVER (PARTITION BY gate, queued, state = 'waiting' ORDER BY gate_at, id) AS place,
        count(*) OVER (PARTITION BY gate, queued) AS number
    FROM weft.states WHERE gate = ANY(%s) AND state IN ('ready', 'running', 'waiting', 'parked')
) AS s
WHERE NOT s.queued OR s.place <= %s OR s.id = ANY(%s)
ORDER BY s.gate, s.gate_at, s.id
"""

"""Of the queue its first runs, those that are held for review apart, and the runs that the transaction is about."""

_BLOCKERS: Final = """
SELECT s.gate, s.id FROM weft.states AS s
WHERE s.gate = ANY(%s) AND s.state IN ('ready', 'running', 'waiting', 'parked')
    AND NOT EXISTS (SELECT FROM weft.records AS r WHERE r.run_id = s.id AND r.path = '' AND r.kind = 'cancel')
ORDER BY s.gate, s.queued, s.gate_at, s.id
"""


@dataclass(slots=True)
class Standing:
    """One gate, under its lock."""

    admitted: list[str] = field(default_factory=list)  #: open runs that have passed, the oldest first
    queue: list[str] = field(default_factory=list)  #: the first of those that wait
    queued: int = 0
    blockers: list[str] = field(default_factory=list)  #: open runs that nobody has cancelled, the oldest first

    def copy(self) -> Standing:
        return Standing(list(self.admitted), list(self.queue), self.queued, list(self.blockers))

    def admit(self, run_id: str, *, from_queue: bool) -> None:
        """Let a run pass, a new one or one that has waited."""
        if from_queue:
            self.queued -= 1
            if run_id in self.queue:
                self.queue.remove(run_id)
        else:
            self.blockers.append(run_id)
        self.admitted.append(run_id)

    def wait(self, run_id: str) -> None:
        if len(self.queue) == self.queued:  # else there are some between that were not read
            self.queue.append(run_id)
        self.queued += 1
        self.blockers.append(run_id)

    def leave(self, run_id: str) -> None:
        for among in (self.admitted, self.blockers):
            if run_id in among:
                among.remove(run_id)


def standing(gates: Iterable[str], about: Iterable[str]) -> Statement:
    """Return the statement that reads how gates stand; `about` are runs that may be let through."""
    return _STANDING, (sorted(gates), _KNOWN, sorted(about))


def blocking(gates: Iterable[str]) -> Statement:
    """Return the statement that reads whom a new run may have to cancel."""
    return _BLOCKERS, (sorted(gates),)


def stand(
    keys: Iterable[str], open_: Iterable[tuple[Any, ...]], uncancelled: Iterable[tuple[Any, ...]]
) -> dict[str, Standing]:
    """Return how gates stand from what was read."""
    gates = {key: Standing() for key in keys}
    for key, run_id, is_queued, number in open_:
        gate = gates.get(key)
        if gate is None:  # its lock was not to be had
            continue
        if is_queued:
            gate.queue.append(run_id)
            gate.queued = number
        else:
            gate.admitted.append(run_id)
    for key, run_id in uncancelled:
        if key in gates:
            gates[key].blockers.append(run_id)
    return gates
