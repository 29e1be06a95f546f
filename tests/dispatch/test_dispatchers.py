"""One suite for every dispatcher: whatever happens to workers, jobs and database, each run is advanced, and once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from advancing import Effects, Work, run_row, submit, until
from servers.postgres import Postgres
from servers.tcp_proxy import TcpProxy
from sites import DEAD_S, ENGINES, JOB_TABLES, keeper, site

from weft.dispatch.base import Dispatcher
from weft.dispatch.procrastinate import ProcrastinateDispatcher
from weft.errors import JournalUnavailable
from weft.journal.base import Journal

KINDS = ("memory", "sqlite", *ENGINES)
CHILD = Path(__file__).with_name("worker_child.py")


@dataclass(slots=True)
class Place:
    """Where one test's runs are, and what its processes have done."""

    kind: str
    address: str
    effects: Effects

    async def open(self, *, limit: int = 20) -> tuple[Journal, Dispatcher]:
        return await site(self.kind, self.address, limit=limit)

    async def jobs(self) -> int:
        """Return how many jobs the engine has."""
        return int((await self.query(f"SELECT count(*) FROM {JOB_TABLES[self.kind]}"))[0][0])

    def schema(self) -> str:
        """Return the name of the engine's schema."""
        return ProcrastinateDispatcher(self.address).schema if self.kind == "procrastinate" else "weft_pgqueuer"

    async def query(self, text: str) -> list[tuple[Any, ...]]:
        options = f"-c search_path={self.schema()},public"
        async with await psycopg.AsyncConnection.connect(self.address, autocommit=True, options=options) as connection:
            cursor = await connection.execute(text.encode())
            return await cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres(
        {"fsync": "off", "full_page_writes": "off"}
    ) as server:  # a commit outlives the server, not the machine
        yield server


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    kind = request.param
    address = request.getfixturevalue("postgres").database() if kind in ENGINES else str(tmp_path / "journal.db")
    return Place(kind, address, Effects(tmp_path / "effects"))


everywhere = pytest.mark.parametrize("place", KINDS, indirect=True)
between_processes = pytest.mark.parametrize("place", KINDS[1:], indirect=True)
with_engines = pytest.mark.parametrize("place", ENGINES, indirect=True)
with_procrastinate = pytest.mark.parametrize("place", ["procrastinate"], indirect=True)


@asynccontextmanager
async def working(place: Place, *, limit: int = 20, sweep_s: float = 60.0) -> AsyncIterator[tuple[Work, Dispatcher]]:
    """A worker in this process, drained at the end."""
    journal, dispatcher = await place.open(limit=limit)
    work = Work(journal, place.effects)
    async with keeper(journal, dispatcher, work, sweep_s=sweep_s):
        running = asyncio.create_task(dispatcher.run(work.advance))
        try:
            yield work, dispatcher
            assert not running.done()
        finally:
            dispatcher.stop()
            async with asyncio.timeout(20):
                await running
    await journal.close()


def once_each(effects: Effects, what: str, ids: list[str]) -> bool:
    """Tell whether this has happened exactly once to each of these runs, and to no other."""
    return Counter(run for _, run, _ in effects.seen(what)) == Counter(ids)


# ---- delivery
@everywhere
async def test_everything_accepted_is_advanced(place: Place) -> None:
    """Runs accepted before and while a worker works all end, once, within its limit."""
    ids = [f"r{number:02}" for number in range(60)]
    journal, _ = await place.open() if place.kind != "memory" else (None, None)
    async with working(place, limit=10) as (work, _):
        accepting = journal or work.journal
        for run_id in ids:
            await submit(accepting, run_row(run_id, step_s=0.01))
        await until(lambda: len(place.effects.seen("done")) == 60)
    assert once_each(place.effects, "done", ids)
    assert len(place.effects.seen("begin")) == 120
    assert work.most <= 10
    if journal is not None:
        await journal.close()


@everywhere
async def test_a_run_that_rests_as_ready_is_delivered_again(place: Place) -> None:
    """A run of which an owner lets go soon has another one."""
    async with working(place) as (work, dispatcher):
        work.stopping = True
        await submit(work.journal, run_row("r"))
        dispatcher.look()
        await until(lambda: work.rested > 1)
        work.stopping = False
        await until(lambda: place.effects.seen("done"))
    assert [step for _, _, step in place.effects.seen("end")] == ["0", "1"]


