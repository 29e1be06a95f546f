"""A run as it is told to people and programs: the stable shape of `weft run --json`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from weft.engine.events import AttemptEnded, Event, RunEnded, RunStarted, RunState, StepEnded, StepStarted, StepState
from weft.errors import Problem, Where
from weft.types import Json, JsonObject


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Place(Shape):
    file: str | None = None
    line: int | None = None
    """From 1."""
    column: int | None = None
    """From 1, in characters."""
    step: str | None = None
    field: str | None = None

    @classmethod
    def of(cls, where: Where) -> Place:
        return cls(file=where.file, line=where.line, column=where.column, step=where.step, field=where.field)


class ProblemReport(Shape):
    code: str
    """A stable name, for programs."""
    message: str
    remedy: str | None = None
    where: Place

    @classmethod
    def of(cls, problem: Problem | None) -> ProblemReport | None:
        if problem is None:
            return None
        return cls(code=problem.code, message=problem.message, remedy=problem.remedy, where=Place.of(problem.where))


class AttemptReport(Shape):
    number: int
    """From 1, over the whole chain of retries and fallbacks."""
    variant: str
    """What was called: `openai/gpt-4o-mini`; `default` for actions without variants."""
    state: Literal["succeeded", "failed", "cancelled"]
    kind: str | None = None
    """The kind of the failure."""
    ms: int
    wait_s: float = 0.0
    """Seconds until the next attempt."""
    status: int | None = None
    """The protocol's status of a failure, where there was one."""
    details: JsonObject = Field(default_factory=dict)
    """Further facts of a failure, as the action has them: what it cost, who was refused."""
    problem: ProblemReport | None = None


class StepReport(Shape):
    path: str
    """Ids from the document's root: `/answer`, `/each[3]/mail`."""
    uses: str
    """The action's id; `group`, `wait` or `approval` for steps without an action."""
    title: str
    state: StepState
    ms: int = 0
    attempts: list[AttemptReport] = Field(default_factory=list)
    output: Json = None
    problem: ProblemReport | None = None


class RunReport(Shape):
    run_id: str
    workflow: str
    state: RunState
    started_at: datetime
    ended_at: datetime
    ms: int
    inputs: JsonObject
    steps: list[StepReport]
    """In document order; the turns of a loop and the members of a group follow in the order in which they began."""
    outputs: Json = None
    """What the document's `outputs` came to."""
    problem: ProblemReport | None = None


class Reporter:
    """An observer that keeps what a report needs."""

    def __init__(self, inputs: JsonObject, titles: dict[str, tuple[str, str]]) -> None:
        self._inputs = inputs
        self._titles = titles  #: document path without loop turns → action or kind, title
        self._started: RunStarted | None = None
        self._ended: RunEnded | None = None
        self._steps: dict[str, StepEnded | None] = {}
        self._attempts: dict[str, list[AttemptReport]] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._started = event
                self._steps = {path: None for path, _, _ in event.steps}
            case StepStarted(path):
                self._steps.setdefault(path, None)
            case AttemptEnded():
                self._attempts.setdefault(_step_of(event.path), []).append(_attempt(event))
            case StepEnded(path):
                self._steps[path] = event
            case RunEnded():
                self._ended = event
            case _:
                pass

    def report(self) -> RunReport:
        """Return the report of a run that has ended."""
        started, ended = self._started, self._ended
        if started is None or ended is None:
            raise RuntimeError("the run has not ended")
        started_at = started.at.timestamp()
        return RunReport(
            run_id=ended.run_id,
            workflow=started.workflow,
            state=ended.state,
            started_at=started.at,
            ended_at=datetime.fromtimestamp(started_at + ended.ms / 1000, UTC),
            ms=ended.ms,
            inputs=self._inputs,
            steps=[self._step(path, step) for path, step in self._steps.items()],
            outputs=ended.outputs,
            problem=ProblemReport.of(ended.problem),
        )

    def _step(self, path: str, step: StepEnded | None) -> StepReport:
        uses, title = self._titles.get(_plain(path), ("", ""))
        attempts = self._attempts.get(path, [])
        if step is None:
            return StepReport(path=path, uses=uses, title=title, state="pending", attempts=attempts)
        return StepReport(
            path=path,
            uses=uses,
            title=title,
            state=step.state,
            ms=step.ms,
            attempts=attempts,
            output=step.output,
            problem=ProblemReport.of(step.problem),
        )


def _plain(path: str) -> str:
    """Return a path without the turns of its loops: `/each[3]/mail` → `/each/mail`."""
    return "/".join(part.split("[")[0] for part in path.split("/"))


def _step_of(attempt_path: str) -> str:
    """Return the path of the step whose attempt it is: `/each[3]/mail` itself, `/each` for its turn `/each[3]`."""
    return attempt_path.rsplit("[", 1)[0] if attempt_path.endswith("]") else attempt_path


def _attempt(event: AttemptEnded) -> AttemptReport:
    problem = event.problem
    state: Literal["succeeded", "failed", "cancelled"] = (
        "cancelled" if event.cancelled else "succeeded" if problem is None else "failed"
    )
    return AttemptReport(
        number=event.attempt,
        variant=event.variant,
        state=state,
        kind=None if problem is None else problem.code,
        ms=event.ms,
        wait_s=event.wait_s,
        status=event.status,
        details=dict(event.details),
        problem=ProblemReport.of(problem),
    )
