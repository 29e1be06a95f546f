"""What the tests of all journals stand on: a journal, others on the same store, a clock, runs to keep."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from weft.journal.base import Claim, Journal, Record, RunRow


@dataclass(slots=True)
class Clock:
    """A clock that stands until it is moved."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Bench:
    """A journal under test."""

    journal: Journal
    another: Callable[[], Awaitable[Journal]]  #: opens a journal on the same store, as another process would
    clock: Clock | None = None  #: that both go by; None: they go by one that nobody can move
    dead_s: float = 1.0  #: after which a process that has gone is known to be dead
    document: str = field(default="", init=False)  #: hash of one that is kept

    async def sleep(self, seconds: float) -> None:
        """Let time pass, by the journal's clock."""
        if self.clock is not None:
            self.clock.now += seconds
        else:
            await asyncio.sleep(seconds)

    def row(self, run_id: str = "r1", **facts: Any) -> RunRow:
        given: dict[str, Any] = {"workflow": "w", "inputs": "{}", "trigger": "null", "started_at": 12.5} | facts
        return RunRow(run_id, document=given.pop("document", self.document), **given)

    async def accept(self, run_id: str = "r1", *records: Record, **facts: Any) -> Claim:
        return await self.journal.accept(self.row(run_id, **facts), *records)


def begun(path: str = "/a", n: int = 1, payload: str = "{}") -> Record:
    return Record(path, n, "begun", payload)


def waits(path: str = "/ask", n: int = 1, deadline: float | None = None) -> Record:
    return Record(path, n, "waits", json.dumps({"at": 0.0, "deadline": deadline}))
