"""The journal in PostgreSQL, for any number of processes on any number of machines."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import psycopg

from weft.errors import JournalRefused, JournalUnavailable, Problem
from weft.journal import postgres_schedules as schedules
from weft.journal.base import (
    LARGEST_RUN,
    Claim,
    Ended,
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
    Then,
    another_owner,
    reference,
    refuse_large_artifact,
    too_large,
    unknown_artifact,
    unknown_document,
    unknown_run,
)
from weft.journal.decisions import refuse_gate, unlike
from weft.journal.postgres_group import Group, closed, described, unanswered
from weft.journal.postgres_life import Life, durability, facts
from weft.journal.postgres_link import COMMIT_S, Connection, Link, Statement, is_final, place, read, transaction
from weft.journal.postgres_listen import Listener
from weft.journal.postgres_meters import using, wanted_by_hold, wanted_by_settled
from weft.journal.postgres_moves import (
    accepted,
    bearing,
    cancelled,
    claimed,
    given_back,
    held,
    released,
    resumed,
    signalled,
    submitted,
    written,
)
from weft.journal.postgres_needs import Needs
from weft.journal.postgres_purge import purge
from weft.journal.postgres_queries import ABANDONED, ONE, OPEN, READY, RECORDS, listed, listing
from weft.journal.postgres_rows import New, Wanted
from weft.journal.postgres_schema import MIGRATION_S, is_newest, migrate
from weft.journal.postgres_turn import CHANNEL, Enqueue, Piece, Turn
from weft.types import JsonObject

T = TypeVar("T")

FILE_S = 60.0
"""Seconds that a file may take on its way to the database or back."""

_OWNERLESS = """
DELETE FROM weft.processes AS p WHERE p.at < clock_timestamp() - interval '1 day'
    AND NOT EXISTS (SELECT FROM weft.states AS s WHERE s.state = 'running' AND s.owner = p.name)
