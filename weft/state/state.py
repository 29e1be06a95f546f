"""The tables beside the journal, opened when they are first needed and asked in threads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from weft.errors import StateUnavailable
from weft.state import tables
from weft.state.base import Attempt, Base
from weft.state.news import News, Told

T = TypeVar("T")

DEADLINE_S: Final = 10.0
"""Seconds that a transaction may take, with all its tries."""

OPENING_S: Final = 30.0
"""Seconds that opening may take: four processes may be making the same tables."""

PAUSE_S: Final = 0.02

_LOG = logging.getLogger("weft.state")


class State:
    """Tables in a file of the home, or in the database of a whole installation.

    Args:
        place: A path: an SQLite file, made when it is not there. A text: the address of a PostgreSQL database.
    """

    def __init__(self, place: Path | str) -> None:
        self._base = _base(place)
        self.dialect: Literal["sqlite", "postgresql"] = self._base.dialect
        self._threads: ThreadPoolExecutor | None = None
        self._opening: asyncio.Task[None] | None = None
        self._made = 0  #: how many tables are known to be there
        self._told = Told()
        self._watching: asyncio.Task[None] | None = None
        self._news = News(self._told, self._attend)

    async def open(self) -> None:
        """Open it, and make what is missing; again, it does nothing.

        Raises:
            StateUnavailable: It cannot be used; a later call tries anew.
        """
        if self._opening is None or (self._opening.done() and (self._opening.cancelled() or self._opening.exception())):
            self._opening = asyncio.create_task(self._make())
        await asyncio.shield(self._opening)

    async def close(self) -> None:
        """Close it. What is going on is waited for."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
            self._watching = None
        if self._opening is not None:
            if not self._opening.done():  # one that is done may be of a loop that has ended
                await asyncio.wait([self._opening])
            self._opening = None
        if self._threads is not None:
            threads, self._threads = self._threads, None
            await asyncio.get_running_loop().run_in_executor(threads, self._base.close)
            await asyncio.to_thread(threads.shutdown)

    async def run(self, work: Callable[[sa.Connection], T]) -> T:
        """Do `work` in one transaction that may write, and return its result.

        Args:
            work: Called in a thread; once more when another process was in its way, so that it must not do anything
                but speak to the database. What it raises undoes the transaction and is raised here.

        Raises:
            StateUnavailable: The database is away, too slow or broken. With the code `state_unsure` nobody can tell
                whether the transaction counts; with every other code it does not.
        """
        return await self._done(work, writes=True, deadline_s=DEADLINE_S)

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Do `work` that only reads, on one state of the database, without waiting for who writes. See `run`."""
        return await self._done(work, writes=False, deadline_s=DEADLINE_S)

    async def changed(self, timeout_s: float) -> bool:
        """Return True as soon as something may have been written since the last True, False after the time-out.

        For one listener; where there are several, each takes `news()`.
        """
        return await self._news.changed(timeout_s)

    def news(self) -> News:
        """Return an ear of one's own for what is written by this process and by others."""
        return News(self._told, self._attend)

    # ---- opening
    async def _make(self) -> None:
        def make(connection: sa.Connection) -> None:
            self._base.alone(connection)
            tables.make(connection)

        known = len(tables.metadata.tables)
        if await self._tried(tables.missing, writes=False, deadline_s=OPENING_S):
            await self._tried(make, writes=True, deadline_s=OPENING_S)
        self._made = known

    async def _done(self, work: Callable[[sa.Connection], T], *, writes: bool, deadline_s: float) -> T:
        await self.open()
        if len(tables.metadata.tables) > self._made:  # a room was entered since, that has tables of its own
            self._opening = asyncio.create_task(self._make())
            await asyncio.shield(self._opening)
        return await self._tried(work, writes=writes, deadline_s=deadline_s)

    # ---- one transaction
    async def _tried(self, work: Callable[[sa.Connection], T], *, writes: bool, deadline_s: float) -> T:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._base.threads, thread_name_prefix="ThreadPoolExecutor-weft-state")
        loop, attempt = asyncio.get_running_loop(), Attempt(time.monotonic() + deadline_s)

        def do() -> T:
            result, wrote = self._patiently(work, attempt, writes=writes)
            if wrote:
                with contextlib.suppress(RuntimeError):  # the loop has ended: nobody listens any more
                    loop.call_soon_threadsafe(self._told.tell)
            return result

        doing = loop.run_in_executor(self._threads, do)
        done, _ = await asyncio.wait({doing}, timeout=deadline_s + 1)
        if not done:  # a line on which nothing comes, and which nobody ends
            self._base.cut(attempt)
            done, _ = await asyncio.wait({doing}, timeout=1)
        if not done:
            doing.cancel()
            raise self._base.unavailable(None)
        return doing.result()

    def _patiently(self, work: Callable[[sa.Connection], T], attempt: Attempt, *, writes: bool) -> tuple[T, bool]:
        """Do one transaction until it is done, or clear that it will not be."""
        while True:
            try:
                return self._base.transact(work, attempt, writes=writes)
            except IntegrityError:
                raise
            except DBAPIError as error:
                if not self._base.is_passing(error) or time.monotonic() > attempt.until:
                    raise self._base.unavailable(error) from None
            except PoolTimeout:
                raise self._base.unavailable(None) from None
            time.sleep(PAUSE_S)

    # ---- news
    def _attend(self) -> None:
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            try:
                await self.open()
                await self._base.watch(self._told)
            except StateUnavailable as error:
                _LOG.info("state_deaf %s", error.problem.code)
            except Exception:  # noqa: BLE001  who listens would never hear anything again
                _LOG.exception("state_deaf")
            self._told.tell()  # something may have been written meanwhile
            await asyncio.sleep(1)


def _base(place: Path | str) -> Base:
    """Return the base of a place; the driver of the other is not loaded."""
    if isinstance(place, Path):
        from weft.state.sqlite import Sqlite  # noqa: PLC0415

        return Sqlite(place)
    from weft.state.postgresql import Postgresql  # noqa: PLC0415

    return Postgresql(place)
