"""A workspace whose workflows start by the clock, workers that serve it, and the judge of what became of each instant."""

from __future__ import annotations

import asyncio
import mmap
import struct
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from faults.aiming import CLOCK, SPACE, real_time
from faults.kills import AnyPlace
from faults.ledger import OUTCOMES, Ledger, Log
from faults.nursery import Child
from faults.places import SqlitePlace

from weft.journal.base import Journal, Listed, Occurrence, OccurrenceQuery, RunQuery, Schedule
from weft.journal.postgres import PostgresJournal
from weft.journal.sqlite import SqliteJournal

T = TypeVar("T")
LONG_S = 120.0
PAGE = 500
MANY = 1_000_000


class Clock:
    """A clock that several processes read, and that only the judge sets: what the machine shows, and so much more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(struct.pack("d", 0.0))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 8)

    def __call__(self) -> float:
        return real_time() + float(struct.unpack("d", self._shared[:8])[0])

    def set(self, at: float) -> None:
        """Let it show an instant now, and go on from there."""
        self._shared[:8] = struct.pack("d", at - real_time())


class Timetable:
    """A place with a workspace of its own.

    Args:
        place: Where runs are kept.
        documents: Workflows by name.
        clock: That all its workers read, where they keep a file.
    """

    def __init__(self, place: AnyPlace, documents: dict[str, str], clock: Clock | None = None) -> None:
        self.place, self.clock = place, clock
        self.ledger = Ledger()
        self.workers: list[Child] = []
        self._log = Log(place.effects)
        self._space = place.directory / "space"
        (self._space / "workflows").mkdir(parents=True)
        for name, text in documents.items():
            (self._space / "workflows" / f"{name}.yaml").write_text(text)

    # ---- processes
    def work(self, *, skew_s: float | None = None) -> Child:
        """Start a worker; `skew_s` is by how much the clock of its machine is wrong."""
        env = {SPACE: str(self._space)}
        if self.clock is not None:
            env[CLOCK] = str(self.clock.path)
        if skew_s is not None:
            skewed = self.place.directory / f"clock-{len(list(self.place.directory.glob('clock-*')))}"
            clock = Clock(skewed)
            clock.set(real_time() + skew_s)
            env[CLOCK] = str(skewed)
        child = self.place.worker(env=env)
        self.workers.append(child)
        return child

    def kill(self, child: Child) -> None:
        child.kill()
        self.workers.remove(child)
        self.ledger.kill(child.pid, child.killed_at or 0.0)

    def close(self) -> None:
        """Take all schedules back, let every run end, and let the workers leave."""
        for file in (self._space / "workflows").iterdir():
            file.unlink()
        self.until(lambda: all(each.retired for each in self.schedules()), "all schedules are taken back")
        self.until(lambda: all(state in OUTCOMES for state in self.place.states().values()), "all runs have ended")
        for child in self.workers:
            if child.terminate() != 0:
                self.ledger.wrong.append(f"a worker left with {child.poll()}: {self.place.output()[-1500:]}")
        self.workers.clear()
        self.look()

    def look(self) -> None:
        self.ledger.read(self._log.news())
        for child in [each for each in self.workers if each.poll() is not None]:
            self.workers.remove(child)
            self.ledger.wrong.append(f"a worker left with {child.poll()}: {self.place.output()[-1500:]}")

    def until(self, is_so: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + LONG_S
        while not is_so():
            if time.monotonic() > until:
                self.ledger.wrong.append(f"not within {LONG_S:.0f} s: {what}; {self.place.output()[-1000:]}")
                return
            time.sleep(0.05)
            self.look()

    # ---- what is on record
    def schedules(self) -> list[Schedule]:
        return self._ask(lambda journal: journal.schedules())

    def undecided(self) -> list[str]:
        """Return the schedules of which something is due."""
        return self._ask(lambda journal: journal.due(PAGE))

    def occurrences(self) -> list[Occurrence]:
        return self._ask(lambda journal: journal.occurrences(OccurrenceQuery(limit=MANY)))

    def runs(self) -> list[Listed]:
        return self._ask(_runs)

    def _ask(self, question: Callable[[Journal], Coroutine[Any, Any, T]]) -> T:
        async def ask() -> T:
            journal: Journal
            if isinstance(self.place, SqlitePlace):
                journal = SqliteJournal(self.place.file, clock=self.clock or real_time)
            else:
                journal = PostgresJournal(self.place.address)
            await journal.open()
            try:
                return await question(journal)
            finally:
                await journal.close()

        return asyncio.run(ask())


async def _runs(journal: Journal) -> list[Listed]:
    found: list[Listed] = []
    query = RunQuery(limit=PAGE)
    while page := await journal.runs(query):
        found += page
        query = replace(query, before=page[-1].row.id)
    return found


def judge(table: Timetable, wanted: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Yield what is wrong with the fates of the instants that schedules should have had, and count them.

    Args:
        table: Closed: every run has ended.
        wanted: The instants of each schedule, as somebody else has reckoned them.
    """
    rows, runs = defaultdict[str, list[Occurrence]](list), {run.row.id: run for run in table.runs()}
    for row in table.occurrences():
        rows[row.schedule].append(row)
        table.ledger.counts[f"instants {row.fate}"] += row.count
    table.ledger.counts["instants"] += sum(map(len, wanted.values()))
    yield from (f"nobody has heard of the schedule {id_}" for id_ in rows.keys() - wanted.keys())
    for id_, instants in wanted.items():
        yield from _each_once(id_, instants, rows[id_])
        yield from _with_its_run(id_, rows[id_], runs)
    yield from _performed(table, [run for run in runs.values() if run.row.schedule in wanted])


