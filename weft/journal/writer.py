"""The one thread of a process that touches the journal's file.

Everything that waits is one transaction, so that a hundred runs share one flush of the disk. A promise is kept after
COMMIT and never before. First come, first written: what a run wrote earlier is never less durable than what it wrote
later.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from weft.errors import JournalUnavailable, WeftError
from weft.journal.sqlite_file import Migrations, failed, is_busy, open_file
from weft.journal.sqlite_mark import Mark

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

MOST_AT_ONCE: Final = 1_000
"""Pieces of work in one transaction; more would keep the first ones waiting."""

FAULTS_OF_WORK: Final = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.NotSupportedError, sqlite3.ProgrammingError)
"""Errors that say something of what was to be written, nothing of the file."""

_LOG = logging.getLogger("weft.journal")


@dataclass(slots=True)
class _Waiting:
    work: Work
    promise: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None

    def answer(self) -> None:
        if self.promise.done():  # whoever asked has gone
            return
        if self.error is None:
            self.promise.set_result(self.result)
        else:
            self.promise.set_exception(self.error)


class Writer:
    """Does pieces of work on the file, many in one transaction.

    A piece of work may raise a `WeftError` to refuse, and then must not have written anything; the others go on.
    """

    def __init__(self, path: Path, migrations: Migrations, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._migrations = migrations
        self._mark = Mark(path, clock)
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None  #: of the thread
        self._closed = False
        self._makes = True  #: the file, if it is not there: once, and never again in the place of one that was moved
        self.commits = 0  #: so far
        self.held_since: float | None = None  #: instant of `time.monotonic()` from which another program holds the file
        self.failing_since: float | None = None  #: the same, from which nothing could be written

    async def open(self) -> None:
        """Return when the file is open; other programs that hold it are not waited for.

        Raises:
            JournalUnavailable: It cannot be opened.
        """
        await self.do(_nothing)

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do a piece of work and return its result when it is on disk.

        Raises:
            JournalUnavailable: It could not be written; whether it was is not known.
            WeftError: The work refused.
            Exception: The work is at fault; nothing of it was written.
        """
        if self._closed:
            raise JournalUnavailable("The journal is closed.", code="journal_closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="weft-journal", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        waiting = _Waiting(work, loop.create_future(), loop)
        self._queue.put(waiting)
        result: T = await waiting.promise
        return result

    async def close(self) -> None:
        """Write what waits, then let go of the file."""
        self._closed = True
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    # ---- in the thread
    def _run(self) -> None:
        batch: list[_Waiting] = []
        while self._next(batch):
            try:
                self._together(batch)
            except Exception as error:  # noqa: BLE001  one of them is at fault: each is tried by itself
                self._let_go()
                for waiting in batch:
                    self._alone(waiting, error if len(batch) == 1 else None)
            _answer(batch)
        self._let_go()
        self._mark.close()

    def _together(self, batch: list[_Waiting]) -> None:
        try:
            self._commit(self._opened(), [waiting for waiting in batch if waiting.work is not _nothing])
        except (OSError, sqlite3.DatabaseError, JournalUnavailable) as error:
            if isinstance(error, FAULTS_OF_WORK):
                raise
            self._let_go()  # whether the disk kept what was being written is not knowable
            if self.failing_since is None:
                self.failing_since = time.monotonic()
            told = error if isinstance(error, JournalUnavailable) else failed(self._path, error, "written")
            for waiting in batch:
                waiting.result, waiting.error = None, told

    def _alone(self, waiting: _Waiting, error: Exception | None) -> None:
        waiting.result, waiting.error = None, error
        if error is None:
            try:
                self._together([waiting])
            except Exception as fault:  # noqa: BLE001  whoever asked is told
                self._let_go()
                waiting.result, waiting.error = None, fault

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = open_file(self._path, self._migrations, make=self._makes)
            try:
                self._mark.begin(connection)
            except BaseException:
                connection.close()
                raise
            self._connection, self._makes = connection, False
        return self._connection

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _next(self, batch: list[_Waiting]) -> bool:
        """Fill `batch` with what waits, or wait for something; tell whether there is more to come."""
        batch.clear()
        first = self._queue.get()
        while first is not None:
            batch.append(first)
            if len(batch) == MOST_AT_ONCE or self._queue.empty():
                return True
            first = self._queue.get()
        if batch:
            self._queue.put(None)  # the end comes after what waits
        return bool(batch)

    def _commit(self, connection: sqlite3.Connection, batch: list[_Waiting]) -> None:
        if not batch:
            return
        self._begin(connection)
        changes = connection.total_changes
        for waiting in batch:
            waiting.result = waiting.error = None
            try:
                waiting.result = waiting.work(connection)
            except WeftError as refusal:
                waiting.error = refusal
        if connection.total_changes == changes:
            connection.execute("ROLLBACK")
            return
        ((lineage, commits),) = connection.execute("UPDATE file SET commits = commits + 1 RETURNING lineage, commits")
        connection.execute("COMMIT")
        self.commits += 1
        self.failing_since = None
        self._mark.advance(lineage, commits)

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction; while another program holds the file, wait without end: nothing is lost by waiting."""
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                if self.held_since is None:
                    self.held_since = time.monotonic()
                    _LOG.warning("journal_held %s", self._path)
            else:
                self.held_since = None
                return


def _nothing(connection: sqlite3.Connection) -> None:
    """Ask for no more than that the file is open."""


def _answer(batch: list[_Waiting]) -> None:
    loops = {waiting.loop for waiting in batch}
    for loop in loops:
        mine = [waiting for waiting in batch if waiting.loop is loop]
        try:
            loop.call_soon_threadsafe(_answer_all, mine)
        except RuntimeError:  # the loop has closed: nobody waits there any more
            _LOG.debug("journal_answers_unheard %s", len(mine))


def _answer_all(waiting: list[_Waiting]) -> None:
    for each in waiting:
        each.answer()
