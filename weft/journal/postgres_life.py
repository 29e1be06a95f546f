"""Which processes live, what the database's time is, and whether it is still the same database.

A process proves that it lives by a beat, written through the same queue as the outcomes of its runs: who cannot commit
is dead for the others. It is dead for one observer when that observer has seen the same beat in successful looks that
span some seconds of its own clock. A look that failed, or a server that was started again, begins the count anew, so
that an outage, which makes all beats old, kills nobody.
"""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from weft.errors import Problem
from weft.journal.base import Claim
from weft.journal.postgres_link import Connection, Statement, together
from weft.journal.postgres_needs import Needs

FACTS: Final = """
SELECT extract(epoch FROM clock_timestamp())::float8, pg_postmaster_start_time()::text,
    CASE WHEN pg_is_in_recovery() THEN NULL ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END
"""
"""The time, the start of the server and its timeline; no timeline on a replica."""

_BEAT: Final = """
INSERT INTO weft.processes AS p (name, beat, at) VALUES (%s, %s, clock_timestamp())
ON CONFLICT (name) DO UPDATE SET beat = excluded.beat, at = excluded.at
"""

_LOOK: Final = """
SELECT name, beat FROM weft.processes
UNION ALL
SELECT owner, NULL FROM (SELECT DISTINCT owner FROM weft.states WHERE state = 'running') AS o
WHERE NOT EXISTS (SELECT FROM weft.processes WHERE name = owner)
"""

_HELD: Final = """
SELECT s.token FROM unnest(%s::text[], %s::bigint[], %s::text[]) AS x(id, epoch, token)
JOIN weft.states AS s ON s.id = x.id AND s.epoch = x.epoch AND s.token = x.token AND s.state = 'running'
"""

_DURABILITY: Final = """
SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),
    current_setting('synchronous_standby_names'), (SELECT count(*) FROM pg_stat_replication)
"""

MARGIN: Final = 0.3
"""Part of `dead_s` before whose end an effect must have begun."""

_LOG = logging.getLogger("weft.journal")


