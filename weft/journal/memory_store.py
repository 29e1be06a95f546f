"""What the journals in the memory of one process share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from weft.errors import WeftError
from weft.journal.base import (
    OPEN,
    OUTCOMES,
    Listed,
    Occurrence,
    OccurrenceQuery,
    Record,
    RunQuery,
    RunRow,
    Schedule,
    State,
    Status,
)
from weft.journal.decisions import Key, key, needles
from weft.journal.memory_meters import Meters


@dataclass(slots=True)
class Run:
    row: RunRow
    status: Status
    token: str
    records: dict[Key, Record] = field(default_factory=dict)
    claimed_size: int = 0  #: size when it was claimed
    doubt: bool = False
    artifacts: dict[str, bytes] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        return self.status.state in OPEN

    @property
    def cancels(self) -> int:
        return sum(at[0] == "" and at[2] == "cancel" for at in self.records)

    @property
    def listed(self) -> Listed:
        return Listed(self.row, self.status)

    def set(self, **changes: object) -> None:
        self.status = replace(self.status, **changes)  # type: ignore[arg-type]  # names of fields, all of them here

    def add(self, *records: Record) -> None:
        self.records.update((key(record), record) for record in records)
        self.set(size=self.status.size + sum(len(record.payload) for record in records))


@dataclass(slots=True)
class Store:
    """What several journals of one process share."""

    runs: dict[str, Run] = field(default_factory=dict)
    documents: dict[str, str] = field(default_factory=dict)
    children: dict[str, list[str]] = field(default_factory=dict)  #: run → those that it has ever had
    schedules: dict[str, Schedule] = field(default_factory=dict)
    occurrences: dict[tuple[str, str], Occurrence] = field(default_factory=dict)
    meters: Meters = field(default_factory=Meters)
    spent: set[str] = field(default_factory=set)  #: ids of removed runs that must not begin again
    alive: set[str] = field(default_factory=set)  #: names of the journals that are open
    watchers: set[asyncio.Future[None]] = field(default_factory=set)
    changes: int = 0

    def changed(self) -> None:
        self.changes += 1
        for watcher in self.watchers:
            if not watcher.done():
                watcher.set_result(None)

    def all(self, *states: State) -> list[Run]:
        return [run for run in self.runs.values() if not states or run.status.state in states]

    def of_gate(self, gate: str) -> list[Run]:
        """Return the open runs of a key, the oldest first."""
        return [run for run in self.all(*OPEN) if run.row.gate is not None and run.row.gate.key == gate]

    def is_under_way(self, run_id: str, path: str, n: int, epoch: int) -> bool:
        """Tell whether an attempt has no outcome and its claim is not void."""
        run = self.runs[run_id]
        held = run.status.state == "running" and run.status.epoch == epoch
        return held and not any((path, n, kind) in run.records for kind in OUTCOMES)

    def armed(self) -> list[tuple[float, str]]:
        found = self.schedules.values()
        return [
            (each.fire_at, each.id) for each in found if each.fire_at is not None and not each.paused | each.retired
        ]

    @contextmanager
    def undone_if_refused(self) -> Iterator[None]:
        """Take back what was done when a refusal comes after it."""
        runs = {run_id: replace(run, records=dict(run.records)) for run_id, run in self.runs.items()}
        children = {run_id: list(some) for run_id, some in self.children.items()}
        schedules, occurrences = dict(self.schedules), dict(self.occurrences)
        try:
            yield
        except WeftError:
            self.runs, self.children, self.schedules, self.occurrences = runs, children, schedules, occurrences
            raise

    # ---- what is no longer needed
    def forget_documents(self, hashes: set[str]) -> int:
        """Remove the documents that neither a run nor a schedule follows."""
        needed = {run.row.document for run in self.runs.values()}
        needed |= {each.document for each in self.schedules.values()}
        for hash_ in hashes - needed:
            del self.documents[hash_]
        return len(hashes - needed)

    def forget_occurrences(self, before: float, limit: int) -> None:
        """Remove what was decided long ago, for good, about instants whose runs have gone."""
        gone = [
            at
            for at, each in self.occurrences.items()
            if each.decided_at < before
            and each.at <= self.schedules[each.schedule].watermark
            and each.run_id not in self.runs
        ]
        for at in gone[:limit]:
            del self.occurrences[at]


def age(run: Listed) -> tuple[float, str]:
    return run.row.started_at, run.row.id


def fits(run: Listed, query: RunQuery) -> bool:
    row, status = run.row, run.status
    if query.workflow not in (None, row.workflow) or (query.states and status.state not in query.states):
        return False
    if query.schedule not in (None, row.schedule):
        return False
    if query.parent is not None and (row.parent is None or row.parent.run_id != query.parent):
        return False
    if query.since is not None and row.started_at < query.since:
        return False
    if query.until is not None and row.started_at >= query.until:
        return False
    if query.text is None:
        return True
    texts = [text.lower() for text in (row.id, row.workflow, row.inputs, status.result, status.reason) if text]
    return any(needle in text for needle in needles(query.text) for text in texts)


def matches(each: Occurrence, workflow: str | None, query: OccurrenceQuery) -> bool:
    if query.schedule not in (None, each.schedule) or query.workflow not in (None, workflow):
        return False
    if query.fates and each.fate not in query.fates:
        return False
    return (query.since is None or each.at >= query.since) and (query.until is None or each.at < query.until)
