"""`weft worker` in processes of its own: what it takes, what it says, how it stops, what it outlives."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from workplace import Workplace, many, until

from weft import retention
from weft.cli.exits import ExitCode, exit_code
from weft.cli.worker import command
from weft.errors import InvalidInputs
from weft.journal.base import RunRow

SIGTERMS = many("LAB_SIGTERMS", 3)
DRAIN_S = many("LAB_DRAIN_S", 1)
"""With more than 10 s the heartbeat of a worker that drains is put to the test, too."""

embedded = pytest.mark.parametrize("workplace", ["sqlite"], indirect=True)


# ---- work
async def test_it_ends_what_was_handed_over(workplace: Workplace) -> None:
    """A run of `weft run --detach` is taken by a worker, which tells its end in a line, and leaves when nothing is due."""
    handing = workplace.weft("run", "marks", "--detach", "--json")
    assert handing.end() == 0
    summary = json.loads("\n".join(handing.lines))
    assert summary["state"] == "ready"

    worker = workplace.worker("--until-idle")

    assert worker.end() == 0
    (run,) = worker.events("run")
    assert (run["run_id"], run["state"], run["workflow"]) == (summary["run_id"], "succeeded", "marks")
    assert worker.events("started")[0]["ready"] == 1
    assert worker.events("stopped")[0]["ended"] == 1
    assert [name for _, name in workplace.seen("end")] == ["first", "second", "third"]


async def test_several_workers_share_the_runs(workplace: Workplace) -> None:
    """Workers beside each other perform each step once; none of them is the leader."""
    await workplace.submit("marks", 20, seconds=0.02)
    workers = [workplace.worker("--until-idle", "--concurrency", "5") for _ in range(2)]

    assert [worker.end() for worker in workers] == [0, 0]
    assert await workplace.states() == {"succeeded": 20}
    assert len(workplace.seen("begin")) == 60


@embedded
async def test_it_says_what_it_finds(workplace: Workplace) -> None:
    """At start it tells what is ready, waits, was left by a dead process or is parked, and what it cannot follow."""
    foreground = workplace.weft("run", "marks", "--input", "seconds=30", "--quiet")
    until(lambda: workplace.seen("begin"))
    foreground.popen.kill()
    foreground.end()
    await workplace.submit("marks", 2)
    (waiting,) = await workplace.submit("sleeps")
    worker = workplace.started()
    worker.until(lambda: len(worker.events("run")) == 2)
    worker.signal(signal.SIGTERM)
    worker.popen.kill()
    worker.end()
    async with workplace.runtime() as runtime:
        strange = await runtime.journal.keep_document('{"format": 999}')
        await runtime.journal.submit(RunRow("strange", "odd", strange, "{}", "null", runtime.journal.now()))

    second = workplace.started()
    second.until(lambda: second.events("cannot_follow"))
    second.signal(signal.SIGTERM)
    assert second.end() == 0

    (started,) = second.events("started")
    assert (started["left"] + started["ready"], started["waiting"]) == (2, 1)
    assert started["next_wake"] > "2026"
    assert [told["run_id"] for told in second.events("cannot_follow")] == ["strange"]
    assert (await workplace.runs())[waiting].status.state == "waiting"
    assert (await workplace.runs())["strange"].status.state == "ready"


@embedded
async def test_its_lines_are_for_people(workplace: Workplace) -> None:
    """Without --json each event is a calm line, and what looks like a secret is masked."""
    await workplace.submit("marks")
    worker = workplace.weft("worker", "--until-idle")

    assert worker.end() == 0
    assert worker.lines[1] == "found 1 ready"
    assert worker.lines[2].endswith(": marks")
    assert " succeeded in " in worker.lines[2]
    assert worker.lines[3] == "stopped: 1 run ended"


@embedded
async def test_it_tells_of_questions(workplace: Workplace) -> None:
    """A run that waits for an answer is told once, with the command that answers it; as JSON, with its fields."""
    run = (await workplace.submit("asks"))[0]
    told = workplace.worker("--until-idle")
    assert told.end() == 0
    (event,) = told.events("asks")
    assert {name: event[name] for name in ("run_id", "workflow", "path", "message", "who", "deadline")} == {
        "run_id": run, "workflow": "asks", "path": "/ok", "message": "Well?", "who": ["ada"], "deadline": None
    }  # fmt: skip

    second = (await workplace.submit("asks"))[0]
    lines = workplace.weft("worker", "--until-idle")
    assert lines.end() == 0
    how = f"Answer as ada: weft runs answer {second} ok approve --by ada (or reject)"
    assert [line for line in lines.lines if "asks" in line] == [
        f"run {second} of asks waits for an answer: Well? {how}"
    ]


@embedded
async def test_old_runs_are_removed(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker applies the retention that WEFT_KEEP_RUNS asks for, also when it leaves soon."""
    async with workplace.runtime() as runtime:
        plan = runtime.compile(Path("workflows/marks.yaml"))
        for _ in range(3):
            await runtime.run(plan, runtime.inputs(plan, {}))
    monkeypatch.setenv("WEFT_KEEP_RUNS", "1s")
    await asyncio.sleep(1.1)

    worker = workplace.worker("--until-idle")

    assert worker.end() == 0
    assert worker.events("removed")[0]["runs"] == 3
    assert await workplace.states() == {}


