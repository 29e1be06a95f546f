"""The loop that starts what is due: over real journals, with any number of processes; and the arming of a workspace."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import zoneinfo
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from weft.errors import JournalRefused
from weft.journal.base import Ended, OccurrenceQuery, RunQuery, ScheduleMove
from weft.journal.memory import MemoryJournal
from weft.journal.sqlite import SqliteJournal
from weft.registry import Registry
from weft.runtime import Runtime
from weft.schedules import deciding
from weft.schedules.arming import Synced, sync
from weft.schedules.deciding import BATCH
from weft.schedules.firing import Firing
from weft.schedules.standing import Standing
from weft.types import Json
from weft.workspace import workflow_files

INSTANTS = int(os.environ.get("LAB_INSTANTS", "40"))
"""That four processes share; by hand: LAB_INSTANTS=1000."""

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()


FILE = Path("workflows/w.yaml")


def read(file: Path = FILE) -> str:
    return file.read_text(encoding="utf-8")


def put(text: str, file: Path = FILE) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")


def move(old: str, new: str) -> None:
    Path(old).rename(new)


def other_place(directory: Path) -> Path:
    (directory / "other").mkdir()
    return directory / "other"


class Told(list[tuple[str, dict[str, Any]]]):
    def __call__(self, event: str, **facts: Json) -> None:
        self.append((event, facts))

    def of(self, event: str) -> list[dict[str, Any]]:
        return [facts for name, facts in self if name == event]


class Place:
    """A workspace, a journal with a clock that is moved by hand, and the loop."""

    def __init__(self, runtime: Runtime, clock: list[float]) -> None:
        self.runtime, self.journal, self._clock = runtime, runtime.journal, clock
        self.told = Told()
        self.firing = Firing(runtime, self.told)

    def write(self, name: str = "w", *, file: str = "", enabled: bool = True, extra: str = "", **says: str) -> None:
        facts = {"cron": '"0 * * * *"', "timezone": "UTC"} | says
        lines = ", ".join(f"{key}: {value}" for key, value in facts.items() if value)
        text = f"name: {name}\nenabled: {str(enabled).lower()}\non: {{schedule: [{{{lines}}}]}}\n{extra}\n"
        put(f"{text}steps: [{{id: a, wait: {{for: 1s}}}}]\n", Path("workflows", file or f"{name}.yaml"))

    async def sync(self, **options: bool) -> Synced:
        return await sync(self.runtime, workflow_files(), **options)

    async def to(self, now: float, turns: int = 1) -> None:
        """Let the clock show an instant, and have a look."""
        self._clock[0] = now
        for _ in range(turns):
            await self.firing.turn()

    async def fates(self, schedule: str = "w/1") -> list[str]:
        rows = await self.journal.occurrences(OccurrenceQuery(schedule=schedule, limit=5_000))
        return [
            f"{row.key[11:16]} {row.fate} {json.loads(row.reason)['code'] if row.reason else ''}".strip()
            for row in rows[::-1]
        ]

    async def end_all(self) -> None:
        for run in await self.journal.unfinished():
            if run.status.state == "ready" and not run.status.queued:
                await self.journal.write(await self.journal.claim(run.row.id), 0, (), Ended("succeeded", "{}"))


@pytest.fixture(params=["memory", "sqlite"])
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, core_registry: Registry
) -> AsyncIterator[Place]:
    monkeypatch.chdir(tmp_path)
    clock = [NOON - 1800]
    kinds: dict[str, Callable[[], Any]] = {
        "memory": lambda: MemoryJournal(clock=lambda: clock[0]),
        "sqlite": lambda: SqliteJournal(tmp_path / "journal.db", clock=lambda: clock[0]),
    }
    async with Runtime(tmp_path / "home", core_registry, environ={}, journal=kinds[request.param]()) as runtime:
        await runtime.opened()
        yield Place(runtime, clock)


# ---- starting
async def test_a_due_instant_becomes_a_run(place: Place) -> None:
    """The run has the schedule's inputs, rendered; it names its schedule and instant, and is ready for any worker."""
    extra = "inputs: {day: {type: string}, n: {type: integer, default: 3}}"
    place.write(inputs='{day: "{{ run.scheduled_at }} {{ trigger.at }}"}', extra=extra)
    await place.sync()
    await place.to(NOON + 5)

    (run,) = await place.journal.runs(RunQuery())

    assert json.loads(run.row.inputs) == {"day": "2026-03-02T12:00:00.000Z 2026-03-02T12:00:00+00:00", "n": 3}
    assert (run.row.schedule, run.row.scheduled_at, run.row.started_at) == ("w/1", NOON, NOON + 5)
    assert json.loads(run.row.trigger)["type"] == "schedule"
    assert run.status.state == "ready"
    (occurrence,) = await place.journal.occurrences(OccurrenceQuery())
    assert (occurrence.run_id, occurrence.fate) == (run.row.id, "fired")


