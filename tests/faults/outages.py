"""Rows 4 and 19: the database is locked, stopped, away, cut off; and a worker that everybody else takes for dead."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from faults.ledger import Ledger
from faults.places import PostgresPlace, SqlitePlace
from faults.watching import Watch
from servers.postgres import Postgres
from servers.tcp_proxy import TcpProxy


def locked(place: SqlitePlace, seconds: float) -> Ledger:
    """Another program holds the file for a while, with runs under way: nothing fails, and everything ends."""
    watch = Watch(place)
    watch.submit("five-steps", 20, pause_s=0.02, seconds=0.1, rest="100ms")
    watch.work()
    watch.work()
    watch.until(lambda: watch.noted("begin") > 10, what="runs are under way")
    connection = sqlite3.connect(place.file, isolation_level=None, timeout=10)
    connection.execute("BEGIN IMMEDIATE")
    held = place.snapshot(watch.workers)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.1)
        watch.look()
    if place.snapshot(watch.workers).records != held.records:
        watch.ledger.wrong.append("something was written while another program held the file")
    if "journal_away" not in place.output():
        watch.ledger.wrong.append("no worker said that it waits for the journal")
    connection.execute("ROLLBACK")
    connection.close()
    watch.ledger.counts["seconds locked"] = round(seconds)
    return watch.finish()


@dataclass(frozen=True)
class Stops:
    """How a server crashes: how often, how long apart, and how long it is away in the middle, under how many runs."""

    runs: int
    between: tuple[float, float]
    away_s: float
    stops: int


def stopped(place: PostgresPlace, server: Postgres, size: Stops, *, seed: str) -> Ledger:
    """The server crashes again and again under load, and is away once for long: nothing is lost or done twice."""
    dice = random.Random(seed)
    watch = Watch(place)
    for _ in range(2):
        watch.submit(
            "five-steps",
            size.runs // 2,
            pause_s=0.8 * size.stops * sum(size.between) / size.runs,
            seconds=0.1,
            rest="2100ms",
        )
    for _ in range(3):
        watch.work()
    watch.until(lambda: watch.noted("kept") > 5, what="runs are under way")
    for stop in range(size.stops):
        _watch_for(watch, dice.uniform(*size.between))
        server.stop("immediate")
        _watch_for(watch, size.away_s if stop == size.stops // 2 else dice.uniform(0.1, 2.0))
        server.start()
        watch.ledger.counts["crashes of the server"] += 1
    watch.ledger.counts["longest away, s"] = round(size.away_s)
    return watch.finish(longest_s=300)


def _watch_for(watch: Watch, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(min(0.1, max(0.0, until - time.monotonic())))
        watch.look()


class Proxied:
    """A proxy before the server, in a thread of its own."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self.port = 0

    def call(self, what: Callable[[TcpProxy], Any]) -> Any:
        """Do something with the proxy, in its loop."""

        async def work() -> Any:
            return what(self._proxy)

        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(10)

    def __enter__(self) -> Proxied:
        ready = threading.Event()
        self._done = asyncio.Event()

        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            async with TcpProxy(self._server.port) as self._proxy:
                self.port = self._proxy.port
                ready.set()
                await self._done.wait()

        self._thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
        self._thread.start()
        if not ready.wait(10):
            raise RuntimeError("the proxy has not started")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(10)


@contextlib.contextmanager
def through_proxy(place: PostgresPlace, server: Postgres) -> Iterator[tuple[Proxied, str]]:
    """Yield a proxy, and the address of the place's database by it."""
    with Proxied(server) as proxy:
        yield proxy, server.address(place.address.rpartition("/")[2], port=proxy.port)


def cut_in_commit(place: PostgresPlace, server: Postgres, *, cuts: int, runs: int) -> Ledger:
    """The line ends between a COMMIT and its answer, again and again: everything counts once."""
    with through_proxy(place, server) as (proxy, address):
        watch = Watch(place, WEFT_DATABASE_URL=address)
        watch.submit("five-steps", runs, pause_s=0.25 * cuts / runs, seconds=0.1, rest="100ms")
        watch.work()
        watch.work()
        for _ in range(cuts):
            proxy.call(lambda line: line.cut_after(b"COMMIT\0"))
            _watch_for(watch, 0.3)
            watch.ledger.counts["lines cut inside COMMIT"] += proxy.call(lambda line: line._mark is None)
        proxy.call(lambda line: line.forward())
        return watch.finish()


STARTED = '"event": "started"'
TAKEN_OVER = '"event": "taken_over"'


def cut_off(place: PostgresPlace, server: Postgres, *, dead_s: float, how: str) -> Ledger:
    """A worker is cut off, or stopped, for longer than it takes to be dead; then it is back, and changes nothing.

    Args:
        place: With a worker by a proxy, and one without.
        server: Of the place.
        dead_s: After which a worker without a beat is dead.
        how: `partition` (twice that time) or `stop`.
    """
    with through_proxy(place, server) as (proxy, address):
        watch = Watch(place)
        watch.submit("long-steps", 12, seconds=2 * dead_s).wait()
        first = watch.work(WEFT_DATABASE_URL=address)
        watch.until(lambda: watch.noted("claimed") >= 12, what="the first worker has every run")
        started = place.output().count(STARTED)
        watch.work()
        watch.until(lambda: place.output().count(STARTED) > started, what="the second worker has started")
        time.sleep(0.4 * dead_s)
        watch.ledger.left.add(first.pid)
        if how == "partition":
            proxy.call(lambda line: line.silence())
            _watch_for(watch, 2 * dead_s)
            watch.until(lambda: TAKEN_OVER in place.output(), what="the second worker has noticed")
            proxy.call(lambda line: line.forward())
        else:
            first.stop()
            _watch_for(watch, 1.5 * dead_s + 1)
            watch.until(lambda: TAKEN_OVER in place.output(), what="the second worker has noticed")
            first.go_on()
        ledger = watch.finish()
        ledger.counts["taken over"] = place.output().count(TAKEN_OVER)
        if not ledger.counts["taken over"]:
            ledger.wrong.append("nothing was taken over: the fault did not happen")
        return ledger


def stopped_on_file(place: SqlitePlace, seconds: float) -> Ledger:
    """A worker on one file is stopped and goes on: it is alive all the time, and nothing is repeated."""
    watch = Watch(place)
    watch.submit("five-steps", 20, seconds=0.5, rest="100ms").wait()
    first = watch.work()
    watch.work()
    watch.until(lambda: watch.noted("begin") > 5, what="runs are under way")
    first.stop()
    _watch_for(watch, seconds)
    first.go_on()
    return watch.finish()
