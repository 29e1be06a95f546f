"""Starting a run once for one request, over every journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from weft.errors import InvalidInputs, JournalRefused
from weft.journal.base import Ended, Journal, RunQuery
from weft.journal.memory import MemoryJournal
from weft.journal.postgres import PostgresJournal
from weft.journal.sqlite import SqliteJournal
from weft.outcome import decode
from weft.plan import Plan
from weft.registry import Registry
from weft.runtime import Runtime
from weft.starting import SAID, Started, digest_of, start_once, started_before
from weft.triggers import trigger_run_id

TRIGGER = {"type": "request", "by": "ada"}


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def runtime(request: pytest.FixtureRequest, tmp_path: Path, core_registry: Registry) -> AsyncIterator[Runtime]:
    journal: Journal
    if request.param == "postgres":
        journal = PostgresJournal(request.getfixturevalue("postgres_server").database())
    else:
        journal = MemoryJournal() if request.param == "memory" else SqliteJournal(tmp_path / "journal.db")
    async with Runtime(tmp_path / "home", core_registry, environ={}, journal=journal) as made:
        yield made


@pytest.fixture
def place(runtime: Runtime, tmp_path: Path) -> Place:
    return Place(runtime, tmp_path)


class Place:
    def __init__(self, runtime: Runtime, directory: Path) -> None:
        self.runtime, self._directory = runtime, directory

    def plan(self, name: str = "w", *, inputs: str = "{n: {type: integer}}", more: str = "") -> Plan:
        file = self._directory / f"{name}.yaml"
        steps = "steps: [{id: a, uses: set_values, with: {values: {}}}]"
        file.write_text(f"name: {name}\ninputs: {inputs}\n{more}\n{steps}\n", encoding="utf-8")
        return self.runtime.compile(file)

    async def start(self, planned: Plan, n: int = 1, *, key: str = "k", said: bytes | None = None) -> Started:
        run_id = trigger_run_id("request", planned.workflow.name, "ada", key)
        inputs = self.runtime.inputs(planned, {"n": n})
        return await start_once(self.runtime, planned, inputs, run_id=run_id, trigger=dict(TRIGGER), said=said)

    async def runs(self) -> int:
        return len(await self.runtime.journal.runs(RunQuery()))


async def test_the_same_request_is_one_run(place: Place) -> None:
    """A11: made again, also many times at once, a request answers with the run that it has started."""
    planned = place.plan()
    first = await place.start(planned)
    again = await asyncio.gather(*(place.start(planned) for _ in range(20)))

    assert first.is_new
    assert again == [Started(first.run_id, is_new=False)] * 20
    assert await place.runs() == 1
    row = (await place.runtime.journal.status(first.run_id)).row
    assert decode(row.trigger) == {**TRIGGER, SAID: digest_of({"n": 1})}


async def test_only_one_of_many_at_once_is_the_first(place: Place) -> None:
    """A11: of requests that come together exactly one is new, whoever of them it is."""
    planned = place.plan()
    found = await asyncio.gather(*(place.start(planned) for _ in range(20)))

    assert sorted(each.is_new for each in found) == [False] * 19 + [True]
    assert await place.runs() == 1


async def test_the_same_id_with_another_content_is_refused(place: Place) -> None:
    """A11: the same key with other inputs or another body is a conflict, and starts nothing."""
    planned = place.plan()
    await place.start(planned)
    await place.start(planned, key="bytes", said=b"one")

    for other in (place.start(planned, 2), place.start(planned, key="bytes", said=b"two")):
        with pytest.raises(JournalRefused) as refused:
            await other
        assert refused.value.problem.code == "other_request"
    assert await place.runs() == 2


async def test_the_same_key_of_two_workflows_is_two_runs(place: Place) -> None:
    """A11: keys of two workflows never meet; an id that is used for both all the same is a conflict."""
    one, other = place.plan("one"), place.plan("other")
    ids = {(await place.start(each)).run_id for each in (one, other)}

    assert len(ids) == 2
    with pytest.raises(JournalRefused) as refused:
        await start_once(
            place.runtime, other, {"n": 1}, run_id=trigger_run_id("request", "one", "ada", "k"), trigger={}
        )
    assert refused.value.problem.code == "other_request"


async def test_an_edit_of_the_workflow_makes_no_other_request(place: Place) -> None:
    """A11: what was sent counts, not what the workflow makes of it: a repeat after an edit is a repeat."""
    first = await place.start(place.plan(), said=b"body")
    edited = place.plan(inputs="{n: {type: integer}, more: {type: integer, default: 7}}", more="title: Edited")

    assert await place.start(edited, said=b"body") == Started(first.run_id, is_new=False)
    with pytest.raises(InvalidInputs):
        await place.start(place.plan(inputs="{n: {type: string}}"), said=b"body")
    assert await started_before(place.runtime, first.run_id, "w", digest_of(b"body")) == Started(
        first.run_id, is_new=False
    )


async def test_a_request_whose_run_was_removed_starts_no_other(place: Place) -> None:
    """A11: redelivered after a purge, a request answers with the same id, and nothing runs."""
    planned = place.plan()
    first = await place.start(planned)
    journal = place.runtime.journal
    await journal.write(await journal.claim(first.run_id), 0, (), Ended("succeeded", "{}"))
    assert (await journal.purge(journal.now() + 60)).runs == 1

    assert await place.start(planned) == Started(first.run_id, is_new=False)
    assert await place.runs() == 0
    assert await started_before(place.runtime, first.run_id, "w", digest_of({"n": 1})) is None


async def test_a_gate_that_is_shut_keeps_the_id_free(place: Place) -> None:
    """What the workflow's limit has not let in has not been started: made again later, the request is a new run."""
    planned = place.plan(more="concurrency: {limit: 1, policy: skip}")
    first = await place.start(planned)
    with pytest.raises(JournalRefused) as refused:
        await place.start(planned, 2, key="second")
    assert refused.value.problem.code == "at_the_limit"
    assert not (await place.start(planned)).is_new

    journal = place.runtime.journal
    await journal.write(await journal.claim(first.run_id), 0, (), Ended("succeeded", "{}"))
    assert (await place.start(planned, 2, key="second")).is_new
