"""Requests and answers. Made by tests/client/generate.py of docs/openapi.json."""

# ruff: noqa: RUF012  pydantic copies defaults

from __future__ import annotations

from datetime import date as date_aliased
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from weft.client.base import Model


class Accepted(Model):
    """
    The run that a message has started, now or when it came first.
    """

    run_id: str | None
    """
    None: the workflow's limit leaves one more run out.
    """


class ActionSummary(Model):
    """
    An action as the palette shows it.
    """

    category: str
    connection: str | None
    """
    The type of connection that it needs.
    """
    effects: str
    icon: str
    id: str
    pack: str
    purpose: str
    retry: str
    title: str
    version: int


class AddAsked(Model):
    """
    A new connection.
    """

    fields: dict[str, Any]
    """
    Values by field, secret ones among them.
    """
    name: str
    type: str


class Amount(Model):
    """
    Where one cap stands.
    """

    cap: float
    left: float
    reserved: float
    """
    By attempts that are under way.
    """
    used: float
    """
    By attempts that are over.
    """


class Answer(Model):
    """
    An answer to a question of a run.
    """

    answer: Literal["approve", "reject"]
    by: str | None = None
    """
    In whose name; left out, that of who asks. Another name is for administrators.
    """
    comment: str | None = None
    """
    Why; later steps can read it.
    """
    step: str
    """
    The path under which it is answered: `ok`, `each[3]/ok`.
    """


class Attachment(Model):
    """
    A file that came with a mail.
    """

    content_type: str
    filename: str
    number: int
    """
    From 1.
    """
    size: int


class AuditEntry(Model):
    """
    One thing that was done.
    """

    action: str
    at: AwareDatetime
    details: Any
    hash: str
    """
    Over this entry and the hash of the one before it.
    """
    kind: Literal["session", "token", "local", "oidc"]
    number: int
    target: str
    who: str


class AuditReport(Model):
    """
    What a look at the whole log has found.
    """

    entries: int
    faults: list[str]
    head: str
    """
    Number and hash of the last entry; noted elsewhere, it shows later what is missing.
    """


class Backfill(Model):
    """
    Instants that are past.
    """

    dry_run: bool = False
    """
    Only say what would be started.
    """
    from_: str = Field(..., alias="from")
    """
    The first instant, or day; in the schedule's zone when it has no offset.
    """
    schedule: str
    """
    A workflow's name, for all of its schedules, or the id of one: `digest/2`.
    """
    to: str
    """
    The last one, inclusive.
    """


class BackfillReport(Model):
    """
    One instant in what `weft schedules backfill --json` prints.
    """

    local: str
    outcome: Literal["started", "known", "planned"]
    """
    `known`: its run had been started before; `planned`: `--dry-run`.
    """
    run_id: str
    schedule: str
    utc: AwareDatetime


class Cancel(Model):
    """
    How to stop a run.
    """

    now: bool = False
    """
    At once: `finally` does not run, and what is under way is cut off.
    """


class CandidateObject(Model):
    """
    Something that may stand at the cursor.
    """

    description: str
    fits: bool
    """
    Of a filter: whether it is for values of this type.
    """
    insert: str
    """
    What takes the place of the characters from `start` to `end`.
    """
    kind: Literal[
        "name",
        "member",
        "item",
        "filter",
        "test",
        "method",
        "keyword",
        "statement",
        "constant",
    ]
    label: str
    note: str
    """
    Where the value comes from, or `not run yet`.
    """
    signature: str | None
    start: int
    type: str | None
    """
    Types of JSON: `string`, `array or null`.
    """
    value: str | None
    """
    The beginning of its value, as JSON.
    """


class ChangeAsked(Model):
    """
    A change of a connection.
    """

    fields: dict[str, Any]
    """
    Values by field: one that is left out stays as it is, null takes it away.
    """


class ClockNoteObject(Model):
    """
    What a change of the clock does to the schedule.
    """

    kind: Literal["gap", "twice", "shift"]
    local: str | None
    """
    The time that is not there, or is there twice.
    """
    message: str
    on: date_aliased
    starts: str | None
    """
    The clock's time of the start in its stead.
    """


class Completion(Model):
    """
    What may stand at the cursor, the likeliest first.
    """

    end: int
    """
    The character behind the last that is replaced.
    """
    items: list[CandidateObject]
    """
    All of a kind: the client keeps those that go with the prefix.
    """
    prefix: str
    """
    What is written already of it.
    """
    start: int
    """
    The first character that is replaced, in code points.
    """


class Condition(Model):
    """
    Holds when another parameter has one of these values, or any value at all when `values` is left out.
    """

    parameter: str
    """
    The other parameter.
    """
    values: list[Any] | None = None
    """
    The values with which the condition holds; left out: any value.
    """


class CreateAsked(Model):
    """
    A new workflow: an empty one, one with this text, or one like an example.
    """

    example: str | None = None
    """
    The name of an example of a pack.
    """
    name: str
    text: str | None = None
    """
    Its whole text.
    """


class DataAsked(Model):
    """
    Where values come from; the first that has one counts: inputs, pins, the run, examples of manifests.
    """

    examples: bool = True
    """
    Whether the examples of manifests stand for what has not run.
    """
    inputs: dict[str, Any] = {}
    """
    Values of inputs, as a form for a run has them.
    """
    pins: bool = True
    """
    Whether pinned outputs count.
    """
    run: str = "last"
    """
    The id of a run, `last` for the youngest of the workflow, `none` for none.
    """
    turn: int = 0
    """
    Inside a loop: which turn.
    """


class DayAmounts(Model):
    """
    Caps of a day; null where there is none.
    """

    cost: Amount | None = None
    steps: Amount | None = None
    tokens: Amount | None = None


class DiffObject(Model):
    """
    What is different between two versions.
    """

    diff: str
    """
    Unified; empty when they are equal.
    """


class Difference(Model):
    """
    A value that two runs may not share.
    """

    a: Any | None = None
    b: Any | None = None
    equal: bool
    name: str


class DocumentAsked(Model):
    """
    A document to check.
    """

    file: str = "workflow.yaml"
    """
    How problems name it. A child workflow is looked for beside it.
    """
    kind: Literal["workflow", "manifest", "connection-type"] = "workflow"
    """
    What it is to be.
    """
    text: str
    """
    The whole document.
    """


class EnabledAsked(Model):
    """
    Whether its triggers are to start runs.
    """

    enabled: bool


class EstimateAsked(Model):
    """
    An answer of which the price is asked.
    """

    completion_tokens: int
    model: str
    prompt_tokens: int
    provider: str


class EstimateObject(Model):
    """
    The most that an answer can cost.
    """

    cost: float | None
    """
    Null: nobody knows.
    """
    currency: str | None
    why: str = ""
    """
    Why no cost is known.
    """


class EventOut(Model):
    """
    One event.
    """

    data: dict[str, Any]
    event: str
    id: str
    """
    To be sent as `after`, or by browsers as `Last-Event-ID`, to go on behind it.
    """
    topic: str
    """
    Empty for what concerns all topics: `ready`, `refresh`, `reset`.
    """


