"""What grows with what is recorded: the start, lists, a run, steps of a run, items of a loop, runs that wait. On SQLite.

    python benchmarks/durable/growth.py [--quick] [--repeat N] [RUNS …]

RUNS are the numbers of ended runs to compare, 10, 100,000 and 1,000,000 if left out; they are put straight into the file, of
which the largest has about 2 GB in the directory for temporary files. Figures are medians of turns that the files
take one after another, ratios are to the smallest file. The exit status is 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from measuring import Table, block, memory_mb
from steps import THREE, a_runtime, compiled

from weft.dispatch.keeper import Keeper
from weft.journal.base import RunQuery

RATIO_GOAL, MEMORY_GOAL_MB, CORE_GOAL = 1.2, 5.0, 0.01
SLEEPS = "name: sleeps\nsteps:\n  - {id: wait, wait: {for: 30d}}\n"

ENDED = """
INSERT INTO statuses(id, workflow, started_at, state, epoch, token, owner, changed_at, size, claimed_size, result)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
SELECT printf('%012x-%010x', i, i), 'filled', i, 'succeeded', 1, 't', 'o', i, 600, 0, '{"outputs":{},"problem":null}' FROM n
"""
ROWS = """
INSERT INTO runs SELECT s.run, (SELECT hash FROM documents LIMIT 1), '{}', 'null', NULL, NULL FROM statuses s
WHERE s.workflow = 'filled'
"""
RECORDS = """
INSERT INTO records(run, path, n, kind, payload)
SELECT s.run, '/' || k.value, 1, 'succeeded', printf('{"output":"%0200d"}', 7) FROM statuses s, json_each('["a","b","c"]') k
WHERE s.workflow = 'filled'
"""
WAITING = """
UPDATE statuses SET state = 'waiting', result = NULL, wake_at = CASE WHEN run % 2 THEN started_at + 4e9 END
WHERE workflow = 'filled'
"""


async def filled(home: Path, runs: int, *, waiting: bool = False) -> None:
    """Make a journal with so many runs that have ended, or that wait: half of them for an instant, half for an answer."""
    async with a_runtime(home) as runtime:
        await runtime.start(compiled(runtime, THREE), {})
    file = sqlite3.connect(home / "journal.db", isolation_level=None)
    file.execute("PRAGMA synchronous=OFF")
    file.execute("BEGIN")
    file.execute(ENDED, (runs,))
    file.execute(ROWS)
    file.execute(RECORDS)
    if waiting:
        file.execute(WAITING)
    file.execute("COMMIT")
    file.close()
    os.sync()  # else the first flush that is measured pays for the filling


async def figures(home: Path) -> dict[str, float]:
    """Return what start, list and runs take, in ms."""
    found = {}
    began = time.process_time()
    async with a_runtime(home) as runtime:
        await runtime.journal.abandoned()
        await runtime.journal.ready(100)
        found["start, CPU"] = (time.process_time() - began) * 1000
        three = compiled(runtime, THREE)
        await block(lambda: runtime.start(three, {}), 20, 10)
        lists = {
            "list, 10 youngest, CPU": RunQuery(limit=10),
            "list, one workflow, CPU": RunQuery(workflow="filled", limit=10),
            "list, one state, CPU": RunQuery(states=("succeeded",), limit=10),
        }
        for name, query in lists.items():
            began = time.process_time()
            for _ in range(20):
                await runtime.journal.runs(query)
            found[name] = (time.process_time() - began) / 20 * 1000
        found["a run, 100 at once, CPU"] = (await block(lambda: runtime.start(three, {}), 300, 100)).cpu_ms
    return found


def compare(table: Table, sizes: list[int], repeat: int, homes: dict[int, Path]) -> None:
    """Compare files of several sizes."""
    rounds = [{runs: asyncio.run(figures(homes[runs])) for runs in sizes} for _ in range(repeat + 1)][1:]
    for what in rounds[0][sizes[0]]:
        for runs in sizes:
            value = median(each[runs][what] for each in rounds)
            ratio = value / median(each[sizes[0]][what] for each in rounds)
            goal = "" if runs == sizes[0] else f"≤ {RATIO_GOAL} x"
            met = ratio <= RATIO_GOAL if goal else None
            table.line(f"{runs:,} runs recorded: {what}", f"{value:.2f} ms, {ratio:.2f} x", goal, met=met)


def many_steps(number: int) -> str:
    steps = (f"  - {{id: s{at}, uses: nothing, with: {{value: 1}}}}\n" for at in range(number))
    return f"name: long\nsteps:\n{''.join(steps)}"


def many_items(number: int) -> str:
    items = list(range(number))
    return (
        "name: loop\nsteps:\n"
        f"  - {{id: each, for_each: {items}, max_parallel: 100, uses: nothing, with: {{value: 1}}}}\n"
    )


async def lengths(table: Table, steps: tuple[int, int], items: tuple[int, int]) -> None:
    """Compare runs of few and of many steps, loops of few and of many items."""
    with tempfile.TemporaryDirectory() as directory:
        async with a_runtime(Path(directory) / "home") as runtime:
            for what, numbers, text in (
                ("steps", steps, many_steps),
                ("items", items, many_items),
            ):
                for number in numbers:
                    plan = compiled(runtime, text(number))
                    began = time.process_time()
                    found = await runtime.start(plan, {})
                    assert found.status.state == "succeeded", found.status.result
                    each = (time.process_time() - began) * 1000 / number
                    table.line(f"a run of {number:,} {what}: CPU of each", f"{each:.3f} ms")


async def keeping(home: Path, seconds: float) -> tuple[float, float]:
    """Return the memory of a worker with this journal, in MB, and which part of a core it takes while nothing is due."""
    async with a_runtime(home) as runtime:
        runtime.keeps = False
        async with Keeper(runtime.journal, runtime.dispatcher, runtime.driver):
            task = asyncio.create_task(runtime.dispatcher.run(runtime.driver.advance))
            await asyncio.sleep(2)
            began = time.process_time()
            await asyncio.sleep(seconds)
            used = (time.process_time() - began) / seconds
            memory = memory_mb()
            runtime.dispatcher.stop()
            await task
    return memory, used


def waiting(table: Table, runs: int, seconds: float) -> None:
    """Compare workers whose journals hold no waiting run and many, each in a process of its own."""
    found = {}
    for number in (1, runs):
        with tempfile.TemporaryDirectory() as directory:
            home = Path(directory) / "home"
            with a_child() as child:
                if child:
                    asyncio.run(filled(home, number, waiting=True))
            reader, writer = os.pipe()
            with a_child() as child:
                if child:
                    memory, used = asyncio.run(keeping(home, seconds))
                    os.write(writer, f"{memory} {used}".encode())
            found[number] = tuple(map(float, os.read(reader, 100).split()))
    table.below(f"{runs:,} waiting runs: memory", found[runs][0] - found[1][0], MEMORY_GOAL_MB, "MB")
    table.line(
        f"{runs:,} waiting runs: CPU of the worker",
        f"{found[runs][1] * 100:.2f} % of a core",
        f"< {CORE_GOAL:.0%}",
        met=found[runs][1] < CORE_GOAL,
    )
    table.line("1 waiting run: CPU of the worker", f"{found[1][1] * 100:.2f} % of a core")


@contextlib.contextmanager
def a_child() -> Iterator[bool]:
    """Run the block in a copy of this process, and wait for its end; true in the copy, false here."""
    pid = os.fork()
    if pid:
        yield False
        _, status = os.waitpid(pid, 0)
        assert status == 0, "the child has failed"
        return
    code = 1
    try:
        yield True
        code = 0
    finally:
        sys.stdout.flush()
        os._exit(code)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="small files: shows that it works, the figures mean little"
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("runs", type=int, nargs="*")
    given = parser.parse_args()
    sizes = given.runs or ([10, 1_000] if given.quick else [10, 100_000, 1_000_000])
    table = Table()
    print("growth, durable on SQLite")
    waiting(table, 200 if given.quick else 10_000, 0.5 if given.quick else 10.0)
    with tempfile.TemporaryDirectory() as directory:
        homes = {runs: Path(directory) / str(runs) for runs in sizes}
        for runs, home in homes.items():
            asyncio.run(filled(home, runs))
        compare(table, sizes, 1 if given.quick else given.repeat, homes)
    asyncio.run(lengths(table, (10, 50) if given.quick else (10, 500), (10, 100) if given.quick else (100, 10_000)))
    return 1 if table.missed else 0


if __name__ == "__main__":
    sys.exit(main())
