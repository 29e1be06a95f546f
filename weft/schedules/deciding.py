"""What becomes of a schedule's instants: pure functions, made for `Journal.schedule`.

Each is given where a schedule stands by the journal's own clock, and returns what is to be done in one transaction. An
instant is decided once, in order: whatever is decided lies at or before the watermark, whatever lies after it is not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final, TypeAlias

from weft.errors import Problem, WeftError
from weft.journal.base import Fate, Listed, Occurrence, RunRow, Schedule, ScheduleMove, ScheduleView
from weft.outcome import encode
from weft.schedules.standing import Spec, Standing, same_times
from weft.schedules.times import Instant, Times
from weft.types import JsonObject
from weft.workflow import Schedule as Says
from weft.workflow import seconds

BATCH: Final = 100
"""Instants that one transaction decides (rule B8)."""

GAP: Final = 1_000
"""Late instants of which each has a row of its own; of more, the older ones are one row (rule B8)."""

ON_TIME_S: Final = 60.0
"""A start that is less late than this is on time; others are made up for, or missed."""

ALARM: Final = 3
"""Starts skipped in a row after which somebody is told (rule B7)."""

NAMED: Final = 5
"""Runs that the reason of a skipped start names."""

Make: TypeAlias = Callable[[Standing, Instant, float], RunRow]
"""Makes the run of an instant, given the journal's time; raises a WeftError when its inputs do not fit."""


# ---- the clock
def fire(view: ScheduleView, make: Make, *, most: int = BATCH, refused: Problem | None = None) -> ScheduleMove | None:
    """Decide what is due: start it, skip it, or say that it was missed.

    Args:
        view: Where the schedule stands.
        make: Makes the runs.
        most: How many instants to decide.
        refused: Why the journal would not have the run of the first one; then only this one is decided.
    """
    if view.schedule is None or view.schedule.retired:
        return None
    standing = Standing.of(view.schedule)
    if standing.is_behind:
        return ScheduleMove(standing.at(standing.next, watermark=view.schedule.watermark))
    if next(standing.due(view.now), None) is None:
        return None
    if standing.row.paused:
        return settle(standing, view.now, "skipped", {"code": "paused"})
    return _Batch(standing, view, make, refused).move(1 if refused else most)


@dataclass(slots=True)
class _Batch:
    """The due instants of one transaction."""

    standing: Standing
    view: ScheduleView
    make: Make
    refused: Problem | None
    occurrences: list[Occurrence] = field(default_factory=list)
    runs: list[RunRow] = field(default_factory=list)
    cancels: list[str] = field(default_factory=list)
    skips: int = 0

    def move(self, most: int) -> ScheduleMove:
        standing, now = self.standing, self.view.now
        self.skips = standing.spec.skips
        if (gap := self._gap()) is not None:
            return gap
        due = list(islice(standing.due(now), most + 1))
        latest = due[-1] if len(due) <= most else standing.latest(now) or due[-1]
        for instant in due[:most]:
            self._decide(instant, latest if instant.at < latest.at else None)
        moved = standing.after(due[:most][-1], skips=self.skips)
        return ScheduleMove(moved, self.occurrences, self.runs, self.cancels)

    def _gap(self) -> ScheduleMove | None:
        """Return one row for all that is late and will not be started, where that is very much."""
        standing = self.standing
        until = self.view.now - ON_TIME_S - standing.times.jitter_s
        count = standing.count(until)
        if count <= GAP:
            return None
        kept = {"none": 0, "last": 1, "all": GAP}[standing.spec.says.catch_up]
        last = next(islice(standing.times.until(until), kept, None))
        return _range(standing, self.view.now, last, count - kept, "missed", {"code": "gap"})

    def _decide(self, instant: Instant, later: Instant | None) -> None:
        """Decide one instant.

        Args:
            instant: It is due.
            later: The latest that is due, if it is not this one.
        """
        says = self.standing.spec.says
        late_s = self.view.now - self.standing.times.due(self.standing.row.id, instant)
        made_up = late_s >= ON_TIME_S
        if made_up:
            if says.catch_up == "none":
                return self._row(instant, "missed", {"code": "late", "late_s": round(late_s)})
            if says.grace is not None and late_s > seconds(says.grace):
                return self._row(instant, "missed", {"code": "grace", "late_s": round(late_s)})
            if says.catch_up == "last" and later is not None:
                return self._row(instant, "missed", {"code": "superseded", "by": later.key})
        if self.refused is not None:
            return self._refuse(instant, self.refused)
        waits = made_up and says.catch_up == "all"
        if not waits and (reason := self._kept_out(later)) is not None:
            self.skips += 1
            return self._row(instant, "skipped", reason)
        return self._start(instant, {"code": "made_up", "late_s": round(late_s)} if made_up else None, waits=waits)

    def _kept_out(self, later: Instant | None) -> JsonObject | None:
        """Return why a start is skipped for the sake of another run; starts that are made up for one by one never are."""
        match self.standing.spec.says.overlap:
            case "skip" if blockers := [*self._open(), *[run.id for run in self.runs]]:
                return {"code": "overlap", "blockers": [*blockers[:NAMED]], "count": len(blockers)}
            case "cancel" if later is not None:  # the later one would end this one at once
                return {"code": "superseded", "by": later.key}
        return None

    def _start(self, instant: Instant, reason: JsonObject | None, *, waits: bool) -> None:
        try:
            run = self.make(self.standing, instant, self.view.now)
        except WeftError as error:
            problem = error.problem
            self.skips += 1
            return self._row(instant, "skipped", {"code": problem.code, "message": problem.message})
        if self.standing.spec.says.overlap == "cancel" and not waits:
            self.cancels += [run_id for run_id in self._not_cancelled() if run_id not in self.cancels]
        self.runs.append(run)
        self.skips = 0
        return self._row(instant, "fired", reason, run.id)

    def _refuse(self, instant: Instant, refused: Problem) -> None:
        """Decide an instant whose run the journal would not have."""
        if refused.code == "known_run":  # it was started, by whatever hand
            run = self.make(self.standing, instant, self.view.now)
            return self._row(instant, "fired", {"code": "known_run"}, run.id)
        if refused.code == "known_occurrence":
            return None
        self.skips += 1
        remedy: JsonObject = {"remedy": refused.remedy} if refused.remedy else {}
        return self._row(instant, "skipped", {"code": refused.code, "message": refused.message, **remedy})

    def _row(self, instant: Instant, fate: Fate, reason: JsonObject | None, run_id: str | None = None) -> None:
        self.occurrences.append(_occurrence(self.standing, instant, self.view.now, fate, reason, run_id))

    def _open(self) -> list[str]:
        return [run.row.id for run in _regular(self.view.open)]

    def _not_cancelled(self) -> Iterator[str]:
        """Yield the open runs that no later start has cancelled; to cancel again would cut them off."""
        for run in reversed(_regular(self.view.open)):
            yield run.row.id
            if json.loads(run.row.trigger).get("overlap") == "cancel":  # it has cancelled those before it
                return


