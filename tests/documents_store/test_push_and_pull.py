"""Between a directory and the database: what goes, what stays, and what is left to a person."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import click
import pytest
from document_stores import HELLO, ONE, OTHER, TWO, Shell
from servers.postgres import Postgres

from weft.cli.opening import workflow_names
from weft.cli.workspace import command
from weft.documents.database import DatabaseDocuments
from weft.documents.directory import DirectoryDocuments
from weft.documents.moving import Sides, carry, compare
from weft.errors import Conflict
from weft.state import State


class Both:
    """A directory and a database, and what was said of them."""

    def __init__(self, tmp_path: Path, url: str) -> None:
        self.path = tmp_path / "workflows"
        self.path.mkdir()
        self.home, self.tables = State(tmp_path / "home/state.db"), State(url)
        self.directory = DirectoryDocuments(self.path, tmp_path / "home", self._opened(self.home))
        self.database = DatabaseDocuments(self._opened(self.tables))
        self.pushing = Sides(self.directory, self.database, self.home, self.path)
        self.pulling = Sides(self.database, self.directory, self.home, self.path)

    def _opened(self, state: State) -> Callable[[], object]:
        async def opened() -> State:
            await state.open()
            return state

        return opened  # type: ignore[return-value]

    def write(self, name: str, text: str) -> None:
        (self.path / f"{name}.yaml").write_text(text)

    async def push(self, *, force: bool = False, prune: bool = False) -> dict[str, str]:
        return await self._carry(self.pushing, force=force, prune=prune)

    async def pull(self, *, force: bool = False, prune: bool = False) -> dict[str, str]:
        return await self._carry(self.pulling, force=force, prune=prune)

    async def _carry(self, sides: Sides, *, force: bool, prune: bool) -> dict[str, str]:
        steps = await compare(sides, prune=prune)
        await carry(sides, steps, by="ada", why="carried", force=force)
        return {step.name: step.what for step in steps}

    async def edit(self, name: str, text: str) -> None:
        """Save in the database, as somebody does on the canvas."""
        now = await self.database.read(name)
        await self.database.save(name, text, if_match=now.etag, by="bob")

    async def kept(self, name: str) -> str:
        return (await self.database.read(name)).text


@pytest.fixture
async def both(tmp_path: Path, postgres: Postgres) -> AsyncIterator[Both]:
    made = Both(tmp_path, postgres.database())
    yield made
    await made.home.close()
    await made.tables.close()


async def test_what_is_new_or_changed_here_goes_there_with_its_layout(both: Both) -> None:
    """A push brings new and changed documents; a second one has nothing to do."""
    both.write("a", HELLO)
    both.write("b", HELLO)
    (both.path / "a.layout.yaml").write_text("steps:\n  ask: {x: 1}\n")
    assert await both.push() == {"a": "added", "b": "added"}
    both.write("b", OTHER)
    assert await both.push() == {"a": "same", "b": "changed"}
    assert await both.push() == {"a": "same", "b": "same"}
    assert (await both.kept("a"), await both.kept("b")) == (HELLO, OTHER)
    assert await both.database.layout("a") == {"steps": {"ask": {"x": 1}}}
    assert [(each.by, each.why) for each in await both.database.versions("b")] == [("ada", "carried")] * 2


async def test_what_is_newer_there_is_not_overwritten(both: Both) -> None:
    """What somebody saved in the database since stays there until it is pulled, or overwritten on purpose."""
    both.write("a", HELLO)
    await both.push()
    await both.edit("a", OTHER)
    assert await both.push() == {"a": "newer"}
    assert await both.kept("a") == OTHER
    assert await both.pull() == {"a": "changed"}
    assert (both.path / "a.yaml").read_text() == OTHER
    assert await both.push() == {"a": "same"}
    await both.edit("a", HELLO)  # back to what the directory had once: still newer there
    assert await both.push() == {"a": "newer"}
    assert await both.push(force=True) == {"a": "newer"}
    assert await both.kept("a") == OTHER


async def test_what_was_changed_on_both_sides_is_left_to_a_person(both: Both) -> None:
    """Neither push nor pull takes one side's change away; with force the one that is asked for wins."""
    both.write("a", HELLO)
    await both.push()
    await both.edit("a", OTHER)
    both.write("a", "mine\n")
    assert (await both.push(), await both.pull()) == ({"a": "conflict"}, {"a": "conflict"})
    assert (await both.kept("a"), (both.path / "a.yaml").read_text()) == (OTHER, "mine\n")
    await both.pull(force=True)
    assert (both.path / "a.yaml").read_text() == OTHER
    assert await both.directory.version("a", 1) == "mine\n"


