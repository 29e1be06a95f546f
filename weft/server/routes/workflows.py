"""Workflows: read, changed by operations, kept with their history, drawn, and given pinned data."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from difflib import unified_diff
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Path as InPath
from fastapi import Query, Response
from pydantic import Field

from weft import source
from weft.access import Identity
from weft.documents import Document
from weft.documents.base import source_of
from weft.editing import Edited, Operation, Text, edit, merge
from weft.engine.report import RunSummary, summary_of
from weft.errors import Conflict, InvalidInputs, NotFound, WeftError
from weft.journal.base import RunQuery, State
from weft.plan.studying import Study
from weft.reading import redacted
from weft.schedules import asking
from weft.schedules.report import InstantReport, moment, times_of
from weft.server.deps import LONGEST_CURSOR, HouseDep, Page, Who, api, cursor, needs, read_cursor
from weft.server.house import House
from weft.server.problems import ProblemObject
from weft.server.routes import etags
from weft.server.routes.etags import IfMatch, IfNoneMatch
from weft.server.routes.graphs import StepObject, steps_of
from weft.server.routes.shapes import LARGEST_TEXT, Asked, Object, Shape, Value, WorkflowName, masked, told
from weft.server.routes.studies import Studied, Studies, StudiesDep
from weft.types import Json, JsonObject
from weft.workflow import Workflow

router = api("workflows")

LARGEST_OPERATIONS = 1_000
"""Operations of one request."""
TRIES = 10
"""To merge operations into what others have saved; each is overtaken only by a save of somebody else."""
RECENT = 20
"""Runs whose states a list tells."""
BLANK = """\
# What this workflow does: one step that writes a line into the log. Put your own in its place.
name: {name}
steps:
  - id: hello
    uses: log
    with:
      message: Hello