class Events(Model):
    """
    Events for one who asks now and then instead of keeping a stream.
    """

    again_in_s: float = 2.0
    """
    When to ask again.
    """
    events: list[EventOut]
    next: str
    """
    What to send as `after` the next time.
    """


class ExampleObject(Model):
    """
    A workflow that a pack brings, to begin with.
    """

    description: str
    name: str
    pack: str
    text: str
    title: str | None


class ExplainAsked(Model):
    """
    Which model is asked about, with what.
    """

    connection: str | None = None
    """
    Whose settings count: whether what is not taken is an error or is left out.
    """
    given: dict[str, Any] = {}
    """
    Values of parameters, to be told which of them do not fit.
    """
    model: str
    provider: str


class FurtherFields(Model):
    """
    Fields that the value of another field brings.
    """

    by: str
    """
    The field whose value says which.
    """
    source: Literal["providers"]
    """
    The list that knows them: the credentials of each provider.
    """


class HealthReport(Model):
    """
    That the process answers.
    """

    status: Literal["ok"] = "ok"
    version: str | None = None
    """
    Of Weft; told to whoever may view.
    """


class Insert(Model):
    """
    Puts an item into a list; a list that is missing, or a key without a value, is made one.
    """

    index: int | None = None
    """
    Before which item; left out: at the end.
    """
    item: Any | None = None
    op: Literal["insert"] = "insert"
    path: list[str | int]
    """
    The list.
    """
    text: str | None = None
    """
    The item as YAML, with its comments; a text that is a list in lines with dashes holds several items.
    """


class InstantObject(Model):
    """
    An instant of a schedule.
    """

    due: AwareDatetime
    """
    When it starts: the instant, put off by its jitter.
    """
    here: str
    """
    In the zone that was asked for, with its offset.
    """
    local: str
    """
    In the zone of the schedule, with its offset.
    """
    utc: AwareDatetime


class InstantReport(Model):
    """
    An instant to come: an element of `weft schedules next --json`.
    """

    due: AwareDatetime
    """
    When it starts: the instant, put off by its jitter.
    """
    local: str
    """
    The same in the schedule's zone, with its offset; the key of its row.
    """
    schedule: str | None
    """
    Null when the workflow is not armed.
    """
    timezone: str
    utc: AwareDatetime
    """
    The instant.
    """


class LayoutAsked(Model):
    """
    Where things are to stand on the canvas.
    """

    layout: dict[str, Any]


class LayoutObject(Model):
    """
    Where things stand on the canvas.
    """

    layout: dict[str, Any]


class MadeToken(Model):
    """
    A token that was made just now.
    """

    expires_at: AwareDatetime | None
    id: str
    made_at: AwareDatetime
    made_by: str
    name: str
    revoked_at: AwareDatetime | None
    scopes: list[Literal["view", "run", "edit", "connections", "admin"]]
    token: str
    """
    Shown this once.
    """
    used_at: AwareDatetime | None
    """
    To the minute.
    """


class Mail(Model):
    """
    A mail, by its header.
    """

    date: AwareDatetime | None
    id: str
    number: int
    """
    From 1, the oldest first.
    """
    sender: str
    size: int
    """
    Bytes.
    """
    subject: str
    to: list[str]
    """
    Who it was handed over for, Bcc too.
    """


class Me(Model):
    """
    Who asks.
    """

    kind: Literal["session", "token", "local", "oidc"]
    name: str
    scopes: list[Literal["view", "run", "edit", "connections", "admin"]]


class Move(Model):
    """
    Moves an item of a list, with its comments, within the list or to another one.
    """

    index: int
    """
    Which item it is in that list afterwards.
    """
    op: Literal["move"] = "move"
    path: list[str | int]
    """
    The item.
    """
    to: list[str | int]
    """
    The list that it comes to, by the path that it has before the move.
    """


class Named(Model):
    """
    The schedules that are meant.
    """

    schedule: str
    """
    A workflow's name, for all of its schedules, or the id of one: `digest/2`.
    """


class NewToken(Model):
    """
    A token to be made.
    """

    expires_in_days: float | None = None
    """
    Left out: it does not expire.
    """
    name: str
    """
    What the audit log calls its user.
    """
    scopes: list[Literal["view", "run", "edit", "connections", "admin"]]


class OccurrenceReport(Model):
    """
    What became of one instant.
    """

    backfilled: str | None = None
    """
    The run that was started by hand later, for an instant that was skipped or missed.
    """
    code: str = ""
    """
    Why, for programs; empty when there is nothing to say.
    """
    count: int = 1
    """
    How many instants this row stands for, this one the first; 0 when nobody knows.
    """
    decided_at: AwareDatetime
    facts: dict[str, Any] = {}
    """
    What else is known of the reason, such as `blockers`: the runs that had not ended.
    """
    fate: Literal["fired", "skipped", "missed"]
    local: str
    """
    The same in the schedule's zone, with its offset; its key.
    """
    message: str = ""
    """
    Why, for people.
    """
    run_id: str | None = None
    """
    The run that was started.
    """
    schedule: str
    utc: AwareDatetime
    """
    The instant.
    """


class OpenQuestion(Model):
    """
    A question that waits for its answer.
    """

    asked_at: AwareDatetime
    deadline: AwareDatetime | None
    message: str
    parked: bool = False
    """
    Whether its run goes on only when somebody resumes it.
    """
    path: str
    """
    Under which it is answered.
    """
    run_id: str
    who: list[str]
    """
    Who may answer; empty: everybody.
    """
    workflow: str


class OptionObject(Model):
    """
    A value that a field may be given.
    """

    description: str = ""
    label: str
    value: Any


class Options(Model):
    """
    Suggestions for a value: a fixed list, or a named source that the runtime answers.
    """

    closed: bool = False
    """
    Whether only these are allowed.
    """
    depends_on: str | None = None
    """
    The parameter whose value narrows the source.
    """
    source: Literal["providers", "models"] | None = None
    """
    A list that the runtime knows.
    """
    values: list[Any] | None = None
    """
    The suggestions themselves.
    """


class OptionsPage(Model):
    """
    Values for a field.
    """

    closed: bool
    """
    Whether only these are allowed.
    """
    items: list[OptionObject]
    next: str | None = None
    """
    What to send as `cursor` for more; none: this was the last.
    """


class Output(Model):
    """
    What the action returns: a JSON Schema and an example that satisfies it.
    """

    example: Any
    schema_: dict[str, Any] = Field(..., alias="schema")
    """
    JSON Schema (draft 2020-12) of the output.
    """


class PageAuditEntry(Model):
    items: list[AuditEntry]
    next: str | None = None
    """
    What to send as `cursor` for more; none: this was the last.
    """


class PageMail(Model):
    items: list[Mail]
    next: str | None = None
    """
    What to send as `cursor` for more; none: this was the last.
    """


