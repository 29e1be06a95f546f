"""What durability itself costs: runs of three steps that do nothing, and how soon an accepted run begins.

    python benchmarks/durable/steps.py [--quick] [--repeat N] [--store sqlite|postgres]

SQLite: the runs are made in this process, 1 and 100 at once. PostgreSQL: they are accepted first, then 1 and 2 workers in
processes of their own go on with them; the CPU time of the workers and that of the database are told apart. The cases take
turns, `--repeat` times, and every figure is the median. CPU time is user and system. The exit status is 1 when a goal
is missed. PostgreSQL is started for this, with its durable settings; `tests/install-servers` installs it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from statistics import median

from measuring import Block, Table, block, cpu_of, middle, quantile

from weft import packs
from weft.dispatch.keeper import Keeper
from weft.journal.sqlite import SqliteJournal
from weft.outcome import decode
from weft.plan import Plan
from weft.registry import Registry
from weft.runtime import DATABASE_URL, Runtime

PACK = Path(__file__).parent / "pack"
TESTS = Path(__file__).parents[2] / "tests"
THREE = "name: three\nsteps:\n" + "".join(f"  - {{id: {name}, uses: nothing, with: {{value: 1}}}}\n" for name in "abc")
STAMP = "name: stamp\nsteps:\n  - {id: first, uses: stamp}\n"
CPU_GOAL_MS, LATENCY_GOAL_MS = 1.0, 15.0
WORKER_GOAL_MS, DATABASE_GOAL_MS = 2.0, 2.0


@contextlib.asynccontextmanager
async def a_runtime(home: Path, url: str | None = None) -> AsyncIterator[Runtime]:
    """A runtime that knows the benchmarks' actions, and whose imports are out of the garbage collector's sight."""
    registry = Registry([packs.read(PACK, "benchmarks", packs.package_of(PACK))])
    environ = {**os.environ, DATABASE_URL: url} if url else {}
    async with Runtime(home, registry, environ=environ) as runtime:
        await runtime.opened()
        gc.collect()
        gc.freeze()
        yield runtime


def compiled(runtime: Runtime, text: str) -> Plan:
    runtime.home.mkdir(parents=True, exist_ok=True)
    file = runtime.home / "benchmark.yaml"
    file.write_text(text, encoding="utf-8")
    return runtime.compile(file)


# ---- SQLite, in this process
async def in_process(runs: tuple[int, int]) -> tuple[list[Block], list[float], list[float]]:
    """Return the blocks for 1 and for 100 at once, their commits per run, and the latencies of first steps in ms."""
    with tempfile.TemporaryDirectory() as directory:
        async with a_runtime(Path(directory) / "home") as runtime:
            three, stamp = compiled(runtime, THREE), compiled(runtime, STAMP)
            journal = runtime.journal
            assert isinstance(journal, SqliteJournal)
            await block(lambda: runtime.start(three, {}), 20, 10)
            blocks, commits = [], []
            for at_once, count in zip((1, 100), runs, strict=True):
                before = journal.writer.commits
                blocks.append(await block(lambda: runtime.start(three, {}), count, at_once))
                commits.append((journal.writer.commits - before) / count)
            latencies = []
            for _ in range(runs[0]):
                await asyncio.sleep(0.005)
                began = time.monotonic()
                found = await runtime.start(stamp, {})
                latencies.append((await first_step(runtime, found.row.id) - began) * 1000)
            return blocks, commits, latencies


async def first_step(runtime: Runtime, run_id: str) -> float:
    """Return when the first step of an ended run began, by the machine's monotonic clock."""
    [record] = [each for each in (await runtime.journal.load(run_id)).records if each.kind == "succeeded"]
    at: float = decode(record.payload)["output"]["at"]
    return at


# ---- PostgreSQL, with workers
def work(pipe: Pipe, url: str) -> None:
    """Be a worker: say when ready, begin when told to, count what has ended, end when told to."""

    async def main() -> None:
        with tempfile.TemporaryDirectory() as directory:
            async with a_runtime(Path(directory) / "home", url) as runtime:
                runtime.keeps = False
                ended = 0

                async def advance(run_id: str) -> None:
                    nonlocal ended
                    await runtime.driver.advance(run_id)
                    ended += 1

                pipe.send(None)
                await asyncio.to_thread(pipe.recv)
                async with Keeper(runtime.journal, runtime.dispatcher, runtime.driver):
                    task = asyncio.create_task(runtime.dispatcher.run(advance))
                    while await asyncio.to_thread(pipe.recv):
                        pipe.send(ended)
                    runtime.dispatcher.stop()
                    await task

    asyncio.run(main())


@dataclass(slots=True)
class Workers:
    """Workers in processes of their own."""

    processes: list[multiprocessing.context.SpawnProcess]
    pipes: list[Pipe]

    def ended(self) -> int:
        total = 0
        for pipe in self.pipes:
            pipe.send(True)
            total += pipe.recv()
        return total

    async def reach(self, number: int) -> None:
        """Return when so many advances have returned."""
        while self.ended() < number:  # noqa: ASYNC110  they are other processes
            await asyncio.sleep(0.02)

    def cpu(self) -> float:
        return sum(cpu_of(process.pid or 0) for process in self.processes)


@contextlib.contextmanager
def some_workers(number: int, url: str) -> Iterator[Workers]:
    """Workers that are ready, and begin when something is sent to them."""
    spawn = multiprocessing.get_context("spawn")
    workers = Workers([], [])
    for _ in range(number):
        near, far = spawn.Pipe()
        process = spawn.Process(target=work, args=(far, url), daemon=True)
        process.start()
        workers.processes.append(process)
        workers.pipes.append(near)
    for pipe in workers.pipes:
        pipe.recv()
    yield workers
    for process, pipe in zip(workers.processes, workers.pipes, strict=True):
        pipe.send(False)
        process.join(30)


