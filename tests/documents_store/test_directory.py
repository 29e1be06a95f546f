"""What a workspace of files promises beside an editor, git and a kill."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from document_stores import HELLO, OTHER, Ear, Store, etag

from weft.documents import Change
from weft.documents.base import Exists
from weft.documents.directory import DirectoryDocuments
from weft.documents.files import Files
from weft.errors import Conflict, NotFound, StateUnavailable
from weft.state import State

HERE = Path(__file__).parent
KILLS = os.environ.get("LAB_KILLS", "12")


@pytest.fixture
def workflows(tmp_path: Path) -> Path:
    path = tmp_path / "workflows"
    path.mkdir()
    return path


@pytest.fixture
async def documents(tmp_path: Path, workflows: Path) -> AsyncIterator[DirectoryDocuments]:
    state = State(tmp_path / "home/state.db")

    async def opened() -> State:
        await state.open()
        return state

    made = DirectoryDocuments(workflows, tmp_path / "home", opened)
    yield made
    await made.close()
    await state.close()


async def listening(documents: DirectoryDocuments) -> Ear:
    ear = Ear(documents.changes())
    await asyncio.sleep(0)
    await documents.watched()
    return ear


# ---- files
async def test_only_workflows_are_listed(documents: DirectoryDocuments, workflows: Path, tmp_path: Path) -> None:
    """Tests, layouts, hidden and incomplete files, pipes, directories and links out of the workspace are none."""
    for name in ("a.yaml", "My Flow.yaml", "broken.yaml", "a.layout.yaml", "a.test.yaml", ".hidden.yaml", "a.yml"):
        (workflows / name).write_text("{" if name == "broken.yaml" else HELLO)
    (workflows / ".weft-0011.part").write_text(HELLO)
    (workflows / "d.yaml").mkdir()
    os.mkfifo(workflows / "pipe.yaml")
    (tmp_path / "outside.yaml").write_text("secret: 1")
    (workflows / "out.yaml").symlink_to(tmp_path / "outside.yaml")
    (workflows / "gone.yaml").symlink_to(workflows / "nowhere.yaml")
    (workflows / "alias.yaml").symlink_to("a.yaml")

    assert [facts.name for facts in await documents.list()] == ["My Flow", "a", "alias", "broken"]
    assert (await documents.read("My Flow")).text == HELLO
    assert (await documents.read("broken")).text == "{"
    for name in ("d", "pipe", "gone"):
        with pytest.raises(NotFound):
            await documents.read(name)


async def test_a_link_leads_neither_a_read_nor_a_write_out_of_the_workspace(
    documents: DirectoryDocuments, workflows: Path, tmp_path: Path
) -> None:
    """What lies outside is neither shown nor changed, whatever links say."""
    outside = tmp_path / "outside.yaml"
    outside.write_text("secret: 1")
    (workflows / "out.yaml").symlink_to(outside)
    for asked in (
        documents.read("out"),
        documents.save("out", HELLO, if_match=etag("secret: 1"), by="ada"),
        documents.save("out", HELLO, if_match=None, by="ada"),
        documents.remove("out", if_match=etag("secret: 1"), by="ada"),
        documents.save_layout("out", {"a": 1}, by="ada"),
    ):
        with pytest.raises(NotFound) as caught:
            await asked
        assert caught.value.problem.code == "outside_workspace"
    assert outside.read_text() == "secret: 1"


async def test_a_link_inside_stays_a_link(documents: DirectoryDocuments, workflows: Path) -> None:
    """A save goes to the file that a link in the workspace names, as mounted volumes have them."""
    (workflows / "..data").mkdir()
    (workflows / "..data/a.yaml").write_text(HELLO)
    (workflows / "a.yaml").symlink_to("..data/a.yaml")
    await documents.save("a", OTHER, if_match=etag(HELLO), by="ada")
    assert (workflows / "a.yaml").is_symlink()
    assert (workflows / "..data/a.yaml").read_text() == OTHER


async def test_the_mode_of_a_file_is_kept(documents: DirectoryDocuments, workflows: Path) -> None:
    """A save does not open a file to more readers, nor close it to those it has."""
    (workflows / "a.yaml").write_text(HELLO)
    (workflows / "a.yaml").chmod(0o640)
    await documents.save("a", OTHER, if_match=etag(HELLO), by="ada")
    assert (workflows / "a.yaml").stat().st_mode & 0o7777 == 0o640


async def test_bytes_that_are_not_utf_8_are_shown_and_kept(documents: DirectoryDocuments, workflows: Path) -> None:
    """They are read as well as they can be, and the version holds them as they were."""
    (workflows / "a.yaml").write_bytes(b"a: caf\xe9\n")
    found = await documents.read("a")
    assert (found.text, found.is_exact) == ("a: caf\ufffd\n", False)
    assert [(each.size, each.by) for each in await documents.versions("a")] == [(8, "outside")]


async def test_nothing_is_saved_while_its_history_cannot_be(
    documents: DirectoryDocuments, workflows: Path, tmp_path: Path
) -> None:
    """Without the tables a save is refused before it touches the file; reading what runs goes on."""
    (workflows / "a.yaml").write_text(HELLO)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/state.db").write_bytes(b"no database at all, certainly not")
    with pytest.raises(StateUnavailable):
        await documents.save("a", OTHER, if_match=etag(HELLO), by="ada")
    assert (workflows / "a.yaml").read_text() == HELLO
    assert (await documents.peek("a")).text == HELLO


async def test_a_save_that_fails_leaves_the_old_file_and_no_other(
    documents: DirectoryDocuments, workflows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that takes nothing more is told by name; what was there stays, without litter."""
    (workflows / "a.yaml").write_text(HELLO)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("weft.documents.files.os.fsync", full)
    with pytest.raises(StateUnavailable, match="No space left"):
        await documents.save("a", OTHER, if_match=etag(HELLO), by="ada")
    monkeypatch.undo()
    assert [facts.name for facts in os.scandir(workflows)] == ["a.yaml"]
    assert (await documents.read("a")).text == HELLO
    assert [each.by for each in await documents.versions("a")] == ["outside"]