class PageOccurrenceReport(Model):
    items: list[OccurrenceReport]
    next: str | None = None
    """
    What to send as `cursor` for more; none: this was the last.
    """


class PageOpenQuestion(Model):
    items: list[OpenQuestion]
    next: str | None = None
    """
    What to send as `cursor` for more; none: this was the last.
    """


class Parameter(Model):
    """
    One parameter of an action, or one field of a connection type.
    """

    additional_properties: bool | dict[str, Any] = True
    """
    Whether a mapping may have further members, or their JSON Schema.
    """
    default: Any = None
    """
    What it is when it is not given; null: it is simply not given.
    """
    description: str
    """
    What it does, for people; one to three sentences.
    """
    enum: list[Any] | None = None
    """
    The only values allowed.
    """
    escape: Literal["html"] | None = None
    """
    How values are escaped when an expression puts them into its text.
    """
    escape_when: Condition | None = None
    """
    Escape only while this holds; left out: always. The parameter that it names then takes no expression.
    """
    example: Any = None
    """
    A value that satisfies every rule, for documentation.
    """
    excludes: list[str] = []
    """
    Parameters that must not be given together with this one.
    """
    items: dict[str, Any] | None = None
    """
    JSON Schema of a list's items.
    """
    literal: bool = False
    """
    Whether expressions are refused in it.
    """
    max_length: int | None = None
    """
    The greatest count of characters of a text, or of items of a list.
    """
    maximum: int | float | None = None
    """
    The greatest number allowed.
    """
    min_length: int | None = None
    """
    The least count of characters of a text, or of items of a list.
    """
    minimum: int | float | None = None
    """
    The least number allowed.
    """
    name: str
    """
    How workflows and the action's code call it.
    """
    options: Options | None = None
    """
    Suggestions for its value.
    """
    pattern: str | None = None
    """
    A regular expression that the whole text must match, without look-around and references back: of these nobody can say how long they take.
    """
    placeholder: str | None = None
    """
    What the empty field of the form shows.
    """
    properties: dict[str, dict[str, Any]] | None = Field(None, title="Properties")
    """
    JSON Schema of each member of a mapping.
    """
    required: bool = False
    """
    Whether it must be given.
    """
    required_properties: list[str] | None = None
    """
    The members that a mapping must have.
    """
    requires: list[Condition] = Field([], validate_default=True)
    """
    What must hold of other parameters when this one is given.
    """
    secret: bool = False
    """
    Whether its value is a credential: never shown, logged or recorded.
    """
    title: str
    """
    How the form calls it.
    """
    type: (
        Literal["string", "integer", "number", "boolean", "array", "object"]
        | list[Literal["string", "integer", "number", "boolean", "array", "object"]]
    )
    """
    The JSON type of its value, or several.
    """
    visible_when: Condition | None = None
    """
    When the form shows it.
    """
    widget: Literal[
        "text",
        "multiline",
        "password",
        "url",
        "number",
        "slider",
        "switch",
        "select",
        "combobox",
        "list",
        "key_value",
        "json",
        "messages",
        "tools",
        "addresses",
        "attachments",
    ]
    """
    How the form draws it.
    """


class Parameters(Model):
    """
    The two groups of a form: what most people need, and the rest.
    """

    advanced: list[Parameter] = Field([], validate_default=True)
    """
    The rest, folded away in the form.
    """
    basic: list[Parameter] = Field([], validate_default=True)
    """
    What most people need, in the order of the form.
    """


class PartReport(Model):
    """
    One thing that the server stands on.
    """

    facts: dict[str, Any]
    message: str
    name: Literal["journal", "state", "workers", "queue", "schedules", "disk"]
    status: Literal["ok", "degraded", "down"]


class PinAsked(Model):
    """
    The output that a step is to have, without being run.
    """

    output: Any


class PinsObject(Model):
    """
    Outputs that are held fast while a workflow is being made, by step. They are not in its document.
    """

    pins: dict[str, Any]


class Place(Model):
    """
    Where a problem lies; every part may be missing.
    """

    column: int | None = None
    """
    From 1, in characters.
    """
    field: str | None = None
    """
    Inside the step: `with.messages[0]`.
    """
    file: str | None = None
    line: int | None = None
    """
    From 1.
    """
    step: str | None = None
    """
    Its name: `mail`, `each/mail`.
    """


class PlaceAsked(Model):
    """
    A field of a document.
    """

    at: list[str | int]
    """
    The path of the field: `["steps", 0, "with", "subject"]`.
    """
    data: DataAsked | None = None
    template: str
    """
    What stands in the field.
    """
    text: str | None = None
    """
    The document as it is being written; left out: as it is saved.
    """
    workflow: str | None = None
    """
    The saved workflow: its runs and pins give values.
    """


class ProblemReport(Model):
    """
    What went wrong.
    """

    code: str
    """
    A stable name, for programs.
    """
    message: str
    """
    For people.
    """
    remedy: str | None = None
    """
    What can be done.
    """
    where: Place


class ProviderDetail(Model):
    """
    A provider with what its connections need.
    """

    api_base: str | None
    """
    Its usual address.
    """
    connections: list[str]
    """
    The connections there are of it.
    """
    credentials: list[str]
    """
    Fields of its connections, besides those that all have.
    """
    documentation: str | None
    fields: list[Parameter]
    """
    The fields of its connections, besides those that all have.
    """
    id: str
    models: int
    """
    How many of its models are known by name, of those that were asked for.
    """
    parameters: list[str]
    """
    Those that a model of it takes of which nothing else is known.
    """
    required: list[str]
    """
    Which of api_key, api_base, api_version and organization it cannot do without.
    """
    self_hosted: bool
    """
    A server of one's own: it wants no key.
    """
    title: str


class ProviderSummary(Model):
    """
    Who runs models.
    """

    credentials: list[str]
    """
    Fields of its connections, besides those that all have.
    """
    documentation: str | None
    id: str
    models: int
    """
    How many of its models are known by name, of those that were asked for.
    """
    parameters: list[str]
    """
    Those that a model of it takes of which nothing else is known.
    """
    self_hosted: bool
    """
    A server of one's own: it wants no key.
    """
    title: str


class Purge(Model):
    """
    Which runs to remove.
    """

    older_than: str
    """
    How long ago they ended: `30d`, `12h`.
    """


class Purged(Model):
    """
    What was removed.
    """

    artifacts: int
    documents: int
    kept: dict[str, int]
    """
    Runs that were old enough and have stayed, by reason.
    """
    records: int
    runs: int


class QuestionReport(Model):
    """
    A question that waits for its answer.
    """

    asked_at: AwareDatetime
    deadline: AwareDatetime | None = None
    """
    Until when; null: there is time.
    """
    message: str
    path: str
    """
    Under which it is answered: `/ok`, `/each[3]/ok`.
    """
    who: list[str] = []
    """
    Who may answer; empty: everybody.
    """


class ReadyReport(Model):
    """
    Whether the server can do its work.
    """

    parts: list[PartReport] | None = None
    """
    Told to whoever may view.
    """
    status: Literal["ok", "degraded", "down"]
    """
    down: it cannot accept runs. degraded: it can, and somebody should look.
    """


