"""The ring in a file of its own beside the journal: a commit there must not wait for a disk, nor the journal's for it."""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

from weft.live.frames import EVERYBODY, Draft, Frame, mark
from weft.live.ring import KEPT, KEPT_S, LEASE_S, TRIMMED_EVERY, Head, RingUnavailable

T = TypeVar("T")

BUSY_MS: Final = 2_000

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS ring (one INTEGER PRIMARY KEY CHECK (one = 1), era TEXT NOT NULL, floor INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS frames (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, topic TEXT NOT NULL, event TEXT NOT NULL, data TEXT NOT NULL,
    once TEXT UNIQUE
);
CREATE INDEX IF NOT EXISTS frames_topic ON frames (topic, id);
CREATE TABLE IF NOT EXISTS wanted (topic TEXT PRIMARY KEY, since REAL NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
"""


class SqliteRing:
    """Frames in an SQLite file that is made by the first who listens.

    Args:
        file: Where it lies. One that is damaged, as a power cut may leave it, is thrown away.
    """

    look_s = 0.05

    def __init__(self, file: Path) -> None:
        self._file = file
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self.era = ""
        self._seen = -1
        self._writes = 0

    # ---- what every ring can do
    def wanted(self) -> frozenset[str]:
        if self._connection is None and not self._file.exists():
            return frozenset()

        def read(connection: sqlite3.Connection) -> frozenset[str]:
            rows = connection.execute("SELECT topic FROM wanted WHERE until > ?", (time.time(),))
            return frozenset(topic for (topic,) in rows)

        return self._done(read)

    def attend(self, topics: Collection[str]) -> Head:
        def attend(connection: sqlite3.Connection) -> Head:
            now = time.time()
            known = self._since(connection, topics, now)
            connection.executemany(
                "INSERT INTO wanted VALUES (?, ?, ?) ON CONFLICT (topic) DO UPDATE SET"
                " since = CASE WHEN until > ? THEN since ELSE excluded.since END, until = excluded.until",
                [(topic, now, now + LEASE_S, now) for topic in topics],
            )
            new = frozenset(topics) - known.keys()
            if new:  # its place tells from when on frames of them are here
                self._insert(connection, [Draft(EVERYBODY, "listened", {})], now)
            (floor,) = connection.execute("SELECT floor FROM ring").fetchone()
            (number,) = connection.execute("SELECT coalesce(max(id), ?) FROM frames", (floor,)).fetchone()
            return Head(self.era, number, floor, self._since(connection, topics, now), new)

        return self._done(lambda connection: _written(connection, lambda: attend(connection)))

    def write(self, drafts: Sequence[Draft]) -> None:
        self._writes += 1
        trims = self._writes % TRIMMED_EVERY == 0

        def write(connection: sqlite3.Connection) -> None:
            now = time.time()
            self._insert(connection, drafts, now)
            if trims:
                _trim(connection, now)

        self._done(lambda connection: _written(connection, lambda: write(connection)))

    def read(self, after: int, upto: int | None, topics: Collection[str] | None, limit: int) -> list[tuple[int, Frame]]:
        where, values = "id > ? AND id <= ?", [after, 2**63 - 1 if upto is None else upto]
        if topics is not None:
            named = [EVERYBODY, *topics]
            where += f" AND topic IN ({', '.join('?' * len(named))})"
            values += named  # type: ignore[arg-type]
        asked = f"SELECT id, topic, event, data FROM frames WHERE {where} ORDER BY id LIMIT ?"  # noqa: S608  no foreign text
        return self._done(lambda connection: list(self._frames(connection.execute(asked, [*values, limit]))))

    def outputs(self, topic: str) -> list[tuple[int, Frame]]:
        asked = "SELECT id, topic, event, data FROM frames WHERE topic = ? AND event = 'output' ORDER BY id"
        return self._done(lambda connection: list(self._frames(connection.execute(asked, (topic,)))))

    def kept_at(self, number: int) -> float | None:
        def read(connection: sqlite3.Connection) -> float | None:
            row = connection.execute("SELECT at FROM frames WHERE id = ?", (number,)).fetchone()
            return None if row is None else float(row[0])

        return self._done(read)

    def has_news(self) -> bool:
        def read(connection: sqlite3.Connection) -> bool:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            before, self._seen = self._seen, int(version)
            return before != self._seen

        return self._done(read)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # ---- inside
    def _insert(self, connection: sqlite3.Connection, drafts: Sequence[Draft], now: float) -> None:
        connection.executemany(
            "INSERT OR IGNORE INTO frames (at, topic, event, data, once) VALUES (?, ?, ?, ?, ?)",
            [(now, each.topic, each.event, each.text(), each.once) for each in drafts],
        )

    def _since(self, connection: sqlite3.Connection, topics: Collection[str], now: float) -> dict[str, float]:
        rows = connection.execute("SELECT topic, since FROM wanted WHERE until > ?", (now,))
        return {topic: since for topic, since in rows if topic in topics}

    def _frames(self, rows: sqlite3.Cursor) -> Iterator[tuple[int, Frame]]:
        for number, topic, event, data in rows:
            yield number, Frame(mark(self.era, number), topic, event, json.loads(data))

    def _done(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self._opened())
        except sqlite3.OperationalError as error:
            self.close()
            raise RingUnavailable(str(error)) from None
        except sqlite3.DatabaseError as error:  # it is damaged: nothing in it is worth a repair
            self.close()
            for end in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    Path(f"{self._file}{end}").unlink()
            raise RingUnavailable(str(error)) from None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None and self._is_here():
            return self._connection
        self.close()
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with contextlib.suppress(FileExistsError):
                self._file.touch(mode=0o600, exist_ok=False)
            self._inode = self._file.stat().st_ino
        except OSError as error:
            raise RingUnavailable(str(error)) from None
        connection = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
        self._connection = connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_size_limit = 4000000")

        def make() -> str:
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute("INSERT OR IGNORE INTO ring VALUES (1, ?, 0)", (secrets.token_hex(4),))
            (era,) = connection.execute("SELECT era FROM ring").fetchone()
            return str(era)

        self.era = _written(connection, make)
        self._seen = -1
        return connection

    def _is_here(self) -> bool:
        """Whether the file that is open is the one that the others open."""
        try:
            return self._file.stat().st_ino == self._inode
        except OSError:
            return False


def _written(connection: sqlite3.Connection, work: Callable[[], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work()
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return result


def _trim(connection: sqlite3.Connection, now: float) -> None:
    (last,) = connection.execute(
        "SELECT max(coalesce((SELECT max(id) FROM frames) - ?, 0),"
        " coalesce((SELECT max(id) FROM frames WHERE at < ?), 0))",
        (KEPT, now - KEPT_S),
    ).fetchone()
    connection.execute("DELETE FROM frames WHERE id <= ?", (last,))
    connection.execute("UPDATE ring SET floor = max(floor, ?)", (last,))
    connection.execute("DELETE FROM wanted WHERE until < ?", (now - KEPT_S,))
