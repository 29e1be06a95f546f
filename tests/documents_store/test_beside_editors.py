"""What a workspace of files promises beside an editor that knows no lock, and where files cannot be read."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from document_stores import HELLO, OTHER, Ear, etag

from weft.documents import Change, files
from weft.documents import exchange as exchanging
from weft.documents.directory import DirectoryDocuments
from weft.documents.files import Files
from weft.errors import Conflict, NotFound, StateUnavailable
from weft.state import State

EDITS = int(os.environ.get("LAB_EDITS", "40"))
"""Of the editor in the trial; 1,000 for the whole one."""


@pytest.fixture
def workflows(tmp_path: Path) -> Path:
    path = tmp_path / "workflows"
    path.mkdir()
    return path


@pytest.fixture
async def another(tmp_path: Path) -> AsyncIterator[Callable[..., DirectoryDocuments]]:
    opened: list[tuple[DirectoryDocuments, State]] = []

    def make(directory: str = "workflows") -> DirectoryDocuments:
        state = State(tmp_path / "home/state.db")

        async def opened_state() -> State:
            await state.open()
            return state

        opened.append((DirectoryDocuments(tmp_path / directory, tmp_path / "home", opened_state), state))
        return opened[-1][0]

    yield make
    for documents, state in opened:
        await documents.close()
        await state.close()


@pytest.fixture
def documents(another: Callable[..., DirectoryDocuments]) -> DirectoryDocuments:
    return another()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def lead(link: Path, to: str) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(to)


async def test_neither_side_loses_an_edit(another: Callable[..., DirectoryDocuments], workflows: Path) -> None:
    """Two processes save as fast as they can, an editor renames over and truncates: all is in the history, as whose it is."""
    one, two, file = another(), another(), workflows / "a.yaml"
    await one.save("a", HELLO, if_match=None, by="ada")
    edits, saves, shown, goes_on = list[str](), list[str](), list[bool](), True

    def editor() -> None:
        for number in range(EDITS):
            text = f"{HELLO}# edit {number}\n"
            if number % 2:
                (workflows / ".a.swp").write_text(text)
                (workflows / ".a.swp").rename(file)
            else:
                file.write_text(text)
            edits.append(text)
            time.sleep(0.07)

    async def save(documents: DirectoryDocuments, by: str) -> None:
        number = 0
        while goes_on:
            number += 1
            text, now = f"{HELLO}# {by} {number}\n", await documents.read("a")
            try:
                await documents.save("a", text, if_match=now.etag, by=by)
            except Conflict as conflict:
                shown.append(conflict.theirs is not None and conflict.yours == text)
            else:
                saves.append(text)

    savers = asyncio.gather(save(one, "ada"), save(two, "bob"))
    await asyncio.to_thread(editor)
    goes_on = False
    await savers
    assert all(shown)
    by_whom = {each.etag: each.by for each in await one.versions("a", limit=100_000)}
    assert [text for text in edits if by_whom.get(etag(text)) != "outside"] == []
    assert [text for text in saves if by_whom.get(etag(text)) not in ("ada", "bob")] == []


@pytest.mark.parametrize("way", ["rename", "in place"])
@pytest.mark.parametrize("what", ["save", "create", "remove", "rename"])
async def test_an_edit_at_the_last_moment_is_a_conflict(
    documents: DirectoryDocuments, workflows: Path, monkeypatch: pytest.MonkeyPatch, what: str, way: str
) -> None:
    """What an editor writes between the last look and the change of the file stays, and the writer is told."""
    file = workflows / "a.yaml"
    made = await documents.save("a", HELLO, if_match=None, by="ada")
    if what == "create":
        await documents.remove("a", if_match=made.etag, by="ada")

    def edited(*_: object) -> None:
        monkeypatch.undo()
        if way == "rename":
            (workflows / ".swp").write_text(OTHER)
            (workflows / ".swp").rename(file)
        else:
            file.write_text(OTHER)

    def exchange(one: Path, other: Path) -> bool:
        edited()
        return exchanging.exchange(one, other)

    def take(path: Path, over: bytes) -> None:
        edited()
        files._take(path, over)

    def name_if_free(one: Path, other: Path) -> bool:
        edited()
        return exchanging.name_if_free(one, other)

    monkeypatch.setattr(files, "exchange", exchange)
    monkeypatch.setattr(files, "_take", take)
    if what == "create":
        monkeypatch.setattr(files, "name_if_free", name_if_free)
    asked: dict[str, Callable[[], Awaitable[object]]] = {
        "save": lambda: documents.save("a", "mine", if_match=made.etag, by="ada"),
        "create": lambda: documents.save("a", "mine", if_match=None, by="ada"),
        "remove": lambda: documents.remove("a", if_match=made.etag, by="ada"),
        "rename": lambda: documents.rename("a", "b", if_match=made.etag, by="ada"),
    }
    with pytest.raises(Conflict) as caught:
        await asked[what]()
    assert (caught.value.theirs, file.read_text()) == (OTHER, OTHER)
    assert names(workflows) == ["a.yaml"]
    newest = (await documents.versions("a", limit=1))[0]
    assert (newest.etag, newest.by) == (etag(OTHER), "outside")


async def test_where_files_cannot_change_places_a_save_replaces(
    documents: DirectoryDocuments, workflows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without the exchange of names is written to, and an edit while the text is written is a conflict."""
    made = await documents.save("a", HELLO, if_match=None, by="ada")
    monkeypatch.setattr(files, "exchange", lambda one, other: False)
    made = await documents.save("a", OTHER, if_match=made.etag, by="ada")
    assert (names(workflows), (workflows / "a.yaml").read_text()) == (["a.yaml"], OTHER)

    def edited(self: Files, directory: Path) -> None:  # as the save begins to write
        (workflows / "a.yaml").write_text("theirs")

    monkeypatch.setattr(Files, "_sweep", edited)
    with pytest.raises(Conflict):
        await documents.save("a", "mine", if_match=made.etag, by="ada")
    assert (names(workflows), (workflows / "a.yaml").read_text()) == (["a.yaml"], "theirs")


