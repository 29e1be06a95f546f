"""What the benchmarks of durable runs measure with: CPU time of processes, blocks of runs, a table of goals."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Block:
    """What a number of runs took."""

    cpu_ms: float  #: of this process, user and system, for each run
    per_s: float
    p50_ms: float
    p99_ms: float


async def block(run: Callable[[], Awaitable[object]], count: int, at_once: int) -> Block:
    """Make `count` runs, so many at once, and measure them."""
    gate = asyncio.Semaphore(at_once)
    taken: list[float] = []

    async def one() -> None:
        async with gate:
            began = time.perf_counter()
            await run()
            taken.append(time.perf_counter() - began)

    cpu, clock = time.process_time(), time.perf_counter()
    await asyncio.gather(*(one() for _ in range(count)))
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    return Block(cpu / count * 1000, count / clock, quantile(taken, 0.5) * 1000, quantile(taken, 0.99) * 1000)


def middle(blocks: Iterable[Block]) -> Block:
    """Return the medians of several blocks, each figure for itself."""
    rows = [(each.cpu_ms, each.per_s, each.p50_ms, each.p99_ms) for each in blocks]
    return Block(*(median(column) for column in zip(*rows, strict=True)))


def quantile(values: Iterable[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def cpu_of(pid: int, *, family: bool = False) -> float:
    """Return the CPU seconds of another process; with its children, those that have ended too, as a family."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    used = sum(map(int, fields[11:15] if family else fields[11:13])) / TICKS
    if family:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        used += sum(cpu_of(int(child)) for child in children)
    return used


def memory_mb(pid: int | None = None) -> float:
    """Return the memory that a process has in use."""
    status = Path(f"/proc/{pid or 'self'}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


class Table:
    """Figures beside their goals."""

    def __init__(self) -> None:
        self.missed = 0

    def line(self, what: str, figure: str, goal: str = "", *, met: bool | None = None) -> None:
        """Print a figure; `met` is None where there is no goal."""
        told = "" if met is None else "met" if met else "NOT MET"
        self.missed += met is False
        print(f"  {what:62} {figure:>26}   {goal:18} {told}", flush=True)

    def below(self, what: str, figure: float, limit: float, unit: str) -> None:
        """Print a figure that should be at most `limit`."""
        self.line(what, f"{figure:.2f} {unit}", f"≤ {limit:g} {unit}", met=figure <= limit)