def _regular(runs: Sequence[Listed]) -> list[Listed]:
    """Return the runs that the clock has started."""
    return [run for run in runs if not json.loads(run.row.trigger).get("backfill")]


# ---- what will not be started any more
def settle(
    standing: Standing, now: float, fate: Fate, reason: JsonObject, *, whole: bool = False
) -> ScheduleMove | None:
    """Give one fate to what is due, a batch at a time; None when nothing is.

    Args:
        standing: Where the schedule stands.
        now: The journal's time.
        fate: Of all of them.
        reason: For it.
        whole: Also to instants that have come, but are put off by their jitter.
    """
    until = now if whole else now - standing.times.jitter_s
    count = standing.count(until)
    if count > GAP:
        return _range(standing, now, next(standing.times.until(until)), count, fate, reason)
    due = [each for each in islice(standing.ahead(), BATCH) if each.at <= now] if whole else []
    due = due if whole else list(islice(standing.due(now), BATCH))
    if not due:
        return None
    rows = [_occurrence(standing, instant, now, fate, reason) for instant in due]
    return ScheduleMove(standing.after(due[-1]), rows)


def _range(  # noqa: PLR0917  each is another thing
    standing: Standing, now: float, last: Instant, count: int, fate: Fate, reason: JsonObject
) -> ScheduleMove:
    first = standing.next
    assert first is not None  # noqa: S101  there are many
    row = _occurrence(standing, first, now, fate, {**reason, "until": last.key})
    return ScheduleMove(standing.after(last), [replace(row, count=count)])


def _occurrence(  # noqa: PLR0917  the columns of a row
    standing: Standing, instant: Instant, now: float, fate: Fate, reason: JsonObject | None, run_id: str | None = None
) -> Occurrence:
    told = None if reason is None else encode(reason)
    return Occurrence(standing.row.id, instant.key, instant.at, fate, now, told, run_id)