class RecentRun(Model):
    """
    A run, as far as a small picture shows it.
    """

    run_id: str
    state: Literal["ready", "running", "waiting", "parked", "succeeded", "failed", "cancelled"]


class ReferenceObject(Model):
    """
    A step that another one speaks of.
    """

    field: str
    """
    Where: `with.subject`.
    """
    path: str
    """
    What is read: `steps.ask.output.text`.
    """
    step: str
    """
    Its id.
    """


class RehearsedCall(Model):
    """
    One call that the run would make, or has made.
    """

    arguments: dict[str, Any]
    """
    What the action is given, rendered.
    """
    attempt: int
    """
    From 1.
    """
    how: Literal["called", "stand_in", "given", "recorded"]
    """
    Whether the action was really called, or its output was made up, or recorded.
    """
    output: Any | None = None
    problem: ProblemReport | None = None
    """
    What it failed for; with a stand-in: what it said of other stand-ins.
    """
    turns: list[int] = []
    """
    In loops: the indexes of the items, that of the outermost loop first.
    """
    variant: str
    """
    What would be called: `openai/gpt-4o-mini`; `default` for actions without variants.
    """


class RehearsedStep(Model):
    """
    A step of the document, or of a child workflow that it starts.
    """

    calls: list[RehearsedCall] = Field([], validate_default=True)
    connection: str | None = None
    """
    The connection that it would open.
    """
    doubt: ProblemReport | None = None
    """
    Why it was not rehearsed: its expressions cannot be evaluated over stand-ins. Its output is one, too.
    """
    effect: Literal["none", "read", "send"] | None = None
    """
    What the action does outside: nothing, reading, or something that cannot be taken back; null for other steps.
    """
    output: Any | None = None
    passed: str | None = None
    """
    Of waits and questions: what was not waited for.
    """
    path: str
    """
    Ids from the document's root, without the turns of loops: `/each/mail`, `/child/mail` for a step of a child workflow.
    """
    problem: ProblemReport | None = None
    state: Literal["pending", "running", "waiting", "succeeded", "failed", "skipped", "cancelled"]
    title: str
    uses: str
    """
    The action's id; `group`, `wait`, `approval` or `workflow:<name>` for other steps.
    """


class Remove(Model):
    """
    Takes out a key or an item, and the comments that are its own.
    """

    op: Literal["remove"] = "remove"
    path: list[str | int]
    """
    Which.
    """


class RenameAsked(Model):
    """
    A new name.
    """

    to: str


class RenameStep(Model):
    """
    Gives a step another id, and lets everything that speaks of the step use it.
    """

    id: str
    """
    Its new id.
    """
    op: Literal["rename_step"] = "rename_step"
    path: list[str | int]
    """
    The step.
    """


class Replay(Model):
    """
    A run that inherits what was done before a step.
    """

    inputs: dict[str, Any] = {}
    """
    Edited inputs; steps that see them are done anew.
    """
    send_again: bool = False
    """
    Send again what was sent before; without it such a replay is refused.
    """
    steps: list[str]
    """
    From where on everything is done anew: `mail`, `each/mail`, or one turn: `each[3]/mail`.
    """


class Rerun(Model):
    """
    What is other than in the run that is repeated.
    """

    inputs: dict[str, Any] = {}
    """
    Edited inputs; the others stay as they were.
    """
    latest: bool = False
    """
    Follow the workflow as it is now, not as it was then.
    """


class Rotation(Model):
    """
    How a webhook is to get another address.
    """

    overlap: str | None = None
    """
    For how long the old address is reached, too: `24h`.
    """


class RunAmounts(Model):
    """
    What one run has taken of its caps.
    """

    cost: Amount | None = None
    run_id: str
    state: Literal["ready", "running", "waiting", "parked", "succeeded", "failed", "cancelled"]
    tokens: Amount | None = None


class RunCaps(Model):
    """
    What one run may use up; null where there is no cap.
    """

    cost: float | None = None
    steps: int | None = None
    time_s: float | None = None
    tokens: int | None = None


class RunSummary(Model):
    """
    A run without its steps: `weft runs list --json`, and what `cancel`, `answer` and `--detach` print with `--json`.
    """

    crashes: int = 0
    """
    Processes that died of it in a row, without getting any further.
    """
    ended_at: AwareDatetime | None = None
    """
    Null while it has not ended.
    """
    ms: int
    """
    Until its end, or until something last happened.
    """
    origin: str | None = None
    """
    The run that it repeats, in whole or in part.
    """
    parent: str | None = None
    """
    The run of which a step waits for this one's end.
    """
    problem: ProblemReport | None = None
    """
    What it failed for, or why it is parked.
    """
    queued: bool = False
    """
    Whether it waits, before its first step, for others to end: see `concurrency`.
    """
    run_id: str
    schedule: str | None = None
    """
    The schedule that started it.
    """
    started_at: AwareDatetime
    state: Literal["ready", "running", "waiting", "parked", "succeeded", "failed", "cancelled"]
    trigger: str | None = None
    """
    What started it, such as `schedule`; null for a person.
    """
    wake_at: AwareDatetime | None = None
    """
    When a waiting run goes on by itself; null when it waits for an answer, or for other runs, alone.
    """
    workflow: str


class ScheduleAsked(Model):
    """
    A schedule to explain.
    """

    after: str | None = None
    """
    Those after this instant, or day; left out: after now.
    """
    count: int = 5
    """
    How many instants to tell.
    """
    schedule: dict[str, Any]
    """
    As it stands under `on.schedule` of a document.
    """
    zone: str = "UTC"
    """
    The zone of whoever looks at it.
    """


class ScheduleReport(Model):
    """
    A schedule and where it stands: an element of `weft schedules list --json`.
    """

    catch_up: Literal["none", "last", "all"]
    cron: str | None
    document: str
    """
    SHA-256 of what its runs follow.
    """
    end: str | None
    every: str | None
    grace: str | None
    id: str
    inputs: dict[str, Any]
    jitter: str | None
    last: OccurrenceReport | None = None
    """
    What became of the last instant.
    """
    next: InstantReport | None
    overlap: Literal["skip", "queue", "cancel", "allow"]
    paused_at: AwareDatetime | None
    skips: int
    """
    Starts skipped in a row.
    """
    source: str
    """
    The workspace that armed it.
    """
    start: str | None
    state: Literal["armed", "paused", "ended", "retired"]
    """
    `ended`: it has no instant to come; `retired`: its workflow no longer has it, or is not enabled.
    """
    timezone: str
    watermark: AwareDatetime
    """
    Every instant until then has its fate.
    """
    workflow: str


class SchemaKinds(Model):
    """
    Kinds of documents of which there are schemas.
    """

    kinds: list[str]


class Sends(Model):
    """
    A step that a replay lets send.
    """

    again: list[str]
    """
    Where it has sent before, or may have; none: it sends for the first time.
    """
    step: str
    title: str


