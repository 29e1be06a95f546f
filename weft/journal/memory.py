"""The journal that forgets: for `weft run` of one process and for tests."""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from weft.errors import JournalUnavailable
from weft.journal.base import (
    ENDS,
    LARGEST_RUN,
    OPEN,
    Claim,
    Ended,
    Kept,
    Listed,
    Purged,
    Record,
    RunQuery,
    RunRow,
    State,
    Status,
    Then,
    another_owner,
    behind,
    has_ended,
    known_already,
    not_ready,
    reference,
    refuse_large_artifact,
    too_large,
    unknown_artifact,
    unknown_document,
    unknown_run,
)
from weft.journal.decisions import (
    Key,
    is_done,
    key,
    needles,
    not_parked,
    not_running,
    poison,
    unlike,
    wait_for,
)
from weft.types import JsonObject


@dataclass(slots=True)
class _Run:
    row: RunRow
    status: Status
    token: str
    records: dict[Key, Record] = field(default_factory=dict)
    claimed_size: int = 0  #: size when it was claimed
    doubt: bool = False
    artifacts: dict[str, bytes] = field(default_factory=dict)

    @property
    def listed(self) -> Listed:
        return Listed(self.row, self.status)

    def set(self, **changes: object) -> None:
        self.status = replace(self.status, **changes)  # type: ignore[arg-type]  # names of fields, all of them here

    def add(self, *records: Record) -> None:
        self.records.update((key(record), record) for record in records)
        self.set(size=self.status.size + sum(len(record.payload) for record in records))


@dataclass(slots=True)
class _Store:
    """What several journals of one process share."""

    runs: dict[str, _Run] = field(default_factory=dict)
    documents: dict[str, str] = field(default_factory=dict)
    spent: set[str] = field(default_factory=set)  #: ids of removed runs that must not begin again
    alive: set[str] = field(default_factory=set)  #: names of the journals that are open
    watchers: set[asyncio.Future[None]] = field(default_factory=set)
    changes: int = 0

    def changed(self) -> None:
        self.changes += 1
        for watcher in self.watchers:
            if not watcher.done():
                watcher.set_result(None)


