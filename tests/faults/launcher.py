"""A process of the fault suite: `launcher.py worker …` is the command line; `launcher.py submit …` hands runs over.

launcher.py submit WORKFLOW PREFIX FIRST COUNT PAUSE_S INPUTS
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from pathlib import Path
from typing import NoReturn

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # else the names of modules here would come first

from faults import aiming, breaking, replaying  # noqa: E402

from weft.cli import app  # noqa: E402
from weft.engine.reactor import insist  # noqa: E402
from weft.errors import JournalRefused  # noqa: E402
from weft.plan import Plan  # noqa: E402
from weft.runtime import Runtime  # noqa: E402
from weft.types import JsonObject  # noqa: E402

PACK = Path(__file__).resolve().parent / "pack"


def main(words: list[str]) -> NoReturn:
    """Do what the words say, and end the process."""
    random.seed(os.environ.get("FAULTS_SEED"))
    aiming.prepare()
    breaking.prepare()
    if words[0] == "replay":
        sys.exit(asyncio.run(replaying.replay(PACK)))
    if words[0] == "submit":
        workflow, prefix, first, count, pause_s, inputs = words[1:]
        asyncio.run(
            submit(
                workflow,
                [f"{prefix}{i:05d}" for i in range(int(first), int(first) + int(count))],
                float(pause_s),
                json.loads(inputs),
            )
        )
        sys.exit(0)
    app.main(words)


async def submit(workflow: str, ids: list[str], pause_s: float, inputs: JsonObject) -> None:
    """Hand runs over to the workers, one after the other; those that are known already were accepted by a dead one."""
    async with Runtime.open(packs=[PACK]) as runtime:
        planned = runtime.compile(PACK / "workflows" / f"{workflow}.yaml")
        given = runtime.inputs(planned, inputs)
        for run_id in ids:
            await insist(lambda: handed_over(runtime, planned, given, run_id), lambda problem: None)  # noqa: B023  awaited
            print(run_id, flush=True)  # the acknowledgement
            if pause_s:
                await asyncio.sleep(random.uniform(0, 2 * pause_s))


async def handed_over(runtime: Runtime, planned: Plan, given: JsonObject, run_id: str) -> None:
    """Submit a run, or find that it was accepted before."""
    try:
        await runtime.submit(planned, given, run_id=run_id)
    except JournalRefused as refused:
        if refused.problem.code != "known_run":
            raise
        aiming.note("accepted", run_id)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    main(sys.argv[1:])
