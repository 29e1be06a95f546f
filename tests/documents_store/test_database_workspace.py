"""Workers and schedules where the workspace is in the database."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from document_stores import TWO, Shell
from servers.postgres import Postgres

from weft.journal.memory import MemoryJournal
from weft.registry import Registry
from weft.runtime import Runtime
from weft.schedules.arming import Synced, look, only_here, sync
from weft.schedules.firing import Firing
from weft.types import Json

CLOCK = "name: {name}\nenabled: {enabled}\non: {{schedule: [{{cron: '0 8 * * *', timezone: UTC}}]}}\nsteps: [{{id: a, wait: {{for: 1s}}}}]\n"


def clockwork(name: str, *, enabled: bool = True) -> str:
    return CLOCK.format(name=name, enabled=str(enabled).lower())


def put(path: str, text: str) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(text)


def move(old: str, new: str) -> None:
    Path(old).rename(new)


@pytest.fixture
async def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: Postgres) -> AsyncIterator[Runtime]:
    """A runtime on a database, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    environ = {"WEFT_DATABASE_URL": postgres.database(), "WEFT_KEY": ""}
    from weft import packs

    async with Runtime(tmp_path / "home", packs.discover(()), environ=environ) as made:
        await made.opened()
        yield made


def changes(synced: Synced) -> list[tuple[str, str, str]]:
    return [(each.schedule.id, each.schedule.source, each.change) for each in synced.schedules]


async def test_schedules_are_armed_from_the_database(runtime: Runtime) -> None:
    """What is saved there is armed, edited and retired; its source is the database, not a directory."""
    documents = runtime.documents
    assert (documents.kind, documents.place) == ("database", "database")
    made = await documents.save("daily", clockwork("daily"), if_match=None, by="ada")
    assert changes(await sync(runtime, await look(runtime))) == [("daily/1", "database", "new")]
    assert changes(await sync(runtime, await look(runtime))) == [("daily/1", "database", "unchanged")]
    broken = await documents.save("daily", "name: daily\nenabled: true\non: [", if_match=made.etag, by="ada")
    synced = await sync(runtime, await look(runtime))
    assert [(each.workflow, each.file) for each in synced.faulty] == [("daily", "database:daily.yaml")]
    assert changes(synced) == []
    await documents.remove("daily", if_match=broken.etag, by="ada")
    assert changes(await sync(runtime, await look(runtime))) == [("daily/1", "database", "retired")]


async def test_a_workflow_is_found_by_name_with_its_children(runtime: Runtime) -> None:
    """Name, child and the workflow for failures come from the database; files of that name here do not count."""
    put("workflows/one.yaml", "name: one\nsteps: [{id: other, wait: {for: 1s}}]\n")
    text = "name: one\nsteps:\n  - id: a\n    uses: workflow:two\non_failure: {workflow: three}\n"
    await runtime.documents.save("one", text, if_match=None, by="ada")
    await runtime.documents.save("two", TWO, if_match=None, by="ada")
    three = "name: three\ninputs: {run: {type: object}}\nsteps: [{id: a, wait: {for: 1s}}]\n"
    await runtime.documents.save("three", three, if_match=None, by="ada")

    plan = await runtime.plan_of("one")

    assert [step.id for step in plan.steps] == ["a"]
    assert plan.source.file == "database:one.yaml"
    assert (await runtime.plan_at("one")).source.text == text
    assert [step.id for step in (await runtime.plan_at("workflows/one.yaml")).steps] == ["other"]
    assert await only_here(runtime) == []
    put("workflows/left.yaml", TWO)
    assert await only_here(runtime) == ["left"]


async def test_a_name_is_not_taken_for_a_path(runtime: Runtime, tmp_path: Path) -> None:
    """`plan_of` is for names that a request gives: no path leads it to a file."""
    (tmp_path / "secret.yaml").write_text(TWO)
    for name in ("secret.yaml", str(tmp_path / "secret.yaml"), "../secret", "workflows/../secret"):
        with pytest.raises(Exception, match="There is no workflow"):
            await runtime.plan_of(name)


# ---- an empty directory
@pytest.fixture
async def told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, core_registry: Registry
) -> AsyncIterator[tuple[Firing, list[tuple[str, dict[str, Any]]]]]:
    monkeypatch.chdir(tmp_path)
    events: list[tuple[str, dict[str, Any]]] = []

    def say(event: str, **facts: Json) -> None:
        events.append((event, facts))

    async with Runtime(tmp_path / "home", core_registry, environ={}, journal=MemoryJournal()) as runtime:
        await runtime.opened()
        put("workflows/daily.yaml", clockwork("daily"))
        await sync(runtime, await look(runtime))
        yield Firing(runtime, say), events


async def test_an_empty_directory_retires_nothing_unless_its_files_were_seen_to_go(
    told: tuple[Firing, list[tuple[str, dict[str, Any]]]],
) -> None:
    """A volume that is not mounted at the start looks empty: what was armed goes on, and that is said."""
    firing, events = told
    move("workflows/daily.yaml", "daily.away")
    await firing._look_at_files()
    (held,) = [facts for event, facts in events if event == "workspace_empty"]
    assert held["kept"] == ["daily/1"]
    assert not [facts for event, facts in events if event == "schedule"]

    move("daily.away", "workflows/daily.yaml")
    await firing._look_at_files()
    move("workflows/daily.yaml", "daily.away")
    await firing._look_at_files()
    assert [facts["change"] for event, facts in events if event == "schedule"][-1] == "retired"


# ---- a worker
def test_a_worker_starts_what_the_database_says_and_tells_what_it_lacks(tmp_path: Path, postgres: Postgres) -> None:
    """It arms what is in the database, and says once that files here are not in it."""
    weft = Shell(tmp_path, postgres.database())
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows/daily.yaml").write_text(clockwork("daily"))
    weft.workspace("push")
    (tmp_path / "workflows/extra.yaml").write_text(TWO)
    done = subprocess.run(
        [sys.executable, "-m", "weft", "worker", "--until-idle", "--json"],
        cwd=tmp_path,
        env=weft.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    (lacking,) = [each for each in events if each["event"] == "not_in_database"]
    assert lacking["workflows"] == ["extra"]
    assert "weft workspace push" in lacking["remedy"]
    (armed,) = [each for each in events if each["event"] == "schedule"]
    assert (armed["schedule"], armed["source"], armed["change"]) == ("daily/1", "database", "new")
    assert "daily/1" in weft.here("schedules", "--json")
    assert not [each for each in events if each["event"] == "workspace_empty"]


def test_with_a_named_directory_files_count_beside_a_database(tmp_path: Path, postgres: Postgres) -> None:
    """WEFT_WORKSPACE keeps the workspace in a directory, though runs are kept in the database."""
    put(str(tmp_path / "mine/two.yaml"), TWO)
    weft = Shell(tmp_path, postgres.database())
    report = weft.here("run", "two", "--json", "--quiet", WEFT_WORKSPACE="mine")
    assert json.loads(report)["state"] == "succeeded"
    listed = weft.workspace("list", "--json", WEFT_WORKSPACE="mine")
    assert json.loads(listed)["place"] == "mine"
