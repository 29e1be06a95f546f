"""A year of a simulated clock: downtimes, clock steps, pauses, runs that take long; every instant has exactly one fate."""

from __future__ import annotations

import os
import random
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import naive_cron
import pytest
from simulated import World, hours, reason_of

from weft.journal.base import Occurrence
from weft.schedules import deciding

SEEDS = range(int(os.environ.get("LAB_YEARS", "1")))
"""How many different years; more by hand: LAB_YEARS=50."""

YEAR = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
SCHEDULES = [
    ("30 2 * * *", "Europe/Berlin"),
    ("*/20 1-3 * * *", "Australia/Lord_Howe"),
    ("0 0,12 * * *", "Africa/Cairo"),
    ("15 */2 * * 0,1", "America/Santiago"),
    ("10,40 1 * * *", "America/New_York"),
]


class Year:
    """A schedule and everything that happens to it."""

    def __init__(self, line: str, zone: str, seed: int) -> None:
        self.random = random.Random(f"{line} {seed}")
        self.world = World(YEAR[0].timestamp())
        self.says: dict[str, Any] = {"cron": line, "timezone": zone}
        self.previews: list[list[float]] = []

    def live(self) -> World:
        world = self.world
        world.arm(**self.says, **self.policies())
        while world.now < YEAR[1].timestamp():
            self.preview()
            self.something()
            world.now = min(world.now, YEAR[1].timestamp())
            world.fire()
            world.open = [run for run in world.open if self.random.random() < 0.3]
        world.until_done(deciding.resume)
        world.fire()
        return world

    def policies(self) -> dict[str, Any]:
        pick = self.random.choice
        found = {"catch_up": pick(["none", "last", "all"]), "overlap": pick(["skip", "queue", "cancel", "allow"])}
        return found | ({"grace": "6h"} if self.random.random() < 0.3 else {})

    def preview(self) -> None:
        if self.random.random() < 0.2:
            self.previews.append([each.at for each in islice(self.world.standing.ahead(), 5)])

    def something(self) -> None:
        """Let the clock go on, nearly always to the next instant; or let something else happen."""
        world, upcoming = self.world, self.world.standing.next
        assert upcoming is not None
        ahead = max(0.0, upcoming.at - world.now)
        match self.random.randrange(40):
            case 0:
                world.now += hours(self.random.uniform(1, 200))  # nothing runs
            case 1:
                world.now -= hours(2)
            case 2:
                world.now += hours(2)
            case 3:
                world.until_done(deciding.pause)
            case 4 | 5:
                world.until_done(deciding.resume)
            case 6:
                world.arm(**self.says, **self.policies())
            case _:
                world.now += ahead + self.random.uniform(0, 50)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("line", "zone"), SCHEDULES)
def test_every_instant_has_exactly_one_fate(line: str, zone: str, seed: int) -> None:
    """The instants of the naive oracle are those that have rows, each once; the preview was what came."""
    year = Year(line, zone, seed)
    world = year.live()
    first, last = (each.replace(second=0) for each in YEAR)
    expected = [at.timestamp() for at in naive_cron.instants(line, zone, first, last) if at > first]

    rows = sorted(world.rows.values(), key=lambda row: row.at)
    covered = [at for row in rows for at in instants_of(row, expected)]

    assert covered == expected
    assert {row.fate for row in rows} >= {"fired", "missed"}
    assert len(world.runs) == sum(row.fate == "fired" for row in rows)
    for preview in year.previews:
        begin = bisect_left(expected, preview[0])
        there = expected[begin : begin + len(preview)]
        assert there == preview[: len(there)]


def instants_of(row: Occurrence, expected: list[float]) -> list[float]:
    """Return the instants that a row stands for, of those that there are."""
    if row.count == 1:
        return [row.at]
    last = datetime.fromisoformat(reason_of(row)["until"]).timestamp()
    found = expected[bisect_left(expected, row.at) : bisect_right(expected, last)]
    assert len(found) == row.count
    return found
