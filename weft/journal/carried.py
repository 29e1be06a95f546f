"""What a move carries: the rows of the journal in a file, in the form that the database gives them."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from weft.journal import sqlite_writes as writes
from weft.journal.base import State
from weft.journal.health import in_use, living
from weft.journal.moving import UNFINISHED, is_sealed
from weft.journal.sqlite_file import advance, is_busy, open_file
from weft.journal.sqlite_mark import Mark
from weft.journal.sqlite_schema import MIGRATIONS


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the database, and where its rows come from."""

    name: str
    key: str  #: the column by which the rows are read back
    columns: str
    source: str  #: a query of the file
    as_there: Callable[[tuple[Any, ...]], tuple[Any, ...]] | None = None  #: what the database makes of a row
    shared: bool = False  #: others may hold the same rows
    own: int = 0  #: columns at the end in which those of others may differ
    known: str = "NOTHING"  #: what becomes of a row that others have put there
    is_compared: bool = True  #: with what the database has then: not where those of others cannot be told from ours


def _state(row: tuple[Any, ...]) -> tuple[Any, ...]:
    *rest, alone, doubt, queued, children = row
    return (*rest, bool(alone), bool(doubt), bool(queued), bool(children))


def _schedule(row: tuple[Any, ...]) -> tuple[Any, ...]:
    *rest, paused, retired = row
    return (*rest, bool(paused), bool(retired))


def _hold(row: tuple[Any, ...]) -> tuple[Any, ...]:
    *rest, live = row
    return (*rest, bool(live))


def _payload(row: tuple[Any, ...]) -> tuple[Any, ...]:
    run_id, hash_, content = row
    return run_id, hash_, bytes(content).decode()


TABLES: Final = (
    Table(
        "documents", "hash", "hash, content",
        "SELECT hash, text AS content FROM documents WHERE hash IN (SELECT document FROM runs JOIN carried USING (run)"
        " UNION SELECT document FROM schedules)",
        shared=True,
    ),
    Table(
        "runs", "id", "id, workflow, document, inputs, trigger, started_at, scheduled_at, origin",
        "SELECT s.id, s.workflow, r.document, r.inputs, r.trigger, s.started_at, r.scheduled_at, r.origin"
        " FROM carried JOIN runs r USING (run) JOIN statuses s USING (run) ORDER BY run",
    ),
    Table(
        "records", "run_id", "run_id, path, n, kind, seq, payload, hash",
        "SELECT s.id AS run_id, r.path, r.n, r.kind, row_number() OVER (PARTITION BY r.run ORDER BY r.seq), r.payload, r.blob"
        " FROM carried c CROSS JOIN statuses s ON s.run = c.run CROSS JOIN records r ON r.run = c.run",
    ),
    Table(
        "payloads", "run_id", "run_id, hash, payload",
        "SELECT DISTINCT s.id AS run_id, b.hash, b.content FROM records r JOIN carried USING (run) JOIN statuses s USING (run)"
        " JOIN blobs b ON b.hash = r.blob WHERE r.blob IS NOT NULL",
        as_there=_payload,
    ),
    Table(
        "files", "hash", "hash, content",
        "SELECT hash, content FROM blobs WHERE hash IN (SELECT hash FROM artifacts JOIN carried USING (run))",
        shared=True,
    ),
    Table(
        "artifacts", "run_id", "run_id, hash",
        "SELECT s.id AS run_id, a.hash FROM artifacts a JOIN carried USING (run) JOIN statuses s USING (run)",
    ),
    Table(
        "spent", "id", "id, purged_at",
        # The ids of what stays behind may not begin again either.
        "SELECT id, strftime('%s', 'now') + 0.0 AS purged_at FROM spent UNION ALL SELECT s.id, strftime('%s', 'now') + 0.0 FROM statuses s"
        " JOIN runs r USING (run) WHERE r.trigger <> 'null' AND run NOT IN (SELECT run FROM carried)",
        shared=True,
        own=1,
    ),
    Table(
        "schedules", "id", "id, workflow, source, spec, document, watermark, next_at, fire_at, paused, retired",
        "SELECT id, workflow, source, spec, document, watermark, next_at, fire_at, paused, retired FROM schedules",
        as_there=_schedule,
        shared=True,
        own=9,
        # One that is armed there stays as it is, and fires nothing that was decided about here.
        known="UPDATE SET watermark = greatest(schedules.watermark, excluded.watermark)",
    ),
    Table(
        "occurrences", "schedule || ' ' || key", "schedule, key, at, fate, decided_at, reason, run_id, count",
        "SELECT schedule, key, at, fate, decided_at, reason, run_id, count FROM occurrences",
        shared=True,
        own=6,
    ),
    Table(
        "meters", "key", "key, total", "SELECT key, total FROM meters",
        shared=True,
        own=1,
        known="UPDATE SET total = meters.total + excluded.total",
    ),
    Table(
        "holds", "key", "run_id, path, n, epoch, key, amount, at, window_s, live",
        "SELECT s.id AS run_id, h.path, h.n, h.epoch, h.key, h.amount, h.at, h.window_s, h.live"
        " FROM holds h LEFT JOIN carried c USING (run) LEFT JOIN statuses s ON s.run = c.run",
        as_there=_hold,
        is_compared=False,
    ),
    Table(
        "states", "id",
        "id, started_at, state, epoch, token, born, owner, since, changed_at, wake_at, news, crashes, size, claimed_size,"
        " records, reason, result, schedule, parent, parent_path, parent_n, gate, gate_limit, gate_policy, gate_at, alone, doubt,"
        " queued, children",
        # Before a gate only the order counts: those that were here come before those that will be there.
        "SELECT id, started_at, state, epoch, token, '', owner, changed_at, changed_at, wake_at, news, crashes, size,"
        " claimed_size, (SELECT count(*) FROM records r WHERE r.run = s.run), reason, result, schedule, parent, parent_path,"
        " parent_n, gate, gate_limit, gate_policy, CASE WHEN gate IS NOT NULL THEN s.run + 0.0 END, alone, doubt, queued, children"
        " FROM statuses s JOIN carried USING (run) JOIN runs USING (run) ORDER BY run",
        as_there=_state,
    ),
)  # fmt: skip
"""In the order in which they are written: a run is seen when its state is there."""


