"""One transaction of the journal in PostgreSQL: everything that waits, in a few statements.

All rows are locked in the order of their ids, read, decided on in Python, and written back in bulk. What is kept for a
run is read after its row is locked, so that what another transaction wrote before it let go of the row is seen. What
else a decision needs (`postgres_needs`) is locked and read with the rest; nothing of it is asked for when nobody does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import psycopg

from weft.errors import WeftError
from weft.journal import postgres_gates as gates
from weft.journal import postgres_rows as rows
from weft.journal.base import Record, State
from weft.journal.decisions import Key, key
from weft.journal.postgres_gates import Standing
from weft.journal.postgres_life import FACTS, Life, suspended_clock
from weft.journal.postgres_link import Connection, Statement, begin, rolled_back, together
from weft.journal.postgres_meters import Meters
from weft.journal.postgres_needs import Needs, NeedsMore, locking
from weft.journal.postgres_rows import New, Row, Wanted

Enqueue: TypeAlias = "Callable[[psycopg.AsyncConnection[Any], Sequence[str]], Awaitable[None]]"

CHANNEL: Final = "weft"
"""Where processes hear that something is ready, cancelled or answered."""

_BEATS: Final = "SELECT name, beat FROM weft.processes WHERE name = ANY(%s) ORDER BY name FOR SHARE"
"""Read under a lock: an owner that comes back to life waits with its next beat, and then sees what it has lost."""


@dataclass(slots=True, eq=False)
class Piece:
    """One thing that somebody waits for; it may be tried several times, and counts once.

    Args:
        run_id: The run that it changes; empty for a beat.
        decide: Looks at the locked row and writes to the turn, or refuses; what it wrote before it refuses is undone
            when it has needs, and else it may not have written anything.
        wanted: Records that it looks at.
        new: Runs that are to be accepted.
        weight: Bytes of payload.
        takes: It takes a run from an owner that was found dead.
        needs: What it looks at besides.
    """

    run_id: str
    decide: Callable[[Turn], Any]
    wanted: Sequence[Wanted] = ()
    new: Sequence[New] = ()
    weight: int = 0
    takes: bool = False
    needs: Needs | None = None
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


@dataclass(slots=True)
class _Undo:
    """What one decision found, so that nothing of it stays when it does not count."""

    changed: set[str]
    taken: set[str]
    ready: set[str]
    records: int
    rows: dict[str, Row] = field(default_factory=dict)
    known: dict[str, dict[Key, str]] = field(default_factory=dict)
    gates: dict[str, Standing] = field(default_factory=dict)


class Turn:
    """The transaction, and what the decisions in it see and write.

    Args:
        connection: Outside of any transaction.
        pieces: In the order in which they came.
        life: Of this process.
        enqueue: Makes jobs of runs that become ready, in this transaction.
        waits: Wait for what others have locked, at most as long as `lock_timeout`; else leave it for later.
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
        self.meters = Meters()
        self._connection = connection
        self._pieces = pieces
        self._enqueue = enqueue
        self._waits = waits
        self._met = Needs()  #: what is locked and read for all pieces together
        self._rows: dict[str, Row] = {}
        self._gates: dict[str, Standing] = {}
        self._children: dict[str, list[str]] = {}  #: open ones, by their parents
        self._changed: set[str] = set()
        self._known: dict[str, dict[Key, str]] = {}
        self._new: list[tuple[str, int, Record]] = []
        self._taken: set[str] = set()  #: of the accepted ones those that stay
        self._ready: set[str] = set()
        self._news = False
        self._undo: _Undo | None = None

    # ---- for decisions
    def require(self, needs: Needs) -> None:
        """Return if all of it is locked and read; else what is being decided is decided anew when it is."""
        if missing := needs.without(self._met):
            raise NeedsMore(missing)

    def row(self, run_id: str) -> Row | None:
        """Return the row of a run that was asked for; None when there is no such run."""
        row = self._rows.get(run_id)
        if self._undo is not None and row is not None and run_id not in self._undo.rows:
            self._undo.rows[run_id] = copy(row)
        return row

    def known(self, run_id: str) -> dict[Key, str]:
        """Return the payloads of the wanted records of a run."""
        known = self._known.setdefault(run_id, {})
        if self._undo is not None:
            self._undo.known.setdefault(run_id, dict(known))
        return known

    def gate(self, key_: str) -> Standing:
        """Return how a gate stands, that was asked for."""
        gate = self._gates[key_]
        if self._undo is not None:
            self._undo.gates.setdefault(key_, gate.copy())
        return gate

    def children(self, run_id: str) -> list[str]:
        """Return the open children of a run whose family was asked for."""
        return [each for each in self._children.get(run_id, ()) if each not in self.accepted or each in self._taken]

    def take(self, row: Row) -> None:
        """Let a run stay that was accepted in this transaction; the others are taken back at its end."""
        self._taken.add(row.id)
        if row.parent is not None and row.id not in self._children.setdefault(row.parent.run_id, []):
            self._children[row.parent.run_id].append(row.id)

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
        """Do the pieces; return those that need what others have locked, or more than was locked for them.

        Raises:
            psycopg.Error: None of them counts, or, when the connection was lost, that is not known.
        """
        async with rolled_back(self._connection):
            await self._read(*begin())
            later = self._decide()
            await self._write()
        return later

    async def join(self) -> None:
        """Do the pieces, and write them, in a transaction that has begun, all or nothing; somebody else ends it.

        Raises:
            NeedsMore: One of them needs more than was locked for it.
            WeftError: One of them is refused.
        """
        await self._read()
        for piece in self._decide():
            raise NeedsMore(piece.needs or Needs())
        for piece in self._pieces:
            if piece.error is not None:
                raise piece.error
        await self._send(self._changes())

    async def _read(self, *first: Statement) -> None:
        asked = {str(number): statement for number, statement in enumerate(first)} | self._questions()
        sent = suspended_clock()
        answers = dict(zip(asked, await together(self._connection, *asked.values()), strict=True))
        received = suspended_clock()
        [(self.now, server, timeline)] = answers["facts"]
        self.documents = {hash_ for (hash_,) in answers.get("documents", ())}
        self.accepted = {run_id for (run_id,) in answers.get("accepted", ())}
        self._rows = {row[0]: Row(*row) for row in answers.get("rows", ())}
        for run_id, path, n, kind, payload in answers.get("known", ()):
            self.known(run_id)[path, n, kind] = payload
        self.beats = dict(answers.get("beats", ()))
        if any(piece.needs is not None for piece in self._pieces):
            self._take_in(answers)
        self.life.timed(self.now, sent, received)
        self.life.met(server, timeline)

    def _questions(self) -> dict[str, Statement]:
        """Return what is to be asked, in the order in which it is to be locked."""
        for piece in self._pieces:
            if piece.needs is not None:
                self._met.add(piece.needs)
        needs = self._met
        new = [each for _, each in sorted({each.row.id: each for piece in self._pieces for each in piece.new}.items())]
        ids = {piece.run_id for piece in self._pieces if piece.run_id} | {each.row.id for each in new} | needs.runs
        wanted = [(piece.run_id, *each) for piece in self._pieces for each in piece.wanted]
        wanted += [(run_id, *each) for run_id, each in needs.records]
        origins = [each.row.origin for each in new if each.row.origin]
        owners = list(self.life.verdicts) if any(piece.takes for piece in self._pieces) else []
        needs.runs = ids
        asked: dict[str, Statement] = {}
        if needs.gates:
            asked["gates"] = locking("gate", needs.gates, waits=self._waits)
            asked["standing"] = gates.standing(needs.gates, {piece.run_id for piece in self._pieces})
            if cancelling := {each.row.gate.key for each in new if each.row.gate and each.row.gate.policy == "cancel"}:
                asked["blockers"] = gates.blocking(cancelling)
        if new:
            asked["documents"] = rows.DOCUMENTS, (sorted({each.row.document for each in new}),)
            asked["accepted"] = rows.accepting(new)
        if origins:
            asked["inherit"] = rows.INHERIT, (origins, sorted(ids))
        if ids:
            asked["rows"] = self._lock(sorted(ids))
        if wanted:
            asked["known"] = rows.KNOWN, rows.columns(wanted)
        if needs.families:
            asked["family"] = rows.FAMILY, (sorted(needs.families),)
        if needs.meters:
            asked["meters"] = locking("meter", needs.meters, waits=self._waits)
        if needs.attempts:
            asked |= self.meters.reading(needs)
        if owners:
            asked["beats"] = _BEATS, (owners,)
        asked["facts"] = FACTS, ()
        return asked

    def _lock(self, ids: list[str]) -> Statement:
        locked = sorted(self._met.gates)
        text, values = (rows.LOCK_WITH_QUEUES, (ids, locked, gates.FIRST)) if locked else (rows.LOCK, (ids,))
        return (text if self._waits else f"{text} SKIP LOCKED"), values

    def _take_in(self, answers: dict[str, list[tuple[Any, ...]]]) -> None:
        """Take in what stands under other locks than those of rows; what was not to be had is not met."""
        needs = self._met
        needs.gates = {row[0] for row in answers.get("gates", ())}
        needs.meters = {row[0] for row in answers.get("meters", ())}
        needs.runs |= self._rows.keys()
        if not self._waits:
            needs.runs &= self._rows.keys()
        self._gates = gates.stand(needs.gates, answers.get("standing", ()), answers.get("blockers", ()))
        for run_id, parent in answers.get("family", ()):
            self._children.setdefault(parent, []).append(run_id)
        self.meters.take(needs, answers)

    def _decide(self) -> list[Piece]:
        later: list[Piece] = []
        left: set[str] = set()  #: runs whose pieces stay in their order
        for piece in self._pieces:
            piece.error = None
            if piece.run_id in left or self._is_locked(piece) or not self._try(piece):
                later.append(piece)
                left.add(piece.run_id)
        return later

    def _is_locked(self, piece: Piece) -> bool:
        """Tell whether what a piece needs may be there, in the hands of somebody else."""
        if self._waits or piece.is_beat:
            return False
        if piece.run_id not in self._rows or any(new.row.id not in self._rows for new in piece.new):
            return True
        return piece.needs is not None and bool(piece.needs.without(self._met))

    def _try(self, piece: Piece) -> bool:
        """Decide on a piece; return whether that is done, and not to be done again with more under lock."""
        self._undo = None
        if piece.needs is not None:
            self._undo = _Undo(set(self._changed), set(self._taken), set(self._ready), len(self._new))
        before = self.before, self.again = piece.result, piece.tried
        try:
            piece.tried = True
            piece.result = piece.decide(self)
        except NeedsMore as more:
            piece.result, piece.tried = before
            piece.needs = piece.needs or Needs()
            piece.needs.add(more.needs)
            self._undone()
            return False
        except WeftError as refusal:
            piece.error = refusal
            self._undone()
        return True

    def _undone(self) -> None:
        undo, self._undo = self._undo, None
        if undo is None:
            return  # it had written nothing yet
        self._rows |= undo.rows
        self._known |= undo.known
        self._gates |= undo.gates
        self._changed, self._taken, self._ready = undo.changed, undo.taken, undo.ready
        del self._new[undo.records :]

    async def _write(self) -> None:
        statements = await self._send(self._changes(), is_last=False)
        if any(piece.is_beat for piece in self._pieces):
            beat, beating = self.life.beat()
            [*_, held, look, _] = await together(self._connection, *statements, *beating, ("COMMIT", ()))
            self.life.confirmed(beat, held, look)
        else:
            await together(self._connection, *statements, ("COMMIT", ()))

    async def _send(self, statements: list[Statement], *, is_last: bool = True) -> list[Statement]:
        """Write; return the statements that have not been sent yet, so that others may go with them."""
        if self._ready and self._enqueue is not None:
            await together(self._connection, *statements)
            await self._enqueue(self._connection, sorted(self._ready))
            statements = []
        if self._ready or self._news:
            statements.append(("SELECT pg_notify(%s, '')", (CHANNEL,)))
        if is_last and statements:
            await together(self._connection, *statements)
            statements = []
        return statements

    def _changes(self) -> list[Statement]:
        refused = sorted(self.accepted - self._taken)
        changed = [self._rows[run_id] for run_id in sorted(self._changed)]
        statements = [*rows.writing(self._new, changed), *self.meters.writing()]
        return [*statements, *rows.removing(refused)] if refused else statements
