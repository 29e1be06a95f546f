"""The loop that starts what is due: any number of workers run it, none is the leader.

The journal's clock says what is due, and the lock of the schedule lets one process after another decide, each on what
the one before has left (rule A23). So it does not matter who is first, nor what other clocks show.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from weft.errors import JournalRefused, JournalUnavailable, Problem, StateUnavailable, WeftError
from weft.isolation import Say
from weft.journal.base import Occurrence, RunRow, ScheduleMove, ScheduleView
from weft.plan import Plan
from weft.runtime import Runtime
from weft.schedules.arming import Armed, Faulty, Found, Synced, look, only_here, sync
from weft.schedules.deciding import ALARM, BATCH, fire
from weft.schedules.reasons import told
from weft.schedules.standing import Standing
from weft.schedules.starting import run_of
from weft.schedules.times import Instant
from weft.types import Json, JsonObject
from weft.workspace import Files

LOOK_S: Final = 1.0
"""The longest time between two looks for what is due: others arm schedules, too."""

BREATH_S: Final = 0.02
"""Between two looks, however much is due: somebody else may be at it."""

FILES_S: Final = 2.0
"""Between two looks at the files of the workspace."""

AT_ONCE: Final = 100
"""Schedules that one look takes."""

THROTTLE_S: Final = 1.0
"""After a whole batch of one schedule (rule B8)."""

AILING_S: Final = 30.0
"""After which a schedule is tried again that could not be decided here."""

NAMED: Final = 5
"""Names in a sentence."""

PLANS: Final = 100
"""Plans that are kept at hand."""

_LOG = logging.getLogger("weft.schedules")


class Firing:
    """Arms the workspace's schedules and starts their runs.

    Args:
        runtime: Its journal is open.
        say: Told of what is armed, and of what does not start.
    """

    def __init__(self, runtime: Runtime, say: Say) -> None:
        self._runtime, self._journal = runtime, runtime.journal
        self._say = say
        self._files: Found | None = None
        self._looked = asyncio.Event()  #: the files were looked at, whatever came of it
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._later: dict[str, float] = {}  #: schedule → monotonic instant before which it is left alone
        self._ailing: dict[str, str] = {}  #: schedule → what was told of it
        self._faulty: dict[str, str] = {}  #: workflow → what was told of it

    async def run(self) -> None:
        """Go on until it is cancelled. What the files say holds before anything is started."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever(self._look_at_files))
            await self._looked.wait()
            group.create_task(self._forever(self.turn))

    async def is_idle(self) -> bool:
        """Tell whether nothing is due that can be decided here."""
        if not self._looked.is_set():
            return False
        due = await self._journal.due(AT_ONCE + len(self._later))
        return all(id_ in self._ailing for id_ in due)

    async def _forever(self, turn: Callable[[], Awaitable[float]]) -> None:
        while True:
            try:
                pause_s = await turn()
            except (JournalUnavailable, StateUnavailable) as error:  # the worker tells of it
                _LOG.info("schedules_wait %s", error.problem.code)
                pause_s = LOOK_S
            except Exception:  # noqa: BLE001  a loop that ends would start nothing any more
                _LOG.exception("schedules_failed")
                pause_s = LOOK_S
            await asyncio.sleep(pause_s)

    # ---- the workspace
    async def _look_at_files(self) -> float:
        found = await look(self._runtime)
        if found != self._files:
            before, self._files = self._files, found
            try:
                synced = await sync(self._runtime, found, trust_empty=_is_emptied(before, found))
                self._tell_synced(synced, found, first=before is None)
                if before is None:
                    await self._tell_only_here()
            except (JournalUnavailable, StateUnavailable):
                self._files = before
                raise
            finally:
                if self._files is not None:
                    self._looked.set()
        return FILES_S

    def _tell_synced(self, synced: Synced, found: Found, *, first: bool) -> None:
        for armed in synced.schedules:
            if first or armed.change != "unchanged":
                self._say("schedule", **_facts(armed))
        if synced.held:
            self._say(
                "workspace_empty",
                directory=found.source,
                kept=[row.id for row in synced.held],
                message=f"There is no workflow in {found.source}. What was armed from it goes on.",
                remedy="Mount it, or, if it is meant to be empty: weft schedules sync",
            )
        for faulty in synced.faulty:
            if self._faulty.get(faulty.workflow) != faulty.problem.message:
                self._tell_faulty(faulty)
        self._faulty = {faulty.workflow: faulty.problem.message for faulty in synced.faulty}

    async def _tell_only_here(self) -> None:
        """Say of which files nobody will take notice, since the workspace is in the database."""
        names = await only_here(self._runtime)
        if names:
            place = self._runtime.workspace
            self._say(
                "not_in_database",
                directory=str(place),
                workflows=[*names],
                message=f"Workflows are taken from the database; {_listed(names)} of {place}/ {_are(names)} not in it.",
                remedy="Bring them there: weft workspace push; or name the directory in WEFT_WORKSPACE.",
            )

    def _tell_faulty(self, faulty: Faulty) -> None:
        problem = faulty.problem
        self._say(
            "not_armed",
            workflow=faulty.workflow,
            file=faulty.file,
            code=problem.code,
            message=problem.message,
            line=problem.where.line,
            remedy=problem.remedy,
            kept=[row.id for row in faulty.kept],
        )

    # ---- the clock
    async def turn(self) -> float:
        """Decide what is due now, and return after how many seconds to look again."""
        at = await self._journal.next_due()
        left = LOOK_S if at is None else at - self._journal.now()
        if left > 0:
            return min(left, LOOK_S)
        now = time.monotonic()
        self._later = {id_: until for id_, until in self._later.items() if until > now}
        ready = [id_ for id_ in await self._journal.due(AT_ONCE + len(self._later)) if id_ not in self._later]
        for id_ in ready:
            await self._decide(id_)
        return BREATH_S if ready else min(LOOK_S, *(until - now for until in self._later.values()), LOOK_S)

    async def _decide(self, id_: str) -> None:
        """Decide a batch of a schedule's instants."""
        try:
            move = await self._moved(id_)
        except JournalUnavailable:
            raise
        except WeftError as error:
            return self._ail(id_, error.problem)
        except Exception as error:  # noqa: BLE001  one schedule must not keep the others from their time
            _LOG.exception("schedule_failed %s", id_)
            name = type(error).__name__
            return self._ail(id_, Problem("fault", f"A fault of Weft itself ({name}); the log has its details."))
        self._ailing.pop(id_, None)
        if move is None:
            return None
        self._tell(move)
        if move.runs:
            self._runtime.dispatcher.look()
        if len(move.runs) >= BATCH:
            self._later[id_] = time.monotonic() + THROTTLE_S
        return None

    async def _moved(self, id_: str) -> ScheduleMove | None:
        """Let the schedule be decided; the run that the journal would not have is found by deciding one instant alone."""
        most, refused = BATCH, None
        while True:
            try:
                return await self._once(id_, most, refused)
            except JournalRefused as error:
                if refused is not None:
                    raise
                most, refused = 1, error.problem if most == 1 else None

    async def _once(self, id_: str, most: int, refused: Problem | None) -> ScheduleMove | None:
        while True:
            needed: list[str] = []

            def think(view: ScheduleView, needed: list[str] = needed) -> ScheduleMove | None:
                row = view.schedule
                if row is not None and not row.paused and row.document not in self._plans:
                    needed.append(row.document)
                    return None
                return fire(view, self._make, most=most, refused=refused)

            move = await self._journal.schedule(id_, think)
            if not needed:
                return move
            self._plans[needed[-1]] = self._runtime.pinned_plan(await self._journal.document(needed[-1]))
            if len(self._plans) > PLANS:
                self._plans.popitem(last=False)

    def _make(self, standing: Standing, instant: Instant, now: float) -> RunRow:
        return run_of(self._plans[standing.row.document], self._runtime.inputs, standing, instant, now)

    # ---- what is said
    def _ail(self, id_: str, problem: Problem) -> None:
        self._later[id_] = time.monotonic() + AILING_S
        if self._ailing.get(id_) != problem.message:
            self._ailing[id_] = problem.message
            self._say("cannot_fire", schedule=id_, code=problem.code, message=problem.message, remedy=problem.remedy)

    def _tell(self, move: ScheduleMove) -> None:
        """Tell what was missed, and of starts that were skipped one after another (rule B7)."""
        schedule = move.schedule.id
        if missed := [each for each in move.occurrences if each.fate == "missed"]:
            count = sum(each.count for each in missed)
            self._say("missed", schedule=schedule, count=count, reason=_reason(missed[-1]), **_span(missed))
        skips = Standing.of(move.schedule).spec.skips
        skipped = [each for each in move.occurrences if each.fate == "skipped" and _reason(each)["code"] != "paused"]
        before = skips - len(skipped)
        if skipped and skips >= ALARM and (before < ALARM or skips // 50 > before // 50):
            self._say("skipped", schedule=schedule, count=skips, reason=_reason(skipped[-1]))


def _is_emptied(before: Found | None, found: Found) -> bool:
    """Tell whether a directory without workflows is one whose workflows were taken out while this process looked on."""
    if not isinstance(found, Files):
        return True
    return isinstance(before, Files) and bool(before.stamps) and before.identity == found.identity


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _reason(occurrence: Occurrence) -> JsonObject:
    return told(occurrence)


def _span(rows: list[Occurrence]) -> dict[str, Json]:
    last = _reason(rows[-1]).get("until") or rows[-1].key
    return {"first": rows[0].key, "last": last}


def _facts(armed: Armed) -> dict[str, Json]:
    row = armed.schedule
    standing = Standing.of(row)
    upcoming = standing.next
    return {
        "schedule": row.id,
        "workflow": row.workflow,
        "change": armed.change,
        "times": standing.spec.says.cron or f"every {standing.spec.says.every}",
        "timezone": standing.spec.says.timezone,
        "paused": row.paused,
        "source": row.source,
        "next": None if upcoming is None else upcoming.key,
        "next_utc": None if upcoming is None else datetime.fromtimestamp(upcoming.at, UTC).isoformat(),
    }