async def test_inputs_that_fail_are_a_row_and_are_told(place: Place) -> None:
    """B7: starts that were skipped three times in a row are told once, with the reason."""
    place.write(inputs='{n: "{{ run.scheduled_at }}"}', extra="inputs: {n: {type: integer}}")
    await place.sync()
    for hour in range(3):
        await place.to(NOON + hour * 3600)

    assert await place.fates() == [f"{12 + hour}:00 skipped wrong_type" for hour in range(3)]
    (alarm,) = place.told.of("skipped")
    assert "'n'" in alarm["reason"]["message"]
    assert not await place.journal.runs(RunQuery())


async def test_three_skips_in_a_row_are_told(place: Place) -> None:
    """B7: the message names the run that had not ended; it is said once, not every hour."""
    place.write()
    await place.sync()
    for hour in range(6):
        await place.to(NOON + hour * 3600)

    (alarm,) = place.told.of("skipped")
    (run,) = await place.journal.runs(RunQuery())
    assert alarm["count"] == 3
    assert run.row.id in alarm["reason"]["message"]
    assert await place.fates() == ["12:00 fired", *[f"{13 + hour}:00 skipped overlap" for hour in range(5)]]


async def test_what_was_missed_is_told(place: Place) -> None:
    """A gap is told with its number and its ends."""
    place.write(catch_up="none")
    await place.sync()

    await place.to(NOON + 3 * 3600 + 1800)

    (missed,) = place.told.of("missed")
    assert (missed["count"], missed["first"], missed["last"]) == (
        4,
        "2026-03-02T12:00:00+00:00",
        "2026-03-02T15:00:00+00:00",
    )


async def test_runs_of_a_queue_go_on_one_after_another(place: Place) -> None:
    """With `queue` every instant has a run; the second begins when the first has ended."""
    place.write(overlap="queue")
    await place.sync()
    for hour in range(3):
        await place.to(NOON + hour * 3600)

    assert len(await place.journal.ready(10)) == 1
    await place.end_all()
    assert len(await place.journal.ready(10)) == 1
    assert await place.fates() == ["12:00 fired", "13:00 fired", "14:00 fired"]


async def test_the_gate_of_the_workflow_decides(place: Place) -> None:
    """A start that `concurrency: skip` keeps out is skipped with that reason, those beside it in the batch are not lost."""
    place.write(overlap="allow", catch_up="all", extra="concurrency: {policy: skip}")
    await place.sync()

    await place.to(NOON + 2 * 3600 + 1800, turns=4)

    assert await place.fates() == ["12:00 fired made_up", "13:00 skipped at_the_limit", "14:00 skipped at_the_limit"]


async def test_catching_up_is_throttled(place: Place) -> None:
    """B8: after a batch of a hundred runs the schedule waits, and others have their turn."""
    place.write(cron="", every="1m", overlap="allow", catch_up="all")
    await place.sync()

    await place.to(NOON + 6 * 3600, turns=3)

    assert len(await place.fates()) == BATCH


