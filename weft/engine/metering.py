"""What the reactor asks before an attempt begins: what it may use up, and what it has used up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from weft.executor import Call
from weft.journal.base import Full, Meter, Settled
from weft.outcome import Failure, Outcome
from weft.plan import Plan


class Budgets(Protocol):
    """Caps and limits; an attempt without meters takes the path that it would take without any of this."""

    def meters(self, call: Call, plan: Plan) -> tuple[Meter, ...] | Failure:
        """Return what an attempt may use up; a failure when it must not even be asked whether it may begin."""

    def refused(self, call: Call, meters: Sequence[Meter], full: Full) -> Failure | None:
        """Return how an attempt fails for which there is no room; None when it is to wait for room."""

    def waits(self, full: Full) -> str:
        """Return in a sentence what an attempt waits for that has no room."""

    def settled(self, call: Call, meters: Sequence[Meter], outcome: Outcome) -> Settled:
        """Return what an attempt that was granted its meters has really used up."""
