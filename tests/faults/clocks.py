"""Row 14: the clock of a machine jumps, daylight saving comes and goes, processes sleep, die, and nobody is there.

The clock is set by the trial, from one instant of a schedule to the next; days pass in seconds. What should have been
fired is reckoned by the judge of cron lines, who shares nothing with the code.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from faults.kills import AnyPlace
from faults.ledger import Ledger
from faults.timetables import Clock, Timetable, judge
from schedules.naive_cron import instants

from weft.journal.base import Occurrence

ZONE = "Europe/Zurich"
LINES = {"often": "*/20 * * * *", "nightly": "30 2 * * *"}
POLICIES = ("all", "last", "none")
HOUR_S = 3600.0
GRACE_S = 30 * 24 * HOUR_S
SPRING = datetime(2026, 3, 28, 23, 5, tzinfo=UTC)
AUTUMN = datetime(2026, 10, 24, 22, 5, tzinfo=UTC)
DOCUMENT = """
name: NAME
enabled: true
on:
  schedule:
    - {cron: "LINE", timezone: ZONE, catch_up: POLICY, grace: 30d, overlap: allow}
steps:
  - {id: tick, uses: post}
"""
NAMES = {f"{name}-{policy}": (line, policy) for name, line in LINES.items() for policy in POLICIES}


@dataclass(frozen=True)
class Days:
    """What the clock does, and how often: each trouble is followed by some quiet hours."""

    begins: Sequence[datetime]  #: it is put forward to each of these, a night in which the clocks change
    quiet_h: float
    troubles: Sequence[str]


class Play:
    """One clock, the workers that read it, and how far it has ever come."""

    def __init__(self, place: AnyPlace, days: Days, seed: str) -> None:
        self._days, self._dice = days, random.Random(seed)
        self.clock = Clock(place.directory / "clock")
        self.clock.set(days.begins[0].timestamp())
        documents = {
            name: DOCUMENT.replace("NAME", name).replace("LINE", line).replace("ZONE", ZONE).replace("POLICY", policy)
            for name, (line, policy) in NAMES.items()
        }
        self.table = Timetable(place, documents, self.clock)
        self.latest = self.clock()

    def play(self) -> Ledger:
        """Let the days pass, and judge what became of each instant."""
        table = self.table
        for _ in range(2):
            table.work()
        table.until(lambda: len(table.schedules()) == len(NAMES), "all schedules are armed")
        armed = {row.id: row.watermark for row in table.schedules()}
        for begin in self._days.begins:
            self._to(max(begin.timestamp(), self.clock()))
            for trouble in self._dice.sample(list(self._days.troubles), len(self._days.troubles)):
                self._quietly(self._days.quiet_h)
                getattr(self, f"_{trouble}")()
                table.ledger.counts["clock troubles"] += 1
            self._quietly(self._days.quiet_h)
        end = {row.id: row.watermark for row in table.schedules()}
        if any(at > self.latest for at in end.values()):
            table.ledger.wrong.append("a schedule is ahead of every clock that there was")
        rows = table.occurrences()
        table.close()
        table.ledger.wrong += judge(table, {id_: self._wanted(id_, armed[id_], end[id_]) for id_ in armed})
        table.ledger.wrong += _by_policy(rows)
        table.ledger.wrong = [f"in {table.place.directory}: {each}" for each in table.ledger.wrong]
        return table.ledger

    def _wanted(self, id_: str, after: float, until: float) -> list[float]:
        line, _ = NAMES[id_.partition("/")[0]]
        first, last = (datetime.fromtimestamp(at, UTC).replace(second=0, microsecond=0) for at in (after, until))
        return [at.timestamp() for at in instants(line, ZONE, first, last) if after < at.timestamp() <= until]

    # ---- the clock
    def _to(self, at: float) -> None:
        """Set the clock, and wait until everything that is due then has its fate."""
        self.clock.set(at)
        self.latest = max(self.latest, at)
        self._decided()

    def _decided(self) -> None:
        self.table.until(lambda: not self.table.undecided(), "nothing is due any more")
        self.latest = max(self.latest, self.clock())

    def _quietly(self, hours: float) -> None:
        """Pass some hours as they pass: whatever is due is due at once."""
        now = datetime.fromtimestamp(self.clock(), UTC).replace(second=0, microsecond=0)
        for at in instants(LINES["often"], ZONE, now + timedelta(minutes=1), now + timedelta(hours=hours)):
            self._to(at.timestamp() + 1)

    # ---- troubles
    def _forward(self) -> None:
        """Two hours are lost at once."""
        self._to(self.clock() + 2 * HOUR_S)

    def _backward(self) -> None:
        """Two hours come again; nothing of them is fired again."""
        before = self.table.occurrences()
        self.clock.set(self.clock() - 2 * HOUR_S)
        time.sleep(1.5)
        if len(self.table.occurrences()) != len(before):
            self.table.ledger.wrong.append("something was fired while the clock showed again what it had shown")
        self._quietly(2.1)

    def _slew(self) -> None:
        """The clock is put right by a second, to and fro."""
        for by in (1.0, -1.0, 0.5, -0.5):
            self._to(self.clock() + by)

    def _suspend(self) -> None:
        """The machine sleeps for three hours."""
        for child in self.table.workers:
            child.stop()
        self.clock.set(self.clock() + 3 * HOUR_S)
        for child in self.table.workers:
            child.go_on()
        self._decided()

    def _absent(self) -> None:
        """Nobody is there for five hours: they were killed."""
        for child in list(self.table.workers):
            self.table.kill(child)
        self.clock.set(self.clock() + 5 * HOUR_S)
        for _ in range(2):
            self.table.work()
        self._decided()


def _by_policy(rows: Sequence[Occurrence]) -> list[str]:
    """Return where a policy for late starts was not kept: all of them, the last one, or none."""
    fates = {name: [row for row in rows if row.schedule == f"{name}/1"] for name in NAMES}
    wrong = []
    for name, (_, policy) in NAMES.items():
        given_up = [row for row in fates[name] if row.fate != "fired" and _could_be_made_up_for(row)]
        if policy == "all" and given_up:
            wrong.append(f"{name}: {len(given_up)} were not made up for, the first {given_up[-1].key}")
    for kind in LINES:
        fired = {policy: {row.key for row in fates[f"{kind}-{policy}"] if row.fate == "fired"} for policy in POLICIES}
        if not fired["none"] <= fired["last"] <= fired["all"]:
            wrong.append(f"{kind}: what was fired does not follow from the policies")
        gaps = _gaps(sorted(fates[f"{kind}-last"], key=lambda row: row.at))
        wrong += [f"{kind}-last: after a gap {key} was missed, though it was the last" for key in gaps]
        late = [row for row in fates[f"{kind}-none"] if row.fate == "fired" and row.decided_at - row.at > HOUR_S]
        if late:
            wrong.append(f"{kind}-none: {len(late)} were made up for")
    return wrong


def _could_be_made_up_for(row: Occurrence) -> bool:
    """Whether the grace had not passed; of a gap of more than a thousand the older ones are one row."""
    return row.count == 1 and row.decided_at - row.at <= GRACE_S


def _gaps(rows: Sequence[Occurrence]) -> list[str]:
    """Return the keys of instants that were missed last before one that was decided later than they were."""
    return [
        one.key for one, other in pairwise(rows) if one.fate == "missed" and other.decided_at - one.decided_at > HOUR_S
    ]


def turned(place: AnyPlace, days: Days, seed: str) -> Ledger:
    """Play the days; see `Play`."""
    return Play(place, days, seed).play()
