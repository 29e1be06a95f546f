"""A journal that forgets, and whose clock is moved to the next instant that somebody waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from weft.journal.base import OPEN, Kept, RunQuery
from weft.journal.memory import MemoryJournal
from weft.outcome import decode, encode
from weft.types import JsonObject

Question = Mapping[str, Any]
Answerer = Callable[[Kept, str, Question], JsonObject | None]
"""Returns the answer to a question at a path of a run; None: nobody answers."""


class SimulatedJournal(MemoryJournal):
    """Runs of a rehearsal: no wait takes its time, and what happens does so in the order of its instants.

    Its clock stands still while anything goes on.

    Args:
        at: The instant at which everything begins, in seconds since 1970, UTC.
        answer: Answers the questions of approvals.
    """

    def __init__(self, at: float, answer: Answerer) -> None:
        super().__init__("rehearsal", clock=self._simulated_time)
        self._instant = at
        self._ask_somebody = answer
        self.passed_s = 0.0  #: how much time has been passed over

    def _simulated_time(self) -> float:
        return self._instant

    async def pass_on(self) -> bool:
        """Let the next thing happen that somebody waits for: an answer, else an instant; False: there is none.

        To be called when no run goes on.
        """
        if await self._questions_answered():
            return True
        earliest = await self.next_wake()
        if earliest is None:
            return False
        leap_s = max(0.0, earliest - self.now())
        self._instant += leap_s
        self.passed_s += leap_s
        return bool(await self.wake(1_000))

    async def _questions_answered(self) -> bool:
        some = False
        for run in await self.runs(RunQuery(states=("waiting",), limit=10_000)):
            kept = await self.load(run.row.id)
            for path, question in _open_questions(kept).items():
                answer = self._ask_somebody(kept, path, question)
                if answer is not None:
                    await self.signal(kept.row.id, path, encode({**answer, "at": self.now()}))
                    some = True
        return some

    async def give_up(self) -> None:
        """Cancel what waits for something that never comes."""
        for run in await self.runs(RunQuery(states=OPEN, limit=10_000)):
            await self.cancel(run.row.id)
            await self.cancel(run.row.id)


def _open_questions(run: Kept) -> dict[str, Question]:
    """Return the questions of a run that have no answer yet, by their paths; children of a run ask nobody."""
    over = {(record.path, record.n) for record in run.records if record.kind in ("signal", "rang")}
    asked = [each for each in run.records if each.kind == "waits" and (each.path, each.n) not in over]
    found = {each.path: decode(each.payload) for each in asked}
    return {path: question for path, question in found.items() if "message" in question}
