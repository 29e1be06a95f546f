"""The trials of the fault suite, each in two sizes; each returns what it counted, and what was wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from faults import drains, outages, powercut, storage
from faults.breaking import BREAK
from faults.kills import POINTS, AnyPlace, Round, Storm, every_write
from faults.ledger import Ledger
from faults.nursery import Nursery
from faults.places import PostgresPlace, SqlitePlace, copied, templated
from servers.postgres import Postgres

QUICK_DEAD_S = 2.0
"""After which a process is dead on PostgreSQL in the quick trials; the full ones take what Weft ships."""


@dataclass
class Bench:
    """What the trials stand on.

    Args:
        nursery: Starts the processes.
        directory: Everything is below it.
        quick: The small size.
        seed: Decides what happens; printed with what went wrong.
        broken: A way in which Weft is broken on purpose.
        rounds: How many rounds the storms have, if not as many as they should.
    """

    nursery: Nursery
    directory: Path
    quick: bool
    seed: str
    broken: str | None = None
    rounds: int | None = None
    stack: ExitStack | None = None
    _server: Postgres | None = None
    _template: str = ""
    _making: threading.Lock = field(default_factory=threading.Lock)

    @property
    def server(self) -> Postgres:
        if self._server is None:
            assert self.stack is not None
            self._server = self.stack.enter_context(Postgres())
        return self._server

    @property
    def dead_s(self) -> float | None:
        return QUICK_DEAD_S if self.quick else None

    def sqlite(self, name: str) -> SqlitePlace:
        place = SqlitePlace(self.nursery, self.directory / name)
        place.more |= self._broken()
        return place

    def postgres(self, name: str) -> PostgresPlace:
        """Return a database with all tables; the template is made at the first call."""
        with self._making:
            if not self._template:
                self._template = templated(self.server, self.nursery, self.directory / "template")
        address = copied(self.server, self._template, name.replace("-", "_"))
        place = PostgresPlace(self.nursery, self.directory / name, address, dead_s=self.dead_s)
        place.more |= self._broken()
        return place

    def _broken(self) -> dict[str, str]:
        return {BREAK: self.broken} if self.broken else {}


# ---- row 1
def kills_sqlite(bench: Bench) -> Ledger:
    """1,000 kills at random, and at COMMITs met at random (quick: 40)."""
    storm = Storm(runs=80, kills=50, life=(0.15, 0.7))
    if bench.quick:
        storm = replace(storm, runs=40, life=(0.1, 0.4), fresh=0.02)
    return _storms(bench, bench.sqlite, storm, rounds=1 if bench.quick else 20)


def kills_postgres(bench: Bench) -> Ledger:
    """1,000 kills at random, and at writes met at random (quick: 14)."""
    storm = Storm(kills=100, runs=150, workers=4, life=(0.3, 1.0), calm_s=20.0)
    if bench.quick:
        storm = Storm(kills=14, runs=40, workers=3, life=(0.2, 0.6), calm_s=2.5 * QUICK_DEAD_S, fresh=0.0)
    return _storms(bench, bench.postgres, storm, rounds=1 if bench.quick else 10)


def _storms(bench: Bench, make: Callable[[str], AnyPlace], storm: Storm, *, rounds: int) -> Ledger:
    total = Ledger()
    for i in range(bench.rounds or rounds):
        place = make(f"storm-{i}")
        ledger = Round(place, storm, f"{bench.seed}-{i}").play()
        if not bench.quick and ledger.late(place.restart_s):  # the quick ones share the machine with other tests
            ledger.wrong.append(f"runs went on late: {ledger.resumed_text()}")
        ledger.wrong = [f"round {i} in {place.directory}: {each}" for each in ledger.wrong]
        total.add(ledger)
        if not bench.quick:
            print(
                f"  round {i}: {ledger.counts['kills']} kills, {len(ledger.wrong)} wrong, {ledger.resumed_text()}",
                flush=True,
            )
            for each in ledger.wrong[:3]:
                print(f"    {each[:500]}", flush=True)
    return total


def writes_sqlite(bench: Bench) -> Ledger:
    """A kill just before and just after every COMMIT of a run of five steps."""
    return _sum(every_write(bench.sqlite, points=POINTS, at_once=8), bench, SqlitePlace.restart_s)


def writes_postgres(bench: Bench) -> Ledger:
    """A kill just before and after every transaction of such a run, and when its job is fetched (quick: each 3rd)."""
    points, step = ("fetched", *POINTS), 3 if bench.quick else 1
    return _sum(every_write(bench.postgres, points=points, at_once=8, step=step), bench, PostgresPlace.restart_s)


def _sum(ledgers: Iterable[Ledger], bench: Bench, restart_s: float) -> Ledger:
    total = Ledger()
    for each in ledgers:
        total.add(each)
    if not bench.quick and total.late(restart_s):  # the quick ones share the machine with other tests
        total.wrong.append(f"runs went on late: {total.resumed_text()}")
    return total


# ---- row 2
def power_cuts(bench: Bench) -> Ledger:
    """100 power cuts (quick: 3); then some with a journal that does not wait for the disk, which must be seen to lose."""
    total = Ledger()
    if why := powercut.impossible():
        return _cannot(f"the power cannot be cut here: {why}")
    for i in range(3 if bench.quick else 100):
        directory = bench.directory / f"cut-{i}"
        total.add(powercut.cut_once(bench.nursery, directory, f"{bench.seed}-{i}", to_the_end=i % 10 == 0))
    control = Ledger()
    for i in range(1 if bench.quick else 5):
        directory = bench.directory / f"control-{i}"
        control.add(
            powercut.cut_once(bench.nursery, directory, f"{bench.seed}-c{i}", to_the_end=False, broken="no-flush")
        )
    total.counts["control: cuts"] = control.counts["cuts"]
    total.counts["control: cuts that lost"] = control.counts["cuts that lost"]
    if not control.counts["cuts that lost"]:
        total.wrong.append("the control lost nothing: this trial sees no losses here")
    return total


# ---- row 3
def disk_full(bench: Bench) -> Ledger:
    """No file may grow for 10 s (quick: 3), with runs under way."""
    return storage.full(bench.sqlite("full"), 3.0 if bench.quick else 10.0)


def disk_small(bench: Bench) -> Ledger:
    """A file system of 400 KB that is full, and grows later."""
    if why := powercut.impossible():
        return _cannot(f"no file system can be mounted here: {why}")
    return storage.small_disk(bench.sqlite("small"))


def disk_calls(bench: Bench) -> Ledger:
    """The n-th fdatasync, or pwrite64, of a worker fails, for each n (quick: each 8th)."""
    if why := storage.impossible():
        return _cannot(f"no call can be made to fail here: {why}")
    return _sum(storage.every_call(bench.sqlite, step=8 if bench.quick else 1), bench, SqlitePlace.restart_s)


def _cannot(why: str) -> Ledger:
    total = Ledger()
    total.counts["cannot be tried here"] = 1
    total.wrong.append(why)
    return total


# ---- row 4
def locked(bench: Bench) -> Ledger:
    """Another program holds the file for 35 s (quick: 3)."""
    return outages.locked(bench.sqlite("locked"), 3.0 if bench.quick else 35.0)


def server_stops(bench: Bench) -> Ledger:
    """The server crashes every 5 to 40 s under 5,000 runs, and is away for 60 s once (quick: 3 times, 150 runs, 5 s)."""
    place = bench.postgres("stops")
    if bench.quick:
        size = outages.Stops(runs=150, between=(1.0, 2.0), away_s=5.0, stops=3)
    else:
        size = outages.Stops(runs=5_000, between=(5.0, 40.0), away_s=60.0, stops=20)
    return outages.stopped(place, bench.server, size, seed=bench.seed)


def commit_cuts(bench: Bench) -> Ledger:
    """The line to the database ends inside COMMIT, 200 times (quick: 10)."""
    cuts = 10 if bench.quick else 200
    return outages.cut_in_commit(bench.postgres("cuts"), bench.server, cuts=cuts, runs=4 * cuts)


# ---- row 18
def drains_sqlite(bench: Bench) -> Ledger:
    """SIGTERM at random moments, 200 times (quick: 8)."""
    return drains.drained(bench.sqlite("drains"), terms=8 if bench.quick else 200, seed=bench.seed)


def drains_postgres(bench: Bench) -> Ledger:
    """SIGTERM at random moments, 200 times (quick: 8)."""
    return drains.drained(bench.postgres("drains"), terms=8 if bench.quick else 200, seed=bench.seed)


# ---- row 19
def partition(bench: Bench) -> Ledger:
    """A worker is cut off from the database for twice the time after which it is dead."""
    return outages.cut_off(bench.postgres("partition"), bench.server, dead_s=bench.dead_s or 10.0, how="partition")


def zombie(bench: Bench) -> Ledger:
    """A worker is stopped for longer than it takes to be dead, and goes on."""
    return outages.cut_off(bench.postgres("zombie"), bench.server, dead_s=bench.dead_s or 10.0, how="stop")


def stopped_sqlite(bench: Bench) -> Ledger:
    """A worker on one file is stopped and goes on: it lives, and nobody takes anything from it."""
    return outages.stopped_on_file(bench.sqlite("stopped"), 3.0 if bench.quick else 30.0)


Trial = Callable[[Bench], Ledger]
TRIALS: dict[str, Trial] = {
    "writes-sqlite": writes_sqlite,
    "kills-sqlite": kills_sqlite,
    "writes-postgres": writes_postgres,
    "kills-postgres": kills_postgres,
    "power-cuts": power_cuts,
    "disk-full": disk_full,
    "disk-small": disk_small,
    "disk-calls": disk_calls,
    "locked": locked,
    "server-stops": server_stops,
    "commit-cuts": commit_cuts,
    "drains-sqlite": drains_sqlite,
    "drains-postgres": drains_postgres,
    "partition": partition,
    "zombie": zombie,
    "stopped-sqlite": stopped_sqlite,
}
NEED_RIGHTS = frozenset({"power-cuts", "disk-small", "disk-calls"})
"""What not every machine allows: root, loop devices, strace."""


def play(name: str, bench: Bench) -> Ledger:
    """Play a trial and print its counts."""
    began = time.monotonic()
    with ExitStack() as stack:
        bench.stack = stack
        ledger = TRIALS[name](bench)
    counts = ", ".join(f"{what} {count}" for what, count in sorted(ledger.counts.items()))
    print(f"{name}: seed {bench.seed}, {time.monotonic() - began:.0f} s; {counts}; {ledger.resumed_text()}", flush=True)
    for each in ledger.wrong[:20]:
        print(f"  WRONG {each}", flush=True)
    if len(ledger.wrong) > 20:
        print(f"  and {len(ledger.wrong) - 20} more", flush=True)
    return ledger