async def test_what_was_removed_is_not_brought_back_and_not_removed_unasked(both: Both) -> None:
    """A removal there is no reason to add it again; one here takes effect there only with prune."""
    for name in ("a", "b", "c"):
        both.write(name, HELLO)
    await both.push()
    await both.database.remove("a", if_match=(await both.database.read("a")).etag, by="bob")
    (both.path / "b.yaml").unlink()
    (both.path / "c.yaml").unlink()
    await both.edit("c", OTHER)
    assert await both.push() == {"a": "gone", "b": "missing", "c": "missing"}
    assert await both.push(prune=True) == {"a": "gone", "b": "removed", "c": "conflict"}
    assert [facts.name for facts in await both.database.list()] == ["c"]
    assert await both.push(force=True) == {"a": "gone", "c": "missing"}
    assert [facts.name for facts in await both.database.list()] == ["a", "c"]


async def test_what_cannot_be_a_document_there_is_named(both: Both) -> None:
    """Bytes that are no text, and names that are none, are left behind and told."""
    both.write("My Flow", HELLO)
    (both.path / "odd.yaml").write_bytes(b"\xff\xfe")
    (both.path / "large.yaml").write_text("# " * 600_000)
    assert await both.push(force=True) == {"My Flow": "unfit", "large": "unfit", "odd": "unfit"}
    assert await both.database.list() == []


async def test_a_change_between_the_look_and_the_carrying_is_not_lost(both: Both) -> None:
    """What was saved there while a person read what would change is not overwritten."""
    both.write("a", HELLO)
    await both.push()
    both.write("a", "mine\n")
    steps = await compare(both.pushing)
    await both.edit("a", OTHER)
    with pytest.raises(Conflict):
        await carry(both.pushing, steps, by="ada", why="", force=True)
    assert await both.kept("a") == OTHER


async def test_another_machine_with_the_same_path_does_not_count(both: Both, tmp_path: Path) -> None:
    """What both sides had in common is known by the home: a second machine may not overwrite what the first has pushed."""
    both.write("a", HELLO)
    await both.push()
    both.write("a", OTHER)
    await both.push()
    second = State(tmp_path / "second/state.db")
    directory = DirectoryDocuments(both.path, tmp_path / "second", both._opened(second))  # type: ignore[arg-type]
    both.write("a", "on the second machine\n")
    (step,) = await compare(Sides(directory, both.database, second, both.path))
    assert step.what == "conflict"
    await second.close()


# ---- by command
def test_commands_carry_show_and_restore(tmp_path: Path, postgres: Postgres) -> None:
    """Push, run by name from the database with a child there, history, diff, restore, pull: as a person does it."""
    weft = Shell(tmp_path, postgres.database())
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows/one.yaml").write_text(ONE)
    (tmp_path / "workflows/two.yaml").write_text(TWO)

    assert "2 would be pushed" in weft.workspace("push", "--dry-run")
    assert "There is no workflow 'one'" in weft.here("run", "one", code=4)
    assert "+ one" in weft.workspace("push")
    for file in (tmp_path / "workflows").iterdir():
        file.unlink()
    report = json.loads(weft.here("run", "one", "--json", "--quiet"))
    assert report["state"] == "succeeded"
    assert [each["name"] for each in json.loads(weft.workspace("list", "--json"))["documents"]] == ["one", "two"]

    assert "2 pulled" in weft.workspace("pull")
    assert (tmp_path / "workflows/one.yaml").read_text() == ONE
    (tmp_path / "workflows/two.yaml").write_text(TWO + "# more\n")
    weft.workspace("push")
    assert "+# more" in weft.workspace("diff", "two", "1")
    assert "would be version 1 again" in weft.workspace("restore", "two", "1", "--dry-run")
    assert "that is version 3 now" in weft.workspace("restore", "two", "1")
    history = json.loads(weft.workspace("history", "two", "--json"))["versions"]
    assert [(each["number"], each["why"]) for each in history] == [
        (3, "restored version 1"),
        (2, "pushed from workflows/"),
        (1, "pushed from workflows/"),
    ]
    refused = weft.workspace("push", code=1)
    assert "! two  changed there since" in refused
    assert "1 left alone" in refused
    assert json.loads(weft.workspace("push", "--force", "--json"))["documents"][1]["carried"] is True
    assert "no_database" in weft.workspace("push", code=2, WEFT_DATABASE_URL="")
    assert "one\t" in weft.workspace(WEFT_WORKSPACE="workflows")


