"""What both stores promise."""

from __future__ import annotations

import asyncio
import time

import pytest
from document_stores import HELLO, OTHER, Ear, Store, etag

from weft.documents import Change, Documents
from weft.documents.base import Exists
from weft.errors import Conflict, InvalidInputs, NotFound, TooLarge, WeftError


async def test_a_saved_text_is_read_back_byte_for_byte(store: Store) -> None:
    """What is saved is what is read: line ends, marks and characters beyond the first plane among it."""
    for number, text in enumerate(["", "a: 1", "a: 1\r\nb: 2\r\n", "\ufeffa: '\U0001f600'\n", "no yaml: [\n\x00"]):
        saved = await store.documents.save(f"w{number}", text, if_match=None, by="ada", why="made")
        assert (await (await store.another()).read(f"w{number}")) == saved
        assert (saved.text, saved.etag, saved.is_exact) == (text, etag(text), True)
    facts = await store.documents.list()
    assert [each.name for each in facts] == ["w0", "w1", "w2", "w3", "w4"]
    assert [each.size for each in facts] == [0, 4, 12, 13, 12]


async def test_who_saves_what_has_changed_since_is_shown_both_sides(store: Store) -> None:
    """A save with an old etag changes nothing, and says what is there and what was to be."""
    mine, theirs = store.documents, await store.another()
    read = await mine.save("hello", HELLO, if_match=None, by="ada")
    await theirs.save("hello", OTHER, if_match=read.etag, by="bob")
    with pytest.raises(Conflict) as caught:
        await mine.save("hello", "mine", if_match=read.etag, by="ada")
    assert (caught.value.problem.code, caught.value.theirs, caught.value.yours) == ("conflict", OTHER, "mine")
    assert (await mine.read("hello")).text == OTHER
    with pytest.raises(Exists) as existing:
        await mine.save("hello", "mine", if_match=None, by="ada")
    assert (existing.value.problem.code, existing.value.theirs) == ("exists", OTHER)
    with pytest.raises(Conflict) as gone:
        await mine.save("nothing", "mine", if_match=read.etag, by="ada")
    assert gone.value.theirs is None


async def test_of_many_who_save_at_once_one_wins(store: Store) -> None:
    """Ten writers with the same etag, in two processes' places: one is kept, nine are told."""
    stores: list[Documents] = [store.documents, await store.another()]
    first = await store.documents.save("hello", HELLO, if_match=None, by="ada")

    async def save(number: int) -> str | None:
        try:
            await stores[number % 2].save("hello", f"text {number}", if_match=first.etag, by=f"w{number}")
        except Conflict:
            return None
        return f"text {number}"

    results = [each for each in await asyncio.gather(*(save(number) for number in range(10))) if each]
    assert [(await store.documents.read("hello")).text] == results
    assert [version.by for version in await store.documents.versions("hello")] == [f"w{results[0][5:]}", "ada"]


async def test_of_many_who_make_the_same_document_one_does(store: Store) -> None:
    """Two places make a document of one name at the same moment: one of them is told that it exists."""
    stores: list[Documents] = [store.documents, await store.another()]
    results = await asyncio.gather(
        *(each.save("hello", f"by {number}", if_match=None, by="x") for number, each in enumerate(stores)),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in results) == ["Document", "Exists"]
    assert len(await store.documents.versions("hello")) == 1


async def test_every_version_is_kept_with_who_and_why(store: Store) -> None:
    """Versions count up, name who and why, give their text back, and are listed a page at a time."""
    documents = store.documents
    before = time.time()
    now = await documents.save("hello", "1", if_match=None, by="ada", why="made")
    for number in range(2, 6):
        now = await documents.save("hello", str(number), if_match=now.etag, by="bob", why=f"edit {number}")
    await documents.save("hello", "5", if_match=now.etag, by="bob")  # the same: no version
    found = await documents.versions("hello")
    assert [(each.number, each.by, each.why, each.size) for each in found] == [
        *((number, "bob", f"edit {number}", 1) for number in range(5, 1, -1)),
        (1, "ada", "made", 1),
    ]
    assert before <= found[-1].at <= found[0].at <= time.time()
    assert [await documents.version("hello", each.number) for each in found] == ["5", "4", "3", "2", "1"]
    assert [each.number for each in await documents.versions("hello", before=4, limit=2)] == [3, 2]
    assert await documents.known(etag("3")) == "3"
    assert await documents.known(etag("never")) is None
    with pytest.raises(NotFound):
        await documents.version("hello", 9)
    with pytest.raises(NotFound):
        await documents.versions("nothing")


async def test_a_removed_document_keeps_its_versions_and_comes_back(store: Store) -> None:
    """After a removal there is nothing to read; its versions are there, and a new document goes on counting."""
    documents = store.documents
    now = await documents.save("hello", HELLO, if_match=None, by="ada")
    await documents.save_pins("hello", {"ask": 1})
    await documents.save_layout("hello", {"steps": {"ask": {"x": 1}}}, by="ada")
    with pytest.raises(Conflict):
        await documents.remove("hello", if_match=etag("old"), by="ada")
    await documents.remove("hello", if_match=now.etag, by="bob")
    with pytest.raises(NotFound) as caught:
        await documents.read("hello")
    assert caught.value.problem.code == "unknown_workflow"
    with pytest.raises(NotFound):
        await documents.remove("hello", if_match=now.etag, by="bob")
    assert await documents.list() == []
    assert (await documents.pins("hello"), await documents.layout("hello")) == ({}, {})
    assert [(each.number, each.etag, each.by) for each in await documents.versions("hello")] == [
        (2, "", "bob"),
        (1, now.etag, "ada"),
    ]
    with pytest.raises(NotFound):
        await documents.version("hello", 2)
    await documents.save("hello", await documents.version("hello", 1), if_match=None, by="ada", why="restored")
    assert [each.number for each in await documents.versions("hello")] == [3, 2, 1]


