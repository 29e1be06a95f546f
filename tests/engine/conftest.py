from __future__ import annotations

import asyncio
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from weft import packs, plan, source, structure
from weft.catalogue import load
from weft.connections import Connections, Environment, NamedEnvironment
from weft.engine.approving import Signer
from weft.engine.driver import Driver
from weft.engine.events import Event, Observer
from weft.engine.interpreter import RunFacts
from weft.engine.metering import Budgets
from weft.engine.reactor import Reactor, Surroundings
from weft.engine.report import RunReport, report_of
from weft.errors import NotFound
from weft.executor import Executor
from weft.journal.base import Journal, Listed, Record, Rest, RunRow
from weft.journal.memory import MemoryJournal
from weft.outcome import encode
from weft.pinned import pin, unpin
from weft.plan import Document, Documents, Plan
from weft.redaction import Redactor
from weft.registry import Registry

LAB = Path(__file__).parent.parent / "lab"


@dataclass
class Lab:
    """The engine around actions that misbehave on demand."""

    registry: Registry
    environ: dict[str, str] = field(default_factory=dict)
    new_journal: Callable[[], Journal] = MemoryJournal
    redactor: Redactor = field(default_factory=Redactor)
    events: list[Event] = field(default_factory=list)
    driver: Driver | None = None
    document: str = ""
    run_id: str = ""
    runs: int = 0
    around: Journal | None = None  #: in the journal's stead, for the reactor
    observe: Observer = lambda event: None
    documents: dict[str, str] = field(default_factory=dict)  #: of child workflows, by name
    on_failure: str | None = None
    budgets: Budgets | None = None
    in_memory_s: float = 2.0

    def __post_init__(self) -> None:
        self.journal = self.new_journal()
        types = {kind.id: kind for kind in self.registry.connection_types()}
        self.connections = Connections([Environment(types, self.environ)], self.redactor)
        self.executor = Executor(self.connections, self.redactor, lambda run_id: None)  # type: ignore[arg-type, return-value]

    def module(self, action: str) -> Any:
        """The module of an action, for the state that it keeps."""
        import sys

        return sys.modules[self.registry.action(action).load().function.__module__]

    def plan(self, text: str) -> Plan:
        document = source.read(textwrap.dedent(text), "lab.yaml")
        documents = Documents(self._find, self.on_failure)
        return plan.compile(structure.load(document), document, self.registry, documents=documents)

    def _find(self, name: str, parent: source.Source) -> Document:
        if name not in self.documents:
            raise NotFound(f"There is no workflow {name!r}.", code="unknown_workflow")
        document = source.read(textwrap.dedent(self.documents[name]), f"{name}.yaml")
        return Document(structure.load(document), document)

    def _unpinned(self, text: str) -> Plan:
        """The plan of a document that the journal keeps; that of a run that was asked for is known."""
        return unpin(text, self.registry, self.connections, load()) if text.startswith("{") else self.planned

    def _around(self) -> Surroundings:
        signer = Signer(lambda: [b"key"], protect=self.redactor.add)
        journal = self.around or self.journal
        return Surroundings(
            journal, self.executor, self.budgets, lambda it: pin(it, NamedEnvironment()), signer, self.in_memory_s
        )

    async def run(self, text: str | Plan, inputs: Mapping[str, Any] | None = None, run_id: str = "") -> RunReport:
        """Run a document to its end."""
        planned = self.plan(text) if isinstance(text, str) else text
        await self.start(planned, inputs, run_id)
        return report_of(await self.journal.load(self.run_id), planned)

    async def start(self, planned: Plan, inputs: Mapping[str, Any] | None = None, run_id: str = "") -> Listed:
        """Run a plan to its end, or until it is parked."""
        self.runs += 1
        self.run_id = run_id or f"run-{self.runs}"
        driver = await self._driver(planned)
        row = self._row(planned, RunFacts(self.run_id, time.time(), dict(inputs or {})))
        self.events.clear()
        return await asyncio.wait_for(driver.start(row, planned, self._observe, watched=True), 20)

    async def follow(self) -> RunReport:
        """Go on with the last run."""
        assert self.driver is not None
        await asyncio.wait_for(self.driver.follow(self.run_id, self._observe, watched=True), 20)
        return report_of(await self.journal.load(self.run_id), self.planned)

    async def resume(self, planned: Plan, records: Iterable[Record], facts: RunFacts, *, report: bool = True) -> Any:
        """Run a document on a new journal that holds these records already, as after a crash."""
        self.journal = self.new_journal()
        self.run_id = facts.run_id
        driver = await self._driver(planned)
        claim = await self.journal.accept(self._row(planned, facts))
        news = 0
        for record in records:
            if record.kind == "cancel":
                await self.journal.cancel(facts.run_id)
                news += 1
            elif record.kind == "signal":
                await self.journal.signal(facts.run_id, record.path, record.payload)
                news += 1
            else:
                await self.journal.write(claim, news, [record])
        await self.journal.write(claim, news, (), Rest("ready"))
        self.events.clear()
        if report:
            return await self.follow()
        return await asyncio.wait_for(driver.follow(facts.run_id), 20)

    async def cancel(self) -> None:
        """Ask the run in hand to stop."""
        assert self.driver is not None
        await self.driver.cancel(self.run_id)

    def turn_to(self, planned: Plan) -> None:
        """Go on with another plan, as after an update."""
        assert self.driver is not None
        self.planned, self.driver = planned, Driver(self._around(), self._unpinned)

    async def _driver(self, planned: Plan) -> Driver:
        await self.journal.open()
        self.planned = planned
        self.driver = Driver(self._around(), self._unpinned)
        self.document = await self.journal.keep_document(encode(planned.source.text))
        return self.driver

    def _row(self, planned: Plan, facts: RunFacts) -> RunRow:
        inputs = encode(dict(facts.inputs))
        return RunRow(facts.run_id, planned.workflow.name, self.document, inputs, "null", facts.started_at)

    def _observe(self, event: Event) -> None:
        self.events.append(event)
        self.observe(event)

    @property
    def reactor(self) -> Reactor | None:
        """What drives the run, while it is in hand."""
        return None if self.driver is None else self.driver.live.get(self.run_id)

    async def records(self, run_id: str) -> list[Record]:
        return list((await self.journal.load(run_id)).records)


@pytest.fixture(params=["memory", "sqlite"])
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    """The engine on each journal of one machine; a module may ask for `postgres`, too."""
    opened: list[Journal] = []

    def in_database() -> Journal:
        from weft.journal.postgres import PostgresJournal

        opened.append(PostgresJournal(request.getfixturevalue("postgres_server").database()))
        return opened[-1]

    def in_file() -> Journal:
        from weft.journal.sqlite import SqliteJournal

        opened.append(SqliteJournal(tmp_path / str(len(opened)) / "journal.db"))
        return opened[-1]

    registry = Registry([packs.read(LAB, "lab", packs.package_of(LAB))])
    for action in registry.actions():  # their modules outlive a test, and each test counts from 0
        for name, value in vars(action.import_module()).items():
            if name.isupper() and isinstance(value, list | dict | set):
                value.clear()
    kinds: dict[str, Callable[[], Journal]] = {"memory": MemoryJournal, "sqlite": in_file, "postgres": in_database}
    yield Lab(registry, new_journal=kinds[request.param])
    for journal in opened:
        await journal.close()
