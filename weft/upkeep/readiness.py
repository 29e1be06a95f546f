"""Whether a server can do its work: what it stands on is tried, not remembered.

`down`: it could not accept a run. `degraded`: it accepts runs, and something is wrong that people should look at.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import sqlalchemy as sa

from weft.errors import JournalUnavailable, StateUnavailable
from weft.journal.health import ALIVE_S, living
from weft.journal.sqlite import SqliteJournal
from weft.journal.sqlite_file import is_busy
from weft.runtime import JOURNAL, Runtime
from weft.types import JsonObject

Grade = Literal["ok", "degraded", "down"]

ANSWER_S: Final = 3.0
"""How long each part may take to answer."""

FRESH_S: Final = 1.0
"""How long an answer is given again: whoever asks often costs no more than that."""

HELD_S: Final = 1.0
"""How long another program may hold the journal's file."""

LATE_S: Final = 60.0
"""How long a run may be ready, or a schedule be due, before that is worth telling."""

BEAT_S: Final = 30.0
"""Without a sign of life for so long, a worker is not counted."""

LITTLE: Final = 256 * 2**20
NONE: Final = 16 * 2**20
"""Bytes that are free where the home is: below the first, people should look; below the second, no run is accepted."""


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that a server stands on."""

    name: str
    grade: Grade
    message: str
    facts: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Readiness:
    """All of it."""

    parts: tuple[Part, ...]

    @property
    def grade(self) -> Grade:
        grades = {part.grade for part in self.parts}
        return "down" if "down" in grades else "degraded" if "degraded" in grades else "ok"


class Probe:
    """Asks what a server stands on; those who ask at the same time get one answer."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._asking: asyncio.Task[Readiness] | None = None
        self._at = 0.0

    async def readiness(self) -> Readiness:
        """Return how it is, at most a second old."""
        now = time.monotonic()
        if self._asking is None or (self._asking.done() and now - self._at > FRESH_S):
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> Readiness:
        try:
            return await look(self._runtime)
        finally:
            self._at = time.monotonic()


async def look(runtime: Runtime) -> Readiness:
    """Ask everything that a server stands on."""
    embedded = isinstance(runtime.journal, SqliteJournal)
    journal = await _timed("journal", lambda: _journal(runtime))
    asked: list[Awaitable[Part]] = [_timed("state", lambda: _state(runtime))]
    if journal.grade != "down":  # else each would wait for the same
        asked += [_timed(name, work) for name, work in _of_journal(runtime, embedded=embedded)]
    parts = await asyncio.gather(*asked)
    return Readiness((journal, *parts, _disk(runtime.home, embedded=embedded)))


def _of_journal(runtime: Runtime, *, embedded: bool) -> list[tuple[str, Callable[[], Awaitable[Part]]]]:
    workers = _workers_of_file if embedded else _workers_of_database
    return [
        ("workers", lambda: workers(runtime)),
        ("queue", lambda: _queue(runtime)),
        ("schedules", lambda: _schedules(runtime)),
    ]


async def _timed(name: str, work: Callable[[], Awaitable[Part]]) -> Part:
    try:
        async with asyncio.timeout(ANSWER_S):
            return await work()
    except (JournalUnavailable, StateUnavailable) as error:
        return Part(name, "down", error.problem.message, {"code": error.problem.code})
    except TimeoutError:
        return Part(name, "down", f"No answer within {ANSWER_S:g} seconds.", {"code": "no_answer"})


# ---- the journal
async def _journal(runtime: Runtime) -> Part:
    journal = await runtime.opened()
    began = time.perf_counter()
    if isinstance(journal, SqliteJournal):
        if await asyncio.to_thread(_is_held, runtime.home / JOURNAL):
            return Part("journal", "down", "Another program holds the journal.", {"code": "journal_held"})
    else:
        await journal.next_wake()
        state = await runtime.opened_state()
        (replica,) = await state.read(lambda connection: connection.execute(sa.text(_WRITABLE)).one())
        if replica:
            return Part("journal", "down", "The database takes no writes: it is a replica.", {"code": "read_only"})
    took_ms = round((time.perf_counter() - began) * 1000)
    since = getattr(journal, "failing_since", None)
    if since is not None:
        facts: JsonObject = {"code": "journal_failing", "for_s": round(time.monotonic() - since, 1)}
        return Part("journal", "down", "The journal does not take what is written.", facts)
    return Part("journal", "ok", f"It answers in {took_ms} ms.", {"ms": took_ms})


