"""Edits whose result is written out: what a person would have typed, and not a byte more."""

from __future__ import annotations

from typing import Any

import pytest

from weft import source
from weft.editing import OPERATIONS, Edited, edit
from weft.errors import EditRefused

Operation = dict[str, Any]


def made(text: str, *operations: Operation) -> Edited:
    return edit(source.read(text, "flow.yaml"), OPERATIONS.validate_python(list(operations)))


def put(path: list[str | int], value: Any) -> Operation:
    return {"op": "set", "path": path, "value": value}


STEPS = """\
# header of the file

steps:
  # All of them talk to one host.

  # 1. fetch
  - id: fetch   # first
    uses: http_request

  # 2. summarise; keep the temperature low!
  - id: ask
    uses: model
    # with: later

  # ---- second part ----

  # 3. send
  - id: mail
    uses: send_email
  # tail of the list
outputs: {}
"""

FETCH = "  # 1. fetch\n  - id: fetch   # first\n    uses: http_request\n"
ASK = "  # 2. summarise; keep the temperature low!\n  - id: ask\n    uses: model\n    # with: later\n"
PART = "  # ---- second part ----\n"
MAIL = "  # 3. send\n  - id: mail\n    uses: send_email\n"
HEAD = "# header of the file\n\nsteps:\n  # All of them talk to one host.\n\n"
TAIL = "  # tail of the list\noutputs: {}\n"
NEW: Operation = {"id": "new", "uses": "log"}
WRITTEN = "  - id: new\n    uses: log\n"


@pytest.mark.parametrize(
    ("operation", "wanted"),
    [
        ({"op": "remove", "path": ["steps", 0]}, HEAD + f"{ASK}\n{PART}\n{MAIL}" + TAIL),
        ({"op": "remove", "path": ["steps", 1]}, HEAD + f"{FETCH}\n{PART}\n{MAIL}" + TAIL),
        ({"op": "remove", "path": ["steps", 2]}, HEAD + f"{FETCH}\n{ASK}\n{PART}\n" + TAIL),
        ({"op": "move", "path": ["steps", 2], "to": ["steps"], "index": 0}, HEAD + f"{MAIL}\n{FETCH}\n{ASK}\n{PART}\n" + TAIL),
        ({"op": "move", "path": ["steps", 0], "to": ["steps"], "index": 1}, HEAD + f"{ASK}\n{FETCH}\n{PART}\n{MAIL}" + TAIL),
        ({"op": "move", "path": ["steps", 0], "to": ["steps"], "index": 2}, HEAD + f"{ASK}\n{PART}\n{MAIL}\n{FETCH}" + TAIL),
        ({"op": "insert", "path": ["steps"], "index": 0, "item": NEW}, HEAD + f"{WRITTEN}\n{FETCH}\n{ASK}\n{PART}\n{MAIL}" + TAIL),
        ({"op": "insert", "path": ["steps"], "index": 1, "item": NEW}, HEAD + f"{FETCH}\n{WRITTEN}\n{ASK}\n{PART}\n{MAIL}" + TAIL),
        ({"op": "insert", "path": ["steps"], "item": NEW}, HEAD + f"{FETCH}\n{ASK}\n{PART}\n{MAIL}\n{WRITTEN}" + TAIL),
    ],
)  # fmt: skip
def test_an_item_owns_the_comments_above_it(operation: Operation, wanted: str) -> None:
    """Comments go and move with their step; those of the file, the list and its parts stay."""
    assert made(STEPS, operation).source.text == wanted


