"""A process that claims a run, beats, and asks on command whether it may begin an effect: `address dead_s run`."""

from __future__ import annotations

import asyncio
import sys

from weft.errors import JournalRefused
from weft.journal.base import Claim
from weft.journal.postgres import PostgresJournal


async def beat(journal: PostgresJournal) -> None:
    while True:
        await journal.beat()
        await asyncio.sleep(0.1)


async def confirm(journal: PostgresJournal, claim: Claim) -> str:
    try:
        await journal.confirm(claim)
    except JournalRefused as refusal:
        return refusal.problem.code
    return "may begin"


async def main(address: str, dead_s: str, run_id: str) -> None:
    journal = PostgresJournal(address, dead_s=float(dead_s))
    await journal.open()
    claim = await journal.claim(run_id)
    beats = asyncio.create_task(beat(journal))
    print("claimed", claim.epoch, flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        if line == "beat\n":  # what the loop does first after a pause
            await journal.beat()
        print(await confirm(journal, claim), flush=True)
    beats.cancel()
    await journal.close()


asyncio.run(main(*sys.argv[1:]))
