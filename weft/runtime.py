"""Everything put together: the one place that knows all parts, for every face of Weft."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TypeVar

import platformdirs

from weft import arguments, plan, source, telemetry, wording
from weft.budgets import Budgets
from weft.catalogue import catalogue_of
from weft.connections import (
    BuiltIn,
    Connections,
    ConnectionSource,
    Directory,
    Environment,
    File,
    Keys,
    NamedEnvironment,
    Stored,
    environment_named,
    read_environments,
    store_at,
)
from weft.connections.environments import FILE as ENVIRONMENTS
from weft.dispatch.base import Dispatcher
from weft.dispatch.keeper import Keeper
from weft.dispatch.local import LocalDispatcher
from weft.documents import Documents as WorkspaceDocuments
from weft.documents.base import is_in_database, source_of
from weft.documents.directory import DirectoryDocuments
from weft.embedded.local_model import REQUEST_TIMEOUT_S, LocalModel
from weft.embedded.outbox import Outbox, outbox_at
from weft.engine.approving import DEFAULT_URL, Question, Signer
from weft.engine.approving import read as read_token
from weft.engine.driver import Driver
from weft.engine.events import Logged, Observer, guarded
from weft.engine.gates import gate_of
from weft.engine.reactor import IN_MEMORY_S, Surroundings
from weft.engine.report import RunReport, report_of, summary_of
from weft.engine.results import RunFacts
from weft.errors import InvalidInputs, InvalidWorkflow, NotFound, Problem, StateUnavailable, WeftError, Where
from weft.executor import Executor, Performer
from weft.journal.base import Claim, Journal, Kept, Listed, RunQuery, RunRow, not_waiting
from weft.journal.moving import refuse_left_behind, refuse_moved
from weft.journal.sqlite import SqliteJournal
from weft.journal.sqlite_file import NETWORK, file_system
from weft.live import RUNS, Hub
from weft.outcome import decode, encode
from weft.packs import discover
from weft.pinned import pin, unpin
from weft.plan import ConnectionFacts, Document, Documents, Plan
from weft.redaction import Redactor, Secret
from weft.registry import Registry
from weft.sdk import Artifacts, Connection
from weft.survey import survey
from weft.types import Json, JsonObject
from weft.workflow import BESIDE, Input
from weft.workspace import Workspace, read_workspace, workspace_directory

if TYPE_CHECKING:
    from weft.state import State

T = TypeVar("T")

JOURNAL = "journal.db"
STATE = "state.db"
LIVE = "live.db"
WORKSPACE_VARIABLE = "WEFT_WORKSPACE"
"""Names the directory of the workflows; with it they are not taken from the database."""
DATABASE_URL = "WEFT_DATABASE_URL"
"""Names the PostgreSQL database that holds the journal, in the place of the file in the home."""
LOCAL_MODEL = "local-model"
OUTBOX = "outbox"
LOCAL_SETTINGS: JsonObject = {
    "provider": "openai",
    "api_base": "http://127.0.0.1",  # a server of our own, whose port is known when it runs
    "unsupported_parameters": "error",
    "request_timeout_s": REQUEST_TIMEOUT_S,
}
MOST_RELATIVES = 1_000
"""Child runs of one run in which a file is looked for."""
APPROVALS = "approvals"
"""The name of the keys that tokens are signed with, where they are not in `WEFT_KEY`."""
DOCUMENTS_KNOWN = 100
"""Plans of which it is remembered that their documents are kept."""
OUTBOX_SETTINGS: JsonObject = {
    "host": Outbox.host,
    "tls": "none",
    "from": "weft@localhost",
    "allow_from": ["*"],
    "max_message_mb": 100,
}
Progress = Callable[[str, int, int], None]
"""Told what is being fetched, and how many bytes of how many are here."""


class Runtime:
    """Packs, connections, a journal and the built-in servers, ready to run workflows.

    Use it as an asynchronous context manager where runs are made: leaving it stops what was started.
    """

    def __init__(
        self,
        home: Path,
        registry: Registry,
        *,
        connections_file: Path | None = None,
        secrets_directory: Path | None = None,
        environment: NamedEnvironment | None = None,
        environ: Mapping[str, str] | None = None,
        on_progress: Progress | None = None,
        journal: Journal | None = None,
        concurrency: int = 100,
        perform: Callable[[Executor], Performer] | None = None,
        in_memory_s: float = IN_MEMORY_S,
        settings: Workspace | None = None,
        metered: bool = True,
    ) -> None:
        settings = settings or Workspace()
        self.home = home
        self.settings = settings  #: what `workspace.yaml` says
        self.registry = registry
        self.redactor = Redactor()
        self.catalogue = catalogue_of(home)
        self.journal: Journal
        self.dispatcher: Dispatcher
        url = (environ or os.environ).get(DATABASE_URL) if journal is None else None
        if url:
            self.redactor.add(Secret(url))
            self.journal, self.dispatcher = _in_database(url, concurrency)
        else:
            self.journal = journal if journal is not None else SqliteJournal(home / JOURNAL)
            self.dispatcher = LocalDispatcher(self.journal, limit=concurrency)
        self._embedded = None if not url else home / JOURNAL
        environ = os.environ if environ is None else environ
        self._url = url or None
        self._state: State | None = None
        self.workspace = workspace_directory(environ)  #: where workflows are, unless they are in the database
        self._in_database = bool(url) and not environ.get(WORKSPACE_VARIABLE)
        self._documents: WorkspaceDocuments | None = None
        self._local_model = _local_model(home, environ, on_progress)
        self.environment = environment or NamedEnvironment()
        self.outbox = outbox_at(home / OUTBOX, self._url)
        self.store = store_at(home, environ, self._url)
        for key in (environ.get("WEFT_KEY") or "").split(","):
            self.redactor.add(Secret(key.strip()))
        self.connections = self._connections(environ, connections_file, secrets_directory)
        self.on_failure = None if settings.on_failure is None else settings.on_failure.workflow
        self._keys = Keys(environ, home)
        self.signer = Signer(self._signing_keys, environ.get("WEFT_URL") or DEFAULT_URL, self.redactor.add)
        executor = Executor(self.connections, self.redactor, self._artifacts, self.journal.now)
        around = Surroundings(
            self.journal,
            executor if perform is None else perform(executor),
            Budgets(self.connections, self.journal.now, settings.budget) if metered else None,
            self._pin,
            self.signer,
            in_memory_s,
        )
        self.driver = Driver(around, self.pinned_plan)
        self.hub = Hub(url or home / LIVE, self.driver, self.redactor)
        self.telemetry = telemetry.start(self.driver, self.journal, self.redactor, environ)
        self._kept: OrderedDict[int, tuple[Plan, str]] = OrderedDict()  #: plans whose documents are kept
        self._opening: asyncio.Task[None] | None = None
        self._keeper: Keeper | None = None
        self.keeps = True  #: looks after its own runs; a worker has a keeper of its own
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()
        self._closed = False
        self._warming: dict[Callable[[], object], asyncio.Task[None]] = {}  #: once each

    @classmethod
    def open(
        cls,
        *,
        home: Path | None = None,
        packs: Sequence[Path] = (),
        connections: Path | None = None,
        secrets_directory: Path | None = None,
        environment: str | None = None,
        on_progress: Progress | None = None,
        concurrency: int = 100,
        journal: Journal | None = None,
        perform: Callable[[Executor], Performer] | None = None,
        in_memory_s: float = IN_MEMORY_S,
        metered: bool = True,
    ) -> Self:
        """Put a runtime together from what stands on this machine.

        Args:
            home: Where state lives; left out, `WEFT_HOME` or the user's data directory.
            packs: Directories of packs that are not installed.
            connections: A connections file; left out, `WEFT_CONNECTIONS` or `connections.yaml` in `home`, if it is there.
            secrets_directory: A mounted directory of secrets; left out, `WEFT_SECRETS_DIR`.
            environment: The name of an environment of `environments.yaml`; left out, `WEFT_ENV`.
            on_progress: Told how far a download is.
            concurrency: How many runs a worker has in hand at a time.
            journal: Where runs are kept; left out, in the home or in the database that `WEFT_DATABASE_URL` names.
            perform: Puts something in the executor's place.
            in_memory_s: A run that has nothing to do for longer rests.
            metered: Whether caps and limits hold.

        Raises:
            PackError: A pack cannot be used.
            NotFound: There is no such environment.
            InvalidConnections: A file of connections or environments is not one.
            InvalidDocument: `workspace.yaml` has faults.
        """
        home = home or Path(os.environ.get("WEFT_HOME") or platformdirs.user_data_path("weft"))
        named = connections or (Path(found) if (found := os.environ.get("WEFT_CONNECTIONS")) else None)
        usual = home / "connections.yaml"
        mounted = secrets_directory or (Path(found) if (found := os.environ.get("WEFT_SECRETS_DIR")) else None)
        stage = environment or os.environ.get("WEFT_ENV")
        return cls(
            home,
            discover(packs),
            connections_file=named or (usual if usual.exists() else None),
            secrets_directory=mounted,
            environment=environment_named(stage, _environment_files(home)) if stage else None,
            on_progress=on_progress,
            concurrency=concurrency,
            journal=journal,
            perform=perform,
            in_memory_s=in_memory_s,
            settings=read_workspace(home),
            metered=metered,
        )

    def _connections(self, environ: Mapping[str, str], file: Path | None, mounted: Path | None) -> Connections:
        types = {kind.id: kind for kind in self.registry.connection_types()}
        listed = None if file is None else File(file, types, environ, self.catalogue)
        taken = frozenset[str]() if listed is None else listed.variables
        sources: list[ConnectionSource] = [Environment(types, environ, self.catalogue, taken)]
        if listed is not None:
            sources.append(listed)
        if mounted is not None:
            sources.append(Directory(mounted, types, self.catalogue))
        sources += [Stored(self.store, types, self.catalogue), self._built_in()]
        return Connections(sources, self.redactor)

    def _built_in(self) -> BuiltIn:
        async def outbox_connection() -> Connection:
            await self.outbox.start()
            return await self.outbox.connection()

        return BuiltIn(
            {
                LOCAL_MODEL: (
                    ConnectionFacts(LOCAL_MODEL, "model_provider", "built in", "openai", LOCAL_SETTINGS),
                    self._local_model.connection,
                ),
                OUTBOX: (ConnectionFacts(OUTBOX, "smtp", "built in", None, OUTBOX_SETTINGS), outbox_connection),
            }
        )

    def _artifacts(self, run_id: str) -> Artifacts:
        return _RunArtifacts(self.journal, run_id)

    # ---- documents
    @property
    def documents(self) -> WorkspaceDocuments:
        """Where the workflows of this installation are: a directory, or its database."""
        if self._documents is None:
            if self._in_database:
                from weft.documents.database import DatabaseDocuments  # noqa: PLC0415  it loads SQLAlchemy

                self._documents = DatabaseDocuments(self.opened_state)
            else:
                self._documents = DirectoryDocuments(self.workspace, self.home, self.opened_state)
        return self._documents

    async def plan_of(self, name: str) -> Plan:
        """Return the plan of a workflow by its name: one of the workspace, or else a pack's example.

        Raises:
            NotFound: There is none; the nearest name is told.
            InvalidDocument: It has faults; all are in `problems`.
        """
        return await self.compiled(await self.source_of(name))

    async def plan_at(self, name_or_path: str) -> Plan:
        """Return the plan of a workflow by name, or by the path of a file, as a command line names it.

        Raises what `plan_of` raises.
        """
        return await self.compiled(await self.source_at(name_or_path))

    async def source_at(self, name_or_path: str) -> source.Source:
        """Return the document of a workflow by name, or by the path of a file. Raises what `plan_of` raises."""
        if self._in_database and not _is_path(name_or_path):
            return await self.source_of(name_or_path)
        return source.read_file(self.find_workflow(name_or_path))

    async def compiled(self, document: source.Source) -> Plan:
        """Check a workflow that was read, as `compile_source` does; its children may lie in the database."""
        if not self._in_database:
            return self.compile_source(document)
        found: dict[str, source.Source | NotFound] = {}
        while True:
            try:
                return self.compile_source(document, found)
            except _Wanted as wanted:
                try:
                    found[wanted.name] = await self.source_of(wanted.name)
                except NotFound as missing:
                    found[wanted.name] = missing

    async def source_of(self, name: str) -> source.Source:
        """Return the document of a workflow by its name. Raises what `plan_of` raises."""
        try:
            return source_of(await self.documents.peek(name))
        except NotFound as missing:
            if missing.problem.code != "unknown_workflow":
                raise
        example = self.registry.workflows().get(name)
        if example is not None:
            return source.read_file(example)
        known = {facts.name for facts in await self.documents.list()}
        place = "the database" if self._in_database else f"{self.workspace}/"
        raise self._no_workflow(name, place, known)

    def find_workflow(self, name_or_path: str) -> Path:
        """Return the file of a workflow: a path, a name in the workspace, or a pack's example.

        Raises:
            NotFound: There is none; the nearest name is told.
        """
        path = Path(name_or_path)
        if _is_path(name_or_path):
            if path.is_file():
                return path
            what = "is a directory, not a workflow's file" if path.is_dir() else "does not exist"
            raise NotFound(
                f"{name_or_path} {what}.", code="unknown_workflow", remedy=self._near(path.stem, self._names_here())
            )
        here = self.workspace / f"{name_or_path}.yaml"
        if here.is_file() and not self._in_database:
            return here
        example = self.registry.workflows().get(name_or_path)
        if example is not None:
            return example
        raise self._no_workflow(name_or_path, f"{self.workspace}/", self._names_here())

    def _no_workflow(self, name: str, place: str, known: set[str]) -> NotFound:
        return NotFound(
            f"There is no workflow {name!r}, neither in {place} nor in a pack.",
            code="unknown_workflow",
            remedy=self._near(name, known),
        )

    def _names_here(self) -> set[str]:
        return {file.stem for file in self.workspace.glob("*.yaml") if not file.name.endswith(BESIDE)}

    def _near(self, name: str, here: set[str]) -> str | None:
        known = {*self.registry.workflows(), *here}
        listed = f"There are: {', '.join(sorted(known))}." if known else None
        return wording.meant(name, known) or listed

    def compile(self, path: Path) -> Plan:
        """Read a workflow and check it against packs and connections.

        Raises:
            InvalidDocument: It has faults; all are in `problems`.
        """
        return self.compile_source(source.read_file(path))

    def compile_source(
        self, document: source.Source, children: Mapping[str, source.Source | NotFound] | None = None
    ) -> Plan:
        """Check a workflow that was read against packs and connections. Raises what `compile` raises.

        Args:
            document: The workflow.
            children: Those that it may name, where they do not lie in files.
        """

        def find(name: str, parent: source.Source) -> Document:
            return self._child_document(name, parent, children)

        found = survey(document)
        if found.workflow is None:
            raise InvalidWorkflow(problems=found.problems)
        try:
            planned = plan.compile(
                self.environment.applied(found.workflow),
                found.source,
                self.registry,
                connections=self.connections,
                catalogue=self.catalogue,
                documents=Documents(find, self.on_failure),
            )
        except InvalidWorkflow as invalid:
            problems = (*found.source.warnings, *invalid.problems)
            raise InvalidWorkflow(problems=found.with_consequences(problems)) from None
        planned = replace(planned, warnings=(*found.source.warnings, *planned.warnings))
        if found.problems:
            raise InvalidWorkflow(problems=found.with_consequences(planned.warnings))
        return planned

    def _child_document(
        self, name: str, parent: source.Source, children: Mapping[str, source.Source | NotFound] | None
    ) -> Document:
        """Return the document of a child workflow: a file beside its parent's, one in the workspace, a pack's example."""
        found = survey(self._child_source(name, parent, children))
        if found.workflow is None or found.problems:
            raise InvalidWorkflow(problems=found.problems)
        return Document(self.environment.applied(found.workflow), found.source)

    def _child_source(
        self, name: str, parent: source.Source, children: Mapping[str, source.Source | NotFound] | None
    ) -> source.Source:
        beside = Path(parent.file).with_name(f"{name}.yaml")
        if not is_in_database(parent.file) and beside.is_file():
            return source.read_file(beside)
        if children is None:
            return source.read_file(self.find_workflow(name))
        found = children.get(name)
        if found is None:
            raise _Wanted(name)
        if isinstance(found, NotFound):
            raise found
        return found

    def inputs(self, planned: Plan, given: Mapping[str, Json], *, text: bool = False) -> JsonObject:
        """Check the inputs of a run and fill in their defaults.

        Args:
            planned: What is to run.
            given: Values by name.
            text: The values are texts from a command line, and are read by the declared types.

        Raises:
            InvalidInputs: They do not fit; every fault is told.
        """
        declared = planned.workflow.inputs
        parameters = arguments.of_inputs(declared)
        values = {name: _read(declared.get(name), value) if text else value for name, value in given.items()}
        problems = arguments.check(parameters, values)
        if problems:
            raise InvalidInputs(problems=[_about_input(problem, planned) for problem in problems])
        return arguments.with_defaults(parameters, values)

    # ---- runs
    async def opened(self) -> Journal:
        """Return the journal, opened; the first call opens it.

        Raises:
            JournalUnavailable: It cannot be used.
            RuntimeError: The runtime is closed.
        """
        if self._closed:
            raise RuntimeError("the runtime is closed")
        if self._opening is None or (self._opening.done() and self._opening.exception() is not None):
            self._opening = asyncio.create_task(self._open_journal())
        await asyncio.shield(self._opening)
        return self.journal

    @property
    def state(self) -> State:
        """The tables beside the journal, opened when they are first asked. Raises StateUnavailable for a place that is unfit."""
        if self._state is None:
            if self._url is None and (kind := file_system(self.home)) in NETWORK:
                raise StateUnavailable(
                    f"{self.home} lies on a network file system ({kind}), where nothing can be kept safe.",
                    code="state_on_network",
                    remedy="Choose a local directory with --home or WEFT_HOME, or set WEFT_DATABASE_URL.",
                )
            from weft.state import State  # noqa: PLC0415  it loads SQLAlchemy, which `weft run` does without

            self._state = State(self.home / STATE if self._url is None else self._url)
        return self._state

    async def opened_state(self) -> State:
        """Return the tables beside the journal, opened; the first call opens them.

        Raises:
            StateUnavailable: They cannot be used.
            RuntimeError: The runtime is closed.
        """
        if self._closed:
            raise RuntimeError("the runtime is closed")
        await self.state.open()
        return self.state

    async def _open_journal(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._embedded is not None:
            refuse_left_behind(self._embedded)
        elif isinstance(self.journal, SqliteJournal):
            refuse_moved(self.home / JOURNAL)
        await self.journal.open()
        await self.dispatcher.install()

    async def run(
        self,
        planned: Plan,
        inputs: JsonObject,
        observer: Observer | None = None,
        *,
        run_id: str | None = None,
        watched: bool = False,
    ) -> RunReport:
        """Run a plan to its end and return its report; a failed step is a report, not an exception.

        Args:
            planned: What to follow.
            inputs: As `inputs()` returned them.
            observer: Told of every event.
            run_id: The run's id; left out, a new one that grows with time.
            watched: Whether to show output while it is being made.

        Raises:
            NotFound: A connection that the plan names is not there.
            JournalRefused: There is a run with this id.
            JournalUnavailable: The journal cannot be used.
            RuntimeError: The runtime is closed.
        """
        async with self._in_use():
            found = await self.start(planned, inputs, observer, run_id=run_id, watched=watched)
            return report_of(await self.journal.load(found.row.id), planned)

    async def start(
        self,
        planned: Plan,
        inputs: JsonObject,
        observer: Observer | None = None,
        *,
        run_id: str | None = None,
        watched: bool = False,
    ) -> Listed:
        """Run a plan to its end as `run` does, and return how it stands then, without its report."""
        told = guarded(observer or (lambda event: None))

        async def accept(row: RunRow) -> Listed:
            with _told(row.id, told):
                return await self.driver.start(row, planned, told, watched=watched)

        async with self._in_use():
            self._warm(planned)
            return await self._accept(planned, inputs, run_id, accept)

    async def _accept(
        self,
        planned: Plan,
        inputs: JsonObject,
        run_id: str | None,
        accept: Callable[[RunRow], Awaitable[T]],
        trigger: Json = None,
    ) -> T:
        """Have a new run accepted; once more, if what it follows was removed since this process kept it."""
        row = await self.new_row(planned, inputs, run_id, trigger=trigger)
        try:
            return await accept(row)
        except NotFound as missing:
            if missing.problem.code != "unknown_document":
                raise
        self._kept.clear()
        return await accept(await self.new_row(planned, inputs, run_id, trigger=trigger))

    async def go_on(
        self, claim: Claim, kept: Kept, planned: Plan, observer: Observer | None = None, *, watched: bool = False
    ) -> Listed:
        """Drive a run that this process has accepted itself, as `start` does, and return how it stands then."""
        self._warm(planned)
        told = guarded(observer or (lambda event: None))
        async with self._in_use():
            with _told(kept.row.id, told):
                return await self.driver.go_on(claim, kept, planned, told, watched=watched)

    async def follow(self, run_id: str, observer: Observer | None = None, *, watched: bool = False) -> Listed:
        """Go on with a known run whenever nobody else does, and return how it stands when it has ended or is parked.

        Raises:
            NotFound: There is no such run.
        """
        await self.opened()
        told = guarded(observer or (lambda event: None))
        async with self._in_use():
            with _told(run_id, told):
                return await self.driver.follow(run_id, told, watched=watched)

    @contextlib.asynccontextmanager
    async def _in_use(self) -> AsyncIterator[None]:
        """Keep the journal open until whoever uses it is through."""
        self._users += 1
        self._unused.clear()
        try:
            await self.opened()
            if self._keeper is None and self.keeps:
                self._keeper = Keeper(self.journal, None, self.driver)
                await self._keeper.__aenter__()
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def submit(
        self, planned: Plan, inputs: JsonObject, *, run_id: str | None = None, trigger: Json = None
    ) -> str:
        """Accept a run, leave it to the workers, and return its id; raises what `run` raises."""

        async def submit(row: RunRow) -> str:
            await self.journal.submit(row)
            return row.id

        found = await self._accept(planned, inputs, run_id, submit, trigger)
        self.dispatcher.look()
        await self.announce(found)
        return found

    async def announce(self, run_id: str) -> None:
        """Tell whoever looks at the list of runs of one that nobody has in hand; a worker may take it only later."""
        if not self.hub.is_wanted(RUNS):
            return
        with contextlib.suppress(WeftError):  # it is accepted, whether that can be told or not
            found = await self.journal.status(run_id)
            if found.status.state in ("ready", "waiting"):  # whoever has it in hand tells of it
                told = summary_of(found).model_dump(mode="json")
                self.hub.publish(RUNS, "run", {**told, "epoch": found.status.epoch})

    async def report(self, run_id: str, planned: Plan | None = None) -> RunReport:
        """Return the report of a run, ended or not, from what is on record of it.

        Raises:
            NotFound: There is no such run.
            WeftError: What it follows cannot be read here.
        """
        kept = await (await self.opened()).load(run_id)
        planned = planned or self.pinned_plan(await self.journal.document(kept.row.document))
        return report_of(kept, planned)

    def pinned_plan(self, text: str) -> Plan:
        """Return the plan of a document that the journal keeps, over the code that is here now."""
        return unpin(text, self.registry, self.connections, self.catalogue)

    async def new_row(
        self, planned: Plan, inputs: JsonObject, run_id: str | None = None, *, trigger: Json = None
    ) -> RunRow:
        """Return the row of a run that may be accepted; what it follows is kept already. Raises what `run` raises.

        Args:
            planned: What it follows.
            inputs: As `inputs()` returned them.
            run_id: Its id; left out, a new one that grows with time.
            trigger: What has started it, as expressions see it; None: a person.
        """
        self.refuse_unfit(planned)
        journal = await self.opened()
        document = await self.keep(planned)
        run_id, now = run_id or new_run_id(), journal.now()
        gate = gate_of(planned, RunFacts(run_id, now, inputs, trigger))
        return RunRow(run_id, planned.workflow.name, document, encode(inputs), encode(trigger), now, gate=gate)

    def _pin(self, planned: Plan) -> str:
        return pin(planned, self.environment)

    async def keep(self, planned: Plan) -> str:
        """Keep what runs of a plan follow, and return its hash."""
        known = self._kept.get(id(planned))
        if known is not None and known[0] is planned:
            return known[1]
        hash_ = await self.journal.keep_document(self._pin(planned))
        self._kept[id(planned)] = (planned, hash_)
        if len(self._kept) > DOCUMENTS_KNOWN:
            self._kept.popitem(last=False)
        return hash_

    async def cancel(self, run_id: str) -> None:
        """Ask a run to stop after what must not be cut off; ask again to stop it at once.

        Raises:
            NotFound: There is no such run.
            JournalRefused: It has ended.
        """
        await self.opened()
        await self.driver.cancel(run_id)

    # ---- questions
    async def answer(
        self,
        run_id: str,
        path: str,
        answer: Literal["approve", "reject"],
        *,
        by: str | None,
        how: str = "cli",
        comment: str | None = None,
    ) -> None:
        """Answer a step that waits, once; who has, how and when is on record.

        Raises:
            NotFound: There is no such run.
            JournalRefused: The step does not wait for an answer (`not_waiting`).
        """
        journal = await self.opened()
        said = {"answer": answer, "by": by, "how": how, "comment": comment, "at": journal.now()}
        await journal.signal(run_id, path, encode(said))

    async def question_of(self, token: str) -> Question:
        """Return the question that a token answers, as it was asked (rule B1).

        Raises:
            InvalidInputs: It is none of ours, or was changed (`bad_token`).
            NotFound: There is no such run.
        """
        named = read_token(token)
        kept = await (await self.opened()).load(named.run_id)
        for record in kept.records:
            if (record.path, record.n, record.kind) == (named.path, named.n, "waits"):
                asked = decode(record.payload)
                question = Question(
                    named.run_id, named.path, named.n, named.who, str(asked.get("message")), asked["deadline"]
                )
                self.signer.require_signed(named, question)
                return question
        raise NotFound("The question of this token was never asked.", code="unknown_question")

    async def answer_by_token(
        self, token: str, answer: Literal["approve", "reject"], comment: str | None = None
    ) -> Question:
        """Answer the question of a token in the name that it was made for, and return the question.

        Raises what `question_of` and `answer` raise.
        """
        question = await self.question_of(token)
        await self._require_last(question)
        await self.answer(question.run_id, question.path, answer, by=question.who, how="token", comment=comment)
        return question

    async def _require_last(self, question: Question) -> None:
        """Refuse a token whose question was asked again since: it answers the one that was shown."""
        kept = await self.journal.load(question.run_id)
        last = max(each.n for each in kept.records if (each.path, each.kind) == (question.path, "waits"))
        if last != question.n:
            raise not_waiting(question.run_id, question.path, "it was asked again since")

    def _signing_keys(self) -> list[bytes]:
        """Return what tokens are signed with, the newest first; made of the instance's keys, and of nothing else's use."""
        self._keys.first(APPROVALS)
        return [derived(key.content, b"weft approval") for key in self._keys.load(APPROVALS)]

    def refuse_unfit(self, planned: Plan) -> None:
        """Refuse to run what cannot be run here.

        Raises:
            NotFound: A connection that the plan names is not there.
        """
        self._refuse_without_connections(planned)

    def _refuse_without_connections(self, planned: Plan) -> None:
        missing = [problem for problem in planned.warnings if problem.code == "unknown_connection"]
        if missing:
            raise NotFound(problems=[replace(problem, severity="error") for problem in missing])

    def _warm(self, planned: Plan) -> None:
        """Let actions with a slow start begin it in a thread, while the first step is being prepared."""
        for warm in {step.action.load().warm for step in planned.every_step() if step.action is not None}:
            if warm is not None and warm not in self._warming:
                self._warming[warm] = asyncio.create_task(_in_background(warm))

    # ---- the end
    async def close(self) -> None:
        """Stop what was started, runs first; they rest, ready for whoever goes on with them. No run begins after it."""
        self._closed = True
        self.driver.stop_now()
        await self.driver.idle()
        await self.driver.children_done()
        await self._unused.wait()
        if self._keeper is not None:
            await self._keeper.__aexit__(None, None, None)
        await self.hub.close()
        if self._opening is not None:
            await asyncio.wait([self._opening])
            await self.journal.close()
        await self.telemetry.close()
        if self._warming:
            await asyncio.wait(self._warming.values())
        if self._documents is not None:
            await self._documents.close()
        if self._state is not None:
            await self._state.close()
        await self._local_model.stop()
        await self.outbox.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _RunArtifacts:
    """The artifacts of one run, as an action sees them: its own, and those of the runs that it belongs together with."""

    def __init__(self, journal: Journal, run_id: str) -> None:
        self._journal = journal
        self._run_id = run_id

    async def save(self, content: bytes, *, name: str, content_type: str) -> JsonObject:
        return await self._journal.save_artifact(self._run_id, content, name=name, content_type=content_type)

    async def read(self, artifact: str) -> bytes:
        try:
            return await self._journal.read_artifact(self._run_id, artifact)
        except NotFound:
            async for relative in self._relatives():
                with contextlib.suppress(NotFound):
                    return await self._journal.read_artifact(relative, artifact)
            raise

    async def _relatives(self) -> AsyncIterator[str]:
        """Yield the runs that may have handed a file on: those that have started this one, and what they have started."""
        run_id: str | None = self._run_id
        while run_id is not None:
            for child in await self._journal.runs(RunQuery(parent=run_id, limit=MOST_RELATIVES)):
                yield child.row.id
            parent = (await self._journal.status(run_id)).row.parent
            run_id = None if parent is None else parent.run_id
            if run_id is not None:
                yield run_id


def _is_path(name_or_path: str) -> bool:
    path = Path(name_or_path)
    return path.suffix in {".yaml", ".yml"} or path.exists()


class _Wanted(Exception):
    """A child workflow is to be read before its parent can be checked."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _in_database(url: str, concurrency: int) -> tuple[Journal, Dispatcher]:
    """Return journal and dispatcher over a PostgreSQL database; what they need is imported only then."""
    from weft.dispatch.procrastinate import ProcrastinateDispatcher  # noqa: PLC0415
    from weft.journal.postgres import PostgresJournal  # noqa: PLC0415

    dispatcher = ProcrastinateDispatcher(url, limit=concurrency)
    return PostgresJournal(url, enqueue=dispatcher.enqueue), dispatcher