"""

_WAKE = """
UPDATE weft.states AS s SET state = 'ready', wake_at = NULL, reason = NULL, since = x.now, changed_at = x.now
FROM (
    SELECT id, wake_at, extract(epoch FROM clock_timestamp())::float8 AS now FROM weft.states
    WHERE state = 'waiting' AND wake_at IS NOT NULL AND wake_at <= extract(epoch FROM now())::float8
        AND (%(only)s::text IS NULL OR id = %(only)s)
    ORDER BY wake_at, id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
) AS x
WHERE s.id = x.id RETURNING s.id, x.wake_at
"""


class PostgresJournal:
    """Keeps runs in a database, in a schema named `weft`.

    Args:
        address: A connection string of libpq; a pooler in transaction mode may stand between.
        dead_s: For how many seconds a process must be seen without a beat until it is dead.
        deadline_s: How long a caller waits for an answer. Outcomes and beats wait without end.
        connections: How many may be in use at a time, beside the one that writes and the one that listens.
        enqueue: Makes jobs of runs that become ready, in the transaction in which they do.
        listens_at: Where to listen, when a pooler stands at `address`: its sessions hear nothing.
    """

    def __init__(
        self,
        address: str,
        *,
        dead_s: float = 10.0,
        deadline_s: float = 15.0,
        connections: int = 3,
        enqueue: Enqueue | None = None,
        listens_at: str | None = None,
    ) -> None:
        self.warnings: list[Problem] = []  #: why acknowledgements can be lost, as found by `open`
        self._address = address
        self._deadline_s = deadline_s
        self._enqueue = enqueue
        self._life = Life(dead_s=dead_s)
        self._link = Link(address, most=connections, greet=lambda connection: facts(connection, self._life))
        self._group = Group(self._link, self._life, enqueue=enqueue)
        self._listener = Listener(listens_at or address, CHANNEL)
        self._doubted: dict[
            str, str
        ] = {}  #: runs of which it is not known whether they were accepted, and their tokens
        self._closed = False

    @property
    def name(self) -> str:
        return self._life.name

    @property
    def failing_since(self) -> float | None:
        """The instant of `time.monotonic()` since which nothing could be written; None while all is well."""
        return self._group.failing_since

    @property
    def commits(self) -> int:
        """How many transactions have kept what waited."""
        return self._group.commits

    # ---- the process
    async def open(self) -> None:
        async def look(connection: Connection) -> list[Problem]:
            async with transaction(connection):
                await connection.execute(_OWNERLESS)
            return await durability(connection)

        try:
            if not await self._link.use(is_newest, deadline_s=self._deadline_s):
                await self._link.use(migrate, deadline_s=MIGRATION_S)
            self.warnings = await self._link.use(look, deadline_s=self._deadline_s)
        except JournalUnavailable:
            await self._link.drop()
            raise
        except (psycopg.Error, OSError) as error:
            await self._link.drop()
            raise JournalUnavailable(
                f"The database {place(self._address)} cannot be used ({described(error)}).",
                remedy="Look whether it runs, can be reached, and lets this user make a schema named weft.",
            ) from error
        self._group.begin()
        await self._beat(self._deadline_s)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._listener.close()
        await self._group.close(self._deadline_s)

        async def work(connection: Connection) -> None:
            await connection.execute("DELETE FROM weft.processes WHERE name = %s", (self.name,))

        with contextlib.suppress(psycopg.Error, OSError):  # else the others find that there are no beats any more
            await self._link.use(work, deadline_s=self._deadline_s)
        await self._link.close()

    def now(self) -> float:
        return self._life.now()

    async def beat(self) -> None:
        await self._beat(None)

    async def _beat(self, deadline_s: float | None) -> None:
        await self._group.do(Piece("", _nothing), deadline_s)

    async def changed(self, timeout_s: float) -> bool:
        return await self._listener.heard(timeout_s)

    async def confirm(self, claim: Claim) -> None:
        until = time.monotonic() + self._deadline_s
        while not self._life.fresh():
            left = until - time.monotonic()
            if left <= 0:
                raise unanswered(self._deadline_s)
            await self._beat(left)
        if claim.token in self._life.void:
            raise another_owner(claim.run_id)

    # ---- documents
    async def keep_document(self, text: str) -> str:
        hash_ = hashlib.sha256(text.encode()).hexdigest()

        async def work(connection: Connection) -> None:
            async with transaction(connection):
                await connection.execute(
                    "INSERT INTO weft.documents (hash, content) VALUES (%s, %s) ON CONFLICT DO NOTHING", (hash_, text)
                )

        await self._ask(work)
        return hash_

    async def document(self, hash_: str) -> str:
        [rows] = await self._read(("SELECT content FROM weft.documents WHERE hash = %s", (hash_,)))
        if not rows:
            raise unknown_document(hash_)
        return str(rows[0][0])

    # ---- runs
    async def accept(self, run: RunRow, *records: Record) -> Claim:
        refuse_gate(run)
        unlike(run.id, records, {})
        claim: Claim = await self._accept(
            run, lambda turn, new: accepted(turn, new, records), "running", _keys(records), _weight(records)
        )
        self._life.in_hand[claim.token] = claim
        return claim

    async def submit(self, run: RunRow) -> None:
        await self._accept(run, submitted, "ready", (), 0)

    async def _accept(
        self,
        run: RunRow,
        decide: Callable[[Turn, New], Any],
        state: State,
        wanted: Sequence[Wanted],
        weight: int,
    ) -> Any:
        token = self._doubted.pop(run.id, None) or secrets.token_hex(16)
        new = New(run, token, int(state == "running"), state, self.name if state == "running" else "")
        needs = Needs(gates={run.gate.key}) if run.gate else None
        piece = Piece(run.id, lambda turn: decide(turn, new), wanted, [new], weight + len(run.inputs), needs=needs)
        try:
            return await self._group.do(piece, self._deadline_s)
        except (JournalUnavailable, asyncio.CancelledError):
            self._doubted[run.id] = token
            if state == "running":
                self._group.spawn(Piece(run.id, lambda turn: given_back(turn, run.id, token)))
            raise

    async def claim(self, run_id: str, *, alone: bool = False) -> Claim:
        token = secrets.token_hex(16)
        piece = Piece(run_id, lambda turn: claimed(turn, run_id, token, alone=alone))
        try:
            claim: Claim = await self._group.do(piece, self._deadline_s)
        except (JournalUnavailable, asyncio.CancelledError):  # it may be ours now, and nobody would work on it
            self._group.spawn(Piece(run_id, lambda turn: given_back(turn, run_id, token)))
            raise
        self._life.in_hand[token] = claim
        return claim

    async def release(self, run_id: str, *, ends: int) -> State:
        piece = Piece(run_id, lambda turn: released(turn, run_id, ends), takes=True)
        state: State = await self._group.do(piece, self._deadline_s)
        return state

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
        new = [New(child, secrets.token_hex(16)) for child in children]
        piece = Piece(
            claim.run_id,
            lambda turn: written(turn, claim, news, records, then, children=new, settled=settled),
            _keys(records),
            new,
            weight=_weight(records) + sum(len(child.inputs) for child in children),
            needs=self._needs(claim, then, children, settled),
        )
        await self._own(claim, piece)
        if then is not None:
            self._life.let_go(claim.token)

    def _needs(self, claim: Claim, then: Then, children: Sequence[RunRow], settled: Sequence[Settled]) -> Needs | None:
        """Return what a write needs besides its own row, as far as that is known already."""
        needs: Needs | None = None
        for more in (
            self._life.ties.get(claim.token) if isinstance(then, Ended) else None,
            bearing(claim.run_id, children) if children else None,
            wanted_by_settled(claim.run_id, claim.epoch, settled) if settled else None,
        ):
            if more:
                needs = (needs or Needs()) | more
        return needs

    async def hold(self, claim: Claim, news: int, begun: Record, meters: Sequence[Meter]) -> Full | None:
        piece = Piece(
            claim.run_id,
            lambda turn: held(turn, claim, news, begun, meters),
            _keys([begun]),
            weight=_weight([begun]),
            needs=wanted_by_hold((claim.run_id, begun.path, begun.n, claim.epoch), meters),
        )
        full: Full | None = await self._own(claim, piece)
        return full

    async def _own(self, claim: Claim, piece: Piece) -> Any:
        """Do what the owner of a run asks for; he is told in the end, however long that takes."""
        try:
            return await self._group.do(piece, None)
        except JournalRefused as refusal:
            if refusal.problem.code in {"another_owner", "has_ended"}:
                self._life.let_go(claim.token)
            raise

    async def used(self, keys: Sequence[str], *, since: float | None = None, reserved: bool = False) -> dict[str, int]:
        counted, live = await self._read(*using(keys, since, reserved=reserved))
        amounts = dict(counted)
        for key, amount, _ in live:
            amounts[key] = amounts.get(key, 0) + amount
        return {key: amounts.get(key, 0) for key in keys}

    async def load(self, run_id: str) -> Kept:
        rows, records = await self._read(
            (ONE, (run_id,)),
            (RECORDS, (run_id, run_id, LARGEST_RUN)),
            deadline_s=FILE_S,
        )
        if not rows:
            raise unknown_run(run_id)
        run = listed(rows[0])
        if run.status.size > LARGEST_RUN:
            raise too_large(run_id, run.status.size)
        return Kept(run.row, run.status, tuple(Record(*each) for each in records))

    async def status(self, run_id: str) -> Listed:
        [rows] = await self._read((ONE, (run_id,)))
        if not rows:
            raise unknown_run(run_id)
        return listed(rows[0])

    # ---- what others do to a run
    async def cancel(self, run_id: str) -> int:
        return await self._do(run_id, lambda turn: cancelled(turn, run_id), Wanted("", None, "cancel"))

    async def signal(self, run_id: str, path: str, payload: str) -> None:
        wanted = [Wanted(path, None, kind) for kind in ("waits", "signal", "rang")]
        await self._do(run_id, lambda turn: signalled(turn, run_id, path, payload), *wanted)

    async def resume(self, run_id: str) -> None:
        await self._do(run_id, lambda turn: resumed(turn, run_id))

    async def _do(self, run_id: str, decide: Callable[[Turn], T], *wanted: Wanted) -> T:
        result: T = await self._group.do(Piece(run_id, decide, wanted), self._deadline_s)
        return result

    # ---- what is to be done
    async def ready(self, limit: int, *, for_s: float = 0.0) -> list[str]:
        [rows] = await self._read((READY, (for_s, for_s, limit)))
        return [run_id for (run_id,) in rows]

    async def wake(self, limit: int, *, only: str | None = None) -> list[str]:
        async def work(connection: Connection) -> list[str]:
            async with transaction(connection):
                cursor = await connection.execute(_WAKE, {"only": only, "limit": limit})
                woken = [
                    run_id for _, run_id in sorted((wake_at, run_id) for run_id, wake_at in await cursor.fetchall())
                ]
                if woken and self._enqueue is not None:
                    await self._enqueue(connection, woken)
                if woken:
                    await connection.execute("SELECT pg_notify(%s, '')", (CHANNEL,))
            return woken

        return await self._ask(work)

    async def next_wake(self) -> float | None:
        [[(instant,)]] = await self._read(
            ("SELECT min(wake_at) FROM weft.states WHERE state = 'waiting' AND wake_at IS NOT NULL", ())
        )
        return None if instant is None else float(instant)

    async def abandoned(self) -> list[Listed]:
        dead = self._life.dead()
        if not dead:
            return []
        [rows] = await self._read((ABANDONED, (list(dead), list(dead.values()))))
        found = [listed(row) for row in rows]
        self._life.verdicts = {run.status.owner: dead[run.status.owner] for run in found}
        return found

    async def attention(self) -> dict[str, int]:
        [rows] = await self._read(
            ("SELECT id, news FROM weft.states WHERE state = 'running' AND owner = %s AND news > 0", (self.name,))
        )
        return dict(rows)

    async def unfinished(self) -> list[Listed]:
        [rows] = await self._read((OPEN, ()))
        return [listed(row) for row in rows]

    # ---- schedules
    async def schedule(
        self, id_: str, think: Callable[[ScheduleView], ScheduleMove | None], keys: Sequence[str] = ()
    ) -> ScheduleMove | None:
        return await self._ask(
            lambda connection: schedules.decide(connection, id_, think, keys, life=self._life, enqueue=self._enqueue)
        )

    async def schedules(self) -> list[Schedule]:
        [rows] = await self._read((schedules.ALL, ()))
        return [Schedule(*row) for row in rows]

    async def due(self, limit: int) -> list[str]:
        [rows] = await self._read((schedules.DUE, (limit,)))
        return [id_ for (id_,) in rows]

    async def next_due(self) -> float | None:
        [[(instant,)]] = await self._read((schedules.NEXT, ()))
        return None if instant is None else float(instant)

    async def occurrences(self, query: OccurrenceQuery) -> list[Occurrence]:
        [rows] = await self._read(schedules.listing(query))
        return [Occurrence(*row) for row in rows]

    # ---- reading
    async def runs(self, query: RunQuery) -> list[Listed]:
        if query.before is not None:
            await self.status(query.before)  # raises if there is none
        [rows] = await self._read(listing(query))
        return [listed(row) for row in rows]

    # ---- files
    async def save_artifact(self, run_id: str, content: bytes, *, name: str, content_type: str) -> JsonObject:
        refuse_large_artifact(content, name)
        artifact = hashlib.sha256(content).hexdigest()

        async def work(connection: Connection) -> None:
            async with transaction(connection, limit_s=FILE_S):
                known = await connection.execute("SELECT true FROM weft.runs WHERE id = %s FOR KEY SHARE", (run_id,))
                if await known.fetchone() is None:
                    raise unknown_run(run_id)
                # The update of nothing holds a file that is there already against a purge.
                await connection.execute(
                    "INSERT INTO weft.files (hash, content) VALUES (%s, %s)"
                    " ON CONFLICT (hash) DO UPDATE SET hash = excluded.hash",
                    (artifact, content),
                )
                await connection.execute(
                    "INSERT INTO weft.artifacts (run_id, hash) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                    (run_id, artifact),
                )

        await self._ask(work, deadline_s=FILE_S)
        return reference(artifact, content, name=name, content_type=content_type)

    async def read_artifact(self, run_id: str, artifact: str) -> bytes:
        known, rows = await self._read(
            ("SELECT true FROM weft.runs WHERE id = %s", (run_id,)),
            (
                "SELECT f.content FROM weft.artifacts AS a JOIN weft.files AS f USING (hash) WHERE a.run_id = %s AND hash = %s",
                (run_id, artifact.removeprefix("sha256:")),
            ),
            deadline_s=FILE_S,
        )
        if not known:
            raise unknown_run(run_id)
        if not rows:
            raise unknown_artifact(artifact)
        return bytes(rows[0][0])

    async def purge(self, before: float, *, limit: int = 10_000) -> Purged:
        return await self._ask(lambda connection: purge(connection, before, limit), deadline_s=FILE_S)

    # ---- in here
    async def _read(self, *statements: Statement, deadline_s: float | None = None) -> list[list[tuple[Any, ...]]]:
        limit_s = deadline_s or COMMIT_S
        return await self._ask(lambda connection: read(connection, *statements, limit_s=limit_s), deadline_s=deadline_s)

    async def _ask(
        self,
        work: Callable[[Connection], Coroutine[Any, Any, T]],
        *,
        deadline_s: float | None = None,
    ) -> T:
        """Do something that may be done twice, and try again until the deadline while the database is away."""
        if self._closed:
            raise closed()
        limit_s = deadline_s or self._deadline_s
        until = time.monotonic() + limit_s
        while True:
            try:
                return await self._link.use(work, deadline_s=max(0.05, until - time.monotonic()))
            except (psycopg.Error, OSError) as error:
                if is_final(error) or time.monotonic() + 0.1 >= until:
                    raise unanswered(limit_s) from error
            await asyncio.sleep(0.1)


def _nothing(turn: Turn) -> None:
    """Decide nothing: a beat has no run."""


def _keys(records: Sequence[Record]) -> list[Wanted]:
    return [Wanted(each.path, each.n, each.kind) for each in records]


def _weight(records: Sequence[Record]) -> int:
    return sum(len(each.payload) for each in records)