@pytest.mark.parametrize(("text", "code"), [('{"format": 999, "expressions": 0}', "other_revision"), ("[]", "fault")])
async def test_a_document_that_cannot_be_followed_is_told_and_waits(place: Place, text: str, code: str) -> None:
    """A worker that lacks what the runs need starts none, says so once, and lets others be in time."""
    place.write("a")
    place.write("b")
    await place.sync()
    (row,) = [row for row in await place.journal.schedules() if row.workflow == "a"]
    strange = await place.journal.keep_document(text)
    await place.journal.schedule("a/1", lambda view: ScheduleMove(replace(row, document=strange)))

    await place.to(NOON, turns=2)
    assert list(place.firing._later) == ["a/1"]  # it is left alone for a while, not asked all the time
    place.firing._later.clear()
    await place.to(NOON, turns=2)

    (told,) = place.told.of("cannot_fire")
    assert (told["schedule"], told["code"]) == ("a/1", code)
    assert await place.fates("a/1") == []
    assert await place.fates("b/1") == ["12:00 fired"]


async def test_a_purge_leaves_what_a_schedule_needs(place: Place) -> None:
    """A11: old runs go; the document, the watermark and the ids of the runs that it started stay."""
    place.write(catch_up="all")
    await place.sync()
    await place.to(NOON)
    await place.end_all()
    (old,) = await place.journal.runs(RunQuery())

    await place.to(NOON + 1800)
    assert (await place.journal.purge(NOON + 1000)).runs == 1
    await place.to(NOON + 3600)

    assert (await place.fates())[-1] == "13:00 fired"
    with pytest.raises(JournalRefused) as refused:
        await place.journal.submit(old.row)
    assert refused.value.problem.code == "known_run"


# ---- the workspace
async def test_only_enabled_workflows_are_armed(place: Place) -> None:
    """A workflow that is not enabled starts nothing; one that is no longer, is retired."""
    place.write("on")
    place.write("off", enabled=False)
    assert [(each.schedule.id, each.change) for each in (await place.sync()).schedules] == [("on/1", "new")]

    place.write("on", enabled=False)

    assert [(each.schedule.id, each.change) for each in (await place.sync()).schedules] == [("on/1", "retired")]
    await place.to(NOON)
    assert not await place.journal.runs(RunQuery())


async def test_a_removed_file_retires_its_schedules(place: Place) -> None:
    """What the workspace no longer has starts nothing; a workspace that is away takes nothing back."""
    place.write()
    await place.sync()
    move("workflows", "away")
    assert (await place.sync()).schedules == []
    move("away", "workflows")
    move("workflows/w.yaml", "w.yaml")

    assert [each.change for each in (await place.sync()).schedules] == ["retired"]


async def test_a_workflow_with_faults_keeps_what_was_armed(place: Place) -> None:
    """A fault in a file changes no schedule, and is told with its place, however it came in."""
    place.write()
    await place.sync()
    good = (await place.journal.schedules())[0]
    for fault in ('cron: "0 25 * * *"', "every: nope", "cron: [", 'cron: "0 9 * * *", zone: UTC'):
        text = read()
        put(text.replace('cron: "0 * * * *"', fault))
        synced = await place.sync()

        (faulty,) = synced.faulty
        assert faulty.problem.code != "exactly_one"
        assert (faulty.workflow, faulty.kept, faulty.problem.where.line) == ("w", (good,), 3)
        assert (await place.journal.schedules()) == [good]
        put(text)


@pytest.mark.parametrize(
    ("enabled", "on", "is_told"),
    [
        ("yes", "{schedule: [{every: 1h, timezone: UTC}]}", True),
        ("true", "{schedule: {every: 1h, timezone: UTC}}", True),
        ("true", "[schedule]", True),
        ("true", "{schedule: [every]}", True),
        ("false", "{schedule: {every: 1h, timezone: UTC}}", False),
        ("yes", "{}", False),
    ],
)
async def test_a_fault_in_what_arms_a_workflow_is_told(place: Place, enabled: str, on: str, is_told: bool) -> None:
    """A workflow that seems to be enabled and to have a schedule is not left out in silence."""
    put(f"name: w\nenabled: {enabled}\non: {on}\nsteps: [{{id: a, wait: {{for: 1s}}}}]\n")

    synced = await place.sync()

    assert bool(synced.faulty) == is_told
    assert not synced.schedules