class MemoryJournal:
    """Keeps runs for as long as the process lives.

    Args:
        name: Written beside what it claims.
        clock: Seconds since 1970, UTC.
        beside: A journal whose runs this one has, too, as if it were that of another process.
    """

    def __init__(
        self, name: str = "memory", *, clock: Callable[[], float] = time.time, beside: MemoryJournal | None = None
    ) -> None:
        self.name: Final = name
        self._clock = clock
        self._store: _Store = _Store() if beside is None else beside._store
        self._told = 0  #: changes that `changed` has told of
        self._closed = False

    # ---- the process
    async def open(self) -> None:
        self._closed = False
        self._store.alive.add(self.name)

    async def close(self) -> None:
        self._closed = True
        self._store.alive.discard(self.name)

    def now(self) -> float:
        return self._clock()

    async def beat(self) -> None:
        """Do nothing: the process that would have to know is this one."""

    async def changed(self, timeout_s: float) -> bool:
        """Return when something was written other than the records of a run that goes on."""
        if self._told == self._store.changes:
            watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._store.watchers.add(watcher)
            try:
                async with asyncio.timeout(timeout_s):
                    await watcher
            except TimeoutError:
                return False
            finally:
                self._store.watchers.discard(watcher)
        self._told = self._store.changes
        return True

    async def confirm(self, claim: Claim) -> None:
        run = self._run(claim.run_id)
        if (run.status.epoch, run.token) != (claim.epoch, claim.token):
            raise another_owner(claim.run_id)

    # ---- documents
    async def keep_document(self, text: str) -> str:
        self._require_open()
        hash_ = hashlib.sha256(text.encode()).hexdigest()
        self._store.documents[hash_] = text
        return hash_

    async def document(self, hash_: str) -> str:
        self._require_open()
        text = self._store.documents.get(hash_)
        if text is None:
            raise unknown_document(hash_)
        return text

    # ---- runs
    async def accept(self, run: RunRow, *records: Record) -> Claim:
        claim = Claim(run.id, 1, secrets.token_hex(16))
        new = unlike(run.id, records, {})
        self._keep(_Run(run, Status("running", 1, self.name, self.now()), claim.token), new)
        return claim

    async def submit(self, run: RunRow) -> None:
        self._keep(_Run(run, Status("ready", 0, "", self.now()), ""), [])

    def _keep(self, run: _Run, records: Sequence[Record]) -> None:
        self._require_open()
        if run.row.id in self._store.runs or run.row.id in self._store.spent:
            raise known_already(run.row.id)
        if run.row.document not in self._store.documents:
            raise unknown_document(run.row.document)
        run.add(*records)
        run.claimed_size = run.status.size
        origin = self._store.runs.get(run.row.origin or "")
        if origin is not None:
            run.artifacts.update(origin.artifacts)
        self._store.runs[run.row.id] = run
        self._store.changed()

    async def claim(self, run_id: str, *, alone: bool = False) -> Claim:
        run = self._run(run_id)
        if run.status.state in ENDS:
            raise has_ended(run_id, run.status.state)
        if run.status.state != "ready":
            raise not_ready(run_id, run.status.state)
        run.token, run.claimed_size = secrets.token_hex(16), run.status.size
        epoch = run.status.epoch + 1
        run.set(state="running", epoch=epoch, owner=self.name, changed_at=self.now(), alone=alone)
        self._store.changed()
        return Claim(run_id, epoch, run.token)

    async def release(self, run_id: str, *, ends: int) -> State:
        run = self._run(run_id)
        if run.status.state in ENDS:
            raise has_ended(run_id, run.status.state)
        if (run.status.state, run.status.epoch) != ("running", ends):
            raise another_owner(run_id)
        crashes = 1 if run.status.size > run.claimed_size else run.status.crashes + 1
        state: State = "parked" if run.status.alone else "ready"
        reason = poison(run_id, crashes) if run.status.alone else None
        run.token = ""
        run.set(state=state, epoch=ends + 1, crashes=crashes, alone=False, reason=reason, changed_at=self.now())
        self._store.changed()
        return state

    async def write(self, claim: Claim, news: int, records: Sequence[Record] = (), then: Then = None) -> None:
        run = self._run(claim.run_id)
        if (run.status.epoch, run.token) != (claim.epoch, claim.token):
            raise another_owner(claim.run_id)
        going_on = run.status.state == "running"
        kept = {at: run.records[at].payload for at in map(key, records) if at in run.records}
        known = all(kept.get(key(record)) == record.payload for record in records)
        if known and (is_done(run.status, then) if not going_on else bool(records) and then is None):
            return
        if not going_on:
            raise not_running(claim.run_id, run.status.state)
        if run.status.news != news:
            raise behind(claim.run_id)
        run.add(*unlike(claim.run_id, records, kept))
        run.set(changed_at=self.now())
        if isinstance(then, Ended):
            run.doubt = then.doubt
            run.set(state=then.state, result=then.result)
        elif then is not None:
            run.set(state=then.state, wake_at=then.wake_at, reason=then.reason)
        if then is not None:
            self._store.changed()

    async def load(self, run_id: str) -> Kept:
        run = self._run(run_id)
        if run.status.size > LARGEST_RUN:
            raise too_large(run_id, run.status.size)
        return Kept(run.row, run.status, tuple(run.records.values()))

    async def status(self, run_id: str) -> Listed:
        return self._run(run_id).listed

    # ---- what others do to a run
    async def cancel(self, run_id: str) -> int:
        run = self._run(run_id)
        if run.status.state in ENDS:
            raise has_ended(run_id, run.status.state)
        times = sum(at[0] == "" and at[2] == "cancel" for at in run.records)
        if times == 2:
            return times
        self._tell(run, Record("", times + 1, "cancel", "{}"), rouses=("waiting", "parked"))
        return times + 1

    async def signal(self, run_id: str, path: str, payload: str) -> None:
        run = self._run(run_id)
        found = [(each.n, each.kind, each.payload) for each in run.records.values() if each.path == path]
        n = wait_for(run_id, path, payload, found, ended=run.status.state in ENDS, now=self.now())
        if n is not None:
            self._tell(run, Record(path, n, "signal", payload), rouses=("waiting",))

    def _tell(self, run: _Run, record: Record, *, rouses: tuple[State, ...]) -> None:
        run.add(record)
        run.set(news=run.status.news + 1)
        if run.status.state in rouses:
            self._rouse(run)
        self._store.changed()

    def _rouse(self, run: _Run) -> None:
        run.set(state="ready", wake_at=None, reason=None, changed_at=self.now())

    async def resume(self, run_id: str) -> None:
        run = self._run(run_id)
        if run.status.state != "parked":
            raise not_parked(run_id, run.status.state)
        self._rouse(run)
        run.set(crashes=0)
        self._store.changed()

    # ---- what is to be done
    async def ready(self, limit: int, *, for_s: float = 0.0) -> list[str]:
        until = self.now() - for_s if for_s else math.inf  # a clock that was set back hides nothing
        found = [run for run in self._all("ready") if run.status.changed_at <= until]
        return [run.row.id for run in sorted(found, key=lambda run: (run.status.changed_at, run.row.id))[:limit]]

    async def wake(self, limit: int, *, only: str | None = None) -> list[str]:
        now = self.now()
        due = [
            (run.status.wake_at, run.row.id, run)
            for run in self._all("waiting")
            if run.status.wake_at is not None and run.status.wake_at <= now and only in (None, run.row.id)
        ]
        woken = sorted(due, key=lambda each: each[:2])[:limit]
        for _, _, run in woken:
            self._rouse(run)
        if woken:
            self._store.changed()
        return [run_id for _, run_id, _ in woken]

    async def next_wake(self) -> float | None:
        instants = [run.status.wake_at for run in self._all("waiting") if run.status.wake_at is not None]
        return min(instants, default=None)

    async def abandoned(self) -> list[Listed]:
        alive = {self.name, *self._store.alive}
        return [run.listed for run in self._all("running") if run.status.owner not in alive]

    async def attention(self) -> dict[str, int]:
        mine = (run for run in self._all("running") if run.status.owner == self.name and run.status.news)
        return {run.row.id: run.status.news for run in mine}

    async def unfinished(self) -> list[Listed]:
        return sorted((run.listed for run in self._all(*OPEN)), key=_age)

    # ---- reading
    async def runs(self, query: RunQuery) -> list[Listed]:
        found = sorted((run.listed for run in self._all() if _fits(run.listed, query)), key=_age, reverse=True)
        if query.before is not None:
            last = _age(self._run(query.before).listed)
            found = [run for run in found if _age(run) < last]
        return found[: query.limit]

    # ---- files
    async def save_artifact(self, run_id: str, content: bytes, *, name: str, content_type: str) -> JsonObject:
        refuse_large_artifact(content, name)
        artifact = hashlib.sha256(content).hexdigest()
        self._run(run_id).artifacts[artifact] = content
        return reference(artifact, content, name=name, content_type=content_type)

    async def read_artifact(self, run_id: str, artifact: str) -> bytes:
        content = self._run(run_id).artifacts.get(artifact.removeprefix("sha256:"))
        if content is None:
            raise unknown_artifact(artifact)
        return content

    async def purge(self, before: float, *, limit: int = 10_000) -> Purged:
        old = [run for run in self._all(*ENDS) if run.status.changed_at < before]
        doubtful = sum(run.doubt for run in old)
        gone = sorted((run for run in old if not run.doubt), key=lambda run: run.status.changed_at)[:limit]
        for run in gone:
            del self._store.runs[run.row.id]
            if run.row.trigger != "null":
                self._store.spent.add(run.row.id)
        needed = {run.row.document for run in self._store.runs.values()}
        documents = {run.row.document for run in gone} - needed
        for hash_ in documents:
            del self._store.documents[hash_]
        if gone:
            self._store.changed()
        return Purged(
            runs=len(gone),
            records=sum(len(run.records) for run in gone),
            documents=len(documents),
            artifacts=sum(len(run.artifacts) for run in gone),
            kept={"doubt": doubtful} if doubtful else {},
        )

    # ---- in here
    def _require_open(self) -> None:
        if self._closed:
            raise JournalUnavailable("The journal is closed.", code="journal_closed")

    def _run(self, run_id: str) -> _Run:
        self._require_open()
        run = self._store.runs.get(run_id)
        if run is None:
            raise unknown_run(run_id)
        return run

    def _all(self, *states: State) -> list[_Run]:
        self._require_open()
        return [run for run in self._store.runs.values() if not states or run.status.state in states]


def _age(run: Listed) -> tuple[float, str]:
    return run.row.started_at, run.row.id


def _fits(run: Listed, query: RunQuery) -> bool:
    row, status = run.row, run.status
    if query.workflow not in (None, row.workflow) or (query.states and status.state not in query.states):
        return False
    if query.since is not None and row.started_at < query.since:
        return False
    if query.until is not None and row.started_at >= query.until:
        return False
    if query.text is None:
        return True
    texts = [text.lower() for text in (row.id, row.workflow, row.inputs, status.result, status.reason) if text]
    return any(needle in text for needle in needles(query.text) for text in texts)
