"""What is told of a run while it goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from talking import ASKS, TALKS, write_pack

from weft.engine.events import Event, RunEnded, RunStarted
from weft.journal.base import Kept
from weft.live import Frame, Listening
from weft.plan import Plan
from weft.runtime import Runtime


@pytest.fixture
async def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runtime]:
    """A runtime with the talking pack."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workflows").mkdir()
    for name, text in {"talks": TALKS, "asks": ASKS}.items():
        (tmp_path / "workflows" / f"{name}.yaml").write_text(text, encoding="utf-8")
    async with Runtime.open(home=tmp_path / "home", packs=[write_pack(tmp_path)]) as runtime:
        yield runtime


async def frames_of(listening: Listening) -> list[Frame]:
    """Return what was heard until nothing more comes."""
    found = []
    while (frame := await listening.next(0.6)) is not None:
        found.append(frame)
    return found


async def test_frames_of_an_output_say_where_they_belong(runtime: Runtime) -> None:
    """B5: each piece names path, attempt, epoch and offset; a new attempt begins at offset 0, after the old one has ended."""
    plan = await runtime.plan_of("talks")
    inputs = runtime.inputs(plan, {"words": "one two three", "fails": 1, "seconds": 0.07})
    async with runtime.hub.listen(["run:r1"]) as listening:
        await runtime.run(plan, inputs, run_id="r1")
        frames = await frames_of(listening)
    pieces = [frame.data for frame in frames if frame.event == "output"]
    assert {(each["path"], each["epoch"]) for each in pieces} == {("/talk", 1)}
    for attempt, said in ((1, "one "), (2, "one two three ")):
        text = ""
        for each in (each for each in pieces if each["attempt"] == attempt):
            assert each["offset"] == len(text)
            text += str(each["text"])
        assert text == said
    order = [(frame.event, frame.data.get("attempt"), frame.data.get("state")) for frame in frames]
    assert order.index(("attempt", 1, "failed")) < order.index(("attempt", 2, "running"))
    assert order.index(("attempt", 2, "running")) < order.index(("output", 2, None))
    assert order[-1] == ("run", None, "succeeded")


async def test_a_run_of_another_claim_is_told_with_another_epoch(runtime: Runtime) -> None:
    """B5: whoever goes on with a run tells of it under a higher epoch, and does not tell again what was told before."""
    plan = await runtime.plan_of("asks")
    async with runtime.hub.listen(["run:r2", "approvals"]) as listening:
        running = asyncio.create_task(runtime.run(plan, {}, run_id="r2"))
        first = []
        while not any(frame.event == "asked" for frame in first):
            frame = await listening.next(5)
            assert frame is not None
            first.append(frame)
        while (await runtime.journal.status("r2")).status.state != "waiting":
            await asyncio.sleep(0.02)
        await runtime.answer("r2", "/ok", "approve", by="me")
        await running
        second = await frames_of(listening)
    epochs = [frame.data["epoch"] for frame in [*first, *second] if frame.topic == "run:r2"]
    assert epochs == sorted(epochs)
    assert set(epochs) == {1, 2}
    later = [(frame.event, frame.data.get("path"), frame.data.get("state")) for frame in second]
    assert ("step", "/ok", "running") not in later
    assert ("step", "/ok", "succeeded") in later
    assert ("log", "/done", None) in [(event, path, state) for event, path, state in later]
    assert ("changed", None, None) in later  # the list of open questions


async def test_output_is_made_only_while_somebody_listens(runtime: Runtime) -> None:
    """Of a run that nobody listens for no output is asked of actions; one that is listened for has it from its first word."""
    seen: list[bool] = []
    asked = runtime.driver.live_output

    def noted(run_id: str) -> bool:
        seen.append(asked(run_id))
        return seen[-1]

    runtime.driver.live_output = noted
    plan = await runtime.plan_of("talks")
    await runtime.run(plan, runtime.inputs(plan, {}), run_id="quiet")
    async with runtime.hub.listen(["run:heard", "runs"]):
        await runtime.run(plan, runtime.inputs(plan, {}), run_id="other")
        await runtime.run(plan, runtime.inputs(plan, {}), run_id="heard")
    assert seen == [False, False, True]
    assert (runtime.home / "live.db").exists()


async def test_a_watcher_that_fails_disturbs_no_run(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    """One that raises when it is asked, or when it is told, is noted in the log; others hear everything, start and end."""
    heard: list[Event] = []

    def raises(kept: Kept, plan: Plan) -> None:
        raise ValueError("asked")

    def trips(event: Event) -> None:
        raise ValueError("told")

    runtime.driver.watchers[:0] = [raises, lambda kept, plan: trips]
    runtime.driver.watchers.append(lambda kept, plan: heard.append)
    plan = await runtime.plan_of("talks")
    with caplog.at_level(logging.ERROR):
        report = await runtime.run(plan, runtime.inputs(plan, {}))
    assert report.state == "succeeded"
    assert isinstance(heard[0], RunStarted)
    assert isinstance(heard[-1], RunEnded)
    assert heard[-1].state == "succeeded"
    assert "watcher_failed" in caplog.text
