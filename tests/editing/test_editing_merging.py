"""Two people change one document: what is disjoint is merged, the rest shows both sides."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from editing.gestures import Gestures
from editing.judge import same
from editing.witness import Witness

from weft import source
from weft.editing import OPERATIONS, Edited, edit, merge
from weft.errors import Conflict, EditRefused
from weft.source import Source

CORPUS = Path(__file__).parents[1] / "corpora" / "documents"
Operation = dict[str, Any]

BASE = """\
name: both
steps:
  - id: a
    with: {x: 1}
  - id: b  # the second
    with:
      text: |
        one
        two
  - id: c
tags: [red, green]
"""


def put(path: list[str | int], value: Any) -> Operation:
    return {"op": "set", "path": path, "value": value}


def add(path: list[str | int], index: int | None, item: Any) -> Operation:
    return {"op": "insert", "path": path, "item": item} | ({} if index is None else {"index": index})


def take(path: list[str | int]) -> Operation:
    return {"op": "remove", "path": path}


def move(path: list[str | int], index: int) -> Operation:
    return {"op": "move", "path": path, "to": path[:-1], "index": index}


def rename(path: list[str | int], name: str) -> Operation:
    return {"op": "rename_step", "path": path, "id": name}


def type_(start: str, text: str) -> Operation:
    return {"op": "text", "edits": [{"start": BASE.index(start), "end": BASE.index(start) + len(start), "text": text}]}


def done(document: Source, *operations: Operation) -> Source:
    return edit(document, OPERATIONS.validate_python(list(operations))).source


def merged(theirs: list[Operation], yours: list[Operation]) -> Edited:
    base = source.read(BASE, "flow.yaml")
    return merge(base, done(base, *theirs), OPERATIONS.validate_python(yours))


NEW = {"id": "n"}


@pytest.mark.parametrize(
    ("theirs", "yours", "wanted"),
    [
        (put(["name"], "x"), put(["steps", 0, "with", "x"], 2), {"name": "x", "x": 2}),
        (add(["steps"], 0, NEW), put(["steps", 0, "with", "x"], 2), {"ids": "nabc", "x": 2}),
        (add(["steps"], 0, NEW), take(["steps", 1]), {"ids": "nac"}),
        (take(["steps", 0]), put(["steps", 2, "uses"], "log"), {"ids": "bc"}),
        (move(["steps", 0], 2), put(["steps", 0, "with", "x"], 2), {"ids": "bca", "x": 2}),
        (put(["steps", 0, "with", "x"], 2), move(["steps", 0], 2), {"ids": "bca", "x": 2}),
        (put(["steps", 0, "with", "x"], 2), put(["steps", 0, "with", "x"], 2), {"x": 2}),
        (put(["steps", 0, "with", "y"], 2), put(["steps", 0, "with", "z"], 3), {"x": 1}),
        (add(["steps"], 0, NEW), add(["steps"], None, {"id": "m"}), {"ids": "nabcm"}),
        (add(["steps"], 1, NEW), add(["steps"], 2, {"id": "m"}), {"ids": "anbmc"}),
        (put(["steps", 0, "with", "x"], 2), rename(["steps", 0], "d"), {"ids": "dbc", "x": 2}),
        (add(["steps"], 0, NEW), rename(["steps", 2], "d"), {"ids": "nabd"}),
        (type_("both", "all"), type_("red", "blue"), {"name": "all", "tags": ["blue", "green"]}),
        (add(["tags"], 0, "new"), put(["tags", 1], "grey"), {"tags": ["new", "red", "grey"]}),
    ],
)  # fmt: skip
def test_disjoint_changes_are_both_kept(theirs: Operation, yours: Operation, wanted: dict[str, Any]) -> None:
    """What one side did stays, and the other's is done again at the place where its step is now."""
    edited = merged([theirs], [yours])

    value: Any = edited.source.value
    first = next((step for step in value["steps"] if step["id"] in "ad"), {"with": {"x": None}})
    found = {"name": value["name"], "ids": "".join(step["id"] for step in value["steps"])}
    assert {**found, "x": first["with"]["x"], "tags": value["tags"]}.items() >= {
        k: v for k, v in wanted.items() if k != "tags"
    }.items()
    assert value["tags"] == wanted.get("tags", ["red", "green"])
    assert ("# the second" in edited.source.text) == ("b" in found["ids"])


