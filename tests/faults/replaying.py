"""Whether each run's stored result follows from its records alone; in a process that does nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from weft.engine.interpreter import Walk
from weft.engine.reactor import facts_of
from weft.journal.base import ENDS, Kept, RunQuery
from weft.plan import Plan
from weft.runtime import Runtime


async def replay(pack: Path) -> int:
    """Print what is wrong, a line each, then the number of runs that were looked at; return the exit code."""
    count, wrong = 0, 0
    async with Runtime.open(packs=[pack]) as runtime:
        journal = await runtime.opened()
        query = RunQuery(limit=500)
        while page := await journal.runs(query):
            for run in page:
                kept = await journal.load(run.row.id)
                plan = runtime.pinned_plan(await journal.document(kept.row.document))
                count += 1
                for fault in faults(kept, plan):
                    wrong += 1
                    print(f"WRONG {run.row.id}: {fault}", flush=True)
            query = replace(query, before=page[-1].row.id)
    print(f"replayed {count}", flush=True)
    return 1 if wrong else 0


def faults(kept: Kept, plan: Plan) -> Iterator[str]:
    """Yield what is wrong with a run that is over."""
    status = kept.status
    if status.state not in ENDS:
        yield f"is {status.state}: {status.reason}"
        return
    told = json.loads(status.result or "null")
    walk = Walk(plan, facts_of(kept), kept.records)
    left = walk.advance()
    if walk.result is None or left:
        yield f"its records do not lead to its end; open: {left}"
    elif (walk.result.state, walk.result.outputs) != (status.state, told["outputs"]):
        yield f"its records lead to {walk.result}, stored is {status.state} {told}"
    if kept.row.workflow == "five-steps":
        if status.state != "succeeded":
            yield f"is {status.state}: {told}"
        yield from _astray(kept)


def _astray(kept: Kept) -> Iterator[str]:
    """Compare the steps on record with those that a second, simpler reading of the document leads to."""
    ends = {(each.path, each.kind): json.loads(each.payload) for each in kept.records}
    looked = ends.get(("/look", "succeeded"))
    if looked is None:
        yield "did not look"
        return
    things = looked["output"]["things"]
    expected = {"/look", "/first", "/again", *(f"/each[{i}]" for i in range(len(things)))}
    found = {path for path, kind in ends if kind == "succeeded"}
    if found != expected:
        yield f"astray: {sorted(found ^ expected)}"
    if ("/again", "failed") not in ends or ("/rest", "rang") not in ends:
        yield "left out the failed attempt, or the rest"