class Source:
    """The file, under its write lock. Left without `seal`, it is as it was before."""

    def __init__(self, file: Path, connection: sqlite3.Connection, *, held: bool) -> None:
        self.file = file
        self.held = held
        self.released = 0
        self.sealed_for: str | None = None
        self._connection = connection
        if is_sealed(connection):
            row = connection.execute("SELECT lineage, commits, place FROM sealed").fetchone()
            self.lineage, self.commits, self.sealed_for = row
        else:
            self.lineage, self.commits = connection.execute("SELECT lineage, commits FROM file").fetchone()

    def release(self, now: float) -> None:
        """Take the runs of dead owners from them; nobody lives on this file."""
        running = self._connection.execute("SELECT id, epoch FROM statuses WHERE state = 'running'").fetchall()
        for run_id, epoch in running:
            writes.release(self._connection, run_id, epoch, now)
        self.released = len(running)

    def choose(self, *, unfinished_only: bool) -> None:
        """Choose the runs to carry: all, or those that have not ended and those with an effect in doubt."""
        if self.sealed_for is not None:  # by the call that was cut off
            return
        where = f"WHERE {UNFINISHED} OR doubt = 1" if unfinished_only else ""
        self._connection.execute("CREATE TABLE carried(run INTEGER PRIMARY KEY) STRICT")
        self._connection.execute(f"INSERT INTO carried SELECT run FROM statuses {where}")  # noqa: S608  ours

    def counts(self) -> dict[str, int]:
        return {table.name: self._count(table) for table in TABLES if table.name != "states"}

    def _count(self, table: Table) -> int:
        return int(self._connection.execute(f"SELECT count(*) FROM ({table.source})").fetchone()[0])  # noqa: S608  ours

    def states(self) -> dict[State, int]:
        return dict(
            self._connection.execute(
                "SELECT state, count(*) FROM statuses JOIN carried USING (run) GROUP BY state"
            ).fetchall()
        )

    def ids(self, state: State | None = None) -> Iterator[str]:
        rows = self._connection.execute(
            "SELECT id FROM statuses JOIN carried USING (run) WHERE ?1 IS NULL OR state = ?1 ORDER BY run", (state,)
        )
        return (run_id for (run_id,) in rows)

    def rows(self, table: Table) -> Iterator[tuple[Any, ...]]:
        rows = self._connection.execute(table.source)
        return map(table.as_there, rows) if table.as_there is not None else rows

    def keys(self, table: Table) -> Iterator[str]:
        return (row[0] for row in self._connection.execute(f"SELECT DISTINCT {table.key} FROM ({table.source})"))  # noqa: S608  ours

    def seal(self, to: str) -> None:
        """Make every later write to the file fail, in whatever process, and keep what it held."""
        if self.sealed_for is None:
            self._connection.execute("CREATE TABLE sealed(lineage TEXT, commits INTEGER, place TEXT) STRICT")
            self._connection.execute("INSERT INTO sealed VALUES (?, ?, ?)", (self.lineage, self.commits, to))
            self._connection.execute("DROP TABLE file")
        self._connection.execute("COMMIT")
        self.sealed_for = to


@contextlib.contextmanager
def locked(file: Path, *, rehearsal: bool) -> Iterator[Source]:
    """Open the file and keep every other process from writing to it.

    Raises:
        JournalRefused: A process lives on it.
    """
    connection, held = _opened(file, rehearsal=rehearsal)
    try:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            raise in_use(file, None) from None
        if count := living(file):
            raise in_use(file, count)
        advance(connection, MIGRATIONS)  # of a rehearsal, or a file that an older Weft has sealed
        source = Source(file, connection, held=held)
        source.release(time.time())
        yield source
        if source.sealed_for is not None:
            _end_log(connection, file)
    finally:
        connection.close()


def _end_log(connection: sqlite3.Connection, file: Path) -> None:
    """Put everything into the file itself, so that it can be renamed."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
    if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        raise in_use(file, None)


def _opened(file: Path, *, rehearsal: bool) -> tuple[sqlite3.Connection, bool]:
    """Return a connection, and whether the file was restored; its unfinished runs are held for review then (A14)."""
    connection = sqlite3.connect(file.resolve(), isolation_level=None)
    if rehearsal or is_sealed(connection):
        return connection, False
    connection.close()
    connection = open_file(file, MIGRATIONS)
    mark = Mark(file)
    try:
        lineage = connection.execute("SELECT lineage FROM file").fetchone()
        mark.begin(connection)
        return connection, lineage != connection.execute("SELECT lineage FROM file").fetchone()
    except BaseException:
        connection.close()
        raise
    finally:
        mark.close()