def environments(home: Path) -> list[str]:
    """Return the names of the environments that there are.

    Raises:
        InvalidConnections: The file that holds them has faults.
    """
    file = environments_file(home)
    return [] if file is None else list(read_environments(source.read_file(file)))


def environments_file(home: Path) -> Path | None:
    """Return the file that holds the environments, None when there is none."""
    return next((file for file in _environment_files(home) if file.is_file()), None)


def _environment_files(home: Path) -> list[Path]:
    """Return where environments are looked for: a file that is named, else here, else in the home."""
    if named := os.environ.get("WEFT_ENVIRONMENTS"):
        return [Path(named)]
    return [Path(ENVIRONMENTS), home / ENVIRONMENTS]


def derived(key: bytes, use: bytes) -> bytes:
    """Return a key for one use, from which the other keys made of the same one do not follow (HKDF, RFC 5869)."""
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415  runs without questions do without it
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=use).derive(key)


def new_run_id() -> str:
    """Return a new id; ids grow with time, so that a database appends them."""
    return f"{time.time_ns() // 1_000_000:012x}-{secrets.token_hex(5)}"


def _local_model(home: Path, environ: Mapping[str, str], on_progress: Progress | None) -> LocalModel:
    gguf = environ.get("WEFT_LOCAL_MODEL")

    def progress(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress("model weights", done, total)

    return LocalModel(home, gguf=Path(gguf) if gguf else None, progress=progress)


async def _in_background(warm: Callable[[], object]) -> None:
    try:
        await asyncio.to_thread(warm)
    except Exception:
        # The step that needs it will meet the same fault and tell it in its own words.
        logging.getLogger("weft.runtime").warning("warming_failed", exc_info=True)


def _read(declared: Input | None, value: Json) -> Json:
    """Return what a text from the command line means: itself for text, JSON for every other type."""
    if declared is None or declared.type == "string" or not isinstance(value, str):
        return value
    try:
        read: Json = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return read


def _about_input(problem: Problem, planned: Plan) -> Problem:
    name = (problem.where.field or "").split("[")[0].split(".")[0]
    place = planned.source.where(("inputs", name), key=True) if name in planned.workflow.inputs else Where()
    where = Where(place.file, place.line, place.column, None, f"inputs.{problem.where.field}")
    code = "unknown_input" if problem.code == "unknown_name" else problem.code
    return Problem(code, problem.message, problem.remedy, where, problem.severity)


class _Teller(logging.Handler):
    """Passes on what actions log to those who watch their runs; the executor has cleaned it."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.watched: dict[str, list[tuple[Observer, asyncio.AbstractEventLoop]]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        event = None
        for observe, loop in self.watched.get(getattr(record, "run_id", ""), ()):
            event = event or Logged(str(getattr(record, "path", "")), record.getMessage())
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(observe, event)  # an action may log from its thread


_TELLER = _Teller()  # one for all runs: each handler is asked for each line


@contextlib.contextmanager
def _told(run_id: str, observe: Observer) -> Iterator[None]:
    logger = logging.getLogger("weft.action")
    logger.addHandler(_TELLER)  # again, it does nothing
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    watcher = observe, asyncio.get_running_loop()
    _TELLER.watched[run_id] = [*_TELLER.watched.get(run_id, ()), watcher]
    try:
        yield
    finally:
        left = [each for each in _TELLER.watched[run_id] if each is not watcher]
        if left:
            _TELLER.watched[run_id] = left
        else:
            del _TELLER.watched[run_id]
