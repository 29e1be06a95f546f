"""What a workflow document says, as frozen models; how it reads them from YAML."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from weft.types import Json, JsonObject, Name

Duration = Annotated[str, StringConstraints(pattern=r"^(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+$", max_length=32)]
"""`90s`, `5m`, `1h30m`: numbers with units ms, s, m, h, d, added up."""

Expression = Annotated[str, StringConstraints(min_length=1, max_length=65_536)]
"""One expression; the surrounding `{{ }}` may be left out."""


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Input(Model):
    """A value that a run is given: what the form asks for and the trigger may supply."""

    type: Literal["string", "integer", "number", "boolean", "array", "object"] = "string"
    title: str | None = None
    description: str | None = None
    required: bool = False
    default: Json | None = None
    enum: list[Json] | None = Field(None, min_length=1)
    minimum: int | float | None = None
    maximum: int | float | None = None
    pattern: str | None = None


class Schedule(Model):
    """When to start: a cron line or an interval, in a named zone, with stated policies."""

    cron: str | None = None
    every: Duration | None = None
    timezone: str
    start: str | None = None  #: ISO 8601 with offset
    end: str | None = None
    jitter: Duration | None = None
    catch_up: Literal["none", "last", "all"] = "last"
    grace: Duration | None = None
    overlap: Literal["skip", "queue", "cancel", "allow"] = "skip"
    inputs: JsonObject = Field(default_factory=dict)


class Webhook(Model):
    """A start by an HTTP request, signed by the connection's secret."""

    connection: Name
    style: Literal["standard", "github", "slack", "stripe"] = "standard"
    synchronous: bool = False
    inputs: JsonObject = Field(default_factory=dict)


class Triggers(Model):
    schedule: list[Schedule] = Field(default_factory=list)
    webhook: list[Webhook] = Field(default_factory=list)


class Retry(Model):
    """Another try of the whole step; for actions that bring retries of their own, use those."""

    attempts: int = Field(ge=1, le=100)  #: in all, the first included
    backoff: Duration = "1s"
    factor: float = Field(2.0, ge=1, le=10)
    max_backoff: Duration = "5m"
    jitter: bool = True
    on: list[str] | None = None  #: kinds of error; left out: those that say that a retry may help


class Wait(Model):
    """A pause for a duration or until an instant; exactly one of the two."""

    duration: str | None = Field(None, alias="for")
    until: str | None = None


class Approval(Model):
    """A question to people, answered once."""

    message: str
    who: list[str] = Field(default_factory=list)
    deadline: str | None = None
    default: Literal["approve", "reject"] | None = None


class Step(Model):
    """One unit of a workflow: an action, a child workflow, a group, a wait or an approval."""

    id: Name
    title: str | None = None
    uses: str | None = None  #: an action's id, or `workflow:<name>`
    connection: Name | None = None
    connections: dict[Name, Name] = Field(default_factory=dict)  #: provider → connection, for a chain of fallbacks
    arguments: JsonObject = Field(default_factory=dict, alias="with")
    steps: list[Step] | None = Field(None, min_length=1)
    wait: Wait | None = None
    approval: Approval | None = None
    needs: list[Name] | None = None  #: left out: the step before it in the list
    condition: bool | Expression | None = Field(None, alias="if")
    for_each: Expression | list[Json] | None = None
    max_parallel: int | None = Field(None, ge=1)
    retry: Retry | None = None
    timeout: Duration | None = None
    on_error: Literal["fail", "continue"] | ErrorSteps = "fail"
    delivery: Literal["at_least_once", "at_most_once"] | None = None  #: for actions with `effects: send`
    disabled: bool = False


class ErrorSteps(Model):
    """Steps that run when the step has failed; the run then goes on."""

    steps: list[Step] = Field(min_length=1)


class OnFailure(Model):
    """Who is told when the run has failed: steps, or another workflow."""

    workflow: str | None = None
    steps: list[Step] | None = Field(None, min_length=1)


class Concurrency(Model):
    """How many runs of the same key may go on at once, and what happens to one more."""

    key: str | None = None
    limit: int = Field(1, ge=1)
    policy: Literal["queue", "skip", "cancel"] = "queue"


class Budget(Model):
    """Caps; a run that would pass one stops before the call."""

    cost: float | None = Field(None, gt=0)
    currency: str = "USD"
    tokens: int | None = Field(None, ge=1)
    steps: int | None = Field(None, ge=1)
    time: Duration | None = None


class Workflow(Model):
    """A workflow document."""

    name: Name
    title: str | None = None
    description: str = ""
    enabled: bool = False
    inputs: dict[Name, Input] = Field(default_factory=dict)
    variables: JsonObject = Field(default_factory=dict)
    on: Triggers = Field(default_factory=Triggers)
    steps: list[Step] = Field(min_length=1)
    outputs: JsonObject = Field(default_factory=dict)
    final: list[Step] = Field(default_factory=list, alias="finally")
    on_failure: OnFailure | None = None
    concurrency: Concurrency | None = None
    budget: Budget | None = None


Step.model_rebuild()
ErrorSteps.model_rebuild()
OnFailure.model_rebuild()
Workflow.model_rebuild()
