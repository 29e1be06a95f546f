"""From the workflows of a workspace to the schedules of a journal."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeAlias

from weft import source
from weft.documents import DocumentFacts
from weft.documents.base import DATABASE, source_of
from weft.errors import InvalidDocument, Problem, StateUnavailable, WeftError, Where
from weft.journal.base import Journal, Schedule, ScheduleMove, ScheduleView
from weft.plan import Plan
from weft.runtime import Runtime
from weft.schedules.deciding import Arming, retire
from weft.schedules.standing import Standing, same_times
from weft.survey import CONSEQUENCES, Survey, survey
from weft.workflow import Schedule as Says
from weft.workflow import Workflow
from weft.workspace import Files, workflow_files


@dataclass(frozen=True, slots=True)
class Armed:
    """What became of one schedule."""

    schedule: Schedule
    change: Literal["new", "edited", "unchanged", "retired", "foreign", "elsewhere"]
    """`foreign`: it belongs to another workspace and was not changed; `elsewhere`: only another workspace has it."""


@dataclass(frozen=True, slots=True)
class Faulty:
    """A workflow that cannot be armed as it is written now."""

    workflow: str
    file: str
    problem: Problem
    kept: tuple[Schedule, ...]  #: what goes on as it was armed last


@dataclass(slots=True)
class Synced:
    """What a look at the workspace has come to."""

    schedules: list[Armed] = field(default_factory=list)
    faulty: list[Faulty] = field(default_factory=list)
    held: list[Schedule] = field(default_factory=list)  #: go on although the directory has no workflow at all


@dataclass(frozen=True, slots=True)
class Rows:
    """The workflows of a workspace that lies in the database, at one moment."""

    documents: tuple[DocumentFacts, ...]

    @property
    def source(self) -> str:
        return DATABASE


Found: TypeAlias = Files | Rows


async def look(runtime: Runtime) -> Found:
    """Return what there is in the workspace now.

    Raises:
        StateUnavailable: It lies in the database, and that cannot be asked.
    """
    if runtime.documents.kind == "directory":
        return await asyncio.to_thread(workflow_files, runtime.workspace)
    return Rows(tuple(await runtime.documents.list()))


async def only_here(runtime: Runtime) -> list[str]:
    """Return the workflows of the directory that a workspace in the database lacks: they are not found by name."""
    if runtime.documents.kind == "directory":
        return []
    here = await asyncio.to_thread(workflow_files, runtime.workspace)
    return sorted({path.stem for path in here.paths} - {facts.name for facts in await runtime.documents.list()})


async def sync(runtime: Runtime, files: Found, *, take: bool = False, trust_empty: bool = True) -> Synced:
    """Bring the journal's schedules to what the workspace says.

    A workflow with faults keeps what was armed of it last. Of another workspace nothing is changed or retired.

    Args:
        runtime: Open.
        files: The workspace.
        take: Take over what other workspaces have armed under the same names.
        trust_empty: Whether a directory without any workflow is meant to be so. If not, what was armed from it goes on:
            a volume that is not mounted yet looks just like it.
    """
    rows = await runtime.journal.schedules()
    read = _Look(runtime, rows)
    for each in _entries(runtime, files):
        await read.read(each)
    found, known = Synced(faulty=read.faulty), set[str]()
    for name, (file, planned) in read.wanted.items():
        own = [row for row in rows if row.workflow == name]
        document = await runtime.keep(planned)
        for says, id_ in zip(planned.workflow.on.schedule, ids(name, own, planned.workflow.on.schedule), strict=True):
            arming = Arming(id_, name, files.source, says, document, take, file)
            found.schedules.append(await _arm(runtime.journal, arming, own))
            known.add(id_)
    doubtful = read.doubtful - read.wanted.keys()
    others = [row for row in rows if not (row.retired or row.id in known or row.workflow in doubtful)]
    found.schedules += [Armed(row, "elsewhere") for row in others if row.source != files.source]
    left = [row for row in others if row.source == files.source]
    if isinstance(files, Files) and files.identity is None:  # one that is away for a moment has taken nothing back
        return found
    if isinstance(files, Files) and not files.stamps and not trust_empty:
        found.held = left
        return found
    for row in left:
        gone = await decided(runtime.journal, row.id, lambda view: retire(view, files.source))
        found.schedules.append(Armed(gone or row, "retired"))
    return found


@dataclass(frozen=True, slots=True)
class _Entry:
    """One document of a workspace."""

    file: str  #: its name in the workspace, by which a schedule remembers it
    shown: str  #: where messages say that it is
    read: Callable[[], Awaitable[source.Source]]

    @property
    def stem(self) -> str:
        return self.file.removesuffix(".yaml")


def _entries(runtime: Runtime, found: Found) -> Iterator[_Entry]:
    if isinstance(found, Files):
        for path in found.paths:
            yield _Entry(path.name, str(path), partial(asyncio.to_thread, source.read_file, path))
        return

    async def of_row(name: str) -> source.Source:
        return source_of(await runtime.documents.peek(name))

    for facts in found.documents:
        yield _Entry(f"{facts.name}.yaml", facts.file, partial(of_row, facts.name))


@dataclass(slots=True)
class _Look:
    """What the documents of a workspace say."""

    runtime: Runtime
    rows: Sequence[Schedule]
    wanted: dict[str, tuple[str, Plan]] = field(default_factory=dict)  #: name → its file and what is to be armed
    doubtful: set[str] = field(default_factory=set)  #: names of workflows of which a fault hides what they say
    faulty: list[Faulty] = field(default_factory=list)

    async def read(self, entry: _Entry) -> None:
        """Compile a workflow, if its schedules are to be armed; note what is wrong with it."""
        kept = tuple(row for row in self.rows if not row.retired and _file_of(row) == entry.file)
        said = None
        try:
            document = await entry.read()
            found = survey(document)
            said = found.workflow
            if said is not None and not (said.enabled and said.on.schedule):
                if kept or _seems_armed(found, said):
                    await self.runtime.compiled(document)  # a fault may be what makes it seem so
                return
            planned = await self.runtime.compiled(document)
            self.runtime.refuse_unfit(planned)
            name = planned.workflow.name
            if name in self.wanted:
                text = f"Another workflow of this workspace has the name {name!r}, too."
                raise InvalidDocument(text, code="same_name", where=Where(entry.shown))
            self.wanted[name] = entry.file, planned
        except StateUnavailable:
            raise
        except WeftError as error:
            if error.problem.code == "unknown_workflow" and said is None:  # removed a moment ago; the next look tells
                return
            self.faulty.append(Faulty(entry.stem, entry.shown, _first(error), kept))
            self.doubtful |= {entry.stem if said is None else said.name, *(row.workflow for row in kept)}


def _seems_armed(found: Survey, said: Workflow) -> bool:
    """Tell whether a document may be meant to be armed, as far as it is known."""
    faults = [problem.where.field or "" for problem in found.problems]
    enabled = said.enabled or "enabled" in faults
    return enabled and (bool(said.on.schedule) or any(re.match(r"on(\.schedule|$)", fault) for fault in faults))


def _file_of(row: Schedule) -> str:
    return Standing.of(row).spec.file or f"{row.workflow}.yaml"


def _first(error: WeftError) -> Problem:
    """Return the first problem that is a cause: no warning, and nothing that another fault may have brought about."""
    causes = [each for each in error.problems if each.severity == "error" and each.code not in CONSEQUENCES]
    return (causes or error.problems)[0]


async def _arm(journal: Journal, arming: Arming, own: Iterable[Schedule]) -> Armed:
    before = next((row for row in own if row.id == arming.id), None)
    if before is not None and arming.is_like(before) and arming.owned(before) == before:
        return Armed(before, "unchanged")
    row = await decided(journal, arming.id, arming.think)
    assert row is not None  # noqa: S101  it is there now
    if arming.is_foreign(row):
        return Armed(row, "foreign")
    if before is None or before.retired:
        return Armed(row, "new")
    return Armed(row, "unchanged" if arming.is_like(before) else "edited")


async def decided(journal: Journal, id_: str, think: Callable[[ScheduleView], ScheduleMove | None]) -> Schedule | None:
    """Let a function decide about a schedule until it has nothing more to do, and return what the schedule is then."""
    last: list[Schedule | None] = [None]

    def noted(view: ScheduleView) -> ScheduleMove | None:
        last[0] = view.schedule
        return think(view)

    while await journal.schedule(id_, noted) is not None:
        pass
    return last[0]


def ids(workflow: str, rows: Sequence[Schedule], says: Sequence[Says]) -> list[str]:
    """Return the ids of a workflow's schedules: `name/1`, `name/2`.

    One whose times are armed already keeps its id, wherever in the document it stands now; the others get, in order, the
    ids of those whose times are no longer there, and then new ones. When all were retired, they come back.
    """
    live = [row for row in rows if not row.retired] or list(rows)
    free = {row.id: Standing.of(row).spec.says for row in sorted(live, key=lambda row: _number(row.id))}
    given: dict[int, str] = {}
    for index, each in enumerate(says):
        same = next((id_ for id_, old in free.items() if same_times(old, each)), None)
        if same is not None:
            given[index] = same
            del free[same]
    number = max((_number(row.id) for row in rows), default=0)
    for index in range(len(says)):
        if index in given:
            continue
        if free:
            given[index] = next(iter(free))
            del free[given[index]]
        else:
            number += 1
            given[index] = f"{workflow}/{number}"
    return [given[index] for index in range(len(says))]


def _number(id_: str) -> int:
    return int(id_.rpartition("/")[2])
