"""Random gestures on the corpus in short, the judge on trial itself, and what holds for any document."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from editing import trial
from editing.gestures import TEXTS
from editing.judge import applied, same
from editing.witness import Witness
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weft import source
from weft.editing import OPERATIONS, cuts, edit, editor
from weft.editing.blocks import Blocks
from weft.editing.layout import Layout
from weft.editing.scalars import Respelling
from weft.editing.splicing import Splicer
from weft.editing.writing import Writer
from weft.errors import EditRefused, InvalidSource

CORPUS = Path(__file__).parents[1] / "corpora" / "documents"
FILES = sorted(path for path in CORPUS.iterdir() if path.suffix in (".yaml", ".yml"))


def test_the_corpus_is_what_it_says() -> None:
    """Fifty files and more, most of them with comments, all of which both parsers read alike."""
    seen = [(Witness(document.content), document) for document in map(source.read_file, FILES)]

    assert len(FILES) >= 50
    assert sum(len(witness.comments) > 1 for witness, _ in seen) >= 38
    assert [d.file for w, d in seen if not same(w.value, d.value)] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_opening_and_saving_changes_nothing(path: Path) -> None:
    """No operation, or a value that is there already, leaves every byte as it is."""
    document = source.read_file(path)
    first = next((p for p in Witness(document.content).places if p), ())
    value: Any = document.value
    for part in first:
        value = value[part]
    for operations in ([], [{"op": "set", "path": first, "value": value}]):
        edited = edit(document, OPERATIONS.validate_python(operations))
        assert edited.source.content.encode() == path.read_bytes()
        assert (edited.diff, edited.inverse, edited.lines) == ("", (), ())


def test_random_gestures_do_what_they_say_and_nothing_else() -> None:
    """The trial in short: meaning, comments and lines are right, and all undos bring every byte back."""
    outcome = trial.run(600, "short", CORPUS)

    assert outcome.faults == []
    assert len(outcome.refused) < 12
    assert min(outcome.kinds.values()) > 40


# -- the judge on trial: a splicer that is broken on purpose is found out


def _drags_foreign_comments(layout: Layout, entries: list[Any], index: int) -> int:
    line = layout.first_line(entries[index])
    while layout.is_blank(line - 1) or layout.is_comment(line - 1):
        line -= 1
    return line


def _leaves_comments_behind(layout: Layout, entries: list[Any], index: int) -> int:
    return layout.first_line(entries[index])


def _takes_the_next_line(layout: Layout, entry: Any) -> int:
    line = layout.last_line(entry)
    return line + 1 if layout.is_comment(line + 1) else line


def _lines_without_comments(blocks: Blocks, entries: list[Any], index: int) -> list[str]:
    layout = blocks.layout
    return [layout.line(n) for n in range(layout.first_line(entries[index]), layout.last_line(entries[index]) + 1)]


def _tidied(text: str, made: Any) -> str | None:
    found = cuts.made(text, made)
    return None if found is None else re.sub(r"(\S) {2,}#", r"\1 #", found)


def _without_a_comment(splicer: Splicer, *given: Any, **named: Any) -> Any:
    cut = _LAY(splicer, *given, **named)
    return cuts.Cut(cut.start, cut.end, re.sub(r"[ \t]+#[^\r\n]*", "", cut.text))


def _off_by_one(writer: Writer, value: Any) -> str:
    return str(value + 1) if type(value) is int else _FLOW(writer, value)


def _always(**named: Any) -> Callable[..., None]:
    def laid(layout: Layout, document: Any) -> None:
        _READ(layout, document)
        vars(layout).update(named)

    return laid


_LAY, _FLOW, _READ = Splicer.lay, Writer.flow, Layout.__init__

MUTANTS: dict[str, list[tuple[Any, str, Any]]] = {
    "drags foreign comments": [(Layout, "owned_begin", _drags_foreign_comments)],
    "leaves comments behind": [(Layout, "owned_begin", _leaves_comments_behind)],
    "takes the comment of the next": [(Layout, "owned_end", _takes_the_next_line)],
    "moves without comments": [(Blocks, "raw", _lines_without_comments)],
    "tidies comments elsewhere": [(editor, "made", _tidied)],
    "loses the comment behind a colon": [(Splicer, "lay", _without_a_comment)],
    "writes another number": [(Writer, "flow", _off_by_one), (editor, "same", lambda one, other: True)],
    "writes texts anew": [(Respelling, "text", lambda *_: None)],
    "forgets how lines end": [(Layout, "__init__", _always(newline="\n"))],
    "ends every file": [(Layout, "__init__", _always(closed=True))],
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_judge_finds_out_a_broken_splicer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these faults, which the editor's own check of the meaning does not see, is told by the judge."""
    for place, attribute, broken in MUTANTS[name]:
        monkeypatch.setattr(place, attribute, broken, raising=False)

    pattern = {
        "ends every file": "worst-no*",
        "forgets how lines end": "worst-crlf*",
        "writes texts anew": "worst-*",
    }.get(name, "*")
    assert trial.run(1_500, "mutants", CORPUS, pattern=pattern, stop=True).faults