@pytest.mark.parametrize("fault", ["steps: [{{{", "cron: 1"])
async def test_a_file_of_another_name_with_faults_keeps_what_was_armed(place: Place, fault: str) -> None:
    """A fault retires nothing, also when the name of the file is not that of the workflow."""
    place.write("w", file="x.yaml")
    place.write("v", file="w.yaml")
    await place.sync()
    before = await place.journal.schedules()
    place.write("w", file="x.yaml", extra=fault)

    synced = await place.sync()

    assert [(each.workflow, [row.id for row in each.kept]) for each in synced.faulty] == [("x", ["w/1"])]
    assert [each.change for each in synced.schedules] == ["unchanged"]
    assert await place.journal.schedules() == before


async def test_a_renamed_file_stays_the_same_workflow(place: Place) -> None:
    """A file may be moved; a fault in it then keeps what was armed, and its removal retires it."""
    place.write("w", file="x.yaml")
    await place.sync()
    before = (await place.journal.schedules())[0]
    move("workflows/x.yaml", "workflows/y.yaml")
    await place.sync()
    after = (await place.journal.schedules())[0]
    assert (after.next_at, after.watermark, after.retired) == (before.next_at, before.watermark, False)
    put("name: [", Path("workflows/y.yaml"))
    assert [each.kept[0].id for each in (await place.sync()).faulty] == ["w/1"]
    move("workflows/y.yaml", "y.yaml")

    assert [each.change for each in (await place.sync()).schedules] == ["retired"]


async def test_the_loop_arms_what_changes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its start the loop tells all schedules; later what has changed, faults once."""
    place.write()
    await place.firing._look_at_files()
    assert [(told["schedule"], told["change"], told["next"]) for told in place.told.of("schedule")] == [
        ("w/1", "new", "2026-03-02T12:00:00+00:00")
    ]
    place.told.clear()
    await place.firing._look_at_files()
    assert not place.told
    place.write("other", enabled=False)
    place.write(cron='"30 6 * * *"')
    await place.firing._look_at_files()
    place.write("other", enabled=False, extra="title: Other")

    await place.firing._look_at_files()

    assert [(told["change"], told["next"]) for told in place.told.of("schedule")] == [
        ("edited", "2026-03-03T06:30:00+00:00")
    ]


async def test_two_files_with_one_name_are_told(place: Place) -> None:
    """The second file of a name is no edit of the first."""
    place.write("w")
    place.write("w", file="x.yaml", cron='"0 9 * * *"')

    synced = await place.sync()

    assert [faulty.problem.code for faulty in synced.faulty] == ["same_name"]
    assert len(await place.journal.schedules()) == 1


async def test_another_workspace_is_told_and_not_obeyed(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workspaces with one journal: the first to arm a name owns it; `take` changes that; neither retires the other's."""
    place.write()
    place.write("mine")
    await place.sync()
    other = other_place(tmp_path)
    monkeypatch.chdir(other)
    place.write(cron='"0 9 * * *"')

    told = {each.schedule.id: each.change for each in (await place.sync()).schedules}
    assert told == {"w/1": "foreign", "mine/1": "elsewhere"}
    assert {row.id: Standing.of(row).spec.says.cron for row in await place.journal.schedules()} == {
        "w/1": "0 * * * *", "mine/1": "0 * * * *",
    }  # fmt: skip

    await place.sync(take=True)

    (row,) = [row for row in await place.journal.schedules() if row.id == "w/1"]
    assert (row.source, Standing.of(row).spec.says.cron) == (str(other / "workflows"), "0 9 * * *")


