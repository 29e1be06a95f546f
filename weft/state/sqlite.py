"""The tables in one SQLite file of the home."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from weft.errors import StateUnavailable
from weft.state.base import Attempt, Base
from weft.state.news import Told

BUSY_MS: Final = 250
"""How long SQLite itself waits for another writer; between two tries the deadline is looked at."""

LOOK_S: Final = 0.05
"""Between two looks whether another process has written."""

_LOG = logging.getLogger("weft.state")


class Sqlite(Base):
    """One file, one connection, one thread.

    Args:
        path: Its place; a link is followed to where it really is.
    """

    dialect = "sqlite"
    threads = 1

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity: tuple[int, int] | None = None
        self._changes = 0
        super().__init__(
            sa.create_engine("sqlite://", creator=self._connect, poolclass=StaticPool, hide_parameters=True)
        )

    @property
    def name(self) -> str:
        return str(self._path)

    def _connect(self) -> sqlite3.Connection:
        path = self._path.resolve()
        self._make_room(path)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
        self._identity = _identity(path)
        return connection

    def _make_room(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
                _sync_directory(path.parent)
            if path.is_file() and path.stat().st_nlink > 1:  # two names, two write-ahead logs
                raise StateUnavailable(
                    f"{path} has a second name (a hard link); two processes could miss each other's locks.",
                    code="state_linked",
                    remedy="Delete the other name.",
                )
        except OSError as error:
            raise StateUnavailable(
                f"{path} cannot be made ({error.strerror}).", remedy="See that this user can write there."
            ) from None

    # ---- one transaction
    def look(self) -> None:
        if self._identity is None:
            return
        if _identity(self._path.resolve()) != self._identity:
            self._engine.dispose()
            self._identity = None
            raise StateUnavailable(
                f"{self._path} was moved or replaced while it was in use.",
                code="state_moved_away",
                remedy="Put it back; what it holds now is used from the next call on.",
            )

    def begin(self, attempt: Attempt, *, writes: bool) -> str:
        self._changes = attempt.raw.total_changes
        return "BEGIN IMMEDIATE" if writes else "BEGIN"

    def has_written(self, connection: sa.Connection) -> bool:
        raw: Any = connection.connection.driver_connection
        return bool(raw.total_changes != self._changes)

    def alone(self, connection: sa.Connection) -> None:
        """Nothing more is needed: who writes is alone."""

    def is_passing(self, error: DBAPIError) -> bool:
        return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

    def is_undone(self, error: DBAPIError) -> bool:
        return self.is_passing(error)

    def unavailable(self, error: DBAPIError | None) -> StateUnavailable:
        if error is None or self.is_passing(error):
            return StateUnavailable(
                f"{self._path} is held by another program.", code="state_busy", remedy="Wait for it, or end it."
            )
        self._engine.dispose()  # a connection that met a fault of the disk is not asked again
        name = getattr(error.orig, "sqlite_errorname", "SQLITE_ERROR")
        _LOG.error("state_failed %s %s", self._path, name)
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            remedy = "Put a backup in its place, or move the file away to begin anew."
        elif name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            remedy = "Make room on the disk, and see that it works."
        else:
            remedy = "See that this user can write to it and beside it."
        return StateUnavailable(f"{self._path} cannot be used ({name}).", remedy=remedy)

    def cut(self, attempt: Attempt) -> None:
        if attempt.raw is not None:
            attempt.raw.interrupt()

    # ---- news
    async def watch(self, told: Told) -> None:
        # A look is a read of shared memory (20 µs), and does not wait: a thread would cost more.
        connection = sqlite3.connect(self._path.resolve(), isolation_level=None, timeout=0)
        try:
            last = _version(connection)
            told.tell()
            while _identity(self._path.resolve()) == self._identity:
                await asyncio.sleep(LOOK_S)
                version = _version(connection) if told.waiting else last
                if version not in (last, None):
                    last = version
                    told.tell()
        finally:
            connection.close()


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Set what durability needs and read it back."""
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA fullfsync=ON")  # macOS: without it a disk may keep what it has called written
    connection.execute("PRAGMA foreign_keys=ON")
    synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
    if (mode, synchronous) != ("wal", 2):
        raise StateUnavailable(
            f"{path} cannot be kept durable: journal_mode is {mode}, synchronous is {synchronous}; "
            "wal and 2 are needed.",
            remedy="Choose another directory with --home or WEFT_HOME.",
        )


def _version(connection: sqlite3.Connection) -> int | None:
    """Return a number that changes with every commit of another connection; None: not to be had right now."""
    try:
        return int(connection.execute("PRAGMA data_version").fetchone()[0])
    except sqlite3.OperationalError:
        return None


def _code(error: DBAPIError) -> int | None:
    code = getattr(error.orig, "sqlite_errorcode", None)  # with details in its upper bits (sqlite.org/rescode.html §2)
    return None if code is None else code & 0xFF


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
