"""What is wrong with a document, a step or a schedule, before anybody has saved it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from itertools import islice
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo, available_timezones

from fastapi import Path
from pydantic import Field

from weft import catalogue, manifest, source, structure, validation, wording, workflow
from weft.errors import InvalidDocument, InvalidInputs, InvalidWorkflow, NotFound, Problem, Where
from weft.plan.studying import step_problems
from weft.schedules import asking, explaining
from weft.schedules.report import moment
from weft.schedules.times import EARLIEST, LATEST, Times
from weft.server.deps import HouseDep, api, needs
from weft.server.house import House
from weft.server.problems import ProblemObject
from weft.server.routes.shapes import LARGEST_TEXT, Asked, Object, Shape, told
from weft.server.routes.studies import Studies, StudiesDep, Unreadable, World
from weft.types import DocumentPath, JsonObject
from weft.validation import Findings

router = api("checks")

Kind = Literal["workflow", "manifest", "connection-type"]
MOST_DOCUMENTS: Final = 100
MOST_INSTANTS: Final = 100
_YEARS_MS: Final = 60 * 366 * 86_400_000
"""Before the last instant that there is: how far the next one and changes of the clock are looked for."""


def _of_tests() -> JsonObject:
    from weft.rehearsal import cases  # noqa: PLC0415  rehearsals are loaded by who rehearses

    return cases.json_schema()


SCHEMAS: Final[Mapping[str, Callable[[], JsonObject]]] = {
    "workflow": workflow.json_schema,
    "manifest": manifest.json_schema,
    "connection-type": manifest.connection_type_json_schema,
    "models": catalogue.json_schema,
    "test": _of_tests,
}


class DocumentAsked(Asked):
    """A document to check."""

    file: str = Field(default="workflow.yaml", min_length=1, max_length=1_000)
    """How problems name it. A child workflow is looked for beside it."""
    text: str = Field(max_length=LARGEST_TEXT)
    """The whole document."""
    kind: Kind = "workflow"
    """What it is to be."""


class ValidationAsked(Asked):
    """What to check."""

    documents: list[DocumentAsked] | None = Field(default=None, max_length=MOST_DOCUMENTS)
    """Left out: every workflow of the workspace, as it is saved."""


class CheckedDocument(Shape):
    """One document and what was found in it, as `weft validate --json` tells it."""

    file: str
    kind: Kind
    valid: bool
    """Whether it has no errors; it may have warnings."""
    problems: list[ProblemObject]


class Validation(Shape):
    """What was found in each document."""

    documents: list[CheckedDocument]


class StepAsked(Asked):
    """A step as a form has it, and the document that it belongs to."""

    workflow: str | None = Field(default=None, max_length=64)
    """The saved workflow; or give `text`."""
    text: str | None = Field(default=None, max_length=LARGEST_TEXT)
    """The document as it is being written."""
    path: list[str | int] = Field(min_length=2, max_length=50)
    """Where the step stands, or is to stand: `["steps", 2]`; one behind the last of a list appends it."""
    step: Object
    """The step itself."""


class StepChecked(Shape):
    """What is wrong with a step."""

    valid: bool
    problems: list[ProblemObject]
    """`where.field` is inside the step; line and column are those of the text in that field."""


class ScheduleAsked(Asked):
    """A schedule to explain."""

    schedule: Object
    """As it stands under `on.schedule` of a document."""
    zone: str = Field(default="UTC", max_length=64)
    """The zone of whoever looks at it."""
    count: int = Field(default=5, ge=0, le=MOST_INSTANTS)
    """How many instants to tell."""
    after: str | None = Field(default=None, max_length=64)
    """Those after this instant, or day; left out: after now."""


class InstantObject(Shape):
    """An instant of a schedule."""

    utc: datetime
    local: str
    """In the zone of the schedule, with its offset."""
    here: str
    """In the zone that was asked for, with its offset."""
    due: datetime
    """When it starts: the instant, put off by its jitter."""


class ClockNoteObject(Shape):
    """What a change of the clock does to the schedule."""

    kind: Literal["gap", "twice", "shift"]
    on: date
    message: str
    local: str | None
    """The time that is not there, or is there twice."""
    starts: str | None
    """The clock's time of the start in its stead."""


class ScheduleExplained(Shape):
    """A schedule in words, with what comes next."""

    valid: bool
    problems: list[ProblemObject]
    """`where.field` is inside the schedule; the column is that of the text in that field."""
    sentence: str | None
    instants: list[InstantObject]
    notes: list[ClockNoteObject]


class SchemaKinds(Shape):
    """Kinds of documents of which there are schemas."""

    kinds: list[str]


@router.post("/validate", dependencies=[needs("view")])
async def validate_documents(house: HouseDep, studies: StudiesDep, asked: ValidationAsked) -> Validation:
    """Say all that is wrong with documents, each fault with its place. Nothing is saved, nothing is run."""
    world = await studies.world()
    if asked.documents is None:
        return Validation(documents=await _all_checked(house, studies, world))
    found = []
    for each in asked.documents:
        if each.kind == "workflow":
            problems = (await studies.of(each.file, each.text, world)).problems
        else:
            problems = await asyncio.to_thread(_of_pack, each)
        found.append(_checked(house, each.file, each.kind, problems))
    return Validation(documents=found)