"""


# ---- lists
class WorkflowsAsked(Asked):
    """Which page of which workflows is asked for."""

    find: str = Field(default="", max_length=200)
    """Words of which each stands in the name, the title or the description."""
    cursor: str | None = Field(default=None, max_length=LONGEST_CURSOR)
    """What `next` of the page before said."""
    limit: int = Field(default=100, ge=1, le=500)
    """How many items at most."""


class VersionsAsked(Asked):
    """Which page of versions is asked for."""

    cursor: str | None = Field(default=None, max_length=LONGEST_CURSOR)
    """What `next` of the page before said."""
    limit: int = Field(default=50, ge=1, le=500)
    """How many items at most."""


class TriggerObject(Shape):
    """What starts runs of a workflow besides people."""

    kind: Literal["schedule", "webhook"]
    told: str
    """In a few words: the cron line or interval with its zone, or the style of the webhook."""


class RecentRun(Shape):
    """A run, as far as a small picture shows it."""

    run_id: str
    state: State


class WorkflowSummary(Shape):
    """A workflow as a list shows it."""

    name: str
    title: str | None
    description: str
    file: str
    etag: str
    size: int
    changed_at: datetime
    enabled: bool
    """Whether its triggers start runs."""
    expose: bool
    """Whether agents may start it as a tool."""
    triggers: list[TriggerObject]
    steps: int
    readable: bool
    """Whether it is a workflow at all; its faults are among the problems."""
    errors: int
    warnings: int
    last_run: RunSummary | None
    recent: list[RecentRun]
    """Its last runs, the youngest first."""
    next_start: InstantReport | None
    """When its schedule starts it next; null when none is armed."""


class ExampleObject(Shape):
    """A workflow that a pack brings, to begin with."""

    name: str
    pack: str
    title: str | None
    description: str
    text: str


# ---- one
class WorkflowObject(Shape):
    """A workflow and all that is known of it."""

    name: str
    file: str
    etag: str
    """SHA-256 of its bytes; also in the header ETag, and what If-Match of a change names."""
    text: str
    exact: bool
    """False: its bytes are not UTF-8, and the text shows them as well as it can."""
    model: JsonObject | None
    """The document as it is written, as JSON; null when it cannot be read."""
    title: str | None
    description: str
    enabled: bool
    steps: list[StepObject]
    """All steps in the order of the document, as far as it can be understood."""
    problems: list[ProblemObject]
    """The same as those of `weft validate`."""
    layout: JsonObject
    """Where things stand on the canvas; kept beside the document."""
    pins: list[str]
    """The steps whose output is pinned."""


class SpanObject(Shape):
    """Lines of the new text."""

    first: int
    last: int


class WorkflowChanged(WorkflowObject):
    """A workflow after a change, and what the change was."""

    diff: str
    """Unified; empty when nothing has changed."""
    lines: list[SpanObject]
    """The lines that are new."""
    references: int
    """How many places speak of a step by its new name."""
    inverse: list[Text]
    """The operations that take it back, for the etag of this answer."""
    merged: bool
    """Whether others had changed the document, and this change was made in theirs."""


class CreateAsked(Asked):
    """A new workflow: an empty one, one with this text, or one like an example."""

    name: str = Field(min_length=1, max_length=64)
    text: str | None = Field(default=None, max_length=LARGEST_TEXT)
    """Its whole text."""
    example: str | None = Field(default=None, max_length=64)
    """The name of an example of a pack."""


class OperationsAsked(Asked):
    """Operations, done together or not at all."""

    operations: list[Operation] = Field(min_length=1, max_length=LARGEST_OPERATIONS)
    merge: bool = False
    """Whether they may be made in a document that others have changed since, where they touch other parts of it."""


class TextAsked(Asked):
    """The whole text of a document."""

    text: str = Field(max_length=LARGEST_TEXT)
    why: str = Field(default="", max_length=200)
    """What for; the history keeps it."""


class RenameAsked(Asked):
    """A new name."""

    to: str = Field(min_length=1, max_length=64)


class EnabledAsked(Asked):
    """Whether its triggers are to start runs."""

    enabled: bool


class VersionObject(Shape):
    """What a document was from one moment on."""

    number: int
    etag: str
    """Empty: it was removed."""
    at: datetime
    by: str
    """Who has made it; `outside` when that was an editor or git."""
    why: str
    size: int


class VersionText(Shape):
    """A version with its text."""

    number: int
    text: str


class DiffObject(Shape):
    """What is different between two versions."""

    diff: str
    """Unified; empty when they are equal."""


class LayoutObject(Shape):
    """Where things stand on the canvas."""

    layout: JsonObject


class LayoutAsked(Asked):
    """Where things are to stand on the canvas."""

    layout: Object


class PinsObject(Shape):
    """Outputs that are held fast while a workflow is being made, by step. They are not in its document."""

    pins: dict[str, Json]


class PinAsked(Asked):
    """The output that a step is to have, without being run."""

    output: Value


@router.get("/workflows", dependencies=[needs("view")])
async def list_workflows(
    house: HouseDep, studies: StudiesDep, wanted: Annotated[WorkflowsAsked, Query()]
) -> Page[WorkflowSummary]:
    """List the workflows of the workspace by name."""
    documents = house.runtime.documents
    world = await studies.world()
    listed = sorted(await documents.list(), key=lambda each: each.name)
    if wanted.cursor is not None:
        after = read_cursor(wanted.cursor, str)[0]
        listed = [each for each in listed if each.name > after]
    journal = await house.runtime.opened()
    rows = await journal.schedules()
    await studies.learn(world)
    found: list[WorkflowSummary] = []
    for facts in listed:
        if len(found) == wanted.limit:
            return Page(items=found, next=cursor(found[-1].name))
        if not await studies.is_meant(wanted.find, facts):
            continue
        try:
            document, known = await studies.listed(facts, world)
        except NotFound:  # removed a moment ago
            continue
        workflow = known.workflow if isinstance(known, Study) else None
        runs = await journal.runs(RunQuery(workflow=document.name, limit=RECENT))
        coming = asking.first([row for row in rows if row.workflow == document.name and not row.paused], None, 1)
        errors = sum(problem.severity == "error" for problem in known.problems)
        found.append(
            WorkflowSummary(
                name=document.name,
                title=None if workflow is None else workflow.title,
                description="" if workflow is None else workflow.description,
                file=document.file,
                etag=document.etag,
                size=facts.size,
                changed_at=moment(facts.changed_at),
                enabled=workflow is not None and workflow.enabled,
                expose=workflow is not None and workflow.expose,
                triggers=_triggers(workflow),
                steps=len(known.places) if isinstance(known, Study) else 0,
                readable=workflow is not None,
                errors=errors,
                warnings=len(known.problems) - errors,
                last_run=None if not runs else redacted(summary_of(runs[0]), house.runtime.redactor),
                recent=[RecentRun(run_id=each.row.id, state=each.status.state) for each in runs],
                next_start=coming[0] if coming else None,
            )
        )
    return Page(items=found)


def _triggers(workflow: Workflow | None) -> list[TriggerObject]:
    if workflow is None:
        return []
    clocks = [
        TriggerObject(kind="schedule", told=f"{times_of(each)} in {each.timezone}") for each in workflow.on.schedule
    ]
    return clocks + [TriggerObject(kind="webhook", told=each.style) for each in workflow.on.webhook]


@router.get("/examples", dependencies=[needs("view")])
async def list_examples(house: HouseDep) -> list[ExampleObject]:
    """List the workflows that packs bring, to begin with one of them."""
    return await asyncio.to_thread(_examples, house)


def _examples(house: House) -> list[ExampleObject]:
    found = []
    for pack in house.runtime.registry.packs:
        for name, path in sorted(pack.workflows.items()):
            text = path.read_text(encoding="utf-8")
            value = source.read(text, str(path)).value
            told = value if isinstance(value, dict) else {}
            found.append(
                ExampleObject(
                    name=name,
                    pack=pack.name,
                    title=str(told["title"]) if told.get("title") else None,
                    description=str(told.get("description") or ""),
                    text=text,
                )
            )
    return found


@router.post("/workflows", dependencies=[needs("edit")], status_code=201)
async def create_workflow(
    house: HouseDep, studies: StudiesDep, who: Who, asked: CreateAsked, response: Response
) -> WorkflowObject:
    """Make a workflow: an empty one, one with a text, or one like an example of a pack."""
    text, why = await _first_text(house, asked)
    document = await house.runtime.documents.save(asked.name, text, if_match=None, by=who.name, why=why)
    await house.audit.record(who, "workflow.created", document.name, {"etag": document.etag})
    response.headers["Location"] = f"/api/v1/workflows/{document.name}"
    return await _answer(house, studies, document, response)


async def _first_text(house: House, asked: CreateAsked) -> tuple[str, str]:
    if asked.text is not None and asked.example is not None:
        raise InvalidInputs("'text' and 'example' exclude each other.", code="excludes", remedy="Give one of them.")
    if asked.text is not None:
        return asked.text, "created"
    if asked.example is None:
        return BLANK.format(name=asked.name), "created"
    path: Path | None = house.runtime.registry.workflows().get(asked.example)
    if path is None:
        known = ", ".join(house.runtime.registry.workflows())
        raise NotFound(
            f"There is no example {asked.example!r}.", code="unknown_workflow", remedy=f"There are: {known}."
        )
    text = await asyncio.to_thread(path.read_text, encoding="utf-8")
    renamed = edit(source.read(text, f"{asked.name}.yaml"), [_set(["name"], asked.name)])
    return renamed.source.content, f"created like {asked.example}"


def _set(path: Sequence[str | int], value: Json) -> Operation:
    return OperationsAsked.model_validate(
        {"operations": [{"op": "set", "path": list(path), "value": value}]}
    ).operations[0]


@router.get(
    "/workflows/{name}",
    dependencies=[needs("view")],
    response_model=WorkflowObject,
    responses={304: {"description": "The client has this text already."}},
)
async def show_workflow(
    house: HouseDep, studies: StudiesDep, name: WorkflowName, response: Response, if_none_match: IfNoneMatch = None
) -> WorkflowObject | Response:
    """Show a workflow: its text, its model, its steps with their places, and all that is wrong with it."""
    document = await house.runtime.documents.read(name)
    if etags.is_known(if_none_match, document.etag):
        return Response(status_code=304, headers={"ETag": etags.quoted(document.etag)})
    return await _answer(house, studies, document, response)


async def _answer(house: House, studies: Studies, document: Document, response: Response) -> WorkflowObject:
    """Return a document as it is answered, and have its ETag in the header."""
    response.headers["ETag"] = etags.quoted(document.etag)
    known = await studies.of(document.file, document.text)
    return WorkflowObject.model_validate(await _facts(house, document, known))


async def _facts(house: House, document: Document, known: Studied) -> dict[str, object]:
    documents = house.runtime.documents
    study = known if isinstance(known, Study) else None
    workflow = None if study is None else study.workflow
    model = study.source.value if study is not None else None
    return {
        "name": document.name,
        "file": document.file,
        "etag": document.etag,
        "text": document.text,
        "exact": document.is_exact,
        "model": model if isinstance(model, dict) else None,
        "title": None if workflow is None else workflow.title,
        "description": "" if workflow is None else workflow.description,
        "enabled": workflow is not None and workflow.enabled,
        "steps": [] if study is None else steps_of(study),
        "problems": told(known.problems, house.runtime.redactor),
        "layout": await documents.layout(document.name),
        "pins": sorted(await documents.pins(document.name)),
    }


# ---- changes
@router.post("/workflows/{name}/operations", dependencies=[needs("edit")])
async def edit_workflow(
    house: HouseDep,
    name: WorkflowName,
    asked: OperationsAsked,
    *,
    studies: StudiesDep,
    who: Who,
    response: Response,
    if_match: IfMatch = None,
) -> WorkflowChanged:
    """Change a workflow by operations; everything else in its file stays as it is, byte for byte.

    Refused are operations that cannot be made without harm to the rest (422), and those made in a text that is no longer
    the current one (412, with both sides), unless `merge` is set and they touch other parts of it.
    """
    change = _Change(house, who, name, etags.required(if_match))
    document, edited, merged = await change.by(asked.operations, merges=asked.merge)
    return await _changed(house, studies, document, edited, response, merged=merged)


@router.put("/workflows/{name}", dependencies=[needs("edit")])
async def replace_workflow(
    house: HouseDep,
    name: WorkflowName,
    asked: TextAsked,
    *,
    studies: StudiesDep,
    who: Who,
    response: Response,
    if_match: IfMatch = None,
) -> WorkflowObject:
    """Keep a whole new text of a workflow, whatever is wrong with it: its problems are answered."""
    change = _Change(house, who, name, etags.required(if_match))
    document = await change.to(asked.text, why=asked.why or "text replaced")
    return await _answer(house, studies, document, response)


@router.put("/workflows/{name}/enabled", dependencies=[needs("edit")])
async def enable_workflow(
    house: HouseDep,
    name: WorkflowName,
    asked: EnabledAsked,
    *,
    studies: StudiesDep,
    who: Who,
    response: Response,
    if_match: IfMatch = None,
) -> WorkflowChanged:
    """Let the triggers of a workflow start runs, or no longer."""
    change = _Change(house, who, name, etags.required(if_match))
    document, edited, _ = await change.by([_set(["enabled"], asked.enabled)], merges=False)
    return await _changed(house, studies, document, edited, response, merged=False)


@router.post("/workflows/{name}/rename", dependencies=[needs("edit")])
async def rename_workflow(
    house: HouseDep,
    name: WorkflowName,
    asked: RenameAsked,
    *,
    studies: StudiesDep,
    who: Who,
    response: Response,
    if_match: IfMatch = None,
) -> WorkflowObject:
    """Give a workflow another name, its file and the `name` in it; layout and pins go with it.

    Workflows that start it under its old name have problems then, which `validate` tells.
    """
    etag = etags.required(if_match)
    documents = house.runtime.documents
    document = await documents.read(name)
    if document.etag != etag:
        raise await _conflict(house, document, etag, None)
    edited = await asyncio.to_thread(edit, source_of(document), [_set(["name"], asked.to)])
    moved = await documents.rename(name, asked.to, if_match=etag, by=who.name)
    if edited.source.content != moved.text:
        moved = await documents.save(
            asked.to, edited.source.content, if_match=moved.etag, by=who.name, why=f"renamed from {name}"
        )
    from weft.webhooks import addresses  # noqa: PLC0415  it loads SQLAlchemy's dialects, and the server is to be ready soon

    await addresses.rename(house.state, name, moved.name)
    await house.audit.record(who, "workflow.renamed", name, {"to": asked.to, "etag": moved.etag})
    return await _answer(house, studies, moved, response)


@router.delete("/workflows/{name}", dependencies=[needs("edit")], status_code=204)
async def remove_workflow(house: HouseDep, who: Who, name: WorkflowName, if_match: IfMatch = None) -> None:
    """Remove a workflow, its layout and its pins; its versions stay, and one of them can be restored."""
    etag = etags.required(if_match)
    await house.runtime.documents.remove(name, if_match=etag, by=who.name)
    await house.audit.record(who, "workflow.removed", name, {"etag": etag})


async def _changed(
    house: House, studies: Studies, document: Document, edited: Edited, response: Response, *, merged: bool
) -> WorkflowChanged:
    response.headers["ETag"] = etags.quoted(document.etag)
    known = await studies.of(document.file, document.text)
    facts = {
        **await _facts(house, document, known),
        "diff": edited.diff,
        "lines": [SpanObject(first=first, last=last) for first, last in edited.lines],
        "references": edited.references,
        "inverse": list(edited.inverse),
        "merged": merged,
    }
    return WorkflowChanged.model_validate(facts)


class _Change:
    """A change of a document that names the state that it was made in."""

    def __init__(self, house: House, who: Identity, name: str, etag: str) -> None:
        self._house, self._who, self._name, self._etag = house, who, name, etag

    async def by(self, operations: Sequence[Operation], *, merges: bool) -> tuple[Document, Edited, bool]:
        """Do operations and keep what comes of them.

        Raises:
            Conflict: The document is another one by now, and they cannot be done in it; carries both sides and the base.
            EditRefused: They cannot be done without harm to the rest.
        """
        tries = TRIES if merges else 1
        while True:
            tries -= 1
            document, edited = await self._edited(operations, merges=merges)
            merged = document.etag != self._etag
            if edited.source.content == document.text:
                return document, edited, merged
            try:
                saved = await self._save(edited.source.content, document.etag, _why(operations))
            except Conflict as overtaken:  # by a save since we have read it: they may be made in that, too
                if not tries or overtaken.theirs is None:
                    raise
                continue
            await self._record("workflow.changed", saved, document.etag)
            return saved, edited, merged

    async def _edited(self, operations: Sequence[Operation], *, merges: bool) -> tuple[Document, Edited]:
        document = await self._house.runtime.documents.read(self._name)
        theirs = source_of(document)
        if document.etag != self._etag:
            return document, await self._merged(document, theirs, operations, merges=merges)
        return document, await asyncio.to_thread(edit, theirs, operations)

    async def _save(self, text: str, etag: str, why: str) -> Document:
        documents = self._house.runtime.documents
        try:
            return await documents.save(self._name, text, if_match=etag, by=self._who.name, why=why)
        except Conflict as conflict:
            conflict.base = await documents.known(self._etag)
            raise

    async def to(self, text: str, *, why: str, action: str = "workflow.changed") -> Document:
        """Keep a whole text. Raises Conflict as above."""
        saved = await self._save(text, self._etag, why)
        await self._record(action, saved, self._etag)
        return saved

    async def _merged(
        self, document: Document, theirs: source.Source, operations: Sequence[Operation], *, merges: bool
    ) -> Edited:
        base = await self._house.runtime.documents.known(self._etag)
        if base is None or not merges:
            raise await _conflict(self._house, document, self._etag, _yours(base, document.file, operations))
        try:
            return await asyncio.to_thread(merge, source.read(base, document.file), theirs, operations)
        except Conflict as conflict:
            conflict.base = base
            raise

    async def _record(self, action: str, saved: Document, before: str) -> None:
        await self._house.audit.record(self._who, action, self._name, {"etag": saved.etag, "before": before})


async def _conflict(house: House, document: Document, etag: str, yours: str | None) -> Conflict:
    return Conflict(
        f"{document.name!r} was changed by somebody else since you have read it. Nothing was saved.",
        theirs=document.text,
        yours=yours,
        base=await house.runtime.documents.known(etag),
        remedy="Read it again and make your change in what it is now, or send the operations with 'merge'.",
    )


def _yours(base: str | None, file: str, operations: Sequence[Operation]) -> str | None:
    """Return what the text would be that the operations were made in, None when that is not known."""
    if base is None:
        return None
    try:
        return edit(source.read(base, file), operations).source.content
    except WeftError:
        return None  # they could not have been made there either


def _why(operations: Sequence[Operation]) -> str:
    kinds = list(dict.fromkeys(each.op for each in operations))
    return f"{len(operations)} operation{'' if len(operations) == 1 else 's'}: {', '.join(kinds)}"


# ---- history
@router.get("/workflows/{name}/versions", dependencies=[needs("view")])
async def list_versions(
    house: HouseDep, name: WorkflowName, wanted: Annotated[VersionsAsked, Query()]
) -> Page[VersionObject]:
    """List what a workflow was, the youngest first; of one that was removed, too."""
    before = None if wanted.cursor is None else read_cursor(wanted.cursor, int)[0]
    found = await house.runtime.documents.versions(name, before=before, limit=wanted.limit)
    items = [
        VersionObject(number=each.number, etag=each.etag, at=moment(each.at), by=each.by, why=each.why, size=each.size)
        for each in found
    ]
    return Page(items=items, next=cursor(found[-1].number) if len(found) == wanted.limit else None)


VersionNumber = Annotated[int, InPath(ge=1, le=2**53, description="The number of the version.")]


@router.get("/workflows/{name}/versions/{number}", dependencies=[needs("view")])
async def show_version(house: HouseDep, name: WorkflowName, number: VersionNumber) -> VersionText:
    """Show the text of a version."""
    return VersionText(number=number, text=await house.runtime.documents.version(name, number))


class DiffAsked(Asked):
    """Which versions are compared."""

    before: int = Field(ge=1, le=2**53)
    """The number of a version."""
    after: int | None = Field(default=None, ge=1, le=2**53)
    """The number of another; left out: the workflow as it is now."""


@router.get("/workflows/{name}/diff", dependencies=[needs("view")])
async def diff_workflow(house: HouseDep, name: WorkflowName, wanted: Annotated[DiffAsked, Query()]) -> DiffObject:
    """Compare two versions of a workflow, or one with what it is now."""
    documents = house.runtime.documents
    before = await documents.version(name, wanted.before)
    if wanted.after is None:
        after, called = (await documents.read(name)).text, "now"
    else:
        after, called = await documents.version(name, wanted.after), f"version {wanted.after}"
    lines = unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        f"{name} version {wanted.before}",
        f"{name} {called}",
    )
    return DiffObject(diff="".join(line if line.endswith("\n") else f"{line}\n" for line in lines))


@router.post("/workflows/{name}/versions/{number}/restore", dependencies=[needs("edit")])
async def restore_version(
    house: HouseDep,
    name: WorkflowName,
    number: VersionNumber,
    *,
    studies: StudiesDep,
    who: Who,
    response: Response,
    if_match: IfMatch = None,
) -> WorkflowObject:
    """Make a workflow what it was in a version; that becomes a version, too. One that was removed needs no If-Match."""
    documents = house.runtime.documents
    text = await documents.version(name, number)
    why = f"restored version {number}"
    if not await _is_there(house, name):
        document = await documents.save(name, text, if_match=None, by=who.name, why=why)
        await house.audit.record(who, "workflow.restored", name, {"version": number, "etag": document.etag})
    else:
        change = _Change(house, who, name, etags.required(if_match))
        document = await change.to(text, why=why, action="workflow.restored")
    return await _answer(house, studies, document, response)


async def _is_there(house: House, name: str) -> bool:
    return any(each.name == name for each in await house.runtime.documents.list())


# ---- beside the document
@router.get("/workflows/{name}/layout", dependencies=[needs("view")])
async def show_layout(house: HouseDep, name: WorkflowName) -> LayoutObject:
    """Show where things stand on the canvas."""
    await house.runtime.documents.read(name)
    return LayoutObject(layout=await house.runtime.documents.layout(name))


@router.put("/workflows/{name}/layout", dependencies=[needs("edit")])
async def save_layout(house: HouseDep, who: Who, name: WorkflowName, asked: LayoutAsked) -> LayoutObject:
    """Keep where things stand on the canvas. The document is not touched, and the last one who says it counts."""
    await house.runtime.documents.read(name)
    await house.runtime.documents.save_layout(name, asked.layout, by=who.name)
    await house.audit.record(who, "layout.saved", name)
    return LayoutObject(layout=await house.runtime.documents.layout(name))


@router.get("/workflows/{name}/pins", dependencies=[needs("view")])
async def list_pins(house: HouseDep, name: WorkflowName, studies: StudiesDep) -> PinsObject:
    """List the outputs that are pinned."""
    await studies.learn(await studies.world())
    await house.runtime.documents.read(name)
    return await _pins(house, name)


@router.put("/workflows/{name}/pins/{step}", dependencies=[needs("edit")])
async def pin_step(
    house: HouseDep, name: WorkflowName, step: WorkflowName, asked: PinAsked, *, studies: StudiesDep, who: Who
) -> PinsObject:
    """Pin the output of a step: runs that are asked to use pins take it, and the step is not run."""
    document = await house.runtime.documents.read(name)
    known = await studies.of(document.file, document.text)
    ids = {place.step.id for place in known.places.values()} if isinstance(known, Study) else set()
    if step not in ids:
        raise NotFound(
            f"There is no step {step!r} in {name!r}.", code="unknown_step", remedy="Pins speak of steps by id."
        )
    await house.runtime.documents.change_pins(name, {step: asked.output})
    await house.audit.record(who, "pin.saved", name, {"step": step})
    return await _pins(house, name)


@router.delete("/workflows/{name}/pins/{step}", dependencies=[needs("edit")])
async def unpin_step(house: HouseDep, who: Who, name: WorkflowName, step: WorkflowName) -> PinsObject:
    """Take away the pin of a step."""
    await house.runtime.documents.read(name)
    pins = await house.runtime.documents.pins(name)
    if step not in pins:
        raise NotFound(f"Step {step!r} of {name!r} has no pin.", code="unknown_pin")
    await house.runtime.documents.change_pins(name, {}, without=[step])
    await house.audit.record(who, "pin.removed", name, {"step": step})
    return await _pins(house, name)


async def _pins(house: House, name: str) -> PinsObject:
    pins = await house.runtime.documents.pins(name)
    return PinsObject(pins=masked(pins, house.runtime.redactor))
