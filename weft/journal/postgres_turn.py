"""One transaction of the journal in PostgreSQL: everything that waits, in a few statements.

All rows are locked in the order of their ids, read, decided on in Python, and written back in bulk. What is kept for a
run is read after its row is locked, so that what another transaction wrote before it let go of the row is seen.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

import psycopg

from weft.errors import WeftError
from weft.journal.base import LARGEST_INLINE, Record, RecordKind, RunRow, State, Status
from weft.journal.decisions import Key, key
from weft.journal.postgres_life import FACTS, Life, suspended_clock
from weft.journal.postgres_link import Connection, Statement, begin, rolled_back, together

Enqueue: TypeAlias = "Callable[[psycopg.AsyncConnection[Any], Sequence[str]], Awaitable[None]]"

CHANNEL: Final = "weft"
"""Where processes hear that something is ready, cancelled or answered."""

_DOCUMENTS: Final = "SELECT hash FROM weft.documents WHERE hash = ANY(%s) ORDER BY hash FOR KEY SHARE"

_ACCEPT: Final = """
WITH kept AS (
    INSERT INTO weft.runs (id, workflow, document, inputs, trigger, started_at, scheduled_at, origin)
    SELECT x.* FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::float8[],
        %s::text[]) AS x(id, workflow, document, inputs, trigger, started_at, scheduled_at, origin)
    WHERE EXISTS (SELECT FROM weft.documents AS d WHERE d.hash = x.document)
        AND NOT EXISTS (SELECT FROM weft.spent AS s WHERE s.id = x.id)
    ON CONFLICT (id) DO NOTHING RETURNING id, started_at, origin
), files AS (
    INSERT INTO weft.artifacts (run_id, hash)
    SELECT kept.id, a.hash FROM kept JOIN weft.artifacts AS a ON a.run_id = kept.origin
), clock AS (SELECT extract(epoch FROM clock_timestamp())::float8 AS now)
INSERT INTO weft.states (id, started_at, born, token, epoch, state, owner, since, changed_at)
SELECT kept.id, kept.started_at, x.token, x.token, x.epoch, x.state, x.owner, clock.now, clock.now
FROM kept JOIN unnest(%s::text[], %s::text[], %s::bigint[], %s::text[], %s::text[]) AS x(id, token, epoch, state, owner)
    ON x.id = kept.id, clock
RETURNING id
"""

_INHERIT: Final = """
WITH kept AS (
    SELECT a.run_id, f.hash FROM weft.artifacts AS a JOIN weft.files AS f ON f.hash = a.hash
    WHERE a.run_id = ANY(%s) FOR KEY SHARE OF f
)
INSERT INTO weft.artifacts (run_id, hash)
SELECT r.id, kept.hash FROM weft.runs AS r JOIN kept ON kept.run_id = r.origin WHERE r.id = ANY(%s)
ON CONFLICT DO NOTHING
"""

_COLUMNS: Final = """
    id, state, epoch, owner, changed_at, wake_at, news, crashes, alone, size, reason, result,
    token, born, since, claimed_size, records, doubt
"""

_LOCK: Final = f"SELECT {_COLUMNS} FROM weft.states WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"  # noqa: S608  constants

_KNOWN: Final = """
SELECT r.run_id, r.path, r.n, r.kind, coalesce(r.payload, l.payload)
FROM (SELECT DISTINCT * FROM unnest(%s::text[], %s::text[], %s::integer[], %s::text[])) AS x(run_id, path, n, kind)
JOIN weft.records AS r ON r.run_id = x.run_id AND r.path = x.path AND r.n = coalesce(x.n, r.n)
    AND r.kind = coalesce(x.kind, r.kind)
LEFT JOIN weft.payloads AS l ON l.run_id = r.run_id AND l.hash = r.hash
"""

_RECORD: Final = """
INSERT INTO weft.records (run_id, path, n, kind, seq, payload, hash)
SELECT * FROM unnest(%s::text[], %s::text[], %s::integer[], %s::text[], %s::integer[], %s::text[], %s::text[])
"""

_BEATS: Final = "SELECT name, beat FROM weft.processes WHERE name = ANY(%s) ORDER BY name FOR SHARE"
"""Read under a lock: an owner that comes back to life waits with its next beat, and then sees what it has lost."""

_NOTHING: Final[Statement] = ("SELECT true WHERE false", ())

_LARGE: Final = "INSERT INTO weft.payloads (run_id, hash, payload) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"

_CHANGE: Final = """
UPDATE weft.states AS s SET state = x.state, epoch = x.epoch, owner = x.owner, changed_at = x.changed_at,
    wake_at = x.wake_at, news = x.news, crashes = x.crashes, alone = x.alone, size = x.size, reason = x.reason,
    result = x.result, token = x.token, since = x.since, claimed_size = x.claimed_size, records = x.records,
    doubt = x.doubt
FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::text[], %s::float8[], %s::float8[], %s::integer[], %s::integer[],
    %s::boolean[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::float8[], %s::bigint[], %s::integer[],
    %s::boolean[]) AS x(id, state, epoch, owner, changed_at, wake_at, news, crashes, alone, size, reason, result,
    token, since, claimed_size, records, doubt)
WHERE s.id = x.id
"""


class Wanted(NamedTuple):
    """Which records of a run a decision needs; None stands for all numbers or kinds."""

    path: str
    n: int | None
    kind: RecordKind | None


class New(NamedTuple):
    """A run that is to be accepted."""

    row: RunRow
    token: str
    epoch: int
    state: State
    owner: str


@dataclass(slots=True)
class Row:
    """Where a run stands, under its lock."""

    id: str
    state: State
    epoch: int
    owner: str
    changed_at: float
    wake_at: float | None
    news: int
    crashes: int
    alone: bool
    size: int
    reason: str | None
    result: str | None
    token: str
    born: str  #: the token of its acceptance, by which that is known again
    since: float
    claimed_size: int
    records: int
    doubt: bool

    @property
    def status(self) -> Status:
        return Status(
            self.state,
            self.epoch,
            self.owner,
            self.changed_at,
            self.wake_at,
            self.news,
            self.crashes,
            self.alone,
            self.size,
            self.reason,
            self.result,
        )


@dataclass(slots=True, eq=False)
class Piece:
    """One thing that somebody waits for; it may be tried several times, and counts once.

    Args:
        run_id: The run that it changes; empty for a beat.
        decide: Looks at the locked row and writes to the turn, or refuses before it has written anything.
        wanted: Records that it looks at.
        new: The run, when it is to be accepted.
        weight: Bytes of payload.
        takes: It takes a run from an owner that was found dead.
    """

    run_id: str
    decide: Callable[[Turn], Any]
    wanted: Sequence[Wanted] = ()
    new: New | None = None
    weight: int = 0
    takes: bool = False
    promise: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    result: Any = None
    error: WeftError | None = None
    tried: bool = False  #: it was decided on before, and whether that counts is not known

    @property
    def is_beat(self) -> bool:
        return not self.run_id

    def answer(self) -> None:
        if self.promise.done():  # whoever asked has gone
            return
        if self.error is None:
            self.promise.set_result(self.result)
        else:
            self.promise.set_exception(self.error)
            self.promise.exception()  # whoever asked may go before he hears of it


class Turn:
    """The transaction, and what the decisions in it see and write.

    Args:
        connection: Outside of any transaction.
        pieces: In the order in which they came.
        life: Of this process.
        enqueue: Makes jobs of runs that become ready, in this transaction.
        waits: Wait for rows that others have locked, at most as long as `lock_timeout`; else leave them for later.
    """

    def __init__(
        self, connection: Connection, pieces: Sequence[Piece], life: Life, *, enqueue: Enqueue | None, waits: bool
    ) -> None:
        self.life = life
        self.now = 0.0  #: the database's time, when all rows were locked
        self.again = False  #: what is being decided was decided before, and that may count
        self.before: Any = None  #: what came of it then
        self.accepted: set[str] = set()
        self.documents: set[str] = set()
        self.beats: dict[str, int] = {}  #: of owners that were found dead, as they are now
        self._connection = connection
        self._pieces = pieces
        self._enqueue = enqueue
        self._waits = waits
        self._rows: dict[str, Row] = {}
        self._changed: set[str] = set()
        self._known: dict[str, dict[Key, str]] = {}
        self._new: list[tuple[str, int, Record]] = []
        self._ready: set[str] = set()
        self._news = False

    # ---- for decisions
    def row(self, run_id: str) -> Row | None:
        return self._rows.get(run_id)

    def known(self, run_id: str) -> dict[Key, str]:
        """Return the payloads of the wanted records of a run."""
        return self._known.setdefault(run_id, {})

    def change(self, row: Row, state: State | None = None) -> Row:
        """Write a row back; a run that becomes ready by it gets a job."""
        self._changed.add(row.id)
        if state is not None:
            row.state = state
            row.since = row.changed_at = self.now
            (self._ready.add if state == "ready" else self._ready.discard)(row.id)
        return row

    def add(self, row: Row, records: Iterable[Record]) -> None:
        for record in records:
            row.records += 1
            row.size += len(record.payload)
            self.known(row.id)[key(record)] = record.payload
            self._new.append((row.id, row.records, record))
        self.change(row)

    def enqueue(self, run_id: str) -> None:
        self._ready.add(run_id)

    def tell(self) -> None:
        """Let other processes hear that somebody wrote to a run of theirs."""
        self._news = True

    # ---- the transaction
    async def run(self) -> list[Piece]:
        """Do the pieces; return those whose rows others have locked.

        Raises:
            psycopg.Error: None of them counts, or, when the connection was lost, that is not known.
        """
        async with rolled_back(self._connection):
            await self._read()
            later = self._decide()
            await self._write()
        return later

    async def _read(self) -> None:
        new = [each for _, each in sorted({piece.run_id: piece.new for piece in self._pieces if piece.new}.items())]
        ids = sorted({piece.run_id for piece in self._pieces if piece.run_id})
        wanted = [(piece.run_id, *each) for piece in self._pieces for each in piece.wanted]
        lock = _LOCK if self._waits else f"{_LOCK} SKIP LOCKED"
        owners = list(self.life.verdicts) if any(piece.takes for piece in self._pieces) else []
        sent = suspended_clock()
        origins = [each.row.origin for each in new if each.row.origin]
        [_, _, documents, accepted, _, rows, known, beats, [(self.now, server, timeline)]] = await together(
            self._connection,
            *begin(),
            (_DOCUMENTS, (sorted({each.row.document for each in new}),)) if new else _NOTHING,
            (_ACCEPT, _accept(new)) if new else _NOTHING,
            (_INHERIT, (origins, ids)) if origins else _NOTHING,
            (lock, (ids,)) if ids else _NOTHING,
            (_KNOWN, _columns(wanted)) if wanted else _NOTHING,
            (_BEATS, (owners,)) if owners else _NOTHING,
            (FACTS, ()),
        )
        self.documents = {hash_ for (hash_,) in documents}
        self.accepted = {run_id for (run_id,) in accepted}
        self._rows = {row[0]: Row(*row) for row in rows}
        for run_id, path, n, kind, payload in known:
            self.known(run_id)[path, n, kind] = payload
        self.beats = dict(beats)
        self.life.timed(self.now, sent, suspended_clock())
        self.life.met(server, timeline)

    def _decide(self) -> list[Piece]:
        later = []
        for piece in self._pieces:
            piece.error = None
            if self._is_locked(piece):
                later.append(piece)
                continue
            try:
                self.before = piece.result
                self.again, piece.tried = piece.tried, True
                piece.result = piece.decide(self)
            except WeftError as refusal:
                piece.error = refusal
        return later

    def _is_locked(self, piece: Piece) -> bool:
        """Tell whether the row of a piece may be there, in the hands of somebody else."""
        return not self._waits and not piece.is_beat and piece.run_id not in self._rows

    async def _write(self) -> None:
        statements = self._changes()
        if self._ready and self._enqueue is not None:
            await together(self._connection, *statements)
            await self._enqueue(self._connection, sorted(self._ready))
            statements = []
        if self._ready or self._news:
            statements.append(("SELECT pg_notify(%s, '')", (CHANNEL,)))
        if any(piece.is_beat for piece in self._pieces):
            beat, beating = self.life.beat()
            [*_, held, look, _] = await together(self._connection, *statements, *beating, ("COMMIT", ()))
            self.life.confirmed(beat, held, look)
        else:
            await together(self._connection, *statements, ("COMMIT", ()))

    def _changes(self) -> list[Statement]:
        rows = [_values(self._rows[run_id]) for run_id in sorted(self._changed)]
        records: list[tuple[Any, ...]] = []
        statements: list[Statement] = []
        for run_id, seq, each in self._new:
            hash_ = _hash(each.payload)
            records.append((run_id, each.path, each.n, each.kind, seq, None if hash_ else each.payload, hash_))
            if hash_:
                statements.append((_LARGE, (run_id, hash_, each.payload)))
        if records:
            statements.append((_RECORD, _columns(records)))
        if rows:
            statements.append((_CHANGE, _columns(rows)))
        return statements


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _accept(new: list[New]) -> list[list[Any]]:
    runs = [
        (row.id, row.workflow, row.document, row.inputs, row.trigger, row.started_at, row.scheduled_at, row.origin)
        for row in (each.row for each in new)
    ]
    return _columns(runs) + _columns([(each.row.id, each.token, each.epoch, each.state, each.owner) for each in new])


def _hash(payload: str) -> str | None:
    """Return the hash under which a large payload is kept; None when it stands in the record."""
    return hashlib.sha256(payload.encode()).hexdigest() if len(payload) > LARGEST_INLINE else None


def _values(row: Row) -> tuple[Any, ...]:
    return (
        row.id,
        row.state,
        row.epoch,
        row.owner,
        row.changed_at,
        row.wake_at,
        row.news,
        row.crashes,
        row.alone,
        row.size,
        row.reason,
        row.result,
        row.token,
        row.since,
        row.claimed_size,
        row.records,
        row.doubt,
    )