@everywhere
async def test_double_and_late_deliveries_are_dropped(place: Place) -> None:
    """Deliveries of a run that is in hand, or has ended, begin nothing (A2)."""
    async with working(place) as (work, dispatcher):
        await submit(work.journal, run_row("r", steps=1, step_s=0.3), run_row("other", steps=1))
        dispatcher.look()
        await until(lambda: place.effects.seen("begin", "r"))
        for _ in range(5):
            await dispatcher.again(["r", "other"])
            await asyncio.sleep(0.02)
        await until(lambda: len(place.effects.seen("done")) == 2)
        await dispatcher.again(["r", "other", "unknown"])
        await asyncio.sleep(0.3)
    assert once_each(place.effects, "begin", ["r", "other"])


@everywhere
async def test_stop_drains(place: Place) -> None:
    """After `stop` nothing more is begun; `run` returns when what is in hand has returned, and the rest stays ready."""
    journal, dispatcher = await place.open(limit=3)
    work = Work(journal, place.effects)
    async with keeper(journal, dispatcher, work):
        running = asyncio.create_task(dispatcher.run(work.advance))
        await submit(journal, *(run_row(f"r{number}", steps=1, step_s=0.6) for number in range(6)))
        dispatcher.look()
        await until(lambda: len(place.effects.seen("begin")) == 3)
        dispatcher.stop()
        await asyncio.sleep(0.3)
        assert not running.done()
        assert dispatcher.in_hand == 3
        await asyncio.wait_for(running, 5)
    assert len(place.effects.seen("begin")) == len(place.effects.seen("done")) == 3
    assert len(await journal.ready(10)) == 3
    await journal.close()


# ---- workers that die, or seem to
@pytest.fixture
def worker(place: Place) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts a worker in a process of its own; all that are left are killed."""
    started: list[subprocess.Popen[bytes]] = []
    log = place.effects.path.with_name("log").open("ab")

    def start() -> subprocess.Popen[bytes]:
        arguments = [sys.executable, str(CHILD), place.kind, place.address, str(place.effects.path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        started.append(subprocess.Popen(arguments, env=environment, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
    log.close()


async def works(effects: Effects, process: subprocess.Popen[bytes]) -> None:
    """Wait until a worker has begun to work."""
    await until(lambda: any(pid == process.pid for pid, _, _ in effects.seen("ready")), 20)


@between_processes
async def test_the_runs_of_a_killed_worker_are_finished_by_another(
    place: Place, worker: Callable[[], subprocess.Popen[bytes]]
) -> None:
    """After SIGKILL each run in hand goes on in another process, soon after the dead one is known to be dead, once."""
    journal, _ = await place.open()
    first = worker()
    await works(place.effects, first)
    ids = [f"r{number}" for number in range(4)]
    await submit(journal, *(run_row(run_id, step_s=0.8) for run_id in ids))
    await until(lambda: len(place.effects.seen("end")) == 4)
    first.kill()
    second = worker()
    killed = time.monotonic()
    await until(lambda: len(place.effects.seen("done")) == 4, DEAD_S + 8)
    assert time.monotonic() - killed < DEAD_S + 0.8 + 4
    assert once_each(place.effects, "done", ids)
    assert {pid for pid, _, step in place.effects.seen("begin") if step == "0"} == {first.pid}
    assert {pid for pid, _, _ in place.effects.seen("done")} == {second.pid}
    second.terminate()
    assert await asyncio.to_thread(second.wait, 10) == 0
    await journal.close()


@with_engines
async def test_a_worker_that_wakes_up_late_writes_nothing(
    place: Place, worker: Callable[[], subprocess.Popen[bytes]]
) -> None:
    """A process stopped for longer than its lease changes nothing when it goes on; its successor's death, too, is survived.

    It cannot end the job of its successor, so the run is not forgotten (§2.3, pitfall 3).
    """
    journal, _ = await place.open()
    zombie = worker()
    await works(place.effects, zombie)
    await submit(journal, run_row("r", steps=1, step_s=0.8))
    await until(lambda: place.effects.seen("begin"))
    zombie.send_signal(signal.SIGSTOP)
    successor = worker()
    await until(lambda: len(place.effects.seen("begin")) == 2, 20)
    zombie.send_signal(signal.SIGCONT)
    await until(lambda: place.effects.seen("refused"))
    successor.kill()
    assert not place.effects.seen("end")
    await until(lambda: place.effects.seen("done"), DEAD_S + 8)
    begun = [pid for pid, _, _ in place.effects.seen("begin")]
    assert begun == [zombie.pid, successor.pid, zombie.pid]  # awake again, it is a worker like any other
    assert once_each(place.effects, "done", ["r"])
    assert [each.kind for each in (await journal.load("r")).records] == ["begun", "begun", "begun", "succeeded"]
    await journal.close()


# ---- the database away
@with_engines
async def test_nothing_is_lost_or_begun_twice_while_the_database_is_away(place: Place, postgres: Postgres) -> None:
    """Away for longer than a dead worker's time, the database finds the same worker at the same work (A1)."""
    ids = [f"r{number}" for number in range(5)]
    async with working(place) as (work, dispatcher):
        await submit(work.journal, *(run_row(run_id, step_s=1.0) for run_id in ids))
        await until(lambda: len(place.effects.seen("begin")) == 5)
        await asyncio.to_thread(postgres.stop, "immediate")
        await asyncio.sleep(DEAD_S + 1)
        assert dispatcher.in_hand == 5
        await asyncio.to_thread(postgres.start)
        await submit(work.journal, run_row("later"))
        await until(lambda: len(place.effects.seen("done")) == 6, 20)
    assert once_each(place.effects, "done", [*ids, "later"])
    assert all(count == 1 for count in Counter(place.effects.seen("begin")).values())


