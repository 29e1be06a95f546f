"""The ring in unlogged tables of the database: every process of an installation hears every other one."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import psycopg

from weft.journal.postgres_link import CONNECT
from weft.live.frames import EVERYBODY, Draft, Frame, mark
from weft.live.ring import KEPT, KEPT_S, LEASE_S, TRIMMED_EVERY, Head, RingUnavailable

T = TypeVar("T")
Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

LOCK: Final = 0x57EF_11FE
"""Of the transaction that keeps frames: whoever holds it gives out the next ids, and has committed them before the next."""

SCHEMA: Final = """
CREATE UNLOGGED TABLE IF NOT EXISTS weft_live_ring (
    one integer PRIMARY KEY CHECK (one = 1), era text NOT NULL, last bigint NOT NULL, floor bigint NOT NULL
);
CREATE UNLOGGED TABLE IF NOT EXISTS weft_live_frames (
    id bigint PRIMARY KEY, at timestamptz NOT NULL, topic text NOT NULL, event text NOT NULL, data text NOT NULL,
    once text UNIQUE
);
CREATE INDEX IF NOT EXISTS weft_live_frames_topic ON weft_live_frames (topic, id);
CREATE UNLOGGED TABLE IF NOT EXISTS weft_live_wanted (
    topic text PRIMARY KEY, since timestamptz NOT NULL, until timestamptz NOT NULL
);
"""

INSERT: Final = (
    "INSERT INTO weft_live_frames SELECT %s + n, clock_timestamp(), topic, event, data, once"
    " FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) WITH ORDINALITY AS new (topic, event, data, once, n)"
    " ON CONFLICT (once) DO NOTHING"
)

LIMITS: Final = (
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = '5s'; SET LOCAL lock_timeout = '2s'"
)
"""A site may have another isolation by default, under which whoever waits for the lock would not see what was kept."""


class PostgresRing:
    """Frames in tables that are not logged: after a crash of the server they are empty, and the era is another one.

    Args:
        address: A connection string of libpq.
    """

    look_s = 0.1

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection: Connection | None = None
        self.era = ""
        self._seen = -1
        self._writes = 0

    # ---- what every ring can do
    def wanted(self) -> frozenset[str]:
        def read(connection: Connection) -> frozenset[str]:
            rows = connection.execute("SELECT topic FROM weft_live_wanted WHERE until > clock_timestamp()")
            return frozenset(topic for (topic,) in rows)

        return self._done(read)

    def attend(self, topics: Collection[str]) -> Head:
        named = sorted(set(topics))  # in one order, so that two processes never wait for each other

        def attend(connection: Connection) -> Head:
            era, last, floor = self._locked(connection)
            known = self._since(connection, named)
            connection.execute(
                "INSERT INTO weft_live_wanted SELECT topic, clock_timestamp(), clock_timestamp() + make_interval(secs => %s)"
                " FROM unnest(%s::text[]) AS asked (topic) ON CONFLICT (topic) DO UPDATE SET until = excluded.until, since ="
                " CASE WHEN weft_live_wanted.until > clock_timestamp() THEN weft_live_wanted.since ELSE excluded.since END",
                (LEASE_S, named),
            )
            new = frozenset(named) - known.keys()
            if new:  # its place tells from when on frames of them are here
                last = self._insert(connection, last, [Draft(EVERYBODY, "listened", {})])
            self.era = era
            return Head(era, last, floor, self._since(connection, named), new)

        return self._done(attend)

    def write(self, drafts: Sequence[Draft]) -> None:
        self._writes += 1
        trims = self._writes % TRIMMED_EVERY == 0

        def write(connection: Connection) -> None:
            _, last, _ = self._locked(connection)
            last = self._insert(connection, last, drafts)
            if trims:
                self._trim(connection, last)

        self._done(write)

    def read(self, after: int, upto: int | None, topics: Collection[str] | None, limit: int) -> list[tuple[int, Frame]]:
        named = None if topics is None else [EVERYBODY, *topics]

        def read(connection: Connection) -> list[tuple[int, Frame]]:
            era = self._era(connection)
            rows = connection.execute(
                "SELECT id, topic, event, data FROM weft_live_frames WHERE id > %s AND id <= %s"
                " AND (%s::text[] IS NULL OR topic = ANY(%s)) ORDER BY id LIMIT %s",
                (after, 2**63 - 1 if upto is None else upto, named, named, limit),
            )
            return list(_frames(era, rows))

        return self._done(read)

    def outputs(self, topic: str) -> list[tuple[int, Frame]]:
        asked = "SELECT id, topic, event, data FROM weft_live_frames WHERE topic = %s AND event = 'output' ORDER BY id"

        def read(connection: Connection) -> list[tuple[int, Frame]]:
            return list(_frames(self._era(connection), connection.execute(asked, (topic,))))

        return self._done(read)

    def kept_at(self, number: int) -> float | None:
        def read(connection: Connection) -> float | None:
            asked = "SELECT extract(epoch FROM at)::float8 FROM weft_live_frames WHERE id = %s"
            row = connection.execute(asked, (number,)).fetchone()
            return None if row is None else float(row[0])

        return self._done(read)

    def has_news(self) -> bool:
        def read(connection: Connection) -> bool:
            row = connection.execute("SELECT era, last FROM weft_live_ring").fetchone()
            before = self.era, self._seen
            self.era, self._seen = ("", -1) if row is None else (str(row[0]), int(row[1]))
            return before != (self.era, self._seen)

        return self._done(read)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # ---- inside
    def _locked(self, connection: Connection) -> tuple[str, int, int]:
        """Return era, last id and floor, which nobody else changes until the transaction ends."""
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        asked = "SELECT era, last, floor FROM weft_live_ring"
        found = connection.execute(asked).fetchone()
        if found is None:  # new, or empty after a crash of the server
            connection.execute("INSERT INTO weft_live_ring VALUES (1, %s, 0, 0)", (secrets.token_hex(4),))
            found = connection.execute(asked).fetchone()
        if found is None:
            raise RingUnavailable("the ring has no era")
        return str(found[0]), int(found[1]), int(found[2])

    def _insert(self, connection: Connection, last: int, drafts: Sequence[Draft]) -> int:
        texts = [each.text().replace("\\u0000", "\\ufffd") for each in drafts]
        columns = (
            [each.topic for each in drafts],
            [each.event for each in drafts],
            texts,
            [each.once for each in drafts],
        )
        connection.execute(INSERT, (last, *columns))
        connection.execute("UPDATE weft_live_ring SET last = %s", (last + len(drafts),))
        return last + len(drafts)

    def _since(self, connection: Connection, topics: Sequence[str]) -> dict[str, float]:
        asked = (
            "SELECT topic, extract(epoch FROM since)::float8 FROM weft_live_wanted"
            " WHERE until > clock_timestamp() AND topic = ANY(%s)"
        )
        return {topic: float(since) for topic, since in connection.execute(asked, (list(topics),))}

    def _era(self, connection: Connection) -> str:
        row = connection.execute("SELECT era FROM weft_live_ring").fetchone()
        return "" if row is None else str(row[0])

    def _trim(self, connection: Connection, last: int) -> None:
        asked = "SELECT max(id) FROM weft_live_frames WHERE at < clock_timestamp() - make_interval(secs => %s)"
        row = connection.execute(asked, (KEPT_S,)).fetchone()
        upto = max(last - KEPT, (row and row[0]) or 0)
        connection.execute("DELETE FROM weft_live_frames WHERE id <= %s", (upto,))
        connection.execute("UPDATE weft_live_ring SET floor = greatest(floor, %s)", (upto,))
        connection.execute(
            "DELETE FROM weft_live_wanted WHERE until < clock_timestamp() - make_interval(secs => %s)", (KEPT_S,)
        )

    def _done(self, work: Callable[[Connection], T]) -> T:
        """Do something in one transaction."""
        try:
            connection = self._opened()
            with connection.transaction():
                connection.execute(LIMITS)
                return work(connection)
        except psycopg.Error as error:
            self.close()
            raise RingUnavailable(type(error).__name__) from None

    def _opened(self) -> Connection:
        if self._connection is None or self._connection.closed:
            connection = psycopg.connect(self._address, autocommit=True, prepare_threshold=None, **CONNECT)
            self._connection = connection
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
                if connection.execute("SELECT to_regclass('weft_live_wanted')").fetchone() == (None,):
                    connection.execute(SCHEMA)
            self._seen = -1
        return self._connection


def _frames(era: str, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, Frame]]:
    for number, topic, event, data in rows:
        yield int(number), Frame(mark(era, int(number)), topic, event, json.loads(data))
