"""A schedule without a journal: its row, its occurrences and its open runs, moved by the pure decisions alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from weft.errors import JournalRefused, Problem
from weft.journal.base import Listed, Occurrence, RunRow, Schedule, ScheduleMove, ScheduleView, Status
from weft.schedules import deciding
from weft.schedules.deciding import Arming
from weft.schedules.standing import Standing
from weft.schedules.starting import run_id_of
from weft.schedules.times import Instant
from weft.workflow import Schedule as Says

Think = Callable[[ScheduleView], ScheduleMove | None]


def make(standing: Standing, instant: Instant, now: float) -> RunRow:
    row = standing.row
    trigger = json.dumps({"overlap": standing.spec.says.overlap})
    return RunRow(run_id_of(standing, instant), row.workflow, row.document, "{}", trigger, now, schedule=row.id)


def make_backfill(standing: Standing, instant: Instant, now: float) -> RunRow:
    run = make(standing, instant, now)
    return RunRow(run.id, run.workflow, run.document, "{}", json.dumps({"backfill": True}), now, schedule=run.schedule)


@dataclass
class World:
    """What a journal would keep; `now` is its clock."""

    now: float = 0.0
    row: Schedule | None = None
    rows: dict[str, Occurrence] = field(default_factory=dict)
    runs: dict[str, RunRow] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    refuses: str | None = None  #: the code with which the next run is refused
    moves: list[ScheduleMove] = field(default_factory=list)

    def do(self, think: Think, keys: tuple[str, ...] = ()) -> ScheduleMove | None:
        """Apply one decision, as a journal would, all or nothing."""
        listed = tuple(Listed(self.runs[id_], Status("running", 1, "", self.now)) for id_ in self.open)
        known = frozenset(key for key in keys if key in self.rows)
        move = think(ScheduleView(self.row, self.now, listed, known))
        if move is None:
            return None
        if move.runs and self.refuses is not None:
            code, self.refuses = self.refuses, None
            raise JournalRefused("Kept out.", code=code)
        for run in move.runs:
            if run.id in self.runs:
                raise JournalRefused("Known.", code="known_run")
        assert not {each.key for each in move.occurrences} & self.rows.keys(), "a second fate"
        self.row = move.schedule
        self.rows |= {each.key: each for each in move.occurrences}
        for run in move.runs:
            self.runs[run.id] = run
            self.open.append(run.id)
        self.cancelled += move.cancels
        self.moves.append(move)
        return move

    def until_done(self, think: Think) -> int:
        count = 0
        while self.do(think) is not None:
            count += 1
        return count

    def fire(self) -> int:
        """Decide all that is due; return in how many transactions."""
        return self.until_done(lambda view: deciding.fire(view, make))

    def arm(self, document: str = "d", source: str = "here", *, take: bool = False, **says: Any) -> None:
        given = Says(**({"timezone": "UTC"} | says))
        self.until_done(Arming("w/1", "w", source, given, document, take).think)

    @property
    def standing(self) -> Standing:
        assert self.row is not None
        return Standing.of(self.row)

    def fates(self) -> list[tuple[str, str, str]]:
        """Return the time, fate and reason of each occurrence, in order of their instants."""
        found = sorted(self.rows.values(), key=lambda each: each.at)
        return [(each.key[11:16], each.fate, code_of(each)) for each in found]


def code_of(occurrence: Occurrence) -> str:
    return "" if occurrence.reason is None else str(json.loads(occurrence.reason)["code"])


def reason_of(occurrence: Occurrence) -> dict[str, Any]:
    assert occurrence.reason is not None
    found: dict[str, Any] = json.loads(occurrence.reason)
    return found


def at(text: str) -> float:
    """Return an instant of 2 March 2026, UTC: `08:00`, or any that is written in full."""
    return datetime.fromisoformat(text if len(text) > 8 else f"2026-03-02T{text}+00:00").timestamp()


def hours(count: float) -> float:
    return timedelta(hours=count).total_seconds()


def shown(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def refused(code: str) -> Problem:
    return Problem(code, "Kept out.")
