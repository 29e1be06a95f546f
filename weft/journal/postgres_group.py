"""What waits to be written: one transaction for all of it, and the next one as soon as that is answered."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, Final

import psycopg

from weft.errors import JournalRefused, JournalUnavailable
from weft.journal.postgres_life import Life
from weft.journal.postgres_link import COMMIT_S, Connection, Link, is_away, is_final
from weft.journal.postgres_turn import Enqueue, Piece, Turn

MOST_AT_ONCE: Final = 500
"""Pieces in one transaction; more would keep the first ones waiting."""

LARGEST_TURN: Final = 16_000_000
"""Bytes of payload in one transaction, unless one piece alone has more."""

LANES: Final = 2
"""Runs whose rows are waited for at a time; each holds a connection."""

PAUSES: Final = (0.0, 0.05, 0.1, 0.2, 0.4)
"""Seconds between tries while the database cannot be reached; the last one is repeated."""

_LOG = logging.getLogger("weft.journal")


class Group:
    """Does pieces of work in turns, one after the other, and tells each caller what became of his.

    A piece that refuses, or that the database will not take, is told to its caller alone. One that needs what somebody
    else has locked, or more than was locked for it, or that fails for another reason of its own, goes into a lane of its
    run, where it delays no other. What could not be written is tried again, for as long as somebody waits for it.
    """

    def __init__(self, link: Link, life: Life, *, enqueue: Enqueue | None) -> None:
        self.commits = 0  #: turns that were answered
        self.failing_since: float | None = None  #: instant of `time.monotonic()` since which nothing could be written
        self._link = link
        self._life = life
        self._enqueue = enqueue
        self._waiting: list[Piece] = []
        self._lanes: dict[str, list[Piece]] = {}
        self._lane_room = asyncio.Semaphore(LANES)
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._closed = False

    def begin(self) -> None:
        """Begin to take turns; again, it does nothing."""
        if not self._tasks:
            self._start(self._run())

    async def do(self, piece: Piece, deadline_s: float | None) -> Any:
        """Return what the piece decided, when that is on disk.

        Raises:
            JournalUnavailable: There was no answer in time; without a deadline, the journal was closed first.
            WeftError: The piece refused.
        """
        if self._closed:
            raise closed()
        self._waiting.append(piece)
        self._wake.set()
        done, _ = await asyncio.wait({piece.promise}, timeout=deadline_s)
        if not done:
            piece.promise.cancel()
            raise unanswered(deadline_s or 0)
        return piece.promise.result()

    def spawn(self, piece: Piece) -> None:
        """Do a piece that nobody waits for."""
        if not self._closed:
            self._waiting.append(piece)
            self._wake.set()

    async def close(self, deadline_s: float) -> None:
        """Write what waits, then end; what cannot be written by then is refused."""
        self._closed = True
        self._wake.set()
        until = time.monotonic() + deadline_s
        while self._tasks and (left := until - time.monotonic()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for piece in [*self._waiting, *(each for lane in self._lanes.values() for each in lane)]:
            piece.error = closed()
            piece.answer()

    # ---- turns
    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            batch = self._next()
            if batch:
                await self._settle(batch, waits=False)
                del self._waiting[: len(batch)]
            elif self._closed:
                return
            else:
                self._wake.clear()

    def _next(self) -> list[Piece]:
        """Return the first pieces that wait; they stay in the list until they are answered."""
        weight, count = 0, 0
        for piece in self._waiting[:MOST_AT_ONCE]:
            weight += piece.weight
            if count and weight > LARGEST_TURN:
                break
            count += 1
        return self._waiting[:count]

    async def _settle(self, pieces: Sequence[Piece], *, waits: bool) -> None:
        """Try until every piece is answered, has been left by its caller, or waits in a lane."""
        todo: list[Sequence[Piece]] = [pieces]
        failures = 0
        while todo:
            batch = [piece for piece in todo[0] if not piece.promise.done() and (waits or not self._in_lane(piece))]
            try:
                if batch:
                    await self._turn(batch, waits=waits)
            except Exception as error:  # noqa: BLE001  every piece gets an answer, whatever happened
                if any(piece.is_beat for piece in batch):
                    self._life.forget()
                if is_away(error):
                    self._failing(error)
                    failures = await _pause(failures)
                elif len(batch) > 1:  # the reason may be one of them
                    todo[:1] = [[piece] for piece in batch]
                elif is_final(error):
                    _refuse(batch[0], error)
                    todo.pop(0)
                elif not waits and not batch[0].is_beat:
                    self._leave(batch[0])
                    todo.pop(0)
                else:
                    _LOG.warning("journal_delayed %s %s", batch[0].run_id, described(error))
                    failures = await _pause(failures)
            else:
                todo.pop(0)
                if waits and (left := [piece for piece in batch if not piece.promise.done()]):
                    todo.insert(0, left)  # they need more than was locked for them, and have said what

    async def _turn(self, batch: list[Piece], *, waits: bool) -> None:
        async def work(connection: Connection) -> list[Piece]:
            turn = Turn(connection, batch, self._life, enqueue=self._enqueue, waits=waits)
            return await turn.run()

        if waits:
            async with self._lane_room:
                later = await self._link.use(work, deadline_s=COMMIT_S)
        else:
            later = await self._link.use_now(work, deadline_s=COMMIT_S)
        self.commits += 1
        self.failing_since = None
        for piece in batch:
            if piece not in later:
                piece.answer()
        for piece in later if not waits else ():
            self._leave(piece)

    def _failing(self, error: BaseException) -> None:
        if self.failing_since is None:
            self.failing_since = time.monotonic()
            _LOG.warning("journal_failing %s", described(error))

    # ---- lanes
    def _in_lane(self, piece: Piece) -> bool:
        """Put a piece behind the others of its run, if there is a lane for it."""
        lane = self._lanes.get(piece.run_id)
        if lane is None:
            return False
        if piece not in lane:
            lane.append(piece)
        return True

    def _leave(self, piece: Piece) -> None:
        if not self._in_lane(piece):
            self._lanes[piece.run_id] = [piece]
            self._start(self._lane(piece.run_id))

    async def _lane(self, run_id: str) -> None:
        lane = self._lanes[run_id]
        while lane:
            batch = lane[:]
            await self._settle(batch, waits=True)
            del lane[: len(batch)]
        del self._lanes[run_id]


async def _pause(failures: int) -> int:
    await asyncio.sleep(PAUSES[min(failures, len(PAUSES) - 1)])
    return failures + 1


def _refuse(piece: Piece, error: Exception) -> None:
    _LOG.error("journal_refused %s %s", piece.run_id, described(error))  # with its text, rows would be in the log
    piece.error = JournalRefused(
        f"The database does not take what is to be kept of run {piece.run_id!r} ({described(error)}).",
        code="not_storable",
        remedy="The log of the database's server tells why.",
    )
    piece.answer()


def described(error: BaseException) -> str:
    """Return the class of an error and its SQLSTATE; its text may hold what was written."""
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    return f"{type(error).__name__} {state}" if state else type(error).__name__


def closed() -> JournalUnavailable:
    return JournalUnavailable("The journal is closed.", code="journal_closed")


def unanswered(seconds: float) -> JournalUnavailable:
    return JournalUnavailable(
        f"The database gave no answer within {seconds:.0f} seconds; whether it kept what it was given is not known.",
        remedy="Look whether the database runs and can be reached.",
    )
