"""What event streams are made of, as programs read it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pydantic import Field

from weft.engine.events import StepState
from weft.engine.report import ProblemReport, QuestionReport, RunReport, RunSummary
from weft.live import Frame
from weft.server.routes.shapes import Shape
from weft.types import JsonObject

MOST_STEPS: Final = 500
"""In a snapshot; a run with more is shown by its own address."""

LONGEST_OUTPUT: Final = 32_000
"""Characters of one attempt's output in a snapshot, from its end."""


class StepStanding(Shape):
    """A step in a snapshot."""

    path: str
    uses: str
    title: str
    state: StepState
    ms: int
    attempts: int
    """That have ended."""
    child: str | None = None
    """The run that was started last, of a step that starts one."""
    asks: list[QuestionReport] = Field(default_factory=list)
    problem: ProblemReport | None = None


class Written(Shape):
    """What an attempt that is under way has written until now."""

    path: str
    attempt: int
    epoch: int
    offset: int
    """Where `text` begins; what stood before it is not here any more."""
    text: str


class Snapshot(Shape):
    """Where a run stands: the first event of the topic `run:<id>`."""

    run: RunSummary
    epoch: int
    """Of its last claim. What an event with a smaller one says is void."""
    steps: list[StepStanding]
    more_steps: int = 0
    """Steps that are left out here."""
    output: list[Written] = Field(default_factory=list)


class EventOut(Shape):
    """One event."""

    id: str
    """To be sent as `after`, or by browsers as `Last-Event-ID`, to go on behind it."""
    topic: str
    """Empty for what concerns all topics: `ready`, `refresh`, `reset`."""
    event: str
    data: JsonObject


class Events(Shape):
    """Events for one who asks now and then instead of keeping a stream."""

    events: list[EventOut]
    next: str
    """What to send as `after` the next time."""
    again_in_s: float = 2.0
    """When to ask again."""


def snapshot_of(summary: RunSummary, report: RunReport, epoch: int, frames: Iterable[Frame]) -> Snapshot:
    """Return where a run stands, with what its attempts under way have written."""
    steps = [
        StepStanding(
            path=step.path,
            uses=step.uses,
            title=step.title,
            state=step.state,
            ms=step.ms,
            attempts=len(step.attempts),
            child=step.child,
            asks=step.asks,
            problem=step.problem,
        )
        for step in report.steps[:MOST_STEPS]
    ]
    ended = {
        (step.path if each.turn is None else f"{step.path}[{each.turn}]", each.number)
        for step in report.steps
        for each in step.attempts
    }
    output = [each for each in written(frames, epoch) if (each.path, each.attempt) not in ended]
    return Snapshot(
        run=summary, epoch=epoch, steps=steps, more_steps=max(0, len(report.steps) - MOST_STEPS), output=output
    )


def written(frames: Iterable[Frame], epoch: int) -> list[Written]:
    """Return the output of attempts, put together from its pieces; what comes behind a gap alone, where there is one."""
    found: dict[tuple[str, int], tuple[int, str]] = {}
    for frame in frames:
        facts = frame.data
        path, attempt, offset, text = (facts.get(name) for name in ("path", "attempt", "offset", "text"))
        if facts.get("epoch") != epoch or not isinstance(path, str) or not isinstance(attempt, int):
            continue
        if not isinstance(offset, int) or not isinstance(text, str):
            continue
        begin, before = found.get((path, attempt), (offset, ""))
        found[path, attempt] = (begin, before + text) if begin + len(before) == offset else (offset, text)
    return [
        Written(path=path, attempt=attempt, epoch=epoch, offset=begin + cut, text=text[cut:])
        for (path, attempt), (begin, text) in found.items()
        for cut in (max(0, len(text) - LONGEST_OUTPUT),)
    ]