async def test_who_has_failed_is_not_named_for_what_others_do(
    documents: DirectoryDocuments, workflows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A removal that the disk has refused does not make a later one by somebody else that of its asker."""
    made = await documents.save("a", HELLO, if_match=None, by="ada")

    def refuse(*_: object, **__: object) -> None:
        raise StateUnavailable("read-only")

    with monkeypatch.context() as patch:
        patch.setattr(Files, "remove", refuse)
        with pytest.raises(StateUnavailable):
            await documents.remove("a", if_match=made.etag, by="ada")
    (workflows / "a.yaml").unlink()
    assert [(each.by, each.why) for each in await documents.versions("a")] == [("outside", ""), ("ada", "")]


async def test_a_link_is_removed_and_not_what_it_names(documents: DirectoryDocuments, workflows: Path) -> None:
    """Two names of one text: the one that is removed or renamed goes, the file stays."""
    (workflows / "a.yaml").write_text(HELLO)
    for name in ("alias", "other"):
        (workflows / f"{name}.yaml").symlink_to("a.yaml")
    await documents.remove("alias", if_match=etag(HELLO), by="ada")
    await documents.rename("other", "new", if_match=etag(HELLO), by="ada")
    assert names(workflows) == ["a.yaml", "new.yaml"]
    assert (workflows / "new.yaml").is_symlink()


async def test_a_file_that_cannot_be_read_hides_no_other(
    documents: DirectoryDocuments, workflows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one without permission nor one whose name is not UTF-8 keeps the others from being listed and watched."""
    (workflows / "a.yaml").write_text(HELLO)
    (workflows / "shut.yaml").write_text(HELLO)
    await documents.versions("shut")
    (workflows / os.fsdecode(b"\xff.yaml")).write_text(HELLO)
    content, opened = Files.content, Files.etag

    def refuse(self: Files, name: str) -> bytes | None:  # root reads everything: permissions cannot be tried
        if name == "shut":
            raise StateUnavailable("Permission denied.")
        return content(self, name)

    monkeypatch.setattr(Files, "content", refuse)
    monkeypatch.setattr(Files, "etag", lambda self, name, stamp: None if name == "shut" else opened(self, name, stamp))
    assert [facts.name for facts in await documents.list()] == ["a"]
    ear = Ear(documents.changes())
    await asyncio.sleep(0)
    await asyncio.wait_for(documents.watched(), 3)
    (workflows / "a.yaml").write_text(OTHER)
    assert await ear.until(1) == [Change("changed", "a", etag(OTHER), "outside")]
    await ear.close()


async def test_a_directory_that_cannot_be_read_has_lost_nothing(
    documents: DirectoryDocuments, workflows: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told instead of an empty list, once in the log, and what was in it does not count as removed."""
    await documents.save("a", HELLO, if_match=None, by="ada")
    ear = Ear(documents.changes())
    await asyncio.sleep(0)
    await documents.watched()

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("weft.documents.files.os.scandir", refuse)
        with pytest.raises(StateUnavailable):
            await documents.list()
        await asyncio.sleep(0.3)
    assert [record.message for record in caplog.records] == ["documents_away workspace_unusable"]
    (workflows / "b.yaml").write_text(HELLO)
    assert await ear.until(1) == [Change("added", "b", etag(HELLO), "outside")]
    await ear.close()


async def test_a_file_that_has_grown_too_large_keeps_its_history(
    documents: DirectoryDocuments, workflows: Path
) -> None:
    """It is listed, each time it changes as another one, and what it was can still be had."""
    await documents.save("a", HELLO, if_match=None, by="ada")
    (workflows / "a.yaml").write_text("#" * 1_000_001)
    (before,) = await documents.list()
    (workflows / "a.yaml").write_text("#" * 1_000_002)
    (after,) = await documents.list()
    assert before.etag != after.etag
    assert [each.by for each in await documents.versions("a")] == ["ada"]


async def test_a_text_of_the_same_size_at_the_same_moment_is_seen(
    documents: DirectoryDocuments, workflows: Path
) -> None:
    """A list that was asked for while a file was being written does not hide what was written last."""
    file = workflows / "a.yaml"
    file.write_text("a: 1\n")
    await documents.list()
    facts = file.stat()
    file.write_text("a: 2\n")
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # the clock of the file system has not ticked in between
    (found,) = await documents.list()
    assert found.etag == hashlib.sha256(b"a: 2\n").hexdigest()


async def test_a_link_to_another_directory_is_another_workspace(
    another: Callable[..., DirectoryDocuments], tmp_path: Path
) -> None:
    """Whoever lets the directory be another one finds the history of that."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.yaml").write_text(HELLO)
    lead(tmp_path / "link", "one")
    documents = another("link")
    assert len(await documents.versions("a")) == 1
    lead(tmp_path / "link", "two")
    assert len(await documents.versions("a")) == 1
    with pytest.raises(NotFound):
        await documents.versions("b")
