"""What a workflow document says: its models, and the JSON Schema for editors.

Expressions are texts here. Rules between the parts of a document are those of `weft.structure`; what expressions refer
to, and whether actions and connections exist, is for the plan to find out.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from weft import publishing
from weft.types import Json, JsonObject, Name

BESIDE = (".layout.yaml", ".test.yaml", ".answers.yaml")
"""How the names of files end that lie beside workflows and are none."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = r"[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d)"
_DURATION = rf"(?:{_PART})+"
_LONGEST_S = 3650 * 86400.0


def seconds(duration: str) -> float:
    """Return the length of a duration such as `1h30m` in seconds.

    Raises:
        ValueError: It is no duration.
    """
    if len(duration) > 32 or not re.fullmatch(_DURATION, duration):
        raise ValueError("not a duration")
    parts = re.findall(r"([0-9.]+)(ms|s|m|h|d)", duration)
    return sum(float(count) * _UNITS[unit] for count, unit in parts)


def _duration(value: object) -> object:
    if value is None:  # a key without a value, which is told as such
        return value
    try:
        length = seconds(value) if isinstance(value, str) else None
    except ValueError:
        length = None
    if length is None:
        facts = {"remedy": _as_duration(value)}
        raise PydanticCustomError("duration", "must be a duration such as 90s, 5m or 1h30m", facts)
    if length > _LONGEST_S:
        raise PydanticCustomError("duration", "must be a duration of at most 3650d")
    return value


_WORDS = {"milli": "ms", "msec": "ms", "sec": "s", "min": "m", "hour": "h", "hr": "h", "day": "d"}


def _as_duration(value: object) -> str:
    """Return what to write instead of something that is no duration."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"Write {value:g}s if seconds are meant."
    found = re.fullmatch(r"([0-9.]{1,9}) *([a-z]+)", str(value)[:32].lower())
    unit = next((short for word, short in _WORDS.items() if found and found[2].startswith(word)), None)
    return f"Write {found[1]}{unit}." if found and unit else "Its units are ms, s, m, h and d, without spaces."


def is_template(text: str) -> bool:
    """Return whether a text holds an expression or a statement."""
    return "{{" in text or "{%" in text


def _duration_or_template(value: object) -> object:
    return value if isinstance(value, str) and is_template(value) else _duration(value)


def instant(text: str) -> datetime | None:
    """Return the instant that a text names in ISO 8601, None when it names none or has no offset."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _checked_instant(text: str) -> str:
    if instant(text) is None:
        raise PydanticCustomError("instant", "must be an instant with offset such as 2026-03-01T08:00:00+01:00")
    return text


def _instant_or_template(text: str) -> str:
    return text if is_template(text) else _checked_instant(text)


_DURATION_SCHEMA: JsonObject = {"type": "string", "pattern": f"^{_DURATION}$", "examples": ["90s", "5m", "1h30m"]}
_INSTANT_SCHEMA: JsonObject = {"type": "string", "format": "date-time"}
_TEMPLATE_SCHEMA: JsonObject = {"type": "string", "pattern": r"\{[{%]"}

Duration = Annotated[str, BeforeValidator(_duration), WithJsonSchema(_DURATION_SCHEMA)]
"""`90s`, `5m`, `1h30m`: numbers with units ms, s, m, h, d, added up."""

TemplatedDuration = Annotated[
    str, BeforeValidator(_duration_or_template), WithJsonSchema({"anyOf": [_DURATION_SCHEMA, _TEMPLATE_SCHEMA]})
]
"""A duration, or a template that gives one."""

Instant = Annotated[str, AfterValidator(_checked_instant), WithJsonSchema(_INSTANT_SCHEMA)]
"""An instant of ISO 8601 with its offset."""

TemplatedInstant = Annotated[
    str, AfterValidator(_instant_or_template), WithJsonSchema({"anyOf": [_INSTANT_SCHEMA, _TEMPLATE_SCHEMA]})
]
"""An instant, or a template that gives one."""

Expression = Annotated[str, StringConstraints(min_length=1, max_length=65_536)]
"""One expression; the surrounding `{{ }}` may be left out."""


class Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, populate_by_name=True, use_attribute_docstrings=True
    )


class Input(Model):
    """A value that a run is given: what the form asks for and the trigger may supply."""

    type: Literal["string", "integer", "number", "boolean", "array", "object"] = "string"
    """The JSON type of its value."""
    title: str | None = Field(default=None, min_length=1, max_length=60)
    """How the form calls it."""
    description: str | None = Field(default=None, min_length=1)
    """What it is for."""
    required: bool = False
    """Whether a run must be given it."""
    default: Json | None = None
    """What it is when it is not given."""
    enum: list[Json] | None = Field(default=None, min_length=1)
    """The only values allowed."""
    minimum: int | float | None = None
    """The least number allowed."""
    maximum: int | float | None = None
    """The greatest number allowed."""
    pattern: str | None = None
    """A regular expression that the whole text must match, without look-around and references back: of these nobody can say how long they take."""


