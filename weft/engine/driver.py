"""Goes on with runs in this process: claims them, loads them, drives them until they end or rest."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Protocol, TypeAlias, TypeVar

from weft.engine.events import Asked, Event, Logged, Observer, RunEnded, RunStarted, RunState, guarded
from weft.engine.interpreter import Ask, Walk, key
from weft.engine.reactor import Reactor, Surroundings, Told, asked, facts_of, insist
from weft.errors import JournalRefused, Problem, WeftError, problem_from
from weft.journal.base import (
    CRASHES_TOGETHER,
    ENDS,
    OPEN,
    Claim,
    Ended,
    Kept,
    Listed,
    Rest,
    RunQuery,
    RunRow,
    State,
    Status,
)
from weft.outcome import decode, encode
from weft.plan import Plan

PLANS_KEPT: Final = 200
"""Plans that stay compiled; the least used goes first."""

CHILDREN_AT_ONCE: Final = 500
"""Child runs that are read together."""

LOOK_S: Final = 0.25
"""How often whoever follows a run that others drive looks where it stands."""

ASTRAY_S: Final = 5.0
"""How long a run may be this process's without being in its hands, before it is released."""

_LOG = logging.getLogger("weft.engine")

T = TypeVar("T")

Watcher: TypeAlias = Callable[[Kept, Plan], Observer | None]
"""Asked whenever this process takes a run in hand; what it returns is told what happens under that claim.

The first event is `RunStarted`; on a resume what is on record already is told again; the last is `RunEnded`, whose state
is that in which the run was let go: ended, `waiting`, `ready` or `parked`, and `running` when somebody else has it now.
"""


@dataclass(slots=True)
class _Watched:
    """Somebody who looks at a run, from its first claim here to its end."""

    observe: Observer
    live: bool  #: wants to see output while it is made
    told: Told = field(default_factory=Told)
    started: bool = False


class Host(Protocol):
    """The process around the driver; it learns of runs that nobody watches. Nothing that it does may raise."""

    def isolates(self, found: Listed) -> bool:
        """Tell whether it sees to it that another process goes on with a run that is ready."""

    def took(self, claim: Claim) -> None:
        """Take note that a run was claimed."""

    def let_go(self, run: Listed, how: Ended | Rest) -> None:
        """Take note that a run has ended, or rests; `run` is as it was when it was claimed."""

    def asked(self, run: Listed, question: Asked) -> None:
        """Take note that a run has begun to wait for somebody's answer."""

    def cannot_follow(self, found: Listed, problem: Problem) -> None:
        """Take note that a document cannot be followed here; told once of each."""


