"""Attempts that need room before they begin, and runs that wait before a gate."""

from __future__ import annotations

import asyncio
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from weft import packs
from weft.engine.gates import gate_of
from weft.engine.interpreter import RunFacts
from weft.errors import JournalRefused, Problem
from weft.executor import Call
from weft.journal.base import Full, Meter, RunQuery, Settled
from weft.journal.memory import MemoryJournal
from weft.outcome import Failure, Outcome
from weft.plan import Plan
from weft.registry import Registry
from weft.runtime import Runtime


@dataclass
class Caps:
    """Budgets as the reactor knows them: one meter, the same for every action but `echo`."""

    meter: Meter
    fails: bool = False  #: otherwise it waits
    told: list[tuple[str, int, str]] = field(default_factory=list)

    def meters(self, call: Call, plan: Plan) -> tuple[Meter, ...] | Failure:
        return () if call.step.uses == "echo" else (self.meter,)

    def refused(self, call: Call, meters: Sequence[Meter], full: Full) -> Failure | None:
        return Failure(Problem("budget_exceeded", "Nothing is left."), effect="none") if self.fails else None

    def waits(self, full: Full) -> str:
        return f"no room: {full.key}"

    def settled(self, call: Call, meters: Sequence[Meter], outcome: Outcome) -> Settled:
        self.told.append((call.path, call.number, outcome.state))
        return Settled(call.path, call.number, {})


async def test_what_has_no_budget_left_is_not_begun(lab):
    """The attempt has failed without an effect, on record; what was granted before is settled with its outcome."""
    lab.budgets = Caps(Meter("spend", 1, 2), fails=True)
    report = await lab.run(
        "name: a\nsteps: [{id: a, for_each: ['1', '2', '3'], max_parallel: 1, uses: deliver, with: {to: x}}]"
    )

    assert (report.state, report.problem.code) == ("failed", "budget_exceeded")
    assert len(lab.module("deliver").DELIVERED) == 2
    assert lab.budgets.told == [("/a[0]", 1, "succeeded"), ("/a[1]", 1, "succeeded")]
    begun = [each.path for each in await lab.records(lab.run_id) if each.kind == "begun"]
    assert begun == ["/a[0]", "/a[1]"]


async def test_a27_it_is_on_record_that_an_attempt_has_begun_when_its_room_is_taken(lab):
    """A27: both are one transaction of the journal, before the attempt; it counts until it is settled."""
    lab.budgets = Caps(Meter("slots", 1, 9, live=True))
    used = []
    deliver = lab.module("deliver")

    async def look(call, watch, perform=lab.executor.perform):
        records = await lab.records(lab.run_id)
        used.append((await lab.journal.used(["slots"]), [each.kind for each in records if each.path == call.path]))
        return await perform(call, watch)

    lab.executor.perform = look
    await lab.run("name: a\nsteps: [{id: a, uses: deliver, with: {to: x}}]")

    assert used == [({"slots": 1}, ["begun"])]
    assert len(deliver.DELIVERED) == 1


async def test_an_attempt_waits_until_others_have_ended(lab):
    """A slot is taken by one of three at a time; who waits goes on by itself, and says once that it waits."""
    lab.budgets = Caps(Meter("slots", 1, 1, live=True))
    report = await lab.run(
        "name: a\nsteps: [{id: a, for_each: [1, 2, 3], max_parallel: 3, uses: nap, with: {seconds: 0.1}}]"
    )

    assert report.state == "succeeded"
    spans = sorted((each.started_at, each.ms) for each in report.steps[0].attempts)
    for (first, ms), (second, _) in pairwise(spans):
        assert (second - first).total_seconds() * 1000 >= ms - 5
    assert sum(getattr(event, "message", "") == "no room: slots" for event in lab.events) == 2


async def test_who_has_to_wait_for_long_rests(lab):
    """Above half a minute the run lets go, and is woken when there is room; nothing of it is on record."""
    lab.budgets = Caps(Meter("minute", 1, 1, window_s=60.0))
    planned = lab.plan("name: a\nsteps: [{id: a, for_each: [1, 2], uses: nap, with: {seconds: 0.01}}]")
    running = asyncio.create_task(lab.start(planned))
    while lab.reactor is None:
        await asyncio.sleep(0.01)
    for _ in range(100):
        await asyncio.sleep(0.05)
        found = (await lab.journal.runs(RunQuery()))[0]
        if found.status.state == "waiting":
            break
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert found.status.state == "waiting"
    assert 30 < found.status.wake_at - time.time() <= 60
    assert [each.kind for each in await lab.records(lab.run_id)] == ["begun", "succeeded"]