@dataclass(frozen=True, slots=True)
class Shared:
    """What a run took with workers."""

    worker_ms: float
    database_ms: float
    per_s: float
    commits: float


async def with_workers(server: object, number: int, count: int) -> Shared:
    """Accept runs, then let workers go on with them."""
    url: str = server.database()  # type: ignore[attr-defined]
    pid = int((server.directory / "data" / "postmaster.pid").read_text().split()[0])  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as directory:
        async with a_runtime(Path(directory) / "home", url) as runtime:
            three = compiled(runtime, THREE)
            for _ in range(count // 100):
                await asyncio.gather(*(runtime.submit(three, {}) for _ in range(100)))
            with some_workers(number, url) as workers:
                commits, cpu, database = await commits_of(url), workers.cpu(), cpu_of(pid, family=True)
                began = time.perf_counter()
                for pipe in workers.pipes:
                    pipe.send(None)
                await workers.reach(count)
                while await runtime.journal.unfinished():  # noqa: ASYNC110  one of them was delivered twice
                    await asyncio.sleep(0.02)
                clock = time.perf_counter() - began
                cpu, database = workers.cpu() - cpu, cpu_of(pid, family=True) - database
            commits = await commits_of(url) - commits
    return Shared(cpu / count * 1000, database / count * 1000, count / clock, commits / count)


async def commits_of(url: str) -> int:
    """Return how many transactions have written something; each has a number of its own."""
    import psycopg

    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        row = await (
            await connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        ).fetchone()
        assert row is not None
        return int(row[0])


async def to_first_step(server: object, count: int) -> list[float]:
    """Return how long after `submit` was called an idle worker began the first step, in ms."""
    url: str = server.database()  # type: ignore[attr-defined]
    latencies = []
    with tempfile.TemporaryDirectory() as directory:
        async with a_runtime(Path(directory) / "home", url) as runtime:
            stamp = compiled(runtime, STAMP)
            await runtime.submit(stamp, {})
            with some_workers(1, url) as workers:
                workers.pipes[0].send(None)
                await workers.reach(1)
                for number in range(count):
                    began = time.monotonic()
                    run_id = await runtime.submit(stamp, {})
                    await workers.reach(number + 2)
                    latencies.append((await first_step(runtime, run_id) - began) * 1000)
    return latencies


# ---- the figures
def sqlite(table: Table, repeat: int, runs: tuple[int, int]) -> None:
    rounds = [asyncio.run(in_process(runs)) for _ in range(repeat)]
    for at, (at_once, goal) in enumerate(((1, None), (100, CPU_GOAL_MS))):
        found = middle(each[0][at] for each in rounds)
        commits = median(each[1][at] for each in rounds)
        what = f"SQLite, {at_once} at once"
        if goal is None:
            table.line(f"{what}: CPU of a run", f"{found.cpu_ms:.2f} ms")
        else:
            table.below(f"{what}: CPU of a run", found.cpu_ms, goal, "ms")
        table.line(f"{what}: runs/s, p50 / p99", f"{found.per_s:.0f}, {found.p50_ms:.1f} / {found.p99_ms:.1f} ms")
        table.line(f"{what}: commits of a run", f"{commits:.2f}")
    latencies = [each for _, _, taken in rounds for each in taken]
    tell_latency(table, "SQLite", latencies)


def tell_latency(table: Table, where: str, latencies: list[float]) -> None:
    table.line(f"{where}: accept → first step, idle, p50", f"{quantile(latencies, 0.5):.2f} ms")
    table.below(f"{where}: accept → first step, idle, p99", quantile(latencies, 0.99), LATENCY_GOAL_MS, "ms")


def postgres(table: Table, repeat: int, runs: int, stamps: int) -> None:
    sys.path.insert(0, str(TESTS))
    from servers.postgres import Postgres

    with Postgres(settings={}) as server:
        rounds = [[asyncio.run(with_workers(server, number, runs)) for number in (1, 2)] for _ in range(repeat)]
        for number, column in zip((1, 2), zip(*rounds, strict=True), strict=True):
            what = f"PostgreSQL, {number} worker{'s' * (number > 1)}"
            table.below(
                f"{what}: CPU of a run, workers", median(each.worker_ms for each in column), WORKER_GOAL_MS, "ms"
            )
            table.below(
                f"{what}: CPU of a run, database", median(each.database_ms for each in column), DATABASE_GOAL_MS, "ms"
            )
            table.line(f"{what}: runs/s", f"{median(each.per_s for each in column):.0f}")
            table.line(f"{what}: commits of a run", f"{median(each.commits for each in column):.2f}")
        latencies = [each for _ in range(repeat) for each in asyncio.run(to_first_step(server, stamps))]
        tell_latency(table, "PostgreSQL", latencies)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few runs: shows that it works, the figures mean little")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--store", choices=["sqlite", "postgres"])
    given = parser.parse_args()
    repeat = 1 if given.quick else given.repeat
    table = Table()
    print("three steps that do nothing, durable")
    if given.store != "postgres":
        sqlite(table, repeat, (20, 100) if given.quick else (200, 1000))
    if given.store != "sqlite":
        postgres(table, repeat, 100 if given.quick else 600, 20 if given.quick else 100)
    return 1 if table.missed else 0


if __name__ == "__main__":
    sys.exit(main())