_WRITABLE: Final = "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool"


def _is_held(file: Path) -> bool:
    """Try to write for a while."""
    until = time.monotonic() + HELD_S
    with contextlib.closing(sqlite3.connect(file.resolve(), isolation_level=None, timeout=0.05)) as connection:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise JournalUnavailable(f"{file.name} cannot be written.") from None
                if time.monotonic() > until:
                    return True
            else:
                return False


async def _state(runtime: Runtime) -> Part:
    state = await runtime.opened_state()
    began = time.perf_counter()
    await state.run(lambda connection: connection.execute(sa.text("SELECT 1")).all())
    took_ms = round((time.perf_counter() - began) * 1000)
    return Part("state", "ok", f"It answers in {took_ms} ms.", {"ms": took_ms})


# ---- who works
def _works_here(runtime: Runtime) -> bool:
    return runtime.driver.host is not None


async def _workers_of_file(runtime: Runtime) -> Part:
    here = _works_here(runtime)
    others = max(0, await asyncio.to_thread(living, runtime.home / JOURNAL) - 1)
    facts: JsonObject = {"here": here, "other_processes": others}
    if here:
        return Part("workers", "ok", "This process works on runs.", facts)
    if others:
        return Part("workers", "ok", f"{others} other process(es) of this home are alive.", facts)
    return _nobody(facts)


async def _workers_of_database(runtime: Runtime) -> Part:
    state = await runtime.opened_state()
    asked = sa.text(signs_of_life(getattr(runtime.dispatcher, "schema")))  # noqa: B009  of PostgreSQL's dispatcher alone
    workers, processes, youngest = await state.read(lambda connection: connection.execute(asked).one())
    facts: JsonObject = {
        "here": _works_here(runtime),
        "workers": workers,
        "processes": processes,
        "youngest_beat_s": None if youngest is None else round(float(youngest), 1),
    }
    return Part("workers", "ok", f"{workers} at work.", facts) if workers else _nobody(facts)


def signs_of_life(schema: str) -> str:
    """Return the query for the workers that gave a sign lately, the processes with a beat, and the age of the youngest sign.

    Args:
        schema: That of the queue of jobs.
    """
    workers = f'"{schema}".procrastinate_workers'
    return (
        f"SELECT (SELECT count(*) FROM {workers} WHERE last_heartbeat > now() - make_interval(secs => {BEAT_S})),"  # noqa: S608  ours
        f" (SELECT count(*) FROM weft.processes WHERE at > clock_timestamp() - make_interval(secs => {ALIVE_S})),"
        f" (SELECT extract(epoch FROM min(now() - last_heartbeat)) FROM {workers})"
    )


def _nobody(facts: JsonObject) -> Part:
    message = "No worker is alive: runs are accepted, and wait. Start one: weft worker"
    return Part("workers", "degraded", message, {"code": "no_worker", **facts})


# ---- how late
async def _queue(runtime: Runtime) -> Part:
    late = await runtime.journal.ready(1_000, for_s=LATE_S)
    if late:
        count = f"{len(late):,}" + ("+" if len(late) == 1_000 else "")
        message = f"{count} runs have been ready for more than {LATE_S:g} seconds, and nobody has taken them."
        return Part("queue", "degraded", message, {"code": "runs_wait", "runs": len(late)})
    return Part("queue", "ok", "No run waits for long.")


async def _schedules(runtime: Runtime) -> Part:
    due = await runtime.journal.next_due()
    late_s = 0.0 if due is None else max(0.0, runtime.journal.now() - due)
    facts: JsonObject = {"late_s": round(late_s, 1)}
    if late_s > LATE_S:
        message = f"A schedule is {late_s:,.0f} seconds late; nobody starts what is due."
        return Part("schedules", "degraded", message, {"code": "schedules_late", **facts})
    return Part("schedules", "ok", "Nothing is overdue.", facts)


def _disk(home: Path, *, embedded: bool) -> Part:
    free = shutil.disk_usage(home).free
    facts: JsonObject = {"free_bytes": free}
    if free >= LITTLE:
        return Part("disk", "ok", f"{free // 2**20:,} MiB are free.", facts)
    grade: Grade = "down" if embedded and free < NONE else "degraded"
    return Part(
        "disk", grade, f"Only {free // 2**20:,} MiB are free where the home is.", {"code": "disk_full", **facts}
    )
