"""The trials of the fault suite, each in two sizes; each returns what it counted, and what was wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from faults import clocks, drains, mails, outages, powercut, schedulers, storage, volumes
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


# ---- row 9
def mails_killed(bench: Bench) -> Ledger:
    """A kill at every point of the shipped example, with both policies (quick: six points, and no model is asked)."""
    with ExitStack() as stack:
        servers = stack.enter_context(mails.Servers(whole=not bench.quick))
        if bench.quick:
            return mails.killed_in_doubt(bench.sqlite, servers, at_once=6)
        warm = replace(bench, nursery=stack.enter_context(Nursery(mails.READY)))
        total = mails.killed(warm.sqlite, servers, at_once=6)
        total.add(mails.killed(lambda name: warm.postgres(f"database-{name}"), servers, at_once=6))
        return total


def mails_cut(bench: Bench) -> Ledger:
    """A mail server that stores a mail and goes before it says so, or never says so, with both policies."""
    with mails.Servers(whole=False) as servers:
        return mails.cut(bench.sqlite, servers, at_once=5)


# ---- row 14
def clock_turns(bench: Bench) -> Ledger:
    """The clock jumps by two hours, is put right, and changes with the season; workers sleep and die (quick: one night)."""
    troubles = ("forward", "backward", "slew", "suspend", "absent")
    days = clocks.Days((clocks.SPRING, clocks.AUTUMN), quiet_h=3.0, troubles=troubles * 2)
    if bench.quick:
        days = clocks.Days((clocks.SPRING,), quiet_h=0.7, troubles=("forward", "backward", "absent"))
    return clocks.turned(bench.sqlite("clock"), days, bench.seed)


# ---- row 15
def schedulers_sqlite(bench: Bench) -> Ledger:
    """4 schedulers, of which 10 die, and 1,000 instants of 25 schedules in a file (quick: 2, 1 dies, 40 instants)."""
    rush = schedulers.Rush(schedules=25, seconds=45, kills=10)
    if bench.quick:
        rush = schedulers.Rush(schedules=8, seconds=6, schedulers=2, kills=1)
    return schedulers.rushed(bench.sqlite("rush"), rush, bench.seed)


def schedulers_postgres(bench: Bench) -> Ledger:
    """The same in a database, where the clocks of two machines are two hours wrong (quick: of one)."""
    rush = schedulers.Rush(schedules=25, seconds=45, kills=10, skews=(7200.0, -7200.0))
    if bench.quick:
        rush = schedulers.Rush(schedules=8, seconds=6, schedulers=2, skews=(7200.0,))
    return schedulers.rushed(bench.postgres("rush"), rush, bench.seed)


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


# ---- row 21
def loops(bench: Bench) -> Ledger:
    """A loop of 10,000 items whose workers die 20 times, in a file and in a database (quick: 600 items, once)."""
    if bench.quick:
        return volumes.loop(bench.sqlite("loop"), bench.seed, items=600, kills=1, most_mb=60)
    total = Ledger()
    for place in (bench.sqlite("loop"), bench.postgres("database-loop")):
        total.add(volumes.loop(place, bench.seed, items=10_000, kills=20, most_mb=150))
    return total


def long_outputs(bench: Bench) -> Ledger:
    """Outputs of 10 MB, of which three fit into a run, eight do not, and one is too long; workers die (quick: 2 MB, three)."""
    size = 2_000_000 if bench.quick else 9_900_000
    total = volumes.outputs(bench.sqlite("fit"), bench.seed, count=3, size=size, kills=1, most_mb=150)
    if not bench.quick:
        many, long = bench.sqlite("many"), bench.sqlite("long")
        total.add(
            volumes.outputs(many, bench.seed, count=8, size=size, kills=2, most_mb=300, fails_for="run_too_large")
        )
        total.add(
            volumes.outputs(
                long, bench.seed, count=1, size=10_000_000, kills=0, most_mb=150, fails_for="output_too_large"
            )
        )
    return total


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
    "mails-killed": mails_killed,
    "mails-cut": mails_cut,
    "clock-turns": clock_turns,
    "schedulers-sqlite": schedulers_sqlite,
    "schedulers-postgres": schedulers_postgres,
    "drains-sqlite": drains_sqlite,
    "drains-postgres": drains_postgres,
    "partition": partition,
    "zombie": zombie,
    "stopped-sqlite": stopped_sqlite,
    "loops": loops,
    "long-outputs": long_outputs,
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
