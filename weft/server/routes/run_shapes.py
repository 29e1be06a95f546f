"""What the routes of runs take and return, beside the reports that the command line prints."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Path
from pydantic import Field, StringConstraints

from weft.engine.events import StepState
from weft.engine.report import RunSummary
from weft.server.routes.shapes import Asked, Object, Shape
from weft.types import Json

Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
StepName = Annotated[str, StringConstraints(min_length=1, max_length=500)]
RunId = Annotated[str, Path(alias="run_id", max_length=100, description="The run's id, whole.")]


class Start(Asked):
    """A run to start."""

    workflow: Name
    """A workflow of the workspace, or an example of a pack."""
    inputs: Object = Field(default_factory=dict)
    until: StepName | None = None
    """Stop after this step: run it and what it needs, nothing else."""
    only: StepName | None = None
    """Run this step alone."""
    pins: Object | None = None
    """Outputs of steps that are not run, by step; left out, the pins that are kept with the workflow. Only for parts."""


class Cancel(Asked):
    """How to stop a run."""

    now: bool = False
    """At once: `finally` does not run, and what is under way is cut off."""


class Rerun(Asked):
    """What is other than in the run that is repeated."""

    inputs: Object = Field(default_factory=dict)
    """Edited inputs; the others stay as they were."""
    latest: bool = False
    """Follow the workflow as it is now, not as it was then."""


class Replay(Asked):
    """A run that inherits what was done before a step."""

    steps: Annotated[list[StepName], Field(min_length=1, max_length=50)]
    """From where on everything is done anew: `mail`, `each/mail`, or one turn: `each[3]/mail`."""
    inputs: Object = Field(default_factory=dict)
    """Edited inputs; steps that see them are done anew."""
    send_again: bool = False
    """Send again what was sent before; without it such a replay is refused."""


class Sends(Shape):
    """A step that a replay lets send."""

    step: str
    title: str
    again: list[str]
    """Where it has sent before, or may have; none: it sends for the first time."""


class ReplayPlan(Shape):
    """What a replay would send; nothing was started."""

    origin: str
    sends: list[Sends]
    sends_again: bool
    """Whether `send_again` must be said."""
    inherited: int
    """Records that it takes over."""


class Purge(Asked):
    """Which runs to remove."""

    older_than: Annotated[str, StringConstraints(min_length=2, max_length=20)]
    """How long ago they ended: `30d`, `12h`."""


class Purged(Shape):
    """What was removed."""

    runs: int
    records: int
    documents: int
    artifacts: int
    kept: dict[str, int]
    """Runs that were old enough and have stayed, by reason."""


class Use(Shape):
    """What something used, as far as the actions know it."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    costs: dict[str, float] = Field(default_factory=dict)
    """By currency."""
    unknown_cost: bool = False
    """Something has cost nobody knows how much."""


class Bar(Shape):
    """Something that took time in a run."""

    path: str
    title: str
    kind: Literal["step", "attempt"]
    attempt: int | None = None
    turn: int | None = None
    variant: str | None = None
    state: StepState
    started_at: datetime
    offset_ms: int
    """From the start of the run; negative for what it inherited."""
    ms: int
    inherited: bool = False
    use: Use


class Timeline(Shape):
    """When each step and each attempt was at work."""

    run: RunSummary
    bars: list[Bar]
    """In document order, the attempts of a step behind it."""
    use: Use
    """Of the run itself, without what it inherited."""


class Side(Shape):
    """A step in one of two runs."""

    state: StepState
    ms: int
    attempts: int
    use: Use


class Difference(Shape):
    """A value that two runs may not share."""

    name: str
    a: Json = None
    b: Json = None
    equal: bool


class StepComparison(Shape):
    """A step, or a turn of one, in two runs."""

    path: str
    title: str
    a: Side | None
    """Null when the run has no such step."""
    b: Side | None
    same_arguments: bool
    same_output: bool


class RunComparison(Shape):
    """Two runs side by side."""

    a: RunSummary
    b: RunSummary
    same_document: bool
    """Whether both follow the same text."""
    inputs: list[Difference]
    outputs: list[Difference]
    steps: list[StepComparison]
    """In the order of the first run, then what only the second one has."""


class Answer(Asked):
    """An answer to a question of a run."""

    step: StepName
    """The path under which it is answered: `ok`, `each[3]/ok`."""
    answer: Literal["approve", "reject"]
    comment: Annotated[str, StringConstraints(max_length=10_000)] | None = None
    """Why; later steps can read it."""
    by: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    """In whose name; left out, that of who asks. Another name is for administrators."""


class TokenAnswer(Asked):
    """An answer by the token of a link, in the name that the link was made for."""

    token: Annotated[str, StringConstraints(min_length=1, max_length=4_000)]
    """As it stands in the link."""
    answer: Literal["approve", "reject"]
    comment: Annotated[str, StringConstraints(max_length=10_000)] | None = None
    """Why; later steps can read it."""


class OpenQuestion(Shape):
    """A question that waits for its answer."""

    run_id: str
    workflow: str
    path: str
    """Under which it is answered."""
    message: str
    who: list[str]
    """Who may answer; empty: everybody."""
    asked_at: datetime
    deadline: datetime | None
    parked: bool = False
    """Whether its run goes on only when somebody resumes it."""