# ---- the end of it
async def test_a_step_is_waited_for_and_the_next_is_not_begun(workplace: Workplace) -> None:
    """After SIGTERM a run rests at its next step boundary; nobody takes it before; the exit code is 0 (§5 row 18, §2.4)."""
    (run_id,) = await workplace.submit("marks", seconds=DRAIN_S)
    worker = workplace.started()
    until(lambda: workplace.seen("begin"))

    asked = worker.signal(signal.SIGTERM)
    other = workplace.worker("--until-idle")

    assert worker.end() == 0
    assert time.monotonic() - asked < DRAIN_S + 5
    assert worker.events("stopped")[0]["ready"] == 1
    assert not worker.events("run")
    assert other.end(30 + 3 * DRAIN_S) == 0
    assert other.events("run")[0]["run_id"] == run_id
    assert not other.events("taken_over")
    assert [name for _, name in workplace.seen("begin")] == ["first", "second", "third"]


@embedded
async def test_the_grace_ends(workplace: Workplace) -> None:
    """A step that takes longer than the grace is let go of; the run is ready and nothing of it failed (§5, row 18)."""
    await workplace.submit("marks", seconds=60)
    worker = workplace.started("--grace", "0.5")
    until(lambda: workplace.seen("begin"))

    asked = worker.signal(signal.SIGTERM)

    assert worker.end() == 0
    assert time.monotonic() - asked < 1.5 + 0.2
    assert await workplace.states() == {"ready": 1}
    (run,) = (await workplace.runs()).values()
    assert run.status.crashes == 0


@embedded
async def test_a_second_signal_does_not_wait(workplace: Workplace) -> None:
    """The second SIGTERM ends the worker at once, with exit code 143; its runs are ready all the same (§5, row 18)."""
    await workplace.submit("marks", seconds=60)
    worker = workplace.started()
    until(lambda: workplace.seen("begin"))
    worker.signal(signal.SIGTERM)
    worker.until(lambda: worker.events("stopping"))

    asked = worker.signal(signal.SIGTERM)

    assert worker.end() == 143
    assert time.monotonic() - asked < 1.0
    assert await workplace.states() == {"ready": 1}


@embedded
async def test_an_action_that_blocks_the_loop_does_not_keep_it(workplace: Workplace) -> None:
    """A worker whose loop is held up leaves within the grace and a second, with exit code 0."""
    await workplace.submit("bomb", how="block")
    worker = workplace.started("--grace", "0.3")
    until(lambda: workplace.seen("bomb"))

    asked = worker.signal(signal.SIGTERM)

    assert worker.end() == 0
    assert time.monotonic() - asked < 1.5


