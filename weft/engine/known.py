"""What is on record of a run, other than how things ended, and the refusal to follow it where it does not fit."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from weft.engine.attempts import Doubt
from weft.engine.operations import Key, Start
from weft.errors import Diverged
from weft.executor import Call
from weft.journal.base import OUTCOMES, Record
from weft.outcome import encode
from weft.plan import PlannedStep
from weft.types import Json, JsonObject

IF: Final = 1
FOR_EACH: Final = 2
DOUBT: Final = 3
"""Numbers of the choices of one step; the last one is not this run's: it was in doubt in the run that this one repeats."""


class Known:
    """What a run has begun and chosen before.

    Args:
        records: What is on record of it.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.notes: list[Record] = []  #: choices that are not on record yet
        self.history: list[Record] = []  #: of how things went, in the order in which it was accepted
        self.begun: dict[Key, str] = {}  #: hash of what was begun
        self.waits: dict[Key, JsonObject] = {}  #: timers and questions
        self.choices: dict[Key, str] = {}
        self.tried: set[Key] = set()  #: attempts of which anything is on record
        for record in records:
            match record.kind:
                case "begun":
                    self.tried.add((record.path, record.n))
                    self.begun[record.path, record.n] = json.loads(record.payload)["request"]
                case "timer":
                    self.waits[record.path, -record.n] = json.loads(record.payload)
                case "waits":
                    self.waits[record.path, -record.n] = json.loads(record.payload)
                    self.history.append(record)
                case "choice":
                    self.choices[record.path, record.n] = record.payload
                case _:
                    if record.kind in OUTCOMES:
                        self.tried.add((record.path, record.n))
                    self.history.append(record)

    def chosen(self, step: PlannedStep, path: str, n: int, choice: Json) -> None:
        """Put a choice on record, or refuse to go on when another one stands there."""
        text = encode(choice)
        known = self.choices.get((path, n))
        if known is None:
            self.choices[path, n] = text
            self.notes.append(Record(path, n, "choice", text))
        elif known != text:
            raise diverged(step, "`if`" if n == IF else "`for_each`", "another result")

    def inherited(self, path: str) -> Doubt | None:
        """Return what the run that this one repeats left in doubt at a path without tries (rule A22)."""
        text = self.choices.get((path, DOUBT))
        return None if text is None else Doubt(**json.loads(text))

    def same(self, call: Call, request: str) -> None:
        """Refuse to take what is on record for another call than this one."""
        if call.request != request:
            raise diverged(call.step, "its arguments", "others")

    def same_child(self, start: Start) -> None:
        """Refuse to take the end of a child run that was asked for something else."""
        kept = self.waits[start.path, -start.n]
        if kept.get("request") != start.request:
            raise Diverged(
                f"The run was recorded with another child run for {start.path!r}: something that it stands on has "
                "changed since.",
                remedy="Run it again from its beginning, or with the version that began it.",
            )

    def unless_recorded(self, step: PlannedStep, recorded: bool) -> None:
        """Refuse to take a fault for the step's own when the same was rendered without one before."""
        if recorded:
            raise diverged(step, "an expression", "a value")


def diverged(step: PlannedStep, what: str, got: str) -> Diverged:
    return Diverged(
        f"The run was recorded with {got} for {what} of this step: something that it stands on has changed since.",
        remedy="Run it again from its beginning, or with the version that began it.",
        where=step.where(),
    )