@pytest.mark.parametrize(
    ("before", "operation", "after"),
    [
        # scalars: the style around them stays
        ("a: 0.10  # note\nb: x\n", put(["a"], 0.3), "a: 0.3  # note\nb: x\n"),
        ("a: 0.10\n", put(["a"], 0.1), "a: 0.10\n"),
        ("a: 'it'\n", put(["a"], "it's"), "a: 'it''s'\n"),
        ('a: "x"\n', put(["a"], 'y"'), 'a: "y\\""\n'),
        ("a: word\n", put(["a"], "{{ b }}"), 'a: "{{ b }}"\n'),
        ("a: word\n", put(["a"], "no"), 'a: "no"\n'),
        ("a: on\n", put(["a"], "off"), "a: off\n"),
        ("a: word\n", put(["a"], "a: b # c"), 'a: "a: b # c"\n'),
        ("a: x\nb: 'y'\nc: 'z'\n", put(["a"], "# d"), "a: '# d'\nb: 'y'\nc: 'z'\n"),
        ("a: x\n", put(["a"], "a\u2028b"), 'a: "a\\Lb"\n'),
        ("a: x\n", put(["a"], None), "a: null\n"),
        ("a: {b: x}\n", put(["a", "b"], "y, z"), 'a: {b: "y, z"}\n'),
        ("a: yes    # one\nbb: no    # two\n", put(["a"], "maybe"), "a: maybe  # one\nbb: no    # two\n"),
        ("a: x    # one\nbb: no  # two\n", put(["a"], "longer text"), "a: longer text # one\nbb: no  # two\n"),
        ("a: x # one\n", put(["a"], "longer"), "a: longer # one\n"),
        ("a: long\n  text of\n  lines # c\n", put(["a"], "long text of two lines"), "a: long\n  text of\n  two lines # c\n"),
        # texts of several lines
        ("a: |  # c\n  one two\n\n  three\nb: 1\n", put(["a"], "one 2\n\nthree\n"), "a: |  # c\n  one 2\n\n  three\nb: 1\n"),
        ("a: |\n  one\n\n\nb: 1\n", put(["a"], "one"), "a: |-\n  one\n\n\nb: 1\n"),
        ("a: >-\n  one two\n  three\n  four\n", put(["a"], "one two THREE four"), "a: >-\n  one two\n  THREE\n  four\n"),
        ("a: x  # c\nb: 1\n", put(["a"], "one\ntwo\n"), "a: |  # c\n  one\n  two\nb: 1\n"),
        ("a: x\n", put(["a"], "  one\ntwo"), "a: |2-\n    one\n  two\n"),
        ("- a: x\n", put([0, "a"], "one\ntwo\n"), "- a: |\n    one\n    two\n"),
        ("a: |\n  one\nb: 1\n", put(["a"], ""), 'a: ""\nb: 1\n'),
        ("a: |\n  one\nb: 1\n", put(["a"], 5), "a: 5\nb: 1\n"),
        ("a: |+\n  one\n\nb: 1\n", put(["a"], "two\n\n"), "a: |+\n  two\n\nb: 1\n"),
        # nothing there yet
        ("k:\n", put(["k"], "v"), "k: v\n"),
        ("k:   # c\n", put(["k"], "v"), "k: v   # c\n"),
        ("k:  # c\nb: 1\n", put(["k", "a"], 1), "k:  # c\n  a: 1\nb: 1\n"),
        ("k:", put(["k"], [{"a": 1}]), "k:\n  - a: 1"),
        ("a: 1", put(["b", "c", 0, "d"], "x"), "a: 1\nb:\n  c:\n    - d: x"),
        ("a: 1\r\nb: 2", put(["c"], "x\ny\n"), "a: 1\r\nb: 2\r\nc: |\r\n  x\r\n  y"),
        ("steps: []\n", {"op": "insert", "path": ["steps"], "item": NEW}, "steps:\n  - id: new\n    uses: log\n"),
        ("steps: []  # none\n", {"op": "insert", "path": ["steps"], "item": NEW}, "steps:  # none\n  - id: new\n    uses: log\n"),
        ("steps:\n", {"op": "insert", "path": ["steps"], "item": NEW}, "steps:\n  - id: new\n    uses: log\n"),
        ("a: 1\n", {"op": "insert", "path": ["steps"], "item": NEW}, "a: 1\nsteps:\n  - id: new\n    uses: log\n"),
        ("needs: []\n", {"op": "insert", "path": ["needs"], "item": "a"}, "needs: [a]\n"),
        ("with: {}\n", put(["with", "a"], "{{ b }}"), 'with:\n  a: "{{ b }}"\n'),
        # lists in lines
        ("k:\n- a\nb: 1\n", {"op": "insert", "path": ["k"], "item": "c"}, "k:\n- a\n- c\nb: 1\n"),
        ("k:\n-   a: 1\n", {"op": "insert", "path": ["k"], "item": {"a": 2, "b": 3}}, "k:\n-   a: 1\n-   a: 2\n    b: 3\n"),
        ("k:\n  - a", {"op": "insert", "path": ["k"], "item": "b"}, "k:\n  - a\n  - b"),
        ("k:\n  - |+\n    a\n\nb: 1\n", {"op": "insert", "path": ["k"], "item": "c"}, "k:\n  - |+\n    a\n\n  - c\nb: 1\n"),
        ("k:\n  - |+\n    a\n\n  - b\n\nc: 1\n", {"op": "remove", "path": ["k", 1]}, "k:\n  - |+\n    a\n\nc: 1\n"),
        ("k:\n  - a  # x\nb: 1\n", {"op": "remove", "path": ["k", 0]}, "k: []\nb: 1\n"),
        ("k:\n  # about the list\n\n  # a\n  - a\nb: 1\n", {"op": "remove", "path": ["k", 0]}, "k: []\n  # about the list\n\nb: 1\n"),
        ("- id: a  # x\n  # why\n  uses: b\n", {"op": "remove", "path": [0, "id"]}, "-\n  # why\n  uses: b\n"),
        ("- id: a  # x\n  uses: b\n", {"op": "remove", "path": [0, "id"]}, "- uses: b\n"),
        ("- - a\n  - b\n", {"op": "remove", "path": [0, 0]}, "- - b\n"),
        # brackets
        ("k: [a, b]  # c\n", {"op": "remove", "path": ["k", 0]}, "k: [b]  # c\n"),
        ("k: [a, b]\n", {"op": "remove", "path": ["k", 1]}, "k: [a]\n"),
        ("k: [ a ]\n", {"op": "remove", "path": ["k", 0]}, "k: []\n"),
        ("k: [a, b,]\n", {"op": "insert", "path": ["k"], "item": "c"}, "k: [a, b, c,]\n"),
        ("k: { a: 1 }\n", put(["k", "b"], [1]), "k: { a: 1, b: [1] }\n"),
        ("k: [\n  a,  # 1\n  b   # 2\n]\n", {"op": "insert", "path": ["k"], "item": "c"}, "k: [\n  a,  # 1\n  b,   # 2\n  c\n]\n"),
        ("k: [\n  a,\n  # about b\n  b   # 2\n]\n", {"op": "remove", "path": ["k", 1]}, "k: [\n  a\n]\n"),
        ("k: [\n  a,  # 1\n  # on b\n  b   # 2\n]\n", {"op": "move", "path": ["k", 1], "to": ["k"], "index": 0},
         "k: [\n  # on b\n  b,   # 2\n  a  # 1\n]\n"),
        ("k: [a: 1]\n", put(["k", 0, "b"], 2), "k: [{a: 1, b: 2}]\n"),
        # whole collections, sent again
        ("a:\n  # on b\n  b: 1  # x\n  c: 2\n", put(["a"], {"b": 1, "c": 3, "d": 4}), "a:\n  # on b\n  b: 1  # x\n  c: 3\n  d: 4\n"),
        ("k:\n  - id: a  # 1\n  - id: b  # 2\n  - id: c\n", put(["k"], [{"id": "b"}, {"id": "c", "x": 1}]),
         "k:\n  - id: b  # 2\n  - id: c\n    x: 1\n"),
        ("a:  # c\n  b: 1\nd: 1\n", put(["a"], "x"), "a: x  # c\nd: 1\n"),
        ("- a: 1  # c\n  b: 2\n", put([0], "x"), "- x  # c\n"),
        ("- x  # c\n", put([0], {"a": 1, "b": 2}), "- a: 1  # c\n  b: 2\n"),
        # moves between lists
        ("a:\n  - id: x  # c\n    t: |\n      u\nb:\n    k:\n        - y\n", {"op": "move", "path": ["a", 0], "to": ["b", "k"], "index": 1},
         "a: []\nb:\n    k:\n        - y\n        - id: x  # c\n          t: |\n            u\n"),
        ("a:\n  - x  # c\nb: [y]\n", {"op": "move", "path": ["a", 0], "to": ["b"], "index": 0}, "a: []\nb:\n  - x  # c\n  - y\n"),
        ("a:\n  - x  # c\nb:\n", {"op": "move", "path": ["a", 0], "to": ["b"], "index": 0}, "a: []\nb:\n  - x  # c\n"),
        ("a:\n  # d\n  - x\n  - y", {"op": "move", "path": ["a", 0], "to": ["b", "c"], "index": 0}, "a:\n  - y\nb:\n  c:\n    # d\n    - x"),
        ("a: [x, y]\nb: []\n", {"op": "move", "path": ["a", 0], "to": ["b"], "index": 0}, "a: [y]\nb:\n  - x\n"),
        # more changes than are worth to be made one by one: written anew
        ("k: [" + ", ".join(map(str, range(40))) + "]  # c\n", put(["k"], [n for n in range(80) if n % 2 == 0]),
         "k: [" + ", ".join(str(n) for n in range(80) if n % 2 == 0) + "]  # c\n"),
        # the byte order mark, a document's marks
        ("---\na: 1\n...\n", put(["b"], 2), "---\na: 1\nb: 2\n...\n"),
        ("null\n", put(["a"], 1), "a: 1\n"),
        ("--- null  # c\n", put(["a"], 1), "---   # c\na: 1\n"),
    ],
)  # fmt: skip
def test_an_edit_changes_what_it_says(before: str, operation: Operation, after: str) -> None:
    """The text is what a person would have made of it."""
    edited = made(before, operation)

    assert edited.source.text == after
    assert edit(edited.source, edited.inverse).source.text == before