def test_commands_take_names_of_the_database(
    tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation, tests and completion speak of the workflows of the database as `weft run` does."""
    weft = Shell(tmp_path, postgres.database())
    files = tmp_path / "workflows"
    files.mkdir()
    for name, text in {"one": ONE, "two": TWO, "faulty": TWO.replace("set_values", "nothing")}.items():
        (files / f"{name}.yaml").write_text(text)
    weft.workspace("push")
    for file in files.iterdir():
        file.unlink()
    (files / "one.test.yaml").write_text("cases: [{name: adds up, expect: {outputs: {got: 1}}}]\n")

    assert "1 document checked, nothing is wrong." in weft.here("validate", "one")
    checked = json.loads(weft.here("validate", "--json", code=3))["documents"]
    assert [(each["file"], each["valid"]) for each in checked] == [
        ("database:faulty.yaml", False),
        ("database:one.yaml", True),
        ("database:two.yaml", True),
    ]
    assert "There is no workflow 'three'" in weft.here("validate", "three", code=4)
    assert "1 passed" in weft.here("test", "one")
    (files / "three.test.yaml").write_text("cases: [{name: nothing to test}]\n")
    assert "There is no workflow 'three'" in weft.here("test", "three", code=3)
    for name in ("WEFT_DATABASE_URL", "WEFT_HOME"):
        monkeypatch.setenv(name, weft.env[name])
    completed = workflow_names(click.Context(command), click.Argument(["name"]), "tw")
    assert [each.value for each in completed] == ["two", "two-opinions"]


def test_two_processes_share_one_database(tmp_path: Path, postgres: Postgres) -> None:
    """Two processes restore at once again and again: every save is a version, and none is lost."""
    weft = Shell(tmp_path, postgres.database())
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows/one.yaml").write_text(ONE)
    weft.workspace("push")
    code = """if True:
        import asyncio, os, sys
        from weft.documents.database import DatabaseDocuments
        from weft.errors import Conflict
        from weft.state import State
        async def main(who):
            state = State(os.environ["WEFT_DATABASE_URL"])
            async def opened():
                await state.open()
                return state
            documents, done = DatabaseDocuments(opened), 0
            while done < 15:
                now = await documents.read("one")
                try:
                    await documents.save("one", now.text + f"# {who} {done}\\n", if_match=now.etag, by=who)
                    done += 1
                except Conflict:
                    pass
            await state.close()
        asyncio.run(main(sys.argv[1]))
    """
    processes = [subprocess.Popen([sys.executable, "-c", code, who], env=weft.env) for who in ("x", "y")]
    assert [process.wait(60) for process in processes] == [0, 0]
    (tmp_path / "workflows/one.yaml").unlink()
    weft.workspace("pull")
    lines = (tmp_path / "workflows/one.yaml").read_text().removeprefix(ONE).splitlines()
    assert sorted(lines) == sorted(f"# {who} {number}" for who in ("x", "y") for number in range(15))
    assert json.loads(weft.workspace("history", "one", "--json", "--limit", "50"))["versions"][0]["number"] == 31