def _each_once(id_: str, instants: Sequence[float], rows: Sequence[Occurrence]) -> Iterator[str]:
    covered: Counter[float] = Counter()
    for row in rows:
        first = bisect_left(instants, row.at)
        covered.update(instants[first : first + row.count] if row.count > 1 else [row.at])
    lost = [at for at in instants if not covered[at]]
    odd = [at for at in covered if at not in set(instants)]
    twice = [at for at, count in covered.items() if count > 1]
    for what, found in (("without a fate", lost), ("that nobody asked for", odd), ("with two fates", twice)):
        if found:
            yield f"{id_}: {len(found)} instants {what}, the first at {datetime.fromtimestamp(min(found), UTC)}"


def _with_its_run(id_: str, rows: Sequence[Occurrence], runs: Mapping[str, Listed]) -> Iterator[str]:
    """Yield starts without their run, runs without their start, and rows that do not say why nothing was started."""
    started = {row.run_id: row for row in rows if row.fate == "fired"}
    if len(started) != sum(row.fate == "fired" for row in rows):
        yield f"{id_}: two instants have one run"
    own = {run_id: run for run_id, run in runs.items() if run.row.schedule == id_}
    if own.keys() != started.keys():
        yield f"{id_}: {len(own.keys() - started.keys())} runs without an instant, {len(started.keys() - own.keys())} lost"
    for run_id in own.keys() & started.keys():
        if own[run_id].row.scheduled_at != started[run_id].at:
            yield f"{id_}: run {run_id} is of another instant"
    if any(row.reason is None for row in rows if row.fate != "fired"):
        yield f"{id_}: an instant was not started, and nobody says why"


def _performed(table: Timetable, runs: Sequence[Listed]) -> Iterator[str]:
    """Yield runs that did not do what they were started for, once."""
    yield from (f"run {run.row.id} has {run.status.state}" for run in runs if run.status.state != "succeeded")
    ended = table.ledger.noted["end"]
    if not len(runs) <= ended <= len(runs) + table.ledger.counts["in flight repeated"]:
        yield f"{len(runs)} runs have done {ended} steps"