class Schedule(Model):
    """When to start: a cron line or an interval, in a named zone, with stated policies."""

    cron: str | None = None
    """Five fields: minute, hour, day of month, month, day of week."""
    every: Duration | None = None
    """The time from one start to the next."""
    timezone: str
    """The IANA name of the zone that cron speaks of: `Europe/Zurich`."""
    start: Instant | None = None
    """No start before this instant."""
    end: Instant | None = None
    """No start after this instant."""
    jitter: Duration | None = None
    """Each start is put off by a time up to this one."""
    catch_up: Literal["none", "last", "all"] = "last"
    """Which starts are made up for that fell into a time when nothing ran."""
    grace: Duration | None = None
    """How late a start may be made up for."""
    overlap: Literal["skip", "queue", "cancel", "allow"] = "skip"
    """What happens to a start while the run before goes on; `cancel` ends that run."""
    inputs: JsonObject = Field(default_factory=dict)
    """The inputs of these runs."""


_LONGEST_ANSWER_S = 300.0
_NEVER_SHOWN = re.compile(r"authorization|cookie|signature|secret|token|api-?key|password")


def _answer_time(value: str) -> str:
    if not 0 < seconds(value) <= _LONGEST_ANSWER_S:
        raise PydanticCustomError("answer_time", "must be more than 0s and at most 5m")
    return value


def _shown_header(name: str) -> str:
    if _NEVER_SHOWN.search(name):
        raise PydanticCustomError("secret_header", "names a header that carries a secret; a run never sees those")
    return name


HeaderName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64), AfterValidator(_shown_header)
]
"""The name of an HTTP header, in lower case."""


class Webhook(Model):
    """A start by an HTTP request, signed by the connection's secret."""

    id: Name | None = None
    """Its name within the workflow, by which it keeps its address; left out: that of the connection."""
    connection: Name
    """Whose secret signs the requests."""
    style: Literal["standard", "github", "slack", "stripe"] = "standard"
    """How the sender signs."""
    synchronous: bool = False
    """Whether the answer waits for the run and holds its outputs."""
    timeout: Annotated[Duration, AfterValidator(_answer_time)] = "30s"
    """How long a synchronous answer waits; after that it names the run, which goes on."""
    window: Duration | None = None
    """For senders that give their messages no id of their own: the same body within this time is the same message."""
    headers: list[HeaderName] = Field(default_factory=list)
    """Further headers that expressions see, besides the usual ones; never those that carry secrets."""
    inputs: JsonObject = Field(default_factory=dict)
    """The inputs of these runs; expressions see the request as `trigger`."""

    @property
    def name(self) -> str:
        """Its name within the workflow."""
        return self.id or self.connection


class Triggers(Model):
    """The clock and the requests that start runs."""

    schedule: list[Schedule] = Field(default_factory=list)
    """Starts by the clock."""
    webhook: list[Webhook] = Field(default_factory=list)
    """Starts by HTTP requests."""


class Retry(Model):
    """Another try of the whole step; for actions that bring retries of their own, use those."""

    attempts: int = Field(ge=1, le=100)
    """How many in all, the first included."""
    backoff: Duration = "1s"
    """The wait before the second attempt."""
    factor: float = Field(default=2.0, ge=1, le=10)
    """By how much each wait is longer than the one before."""
    max_backoff: Duration = "5m"
    """The longest wait."""
    jitter: bool = True
    """Whether waits vary, so that many runs do not try again at once."""
    on: list[str] | None = Field(default=None, min_length=1)
    """The kinds of error to try again after; left out: those that say that it may help."""


class Wait(Model):
    """A pause for a duration or until an instant; exactly one of the two."""

    duration: TemplatedDuration | None = Field(default=None, alias="for")
    """How long."""
    until: TemplatedInstant | None = None
    """Until when."""


class Approval(Model):
    """A question to people, answered once."""

    message: str = Field(min_length=1)
    """What is asked; a template."""
    who: list[str] = Field(default_factory=list)
    """Who may answer; empty: everybody who may see the run."""
    deadline: TemplatedDuration | None = None
    """How long the answer may take."""
    default: Literal["approve", "reject"] | None = None
    """The answer when the deadline has passed; left out: the step fails."""
    notify: list[Step] | None = Field(default=None, min_length=1)
    """Steps that tell people of the question, once it is asked; they see it as `approval`."""


class DayBudget(Model):
    """Caps of all runs of a day together; a day is one of the calendar in UTC."""

    cost: float | None = Field(default=None, gt=0)
    """Money."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens read and written by models."""
    steps: int | None = Field(default=None, ge=1)
    """Actions begun; each turn of a loop is one, further attempts are none."""


class StepBudget(Model):
    """Caps of one step in one run, all its turns and attempts together."""

    cost: float | None = Field(default=None, gt=0)
    """Money, in the currency of the workflow's budget, or else in US dollars."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens read and written by models."""


KINDS = ("uses", "steps", "wait", "approval")
"""The keys of a step of which it has exactly one: they say what it is."""