async def test_terminated_at_random_nothing_is_lost_or_failed(workplace: Workplace) -> None:
    """Whenever SIGTERM comes, each worker exits 0, no run fails and no step that has ended is performed again."""
    ids = await workplace.submit("marks", max(30, 6 * SIGTERMS), seconds=0.15)
    rng = random.Random(18)
    for _ in range(SIGTERMS if workplace.kind == "sqlite" else max(2, SIGTERMS // 3)):
        worker = workplace.started("--concurrency", "10")
        await asyncio.sleep(rng.random() * 0.5)
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0, worker.told()
    assert workplace.worker("--until-idle").end() == 0

    runs = await workplace.runs()
    assert {run_id: run.status.state for run_id, run in runs.items()} == dict.fromkeys(ids, "succeeded")
    assert workplace.repeated() == []
    assert len(workplace.seen("begin")) == 3 * len(ids)
    assert all(run.status.crashes == 0 for run in runs.values())


# ---- the journal away
@embedded
async def test_a_held_file_is_waited_for(workplace: Workplace) -> None:
    """A worker whose journal another program holds says so, waits, and goes on when it is free."""
    await workplace.submit("marks")
    holder = sqlite3.connect(workplace.home / "journal.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    worker = workplace.worker()

    worker.until(lambda: worker.events("journal_away"))
    holder.execute("ROLLBACK")
    holder.close()
    worker.until(lambda: worker.events("journal_back") and worker.events("run"))
    worker.signal(signal.SIGTERM)

    assert worker.end() == 0
    assert await workplace.states() == {"succeeded": 1}


# ---- beside `weft run`
@embedded
async def test_a_live_run_is_left_alone(workplace: Workplace) -> None:
    """Two `weft run` at once and a worker use one file: each drives its own, and the worker touches neither."""
    worker = workplace.started()
    foregrounds = [workplace.weft("run", "marks", "--input", "seconds=0.5", "--quiet") for _ in range(2)]
    (mine,) = await workplace.submit("marks")

    assert [each.end() for each in foregrounds] == [0, 0]
    worker.until(lambda: worker.events("run"))
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0

    assert [told["run_id"] for told in worker.events("run")] == [mine]
    assert {run.status.epoch for run in (await workplace.runs()).values()} == {1}
    assert len(workplace.seen("begin")) == 9


@embedded
async def test_what_a_killed_run_left_is_adopted(workplace: Workplace) -> None:
    """A worker takes the run of a `weft run` that was killed within 5 s, and performs no ended step again (§5, row 1)."""
    worker = workplace.started()
    foreground = workplace.weft("run", "marks", "--input", "seconds=0.6", "--quiet")
    until(lambda: len(workplace.seen("begin")) == 2)

    foreground.popen.kill()
    killed = time.monotonic()
    foreground.end()
    until(lambda: len(workplace.seen("begin")) == 3, 5)
    assert time.monotonic() - killed < 5
    worker.until(lambda: worker.events("run"))

    assert worker.events("taken_over")[0]["state"] == "ready"
    assert worker.events("run")[0]["state"] == "succeeded"
    assert [name for _, name in workplace.seen("end")] == ["first", "second", "third"]


@embedded
async def test_without_a_worker_the_next_run_tells_of_it(workplace: Workplace) -> None:
    """`weft run` does only its own, says how many other runs wait, and `weft runs resume` goes on with one."""
    foreground = workplace.weft("run", "marks", "--input", "seconds=0.6", "--quiet")
    until(lambda: len(workplace.seen("begin")) == 2)
    foreground.popen.kill()
    foreground.end()

    other = workplace.weft("run", "marks")
    assert other.end() == 0
    assert other.lines[-1] == "1 other run waits: weft worker"
    left, _ = sorted(await workplace.runs())
    resumed = workplace.weft("runs", "resume", left)

    assert resumed.end() == 0, resumed.told()
    assert await workplace.states() == {"succeeded": 2}
    assert workplace.repeated() == []
    last = workplace.weft("run", "marks")
    assert last.end() == 0
    assert "other run" not in last.told()


async def test_a_cancel_from_elsewhere_is_noticed(workplace: Workplace) -> None:
    """What another process asks of a run in hand is noticed within 250 ms."""
    ids = await workplace.submit("marks", 3, seconds=60)
    worker = workplace.started()
    until(lambda: len(workplace.seen("begin")) == 3)
    took = []
    async with workplace.runtime() as runtime:
        for run_id in ids:
            await runtime.journal.cancel(run_id)
            asked = time.monotonic()
            while (await runtime.journal.status(run_id)).status.state != "cancelled":
                assert time.monotonic() - asked < 5
                await asyncio.sleep(0.005)
            took.append(time.monotonic() - asked)
    print(f"noticed after {[round(each * 1000) for each in took]} ms")

    worker.signal(signal.SIGTERM)
    assert worker.end() == 0
    assert sorted(took)[1] < 0.25 + 0.1  # the machine that runs this may be busy


def test_it_says_how_it_is_used() -> None:
    """`weft worker --help` tells the options; the one for children is not among them."""
    told = CliRunner().invoke(command, ["--help"])

    assert told.exit_code == 0
    assert "--concurrency" in told.output
    assert "--run " not in told.output


def test_a_wrong_grace_or_retention_is_a_mistake_in_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what is wanted."""
    told = CliRunner().invoke(command, ["--grace", "x"])
    assert (told.exit_code, "'x' is not a valid number of seconds" in told.output) == (2, True)
    assert exit_code(InvalidInputs("m")) == ExitCode.USAGE
    with pytest.raises(InvalidInputs, match="WEFT_KEEP_RUNS"):
        retention.retention({"WEFT_KEEP_RUNS": "banana"})


@embedded
def test_a_journal_that_cannot_be_used_is_no_reason_to_wait(workplace: Workplace) -> None:
    """What waiting does not mend ends the worker with a message."""
    workplace.home.mkdir()
    file = workplace.home / "journal.db"
    file.touch()
    Path(workplace.home / "second.db").hardlink_to(file)
    worker = workplace.worker()

    assert worker.end() == 1
    assert "journal_linked" in worker.told()