async def test_a_stopped_attempt_is_settled_too(lab):
    """A timeout ends what was granted: its slot is free again with its outcome."""
    lab.budgets = Caps(Meter("slots", 1, 1, live=True))
    report = await lab.run("name: a\nsteps: [{id: g, timeout: 200ms, steps: [{id: a, uses: nap, with: {seconds: 9}}]}]")

    assert (report.problem.code, lab.budgets.told) == ("timeout", [("/g/a", 1, "cancelled")])


async def test_without_meters_nothing_is_held(lab):
    """An attempt without meters takes the path that it takes without any of this."""
    held = []
    lab.journal.hold = held.append
    lab.budgets = Caps(Meter("slots", 1, 1))
    report = await lab.run("name: a\nsteps: [{id: a, uses: echo, with: {value: 1}}]")

    assert (report.state, held) == ("succeeded", [])


# ---- gates
@pytest.fixture
async def runtime(tmp_path, monkeypatch):
    lab = Path(__file__).parent.parent / "lab"
    monkeypatch.chdir(tmp_path)
    registry = Registry([packs.read(lab, "lab", packs.package_of(lab))])
    async with Runtime(tmp_path / "home", registry, environ={}, journal=MemoryJournal()) as made:
        yield made


def compiled(runtime: Runtime, policy: str, key: str = "", limit: int = 1) -> Plan:
    text = f"""
        name: gated
        inputs: {{k: {{type: string, default: a}}}}
        concurrency: {{limit: {limit}, policy: {policy}{key and f", key: '{key}'"}}}
        steps: [{{id: w, uses: nap, with: {{seconds: 0.4}}}}]
        """
    Path("gated.yaml").write_text(textwrap.dedent(text), encoding="utf-8")
    return runtime.compile(Path("gated.yaml"))


async def test_runs_of_one_key_go_on_one_after_another(runtime):
    """`queue`: one more waits for the one before it, here too, where no worker is."""
    planned = compiled(runtime, "queue", "{{ inputs.k }}")
    began = time.monotonic()
    reports = await asyncio.gather(*(runtime.run(planned, {"k": key}) for key in ("a", "a", "b")))
    took = time.monotonic() - began

    assert {report.state for report in reports} == {"succeeded"}
    first, second, other = (report.steps[0].started_at for report in reports)
    assert abs((second - first).total_seconds()) >= 0.4
    assert took > 0.8
    assert min(abs((other - each).total_seconds()) for each in (first, second)) < 0.4


async def test_one_more_is_left_out_or_takes_the_place_of_the_oldest(runtime):
    """`skip` refuses it, with the run that it would wait for; `cancel` ends that one."""
    planned = compiled(runtime, "skip")
    running = asyncio.create_task(runtime.run(planned, {}, run_id="first"))
    await asyncio.sleep(0.2)
    with pytest.raises(JournalRefused) as refused:
        await runtime.run(planned, {})
    assert (refused.value.problem.code, "first" in refused.value.problem.remedy) == ("at_the_limit", True)
    assert (await running).state == "succeeded"

    planned = compiled(runtime, "cancel")
    running = asyncio.create_task(runtime.run(planned, {}))
    await asyncio.sleep(0.2)
    assert (await runtime.run(planned, {})).state == "succeeded"
    assert (await running).state == "cancelled"


def test_a_gate_is_of_a_workflow_and_what_its_key_comes_to(runtime):
    """The same for the same text, another one for another; a run without `concurrency` has none."""
    planned = compiled(runtime, "queue", "{{ inputs.k }}", 3)
    one, same, other = (gate_of(planned, RunFacts(f"r{i}", 1.0, {"k": key})) for i, key in enumerate("aab"))

    assert one == same
    assert one.key != other.key
    assert (one.limit, one.policy) == (3, "queue")