async def test_a_renamed_document_takes_layout_and_pins_along(store: Store) -> None:
    """A rename keeps the bytes, moves what belongs to the document, and refuses a name that is taken."""
    documents = store.documents
    now = await documents.save("hello", HELLO, if_match=None, by="ada")
    await documents.save("taken", OTHER, if_match=None, by="ada")
    await documents.save_layout("hello", {"steps": {"ask": {"x": 1}}}, by="ada")
    await documents.save_pins("hello", {"ask": {"text": "\x00 hi"}})
    with pytest.raises(Exists):
        await documents.rename("hello", "taken", if_match=now.etag, by="bob")
    with pytest.raises(InvalidInputs):
        await documents.rename("hello", "No Name", if_match=now.etag, by="bob")
    renamed = await documents.rename("hello", "hallo", if_match=now.etag, by="bob")
    assert (renamed.text, renamed.etag) == (HELLO, now.etag)
    assert [each.name for each in await documents.list()] == ["hallo", "taken"]
    assert await documents.layout("hallo") == {"steps": {"ask": {"x": 1}}}
    assert (await documents.layout("hello"), await documents.pins("hello")) == ({}, {})
    assert await documents.pins("hallo") == {"ask": {"text": "\x00 hi"}}
    assert [(each.by, each.why) for each in await documents.versions("hallo")] == [("bob", "renamed from hello")]
    assert (await documents.versions("hello"))[0].why == "renamed to hallo"


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", ".x", "x.layout", "x\x00", "X y", "a" * 65, "-", "ü"])
async def test_a_name_leads_nowhere_else(store: Store, name: str) -> None:
    """A name that is none is refused for a new document, and finds nothing."""
    with pytest.raises(InvalidInputs):
        await store.documents.save(name, HELLO, if_match=None, by="ada")
    for asked in (store.documents.read(name), store.documents.peek(name)):
        with pytest.raises(NotFound):
            await asked
    with pytest.raises(WeftError):
        await store.documents.save_layout(name, {"a": 1}, by="ada")


async def test_what_cannot_be_kept_is_refused_before_anything_is_changed(store: Store) -> None:
    """Half a surrogate pair and a text that is too large are refused by name."""
    with pytest.raises(InvalidInputs) as caught:
        await store.documents.save("hello", "a: \ud800", if_match=None, by="ada")
    assert caught.value.problem.code == "encoding"
    with pytest.raises(TooLarge):
        await store.documents.save("hello", "é" * 500_001, if_match=None, by="ada")
    assert await store.documents.list() == []


async def test_a_layout_is_kept_as_it_is_or_refused(store: Store) -> None:
    """Layouts come back as they were, whatever their keys; one that YAML could not hold is refused."""
    await store.documents.save("hello", HELLO, if_match=None, by="ada")
    odd = {"steps": {"no": {"x": 1.5, "y": -2}, "a: b": None, "\u00e9\u2028": [1, "on"]}, "1e3": "1e3", "empty": {}}
    for layout in ({"steps": {"ask": {"x": 0, "y": 40}}}, odd, {}):
        await store.documents.save_layout("hello", layout, by="ada")  # type: ignore[arg-type]
        assert await store.documents.layout("hello") == layout
    with pytest.raises(TooLarge):
        await store.documents.save_layout("hello", {"a": "x" * 300_000}, by="ada")
    with pytest.raises(NotFound):
        await store.documents.save_layout("nothing", {"a": 1}, by="ada")


async def test_changes_are_told_once_to_every_listener_with_who(store: Store) -> None:
    """What one process does is heard by listeners of both, once each, with who has done it."""
    mine, theirs = store.documents, await store.another()
    ears = [Ear(mine.changes()), Ear(theirs.changes())]
    await asyncio.sleep(0)
    await asyncio.gather(mine.watched(), theirs.watched())
    made = await mine.save("hello", HELLO, if_match=None, by="ada")
    for ear in ears:
        assert await ear.until(1) == [Change("added", "hello", made.etag, "ada")]
    saved = await theirs.save("hello", OTHER, if_match=made.etag, by="bob")
    for ear in ears:
        assert (await ear.until(2))[1:] == [Change("changed", "hello", saved.etag, "bob")]
    await mine.save_layout("hello", {"a": {"x": 1}}, by="ada")
    for ear in ears:
        assert [(each.name, each.what) for each in (await ear.until(3))[2:]] == [("hello", "layout")]
    await mine.save_layout("hello", {}, by="ada")
    for ear in ears:
        await ear.until(4)
    await mine.remove("hello", if_match=saved.etag, by="ada")
    for ear in ears:
        assert (await ear.until(5))[4:] == [Change("removed", "hello", "", "ada")]
    await asyncio.sleep(0.4)
    for ear in ears:
        assert len(ear.heard) == 5
        await ear.close()


async def test_pins_of_many_who_pin_at_once_are_all_kept(store: Store) -> None:
    """Nobody takes back what somebody else pins at the same moment, in this process or in another."""
    await store.documents.save("a", HELLO, if_match=None, by="ada")
    await store.documents.change_pins("a", {"gone": 1})
    theirs = await store.another()
    await asyncio.gather(
        *((theirs if number % 2 else store.documents).change_pins("a", {f"s{number}": number}) for number in range(8)),
        store.documents.change_pins("a", {}, without=["gone"]),
    )
    assert await store.documents.pins("a") == {f"s{number}": number for number in range(8)}