def test_a_pasted_item_keeps_its_comments() -> None:
    """An item may come as YAML, with a dash or without one, and with whatever indentation."""
    text = "# on the new one\nid: new   # beside\n# inside\nwith:\n    text: |\n      a\n\n      b\n"
    wanted = (
        HEAD
        + FETCH
        + "\n  # on the new one\n  - id: new   # beside\n    # inside\n    with:\n        text: |\n          a\n\n          b\n"
    )
    operation = {"op": "insert", "path": ["steps"], "index": 1, "text": text}

    assert made(STEPS, operation).source.text.startswith(wanted + "\n" + ASK)


def test_several_items_are_pasted() -> None:
    """A text that is a list with dashes holds several items."""
    edited = made("k:\n  - a\n", {"op": "insert", "path": ["k"], "index": 0, "text": "- x # 1\n- y\n"})

    assert edited.source.text == "k:\n  - x # 1\n  - y\n  - a\n"


def test_a_byte_order_mark_stays() -> None:
    """What stood before the text stands before it again, and counts in no offset."""
    edited = made("\ufeffa: 1\n", {"op": "text", "edits": [{"start": 3, "end": 4, "text": "2"}]})

    assert edited.source.content == "\ufeffa: 2\n"


def test_an_edit_tells_what_changed() -> None:
    """Diff, lines and inverse speak of the text as it was and as it is."""
    edited = made("a: 1\nb: 2\nc: 3", put(["b"], 5), {"op": "remove", "path": ["c"]})

    assert (
        edited.diff
        == "--- a/flow.yaml\n+++ b/flow.yaml\n@@ -1,3 +1,2 @@\n a: 1\n-b: 2\n-c: 3\n\\ No newline at end of file\n+b: 5\n\\ No newline at end of file\n"
    )
    assert edited.lines == ((2, 2),)
    assert [one.model_dump() for one in edited.inverse] == [
        {"op": "text", "edits": ({"start": 8, "end": 9, "text": "2\nc: 3"},)}
    ]