async def test_schedules_keep_their_ids_when_they_move(place: Place) -> None:
    """One that is put in front of another gets a new id; the other keeps its own, and its pause."""
    head = "name: w\nenabled: true\non:\n  schedule:\n"
    one = '    - {cron: "0 1 * * *", timezone: UTC}\n'
    two = '    - {cron: "0 2 * * *", timezone: UTC}\n'
    three = '    - {cron: "0 3 * * *", timezone: UTC}\n'
    steps = "steps: [{id: a, wait: {for: 1s}}]\n"

    async def armed(*schedules: str) -> dict[str, tuple[str | None, bool]]:
        put(head + "".join(schedules) + steps)
        await place.sync()
        rows = await place.journal.schedules()
        return {row.id: (Standing.of(row).spec.says.cron, row.paused) for row in rows if not row.retired}

    assert await armed(one) == {"w/1": ("0 1 * * *", False)}
    await place.journal.schedule("w/1", deciding.pause)
    assert await armed(two, one) == {"w/1": ("0 1 * * *", True), "w/2": ("0 2 * * *", False)}
    assert await armed(three, one) == {"w/1": ("0 1 * * *", True), "w/2": ("0 3 * * *", False)}
    assert await armed(three) == {"w/2": ("0 3 * * *", False)}
    assert await armed(three, two) == {"w/2": ("0 3 * * *", False), "w/3": ("0 2 * * *", False)}


# ---- several processes
@pytest.fixture(params=["sqlite", "postgres"])
def shared(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A journal for several processes; returns its kind."""
    monkeypatch.chdir(tmp_path)
    if request.param == "postgres":
        monkeypatch.setenv("WEFT_DATABASE_URL", request.getfixturevalue("postgres_server").database())
    return str(request.param)


def other_zone_data(directory: Path) -> str:
    """Return a place of zone data where Berlin is what Tokyo is."""
    (directory / "Europe").mkdir(parents=True)
    found = next(Path(root, "Asia/Tokyo") for root in zoneinfo.TZPATH if Path(root, "Asia/Tokyo").is_file())
    shutil.copy(found, directory / "Europe" / "Berlin")
    return str(directory)


async def test_four_processes_start_each_instant_once(shared: str, tmp_path: Path) -> None:
    """A23, faults 14 and 15: four processes, one with other zone data, one killed on the way; on PostgreSQL two with a wrong clock."""
    seconds = 3 if INSTANTS < 200 else 20
    names = [f"w{number}" for number in range(max(1, INSTANTS // (seconds + 1)))]
    begin = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=6 if INSTANTS < 200 else 20)
    for name in names:
        put(
            f"name: {name}\nenabled: true\non:\n  schedule:\n    - every: 1s\n      timezone: Europe/Berlin\n"
            f"      overlap: allow\n      start: '{begin.isoformat()}'\n"
            f"      end: '{(begin + timedelta(seconds=seconds)).isoformat()}'\nsteps: [{{id: a, wait: {{for: 1s}}}}]\n",
            Path("workflows", f"{name}.yaml"),
        )
    async with Runtime.open() as runtime:
        await runtime.opened()
        await sync(runtime, workflow_files())
        whole = (begin - datetime.now(UTC)).total_seconds() + seconds + 4
        skews = [0.0, 0.0, 600.0, -600.0] if shared == "postgres" else [0.0] * 4
        children = [child(whole, skew, tmp_path if number == 0 else None) for number, skew in enumerate(skews)]
        await asyncio.sleep(max(0.0, (begin - datetime.now(UTC)).total_seconds()) + seconds / 2)
        children[1].kill()
        assert [each.wait(whole + 60) for each in children] == [0, -9, 0, 0]

        expected = [begin.timestamp() + number for number in range(seconds + 1)]
        runs: Counter[str] = Counter()
        for name in names:
            rows = await runtime.journal.occurrences(OccurrenceQuery(workflow=name, limit=1_000))
            assert sorted(row.at for row in rows) == expected
            assert {row.fate for row in rows} == {"fired"}
            runs.update(row.run_id or "" for row in rows)
        found = await runtime.journal.runs(RunQuery(limit=10_000))

    assert set(runs.values()) == {1}
    assert {run.row.id for run in found} == set(runs)
    if shared == "postgres":
        assert all(0 <= run.row.started_at - (run.row.scheduled_at or 0) < 60 for run in found)


def child(seconds: float, skew: float, other_zones: Path | None) -> subprocess.Popen[bytes]:
    environ = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[2]))
    if other_zones is not None:
        environ["PYTHONTZPATH"] = other_zone_data(other_zones / "zones")
    script = Path(__file__).with_name("firing_child.py")
    return subprocess.Popen(
        [sys.executable, str(script), str(seconds), str(skew)], env=environ, stdout=subprocess.DEVNULL
    )
