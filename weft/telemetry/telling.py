"""Tells the log of what happens in a run: a line for each event, with names that stay the same."""

from __future__ import annotations

import logging

from weft.engine.events import Asked, AttemptEnded, Event, Logged, Observer, RunEnded, RunStarted, StepEnded
from weft.errors import Problem
from weft.journal.base import ENDS, Kept
from weft.plan import Plan
from weft.telemetry.past import past_of
from weft.types import Json

_LOG = logging.getLogger("weft.run")


def watch(kept: Kept, plan: Plan) -> Observer:
    """Return what writes the lines of a run."""
    if _LOG.level == logging.NOTSET:
        _LOG.setLevel(logging.INFO)
    past = past_of(kept, plan)
    run_id, workflow = kept.row.id, kept.row.workflow

    def say(event: str, **facts: Json) -> None:
        told = {name: value for name, value in facts.items() if value is not None}
        _LOG.info(event, extra={"facts": {"run_id": run_id, "workflow": workflow, **told}})

    def tell(event: Event) -> None:
        match event:
            case RunStarted():
                say("run_goes_on" if kept.records else "run_started")
            case AttemptEnded() if (event.path, event.attempt) not in past.attempts:
                state = "cancelled" if event.cancelled else "failed" if event.problem else "succeeded"
                say(
                    "attempt_ended",
                    path=event.path,
                    attempt=event.attempt,
                    variant=event.variant,
                    state=state,
                    ms=event.ms,
                    repeated=event.repeated,
                    **_why(event.problem),
                )
            case StepEnded() if event.path not in past.ended:
                say("step_ended", path=event.path, state=event.state, ms=event.ms, **_why(event.problem))
            case Asked() if event.at.timestamp() >= kept.status.changed_at or not kept.records:
                say("step_asks", path=event.path, message=event.message)
            case Logged():
                say("run_remark", path=event.path, message=event.message)
            case RunEnded():
                ended = event.state in ENDS
                say("run_ended" if ended else "run_rests", state=event.state, ms=event.ms, **_why(event.problem))
            case _:
                return

    return tell


def _why(problem: Problem | None) -> dict[str, Json]:
    return {} if problem is None else {"code": problem.code, "message": problem.message}
