"""A process that goes on with everybody's runs until it is told to stop: any number of them, none the leader."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from weft import retention
from weft.dispatch.base import happens
from weft.dispatch.keeper import Keeper
from weft.engine.driver import PLANS_KEPT, problem_of
from weft.engine.events import Asked
from weft.engine.reactor import insist
from weft.engine.report import instant, summary_of
from weft.errors import JournalUnavailable, Problem, StateUnavailable
from weft.isolation import Isolation, Say
from weft.journal.base import CRASHES_TOGETHER, Claim, Ended, Listed, Rest, RunQuery, State
from weft.journal.sqlite import SqliteJournal
from weft.reading import learn_secrets
from weft.runtime import Runtime
from weft.schedules.firing import Firing
from weft.types import JsonObject

GRACE_S: Final = 30.0
"""After a request to stop: how long steps that are under way may go on."""

FINAL: Final = frozenset(
    {
        "journal_left_behind",
        "journal_linked",
        "journal_moved",
        "journal_newer",
        "journal_no_locks",
        "journal_on_network",
        "journal_too_new",
    }
)
"""Why a journal cannot be opened, where waiting does not help."""

SILENCE_S: Final = 1.0
"""How long the journal may take before that is told."""

LONGEST_PAUSE_S: Final = 5.0
"""Between two tries to open the journal."""

IDLE_LOOK_S: Final = 0.25
DAY_S: Final = 86_400.0

_LOG = logging.getLogger("weft.worker")


class Process(ABC):
    """What a worker and the child that drives a single run have in common.

    Args:
        runtime: Not open yet; whoever made it closes it.
        say: Told of everything that happens.
        grace_s: After a request to stop: how long steps that are under way may go on.
    """

    def __init__(self, runtime: Runtime, say: Say, *, grace_s: float = GRACE_S) -> None:
        runtime.keeps = False
        runtime.driver.host = self
        self.runtime = runtime
        self.say = say
        self.states: Counter[str] = Counter()  #: how the runs left this process
        self._grace_s = grace_s
        self._stopped = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Work until there is nothing to do any more, or until the stop.

        Raises:
            JournalUnavailable: The journal cannot be used, and waiting would not help.
        """
        if await self._open():
            self.runtime.hub.stay_awake()  # so that a run is told of from its first event
            await self._work()
        if self._timer is not None:
            self._timer.cancel()

    @abstractmethod
    async def _work(self) -> None:
        """Work, with an open journal."""

    def stop(self) -> None:
        """Take nothing new; every run rests at its next step boundary, or when the grace is over."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self.runtime.driver.stop()
        self._timer = asyncio.get_running_loop().call_later(self._grace_s, self.stop_now)

    def stop_now(self) -> None:
        """Let go of every run at once; what is under way is repeated by whoever goes on with it."""
        self._stopped.set()
        self.runtime.driver.stop_now()

    async def _open(self) -> bool:
        """Open the journal, however long that takes; tell whether it is, or there was a request to stop."""
        pause_s, told = 0.25, ""
        while not self._stopped.is_set():
            opening = asyncio.create_task(self.runtime.opened())
            stopping = asyncio.create_task(self._stopped.wait())
            await asyncio.wait({opening, stopping}, timeout=SILENCE_S, return_when=asyncio.FIRST_COMPLETED)
            if not opening.done() and not self._stopped.is_set():
                told = told or self._say_waiting("The journal takes long to open; another program may hold it.", None)
                await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not opening.done():
                opening.cancel()
                break
            try:
                await opening
            except JournalUnavailable as error:
                problem = error.problem
                if problem.code in FINAL:
                    raise
                if problem.message != told:
                    told = self._say_waiting(problem.message, problem.remedy)
            else:
                if told:
                    self.say("journal_back")
                return True
            await happens(self._stopped, pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return False

    async def _learn(self) -> None:
        """Learn the secrets of all connections, which may lie in a database that is away just now."""
        while not self._stopped.is_set():
            try:
                await learn_secrets(self.runtime)
            except StateUnavailable as error:
                _LOG.warning("secrets_wait %s", error.problem.code)
                await happens(self._stopped, LONGEST_PAUSE_S)
            else:
                return

    def _say_waiting(self, message: str, remedy: str | None) -> str:
        self.say("journal_away", message=message, remedy=remedy)
        return message

    # ---- what the driver tells
    def isolates(self, found: Listed) -> bool:
        return False

    def took(self, claim: Claim) -> None:
        return None

    def let_go(self, run: Listed, how: Ended | Rest) -> None:
        """Tell of a run that has ended, or cannot go on by itself."""
        self.states[how.state] += 1
        if isinstance(how, Rest) and how.state != "parked":
            return
        result, reason = (how.result, None) if isinstance(how, Ended) else (None, how.reason)
        now = self.runtime.journal.now()
        status = replace(run.status, state=how.state, changed_at=now, result=result, reason=reason)
        self.say("run", **summary_of(Listed(run.row, status)).model_dump(mode="json"))

    def asked(self, run: Listed, question: Asked) -> None:
        self.say(
            "asks",
            run_id=run.row.id,
            workflow=run.row.workflow,
            path=question.path,
            message=question.message,
            who=list(question.who),
            deadline=None if question.deadline is None else question.deadline.isoformat(),
        )

    def cannot_follow(self, found: Listed, problem: Problem) -> None:
        self.say(
            "cannot_follow",
            run_id=found.row.id,
            workflow=found.row.workflow,
            message=problem.message,
            remedy=problem.remedy,
        )


class Alone(Process):
    """A process that goes on with a single run, and tells its parent what it has claimed."""

    def __init__(self, runtime: Runtime, run_id: str, say: Say, *, grace_s: float = GRACE_S) -> None:
        super().__init__(runtime, say, grace_s=grace_s)
        self._run_id = run_id

    async def _work(self) -> None:
        driver, journal = self.runtime.driver, self.runtime.journal
        async with Keeper(journal, None, driver):
            await insist(lambda: driver.advance(self._run_id, alone=True), _told)

    def took(self, claim: Claim) -> None:
        self.say("claimed", run_id=claim.run_id, epoch=claim.epoch, token=claim.token)


class Worker(Process):
    """Goes on with all runs that are ready, wakes those that waited, takes over from dead processes, starts what is due.

    Args:
        runtime: Not open yet; whoever made it closes it.
        say: Told of everything that happens.
        command: Starts a worker with the same options, for a run that must be alone.
        grace_s: After a request to stop: how long steps that are under way may go on.
        until_idle: Stop when nothing is ready, running or due any more.
        keep_s: How long ended runs are kept; None: for ever.
    """

    def __init__(
        self,
        runtime: Runtime,
        say: Say,
        *,
        command: Sequence[str],
        grace_s: float = GRACE_S,
        until_idle: bool = False,
        keep_s: float | None = None,
    ) -> None:
        super().__init__(runtime, say, grace_s=grace_s)
        self._journal, self._driver, self._dispatcher = runtime.journal, runtime.driver, runtime.dispatcher
        self._keeper = Keeper(self._journal, self._dispatcher, self._driver)
        self._keeper.took_over = self._took_over
        self._isolation = Isolation(runtime, self._keeper, command, self._say_of_child)
        self._firing = Firing(runtime, self._say_of_schedule)
        self._until_idle = until_idle
        self._keep_s = keep_s
        self._tidied = asyncio.Event()  #: old runs were looked for, once

    async def _work(self) -> None:
        await self._tell_found()
        async with self._keeper:  # it beats until the end: nobody takes over what is being put down (§2.4)
            beside = (self._watch_journal(), self._tidy(), self._firing.run(), self._look_for_idle())
            sides = [asyncio.create_task(each) for each in beside]
            try:
                await self._dispatcher.run(self._driver.advance)
                await self._isolation.idle()
                if self._isolation.left:
                    await self._dispatcher.again(sorted(self._isolation.left))
            except JournalUnavailable as error:  # the sweep of another worker finds them
                _LOG.warning("left_undelivered %s", error.problem.code)
            finally:
                for side in sides:
                    side.cancel()
                await asyncio.gather(*sides, return_exceptions=True)
        ended = sum(self.states[state] for state in ("succeeded", "failed", "cancelled"))
        self.say("stopped", ended=ended, parked=self.states["parked"], ready=self.states["ready"])

    def stop(self) -> None:
        if not self._stopped.is_set():
            self.say("stopping", running=len(self._driver.live) + len(self._isolation), grace_s=self._grace_s)
        self._end()

    def _end(self) -> None:
        self._dispatcher.stop()
        self._isolation.stop()
        super().stop()

    def stop_now(self) -> None:
        self._dispatcher.stop()
        self._isolation.stop_now()
        super().stop_now()

    # ---- what the others tell
    def isolates(self, found: Listed) -> bool:
        """Have a run that may be what processes die of tried alone."""
        if found.status.crashes < CRASHES_TOGETHER:
            return False
        self._isolation.take(found)
        return True

    def _took_over(self, run: Listed, state: State) -> None:
        self.say("taken_over", run_id=run.row.id, workflow=run.row.workflow, state=state)
        self._tell(Listed(run.row, replace(run.status, state=state)))

    def _tell(self, run: Listed) -> None:
        """Tell whoever listens how a run stands that nobody has in hand."""
        self.runtime.hub.publish("runs", "run", summary_of(run).model_dump(mode="json"))
        facts: JsonObject = {"run_id": run.row.id, "epoch": run.status.epoch, "state": run.status.state}
        self.runtime.hub.publish(f"run:{run.row.id}", "run", facts)

    def _say_of_schedule(self, event: str, **facts: Any) -> None:
        """Say what became of a schedule, to whoever listens, too."""
        self.say(event, **facts)
        self.runtime.hub.publish("schedules", event, facts)

    def _say_of_child(self, event: str, **facts: Any) -> None:
        if event == "run":
            self.states[str(facts["state"])] += 1
        self.say(event, **facts)

    # ---- at start
    async def _tell_found(self) -> None:
        """Say what there is to do, what waits, what cannot go on, and what this worker lacks."""
        runs = await insist(self._journal.unfinished, _told)
        left = {run.row.id for run in await insist(self._journal.abandoned, _told)}
        counts: Counter[str] = Counter(run.status.state for run in runs if run.row.id not in left)
        wakes = [run.status.wake_at for run in runs if run.status.state == "waiting" and run.status.wake_at is not None]
        self.say(
            "started",
            process=self._journal.name,
            journal="sqlite" if isinstance(self._journal, SqliteJournal) else "postgresql",
            concurrency=self._dispatcher.limit,
            left=len(left),
            ready=counts["ready"],
            running=counts["running"],
            waiting=counts["waiting"],
            next_wake=instant(min(wakes)).isoformat() if wakes else None,
            parked=dict(Counter(_code(run) for run in runs if run.status.state == "parked")),
        )
        documents = {run.row.document: run for run in runs if run.status.state != "parked"}
        for run in list(documents.values())[:PLANS_KEPT]:
            await self._can_follow(run)

    async def _can_follow(self, run: Listed) -> bool:
        try:
            return await insist(lambda: self._driver.can_follow(run), _told)
        except Exception:  # noqa: BLE001  a worker stays, whatever is wrong with one run (A16)
            _LOG.exception("run_unreadable %s", run.row.id)
            return False

    # ---- beside
    async def _watch_journal(self) -> None:
        """Say when the journal is away, or held by another program, and when it is back."""
        away = False
        while True:
            await asyncio.sleep(SILENCE_S)
            held, silent = self._silences()
            is_away = max(held, silent) > SILENCE_S
            if is_away and not away:
                message = "Another program holds the journal." if held > silent else "The journal cannot be reached."
                self._say_waiting(f"{message} Runs wait until it can be written.", None)
            elif away and not is_away:
                self.say("journal_back")
            away = is_away

    def _silences(self) -> tuple[float, float]:
        """Return for how many seconds another program has held the journal, and for how many it has not answered."""
        now = time.monotonic()
        if isinstance(self._journal, SqliteJournal):
            writer = self._journal.writer
            held, failing = (0.0 if at is None else now - at for at in (writer.held_since, writer.failing_since))
            return held, max(failing, self._keeper.failing_s)
        since = getattr(
            self._journal, "failing_since", None
        )  # of PostgreSQL's, which is imported only where it is used
        return 0.0, max(0.0 if since is None else now - since, self._keeper.failing_s)

    async def _tidy(self) -> None:
        """Remove what ended long ago, now and then daily; any number of workers may do so."""
        while self._keep_s is not None:
            try:
                purged = await retention.apply(self._journal, self._keep_s)
            except JournalUnavailable as error:
                _LOG.warning("tidying_waits %s", error.problem.code)
                await asyncio.sleep(LONGEST_PAUSE_S)
                continue
            except Exception:  # noqa: BLE001  a worker stays, whatever cannot be removed
                _LOG.exception("tidying_failed")
            else:
                if purged.runs:
                    self.say("removed", runs=purged.runs, kept=dict(purged.kept))
            self._tidied.set()
            await asyncio.sleep(DAY_S)
        self._tidied.set()

    async def _look_for_idle(self) -> None:
        """With `until_idle`, end as soon as there is nothing to do."""
        if not self._until_idle:
            return None
        await self._tidied.wait()
        while True:
            with contextlib.suppress(JournalUnavailable):
                if await self._is_idle():
                    return self._end()
            await asyncio.sleep(IDLE_LOOK_S)

    async def _is_idle(self) -> bool:
        """Tell whether nothing is due, ready or running that this worker could go on with, now or when its owner is gone."""
        if self._dispatcher.in_hand or len(self._isolation) or not await self._firing.is_idle():
            return False
        wake_at = await self._journal.next_wake()
        if wake_at is not None and wake_at <= self._journal.now():
            return False
        query = RunQuery(states=("ready", "running"), limit=100)
        while page := await self._journal.runs(query):
            for run in page:
                if run.status.state == "running" or await self._can_follow(run):
                    return False
            query = replace(query, before=page[-1].row.id)
        return True


def _code(run: Listed) -> str:
    """Return why a run is parked, in a word."""
    problem = problem_of(run.status)
    return "unknown" if problem is None else problem.code


def _told(problem: Problem) -> None:
    _LOG.warning("journal_waits %s", problem.code)
