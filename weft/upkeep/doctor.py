"""Looks for whatever may keep an installation from working; changes nothing, and goes on whatever it finds."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import shutil
import socket
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from weft.connections.stored import store_at
from weft.errors import JournalUnavailable, NotFound, Problem, WeftError
from weft.journal.checking import check_database, check_file
from weft.journal.health import Health, database, of_database, of_file, rows
from weft.journal.moving import refuse_left_behind
from weft.journal.postgres_life import durability
from weft.journal.sqlite_file import NETWORK, file_system
from weft.runtime import DATABASE_URL, JOURNAL, STATE, Runtime
from weft.telemetry.switches import place_of_traces, without
from weft.upkeep.moving import left_beside
from weft.upkeep.readiness import LITTLE, NONE, signs_of_life
from weft.upkeep.reading import integrity_fault

Grade = Literal["ok", "warning", "error"]

PYTHON: Final = (3, 11)
LITELLM: Final = ((1, 102), (2,))
"""From the first on, and below the second; a test holds them against what is installed with Weft."""
LITELLM_REFUSED: Final = ((1, 106),)

CLOCK_S: Final = 2.0
"""How far the clocks of this machine and of the database may be apart."""
LARGE: Final = 2 * 2**30
"""Bytes of a journal above which looking at every page is left to `weft journal check`."""
PORT: Final = 8321


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look has found."""

    check: str
    grade: Grade
    message: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at."""

    home: Path
    environ: Mapping[str, str]
    open_runtime: Callable[[], Runtime]
    port: int = PORT

    @property
    def url(self) -> str | None:
        return self.environ.get(DATABASE_URL) or None


async def examine(patient: Patient) -> AsyncIterator[Finding]:
    """Look at everything, one after the other."""
    for look in (_versions, _home, _disk, _keys, _telemetry):
        for finding in look(patient):
            yield finding
    journal = _database(patient) if patient.url else _files(patient)
    async for finding in journal:
        yield finding
    async for finding in _workspace(patient):
        yield finding
    yield await asyncio.to_thread(_port, patient.port)


def _ok(check: str, message: str) -> Finding:
    return Finding(check, "ok", message)


def _of(check: str, problem: Problem) -> Finding:
    return Finding(check, "warning" if problem.severity == "warning" else "error", problem.message, problem.remedy)


# ---- the machine
def _versions(patient: Patient) -> Iterator[Finding]:
    told = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < PYTHON:
        yield Finding(
            "python", "error", f"Python is {told}; {'.'.join(map(str, PYTHON))} is needed.", "Install a newer one."
        )
    else:
        yield _ok("python", f"Python {told}")
    installed = importlib.metadata.version("litellm")
    version = _numbers(installed)
    refused = any(version[: len(each)] == each for each in LITELLM_REFUSED)
    if refused or not LITELLM[0] <= version < LITELLM[1]:
        low, high = (".".join(map(str, each)) for each in LITELLM)
        yield Finding(
            "litellm",
            "error",
            f"LiteLLM is {installed}; Weft was tried with versions from {low} to below {high}"
            f"{' except ' + '.'.join(map(str, LITELLM_REFUSED[0])) if refused else ''}.",
            "Install Weft anew: it brings the right one.",
        )
    else:
        yield _ok("litellm", f"LiteLLM {installed}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+", maxsplit=1)[0].split(".") if part.isdecimal())


def _home(patient: Patient) -> Iterator[Finding]:
    home = patient.home
    if not home.exists():
        yield Finding("home", "warning", f"{home} is not there yet.", "The first run makes it: weft run email-results")
        return
    if not home.is_dir() or not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(
            "home",
            "error",
            f"This user cannot write to {home}.",
            f"Give it to the user that runs Weft: chown -R USER {home}",
        )
        return
    kind = file_system(home.resolve())
    if kind in NETWORK and not patient.url:
        yield Finding(
            "home",
            "error",
            f"{home} lies on a network file system ({kind}).",
            "Choose a local directory with WEFT_HOME.",
        )
        return
    facts = home.stat()
    if stat.S_IMODE(facts.st_mode) & 0o077:
        yield Finding("home", "warning", f"Others may look into {home}.", f"Run: chmod 700 {home}")
    elif facts.st_uid != os.geteuid():
        yield Finding(
            "home", "warning", f"{home} belongs to another user ({facts.st_uid}).", "Run Weft as one user alone."
        )
    else:
        yield _ok("home", f"{home} is this user's alone.")


def _disk(patient: Patient) -> Iterator[Finding]:
    place = next(each for each in (patient.home, *patient.home.absolute().parents) if each.exists())
    free = shutil.disk_usage(place).free
    told = f"{free / 2**30:,.1f} GiB are free where the home is."
    if free < LITTLE:
        yield Finding("disk", "error" if free < NONE else "warning", told, "Make room.")
    else:
        yield _ok("disk", told)


def _telemetry(patient: Patient) -> Iterator[Finding]:
    place = place_of_traces(patient.environ)
    if place is None:
        return
    try:
        importlib.metadata.version("opentelemetry-exporter-otlp-proto-http")
        importlib.metadata.version("opentelemetry-sdk")
    except importlib.metadata.PackageNotFoundError as missing:
        yield _of("telemetry", without(str(missing.name)))
    else:
        yield _ok("telemetry", f"Traces go to {place}.")


# ---- connections
def _keys(patient: Patient) -> Iterator[Finding]:
    try:
        store = store_at(patient.home, patient.environ, patient.url)
        entries = store.entries()
        for entry in entries:
            if entry.secrets:
                store.opened(entry.name)
    except WeftError as error:
        yield from (_of("connections", problem) for problem in error.problems)
    else:
        told = f"{len(entries)} stored; the key fits." if entries else "None is stored here."
        yield _ok("connections", told)


# ---- the journal
async def _files(patient: Patient) -> AsyncIterator[Finding]:
    file = patient.home / JOURNAL
    try:
        health = await asyncio.to_thread(of_file, file)
        found = None if health.size > LARGE else await asyncio.to_thread(check_file, file)
    except NotFound as missing:
        yield Finding("journal", "warning", missing.problem.message, missing.problem.remedy)
        return
    except JournalUnavailable as error:
        yield _of("journal", error.problem)
        return
    for finding in _journal(health, () if found is None else found.problems, whole=found is not None):
        yield finding
    state = patient.home / STATE
    if state.exists():
        fault = await asyncio.to_thread(integrity_fault, state)
        if fault:
            yield Finding(
                "state", "error", f"{state} is damaged: {fault}.", "Put a backup in its place: weft restore FILE"
            )
        else:
            yield _ok("state", "The tables beside the journal are sound.")
    ahead = file.stat().st_mtime - time.time()
    if ahead > CLOCK_S:
        yield Finding(
            "clock",
            "error",
            f"The journal was written {ahead:,.0f} seconds from now: the clock was set back.",
            "Set the clock.",
        )
    yield _workers(health.processes, health)


def _journal(health: Health, problems: Iterable[Problem], *, whole: bool) -> Iterator[Finding]:
    told = [_of("journal", problem) for problem in (*problems, *health.warnings)]
    yield from told
    if health.held is not None:
        who = f"process {health.held.pid} ({health.held.program})" if health.held.pid else "another program"
        yield Finding("journal", "error", f"{who} holds the journal; nobody else can write.", "End it, or wait for it.")
    elif not any(each.grade == "error" for each in told):
        runs = sum(health.runs.values())
        yield _ok("journal", f"{health.place}: {runs:,} runs{', every page is sound' if whole else ''}.")
    if health.review:
        yield Finding(
            "review",
            "warning",
            f"{health.review} runs are held for review since the journal was restored.",
            "Look at each: weft runs list --state parked",
        )


def _workers(count: int, health: Health) -> Finding:
    open_ = sum(health.runs.get(state, 0) for state in ("ready", "running"))
    if count:
        return _ok("workers", f"{count} {'process is' if count == 1 else 'processes are'} alive.")
    waiting = f" {open_} runs wait for one." if open_ else ""
    return Finding("workers", "warning", f"No process is alive.{waiting}", "Start one: weft worker, or weft serve")


async def _database(patient: Patient) -> AsyncIterator[Finding]:
    from weft.dispatch.procrastinate import ProcrastinateDispatcher  # noqa: PLC0415  only a database has such a queue

    url = patient.url or ""
    for finding in await asyncio.to_thread(lambda: list(_left_behind(patient))):
        yield finding
    try:
        health, checked = await of_database(url), await check_database(url)
        async with database(url) as connection:
            before = time.time()
            [(theirs,)] = await rows(connection, "SELECT extract(epoch FROM clock_timestamp())::float8")
            after = time.time()
            settings = await durability(connection)
            [(workers, _, _)] = await rows(connection, signs_of_life(ProcrastinateDispatcher(url).schema))
    except NotFound as missing:
        yield Finding("journal", "warning", missing.problem.message, missing.problem.remedy)
        return
    except JournalUnavailable as error:
        yield _of("journal", error.problem)
        return
    known = {problem.message for problem in settings}
    for finding in _journal(health, [each for each in checked.problems if each.message not in known], whole=True):
        if finding.message not in known:
            yield finding
    if settings:
        for problem in settings:
            yield _of("durability", problem)
    else:
        yield _ok("durability", "The database keeps what it has acknowledged.")
    apart = max(before - theirs, theirs - after, 0.0)
    if apart > CLOCK_S:
        yield Finding(
            "clock", "warning", f"This machine and the database are {apart:,.1f} seconds apart.", "Set both by NTP."
        )
    else:
        yield _ok("clock", "This machine and the database agree on the time.")
    yield _workers(int(workers), health)


def _left_behind(patient: Patient) -> Iterator[Finding]:
    """Yield what still lies in the files of the home, where nobody looks while a database is named."""
    try:
        refuse_left_behind(patient.home / JOURNAL)
    except JournalUnavailable as error:
        yield _of("home", error.problem)
    if files := left_beside(patient.home):
        names = " and ".join(file.name for file in files)
        yield Finding(
            "home",
            "warning",
            f"{names} in {patient.home}: the tokens, connections and versions there do not count while {DATABASE_URL} is set.",
            "Carry them to the database: weft journal move. If they are not wanted, move the files away.",
        )


# ---- what people write
async def _workspace(patient: Patient) -> AsyncIterator[Finding]:
    try:
        runtime = patient.open_runtime()
    except WeftError as error:  # a pack, workspace.yaml, environments.yaml or connections.yaml
        for problem in error.problems:
            yield _of("settings", problem)
        return
    yield _ok("settings", "Packs, connections and settings can be read.")
    for name in sorted(runtime.registry.broken):
        yield Finding("packs", "error", f"The action {name} cannot be used.", "See: weft actions list")
    try:
        async with runtime:
            async for finding in _workflows(runtime):
                yield finding
    except WeftError as error:
        yield _of("workflows", error.problem)


async def _workflows(runtime: Runtime) -> AsyncIterator[Finding]:
    names, faulty = [facts.name for facts in await runtime.documents.list()], 0
    for name in names:
        try:
            await runtime.plan_of(name)
        except WeftError as error:
            faulty += 1
            problem = error.problems[0]
            place = ":".join(str(part) for part in (problem.where.file or name, problem.where.line) if part)
            yield Finding("workflows", "error", f"{place}: {problem.message}", "See all: weft validate")
    if not faulty:
        yield _ok("workflows", f"{len(names)} in {runtime.documents.place}, none has faults.")


def _port(port: int) -> Finding:
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except OSError:
            return Finding(
                "port", "warning", f"Port {port} is in use.", "It may be weft serve itself; --port names another one."
            )
    return _ok("port", f"Port {port} is free.")