@pytest.mark.parametrize(
    ("theirs", "yours"),
    [
        (put(["name"], "x"), put(["name"], "y")),
        (put(["steps", 0, "with", "x"], 2), put(["steps", 0, "with"], {"z": 1})),
        (put(["steps", 0, "with"], "x"), put(["steps", 0, "with", "x"], 2)),
        (put(["steps", 0, "with", "n"], 1), put(["steps", 0, "with", "n"], 2)),
        (put(["steps", 1, "with", "text"], "x"), take(["steps", 1])),
        (take(["steps", 1]), put(["steps", 1, "with", "text"], "x")),
        (take(["steps", 1]), move(["steps", 1], 0)),
        (add(["steps"], None, NEW), add(["steps"], None, {"id": "m"})),
        (move(["steps", 0], 1), add(["steps"], 1, NEW)),
        (take(["steps", 2]), add(["steps"], None, NEW)),
        (put(["steps"], []), add(["steps"], 1, NEW)),
        (rename(["steps", 0], "d"), rename(["steps", 0], "e")),
        (rename(["steps", 0], "d"), put(["steps", 0, "with", "x"], 2)),
        (rename(["steps", 0], "d"), rename(["steps", 1], "d")),
        (type_("both", "all"), type_("both", "none")),
        (type_("red", "rot"), put(["tags", 0], "blue")),
        (put(["tags", 0], "blue"), type_("red", "rot")),
        (add(["tags"], 0, "red"), put(["tags", 0], "blue")),
    ],
)  # fmt: skip
def test_changes_of_the_same_thing_are_a_conflict(theirs: Operation, yours: Operation) -> None:
    """A conflict carries both sides in full, and names what both have changed."""
    base = source.read(BASE, "flow.yaml")
    with pytest.raises(Conflict) as caught:
        merged([theirs], [yours, put(["mine"], "too")])

    assert caught.value.theirs == done(base, theirs).content
    assert caught.value.yours == done(base, yours, put(["mine"], "too")).content


def test_later_operations_follow_the_earlier_ones() -> None:
    """Each operation speaks of the document as those before have left it, on the other side too."""
    edited = merged(
        [add(["steps"], 0, NEW)],
        [
            take(["steps", 0]),
            put(["steps", 0, "uses"], "log"),
            add(["steps"], 1, {"id": "m"}),
            put(["steps", 1, "x"], 1),
        ],
    )

    assert edited.source.value["steps"] == [  # type: ignore[index, call-overload]
        {"id": "n"},
        {"id": "b", "with": {"text": "one\ntwo\n"}, "uses": "log"},
        {"id": "m", "x": 1},
        {"id": "c"},
    ]


def test_an_operation_that_never_fitted_is_refused() -> None:
    """What does not fit the document that it was meant for is no conflict."""
    with pytest.raises(EditRefused):
        merged([put(["name"], "x")], [take(["nothing"])])


def test_it_does_not_matter_who_comes_first() -> None:
    """Where both orders merge, both come to the same value; and what one side did is never lost without a conflict."""
    chance, merges, conflicts = random.Random(8), 0, 0
    for path in sorted(CORPUS.glob("*.y*ml"))[::4]:
        base = source.read(path.read_bytes(), path.name)
        seen, gestures = Witness(base.content), Gestures(chance.random())
        for _ in range(12):
            sides = [[{k: v for k, v in gestures.one(seen).items() if k != "_items"}] for _ in range(2)]
            one, other = (OPERATIONS.validate_python(side) for side in sides)
            try:
                mine, theirs = edit(base, one).source, edit(base, other).source
                found = merge(base, theirs, one).source
                turned = merge(base, mine, other).source
            except (Conflict, EditRefused):
                conflicts += 1
                continue
            merges += 1
            assert same(found.value, turned.value), (path.name, sides)
    assert merges > 50
    assert conflicts > 5