async def _all_checked(house: House, studies: Studies, world: World) -> list[CheckedDocument]:
    found = []
    for facts in await house.runtime.documents.list():
        with contextlib.suppress(NotFound):  # removed a moment ago
            found.append(_checked(house, facts.file, "workflow", (await studies.listed(facts, world))[1].problems))
    return found


def _checked(house: House, file: str, kind: Kind, problems: Iterable[Problem]) -> CheckedDocument:
    problems = tuple(problems)
    valid = all(problem.severity != "error" for problem in problems)
    return CheckedDocument(file=file, kind=kind, valid=valid, problems=told(problems, house.runtime.redactor))


@router.post("/steps/check", dependencies=[needs("view")])
async def check_step(house: HouseDep, studies: StudiesDep, asked: StepAsked) -> StepChecked:
    """Say what is wrong with one step in its place of a document, before it is saved."""
    world = await studies.world()
    file, text = await text_of(house, asked.workflow, asked.text)
    known = await studies.of(file, text, world)
    if isinstance(known, Unreadable):
        raise InvalidWorkflow(problems=known.problems)
    problems = await studies.asked(world, lambda around: step_problems(known, tuple(asked.path), asked.step, around))
    valid = all(problem.severity != "error" for problem in problems)
    return StepChecked(valid=valid, problems=told(problems, house.runtime.redactor))


async def text_of(house: HouseDep, name: str | None, text: str | None) -> tuple[str, str]:
    """Return the file and the text of the document that a request speaks of.

    Raises:
        InvalidInputs: It names both, or neither.
        NotFound: There is no such workflow.
    """
    if text is not None:
        return (name or "workflow") + ".yaml", text
    if name is None:
        raise InvalidInputs("Give 'workflow' or 'text'.", code="missing", remedy="One of them says which document.")
    document = await house.runtime.documents.peek(name)
    return document.file, document.text


@router.post("/schedules/explain", dependencies=[needs("view")])
async def explain_schedule(house: HouseDep, asked: ScheduleAsked) -> ScheduleExplained:
    """Say in words when a schedule starts runs, which instants come next in two zones, and what clock changes do."""
    return await asyncio.to_thread(_explained, house, asked)


@router.get("/schemas", dependencies=[needs("view")])
async def list_schemas(house: HouseDep) -> SchemaKinds:
    """List the kinds of documents that have a JSON Schema."""
    return SchemaKinds(kinds=list(SCHEMAS))


@router.get("/schemas/{kind}", dependencies=[needs("view")])
async def show_schema(house: HouseDep, kind: Annotated[str, Path(max_length=40)]) -> JsonObject:
    """Show the JSON Schema of a kind of document, for completion and checks in editors."""
    if kind not in SCHEMAS:
        remedy = wording.meant(kind, SCHEMAS) or f"There are: {', '.join(SCHEMAS)}."
        raise NotFound(f"There is no kind of document {wording.shown(kind)}.", code="unknown_kind", remedy=remedy)
    return SCHEMAS[kind]()


def _of_pack(asked: DocumentAsked) -> tuple[Problem, ...]:
    try:
        document = source.read(asked.text, asked.file)
        if asked.kind == "manifest":
            manifest.load(document)
        else:
            manifest.load_connection_type(document)
    except InvalidDocument as invalid:
        return invalid.problems
    return ()


# ---- schedules
class _Form(source.Source):
    """A schedule from a form: there is no file, columns are those of a field's own text."""

    def where(self, path: DocumentPath, key: bool = False) -> Where:
        return Where()

    def locate(self, path: DocumentPath, offset: int) -> Where:
        return Where(line=1, column=offset + 1)


def _explained(house: HouseDep, asked: ScheduleAsked) -> ScheduleExplained:
    if asked.zone not in available_timezones():
        raise InvalidInputs(f"There is no time zone {wording.shown(asked.zone)}.", code="timezone")
    form = _Form("schedule", "", asked.schedule)
    findings = Findings(form)
    says: workflow.Schedule | None = None
    problems: list[Problem] = []
    try:
        says = validation.build(workflow.Schedule, form, InvalidWorkflow)
        structure._check_schedule((), says, findings)
        problems = findings.problems
    except InvalidWorkflow as invalid:
        problems = list(invalid.problems)
    shown = told(problems, house.runtime.redactor)
    if says is None or problems:
        return ScheduleExplained(valid=False, problems=shown, sentence=None, instants=[], notes=[])
    now = house.runtime.journal.now()
    begin = now if asked.after is None else asking.read_moment(asked.after, ZoneInfo(says.timezone))
    if not EARLIEST <= begin * 1000 <= LATEST - _YEARS_MS:
        raise InvalidInputs(
            "'after' is too far from now.", code="not_an_instant", remedy="Give a later or earlier one."
        )
    return ScheduleExplained(
        valid=True,
        problems=[],
        sentence=explaining.sentence(says),
        instants=list(_instants(says, begin, asked)),
        notes=[
            ClockNoteObject(kind=each.kind, on=each.on, message=each.message, local=each.local, starts=each.starts)
            for each in explaining.clock_notes(says, begin)
        ],
    )


def _instants(says: workflow.Schedule, begin: float, asked: ScheduleAsked) -> Iterator[InstantObject]:
    here = ZoneInfo(asked.zone)
    times = Times(says, float(int(begin)))
    for each in islice(times.after(begin), asked.count):
        at = moment(each.at)
        yield InstantObject(
            utc=at,
            local=each.key,
            here=at.astimezone(here).isoformat(),
            due=moment(times.due("explained/1", each)),
        )