def test_a_process_that_is_killed_while_it_saves_leaves_the_old_file_or_the_new_one() -> None:
    """A dozen kills; LAB_KILLS=500 is the whole trial."""
    done = subprocess.run(
        [sys.executable, HERE / "kill_saves.py", KILLS],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"killed {KILLS} times" in done.stdout


async def test_another_process_that_writes_is_waited_for(documents: DirectoryDocuments, tmp_path: Path) -> None:
    """While another process holds the lock nothing is written; then the save goes through (rule A13)."""
    files = Files(tmp_path / "workflows", tmp_path / "home/locks")
    handle = await asyncio.to_thread(files.lock)
    saving = asyncio.create_task(documents.save("a", HELLO, if_match=None, by="ada"))
    await asyncio.sleep(0.2)
    assert not saving.done()
    assert not (tmp_path / "workflows/a.yaml").exists()
    os.close(handle)
    assert (await saving).etag == etag(HELLO)


async def test_who_asks_for_a_save_and_goes_away_does_not_stop_it_halfway(
    documents: DirectoryDocuments, workflows: Path
) -> None:
    """A save whose caller was cancelled is done whole, with its version."""
    saving = asyncio.create_task(documents.save("a", HELLO, if_match=None, by="ada"))
    await asyncio.sleep(0.005)
    saving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await saving
    await documents.close()
    assert (workflows / "a.yaml").read_text() == HELLO
    assert [each.by for each in await documents.versions("a")] == ["ada"]


# ---- what is done outside
async def test_an_edit_outside_becomes_a_version_before_it_is_overwritten(
    documents: DirectoryDocuments, workflows: Path
) -> None:
    """Nothing that was in a file is lost: what an editor wrote is a version, though nobody has looked."""
    made = await documents.save("a", HELLO, if_match=None, by="ada")
    (workflows / "a.yaml").write_text("by an editor\n")
    with pytest.raises(Conflict) as caught:
        await documents.save("a", OTHER, if_match=made.etag, by="ada")
    assert caught.value.theirs == "by an editor\n"
    await documents.save("a", OTHER, if_match=etag("by an editor\n"), by="ada")
    (workflows / "a.yaml").unlink()
    versions = await documents.versions("a")
    assert [(each.number, each.by, each.etag) for each in versions] == [
        (4, "outside", ""),
        (3, "ada", etag(OTHER)),
        (2, "outside", etag("by an editor\n")),
        (1, "ada", etag(HELLO)),
    ]
    assert await documents.version("a", 2) == "by an editor\n"


async def test_what_was_done_while_nobody_looked_is_a_version_when_somebody_looks(
    documents: DirectoryDocuments, workflows: Path, tmp_path: Path
) -> None:
    """A server that starts makes versions of what it finds, and of what is gone."""
    await documents.save("a", HELLO, if_match=None, by="ada")
    await documents.save("b", HELLO, if_match=None, by="ada")
    (workflows / "a.yaml").write_text(OTHER)
    (workflows / "b.yaml").unlink()
    (workflows / "c.yaml").write_text(HELLO)
    ear = await listening(documents)
    state = await documents._state()
    from weft.documents import history

    found = await state.read(lambda connection: history.last_of_all(connection, str(workflows)))
    assert found == {"a": etag(OTHER), "b": "", "c": etag(HELLO)}
    assert ear.heard == []
    await ear.close()


async def test_every_kind_of_edit_is_told_within_half_a_second(documents: DirectoryDocuments, workflows: Path) -> None:
    """An editor's rename over the file, a write in place, git's checkout of many, a removal: p95 below 500 ms."""
    ear = await listening(documents)
    took = []

    async def heard(change: Change, began: float) -> None:
        while change not in ear.heard:
            assert time.monotonic() - began < 3, (change, ear.heard)
            await asyncio.sleep(0.005)
        took.append(time.monotonic() - began)
        ear.heard.remove(change)

    for number in range(6):
        text, began = f"{HELLO}# {number}\n", time.monotonic()
        (workflows / ".a.yaml.swp").write_text(text)
        (workflows / ".a.yaml.swp").rename(workflows / "a.yaml")
        await heard(Change("added" if number == 0 else "changed", "a", etag(text), "outside"), began)
        await asyncio.sleep(0.03 * number)
        text, began = f"{HELLO}# in place {number}\n", time.monotonic()
        (workflows / "a.yaml").write_text(text)
        await heard(Change("changed", "a", etag(text), "outside"), began)
    began = time.monotonic()
    for number in range(20):
        (workflows / f"w{number}.yaml").write_text(str(number))
    for number in range(20):
        await heard(Change("added", f"w{number}", etag(str(number)), "outside"), began)
    began = time.monotonic()
    (workflows / "a.yaml").unlink()
    await heard(Change("removed", "a", "", "outside"), began)
    began = time.monotonic()
    (workflows / "w1.layout.yaml").write_text("steps:\n  a: {x: 1}\n")
    await heard(Change("changed", "w1", "", "outside", "layout"), began)
    assert ear.heard == []
    assert statistics.quantiles(took, n=20)[-1] < 0.5, took
    await ear.close()


async def test_a_write_that_is_not_complete_is_not_told(documents: DirectoryDocuments, workflows: Path) -> None:
    """A file that grows in steps is told, and made a version, when it has come to rest."""
    ear = await listening(documents)
    with (workflows / "a.yaml").open("w") as file:
        for number in range(12):
            file.write(f"# {number}\n")
            file.flush()
            await asyncio.sleep(0.03)
    whole = (workflows / "a.yaml").read_text()
    assert await ear.until(1) == [Change("added", "a", etag(whole), "outside")]
    assert len(await documents.versions("a")) == 1
    await ear.close()


async def test_what_another_process_saves_is_told_in_its_name(store: Store) -> None:
    """A save in another process is not taken for an edit outside, even when it has not said so yet."""
    theirs = await store.another()
    ear = Ear(theirs.changes())
    await asyncio.sleep(0)
    await theirs.watched()
    now = None
    for number in range(10):
        now = (await store.documents.save("a", str(number), if_match=now, by="ada")).etag
        await asyncio.sleep(0.04)
    await ear.until(100, 0.6)
    assert {change.by for change in ear.heard} == {"ada"}
    assert ear.heard[-1].etag == now
    assert {each.by for each in await theirs.versions("a")} == {"ada"}
    await ear.close()


async def test_nobody_looks_while_nobody_listens(documents: DirectoryDocuments) -> None:
    """The look ends with the last listener, and begins again with the next."""
    ear = await listening(documents)
    await ear.close()
    await asyncio.sleep(0.05)
    assert documents._watching._task is None
    ear = await listening(documents)
    made = await documents.save("a", HELLO, if_match=None, by="ada")
    assert await ear.until(1) == [Change("added", "a", made.etag, "ada")]
    await ear.close()


async def test_a_name_that_exists_outside_is_not_overwritten_by_a_rename(
    documents: DirectoryDocuments, workflows: Path
) -> None:
    """A file that an editor has just made is not lost to a rename."""
    made = await documents.save("a", HELLO, if_match=None, by="ada")
    (workflows / "b.yaml").write_text("theirs")
    with pytest.raises(Exists):
        await documents.rename("a", "b", if_match=made.etag, by="ada")
    assert (workflows / "b.yaml").read_text() == "theirs"
