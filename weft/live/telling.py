"""Makes frames of what happens in a run that this process drives."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from weft.engine.events import (
    Asked,
    AttemptEnded,
    AttemptStarted,
    Emitted,
    Event,
    Logged,
    RunEnded,
    RunStarted,
    StepEnded,
    StepStarted,
)
from weft.engine.interpreter import Mark, Walk
from weft.engine.reactor import facts_of
from weft.engine.report import ProblemReport, summary_of
from weft.errors import WeftError
from weft.journal.base import NEWS, Kept, Listed
from weft.live.frames import RUNS
from weft.plan import Plan
from weft.types import JsonObject

Publish: TypeAlias = Callable[[str, str, JsonObject], None]

PIECE: Final = 4_000
"""Characters of an output in one frame, at most."""

_LOG = logging.getLogger("weft.live")


class Teller:
    """Tells of one run under one claim. Every frame names the claim's epoch: what an older one says is void (rule B5).

    Args:
        kept: The run as it was claimed.
        plan: What it follows.
        wants: Tells whether somebody listens for a topic.
        publish: Takes the frames.
    """

    def __init__(self, kept: Kept, plan: Plan, wants: Callable[[str], bool], publish: Publish) -> None:
        self.run_id = kept.row.id
        self.topic = f"run:{kept.row.id}"
        self._kept, self._plan = kept, plan
        self._epoch = kept.status.epoch
        self._wants, self._publish = wants, publish
        self._attempts: dict[str, JsonObject] = {}  #: those under way, by path
        self._offsets: dict[str, int] = {}  #: characters of their output until now
        self._known: set[tuple[str, str, int]] | None = None  #: what earlier claims have told of

    def __call__(self, event: Event) -> None:
        """Take in an event; with nobody who listens it costs next to nothing."""
        match event:
            case RunStarted() | RunEnded():
                self._tell_run(event)
            case AttemptStarted():
                self._attempts[event.path] = {
                    "path": event.path,
                    "attempt": event.attempt,
                    "state": "running",
                    "variant": event.variant,
                    "note": event.note,
                }
                if not event.note:
                    self._offsets[event.path] = 0
                self._tell("attempt", self._attempts[event.path])
            case Emitted():
                self._tell_output(event)
            case AttemptEnded():
                self._attempts.pop(event.path, None)
                self._offsets.pop(event.path, None)
                self._tell_new("attempt", event.path, event.attempt, _attempt(event))
            case StepStarted():
                self._tell_new("step", event.path, 0, {"path": event.path, "state": "running"})
            case StepEnded():
                self._tell_new("step", event.path, 1, _step(event))
            case Asked():
                self._tell_question(event)
            case Logged():
                self._tell("log", {"path": event.path, "message": event.message})

    def stand(self) -> None:
        """Tell what is under way: somebody has begun to listen who cannot know it from the journal."""
        for facts in self._attempts.values():
            self._tell("attempt", {**facts, "offset": self._offsets.get(str(facts["path"]), 0)})

    # ---- the run as a whole
    def _tell_run(self, event: RunStarted | RunEnded) -> None:
        is_end = isinstance(event, RunEnded)
        state = event.state if isinstance(event, RunEnded) else "running"
        if self._wants(RUNS):
            self._publish(RUNS, "run", self._summary(event))
        if self._wants(self.topic):
            facts: JsonObject = {"state": state}
            if isinstance(event, RunEnded):
                facts |= {"ms": event.ms, "problem": _problem(event.problem)}
            self._tell("run", facts)
        if not is_end and self._wants("approvals") and any(each.kind == "waits" for each in self._kept.records):
            self._publish("approvals", "changed", {"run_id": self.run_id, "workflow": self._kept.row.workflow})

    def _summary(self, event: RunStarted | RunEnded) -> JsonObject:
        """Return the run as lists tell it."""
        status = replace(self._kept.status, state="running", result=None, reason=None, wake_at=None)
        summary = summary_of(Listed(self._kept.row, status))
        if isinstance(event, RunEnded):
            ended = event.state in ("succeeded", "failed", "cancelled")
            at = datetime.fromtimestamp(self._kept.row.started_at + event.ms / 1000, UTC)
            wake_at = None if event.wake_at is None else datetime.fromtimestamp(event.wake_at, UTC)
            known = {"state": event.state, "ms": event.ms, "ended_at": at if ended else None, "wake_at": wake_at}
            summary = summary.model_copy(update={**known, "problem": ProblemReport.of(event.problem)})
        told: JsonObject = summary.model_dump(mode="json")
        return {**told, "epoch": self._epoch}

    # ---- its steps
    def _tell(self, event: str, facts: JsonObject) -> None:
        if self._wants(self.topic):
            self._publish(self.topic, event, {"run_id": self.run_id, "epoch": self._epoch, **facts})

    def _tell_new(self, event: str, path: str, number: int, facts: JsonObject) -> None:
        """Tell of something unless an earlier claim has; on a resume everything is heard again."""
        if self._wants(self.topic) and (event, path, number) not in self._told_before():
            self._tell(event, facts)

    def _tell_output(self, event: Emitted) -> None:
        offset = self._offsets.get(event.path, 0)
        self._offsets[event.path] = offset + len(event.text)
        if not self._wants(self.topic):
            return
        for begin in range(0, len(event.text), PIECE):
            piece = event.text[begin : begin + PIECE]
            facts: JsonObject = {"path": event.path, "attempt": event.attempt, "offset": offset + begin, "text": piece}
            self._tell("output", facts)

    def _tell_question(self, event: Asked) -> None:
        facts: JsonObject = {
            "path": event.path,
            "message": event.message,
            "who": list(event.who),
            "asked_at": event.at.isoformat(),
            "deadline": None if event.deadline is None else event.deadline.isoformat(),
        }
        self._tell("asked", facts)
        if self._wants("approvals"):
            self._publish("approvals", "asked", {"run_id": self.run_id, "workflow": self._kept.row.workflow, **facts})

    def _told_before(self) -> set[tuple[str, str, int]]:
        if self._known is None:
            self._known = _known(self._kept, self._plan) if self._kept.records else set()
        return self._known


def _known(kept: Kept, plan: Plan) -> set[tuple[str, str, int]]:
    """Return what the records of earlier claims tell of, read by the walk that drives a run.

    What others have written behind them, such as an answer, no claim has told of.
    """
    own = max((at for at, record in enumerate(kept.records, 1) if record.kind not in NEWS), default=0)
    walk = Walk(plan, facts_of(kept), kept.records[:own])
    try:
        walk.advance()
    except WeftError as error:  # whoever drives it parks it
        _LOG.debug("history_unreadable %s %s", kept.row.id, error.problem.code)
        return set()
    return {
        ("step", each.path, 0 if each.result is None else 1)
        if isinstance(each, Mark)
        else ("attempt", each.call.path, each.call.number)
        for each in walk.marks
    }


def _attempt(event: AttemptEnded) -> JsonObject:
    state = "cancelled" if event.cancelled else "succeeded" if event.problem is None else "failed"
    return {
        "path": event.path,
        "attempt": event.attempt,
        "state": state,
        "variant": event.variant,
        "ms": event.ms,
        "wait_s": event.wait_s,
        "status": event.status,
        "problem": _problem(event.problem),
    }


def _step(event: StepEnded) -> JsonObject:
    return {"path": event.path, "state": event.state, "ms": event.ms, "problem": _problem(event.problem)}


def _problem(problem: Any) -> Any:
    told = ProblemReport.of(problem)
    return None if told is None else told.model_dump(mode="json")


class ActionLog(logging.Handler):
    """Passes on what actions log to those who tell of their runs; the executor has cleaned it."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.tellers: dict[str, tuple[Teller, asyncio.AbstractEventLoop]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        found = self.tellers.get(getattr(record, "run_id", ""))
        if found is not None:
            event = Logged(str(getattr(record, "path", "")), record.getMessage())
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                found[1].call_soon_threadsafe(found[0], event)  # an action may log from its thread


ACTION_LOG: Final = ActionLog()
"""One for all runs: each handler is asked for each line."""


def hear(teller: Teller) -> None:
    """Let a teller hear what the actions of its run log."""
    logger = logging.getLogger("weft.action")
    logger.addHandler(ACTION_LOG)  # again, it does nothing
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    ACTION_LOG.tellers[teller.run_id] = (teller, asyncio.get_running_loop())


def mute(teller: Teller) -> None:
    """Let it hear no more."""
    if (found := ACTION_LOG.tellers.get(teller.run_id)) is not None and found[0] is teller:
        del ACTION_LOG.tellers[teller.run_id]
