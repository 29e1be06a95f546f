"""What a run waits for: attempts, pauses, answers and child runs, each with what puts an end to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from weft.executor import Call
from weft.journal.base import Record
from weft.plan import Plan
from weft.types import JsonObject

Key: TypeAlias = tuple[str, int]
"""Path and attempt; a wait has the negative number of the attempt before it, the timer of a `timeout` has 0."""


@dataclass(eq=False, slots=True)
class Reach:
    """How far a cancel or a timeout goes: what is inside is over with it."""

    outer: Reach | None = None
    ended: bool = False

    @property
    def is_over(self) -> bool:
        return self.ended or (self.outer is not None and self.outer.is_over)

    def end(self) -> None:
        """Start nothing more in here, and wait for nothing that can be left."""
        self.ended = True


def _nothing_ends() -> Reach:
    return Reach()


@dataclass(frozen=True, slots=True)
class Perform:
    """Make one attempt of a step."""

    call: Call
    reach: Reach = field(default_factory=_nothing_ends, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Pause:
    """Let time pass: `seconds` from when it is first asked for, or until an instant."""

    path: str
    n: int
    seconds: float | None = None
    until: float | None = None  #: seconds since 1970, UTC
    asked_at: float | None = None  #: that it began is on record
    reach: Reach = field(default_factory=_nothing_ends, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Ask:
    """Wait for somebody's answer, at most until its time is up."""

    path: str
    n: int
    message: str
    who: tuple[str, ...] = ()  #: may answer; none: everybody
    seconds: float | None = None  #: from when it is first asked
    until: float | None = None  #: seconds since 1970, UTC
    asked_at: float | None = None  #: that it began is on record
    told: bool = False  #: steps wait for it to be on record, to tell people
    reach: Reach = field(default_factory=_nothing_ends, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Start:
    """Start a child run, and wait for its end."""

    path: str
    n: int
    child: str  #: id of the child run
    plan: Plan
    inputs: JsonObject
    request: str  #: hash of what is asked of it
    asked_at: float | None = None  #: that it was started is on record
    until: None = None
    reach: Reach = field(default_factory=_nothing_ends, compare=False, repr=False)


Operation: TypeAlias = Perform | Pause | Ask | Start


def key(wish: Operation) -> Key:
    return (wish.call.path, wish.call.number) if isinstance(wish, Perform) else (wish.path, -wish.n)


def key_of(record: Record) -> Key:
    return (record.path, -record.n if record.kind in ("timer", "rang", "waits", "signal") else record.n)
