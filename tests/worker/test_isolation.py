"""A run that ends the process it is in costs the others nothing, and is parked with its reason (rule A19, §5 row 17)."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from typing import Any

import pytest
from workplace import Process, Workplace, many, until

embedded = pytest.mark.parametrize("workplace", ["sqlite"], indirect=True)
everywhere = pytest.mark.parametrize(
    "workplace", ["sqlite", "postgres"] if many("LAB_SLOW", 0) else ["sqlite"], indirect=True
)
PATIENCE_S = 300 if many("LAB_SLOW", 0) else 90
LIMITED = (
    sys.executable,
    "-c",
    "import os, resource, sys; resource.setrlimit(resource.RLIMIT_AS, (3 * 10**9,) * 2); os.execv(sys.argv[1], sys.argv[1:])",
)
"""Runs a command with 3 GB of address space: half a GB more than a worker needs."""


def supervised(workplace: Workplace, most: int = 6) -> list[Process]:
    """Start workers one after the other, as a supervisor would, until one finds nothing to do any more."""
    workers: list[Process] = []
    while not workers or workers[-1].end(PATIENCE_S) == -signal.SIGKILL:
        assert len(workers) < most, "it goes on for ever"
        workers.append(workplace.worker("--until-idle"))
    assert workers[-1].end() == 0, workers[-1].told()
    return workers


@everywhere
async def test_a_bomb_beside_fifty_runs(workplace: Workplace) -> None:
    """A19: of a run that kills its process and 50 others beside it, exactly the one is parked, and the 50 are done."""
    (bomb,) = await workplace.submit("bomb", fuse=0.4)
    others = await workplace.submit("marks", 48, seconds=0.25)
    others += await workplace.submit("marks", 2, seconds=0.8)  # these get no further before each crash

    workers = supervised(workplace)

    runs = await workplace.runs()
    assert runs[bomb].status.state == "parked"
    assert {runs[run_id].status.state for run_id in others} == {"succeeded"}
    assert len(workplace.seen("bomb")) == 3
    assert len(workers) == 3
    assert max(Counter(workplace.seen("begin")).values()) <= 3  # a step in flight is repeated, once for each crash
    problem = json.loads(str(runs[bomb].status.reason))
    assert problem["code"] == "poison"
    assert problem["message"].endswith("3 times, and alone at last: it was ended by SIGKILL at step 'explode'.")
    (told,) = [told for told in workers[-1].events("run") if told["run_id"] == bomb]
    assert (told["state"], told["problem"]["code"]) == ("parked", "poison")


@embedded
async def test_what_leaves_the_process_is_parked_too(workplace: Workplace) -> None:
    """An action that ends its process with an exit code is found out, whatever it has printed."""
    bomb = await suspected(workplace, "bomb", how="leave")

    assert workplace.worker("--until-idle").end() == 0

    run = (await workplace.runs())[bomb]
    assert run.status.state == "parked"
    assert "it left with exit code 3 at step 'explode'" in str(run.status.reason)
    found = workplace.started()
    assert found.events("started")[0]["parked"] == {"poison": 1}
    found.signal(signal.SIGTERM)
    assert found.end() == 0


@embedded
async def test_what_eats_all_memory_fails_by_itself(workplace: Workplace) -> None:
    """Under a limit of memory the run that uses it up fails or is parked; the worker lives, 20 others are done (row 17)."""
    (eater,) = await workplace.submit("bomb", how="eat", fuse=0.1)
    others = await workplace.submit("marks", 20, seconds=0.2)

    worker = workplace.worker("--until-idle", wrapper=LIMITED)

    assert worker.end(60) == 0, worker.told()
    runs = await workplace.runs()
    assert {runs[run_id].status.state for run_id in others} == {"succeeded"}
    assert runs[eater].status.state in ("failed", "parked")


async def suspected(workplace: Workplace, workflow: str, **inputs: Any) -> str:
    """Return a run that two processes have died with."""
    (run_id,) = await workplace.submit(workflow, **inputs)
    async with workplace.runtime() as runtime:
        for _ in range(2):
            claim = await runtime.journal.claim(run_id)
            await runtime.journal.release(run_id, ends=claim.epoch)
    return run_id


async def _alone(workplace: Workplace, workflow: str, *words: str, **inputs: Any) -> tuple[str, Process, int]:
    """Return a run that a child of a worker drives, the worker, and the child's process id."""
    run_id = await suspected(workplace, workflow, **inputs)
    worker = workplace.started(*words)
    until(lambda: workplace.seen("begin", run_id))
    (line,) = [line for line in workplace.effects.read_text().splitlines() if "begin" in line]
    child = int(line.split()[1])
    assert child != worker.popen.pid
    assert worker.events("alone")[0]["crashes"] == 2
    return run_id, worker, child


@embedded
async def test_a_run_that_is_tried_alone_and_ends_is_done(workplace: Workplace) -> None:
    """A run that is suspected without being at fault ends in its own process; the worker tells of it."""
    run_id, worker, _ = await _alone(workplace, "marks", seconds=0.1)
    worker.until(lambda: worker.events("run"))
    worker.signal(signal.SIGTERM)

    assert worker.end() == 0
    assert worker.events("run")[0]["run_id"] == run_id
    assert await workplace.states() == {"succeeded": 1}
    assert "token" not in worker.told()


@embedded
async def test_a_request_to_stop_is_no_crash(workplace: Workplace) -> None:
    """A worker that is told to stop lets its child rest: the run is ready, not parked, at the end of the grace."""
    _, worker, _ = await _alone(workplace, "marks", "--grace", "0.4", seconds=60)
    asked = worker.signal(signal.SIGTERM)

    assert worker.end() == 0
    assert time.monotonic() - asked < 1.6
    assert await workplace.states() == {"ready": 1}


@embedded
async def test_a_child_that_is_killed_while_stopping_is_no_crash(workplace: Workplace) -> None:
    """A child that is killed after the request to stop leaves its run ready."""
    _, worker, child = await _alone(workplace, "marks", seconds=60)
    worker.signal(signal.SIGTERM)
    worker.until(lambda: worker.events("stopping"))
    os.kill(child, signal.SIGKILL)

    assert worker.end() == 0
    assert await workplace.states() == {"ready": 1}


@embedded
async def test_when_both_die_the_next_worker_parks_it(workplace: Workplace) -> None:
    """If a worker and its child are killed, the take-over of the next worker parks the run."""
    run_id, worker, child = await _alone(workplace, "marks", seconds=60)
    worker.popen.kill()
    os.kill(child, signal.SIGKILL)
    worker.end()

    second = workplace.worker("--until-idle")

    assert second.end() == 0
    assert second.events("taken_over")[0]["state"] == "parked"
    assert json.loads(str((await workplace.runs())[run_id].status.reason))["code"] == "poison"


@embedded
async def test_a_resumed_run_is_driven_as_any_other(workplace: Workplace) -> None:
    """`weft runs resume` forgets the crashes of a parked run."""
    run_id, worker, child = await _alone(workplace, "marks", seconds=0.5)
    os.kill(child, signal.SIGKILL)
    worker.until(lambda: worker.events("run"))
    assert worker.events("run")[0]["state"] == "parked"
    async with workplace.runtime() as runtime:
        await runtime.journal.resume(run_id)
    worker.until(lambda: len(worker.events("run")) == 2)
    worker.signal(signal.SIGTERM)

    assert worker.end() == 0
    assert len(worker.events("alone")) == 1
    assert worker.events("run")[1]["state"] == "succeeded"
