"""How a journal notices that its file was put back to an older state.

Beside the file stands its mark: the file's lineage and how many commits it had. The mark is written after a commit, so
that it never tells of more than the disk holds. A file with fewer commits than its mark, or of another lineage, is a
copy from before: what its runs have done since is not known (rule A14).
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from weft.journal.decisions import restored
from weft.journal.sqlite_file import patiently
from weft.journal.sqlite_schedules import hold_for_review

_LENGTH: Final = 64
_LOG = logging.getLogger("weft.journal")


class Mark:
    """The mark beside a journal's file.

    Args:
        path: The journal's file.
        clock: Seconds since 1970, UTC.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        real = path.resolve()
        self._path = real.with_name(f"{real.name}-mark")
        self._handle = -1  #: of the open file; below 0: none

    def begin(self, connection: sqlite3.Connection) -> None:
        """Compare file and mark; if the file was restored, hold its unfinished runs for review.

        Raises:
            sqlite3.Error: The file could not be read or written.
        """
        self.close()
        handle = self._handle = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
        patiently(lambda: _lock(handle))  # several processes may open a restored file: one of them holds its runs
        try:
            patiently(lambda: self._compare(connection))
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)

    def _compare(self, connection: sqlite3.Connection) -> None:
        marked = self._read()  # before the file: it never tells of more than that
        lineage, commits = connection.execute("SELECT lineage, commits FROM file").fetchone()
        if commits < 0 or (marked is not None and (marked[0] != lineage or marked[1] > commits)):
            lineage, commits = _begin_lineage(connection, self._clock())
            _LOG.warning("journal_restored %s", self._path)
        self._write(lineage, commits)

    def advance(self, lineage: str, commits: int) -> None:
        """Note a commit; it may be left to the next one when another process is noting its own."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # never wait: that process may be stopped
            return
        try:
            marked = self._read()
            if marked is None or (marked[0] == lineage and marked[1] < commits):
                self._write(lineage, commits)
        except OSError as error:  # what was committed counts all the same
            _LOG.warning("journal_unmarked %s %s", self._path, error.strerror)
        finally:
            fcntl.flock(self._handle, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _read(self) -> tuple[str, int] | None:
        lineage, _, commits = os.pread(self._handle, _LENGTH, 0).decode("ascii", "replace").partition(" ")
        return (lineage, int(commits)) if commits.strip().isdecimal() else None

    def _write(self, lineage: str, commits: int) -> None:
        os.pwrite(self._handle, f"{lineage} {commits}".ljust(_LENGTH).encode("ascii"), 0)


def _lock(handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        busy = sqlite3.OperationalError("the mark is held")
        busy.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise busy from None


def _begin_lineage(connection: sqlite3.Connection, now: float) -> tuple[str, int]:
    lineage = secrets.token_hex(16)
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("UPDATE file SET lineage = ?, commits = 1", (lineage,))
        connection.execute(
            "UPDATE statuses SET state = 'parked', reason = ?, epoch = epoch + 1, token = '', alone = 0, wake_at = NULL"
            " WHERE state IN ('ready', 'running', 'waiting', 'parked')",
            (restored(),),
        )
        connection.execute("DELETE FROM holds WHERE live = 1")  # their claims are void
        hold_for_review(connection, now)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return lineage, 1
