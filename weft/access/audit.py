"""The audit log: who did what and when, each entry holding the hash of the one before it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Final

import sqlalchemy as sa

from weft.access.identity import Identity
from weft.access.tables import audit, audit_head
from weft.errors import StateUnavailable
from weft.state import State
from weft.types import Json, JsonObject

_Facts = tuple[int, str, str, str, str, str]
"""When (ms), who, how known, what, to what, details as JSON."""

FIRST: Final = "0" * 64
"""What stands as the hash before the first entry."""
MOST_TOGETHER: Final = 500
"""Entries that are kept in one transaction."""
PAGE: Final = 1_000
"""Entries read at a time while the log is verified."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done."""

    number: int  #: from 1, without a gap
    at_ms: int
    who: str
    kind: str
    action: str  #: `token.created`, `workflow.saved`
    target: str
    details: Json
    previous: str  #: the hash of the entry before
    hash: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What a look at the whole log has found."""

    entries: int
    head: str  #: number and hash of the last entry, to be noted elsewhere
    faults: tuple[str, ...]  #: empty: it is whole


class Audit:
    """Adds to the log, reads and verifies it.

    Any number of processes may write: each takes the one row that names the last entry before it adds its own.

    Args:
        state: The tables beside the journal.
        now: The clock, in seconds since 1970.
    """

    def __init__(self, state: State, now: Callable[[], float] = time.time) -> None:
        self._state = state
        self._now = now
        self._waiting: list[tuple[_Facts, asyncio.Future[int]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def record(self, who: Identity, action: str, target: str, details: JsonObject | None = None) -> int:
        """Add an entry and return its number, once it is kept. Those that come while one is written are kept together.

        Args:
            who: Who has done it.
            action: What was done: `token.created`.
            target: To what; an id or a name.
            details: Further facts. Never a secret's value, an input or an output.
        """
        text = json.dumps(details or {}, sort_keys=True)
        facts = (int(self._now() * 1000), _storable(who.name), who.kind, action, _storable(target), text)
        kept: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((facts, kept))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return await asyncio.shield(kept)

    async def _write(self) -> None:
        """Keep what waits, all of it in one transaction, until nothing waits."""
        while self._waiting:
            taken, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
            try:
                numbers = await self._state.run(partial(_add_all, facts=[facts for facts, _ in taken]))
            except Exception as error:  # noqa: BLE001  each of those who wait is told
                for _, kept in taken:
                    kept.set_exception(error)
                    kept.exception()  # who waited may have gone: nobody need look at it
            else:
                for (_, kept), number in zip(taken, numbers, strict=True):
                    kept.set_result(number)

    async def list(self, *, before: int | None = None, limit: int = 100) -> list[Entry]:
        """Return entries, the newest first.

        Args:
            before: Only those with a smaller number.
            limit: How many at most.
        """

        def work(connection: sa.Connection) -> list[Entry]:
            query = audit.select().order_by(audit.c.number.desc()).limit(limit)
            if before is not None:
                query = query.where(audit.c.number < before)
            return [_entry(row) for row in connection.execute(query)]

        return await self._state.read(work)

    async def verify(self, noted: str | None = None) -> Verified:
        """Follow the chain from the first entry to the last and tell every break.

        Args:
            noted: A head that was noted earlier, `number:hash`; the log must still contain it.
        """
        follower = _Follower(noted)
        while True:
            page, head = await self._state.read(lambda connection: (_after(connection, follower.at), _head(connection)))
            if not page:  # the head of the same instant: somebody may be writing
                return follower.ended(head)
            for entry in page:
                follower.follow(entry)


class _Follower:
    def __init__(self, noted: str | None) -> None:
        self.at = 0  #: the number read last, in the order of the table
        self._count = 0
        self._hash = FIRST
        self._noted = noted
        self._faults: list[str] = []

    def follow(self, entry: Entry) -> None:
        if entry.number != self.at + 1:
            self._faults.append(f"Entries {self.at + 1} to {entry.number - 1} are missing.")
        elif entry.previous != self._hash:
            self._faults.append(f"Entry {entry.number} does not follow from the one before it.")
        if entry.hash != hash_of(entry):
            self._faults.append(f"Entry {entry.number} was changed after it was written.")
        if self._noted == f"{entry.number}:{entry.hash}":
            self._noted = None
        self.at, self._hash, self._count = entry.number, entry.hash, self._count + 1

    def ended(self, head: tuple[int, str]) -> Verified:
        if head[0] < 0:
            self._faults.append("The log has lost the row that names its last entry.")
        elif head != (self.at, self._hash):
            self._faults.append(f"The log ends at entry {self.at}, and entry {head[0]} was the last that was written.")
        if self._noted is not None:
            self._faults.append(f"The entry that was noted, {self._noted}, is not in the log.")
        return Verified(self._count, f"{self.at}:{self._hash}", tuple(self._faults))


def hash_of(entry: Entry) -> str:
    """Return the hash that an entry must carry: over everything in it but the hash itself."""
    facts = {name: value for name, value in asdict(entry).items() if name != "hash"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _add_all(connection: sa.Connection, facts: Sequence[_Facts]) -> list[int]:
    """Add entries, and return their numbers."""
    count = len(facts)
    taken = audit_head.update().values(number=audit_head.c.number + count)
    row = connection.execute(taken.returning(audit_head.c.number, audit_head.c.hash)).one_or_none()
    if row is None:  # written first, so that whoever else writes waits above
        raise StateUnavailable(
            "The audit log has lost the row that names its last entry.", remedy="Restore the database from a backup."
        )
    last, previous = row
    rows = []
    for number, (at_ms, who, kind, action, target, details) in enumerate(facts, last - count + 1):
        entry = Entry(number, at_ms, who, kind, action, target, json.loads(details), previous, "")
        previous = hash_of(entry)
        rows.append({**asdict(entry), "details": details, "hash": previous})
    connection.execute(audit.insert(), rows)
    connection.execute(audit_head.update().values(hash=previous))
    return [row["number"] for row in rows]


def _after(connection: sa.Connection, number: int) -> list[Entry]:
    query = audit.select().where(audit.c.number > number).order_by(audit.c.number).limit(PAGE)
    return [_entry(row) for row in connection.execute(query)]


def _head(connection: sa.Connection) -> tuple[int, str]:
    row = connection.execute(audit_head.select()).one_or_none()
    return (-1, "") if row is None else (row.number, row.hash)


def _entry(row: sa.Row[tuple[object, ...]]) -> Entry:
    return Entry(**{**row._mapping, "details": json.loads(row._mapping["details"])})


def _storable(text: str) -> str:
    """Return a text that every database takes, whatever somebody has sent."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
