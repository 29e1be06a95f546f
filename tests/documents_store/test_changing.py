"""An edit of a document, saved."""

from __future__ import annotations

import asyncio

import pytest
from document_stores import Store, etag

from weft.documents.changing import change
from weft.editing import Set
from weft.errors import Conflict, EditRefused, NotFound

TEXT = """name: hello
# what it is for
steps:
  - id: one # first
    action: wait
  - id: two
    action: wait
"""


def let(*path: str | int, be: object) -> Set:
    return Set.model_validate({"path": path, "value": be})


async def test_an_edit_is_saved_and_changes_its_line_only(store: Store) -> None:
    """The document comes back with its new etag and what was changed; versions say who and why."""
    made = await store.documents.save("hello", TEXT, if_match=None, by="ada")
    document, edited = await change(
        store.documents, "hello", [let("steps", 0, "action", be="pause")], if_match=made.etag, by="bob", why="dragged"
    )
    assert document.text == TEXT.replace("wait", "pause", 1)
    assert document.etag == etag(document.text)
    assert edited.lines == ((5, 5),) or edited.diff.count("\n-") == 1
    newest, *_ = await store.documents.versions("hello")
    assert (newest.by, newest.why) == ("bob", "dragged")


async def test_edits_of_other_places_are_brought_together(store: Store) -> None:
    """Two who edit different steps of the same text both get what they wanted, whoever comes first."""
    made = await store.documents.save("hello", TEXT, if_match=None, by="ada")
    other = await store.another()
    await asyncio.gather(
        change(store.documents, "hello", [let("steps", 0, "action", be="a")], if_match=made.etag, by="ada"),
        change(other, "hello", [let("steps", 1, "action", be="b")], if_match=made.etag, by="bob"),
    )
    expected = TEXT.replace("wait", "a", 1).replace("wait", "b", 1)
    assert (await store.documents.read("hello")).text == expected


async def test_edits_of_the_same_place_show_both_sides(store: Store) -> None:
    """Who comes second is told what there is, and what he would have made of it."""
    made = await store.documents.save("hello", TEXT, if_match=None, by="ada")
    await change(store.documents, "hello", [let("steps", 0, "action", be="a")], if_match=made.etag, by="ada")
    with pytest.raises(Conflict) as caught:
        await change(store.documents, "hello", [let("steps", 0, "action", be="b")], if_match=made.etag, by="bob")
    assert caught.value.theirs == TEXT.replace("wait", "a", 1)
    assert caught.value.yours == TEXT.replace("wait", "b", 1)
    with pytest.raises(Conflict):
        await change(store.documents, "hello", [let("name", be="b")], if_match=etag("never seen"), by="bob")
    assert len(await store.documents.versions("hello")) == 2


async def test_what_cannot_be_edited_is_refused_and_stays(store: Store) -> None:
    """An edit that would lead nowhere changes nothing; a document that is not there cannot be edited."""
    made = await store.documents.save("hello", TEXT, if_match=None, by="ada")
    with pytest.raises(EditRefused):
        await change(store.documents, "hello", [let("steps", 9, "action", be="a")], if_match=made.etag, by="ada")
    with pytest.raises(NotFound):
        await change(store.documents, "nothing", [let("name", be="b")], if_match=made.etag, by="bob")
    assert (await store.documents.read("hello")).text == TEXT


async def test_a_byte_order_mark_stays(store: Store) -> None:
    """A document keeps the mark that it begins with."""
    made = await store.documents.save("hello", "\ufeff" + TEXT, if_match=None, by="ada")
    document, _ = await change(store.documents, "hello", [let("name", be="hallo")], if_match=made.etag, by="ada")
    assert document.text == "\ufeff" + TEXT.replace("hello", "hallo")