@with_procrastinate
async def test_a_line_that_falls_silent_is_given_up(place: Place, postgres: Postgres) -> None:
    """Connections that are open and never answer are given up by our own deadline, and the worker goes on (A12)."""
    delivered: list[str] = []

    async def advance(run_id: str) -> None:
        delivered.append(run_id)

    async with TcpProxy(postgres.port) as proxy:
        line = postgres.address(place.address.rpartition("/")[2], port=proxy.port)
        dispatcher = ProcrastinateDispatcher(line, deadline_s=0.5, retry_s=0.1)
        await dispatcher.install()
        running = asyncio.create_task(dispatcher.run(advance))
        await _enqueue(place, dispatcher, "before")
        await until(lambda: delivered == ["before"])
        await asyncio.sleep(0.3)  # its pool may still be growing
        proxy.silence()
        lines = proxy.accepted
        await _enqueue(place, dispatcher, "after")
        await until(lambda: proxy.accepted > lines, 3)  # it asks on a new line that the request be cancelled
        proxy.forward()
        await until(lambda: delivered == ["before", "after"], 15)
        dispatcher.stop()
        await asyncio.wait_for(running, 5)


# ---- jobs
@with_engines
async def test_sleepers_have_no_job(place: Place) -> None:
    """A run that waits has no job until it is due (§2.3, pitfall 5)."""
    async with working(place) as (work, _):
        await submit(work.journal, *(run_row(f"r{number}", sleep_s=1.0) for number in range(10)))
        await until(lambda: len(place.effects.seen("end")) == 10)
        await asyncio.sleep(0.3)
        assert await place.jobs() == 0
        assert work.live == {}
        await until(lambda: len(place.effects.seen("done")) == 10)


@with_engines
async def test_the_sweep_repairs_lost_jobs(place: Place) -> None:
    """A run whose job has disappeared is delivered all the same, only later (§2.3, pitfall 4)."""
    journal, _ = await place.open()
    await submit(journal, *(run_row(f"r{number}") for number in range(5)))
    assert await place.jobs() == 5
    await place.query(f"DELETE FROM {JOB_TABLES[place.kind]}")
    async with working(place, sweep_s=0.5):
        await until(lambda: len(place.effects.seen("done")) == 5)
    await journal.close()


@with_engines
async def test_a_transaction_that_fails_delivers_nothing(place: Place) -> None:
    """A job belongs to the transaction that enqueues it, and leaves no trace in its connection."""
    async with working(place) as (_, dispatcher):
        async with await psycopg.AsyncConnection.connect(place.address, autocommit=True) as connection:
            before = await (await connection.execute("SHOW search_path")).fetchall()
            await connection.execute("BEGIN")
            await dispatcher.enqueue(connection, ["kept"])
            await connection.execute("COMMIT")
            await connection.execute("BEGIN")
            await dispatcher.enqueue(connection, ["undone"])
            await connection.execute("ROLLBACK")
            assert await (await connection.execute("SHOW search_path")).fetchall() == before
        await until(lambda: place.effects.seen("dropped"))
        await asyncio.sleep(0.2)
    assert [run for _, run, _ in place.effects.seen("dropped")] == ["kept"]


@with_procrastinate
async def test_sweeps_do_not_make_a_backlog_grow(place: Place) -> None:
    """Runs that wait long for room have two jobs at most, however often they are swept up."""
    async with working(place, limit=1, sweep_s=0.2) as (work, _):
        await submit(work.journal, run_row("long", steps=1, step_s=1.5))
        await until(lambda: place.effects.seen("begin"))
        await submit(work.journal, *(run_row(f"r{number}", steps=1) for number in range(10)))
        await until(lambda: place.effects.seen("end"))
        assert 10 < await place.jobs() <= 20
        await until(lambda: len(place.effects.seen("done")) == 11)
    assert len(place.effects.seen("begin")) == 11


