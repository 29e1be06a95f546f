"""A worker in a process of its own, to be killed, stopped and woken: `worker_child.py KIND PLACE EFFECTS`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

from advancing import Effects, Work
from sites import DEAD_S, keeper, site


async def main(kind: str, place: str, effects: Path) -> None:
    journal, dispatcher = await site(kind, place)
    work = Work(journal, Effects(effects))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, dispatcher.stop)
    async with keeper(journal, dispatcher, work):
        work.effects.add("ready", "-")
        await dispatcher.run(work.advance)
    await journal.close()
    work.effects.add("left", "-")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format=f"%(asctime)s %(process)d {DEAD_S} %(name)s %(message)s")
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
