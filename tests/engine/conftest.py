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
from weft.connections import Connections, Environment
from weft.engine.events import Event, Observer
from weft.engine.interpreter import RunFacts
from weft.engine.reactor import Reactor, Surroundings
from weft.engine.report import Reporter, RunReport
from weft.executor import Executor
from weft.journal.base import Journal, Record, RunRow
from weft.journal.memory import MemoryJournal
from weft.journal.sqlite import SqliteJournal
from weft.outcome import encode
from weft.plan import Plan
from weft.redaction import Redactor
from weft.registry import Registry

LAB = Path(__file__).parent.parent / "lab"


@dataclass
class Lab:
    """The engine around actions that misbehave on demand."""

    registry: Registry
    environ: dict[str, str] = field(default_factory=dict)
    new_journal: Callable[[], MemoryJournal | SqliteJournal] = MemoryJournal
    redactor: Redactor = field(default_factory=Redactor)
    events: list[Event] = field(default_factory=list)
    reactor: Reactor | None = None
    runs: int = 0
    around: Journal | None = None  #: in the journal's stead, for the reactor
    observe: Observer = lambda event: None

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
        return plan.compile(structure.load(document), document, self.registry)

    async def run(self, text: str | Plan, inputs: Mapping[str, Any] | None = None, run_id: str = "") -> RunReport:
        """Run a document to its end."""
        planned = self.plan(text) if isinstance(text, str) else text
        self.runs += 1
        facts = RunFacts(run_id or f"run-{self.runs}", time.time(), dict(inputs or {}))
        return await self._drive(planned, facts, ())

    async def resume(self, planned: Plan, records: Iterable[Record], facts: RunFacts) -> RunReport:
        """Run a document on a new journal that holds these records already, as after a crash."""
        self.journal = self.new_journal()
        return await self._drive(planned, facts, records)

    async def _drive(self, planned: Plan, facts: RunFacts, records: Iterable[Record]) -> RunReport:
        row = RunRow(facts.run_id, planned.workflow.name, encode(dict(facts.inputs)), "null", facts.started_at)
        claim = await self.journal.accept(row)
        await self.journal.record(claim, *records)
        reporter = Reporter(dict(facts.inputs), {})
        self.events.clear()

        def observe(event: Event) -> None:
            self.events.append(event)
            reporter(event)
            self.observe(event)

        around = Surroundings(self.around or self.journal, self.executor)
        self.reactor = Reactor(planned, facts, claim, around, observe, watched=True)
        await asyncio.wait_for(self.reactor.run(), 20)
        return reporter.report()

    async def records(self, run_id: str) -> list[Record]:
        return (await self.journal.load(run_id))[1]


@pytest.fixture(params=["memory", "sqlite"])
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    """The engine on each journal of one process."""
    files: list[SqliteJournal] = []

    def in_file() -> SqliteJournal:
        files.append(SqliteJournal(tmp_path / f"journal-{len(files)}.db"))
        return files[-1]

    registry = Registry([packs.read(LAB, "lab", packs.package_of(LAB))])
    for action in registry.actions():  # their modules outlive a test, and each test counts from 0
        for name, value in vars(action.import_module()).items():
            if name.isupper() and isinstance(value, list | dict | set):
                value.clear()
    yield Lab(registry, new_journal=in_file if request.param == "sqlite" else MemoryJournal)
    for file in files:
        await file.close()