class Step(Model):
    """One unit of a workflow: an action, a child workflow, a group, a wait or an approval."""

    KEYS_HINT: ClassVar[str] = "What the action takes stands under 'with'."

    id: Name
    """Its name, by which others speak of it: `steps.<id>.output`."""
    title: str | None = Field(default=None, min_length=1)
    """How people call it."""
    uses: str | None = None
    """An action's id, or `workflow:<name>`."""
    connection: Name | None = None
    """The connection that the action uses."""
    connections: dict[Name, Name] = Field(default_factory=dict)
    """Provider → connection, for a chain of fallbacks."""
    arguments: JsonObject = Field(default_factory=dict, alias="with")
    """What the action or workflow is given; texts may be templates."""
    steps: list[Step] | None = Field(default=None, min_length=1)
    """The steps of a group."""
    wait: Wait | None = None
    """A pause."""
    approval: Approval | None = None
    """A question to people."""
    needs: list[Name] | None = None
    """The steps of the same list that must be settled before; left out: the one before it."""
    condition: bool | Expression | None = Field(default=None, alias="if")
    """Whether it runs at all; otherwise it is skipped."""
    for_each: Expression | list[Json] | None = None
    """The items that it runs for, once each, with `item` and `index`."""
    max_parallel: int | None = Field(default=None, ge=1)
    """How many items may run at once."""
    retry: Retry | None = None
    """When and how often it is tried again."""
    timeout: Duration | None = None
    """How long it may take, all attempts together."""
    on_error: Literal["fail", "continue"] | ErrorSteps = "fail"
    """What its failure means: the run fails, goes on, or goes on after other steps."""
    budget: StepBudget | None = None
    """What the step may use up in a run; for actions."""
    delivery: Literal["at_least_once", "at_most_once"] | None = None
    """For actions that send: what to do when it is unknown whether the effect has happened."""
    disabled: bool = False
    """Whether it is skipped."""


class ErrorSteps(Model):
    """Steps that run when the step has failed; the run then goes on."""

    steps: list[Step] = Field(min_length=1)
    """The steps."""


class OnFailure(Model):
    """Who is told when the run has failed: steps, or another workflow."""

    workflow: Name | None = None
    """The name of a workflow; it is given the failed run as input."""
    steps: list[Step] | None = Field(default=None, min_length=1)
    """The steps."""


class Concurrency(Model):
    """How many runs of the same key may go on at once, and what happens to one more."""

    key: str | None = Field(default=None, min_length=1)
    """A template; runs with the same text count together. Left out: all runs of the workflow."""
    limit: int = Field(default=1, ge=1)
    """How many may go on at once."""
    policy: Literal["queue", "skip", "cancel"] = "queue"
    """What happens to one more; `cancel` ends the oldest."""


class Budget(Model):
    """Caps; a run that would pass one stops before the call."""

    cost: float | None = Field(default=None, gt=0)
    """Money that a run may spend."""
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")
    """The currency of all costs here, by its ISO 4217 code."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens read and written by models in a run."""
    steps: int | None = Field(default=None, ge=1)
    """Actions that a run may begin; each turn of a loop is one, further attempts are none."""
    time: Duration | None = None
    """Time from when the run begins."""
    day: DayBudget | None = None
    """What all runs of this workflow may use up on a day."""
    unknown_price: Literal["block", "allow"] = "block"
    """Whether a call may be made of which nobody knows beforehand what it may cost."""


class Workflow(Model):
    """A workflow document."""

    name: Name
    """The workflow's name, also that of its file."""
    title: str | None = Field(default=None, min_length=1)
    """How people call it."""
    description: str = ""
    """What it does."""
    enabled: bool = False
    """Whether its triggers start runs."""
    expose: bool = False
    """Whether agents may start it as a tool, over MCP."""
    inputs: dict[Name, Input] = Field(default_factory=dict)
    """What a run is given."""
    variables: JsonObject = Field(default_factory=dict)
    """Values with names, for expressions: `variables.<name>`."""
    on: Triggers = Field(default_factory=Triggers)
    """What starts runs besides people."""
    steps: list[Step] = Field(min_length=1)
    """What a run does."""
    outputs: JsonObject = Field(default_factory=dict)
    """What a run returns; texts may be templates."""
    final: list[Step] = Field(default_factory=list, alias="finally")
    """Steps that run at the end, whether the run has succeeded or failed."""
    on_failure: OnFailure | None = None
    """Who is told when the run has failed."""
    concurrency: Concurrency | None = None
    """How many runs may go on at once."""
    budget: Budget | None = None
    """What a run may use up."""


Approval.model_rebuild()
Step.model_rebuild()
ErrorSteps.model_rebuild()
OnFailure.model_rebuild()
Workflow.model_rebuild()


def json_schema() -> JsonObject:
    """Return the JSON Schema of workflows, for completion in editors."""
    schema = publishing.json_schema(Workflow, "Weft workflow")
    definitions: Any = schema["$defs"]
    definitions["Step"]["oneOf"] = [{"required": [kind]} for kind in KINDS]
    definitions["Wait"]["oneOf"] = [{"required": [key]} for key in ("for", "until")]
    definitions["Schedule"]["oneOf"] = [{"required": [key]} for key in ("cron", "every")]
    definitions["OnFailure"]["oneOf"] = [{"required": [key]} for key in ("workflow", "steps")]
    return schema
