"""What steps and runs come to, and what is fixed of a run when it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from weft.engine.events import StepState
from weft.errors import Problem
from weft.executor import Call
from weft.outcome import Outcome
from weft.types import Json

CANCELLED = Problem("cancelled", "The run was cancelled.")


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step came to; later steps see it in their scope."""

    state: StepState
    output: Json = None
    problem: Problem | None = None
    tolerated: bool = False  #: it failed, and the run goes on
    retryable: bool = False  #: it failed, and another try of all of it may help
    fatal: bool = False  #: it failed, and whatever its `on_error` says, so does the run

    @property
    def failed(self) -> bool:
        return self.state in ("failed", "cancelled") and not self.tolerated

    def in_scope(self) -> dict[str, Any]:
        error = None if self.problem is None else {"kind": self.problem.code, "message": self.problem.message}
        return {"output": self.output, "state": self.state, "error": error}


STOPPED = StepResult("cancelled", problem=CANCELLED)


@dataclass(frozen=True, slots=True)
class RunResult:
    """What the run came to."""

    state: Literal["succeeded", "failed", "cancelled"]
    outputs: Json
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A step began (no result) or ended; for those who watch."""

    path: str
    result: StepResult | None


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt ended, and how long the next one, if there is one, has to wait; for those who watch."""

    call: Call
    outcome: Outcome
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is fixed when a run starts."""

    run_id: str
    started_at: float
    inputs: Mapping[str, Json]
    trigger: Json = None
    scheduled_at: float | None = None
    attempt: int = 1

    def scope(self, variables: Mapping[str, Json]) -> dict[str, Any]:
        return {
            "inputs": dict(self.inputs),
            "variables": dict(variables),
            "trigger": self.trigger,
            "run": {
                "id": self.run_id,
                "started_at": iso(self.started_at),
                "scheduled_at": None if self.scheduled_at is None else iso(self.scheduled_at),
                "attempt": self.attempt,
            },
            "steps": {},
        }


def iso(instant: float) -> str:
    """Return an instant as expressions see it."""
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
