"""The journal in one SQLite file: the embedded default."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from weft.errors import JournalRefused, JournalUnavailable
from weft.journal import sqlite_meters, sqlite_purge, sqlite_schedules
from weft.journal import sqlite_news as others
from weft.journal import sqlite_reads as reads
from weft.journal import sqlite_writes as writes
from weft.journal.base import (
    Claim,
    Full,
    Kept,
    Listed,
    Meter,
    Occurrence,
    OccurrenceQuery,
    Purged,
    Record,
    RunQuery,
    RunRow,
    Schedule,
    ScheduleMove,
    ScheduleView,
    Settled,
    State,
    Status,
    Then,
    reference,
    refuse_large_artifact,
)
from weft.journal.decisions import refuse_gate, unlike
from weft.journal.life import Life, clear_away, is_alive
from weft.journal.reader import Reader, connect
from weft.journal.sqlite_file import back_up, failed, identity, is_busy, refuse_new_beside_live, was_moved
from weft.journal.sqlite_schema import MIGRATIONS
from weft.journal.writer import Writer
from weft.types import JsonObject

T = TypeVar("T")
_LOG = logging.getLogger("weft.journal")

LOOK_S: Final = 0.15
"""Between two looks for what other processes have written."""


class SqliteJournal:
    """Keeps runs in a file; any number of processes of one machine may use it at a time.

    Args:
        path: The file.
        lives: Where the processes that use the file have their locks; beside the file, if not given.
        clock: Seconds since 1970, UTC.
    """

    def __init__(self, path: Path, *, lives: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self.writer: Final = Writer(path, MIGRATIONS, clock)
        self._path = path
        self._lives = lives or path.resolve().parent / "alive"
        self._clock = clock
        self._life = Life(self._lives)
        self._file: tuple[int, int] | None = None  #: that was opened
        self._moved: JournalUnavailable | None = None  #: it is not at its place any more
        self._was_lost = False  #: at least one lock of this process
        self._reader: Reader | None = None
        self._watch: sqlite3.Connection | None = None
        self._seen = 0  #: `data_version` that `changed` has told of
        self._looked_at = 0.0  #: instant of `time.monotonic()`
        self._lost: dict[str, str] = {}  #: run → token of a claim whose answer was lost
        self._aims: dict[str, int] = {}  #: run → number of a cancel whose answer was lost

    # ---- the process
    @property
    def name(self) -> str:
        """The name of this process; it has another one from when its lock was lost."""
        return self._life.name

    async def open(self) -> None:
        if self._reader is not None:
            return
        await asyncio.to_thread(refuse_new_beside_live, self._path, self._lives)
        await self.writer.open()
        self._file = identity(self._path)
        await asyncio.to_thread(self._begin_life)
        self._reader = Reader(self._path)

    def _begin_life(self) -> None:
        clear_away(self._lives)
        self._life.begin()

    async def close(self) -> None:
        """Write what waits, then let go of the file."""
        await self.writer.close()
        if self._reader is not None:
            await self._reader.close()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self._life.end()

    def now(self) -> float:
        return self._clock()

    async def beat(self) -> None:
        """See that the lock still stands for this process, and the file is where it was; the kernel does the rest."""
        self._keep_alive()
        self._look_for_file()

    def _look_for_file(self) -> None:
        moved = self._reader is not None and identity(self._path) != self._file
        if moved and self._moved is None:
            _LOG.error("journal_moved %s", self._path)
        self._moved = was_moved(self._path) if moved else None

    def _keep_alive(self) -> None:
        """Begin a life under another name if somebody has deleted the lock: all others take the old one for dead."""
        if self._reader is not None and not self._life.holds():
            self._was_lost = True
            self._life.end()
            self._life = Life(self._lives)
            self._life.begin()

    async def changed(self, timeout_s: float) -> bool:
        """Return when something was committed, by this process too, or after `timeout_s`.

        It looks some seven times a second and takes no lock, so that an idle process costs next to nothing. It is meant
        for one caller at a time.
        """
        until = time.monotonic() + timeout_s
        while True:
            now = time.monotonic()
            pause_s = min(max(0.0, self._looked_at + LOOK_S - now), max(0.0, until - now))
            await asyncio.sleep(pause_s)
            version = self._version()
            self._looked_at = time.monotonic()
            if version != self._seen:
                self._seen = version
                return True
            if self._looked_at >= until:
                return False

    def _version(self) -> int:
        """Return a number that is another one after each commit; the same one while that cannot be told."""
        self._require_open()
        try:
            if self._watch is None:
                self._watch = connect(self._path)
                self._watch.execute("PRAGMA busy_timeout=0")  # the loop asks: it must not be held up
            return int(self._watch.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error as error:
            if is_busy(error):
                return self._seen
            if self._watch is not None:
                self._watch.close()
                self._watch = None
            raise failed(self._path, error, "read") from None

    async def confirm(self, claim: Claim) -> None:
        """Return if the lock that proves this process alive still stands, and the claim is of the same life.

        The kernel keeps a lock for as long as the process lives, so that it can be lost in one way only: somebody deletes
        its file (rule A13). From then on this process has another name, and nothing that it claimed before is confirmed.
        Nor is anything while the journal is not at its place: what comes of an effect could not be kept.
        """
        self._keep_alive()
        self._look_for_file()
        self._require_open()
        if self._was_lost:
            await self._ask(lambda connection: reads.confirm(connection, claim, self.name))

    # ---- documents
    async def keep_document(self, text: str) -> str:
        hash_ = hashlib.sha256(text.encode()).hexdigest()
        await self._do(lambda connection: writes.keep_document(connection, hash_, text))
        return hash_

    async def document(self, hash_: str) -> str:
        return await self._ask(lambda connection: reads.document(connection, hash_))

    # ---- runs
    async def accept(self, run: RunRow, *records: Record) -> Claim:
        refuse_gate(run)
        new = unlike(run.id, records, {})

        def work(connection: sqlite3.Connection, token: str) -> Claim:
            writes.keep_run(connection, run, new, Status("running", 1, self.name, self.now()), token)
            return Claim(run.id, 1, token)

        return await self._under_token(run.id, work)

    async def submit(self, run: RunRow) -> None:
        def work(connection: sqlite3.Connection, token: str) -> None:
            writes.keep_run(connection, run, (), Status("ready", 0, "", self.now()), token)

        await self._under_token(run.id, work)

    async def claim(self, run_id: str, *, alone: bool = False) -> Claim:
        def work(connection: sqlite3.Connection, token: str) -> Claim:
            return writes.claim(connection, Claim(run_id, 0, token), self.name, self.now(), alone=alone)

        return await self._under_token(run_id, work)

    async def _under_token(self, run_id: str, work: Callable[[sqlite3.Connection, str], T]) -> T:
        """Do what claims a run under a new token, or under that of the same call whose answer was lost."""
        token = self._lost.pop(run_id, None) or secrets.token_hex(16)
        try:
            return await self._do(lambda connection: work(connection, token))
        except (JournalUnavailable, asyncio.CancelledError):
            self._lost[run_id] = token
            raise

    async def release(self, run_id: str, *, ends: int) -> State:
        return await self._do(lambda connection: writes.release(connection, run_id, ends, self.now()))

    async def write(
        self,
        claim: Claim,
        news: int,
        records: Sequence[Record] = (),
        then: Then = None,
        *,
        children: Sequence[RunRow] = (),
        settled: Sequence[Settled] = (),
    ) -> None:
        given = writes.Write(claim, news, records, then, children, settled)
        await self._do(lambda connection: writes.write(connection, given, self.now()))

    async def hold(self, claim: Claim, news: int, begun: Record, meters: Sequence[Meter]) -> Full | None:
        return await self._do(lambda connection: writes.hold(connection, claim, news, begun, meters, now=self.now()))

    async def used(self, keys: Sequence[str], *, since: float | None = None, reserved: bool = False) -> dict[str, int]:
        sums = sqlite_meters.reserved if reserved else sqlite_meters.used
        return await self._ask(lambda connection: sums(connection, keys, since))

    async def load(self, run_id: str) -> Kept:
        return await self._ask(lambda connection: reads.load(connection, run_id))

    async def status(self, run_id: str) -> Listed:
        return await self._ask(lambda connection: reads.listed(connection, run_id))

    # ---- what others do to a run
    async def cancel(self, run_id: str) -> int:
        aim = self._aims.pop(run_id, None)

        def work(connection: sqlite3.Connection) -> int:
            nonlocal aim
            aim = others.cancel(connection, run_id, aim, self.now())
            return aim

        try:
            return await self._do(work)
        except JournalUnavailable:
            if aim is not None:
                self._aims[run_id] = aim
            raise

    async def signal(self, run_id: str, path: str, payload: str) -> None:
        await self._do(lambda connection: others.signal(connection, run_id, path, payload, self.now()))

    async def resume(self, run_id: str) -> None:
        await self._do(lambda connection: others.resume(connection, run_id, self.now()))

    # ---- what is to be done
    async def ready(self, limit: int, *, for_s: float = 0.0) -> list[str]:
        until = self.now() - for_s if for_s else reads.NEVER  # a clock that was set back hides nothing
        return await self._ask(lambda connection: reads.ready(connection, limit, until))

    async def wake(self, limit: int, *, only: str | None = None) -> list[str]:
        now = self.now()
        if not await self._ask(lambda connection: reads.due(connection, 1, now, only)):
            return []
        return await self._do(lambda connection: others.wake(connection, limit, now, only))

    async def next_wake(self) -> float | None:
        return await self._ask(reads.next_wake)

    async def abandoned(self) -> list[Listed]:
        def look(connection: sqlite3.Connection) -> list[Listed]:
            others = set(reads.owners(connection)) - {self.name}
            return reads.owned(connection, [name for name in sorted(others) if not is_alive(self._lives, name)])

        return await self._ask(look)

    async def attention(self) -> dict[str, int]:
        return await self._ask(lambda connection: reads.attention(connection, self.name))

    async def unfinished(self) -> list[Listed]:
        return await self._ask(reads.unfinished)

    # ---- schedules
    async def schedule(
        self, id_: str, think: Callable[[ScheduleView], ScheduleMove | None], keys: Sequence[str] = ()
    ) -> ScheduleMove | None:
        return await self._do(lambda connection: sqlite_schedules.decide(connection, id_, think, keys, self.now()))

    async def schedules(self) -> list[Schedule]:
        return await self._ask(sqlite_schedules.schedules)

    async def due(self, limit: int) -> list[str]:
        now = self.now()
        return await self._ask(lambda connection: sqlite_schedules.due(connection, limit, now))

    async def next_due(self) -> float | None:
        return await self._ask(sqlite_schedules.next_due)

    async def occurrences(self, query: OccurrenceQuery) -> list[Occurrence]:
        return await self._ask(lambda connection: sqlite_schedules.occurrences(connection, query))

    # ---- reading
    async def runs(self, query: RunQuery) -> list[Listed]:
        return await self._ask(lambda connection: reads.page(connection, query))

    # ---- files
    async def save_artifact(self, run_id: str, content: bytes, *, name: str, content_type: str) -> JsonObject:
        refuse_large_artifact(content, name)
        await self._do(lambda connection: writes.save_artifact(connection, run_id, content))
        artifact = hashlib.sha256(content).hexdigest()
        return reference(artifact, content, name=name, content_type=content_type)

    async def read_artifact(self, run_id: str, artifact: str) -> bytes:
        return await self._ask(lambda connection: reads.artifact(connection, run_id, artifact))

    async def purge(self, before: float, *, limit: int = 10_000) -> Purged:
        return await self._do(lambda connection: sqlite_purge.purge(connection, before, limit, now=self.now()))

    # ---- the file
    async def back_up(self, to: Path) -> None:
        """Write a copy of the journal, complete or not at all, while it is in use.

        Where the copy is put in the place of a journal, or opened as one, its unfinished runs are held for review: what
        they have done since is not known (rule A14).

        Raises:
            JournalRefused: `to` is the journal itself.
            JournalUnavailable: The copy could not be written.
        """
        self._require_open()
        await asyncio.to_thread(self._back_up, to)

    def _back_up(self, to: Path) -> None:
        if to.resolve() == self._path.resolve():
            raise JournalRefused(f"{to} is the journal itself.", remedy="Choose another place for the copy.")
        try:
            connection = sqlite3.connect(self._path.resolve(), isolation_level=None)
            try:
                back_up(connection, to, note="UPDATE file SET commits = -1")
            finally:
                connection.close()
        except (sqlite3.Error, OSError) as error:
            raise failed(to, error, "written") from None

    # ---- in here
    def _require_open(self) -> Reader:
        if self._reader is None:
            raise JournalUnavailable("The journal is not open.", code="journal_closed")
        if self._moved is not None:
            raise self._moved
        return self._reader

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._require_open()
        return await self.writer.do(work)

    async def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        return await self._require_open().ask(question)