# ---- what only Procrastinate needs
@with_procrastinate
async def test_its_connections_get_a_plan_that_does_not_fall_off_a_cliff(place: Place) -> None:
    """Each of its connections has the planner's settings, limits, and its own schema (§2.3, pitfall 8)."""
    wanted = ("enable_sort", "enable_bitmapscan", "search_path", "statement_timeout")
    seen: list[tuple[Any, ...]] = []

    class Spying(ProcrastinateDispatcher):
        async def _register(self) -> int:
            connector = self._app.connector
            for name in wanted:
                row = await connector.execute_query_one_async(f"SELECT current_setting('{name}') AS it")
                seen.append((name, row["it"]))
            return await super()._register()

    dispatcher = Spying(place.address)
    await dispatcher.install()
    running = asyncio.create_task(dispatcher.run(_nothing))
    await until(lambda: len(seen) == 4)
    assert dict(seen) == dict(zip(wanted, ("off", "off", dispatcher.schema, "10s"), strict=True))
    dispatcher.stop()
    await running


@with_procrastinate
async def test_its_tables_are_made_once_by_many_processes(place: Place) -> None:
    """Processes that start together, and one that starts later, find one set of tables; the user's schema has none."""
    await asyncio.gather(*(ProcrastinateDispatcher(place.address).install() for _ in range(5)))
    await ProcrastinateDispatcher(place.address).install()
    found = await place.query("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename LIKE 'procrastinate%'")
    assert found == [(ProcrastinateDispatcher(place.address).schema,)]


@with_procrastinate
async def test_it_beats_while_it_drains(place: Place) -> None:
    """The engine is told that this worker lives until the last advance has returned (§2.4)."""
    dispatcher = ProcrastinateDispatcher(place.address, beat_s=0.1)
    await dispatcher.install()
    leave, begun = asyncio.Event(), asyncio.Event()

    async def advance(run_id: str) -> None:
        begun.set()
        await leave.wait()

    running = asyncio.create_task(dispatcher.run(advance))
    await _enqueue(place, dispatcher, "r")
    await begun.wait()
    dispatcher.stop()
    await asyncio.sleep(0.5)
    age = "SELECT extract(epoch FROM now() - last_heartbeat)::float FROM procrastinate_workers"
    [[seconds]] = await place.query(age)
    assert isinstance(seconds, float)
    assert seconds < 0.3
    leave.set()
    await asyncio.wait_for(running, 2)
    assert await place.query(age) == []


@with_procrastinate
async def test_what_a_dead_worker_had_fetched_is_delivered_anew(place: Place) -> None:
    """A job that a worker fetched, and died before it handed it on, is replaced by a new one (§2.3, pitfall 3)."""
    dispatcher = ProcrastinateDispatcher(place.address, beat_s=0.1, stalled_s=0.5)
    await dispatcher.install()
    await _enqueue(place, dispatcher, "r")
    await place.query("INSERT INTO procrastinate_workers DEFAULT VALUES")
    worker = "(SELECT id FROM procrastinate_workers)"
    await place.query(f"UPDATE procrastinate_jobs SET status = 'doing', worker_id = {worker}")
    delivered: list[str] = []

    async def advance(run_id: str) -> None:
        delivered.append(run_id)

    running = asyncio.create_task(dispatcher.run(advance))
    await until(lambda: delivered == ["r"], 5)
    await asyncio.sleep(0.3)
    assert await place.jobs() == 0
    dispatcher.stop()
    await running


@with_procrastinate
async def test_a_delivery_that_a_stop_cut_off_goes_to_another_worker(place: Place) -> None:
    """What was fetched, and could not be claimed before this worker had to leave, has a job again at its end."""
    dispatcher = ProcrastinateDispatcher(place.address)
    await dispatcher.install()
    tried = asyncio.Event()

    async def advance(run_id: str) -> None:
        tried.set()
        raise JournalUnavailable("It is away.")

    running = asyncio.create_task(dispatcher.run(advance))
    await _enqueue(place, dispatcher, "r")
    await tried.wait()
    dispatcher.stop()
    await asyncio.wait_for(running, 5)
    assert await place.jobs() == 1


async def _nothing(run_id: str) -> None: ...


async def _enqueue(place: Place, dispatcher: Dispatcher, *run_ids: str) -> None:
    async with await psycopg.AsyncConnection.connect(place.address) as connection:
        await dispatcher.enqueue(connection, run_ids)