@pytest.mark.parametrize(
    ("text", "operation", "code", "line"),
    [
        ("a: 1\nb: 2\n", {"op": "remove", "path": ["c"]}, "no_such_path", 1),
        ("a: 1\nb:\n  - x\n", put(["b", 3], 1), "no_such_path", 3),
        ("a: 1\nb: x\n", put(["b", "c"], 1), "unfit_path", 2),
        ("a: 1\nb: x\n", {"op": "insert", "path": ["b"], "item": 1}, "unfit_path", 2),
        ("a: 1\nb: [x]\n", {"op": "insert", "path": ["b"], "index": 2, "item": 1}, "unfit_path", 2),
        ("a: 1\nb: [[x]]\n", {"op": "move", "path": ["b", 0], "to": ["b", 0], "index": 0}, "unfit_path", 2),
        ("a: 1\nb: {c: 1}\n", {"op": "move", "path": ["b", "c"], "to": ["b"], "index": 0}, "unfit_path", 2),
        ("a: 1\nb: 2\n", put(["b"], "\ud800"), "edit_refused", 2),
        ("a: 1\nb: 2\n", put(["b"], 2**64), "edit_refused", 2),
        ("a: 1\nb: 2\n", put(["b"], float("inf")), "edit_refused", 2),
        ("a: 1\nb: [[x]]\n", {"op": "insert", "path": ["b", 0], "text": "y # c"}, "edit_refused", 2),
        ("a: 1\nb: 2\n", {"op": "insert", "path": ["c"], "text": "- [x"}, "syntax", 1),
        ("a: 1\nb: 2\n", {"op": "text", "edits": [{"start": 8, "end": 9, "text": "["}]}, "syntax", 3),
        ("a: 1\nb: 2\n", {"op": "text", "edits": [{"start": 8, "end": 99, "text": ""}]}, "offsets", 1),
        ("a: 1\nb: 2\n", {"op": "text", "edits": [{"start": 2, "end": 5, "text": ""}, {"start": 4, "end": 6, "text": ""}]}, "offsets", 1),
        ("a: 1\nb: 2\n", {"op": "text", "edits": [{"start": 0, "end": 0, "text": "\ufeff"}]}, "offsets", 1),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_with_its_line(text: str, operation: Operation, code: str, line: int) -> None:
    """An edit that does not fit, or cannot be written, is refused and says where."""
    with pytest.raises(EditRefused) as caught:
        made(text, operation)

    assert (caught.value.problem.code, caught.value.problem.where.line) == (code, line)


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "insert", "path": ["a"]},
        {"op": "insert", "path": ["a"], "item": 1, "text": "1"},
        {"op": "remove", "path": []},
        {"op": "set", "path": [-1], "value": 1},
        {"op": "set", "path": [True], "value": 1},
        {"op": "rename_step", "path": ["steps", 0], "id": "No Name"},
        {"op": "replace", "path": ["a"], "value": 1},
        {"op": "set", "path": ["a"], "value": 1, "more": 1},
    ],
)
def test_a_malformed_operation_is_not_taken(operation: Operation) -> None:
    """What a client sends is checked before anything is done."""
    with pytest.raises(ValueError, match="validation error"):
        OPERATIONS.validate_python([operation])
