"""Where runs are kept during the trials: a home with an SQLite file, or a database of a PostgreSQL server."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import psycopg
from faults.aiming import AIM, DEAD_S, EFFECTS
from faults.ledger import Key, Snapshot
from faults.nursery import Child, Nursery, Stranger
from servers.postgres import Postgres

PACK = Path(__file__).resolve().parent / "pack"


_KEYS = "SELECT id, path, n, kind FROM records JOIN statuses USING (run)"


class Place(Protocol):
    """One journal, and the processes that use it."""

    directory: Path
    nursery: Nursery
    restart_s: float  #: within which a run must go on

    def env(self) -> dict[str, str]: ...

    def snapshot(self, living: Iterable[Child]) -> Snapshot: ...

    def states(self) -> dict[str, str]: ...


class _Place:
    def __init__(self, nursery: Nursery, directory: Path) -> None:
        self.nursery, self.directory = nursery, directory
        directory.mkdir(parents=True, exist_ok=True)
        self.effects = directory / "effects"
        self.effects.touch()
        self.home = directory / "home"
        self.more: dict[str, str] = {}

    def env(self) -> dict[str, str]:
        return {"WEFT_HOME": str(self.home), EFFECTS: str(self.effects), **self.more}

    def start(
        self, *words: str, aim: str | None = None, fresh: bool = False, env: dict[str, str] | None = None
    ) -> Child:
        """Start a process of Weft here."""
        given = {**self.env(), **(env or {}), **({AIM: aim} if aim else {})}
        return self.nursery.start(words, given, self.directory / "output", fresh=fresh)

    def worker(
        self, *words: str, aim: str | None = None, fresh: bool = False, env: dict[str, str] | None = None
    ) -> Child:
        return self.start("worker", "--json", "--pack", str(PACK), *words, aim=aim, fresh=fresh, env=env)

    def output(self) -> str:
        return (self.directory / "output").read_text(errors="replace")


class SqlitePlace(_Place):
    """A home with a journal in one file."""

    restart_s = 5.0

    @property
    def file(self) -> Path:
        return self.home / "journal.db"

    def snapshot(self, living: Iterable[Child] = (), *, stood: bool = False) -> Snapshot:
        """Look at a copy of the file and its log (pitfall 23), while every process stands still.

        A process that was killed between its last frame of the log and the index of it, which all share in memory, leaves
        a transaction that a recovery finds. Those who live do not see it, and write over it; nobody was told of it.
        """
        standing = [*living, *self.alone()]
        for child in standing:
            child.stop()
        try:
            with tempfile.TemporaryDirectory(dir=self.directory) as copy:
                for name in ("journal.db", "journal.db-wal"):
                    with contextlib.suppress(FileNotFoundError):
                        shutil.copy(self.file.with_name(name), copy)
                if not (Path(copy) / "journal.db").exists():
                    return Snapshot({}, set())
                found = read_file(Path(copy) / "journal.db")
                return replace(found, seen=self._seen()) if standing or stood else found
        finally:
            for child in standing:
                child.go_on()

    def alone(self) -> list[Child]:
        """Return the processes in which workers of this place try a single run (rule A19)."""
        mine = f"WEFT_HOME={self.home}".encode()
        found: list[Child] = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mine in (process / "environ").read_bytes().split(b"\0"):
                    words = (process / "cmdline").read_bytes().split(b"\0")
                    found += [Stranger(int(process.name))] * (b"--run" in words)
        return found

    def _seen(self) -> set[Key]:
        connection = sqlite3.connect(self.file, timeout=0.2)
        try:
            return set(connection.execute(_KEYS).fetchall())
        except sqlite3.OperationalError:  # who stands still holds a lock, or has not made the tables
            return set()
        finally:
            connection.close()

    def states(self) -> dict[str, str]:
        if not self.file.exists():
            return {}
        connection = sqlite3.connect(self.file, timeout=10)
        try:
            return dict(connection.execute("SELECT id, state FROM statuses").fetchall())
        finally:
            connection.close()


def read_file(file: Path) -> Snapshot:
    """Return what a journal's file holds, once it has been recovered."""
    connection = sqlite3.connect(file)
    try:
        [[said]] = connection.execute("PRAGMA integrity_check").fetchall()
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'statuses'").fetchone():
            return Snapshot({}, set(), None if said == "ok" else said)
        states = dict(connection.execute("SELECT id, state FROM statuses").fetchall())
        keys: set[Key] = set(connection.execute(_KEYS).fetchall())
        return Snapshot(states, keys, None if said == "ok" else said)
    except sqlite3.DatabaseError as error:
        return Snapshot({}, set(), str(error))
    finally:
        connection.close()


class PostgresPlace(_Place):
    """A database."""

    restart_s = 15.0

    def __init__(self, nursery: Nursery, directory: Path, address: str, *, dead_s: float | None = None) -> None:
        super().__init__(nursery, directory)
        self.address = address  #: for the judge, who takes no detour
        self.more |= {"WEFT_DATABASE_URL": address, "WEFT_WORKSPACE": "workflows"}
        if dead_s is not None:
            self.more[DEAD_S] = str(dead_s)
            self.restart_s = dead_s + 5

    def snapshot(self, living: Iterable[Child] = ()) -> Snapshot:
        rows, keys = self._ask("SELECT id, state FROM weft.states", "SELECT run_id, path, n, kind FROM weft.records")
        return Snapshot(dict(rows), set(keys))

    def states(self) -> dict[str, str]:
        [rows] = self._ask("SELECT id, state FROM weft.states")
        return dict(rows)

    def _ask(self, *questions: str) -> list[list[Any]]:
        until = time.monotonic() + 60
        while True:
            try:
                with psycopg.connect(self.address) as connection:
                    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                    return [connection.execute(each.encode()).fetchall() for each in questions]
            except psycopg.errors.UndefinedTable:
                return [[] for _ in questions]
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)


def templated(server: Postgres, nursery: Nursery, directory: Path) -> str:
    """Make a database in which Weft has made its tables, to copy others from; return its name."""
    address = server.database()
    place = PostgresPlace(nursery, directory, address)
    if place.worker("--until-idle").wait() != 0:
        raise RuntimeError(place.output())
    return address.rpartition("/")[2]


def copied(server: Postgres, template: str, name: str) -> str:
    """Make a database like the template, and return its address."""
    until = time.monotonic() + 30
    with psycopg.connect(server.address("postgres"), autocommit=True) as connection:
        while True:
            try:
                connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
            except psycopg.errors.ObjectInUse:  # a session of the template is just ending
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
            else:
                return server.address(name)