class Set(Model):
    """
    Gives a value to the key or item at a path.

    A key that is not there is added at the end of its mapping, an item one behind the last is appended; what is missing
    on the way is made, and a key without a value counts as missing.
    """

    op: Literal["set"] = "set"
    path: list[str | int]
    """
    Where.
    """
    value: Any


class SpanObject(Model):
    """
    Lines of the new text.
    """

    first: int
    last: int


class Start(Model):
    """
    A run to start.
    """

    inputs: dict[str, Any] = {}
    only: str | None = None
    """
    Run this step alone.
    """
    pins: dict[str, Any] | None = None
    """
    Outputs of steps that are not run, by step; left out, the pins that are kept with the workflow. Only for parts.
    """
    until: str | None = None
    """
    Stop after this step: run it and what it needs, nothing else.
    """
    workflow: str
    """
    A workflow of the workspace, or an example of a pack.
    """


class StepAsked(Model):
    """
    A step as a form has it, and the document that it belongs to.
    """

    path: list[str | int]
    """
    Where the step stands, or is to stand: `["steps", 2]`; one behind the last of a list appends it.
    """
    step: dict[str, Any]
    """
    The step itself.
    """
    text: str | None = None
    """
    The document as it is being written.
    """
    workflow: str | None = None
    """
    The saved workflow; or give `text`.
    """


class StepCaps(Model):
    """
    What one step may use up; null where there is no cap.
    """

    cost: float | None = None
    tokens: int | None = None


class StepObject(Model):
    """
    A step as the canvas draws it.
    """

    category: str | None
    column: int
    condition: bool
    connection: str | None
    disabled: bool
    effects: str | None
    """
    Of its action: none, read or send; null when the action is not known.
    """
    errors: int
    group: list[str | int]
    """
    The path of the list that it stands in.
    """
    icon: str | None
    id: str
    implied: bool
    """
    Whether `needs` does not stand in the document: it is the step before this one.
    """
    kind: Literal["action", "workflow", "group", "wait", "approval"]
    line: int
    """
    Where it begins, from 1.
    """
    loop: bool
    name: str
    """
    Through groups, for people: `each/mail`; runs, pins and problems speak of it so.
    """
    needs: list[str]
    """
    The steps of the same list that must be settled before, the implied one among them.
    """
    needs_connection: str | None
    """
    The type of connection that its action takes.
    """
    path: list[str | int]
    """
    Where it stands in the document; operations speak of it so.
    """
    problems: int
    """
    Errors and warnings of the step itself and of those in it.
    """
    record: str
    """
    Of its states in runs, without the turns of loops: `/each/mail`.
    """
    references: list[ReferenceObject]
    """
    The steps whose outputs it uses.
    """
    title: str
    uses: str | None


class Sync(Model):
    """
    How to bring the schedules to what the workspace says.
    """

    take: bool = False
    """
    Also take over what another workspace has armed under the same names.
    """


class TakingObject(Model):
    """
    What a model makes of one parameter.
    """

    message: str
    name: str
    state: Literal["taken", "some", "refused", "ignored"]
    """
    some: only some of its values, or not beside others; ignored: lost without a word.
    """
    then: Literal["sent", "error", "dropped"]
    """
    What becomes of it with the settings of the connection, where it is not taken.
    """
    values: list[str]
    """
    Which values are taken, in words, where not all are.
    """


class TestAsked(Model):
    """
    A connection to try out before it is kept.
    """

    fields: dict[str, Any]
    name: str | None = None
    """
    The kept connection that this is a change of: what is left out is taken from there.
    """
    type: str


class TestObject(Model):
    """
    What a test has found out, as `weft connections test --json` tells it.
    """

    code: str | None
    message: str
    """
    What was proved, what is wrong, or why it is not known.
    """
    ms: int
    name: str
    provider: str | None
    remedy: str | None
    source: str
    state: Literal["works", "failed", "untested"]
    type: str


class TextAsked(Model):
    """
    The whole text of a document.
    """

    text: str
    why: str = ""
    """
    What for; the history keeps it.
    """


class TextEdit(Model):
    """
    One piece of text put in the place of another.
    """

    end: int
    """
    The first character that stays.
    """
    start: int
    """
    The first character that goes.
    """
    text: str
    """
    What comes instead.
    """


class TierObject(Model):
    """
    Prices that replace others when the input is longer.
    """

    above: int
    """
    Tokens read.
    """
    input: float | None
    output: float | None


class TokenAnswer(Model):
    """
    An answer by the token of a link, in the name that the link was made for.
    """

    answer: Literal["approve", "reject"]
    comment: str | None = None
    """
    Why; later steps can read it.
    """
    token: str
    """
    As it stands in the link.
    """


class TokenFacts(Model):
    """
    A token, without what opens the door.
    """

    expires_at: AwareDatetime | None
    id: str
    made_at: AwareDatetime
    made_by: str
    name: str
    revoked_at: AwareDatetime | None
    scopes: list[Literal["view", "run", "edit", "connections", "admin"]]
    used_at: AwareDatetime | None
    """
    To the minute.
    """


class TokenList(Model):
    """
    All tokens, the newest first.
    """

    items: list[TokenFacts]


class TriggerObject(Model):
    """
    What starts runs of a workflow besides people.
    """

    kind: Literal["schedule", "webhook"]
    told: str
    """
    In a few words: the cron line or interval with its zone, or the style of the webhook.
    """


class UnfitObject(Model):
    """
    A given value that a model does not take.
    """

    message: str
    parameter: str
    reason: Literal["unsupported", "value", "ignored"]
    remedy: str


class Use(Model):
    """
    What something used, as far as the actions know it.
    """

    completion_tokens: int | None = None
    costs: dict[str, float] = {}
    """
    By currency.
    """
    prompt_tokens: int | None = None
    unknown_cost: bool = False
    """
    Something has cost nobody knows how much.
    """


class UseObject(Model):
    """
    A place of a workflow that names a connection.
    """

    path: list[str | int]
    step: str | None
    """
    Its id; null for a webhook.
    """
    workflow: str


class UsedName(Model):
    """
    A name that a template reads.
    """

    name: str
    """
    As far as it is constant: `steps.ask.output.text`.
    """
    offset: int
    """
    Of its first character in the template, in code points.
    """
    source: Literal["given", "pin", "run", "default", "example", "computed", "document", "none"]
    """
    Where its value comes from.
    """


class ValidationAsked(Model):
    """
    What to check.
    """

    documents: list[DocumentAsked] | None = None
    """
    Left out: every workflow of the workspace, as it is saved.
    """


class VersionObject(Model):
    """
    What a document was from one moment on.
    """

    at: AwareDatetime
    by: str
    """
    Who has made it; `outside` when that was an editor or git.
    """
    etag: str
    """
    Empty: it was removed.
    """
    number: int
    size: int
    why: str


class VersionText(Model):
    """
    A version with its text.
    """

    number: int
    text: str