# -- any document, any value


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    "place", ["k: old\n", "k: 'old'  # c\n", "k: |\n  old\n\nl: 1\n", "- old\n", "k: [old]\n", "k: >-\n  old\n  text"]
)
def test_any_text_can_be_written_anywhere(text: str, place: str) -> None:
    """Every text is read back as it is, whatever it looks like and wherever it stands."""
    document = source.read(place, "x")
    path: tuple[Any, ...] = ("k",) if place.startswith("k") else (0,)
    path = (*path, 0) if "[" in place else path
    operation = {"op": "set", "path": list(path), "value": text}
    edited = edit(document, OPERATIONS.validate_python([operation]))

    assert same(Witness(edited.source.content).value, applied(operation, document.value))
    assert edit(edited.source, edited.inverse).source.text == place


characters = st.characters(exclude_categories=["Cs"]) | st.sampled_from("\n\r\t #:-'\"{}[],&*!|>%@`?\\")
texts = st.text(characters, max_size=30)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(characters, max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(["block", "flow", "root", "list"]), values, values, values)
def test_any_value_can_be_given_and_taken_back(kind: str, first: Any, second: Any, third: Any) -> None:
    """A value set, changed into another, and added to lists reads as what it is; undos bring the text back."""
    text = {
        "block": "# h\nk:   # c\n  a: 1\n\n# d\nl:\n  - x\n",
        "flow": "# h\nk: {a: 1}   # c\nl: [x]\n",
        "root": "k: 1\nl: []",
        "list": "k:\n- a\nl:\n- x   # y\n",
    }[kind]
    document = source.read(text, "x")
    operations = [
        {"op": "set", "path": ["k"], "value": first},
        {"op": "set", "path": ["k"], "value": second},
        {"op": "insert", "path": ["l"], "index": 0, "item": third},
        {"op": "set", "path": ["l", 0], "value": first},
    ]
    undos, current, value = [], document, document.value
    for operation in operations:
        value = applied(operation, value)
        edited = edit(current, OPERATIONS.validate_python([operation]))
        undos.append(edited.inverse)
        current = edited.source
        assert same(current.value, value)
    for undo in reversed(undos):
        current = edit(current, undo).source
    assert current.text == text


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FILES), st.data())
def test_an_edit_of_the_text_is_read_or_refused(path: Path, data: st.DataObject) -> None:
    """What a text editor sends is taken when it can be read, and else refused with nothing changed."""
    document = source.read_file(path)
    start = data.draw(st.integers(0, len(document.text)))
    end = min(len(document.text), start + data.draw(st.integers(0, 20)))
    operation = {"op": "text", "edits": [{"start": start, "end": end, "text": data.draw(texts)}]}
    wanted = document.text[:start] + operation["edits"][0]["text"] + document.text[end:]  # type: ignore[index]
    try:
        edited = edit(document, OPERATIONS.validate_python([operation]))
    except EditRefused:
        with pytest.raises(InvalidSource):
            source.read(wanted if not wanted.startswith("\ufeff") else "[", "x")
        return
    assert edited.source.text == wanted
    assert edit(edited.source, edited.inverse).source.content.encode() == path.read_bytes()


def test_an_edit_costs_about_two_readings() -> None:
    """The text is read once more for each operation, and not for each of its lines."""
    item = '  - id: s{n}\n    uses: log\n    with:\n      message: "{{{{ steps.s{m}.output }}}}"  # of {n}\n'
    document = source.read("steps:\n" + "".join(item.format(n=n, m=n - 1) for n in range(100)), "x")
    reading: Callable[..., Any] = source.read
    with patch.object(editor.source, "read", side_effect=reading) as counted:
        edit(document, OPERATIONS.validate_python([{"op": "set", "path": ["steps", 50, "with", "more"], "value": 1}]))

    assert counted.call_count == 1
