"""Row 15: several schedulers and one thousand instants; they die, and the clocks of some machines are wrong."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from faults.kills import AnyPlace
from faults.ledger import Ledger
from faults.timetables import Timetable, judge

from weft.schedules.standing import Standing

DOCUMENT = """
name: NAME
enabled: true
on:
  schedule:
    - {every: 1s, timezone: Europe/Zurich, catch_up: all, grace: 1h, overlap: allow}
steps:
  - {id: tick, uses: post}
"""


@dataclass(frozen=True)
class Rush:
    """How many schedules tick once a second, and for how long, before how many schedulers, of which so many die."""

    schedules: int
    seconds: float
    schedulers: int = 4
    kills: int = 0
    skews: tuple[float, ...] = ()  #: by which the clocks of some machines are wrong, in seconds


def rushed(place: AnyPlace, rush: Rush, seed: str) -> Ledger:
    """Let the schedules tick, with schedulers that die and come again: each instant is fired once."""
    dice = random.Random(seed)
    names = [f"tick-{i:02d}" for i in range(rush.schedules)]
    table = Timetable(place, {name: DOCUMENT.replace("NAME", name) for name in names})
    skews = [*rush.skews, *[None] * rush.schedulers][: rush.schedulers]
    for skew_s in skews:
        table.work(skew_s=skew_s)
    table.until(lambda: len(table.schedules()) == len(names), "all schedules are armed")
    for _ in range(rush.kills + 1):
        time.sleep(rush.seconds / (rush.kills + 1))
        table.look()
        if table.ledger.counts["kills"] < rush.kills:
            table.kill(dice.choice(table.workers))
            table.work(skew_s=dice.choice(skews))
    rows = table.schedules()
    table.close()
    wanted = {}
    for row in rows:
        anchor = Standing.of(row).spec.anchor
        last = max((each.at for each in table.occurrences() if each.schedule == row.id), default=anchor)
        wanted[row.id] = [anchor + i for i in range(1, round(last - anchor) + 1)]
    table.ledger.wrong += judge(table, wanted)
    table.ledger.wrong = [f"in {place.directory}: {each}" for each in table.ledger.wrong]
    expected = rush.schedules * (rush.seconds - 5)
    if table.ledger.counts["instants fired"] < expected * 0.9:
        table.ledger.wrong.append(f"only {table.ledger.counts['instants fired']} of {expected:.0f} instants were fired")
    return table.ledger
