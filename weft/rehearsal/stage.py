"""Runs a plan from its start to its end in memory: no journal of the home is touched, no wait takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from weft.engine.driver import Driver
from weft.engine.reactor import Surroundings
from weft.engine.report import RunReport, report_of
from weft.executor import Executor
from weft.journal.base import ENDS, Kept, RunQuery, RunRow
from weft.outcome import encode
from weft.pinned import pin
from weft.plan import Plan
from weft.rehearsal.performing import Answers, Made, Rehearsed
from weft.rehearsal.simulated import SimulatedJournal
from weft.runtime import Runtime
from weft.sdk import Artifacts
from weft.types import Json, JsonObject

Approve: TypeAlias = Callable[[str, Mapping[str, Any]], JsonObject | None]
"""Returns the answer to a question at a path through all runs; None: nobody answers."""

RUN_ID = "rehearsal"
"""Of the run itself; the runs of child workflows have ids that are made from it."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A run that was rehearsed, or one of its child runs."""

    report: RunReport
    plan: Plan
    at: str = ""  #: path of the step that has started it, through all runs; empty: the run itself


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """All that became of a run in memory."""

    scenes: tuple[Scene, ...]  #: the run first, then its children in the order in which they began
    made: tuple[
        tuple[str, Made], ...
    ]  #: each attempt, in their order, and the path of the step that has started its run
    passed_s: float  #: time that was passed over in waits
    stuck: bool  #: it waited for something that never came, and was cancelled

    @property
    def report(self) -> RunReport:
        return self.scenes[0].report


class Stage:
    """What a rehearsal needs, made from a runtime whose own journal stays closed.

    Args:
        runtime: Actions, connections, secrets; nothing of it is opened.
        answers: What attempts come to; see `Rehearsed`.
        approve: Answers questions.
        at: The instant at which the run starts, in seconds since 1970, UTC.
        lenient: See `Rehearsed`.
    """

    def __init__(
        self,
        runtime: Runtime,
        answers: Answers,
        approve: Approve,
        *,
        at: float,
        run_id: str = RUN_ID,
        lenient: Collection[str] | None = None,
    ) -> None:
        self._runtime = runtime
        self._scenes: dict[str, tuple[Plan, str]] = {}
        self._at = at
        self._run_id = run_id
        self._approve = approve
        self.journal = SimulatedJournal(at, self._answer)
        executor = Executor(runtime.connections, runtime.redactor, self._artifacts, self.journal.now)
        self.performer = Rehearsed(executor, self._scene, answers, self.journal.now, lenient=lenient)
        around = Surroundings(self.journal, self.performer, pin=self._pin, in_memory_s=0.0)
        self._driver = Driver(around, runtime.pinned_plan)

    async def run(self, plan: Plan, inputs: JsonObject, trigger: Json = None) -> Rehearsal:
        """Run a plan to its end, and all its children, and return all that became of it."""
        await self.journal.open()
        try:
            document = await self.journal.keep_document(self._pin(plan))
            row = RunRow(self._run_id, plan.workflow.name, document, encode(inputs), encode(trigger), self._at)
            await self.journal.submit(row)
            stuck = await self._to_the_end()
            return await self._rehearsal(stuck=stuck)
        finally:
            self._driver.stop_now()
            await self._driver.idle()
            await self.journal.close()

    def _pin(self, plan: Plan) -> str:
        return pin(plan, self._runtime.environment)

    async def _to_the_end(self) -> bool:
        """Let every run go on until the first one has ended, or is parked; tell whether nothing could go on."""
        stuck = False
        while (await self.journal.status(self._run_id)).status.state not in (*ENDS, "parked"):
            if ready := await self.journal.ready(1_000):
                await self._learn(ready)
                await asyncio.gather(*(self._driver.advance(run_id) for run_id in ready))
            elif not await self.journal.pass_on():
                stuck = True
                await self.journal.give_up()
        return stuck

    async def _learn(self, run_ids: Sequence[str]) -> None:
        for run_id in run_ids:
            if run_id in self._scenes:
                continue
            row = (await self.journal.status(run_id)).row
            at = ""
            if row.parent is not None:
                await self._learn([row.parent.run_id])
                at = self._scenes[row.parent.run_id][1] + row.parent.path
            self._scenes[run_id] = self._runtime.pinned_plan(await self.journal.document(row.document)), at

    def _scene(self, run_id: str) -> tuple[Plan, str]:
        return self._scenes[run_id]

    def _answer(self, run: Kept, path: str, question: Mapping[str, Any]) -> JsonObject | None:
        return self._approve(self._scenes[run.row.id][1] + path, question)

    async def _rehearsal(self, *, stuck: bool) -> Rehearsal:
        scenes = []
        for listed in reversed(await self.journal.runs(RunQuery(limit=10_000))):
            await self._learn([listed.row.id])
            plan, at = self._scenes[listed.row.id]
            scenes.append(Scene(report_of(await self.journal.load(listed.row.id), plan), plan, at))
        scenes.sort(key=lambda scene: scene.at != "")
        made = tuple((self._scenes[each.call.run_id][1], each) for each in self.performer.made)
        return Rehearsal(tuple(scenes), made, self.journal.passed_s, stuck)

    def _artifacts(self, run_id: str) -> Artifacts:
        return _StageArtifacts(self.journal, run_id)


class _StageArtifacts:
    """The artifacts of one run of a rehearsal; they are gone with it."""

    def __init__(self, journal: SimulatedJournal, run_id: str) -> None:
        self._journal = journal
        self._run_id = run_id

    async def save(self, content: bytes, *, name: str, content_type: str) -> JsonObject:
        return await self._journal.save_artifact(self._run_id, content, name=name, content_type=content_type)

    async def read(self, artifact: str) -> bytes:
        return await self._journal.read_artifact(self._run_id, artifact)