class WebhookReport(Model):
    """
    Where a webhook is reached, and whether it takes anything now.
    """

    connection: str
    """
    Whose secret signs the requests.
    """
    name: str
    """
    Within the workflow.
    """
    state: Literal["ready", "disabled", "unsigned"]
    """
    `disabled`: the workflow says `enabled: false`. `unsigned`: no connection can check a signature.
    """
    style: Literal["standard", "github", "slack", "stripe"]
    synchronous: bool
    url: str | None
    """
    Where to post; only for those who may edit workflows.
    """
    workflow: str


class WhereObject(Model):
    """
    The place that a problem speaks of; every part may be missing.
    """

    column: int | None
    field: str | None
    file: str | None
    line: int | None
    step: str | None


class WholeMail(Model):
    """
    A mail, taken apart.
    """

    attachments: list[Attachment]
    date: AwareDatetime | None
    headers: list[list[Any]]
    html: str | None
    """
    Without scripts, forms, frames, styles, and without anything that would be fetched from elsewhere.
    """
    id: str
    number: int
    """
    From 1, the oldest first.
    """
    sender: str
    size: int
    """
    Bytes.
    """
    subject: str
    text: str | None
    to: list[str]
    """
    Who it was handed over for, Bcc too.
    """


class Word(Model):
    """
    A word of the language.
    """

    description: str
    name: str
    signature: str | None


class WorkflowBudgetHistory(Model):
    """
    The caps of one workflow, and what its last runs have taken.
    """

    currency: str
    date: str
    day: DayAmounts
    run: RunCaps
    runs: list[RunAmounts]
    steps: dict[str, StepCaps]
    """
    By the step's name: `each/ask`.
    """
    unknown_price: Literal["block", "allow"]
    workflow: str


class WorkflowBudgets(Model):
    """
    The caps of one workflow.
    """

    currency: str
    day: DayAmounts
    run: RunCaps
    steps: dict[str, StepCaps]
    """
    By the step's name: `each/ask`.
    """
    unknown_price: Literal["block", "allow"]
    workflow: str


class WorkflowSummary(Model):
    """
    A workflow as a list shows it.
    """

    changed_at: AwareDatetime
    description: str
    enabled: bool
    """
    Whether its triggers start runs.
    """
    errors: int
    etag: str
    expose: bool
    """
    Whether agents may start it as a tool.
    """
    file: str
    last_run: RunSummary | None
    name: str
    next_start: InstantReport | None
    """
    When its schedule starts it next; null when none is armed.
    """
    readable: bool
    """
    Whether it is a workflow at all; its faults are among the problems.
    """
    recent: list[RecentRun]
    """
    Its last runs, the youngest first.
    """
    size: int
    steps: int
    title: str | None
    triggers: list[TriggerObject]
    warnings: int


class WorkspaceBudgets(Model):
    """
    The caps of everything together.
    """

    currency: str
    day: DayAmounts
    unknown_price: Literal["block", "allow"]


class AttemptReport(Model):
    """
    One try of a step.
    """

    arguments: dict[str, Any] = {}
    """
    What the action was given.
    """
    details: dict[str, Any] = {}
    """
    Further facts of a failure, as the action has them: what it cost, who was refused.
    """
    inherited: bool = False
    """
    The run that this one repeats has made it; what it used was counted there.
    """
    kind: str | None = None
    """
    The kind of the failure.
    """
    ms: int
    number: int
    """
    From 1, over the whole chain of retries and fallbacks.
    """
    output: Any | None = None
    problem: ProblemReport | None = None
    repeated: bool = False
    """
    An attempt before it may have had its effect.
    """
    started_at: AwareDatetime
    state: Literal["succeeded", "failed", "cancelled"]
    status: int | None = None
    """
    The protocol's status of a failure, where there was one.
    """
    turn: int | None = None
    """
    Of a step that is repeated for each item: the item's index.
    """
    variant: str
    """
    What was called: `openai/gpt-4o-mini`; `default` for actions without variants.
    """
    wait_s: float = 0.0
    """
    Seconds until the next attempt.
    """


class Bar(Model):
    """
    Something that took time in a run.
    """

    attempt: int | None = None
    inherited: bool = False
    kind: Literal["step", "attempt"]
    ms: int
    offset_ms: int
    """
    From the start of the run; negative for what it inherited.
    """
    path: str
    started_at: AwareDatetime
    state: Literal["pending", "running", "waiting", "succeeded", "failed", "skipped", "cancelled"]
    title: str
    turn: int | None = None
    use: Use
    variant: str | None = None


class ChangeReport(Model):
    """
    What became of a schedule in `weft schedules sync --json`.
    """

    change: Literal["new", "edited", "unchanged", "retired", "foreign", "elsewhere"]
    """
    `foreign`: another workspace has armed it otherwise, it was left alone; `elsewhere`: only another workspace has it.
    """
    schedule: ScheduleReport


class CompletionAsked(Model):
    """
    A cursor in a field.
    """

    at: list[str | int]
    """
    The path of the field: `["steps", 0, "with", "subject"]`.
    """
    cursor: int
    """
    Between which characters, counted in code points from 0.
    """
    data: DataAsked | None = None
    template: str
    """
    What stands in the field.
    """
    text: str | None = None
    """
    The document as it is being written; left out: as it is saved.
    """
    workflow: str | None = None
    """
    The saved workflow: its runs and pins give values.
    """


class ConnectionSummary(Model):
    """
    A connection as lists show it; the one that is used comes before those that it hides.
    """

    name: str
    provider: str | None
    shadowed_by: str | None
    """
    The source that answers in its stead.
    """
    source: str
    """
    Where it comes from: `environment`, `store`, `built in`, the name of a file.
    """
    type: str
    used_by: list[UseObject]
    writable: bool
    """
    Whether it can be changed and removed here.
    """


class ConnectionType(Model):
    """
    The declaration of one type of connection: its fields, and the environment variables they may come from.
    """

    environment: dict[str, list[str]] = {}
    """
    Field → environment variables it may come from, the first that is set; `{NAME}` is the connection's name.
    """
    fields: list[Parameter]
    """
    What makes a connection of this type; secret ones are marked `secret`.
    """
    further_fields: FurtherFields | None = None
    """
    Where further fields come from, that not every connection of this type has; their environment variables are
    `{NAME}_` and the field in upper case.
    """
    icon: str
    """
    The name of its picture.
    """
    id: str
    """
    The type's name; also that of its file.
    """
    purpose: str
    """
    What it is for, in one line.
    """
    title: str
    """
    How people call it.
    """


class ConnectionTypeObject(Model):
    """
    A type of connection, its fields and those that a value of one of them brings.
    """

    actions: list[str]
    """
    The actions that need one.
    """
    declared: ConnectionType
    fields: list[Parameter]
    """
    All fields of its form; with `by`, those that this value brings are among them.
    """
    testable: bool
    """
    Whether a connection of this type can be tried out.
    """