# ---- the document
@dataclass(frozen=True, slots=True)
class Arming:
    """A schedule as a document has it."""

    id: str
    workflow: str
    source: str
    says: Says
    document: str  #: hash of what its runs follow
    take: bool = False  #: also from another workspace
    file: str | None = None  #: where the document is

    def is_foreign(self, row: Schedule) -> bool:
        """Tell whether a schedule belongs to another workspace, and would be changed."""
        return row.source != self.source and not row.retired and not self.is_like(row) and not self.take

    def is_like(self, row: Schedule) -> bool:
        """Tell whether a schedule is armed as the document says."""
        same = row.document == self.document and Standing.of(row).spec.says == self.says
        return same and not row.retired

    def owned(self, row: Schedule) -> Schedule:
        """Return the schedule as one of this workspace and of this file."""
        spec = Standing.of(row).spec
        text = row.spec if spec.file == self.file else spec.model_copy(update={"file": self.file}).model_dump_json()
        return replace(row, source=self.source, document=self.document, spec=text)

    def think(self, view: ScheduleView) -> ScheduleMove | None:
        """Bring the schedule to what the document says.

        Other times count from now on; what was due by the old ones and is not decided was missed. Other policies and
        another document hold at once, for everything that is not decided.
        """
        row = view.schedule
        if row is None or row.retired:
            return ScheduleMove(self._new(view, row))
        owned = self.owned(row)
        if self.is_foreign(row) or (self.is_like(row) and row.source != self.source and not self.take):
            return None
        if self.is_like(row):
            return None if owned == row else ScheduleMove(owned)
        standing = Standing.of(row)
        if same_times(standing.spec.says, self.says):
            spec = Standing.of(owned).spec.model_copy(update={"says": self.says})
            return ScheduleMove(_recomputed(replace(owned, spec=spec.model_dump_json())))
        undecided = settle(standing, view.now, *_old(row, "edited"), whole=True)
        return undecided or ScheduleMove(self._new(view, owned))

    def _new(self, view: ScheduleView, row: Schedule | None) -> Schedule:
        """Return the schedule counting from now; an interval that stays as long as it was keeps its beat."""
        now = view.now
        anchor, paused_at = float(int(now)), None
        if row is not None:
            before = Standing.of(row).spec
            same = before.says.every == self.says.every and before.says.start == self.says.start and not row.retired
            anchor, paused_at = before.anchor if same else anchor, before.paused_at
        spec = Spec(says=self.says, anchor=anchor, paused_at=paused_at, file=self.file)
        watermark = now if row is None else max(now, row.watermark)
        paused = row is not None and row.paused
        made = Schedule(self.id, self.workflow, self.source, "", self.document, watermark, paused=paused)
        standing = Standing(made, spec, Times(self.says, anchor))
        return standing.at(next(standing.times.after(watermark), None), watermark=watermark)


def _recomputed(row: Schedule) -> Schedule:
    """Return a schedule whose next instant is put off by its present jitter."""
    standing = Standing.of(row)
    return standing.at(standing.next, watermark=row.watermark)


def _old(row: Schedule, code: str) -> tuple[Fate, JsonObject]:
    """Return what becomes of instants that a schedule no longer has."""
    return ("skipped", {"code": "paused"}) if row.paused else ("missed", {"code": code})


def retire(view: ScheduleView, source: str | None = None) -> ScheduleMove | None:
    """Take a schedule out of use, because its document no longer has it, or is no longer enabled.

    Args:
        view: Where it stands.
        source: The workspace that says so; None: whichever.
    """
    row = view.schedule
    if row is None or row.retired or source not in (None, row.source):
        return None
    standing = Standing.of(row)
    undecided = settle(standing, view.now, *_old(row, "retired"), whole=True)
    if undecided is not None:
        return undecided
    moved = standing.at(None, watermark=max(view.now, row.watermark))
    return ScheduleMove(replace(moved, retired=True))


# ---- by hand
def pause(view: ScheduleView) -> ScheduleMove | None:
    """Start nothing any more, not even what is due already."""
    row = view.schedule
    if row is None or row.retired or row.paused:
        return None
    spec = Standing.of(row).spec.model_copy(update={"paused_at": view.now})
    return ScheduleMove(replace(row, paused=True, spec=spec.model_dump_json()))


def resume(view: ScheduleView) -> ScheduleMove | None:
    """Go on with the next instant; those of the pause were skipped."""
    row = view.schedule
    if row is None or row.retired or not row.paused:
        return None
    standing = Standing.of(row)
    undecided = settle(standing, view.now, "skipped", {"code": "paused"})
    if undecided is not None:
        return undecided
    spec = standing.spec.model_copy(update={"paused_at": None, "skips": 0})
    return ScheduleMove(replace(row, paused=False, spec=spec.model_dump_json()))


def backfill(view: ScheduleView, instant: Instant, make: Make) -> ScheduleMove | None:
    """Start the run of one instant that is past, under its own key and id.

    An instant that was skipped or missed keeps its row: that is what the clock did. One without a row gets it now.
    """
    row = view.schedule
    if row is None or instant.at > row.watermark:
        return None
    standing = Standing.of(row)
    run = make(standing, instant, view.now)
    known = instant.key in view.known
    rows = [] if known else [_occurrence(standing, instant, view.now, "fired", {"code": "backfill"}, run.id)]
    return ScheduleMove(row, rows, [run])