def suspended_clock() -> float:
    """Return seconds of a clock that goes on while the machine sleeps, where there is one."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


@dataclass(frozen=True, slots=True)
class _Seen:
    beat: int | None
    first: float
    last: float


@dataclass(slots=True)
class Beat:
    """One beat on its way: what was sent, and what came back in the same transaction."""

    name: str
    sent: float
    looked: float
    doubtful: set[str]


class Life:
    """This process, and what it has seen of the others."""

    def __init__(self, *, dead_s: float) -> None:
        self.dead_s = dead_s
        self.name = secrets.token_hex(8)  #: written beside what the process claims
        self.in_hand: dict[str, Claim] = {}  #: claims of this process by their tokens
        self.ties: dict[str, Needs] = {}  #: what the ends of those touch besides, if anything, by their tokens
        self.void: set[str] = set()  #: tokens from before the database became another one
        self.unproved: set[str] = set()  #: tokens from before a pause in which others could think this process dead
        self.verdicts: dict[str, int | None] = {}  #: owners that were said to be dead, with the beat they stopped at
        self._seen: dict[str, _Seen] = {}
        self._beats = 0
        self._confirmed: float | None = None
        self._offset: tuple[float, float] | None = None
        self._server: str | None = None
        self._timeline: str | None = None

    # ---- time
    def now(self) -> float:
        """Return the database's time, by its last answer."""
        return time.time() if self._offset is None else suspended_clock() + self._offset[0]

    def timed(self, theirs: float, sent: float, received: float) -> None:
        """Learn the database's time from an answer; one that took long tells it badly."""
        took = received - sent
        if self._offset is None or took <= max(0.05, 2 * self._offset[1]):
            self._offset = theirs - (sent + received) / 2, took

    # ---- the same database?
    def met(self, server: str, timeline: str | None) -> None:
        """Compare the server and its timeline with those before.

        After a fail-over the new server may lack what the old one had acknowledged: all that is in hand is void, and the
        process goes on under another name, so that what it had is taken over as from a dead owner.

        Raises:
            psycopg.OperationalError: The server is a replica; nothing can be written there.
        """
        if timeline is None:
            raise psycopg.OperationalError("the server is a replica")
        if server != self._server:
            self.forget()
            self._server = server
        if self._timeline is not None and timeline != self._timeline:
            _LOG.error("journal_other_timeline %s %s runs_dropped=%d", self._timeline, timeline, len(self.in_hand))
            self.void |= self.in_hand.keys()
            self.in_hand.clear()
            self.ties.clear()
            self.name = secrets.token_hex(8)
            self._confirmed = None
        self._timeline = timeline

    # ---- beats
    def fresh(self) -> bool:
        """Tell whether no observer can think this process dead yet, nor soon."""
        limit = self.dead_s * (1 - MARGIN)
        return self._confirmed is not None and suspended_clock() - self._confirmed < limit

    def beat(self) -> tuple[Beat, list[Statement]]:
        """Return a beat, and the statements that write it and look at the others.

        They come last in their transaction, so that it waits for nobody who waits for its locks.
        """
        if not self.fresh():
            self.unproved |= self.in_hand.keys()
        self._beats += 1
        doubtful = [self.in_hand[token] for token in self.unproved if token in self.in_hand]
        tokens = [each.token for each in doubtful]
        held = [each.run_id for each in doubtful], [each.epoch for each in doubtful], tokens
        beat = Beat(self.name, suspended_clock(), time.monotonic(), set(tokens))
        return beat, [(_BEAT, (self.name, self._beats)), (_HELD, held), (_LOOK, ())]

    def confirmed(self, beat: Beat, held: list[tuple[Any, ...]], look: list[tuple[Any, ...]]) -> None:
        """Take note of a beat whose transaction is committed."""
        lost = beat.doubtful - {token for (token,) in held}
        if beat.name != self.name:
            return
        for token in lost:
            self.let_go(token)
        self.void |= lost
        self.unproved -= beat.doubtful
        self._confirmed = beat.sent
        self._looked(look, beat.looked, time.monotonic())

    def let_go(self, token: str) -> None:
        """Have a claim in hand no more."""
        self.in_hand.pop(token, None)
        self.ties.pop(token, None)

    def forget(self) -> None:
        """Begin all counts anew."""
        self._seen.clear()

    def _looked(self, rows: list[tuple[Any, ...]], sent: float, received: float) -> None:
        before, self._seen = self._seen, {}
        for name, beat in rows:
            known = before.get(name)
            same = known is not None and known.beat == beat
            self._seen[name] = _Seen(beat, known.first if known and same else received, sent)

    def dead(self) -> dict[str, int | None]:
        """Return the processes that are dead as far as this one has seen, with their last beats."""
        return {
            name: seen.beat
            for name, seen in self._seen.items()
            if name != self.name and seen.last - seen.first >= self.dead_s
        }


async def facts(connection: Connection, life: Life) -> None:
    """Look at a server: its time, its start, its timeline."""
    sent = suspended_clock()
    [[(now, server, timeline)]] = await together(connection, (FACTS, ()))
    life.timed(now, sent, suspended_clock())
    life.met(server, timeline)


async def durability(connection: Connection) -> list[Problem]:
    """Return what makes the database lose things that it has acknowledged."""
    [[found]] = await together(connection, (_DURABILITY, ()))
    return weaknesses(*found)


def weaknesses(fsync: str, full_pages: str, commit: str, standbys: str, replicas: int) -> list[Problem]:
    """Return what settings of the server make it lose, with the number of its replicas."""
    found = []
    if fsync == "off":
        found.append(_lossy("fsync is off", "when the machine stops", "Set fsync = on."))
    if full_pages == "off":
        found.append(_lossy("full_page_writes is off", "when the machine stops", "Set full_page_writes = on."))
    if commit == "off":
        found.append(_lossy("synchronous_commit is off", "when the server stops", "Set synchronous_commit = on."))
    if replicas and not standbys:
        why = f"it has {replicas} replicas and synchronous_standby_names is empty"
        found.append(_lossy(why, "when a replica takes over", "Name the replicas in synchronous_standby_names."))
    elif standbys and commit == "local":
        why = "synchronous_commit is 'local' although synchronous_standby_names is set"
        found.append(_lossy(why, "when a replica takes over", "Set synchronous_commit = on."))
    return found


def _lossy(why: str, when: str, remedy: str) -> Problem:
    message = f"What the database has acknowledged can be lost {when}: {why}."
    return Problem("journal_not_durable", message, remedy, severity="warning")
