"""The journal that forgets: for `weft run` of one process and for tests."""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Final

from weft.errors import JournalRefused, JournalUnavailable
from weft.journal.base import (
    ENDS,
    LARGEST_QUEUE,
    LARGEST_RUN,
    OPEN,
    Claim,
    Ended,
    Full,
    Kept,
    Listed,
    Meter,
    Occurrence,
    OccurrenceQuery,
    Parent,
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
    LEFT_OUT,
    child_signal,
    is_done,
    key,
    known_occurrence,
    left_out,
    must_wait,
    not_parked,
    not_running,
    poison,
    refuse_gate,
    unlike,
    wait_for,
    waits_still,
)
from weft.journal.memory_store import Run, Store, age, fits, matches
from weft.types import JsonObject


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
        self._store: Store = Store() if beside is None else beside._store
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
        refuse_gate(run)
        claim = Claim(run.id, 1, secrets.token_hex(16))
        new = unlike(run.id, records, {})
        self._keep(Run(run, Status("running", 1, self.name, self.now()), claim.token), new)
        return claim

    async def submit(self, run: RunRow) -> None:
        self._submit(run)

    def _submit(self, row: RunRow) -> None:
        """Keep a run that is ready, or waits before its gate."""
        self._refuse_unfit(row)
        kin = [] if row.gate is None else self._store.of_gate(row.gate.key)
        admitted = [run.row.id for run in kin if not run.status.queued]
        queued = must_wait(row, admitted, len(kin) - len(admitted))
        state: State = "waiting" if queued else "ready"
        self._keep(Run(row, Status(state, 0, "", self.now(), queued=queued), ""), [])
        if queued and row.gate is not None and row.gate.policy == "cancel":
            oldest = next((run for run in sorted(kin, key=lambda run: run.status.queued) if not run.cancels), None)
            if oldest is not None:
                self._cancel_to(oldest, 1)

    def _refuse_unfit(self, row: RunRow) -> None:
        self._require_open()
        if row.id in self._store.runs or row.id in self._store.spent:
            raise known_already(row.id)
        if row.document not in self._store.documents:
            raise unknown_document(row.document)

    def _keep(self, run: Run, records: Sequence[Record]) -> None:
        self._refuse_unfit(run.row)
        run.add(*records)
        run.claimed_size = run.status.size
        origin = self._store.runs.get(run.row.origin or "")
        if origin is not None:
            run.artifacts.update(origin.artifacts)
        self._store.runs[run.row.id] = run
        if run.row.parent is not None:
            self._store.children.setdefault(run.row.parent.run_id, []).append(run.row.id)
        self._store.changed()

    # ---- gates
    def _let_in(self, gate: str) -> None:
        """Make those ready that have waited longest, as many as their gate lets through."""
        kin = self._store.of_gate(gate)
        going_on = sum(not run.status.queued for run in kin)
        for run in kin:
            if run.status.queued and run.status.state == "waiting":
                if run.row.gate is None or going_on >= run.row.gate.limit:
                    return
                self._rouse(run)
                going_on += 1

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
        self._store.meters.let_go(run_id)
        run.set(state=state, epoch=ends + 1, crashes=crashes, alone=False, reason=reason, changed_at=self.now())
        self._store.changed()
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
        run = self._claimed(claim)
        going_on = run.status.state == "running"
        kept = {at: run.records[at].payload for at in map(key, records) if at in run.records}
        known = all(kept.get(key(record)) == record.payload for record in records)
        missing = [(child, parent) for child in children if not self._is_there(run, child, parent := _parent(child))]
        if known and not missing and (is_done(run.status, then) if not going_on else bool(records) and then is None):
            return
        if not going_on:
            raise not_running(claim.run_id, run.status.state)
        if run.status.news != news:
            raise behind(claim.run_id)
        new = unlike(claim.run_id, records, kept)
        self._refuse_unfit_children([child for child, _ in missing])
        run.add(*new)
        run.set(changed_at=self.now())
        if claim.run_id in self._store.meters.of_run:
            self._store.meters.settle(claim.run_id, claim.epoch, records, settled)
        self._stand(run, then)
        for child, parent in missing:
            self._begin_child(child, parent)
        if isinstance(then, Ended):
            self._tell_of_end(run, then)

    def _stand(self, run: Run, then: Then) -> None:
        if then is None:
            return
        if isinstance(then, Ended):
            run.doubt = then.doubt
            run.set(state=then.state, result=then.result)
        else:
            run.set(state=then.state, wake_at=then.wake_at, reason=then.reason)
        self._store.meters.let_go(run.row.id)
        self._store.changed()

    def _claimed(self, claim: Claim) -> Run:
        run = self._run(claim.run_id)
        if (run.status.epoch, run.token) != (claim.epoch, claim.token):
            raise another_owner(claim.run_id)
        return run

    # ---- children
    def _is_there(self, run: Run, child: RunRow, parent: Parent) -> bool:
        """Tell whether a child was begun by an earlier call, or left out by its gate."""
        begun = self._store.runs.get(child.id)
        return (begun is not None and begun.row.parent == parent) or (parent.path, parent.n, "signal") in run.records

    def _refuse_unfit_children(self, children: Sequence[RunRow]) -> None:
        for number, child in enumerate(children):
            self._refuse_unfit(child)
            if any(child.id == other.id for other in children[:number]):
                raise known_already(child.id)

    def _begin_child(self, child: RunRow, parent: Parent) -> None:
        try:
            self._submit(child)
        except JournalRefused as refusal:
            if refusal.problem.code not in LEFT_OUT:
                raise
            self._answer(parent, left_out(child.id, refusal))

    def _answer(self, parent: Parent, payload: str) -> None:
        """Answer a wait of an open run, if it is open."""
        run = self._store.runs.get(parent.run_id)
        if run is None or not run.is_open:
            return
        kinds = [at[2] for at in run.records if at[:2] == (parent.path, parent.n)]
        if waits_still(kinds):
            self._tell(run, Record(parent.path, parent.n, "signal", payload), rouses=("waiting",))

    def _tell_of_end(self, run: Run, then: Ended) -> None:
        """Let those go on who wait for the end of a run; nobody waits for its children any more."""
        if run.row.parent is not None:
            self._answer(run.row.parent, child_signal(run.row.id, then.state, then.result))
        self._cancel_children(run, 1)
        if run.row.gate is not None:
            self._let_in(run.row.gate.key)

    # ---- meters
    async def hold(self, claim: Claim, news: int, begun: Record, meters: Sequence[Meter]) -> Full | None:
        run = self._claimed(claim)
        kept = {at: run.records[at].payload for at in [key(begun)] if at in run.records}
        new = unlike(claim.run_id, [begun], kept)
        going_on = run.status.state == "running"
        wanted = self._store.meters.missing(claim.run_id, claim.epoch, begun, meters)
        if going_on and not new and not wanted:
            return None
        if not going_on:
            raise not_running(claim.run_id, run.status.state)
        if run.status.news != news:
            raise behind(claim.run_id)
        full = self._store.meters.reserve(claim.run_id, claim.epoch, begun, wanted, self.now())
        if full is None:
            run.add(*new)
            run.set(changed_at=self.now())
        return full

    async def used(self, keys: Sequence[str], *, since: float | None = None, reserved: bool = False) -> dict[str, int]:
        self._require_open()
        meters = self._store.meters
        if not reserved:
            return {key_: meters.used(key_, since) for key_ in keys}
        return {key_: meters.reserved(key_, since, self._store.is_under_way) for key_ in keys}

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
        if run.cancels < 2:
            self._cancel_to(run, run.cancels + 1)
        return run.cancels

    def _cancel_to(self, run: Run, times: int) -> None:
        """Cancel a run until it has been cancelled so often, and its children with it."""
        for n in range(run.cancels + 1, times + 1):
            self._tell(run, Record("", n, "cancel", "{}"), rouses=("waiting", "parked"))
        self._cancel_children(run, times)

    def _cancel_children(self, run: Run, times: int) -> None:
        for child_id in self._store.children.get(run.row.id, ()):
            child = self._store.runs.get(child_id)
            if child is not None and child.is_open:
                self._cancel_to(child, times)

    async def signal(self, run_id: str, path: str, payload: str) -> None:
        run = self._run(run_id)
        found = [(each.n, each.kind, each.payload) for each in run.records.values() if each.path == path]
        n = wait_for(run_id, path, payload, found, ended=run.status.state in ENDS, now=self.now())
        if n is not None:
            self._tell(run, Record(path, n, "signal", payload), rouses=("waiting",))

    def _tell(self, run: Run, record: Record, *, rouses: tuple[State, ...]) -> None:
        run.add(record)
        run.set(news=run.status.news + 1)
        if run.status.state in rouses:
            self._rouse(run)
        self._store.changed()

    def _rouse(self, run: Run) -> None:
        run.set(state="ready", wake_at=None, reason=None, queued=False, changed_at=self.now())

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
        return sorted((run.listed for run in self._all(*OPEN)), key=age)

    # ---- schedules
    async def schedule(
        self, id_: str, think: Callable[[ScheduleView], ScheduleMove | None], keys: Sequence[str] = ()
    ) -> ScheduleMove | None:
        going_on = sorted((run.listed for run in self._all(*OPEN) if run.row.schedule == id_), key=age)
        known = frozenset(key_ for key_ in keys if (id_, key_) in self._store.occurrences)
        move = think(ScheduleView(self._store.schedules.get(id_), self.now(), tuple(going_on[:LARGEST_QUEUE]), known))
        if move is not None:
            with self._store.undone_if_refused():
                self._do(move)
        return move

    def _do(self, move: ScheduleMove) -> None:
        self._store.schedules[move.schedule.id] = move.schedule
        for each in move.occurrences:
            if self._store.occurrences.setdefault((each.schedule, each.key), each) is not each:
                raise known_occurrence(each.schedule, each.key)
        for run_id in move.cancels:
            run = self._store.runs.get(run_id)
            if run is not None and run.is_open:
                self._cancel_to(run, min(2, run.cancels + 1))
        for row in move.runs:
            self._submit(row)
        self._store.changed()

    async def schedules(self) -> list[Schedule]:
        self._require_open()
        return sorted(self._store.schedules.values(), key=lambda each: (each.workflow, each.id))

    async def due(self, limit: int) -> list[str]:
        self._require_open()
        return [id_ for at, id_ in sorted(self._store.armed()) if at <= self.now()][:limit]

    async def next_due(self) -> float | None:
        self._require_open()
        return min((at for at, _ in self._store.armed()), default=None)

    async def occurrences(self, query: OccurrenceQuery) -> list[Occurrence]:
        self._require_open()
        workflows = {each.id: each.workflow for each in self._store.schedules.values()}
        found = [
            each for each in self._store.occurrences.values() if matches(each, workflows.get(each.schedule), query)
        ]
        return sorted(found, key=lambda each: (each.at, each.schedule, each.key), reverse=True)[: query.limit]

    # ---- reading
    async def runs(self, query: RunQuery) -> list[Listed]:
        found = sorted((run.listed for run in self._all() if fits(run.listed, query)), key=age, reverse=True)
        if query.before is not None:
            last = age(self._run(query.before).listed)
            found = [run for run in found if age(run) < last]
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
            self._store.children.pop(run.row.id, None)
        self._store.meters.forget([run.row.id for run in gone], before, self.now())
        self._store.forget_occurrences(before, limit)
        documents = self._store.forget_documents({run.row.document for run in gone})
        if gone:
            self._store.changed()
        return Purged(
            runs=len(gone),
            records=sum(len(run.records) for run in gone),
            documents=documents,
            artifacts=sum(len(run.artifacts) for run in gone),
            kept={"doubt": doubtful} if doubtful else {},
        )

    # ---- in here
    def _require_open(self) -> None:
        if self._closed:
            raise JournalUnavailable("The journal is closed.", code="journal_closed")

    def _run(self, run_id: str) -> Run:
        self._require_open()
        run = self._store.runs.get(run_id)
        if run is None:
            raise unknown_run(run_id)
        return run

    def _all(self, *states: State) -> list[Run]:
        self._require_open()
        return self._store.all(*states)


def _parent(child: RunRow) -> Parent:
    if child.parent is None:
        raise ValueError(f"Run {child.id!r} is no child.")
    return child.parent