class DryRun(Model):
    """
    What a run would do, or does with recorded answers: `weft run --json` with `--dry-run` or `--replay`.
    """

    inputs: dict[str, Any]
    outputs: Any | None = None
    problem: ProblemReport | None = None
    state: Literal["ready", "running", "waiting", "parked", "succeeded", "failed", "cancelled"]
    """
    How the run would end, if all stand-ins were real.
    """
    steps: list[RehearsedStep]
    """
    In document order; those of a child workflow follow the step that starts it.
    """
    unfit: list[ProblemReport] = Field([], validate_default=True)
    """
    Of a replay: what was asked and is not recorded, and what is recorded and was not asked.
    """
    warnings: list[ProblemReport] = Field([], validate_default=True)
    """
    What would keep the run from beginning, such as a connection that is not there, and what is doubtful.
    """
    workflow: str


class FaultyReport(Model):
    """
    A workflow that cannot be armed as it is written.
    """

    kept: list[str]
    """
    Its schedules that go on as they were armed last.
    """
    problem: ProblemReport
    workflow: str


class Language(Model):
    """
    Everything that an expression may use besides names; docs/expressions.md has examples.
    """

    filters: list[Word]
    keywords: list[Word]
    methods: list[Word]
    statements: list[Word]
    tests: list[Word]


class LeftOut(Model):
    """
    A workflow that cannot be read.
    """

    problem: ProblemReport
    workflow: str


class Manifest(Model):
    """
    The declaration of one action.
    """

    category: str
    """
    The group of actions that it is listed in.
    """
    connection: str | None = None
    """
    The type of connection that the action needs.
    """
    description: str = ""
    """
    What a reader should know before using it, in Markdown.
    """
    effects: Literal["none", "read", "send"]
    """
    What it does outside: nothing, reading, or something that cannot be taken back.
    """
    icon: str
    """
    The name of its picture.
    """
    id: str
    """
    The action's name; also that of its file and its function.
    """
    output: Output
    """
    What it returns.
    """
    parameters: Parameters
    """
    What it takes.
    """
    purpose: str
    """
    What it is for, in one line.
    """
    retry: Literal["safe", "guarded", "never"]
    """
    Whether it may run again after a failure: always, after proof that nothing happened, or not at all.
    """
    title: str
    """
    How people call it.
    """
    version: int
    """
    Raised with every change that could break a workflow.
    """


class PageRunSummary(Model):
    items: list[RunSummary]
    next: str | None = None
    """
    What to send as `cursor` for more; none: this was the last.
    """


class PageScheduleReport(Model):
    items: list[ScheduleReport]
    next: str | None = None
    """
    What to send as `cursor` for more; none: this was the last.
    """


class PageVersionObject(Model):
    items: list[VersionObject]
    next: str | None = None
    """
    What to send as `cursor` for more; none: this was the last.
    """


class PageWorkflowSummary(Model):
    items: list[WorkflowSummary]
    next: str | None = None
    """
    What to send as `cursor` for more; none: this was the last.
    """


class PricesObject(Model):
    """
    What a million tokens cost; null where no price is known.
    """

    cached_input: float | None
    currency: str
    input: float | None
    output: float | None
    tiers: list[TierObject]


class ProblemObject(Model):
    """
    One fault or warning, as `weft … --json` tells it.
    """

    code: str
    """
    A stable name, for programs.
    """
    message: str
    remedy: str | None
    severity: Literal["error", "warning"]
    where: WhereObject


class ReplayPlan(Model):
    """
    What a replay would send; nothing was started.
    """

    inherited: int
    """
    Records that it takes over.
    """
    origin: str
    sends: list[Sends]
    sends_again: bool
    """
    Whether `send_again` must be said.
    """


class ScheduleExplained(Model):
    """
    A schedule in words, with what comes next.
    """

    instants: list[InstantObject]
    notes: list[ClockNoteObject]
    problems: list[ProblemObject]
    """
    `where.field` is inside the schedule; the column is that of the text in that field.
    """
    sentence: str | None
    valid: bool


class ScheduleHistory(Model):
    """
    A schedule with its last instants, the youngest first: an element of `weft schedules show --json`.
    """

    occurrences: list[OccurrenceReport]
    schedule: ScheduleReport


class Side(Model):
    """
    A step in one of two runs.
    """

    attempts: int
    ms: int
    state: Literal["pending", "running", "waiting", "succeeded", "failed", "skipped", "cancelled"]
    use: Use


class StepChecked(Model):
    """
    What is wrong with a step.
    """

    problems: list[ProblemObject]
    """
    `where.field` is inside the step; line and column are those of the text in that field.
    """
    valid: bool


class StepComparison(Model):
    """
    A step, or a turn of one, in two runs.
    """

    a: Side | None
    """
    Null when the run has no such step.
    """
    b: Side | None
    path: str
    same_arguments: bool
    same_output: bool
    title: str


class StepReport(Model):
    """
    A step of the document, or one in a turn of a loop.
    """

    asks: list[QuestionReport] = Field([], validate_default=True)
    """
    Of a step that asks: what waits for an answer now; several in a loop over it alone.
    """
    attempts: list[AttemptReport] = Field([], validate_default=True)
    child: str | None = None
    """
    Of a child workflow: the run that was started last.
    """
    ms: int = 0
    """
    From when it began to when it ended, or something last happened in it.
    """
    output: Any | None = None
    path: str
    """
    Ids from the document's root: `/answer`, `/each[3]/mail`.
    """
    problem: ProblemReport | None = None
    question: str | None = None
    """
    What an approval asks, or a step that does not know whether it has sent, once it has asked.
    """
    started_at: AwareDatetime | None = None
    """
    Null before it has begun, and for what is not on record.
    """
    state: Literal["pending", "running", "waiting", "succeeded", "failed", "skipped", "cancelled"]
    title: str
    uses: str
    """
    The action's id; `group`, `wait` or `approval` for steps without an action.
    """


class SyncReport(Model):
    """
    What `weft schedules sync --json` prints.
    """

    faulty: list[FaultyReport]
    schedules: list[ChangeReport]


class Text(Model):
    """
    Changes the text itself: what an undo sends, and a text editor.
    """

    edits: list[TextEdit]
    """
    What changes, all by the offsets of the text as it is before; no two may overlap.
    """
    op: Literal["text"] = "text"


class Timeline(Model):
    """
    When each step and each attempt was at work.
    """

    bars: list[Bar]
    """
    In document order, the attempts of a step behind it.
    """
    run: RunSummary
    use: Use
    """
    Of the run itself, without what it inherited.
    """