class Driver:
    """The runs that this process has in hand.

    Args:
        around: Journal and executor.
        plans: Makes a plan of a document that the journal has kept.
    """

    def __init__(self, around: Surroundings, plans: Callable[[str], Plan]) -> None:
        self._journal = around.journal
        self._around = around
        self._compile = plans
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._astray: dict[tuple[str, int], float] = {}  #: claims of followed runs that nobody drives here, since when
        self._live: dict[str, Reactor] = {}
        self._taken: set[str] = set()  #: claimed, or about to be, and not driven yet
        self._watched: dict[str, _Watched] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        self._followed: Counter[str] = Counter()  #: runs that somebody here waits for, with their children
        self._children: set[asyncio.Task[None]] = set()
        self._refused: dict[str, WeftError] = {}  #: documents that cannot be followed here, and why
        self.host: Host | None = None
        self.watchers: list[Watcher] = []  #: of every run in hand, whoever has started it
        self.live_output: Callable[[str], bool] = _of_none  #: of which runs output is wanted while it is made

    @property
    def live(self) -> Mapping[str, Reactor]:
        """The runs in hand, by id."""
        return self._live

    def holds(self, run_id: str) -> bool:
        """Tell whether a run is in hand, or about to be: claimed, and being loaded."""
        return run_id in self._live or run_id in self._taken

    # ---- runs of our own
    async def start(self, row: RunRow, plan: Plan, observe: Observer | None = None, *, watched: bool = False) -> Listed:
        """Accept a run, drive it, and follow it to its end, or until it is parked.

        A run with a gate may have to wait before it; whoever is free then goes on with it.

        Raises:
            JournalRefused: A run with this id is known; or its gate lets no more through.
            JournalUnavailable: It could not be accepted; or, later, the journal was closed.
        """
        if row.gate is not None:
            await self._journal.submit(row)
            self._keep_plan(row.document, plan)
            return await self.follow(row.id, observe, watched=watched)
        claim = await self._journal.accept(row)
        status = Status("running", claim.epoch, self._journal.name, row.started_at)
        return await self.go_on(claim, Kept(row, status), plan, observe, watched=watched)

    async def go_on(
        self, claim: Claim, kept: Kept, plan: Plan, observe: Observer | None = None, *, watched: bool = False
    ) -> Listed:
        """Drive a run that this process has claimed, and follow it to its end, or until it is parked; as `start` does."""
        row, status = kept.row, kept.status
        self._keep_plan(row.document, plan)
        if observe is not None:
            self._watched[row.id] = _Watched(guarded(observe), watched)
        try:
            with self._following(row.id):
                end = await self._drive(claim, kept, plan)
                if not isinstance(end, Ended):
                    return await self.follow(row.id)
            found = Listed(row, replace(status, state=end.state, changed_at=self._journal.now(), result=end.result))
            self._tell_end(found)
            return found
        finally:
            self._watched.pop(row.id, None)

    @contextlib.contextmanager
    def _following(self, run_id: str) -> Iterator[None]:
        self._followed[run_id] += 1
        try:
            yield
        finally:
            self._followed[run_id] -= 1
            if not self._followed[run_id]:
                del self._followed[run_id]

    async def follow(self, run_id: str, observe: Observer | None = None, *, watched: bool = False) -> Listed:
        """Go on with a run whenever nobody else does, until it has ended, is parked, or this process stops.

        Raises:
            NotFound: There is no such run.
            JournalUnavailable: The journal was closed.
            WeftError: It is ready, and cannot be followed here: an action or a revision is missing.
        """
        if observe is not None:
            self._watched.setdefault(run_id, _Watched(guarded(observe), watched))
        try:
            with self._following(run_id):
                while True:
                    found = await self._insist(lambda: self._journal.status(run_id))
                    if found.status.state in ENDS or found.status.state == "parked" or self._stopping:
                        self._tell_end(found)
                        return found
                    await self._step(found)
        finally:
            if observe is not None:
                self._watched.pop(run_id, None)

    async def _step(self, found: Listed) -> None:
        """Do what can be done for a run that has not ended, or wait a while for those who do it."""
        run_id, status = found.row.id, found.status
        if status.state == "ready":
            alone = status.crashes >= CRASHES_TOGETHER  # after one more nobody tries it any longer (rule A19)
            await self._insist(lambda: self.advance(run_id, alone=alone))
            if found.row.document in self._refused:
                raise self._refused[found.row.document]
            return
        left = LOOK_S
        if status.state == "waiting":
            await self._tell_rest(found)
            await self._follow_children(found)
        if status.state == "waiting" and status.wake_at is not None:
            left = status.wake_at - self._journal.now()
            if left <= 0:
                await self._insist(lambda: self._journal.wake(1, only=run_id))
                return
        elif status.state == "running" and await self._is_nobodys(found):
            await self._release(run_id, status.epoch)
            return
        await asyncio.sleep(min(left, LOOK_S))

    async def _tell_rest(self, found: Listed) -> None:
        """Tell those who follow a run that rests what it is and what it asks: nobody drives it, who would."""
        watched = self._watched.get(found.row.id)
        if watched is None or watched.started or (plan := await self._insist(lambda: self._plan(found))) is None:
            return
        kept = await self._insist(lambda: self._journal.load(found.row.id))
        self._tell_start(kept, plan, watched)
        try:
            open_ = Walk(plan, facts_of(kept), kept.records).advance()
        except WeftError as error:  # whoever drives it will park it
            _LOG.warning("cannot_be_told %s: %s", found.row.id, error.problem)
            return
        for operation in open_:
            if isinstance(operation, Ask) and operation.asked_at is not None:
                watched.told.asked.add(key(operation))
                watched.observe(asked(operation))

    async def _follow_children(self, found: Listed) -> None:
        """Go on with the child runs that a followed run waits for, when nobody else does."""
        going_on: tuple[State, ...] = tuple(state for state in OPEN if state != "parked")
        query = RunQuery(parent=found.row.id, states=going_on, limit=CHILDREN_AT_ONCE)
        while True:
            children = await self._insist(lambda: self._journal.runs(query))  # noqa: B023  awaited here
            self._started([child.row.id for child in children])
            if len(children) < CHILDREN_AT_ONCE:
                return
            query = replace(query, before=children[-1].row.id)

    def _started(self, children: Sequence[str]) -> None:
        """Follow child runs beside their parent."""
        for child in children:
            if child not in self._followed and not self._stopping:
                self._followed[child] += 1  # at once: the next look must not follow it again
                task = asyncio.create_task(self._follow_child(child))
                self._children.add(task)
                task.add_done_callback(self._children.discard)

    async def _follow_child(self, run_id: str) -> None:
        try:
            found = await self.follow(run_id)
            if found.status.state == "parked":
                self._tell_parked(found)
        except WeftError as error:
            _LOG.warning("child_left %s: %s", run_id, error.problem)
        finally:
            self._followed[run_id] -= 1
            if not self._followed[run_id]:
                del self._followed[run_id]

    def _tell_parked(self, child: Listed) -> None:
        """Say to those who follow a parent that one of its children cannot go on by itself."""
        _LOG.warning("child_parked %s", child.row.id)
        parent, problem = child.row.parent, problem_of(child.status)
        if parent is not None and (watched := self._watched.get(parent.run_id)) is not None:
            why = "" if problem is None else f": {problem.message}"
            watched.observe(Logged(parent.path, f"Child run {child.row.id} is parked{why} `weft runs resume` goes on."))

    async def children_done(self) -> None:
        """Return when no child run is followed any more."""
        while self._children:
            await asyncio.wait(self._children)

    async def _is_nobodys(self, found: Listed) -> bool:
        """Whether the owner of a running run is dead, or is this process and has lost it: nobody else would help then."""
        if found.status.owner == self._journal.name:
            return self._is_astray(found)
        abandoned = await self._insist(self._journal.abandoned)
        return any(each.row.id == found.row.id for each in abandoned)

    def _is_astray(self, found: Listed) -> bool:
        """Whether this process has had the run for a while without driving it: it lost it, or the answer to its claim."""
        at, now = (found.row.id, found.status.epoch), asyncio.get_running_loop().time()
        if self.holds(found.row.id):
            self._astray.pop(at, None)
            return False
        return now - self._astray.setdefault(at, now) >= ASTRAY_S

    async def _release(self, run_id: str, epoch: int) -> None:
        try:
            await self._insist(lambda: self._journal.release(run_id, ends=epoch))
        except JournalRefused as other:
            _LOG.debug("release_refused %s %s", run_id, other.problem.code)

    # ---- any run
    async def advance(self, run_id: str, *, alone: bool = False) -> None:
        """Claim a run that is ready and drive it until it ends or rests; a run that is not there to claim is dropped.

        A run that this process cannot follow, since it lacks an action or a revision, is left to others.

        Args:
            run_id: The run.
            alone: This process does nothing else; if it dies of it, the run is parked.

        Raises:
            JournalUnavailable: The journal could not be asked; nothing was claimed, or it was closed.
        """
        if self._stopping or self.holds(run_id):
            return
        self._taken.add(run_id)
        try:
            await self._advance(run_id, alone=alone)
        finally:
            self._taken.discard(run_id)

    async def _advance(self, run_id: str, *, alone: bool) -> None:
        found = await self._journal.status(run_id)
        if found.status.state != "ready":
            return
        if not alone and self.host is not None and self.host.isolates(found):
            return
        plan = await self._plan(found)
        if plan is None:
            return
        try:
            claim = await self._journal.claim(run_id, alone=alone)
        except JournalRefused as refused:
            _LOG.debug("delivery_dropped %s %s", run_id, refused.problem.code)
            return
        if self.host is not None:
            self.host.took(claim)
        try:
            kept = await self._as_claimed(found, claim)
        except JournalRefused as refused:
            await self._park(claim, found, refused)
            return
        if kept.status.epoch == claim.epoch:  # otherwise it was taken over while it was being loaded
            await self._drive(claim, kept, plan)

    async def _as_claimed(self, found: Listed, claim: Claim) -> Kept:
        """Return a run as it is under a new claim; one that nobody has begun is known without asking again."""
        status = found.status
        if (
            status.size == 0 and claim.epoch == status.epoch + 1
        ):  # no record, nor a claim that could have made one since
            return Kept(found.row, replace(status, state="running", epoch=claim.epoch, owner=self._journal.name))
        return await self._insist(lambda: self._journal.load(claim.run_id))

    async def _drive(self, claim: Claim, kept: Kept, plan: Plan) -> Ended | Rest | None:
        """Drive a run under a claim; return how the claim ended, None when somebody else took it over."""
        run_id = claim.run_id
        watched = self._watched.get(run_id) or _Watched(self._for_host(kept), live=False)
        self._tell_start(kept, plan, watched)
        beside = self._beside(kept, plan)
        reactor = Reactor(
            plan,
            kept,
            claim,
            self._around,
            _together([watched.observe, *beside]),
            told=watched.told,
            watched=lambda: watched.live or self.live_output(run_id),
            started=self._started if run_id in self._followed else lambda children: None,
        )
        self._live[run_id] = reactor
        self._idle.clear()
        if self._stopping:
            reactor.stop()
        then: Ended | Rest | None = None
        try:
            then = await reactor.run()
        except JournalRefused as refused:
            _LOG.warning("run_lost %s %s", run_id, refused.problem.code)
            await self._release(run_id, claim.epoch)  # if nobody has it, though the journal says that we do
            return None
        finally:
            self._tell_let_go(kept, then, beside)
            if self._live.get(run_id) is reactor:  # a younger claim of the same run may have come here meanwhile
                del self._live[run_id]
            if not self._live:
                self._idle.set()
        if self.host is not None:
            self.host.let_go(kept, then)
        return then

    async def _park(self, claim: Claim, found: Listed, error: WeftError) -> None:
        reason = encode(asdict(replace(error.problem, code="stuck")))
        rest = Rest("parked", reason=reason)
        try:
            await self._insist(lambda: self._journal.write(claim, found.status.news, (), rest))
        except JournalRefused as refused:
            _LOG.warning("run_lost %s %s", claim.run_id, refused.problem.code)
            return
        if self.host is not None:
            self.host.let_go(found, rest)
        plan = self._plans.get(found.row.document)
        if plan is not None and self.watchers:
            kept = Kept(found.row, replace(found.status, epoch=claim.epoch))
            self._tell_let_go(kept, rest, self._beside(kept, plan))

    async def can_follow(self, found: Listed) -> bool:
        """Tell whether this process has what a run needs to go on."""
        return found.row.document not in self._refused and await self._plan(found) is not None

    async def _plan(self, found: Listed) -> Plan | None:
        """Return what a run follows; None, said once in the log, when it cannot be followed here."""
        row = found.row
        if row.document in self._plans:
            self._plans.move_to_end(row.document)
            return self._plans[row.document]
        text = await self._journal.document(row.document)
        try:
            plan = self._compiled(text)
        except WeftError as error:
            if row.document not in self._refused:
                _LOG.warning("not_for_this_worker %s: %s", row.id, error.problem)
                if self.host is not None:
                    self.host.cannot_follow(found, error.problem)
            self._refused[row.document] = error
            return None
        self._keep_plan(row.document, plan)
        return plan

    def _compiled(self, text: str) -> Plan:
        try:
            return self._compile(text)
        except WeftError:
            raise
        except Exception as error:
            _LOG.exception("document_unreadable")
            raise WeftError(
                f"What the run follows cannot be read ({type(error).__name__}).",
                code="unreadable_document",
                remedy="A newer Weft may have kept it; the log has the details.",
            ) from error

    def _keep_plan(self, hash_: str, plan: Plan) -> None:
        self._plans[hash_] = plan
        self._refused.pop(hash_, None)
        while len(self._plans) > PLANS_KEPT:
            self._plans.popitem(last=False)

    async def _insist(self, work: Callable[[], Awaitable[T]]) -> T:
        return await insist(work, lambda problem: _LOG.warning("journal_waits %s", problem.code))

    # ---- from outside
    def notice(self, run_id: str) -> None:
        """Look at once what others have written to a run, if it is in hand."""
        reactor = self._live.get(run_id)
        if reactor is not None:
            reactor.notice()

    async def cancel(self, run_id: str) -> None:
        """Ask a run to stop after what must not be cut off; asked again, it stops at once.

        Raises:
            NotFound: There is no such run.
            JournalRefused: It has ended.
        """
        await self._insist(lambda: self._journal.cancel(run_id))
        self.notice(run_id)

    def stop(self) -> None:
        """Begin nothing more; every run rests at its next step boundary, ready for others."""
        self._stopping = True
        for reactor in self._live.values():
            reactor.stop()

    def stop_now(self) -> None:
        """Let go of every run at once; what is under way is repeated by whoever goes on with it."""
        self.stop()
        for reactor in self._live.values():
            reactor.stop_now()

    async def idle(self) -> None:
        """Return when no run is in hand."""
        await self._idle.wait()

    # ---- telling
    def _tell_start(self, kept: Kept, plan: Plan, watched: _Watched) -> None:
        if not watched.started:
            watched.started = True
            watched.observe(_started(kept, plan))

    def _beside(self, kept: Kept, plan: Plan) -> list[Observer]:
        """Return the observers that the watchers of every run have for one that was claimed; they know that it was."""
        found = []
        for watcher in self.watchers:
            try:
                observer = watcher(kept, plan)
            except Exception:  # noqa: BLE001  whoever looks on disturbs no run
                _LOG.exception("watcher_failed %s", kept.row.id)
                continue
            if observer is not None:
                found.append(guarded(observer))
        for observe in found:
            observe(_started(kept, plan))
        return found

    def _tell_let_go(self, kept: Kept, how: Ended | Rest | None, beside: Sequence[Observer]) -> None:
        """Tell the watchers of every run how a claim has ended; None: the run was lost to somebody else."""
        if not beside:
            return
        state: RunState = "running" if how is None else how.state
        reason = how.reason if isinstance(how, Rest) else None
        result = how.result if isinstance(how, Ended) else None
        now = self._journal.now()
        wake_at = how.wake_at if isinstance(how, Rest) else None
        status = replace(kept.status, state=state, changed_at=now, result=result, reason=reason, wake_at=wake_at)
        found = Listed(kept.row, status)
        for observe in beside:
            observe(_ended(found))

    def _for_host(self, kept: Kept) -> Observer:
        """Return what tells the process of what is new in a run that nobody watches."""
        host, since = self.host, datetime.fromtimestamp(self._journal.now(), UTC)
        if host is None:
            return _nobody

        def tell(event: Event) -> None:
            if isinstance(event, Asked) and event.at >= since:  # earlier ones were told by whoever had it
                host.asked(kept, event)

        return tell

    def _tell_end(self, found: Listed) -> None:
        watched = self._watched.get(found.row.id)
        if watched is not None:
            watched.observe(_ended(found))


def _nobody(event: Event) -> None:
    """Nobody watches."""


def _of_none(run_id: str) -> bool:
    return False


def _together(observers: Sequence[Observer]) -> Observer:
    """Return one observer for several; each is guarded by itself."""
    if len(observers) == 1:
        return observers[0]

    def tell(event: Event) -> None:
        for observe in observers:
            observe(event)

    return tell


def _started(kept: Kept, plan: Plan) -> RunStarted:
    rows = tuple((step.path, step.uses, step.title) for step in plan.steps)
    return RunStarted(kept.row.id, kept.row.workflow, datetime.fromtimestamp(kept.row.started_at, UTC), rows)


def _ended(found: Listed) -> RunEnded:
    status = found.status
    result = decode(status.result) if status.result else {}
    ms = round((status.changed_at - found.row.started_at) * 1000)
    wake_at = status.wake_at if status.state == "waiting" else None
    return RunEnded(found.row.id, status.state, ms, result.get("outputs"), problem_of(status), wake_at)


def problem_of(status: Status) -> Problem | None:
    """Return why a run failed or is parked; None when neither is so."""
    told = decode(status.result).get("problem") if status.result else status.reason and decode(status.reason)
    return problem_from(told) if told else None
