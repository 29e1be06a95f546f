"""What a run tells those who watch it, while it goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from weft.errors import Problem
from weft.types import Json

StepState = Literal["pending", "running", "waiting", "succeeded", "failed", "skipped", "cancelled"]
RunState = Literal["ready", "running", "waiting", "parked", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class RunStarted:
    run_id: str
    workflow: str
    at: datetime
    steps: tuple[tuple[str, str, str], ...]  #: path, action or kind, title of each step, in document order


@dataclass(frozen=True, slots=True)
class StepStarted:
    path: str


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    path: str
    attempt: int  #: from 1, over the whole chain
    variant: str  #: `openai/gpt-4o-mini`; `default` for actions without variants
    note: str = ""  #: what it is busy with before the action begins: `starting local-model`


@dataclass(frozen=True, slots=True)
class Emitted:
    """A piece of output, shown while it is being made; a new attempt begins from nothing."""

    path: str
    attempt: int
    text: str


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    path: str
    attempt: int
    variant: str
    ms: int
    problem: Problem | None  #: None when it succeeded; its code is the error's kind
    wait_s: float = 0.0  #: until the next attempt, if there is one
    status: int | None = None  #: of the other side's answer, when it failed
    details: Mapping[str, Json] = field(default_factory=dict)  #: further facts of its failure
    cancelled: bool = False  #: ended by a cancel; what is known of its effect is in the problem
    started_at: float = 0.0  #: seconds since 1970, UTC
    repeated: bool = False  #: an attempt before it may have had its effect
    arguments: Mapping[str, Json] = field(default_factory=dict)  #: what the action was given
    output: Json = None  #: what the action returned


@dataclass(frozen=True, slots=True)
class StepEnded:
    path: str
    state: StepState
    ms: int
    output: Json
    problem: Problem | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A step waits for somebody's answer."""

    path: str  #: under which it is answered: `/ok`, `/each[3]/ok`, `/each[3]` for a turn of a loop over the question alone
    message: str
    who: tuple[str, ...]  #: may answer; none: everybody
    at: datetime  #: when it was asked
    deadline: datetime | None


@dataclass(frozen=True, slots=True)
class Logged:
    path: str
    message: str


@dataclass(frozen=True, slots=True)
class RunEnded:
    run_id: str
    state: RunState
    ms: int
    outputs: Json
    problem: Problem | None
    wake_at: float | None = None  #: of one that waits: when it goes on by itself, in seconds since 1970, UTC


Event: TypeAlias = (
    RunStarted | StepStarted | AttemptStarted | Emitted | AttemptEnded | Asked | StepEnded | Logged | RunEnded
)
Observer: TypeAlias = Callable[[Event], None]


def guarded(observer: Observer) -> Observer:
    """Return `observer` as one that disturbs nobody: what it raises is logged."""

    def tell(event: Event) -> None:
        try:
            observer(event)
        except Exception:
            logging.getLogger("weft.engine").exception("observer_failed %s", type(event).__name__)

    return tell