class WorkflowChanged(Model):
    """
    A workflow after a change, and what the change was.
    """

    description: str
    diff: str
    """
    Unified; empty when nothing has changed.
    """
    enabled: bool
    etag: str
    """
    SHA-256 of its bytes; also in the header ETag, and what If-Match of a change names.
    """
    exact: bool
    """
    False: its bytes are not UTF-8, and the text shows them as well as it can.
    """
    file: str
    inverse: list[Text]
    """
    The operations that take it back, for the etag of this answer.
    """
    layout: dict[str, Any]
    """
    Where things stand on the canvas; kept beside the document.
    """
    lines: list[SpanObject]
    """
    The lines that are new.
    """
    merged: bool
    """
    Whether others had changed the document, and this change was made in theirs.
    """
    model: dict[str, Any] | None
    """
    The document as it is written, as JSON; null when it cannot be read.
    """
    name: str
    pins: list[str]
    """
    The steps whose output is pinned.
    """
    problems: list[ProblemObject]
    """
    The same as those of `weft validate`.
    """
    references: int
    """
    How many places speak of a step by its new name.
    """
    steps: list[StepObject]
    """
    All steps in the order of the document, as far as it can be understood.
    """
    text: str
    title: str | None


class WorkflowObject(Model):
    """
    A workflow and all that is known of it.
    """

    description: str
    enabled: bool
    etag: str
    """
    SHA-256 of its bytes; also in the header ETag, and what If-Match of a change names.
    """
    exact: bool
    """
    False: its bytes are not UTF-8, and the text shows them as well as it can.
    """
    file: str
    layout: dict[str, Any]
    """
    Where things stand on the canvas; kept beside the document.
    """
    model: dict[str, Any] | None
    """
    The document as it is written, as JSON; null when it cannot be read.
    """
    name: str
    pins: list[str]
    """
    The steps whose output is pinned.
    """
    problems: list[ProblemObject]
    """
    The same as those of `weft validate`.
    """
    steps: list[StepObject]
    """
    All steps in the order of the document, as far as it can be understood.
    """
    text: str
    title: str | None


class ActionDetail(Model):
    """
    An action with all that its form, its reference and its completion need.
    """

    arguments_schema: dict[str, Any]
    """
    JSON Schema of all arguments together, the rules between them included.
    """
    category: str
    connection: str | None
    """
    The type of connection that it needs.
    """
    effects: str
    example: str
    """
    A step to paste, as YAML.
    """
    file: str
    """
    Where its manifest stands.
    """
    icon: str
    id: str
    manifest: Manifest
    pack: str
    problems: list[ProblemObject]
    """
    Why its code cannot be used.
    """
    purpose: str
    retry: str
    step: dict[str, Any]
    """
    The same step, to insert.
    """
    title: str
    version: int


class BudgetList(Model):
    """
    Today's caps.
    """

    day: str
    """
    UTC.
    """
    left_out: list[LeftOut] = Field([], validate_default=True)
    workflows: list[WorkflowBudgets]
    """
    Those that have a budget.
    """
    workspace: WorkspaceBudgets | None


class CheckedDocument(Model):
    """
    One document and what was found in it, as `weft validate --json` tells it.
    """

    file: str
    kind: Literal["workflow", "manifest", "connection-type"]
    problems: list[ProblemObject]
    valid: bool
    """
    Whether it has no errors; it may have warnings.
    """


class ConnectionDetail(Model):
    """
    A connection with all but its secrets.
    """

    fields: list[Parameter]
    """
    The fields that it may have.
    """
    name: str
    problems: list[ProblemObject]
    provider: str | None
    secrets: list[str]
    """
    The secret fields that have a value.
    """
    settings: dict[str, Any]
    """
    The fields that are not secret, defaults among them.
    """
    shadowed_by: str | None
    """
    The source that answers in its stead.
    """
    shadows: list[str]
    """
    The sources of connections that it stands before.
    """
    source: str
    """
    Where it comes from: `environment`, `store`, `built in`, the name of a file.
    """
    type: str
    used_by: list[UseObject]
    writable: bool
    """
    Whether it can be changed and removed here.
    """


class ModelObject(Model):
    """
    A model that chats.
    """

    deprecated_on: date_aliased | None
    """
    The day from which it is deprecated or gone.
    """
    max_input_tokens: int | None
    max_output_tokens: int | None
    name: str
    own: bool
    """
    Declared by the operator.
    """
    parameters: list[str]
    """
    Those of which it takes at least some values.
    """
    prices: PricesObject | None
    provider: str
    supports: list[str]
    """
    What it can do: tools, json_schema, vision, …
    """


class OperationsAsked(Model):
    """
    Operations, done together or not at all.
    """

    merge: bool = False
    """
    Whether they may be made in a document that others have changed since, where they touch other parts of it.
    """
    operations: list[Set | Insert | Remove | Move | RenameStep | Text]


class PackObject(Model):
    """
    A pack and what it brings.
    """

    actions: list[str]
    broken: bool
    """
    Whether it is left out because of its problems.
    """
    connection_types: list[str]
    name: str
    problems: list[ProblemObject]
    root: str | None
    """
    The directory that it lies in; null for one that cannot be used.
    """
    workflows: list[str]
    """
    Examples that a workflow can be made from.
    """


class PageModelObject(Model):
    items: list[ModelObject]
    next: str | None = None
    """
    What to send as `cursor` for more; none: this was the last.
    """


class Preview(Model):
    """
    What a template comes to.
    """

    cut: bool
    """
    Whether `text` is only the beginning.
    """
    ok: bool
    problems: list[ProblemObject]
    """
    Line and column are those of the template.
    """
    run: str | None
    """
    The run whose values were used.
    """
    text: str
    """
    The value as text; of a long one the beginning.
    """
    type: str | None
    """
    JSON type of the value.
    """
    uses: list[UsedName]
    value: Any


class RunComparison(Model):
    """
    Two runs side by side.
    """

    a: RunSummary
    b: RunSummary
    inputs: list[Difference]
    outputs: list[Difference]
    same_document: bool
    """
    Whether both follow the same text.
    """
    steps: list[StepComparison]
    """
    In the order of the first run, then what only the second one has.
    """


class RunReport(Model):
    """
    A run and all that is known of it: `weft run --json`, `weft runs show --json`, a line of `weft runs export`.
    """

    complete: bool = True
    """
    False when what it follows cannot be read here: then titles, arguments and steps not reached are missing.
    """
    ended_at: AwareDatetime | None = None
    """
    Null while it has not ended.
    """
    inputs: dict[str, Any]
    ms: int
    """
    Until its end, or until something last happened.
    """
    origin: str | None = None
    """
    The run that it repeats, in whole or in part.
    """
    outputs: Any | None = None
    problem: ProblemReport | None = None
    run_id: str
    started_at: AwareDatetime
    state: Literal["ready", "running", "waiting", "parked", "succeeded", "failed", "cancelled"]
    steps: list[StepReport]
    """
    In document order; the turns of a loop and the members of a group follow in the order in which they began.
    """
    workflow: str


class Validation(Model):
    """
    What was found in each document.
    """

    documents: list[CheckedDocument]


class ExplanationObject(Model):
    """
    All that is known of what a model takes.
    """

    model: ModelObject | None
    """
    Null: nothing is known of it, and `parameters` say what its provider usually takes.
    """
    near: list[str]
    """
    Known models whose names come near to an unknown one.
    """
    parameters: list[TakingObject]
    provider: ProviderSummary
    unfit: list[UnfitObject]
    """
    Which of the given values it would refuse, or lose without a word.
    """
