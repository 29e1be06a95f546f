"""The child runs of one run: how they begin, and how they are called off when the time of their step is up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from weft.engine.gates import gate_of
from weft.engine.interpreter import Walk
from weft.engine.operations import Operation, Start
from weft.engine.results import RunFacts
from weft.engine.room import Insist
from weft.errors import JournalRefused, NotFound
from weft.journal.base import Journal, Parent, RunRow
from weft.outcome import encode
from weft.plan import Plan
from weft.types import JsonObject

_LOG = logging.getLogger("weft.engine")


class Children:
    """What a run that drives itself does for those that it starts.

    Args:
        journal: Where they are.
        pin: Makes the text of what a child run follows.
        insist: Does something with the journal until it can be done.
    """

    def __init__(self, journal: Journal, pin: Callable[[Plan], str] | None, insist: Insist) -> None:
        self._journal = journal
        self._pin = pin
        self._insist = insist
        self._called_off: set[str] = set()

    async def row(self, parent: RunRow, start: Start) -> RunRow:
        """Return the row of a child run; what it follows is kept."""
        if self._pin is None:
            raise RuntimeError("nobody says what a child run follows")
        text = self._pin(start.plan)
        document = await self._insist(lambda: self._journal.keep_document(text))
        at = start.asked_at or 0.0
        trigger: JsonObject = {"type": "workflow", "run": parent.id, "step": start.path}
        return RunRow(
            start.child,
            start.plan.workflow.name,
            document,
            encode(start.inputs),
            encode(trigger),
            at,
            parent=Parent(parent.id, start.path, start.n),
            gate=gate_of(start.plan, RunFacts(start.child, at, start.inputs, trigger)),
        )

    def is_to_be_called_off(self, start: Operation, walk: Walk) -> bool:
        """Whether a child run goes on although a timeout has ended its step; on a cancel the journal sees to that."""
        if not isinstance(start, Start) or start.child in self._called_off:
            return False
        return walk.ends(start) and not walk.cancelled

    async def call_off(self, open_: Iterable[Operation], walk: Walk) -> bool:
        """Cancel the child runs whose steps a timeout has ended, and tell whether there were any.

        The record of the timeout is kept already.
        """
        some = False
        for start in list(open_):
            if isinstance(start, Start) and self.is_to_be_called_off(start, walk):
                await self._insist(lambda child=start.child: self._cancel(child))  # type: ignore[misc]
                self._called_off.add(start.child)
                some = True
        return some

    async def _cancel(self, child: str) -> None:
        """Cancel a run unless it was cancelled before: twice would be at once."""
        try:
            kept = await self._journal.load(child)
            if not any(record.kind == "cancel" for record in kept.records):
                await self._journal.cancel(child)
        except (JournalRefused, NotFound) as refused:
            _LOG.debug("call_off_refused %s %s", child, refused.problem.code)
