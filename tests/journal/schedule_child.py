"""A process that decides about a schedule until its last instant has fired: `address document skew_s last`."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace

from weft.errors import JournalRefused
from weft.journal.base import Occurrence, RunRow, ScheduleMove, ScheduleView
from weft.journal.postgres import PostgresJournal

STEP_S = 0.05


def think(view: ScheduleView) -> ScheduleMove | None:
    """Fire the next instant, if it has come."""
    schedule = view.schedule
    assert schedule is not None
    assert schedule.next_at is not None
    if view.now < schedule.next_at:
        return None
    key = f"{schedule.next_at:.6f}"
    run = RunRow(f"run {key}", "w", schedule.document, "{}", '"s"', view.now, schedule.next_at, schedule="s")
    occurrence = Occurrence("s", key, schedule.next_at, "fired", view.now, run_id=run.id)
    following = schedule.next_at + STEP_S
    moved = replace(schedule, watermark=schedule.next_at, next_at=following, fire_at=following)
    return ScheduleMove(moved, [occurrence], [run])


async def main(address: str, skew_s: str, last: str) -> None:
    truth = time.time
    time.time = lambda: truth() + float(skew_s)
    journal = PostgresJournal(address)
    await journal.open()
    fired = refused = 0
    while (await journal.schedules())[0].watermark < float(last):
        try:
            for id_ in await journal.due(1):
                fired += await journal.schedule(id_, think) is not None
        except JournalRefused:
            refused += 1
        await asyncio.sleep(0.005)
    print(fired, refused, flush=True)
    await journal.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
