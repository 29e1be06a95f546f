"""The threads of a process that read the journal's file, so that no reader queues behind a writer.

A reader sees everything that was committed before it was asked.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from weft.errors import JournalUnavailable
from weft.journal.sqlite_file import BUSY_MS, failed, is_busy

T = TypeVar("T")

THREADS: Final = 4
"""Long searches at a time, before a short question has to wait."""


class Reader:
    """Asks the file of a journal that is open.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ThreadPoolExecutor-weft-journal")
        self._mine = threading.local()
        self._connections: set[sqlite3.Connection] = set()
        self._closed = False

    async def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Return the answer to a question; all its statements see the same state.

        Raises:
            JournalUnavailable: The file could not be read.
        """
        if self._closed:
            raise JournalUnavailable("The journal is closed.", code="journal_closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, question)

    async def close(self) -> None:
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    # ---- in a thread
    def _answer(self, question: Callable[[sqlite3.Connection], T]) -> T:
        while True:
            try:
                connection = self._connection()
                connection.execute("BEGIN")
                try:
                    return question(connection)
                finally:
                    connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._drop()
                if not is_busy(error) or self._closed:
                    raise failed(self._path, error, "read") from None

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._mine.connection = connect(self._path)
            self._connections.add(connection)
        return connection

    def _drop(self) -> None:
        connection: sqlite3.Connection | None = getattr(self._mine, "connection", None)
        if connection is not None:
            self._mine.connection = None
            self._connections.discard(connection)
            connection.close()


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection that can only read."""
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=rw",  # SQLite itself has to write beside the file, even to read it
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_MS / 1000,
    )
    connection.execute("PRAGMA query_only=ON")
    return connection
