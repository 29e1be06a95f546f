"""The reader of YAML documents: what it reads, what it refuses, and the places it names."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weft import source
from weft.errors import InvalidSource, Problem

CORPUS = Path(__file__).parent / "corpora" / "yaml"


def rows(name: str) -> list[Any]:
    lines = (CORPUS / name).read_text(encoding="utf-8").splitlines()
    return [pytest.param(row, id=row["id"]) for row in map(json.loads, lines)]


def refused(text: str | bytes) -> tuple[Problem, ...]:
    with pytest.raises(InvalidSource) as caught:
        source.read(text, "w.yaml")
    for problem in caught.value.problems:
        assert problem.code
        assert problem.message
        assert problem.where.file == "w.yaml"
        assert problem.where.line
        assert problem.where.column
    return caught.value.problems


def read_or_refused(text: str) -> tuple[Any, tuple[Problem, ...]]:
    try:
        return source.read(text, "w.yaml").value, ()
    except InvalidSource as error:
        return None, error.problems


@pytest.fixture(params=["libyaml", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two parsers in turn; libyaml's must be there, for the promise of speed."""
    assert yaml.__with_libyaml__
    if request.param == "python":
        monkeypatch.setattr(yaml, "__with_libyaml__", False)
    return str(request.param)


# -- what is read

READ_AS: dict[str, Any] = {
    "norway": {"a": "NO", "b": "no", "c": "on", "d": "y"},
    "on-key": {"on": "push"},
    "sexagesimal": {"t": "22:30", "t2": "1:30:00"},
    "float-ver": {"v": 1.1, "w": 1000.0},
    "date": {"d": "2026-11-22"},
    "scalar": "hello",
    "bom": {"a": 1},
    "jinja-quoted": {"a": "{{ steps.x }}"},
    "hex": {"a": 31, "b": "0b11", "c": 15},
    "underscore": {"a": "1_000"},
    "tilde": {"a": None, "b": None, "c": ""},
    "equals": {"a": "="},
}
REFUSED_AS = {
    "octal": "number",
    "dup": "duplicate_key",
    "dup-deep": "duplicate_key",
    "merge": "anchor",
    "tag-obj": "tag",
    "tag-tuple": "tag",
    "tag-unknown": "tag",
    "null-key": "key",
    "complex-key": "key",
    "int-key": "key",
    "multi-doc": "second_document",
    "empty": "empty_document",
    "tab": "tab",
    "nan": "number",
    "binary": "tag",
    "anchor-rec": "anchor",
    "colon-str": "syntax",
    "jinja-unquoted": "unquoted_template",
    "jinja-pct": "unquoted_template",
    "trail": "syntax",
    "utf16": "encoding",
    "nel": "character",
    "ctrl": "character",
    "big": "number",
    "lone-surr": "syntax",
    "alias-bomb": "anchor",
    "merge-bomb": "anchor",
}


@pytest.mark.parametrize("row", rows("manifest_traps.jsonl"))
def test_traps_of_manifests(row: dict[str, Any], parser: str) -> None:
    """Each trap is read as the text that it looks like, or refused with its place."""
    text = base64.b64decode(row["b64"]) if row["yaml"] is None else row["yaml"]

    if row["id"] in READ_AS:
        assert READ_AS[row["id"]] == source.read(text, "w.yaml").value
    else:
        assert REFUSED_AS[row["id"]] == refused(text)[0].code


@pytest.mark.parametrize("row", rows("yaml_1_2.jsonl"))
def test_rules_of_yaml(row: dict[str, Any], parser: str) -> None:
    """Each rule of YAML 1.2 is kept; the slower parser may refuse more, and says other words."""
    value, problems = read_or_refused(row["yaml"])

    if problems:
        assert parser == "python" or row.get("code") == problems[0].code
    else:
        assert json.dumps(row["value"]) == json.dumps(value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\u2028\u2029\ufeff\ufffe\uffff")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc: {}#'", max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
@settings(max_examples=150, deadline=None)
def test_json_is_read_as_json(value: Any) -> None:
    """A JSON text is read as the value that it is in JSON, types included."""
    text = json.dumps(value, ensure_ascii=False)
    if "\x7f" in text:
        return  # a control character in YAML

    assert json.dumps(value) == json.dumps(source.read(text, "w.yaml").value)


FRAGMENTS = [
    *"-?:,[]{}#&*!|>%@`'\"\\ \n\t<=~.0a",
    "- ",
    ": ",
    "\n  ",
    "a: ",
    "{{ ",
    " }}",
    "---\n",
    "...",
    "!!",
    "\r",
    "\\u",
    "|2\n",
]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=24).map("".join))
@settings(max_examples=600, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever the text, there is a value or a problem with its place, nothing else."""
    value, problems = read_or_refused(text)

    assert all(problem.where.line and problem.where.column for problem in problems)
    assert problems or json.dumps(value, allow_nan=False)


# -- what is refused, and how it is told


def test_a_question_is_text_everywhere() -> None:
    """A text may end with a question mark, in lists and mappings of one line too; a key may not begin with one."""
    read = source.read("a: why?\nb: [who?, 'how?', what? ]\nc: {d: when?, e: where?}\n", "w.yaml")

    assert read.value == {"a": "why?", "b": ["who?", "how?", "what?"], "c": {"d": "when?", "e": "where?"}}
    assert [problem.code for problem in refused("{?a: 1}")] == ["syntax"]


def test_duplicate_key_names_both_lines() -> None:
    """A key that stands twice is told with both lines and the second place."""
    (problem,) = refused("steps:\n  - id: a\n    uses: x\n    id: b\n")

    assert "in lines 2 and 4" in problem.message
    assert (problem.where.line, problem.where.column) == (4, 5)


def test_duplicate_keys_in_one_line() -> None:
    """A key that stands twice in one line is told as such."""
    (problem,) = refused("x: {a: 1, a: 2}")

    assert "twice, in line 1" in problem.message


def test_several_problems_are_told_at_once() -> None:
    """One reading finds every problem, up to the text that cannot be parsed."""
    problems = refused("a: &x 1\nb: *x\nc: !!str 2\nc: 3\nd: .nan\n5: 1\ne: 'x' y\n")

    assert [problem.where.line for problem in problems] == [1, 2, 3, 4, 5, 6, 7]
    assert [item.code for item in problems] == ["anchor", "alias", "tag", "duplicate_key", "number", "key", "syntax"]


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a: {{ steps.x }}\n", '"{{ steps.x }}"'),
        ("a: {{ x }} and more\n", '"{{ x }} and more"'),
        ('- {{ x | default("y") }}\n', "'{{ x | default(\"y\") }}'"),
        ("a: [{{ x }}, b]\n", '"{{ x }}"'),
        ("a: {% if x %}1{% endif %}\n", '"{% if x %}1{% endif %}"'),
        ("a: {{ x['k'] ~ \"v\" }}\n", '"{{ x[\'k\'] ~ \\"v\\" }}"'),
    ],
)
def test_unquoted_template_is_shown_quoted(text: str, quoted: str) -> None:
    """A template without quotes is refused with the quoted text to write instead, which reads as the template."""
    (problem,) = refused(text)

    assert problem.remedy == f"Quote the template: {quoted}"
    assert (1, text.index("{{" if "{{" in text else "{%") + 1) == (problem.where.line, problem.where.column)
    assert text.strip("-a: []\n").removesuffix(", b") == source.read(quoted, "w.yaml").value


def test_template_inside_quotes_is_not_blamed() -> None:
    """An error in a line with a quoted template is told as what it is."""
    (problem,) = refused('a: "{{ x }}" y\n')

    assert problem.code == "syntax"
    assert "closing quote" in str(problem.remedy)


def test_tab_is_named() -> None:
    """A tab that indents is named as a tab, at its place."""
    (problem,) = refused("a:\n  b: 1\n\tc: 2\n")

    assert "tab" in problem.message
    assert (problem.where.line, problem.where.column) == (3, 1)


def test_number_that_loses_digits_is_warned_of() -> None:
    """A version number without quotes is read as a number, with a warning that says to quote it."""
    read = source.read("a: 1.10\nb: 1.5\nc: 0.12345678901234567890\nd: 1.0\ne: 2e10\n", "w.yaml")

    assert [warning.where.line for warning in read.warnings] == [1, 3]
    assert {"warning"} == {warning.severity for warning in read.warnings}
    assert "'1.10'" in str(read.warnings[0].remedy)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[" * 51 + "]" * 51, "too_deep"),
        ("".join(" " * depth + "a:\n" for depth in range(51)) + " " * 51 + "a: 1", "too_deep"),
        ("- a\n" * 50_000, "too_large"),
        ("a: " + "b" * 1_000_000, "too_large"),
        ("é" * 500_001, "too_large"),
    ],
)
def test_limits(text: str, code: str) -> None:
    """Depth, number of elements and size are bounded."""
    assert code == refused(text)[0].code


def test_what_the_limits_allow() -> None:
    """Documents just inside the limits are read."""
    deep = source.read("[" * 50 + "]" * 50, "w.yaml").value
    for _ in range(49):
        deep = deep[0]  # type: ignore[index, call-overload]

    assert deep == []
    assert len(source.read("- a\n" * 49_990, "w.yaml").value) == 49_990  # type: ignore[arg-type]
    assert len(source.read("a: " + "b" * 999_997, "w.yaml").value["a"]) == 999_997  # type: ignore[arg-type, call-overload, index]


BOMBS = {
    "aliases": "a: &a [x,x]\n" + "".join(f"b{n}: &b{n} [*a,*a,*a]\n" for n in range(2_000)),
    "brackets": "[" * 900_000,
    "braces": "{a: " * 200_000,
    "dashes": "- " * 400_000,
    "question-marks": "? " * 400_000,
    "staircase": "".join(" " * depth + "a:\n" for depth in range(1_300)),
    "digits": "a: " + "9" * 900_000,
    "tags": "- !x y\n" * 100_000,
    "quotes": 'a: "' + "'\"" * 300_000,
    "templates": "a: " + "{{" * 400_000,
    "percents": "%" * 900_000,
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_are_refused_at_once(text: str) -> None:
    """A document made to exhaust its reader is refused in a tenth of a second."""
    begin = time.process_time()
    refused(text)

    assert time.process_time() - begin < 0.1


def test_long_workflow_is_read_quickly() -> None:
    """A workflow of 201 steps is read in a few hundredths of a second, places included."""
    step = "  - id: s{0}\n    uses: generate_chat_completion\n    with:\n      model: x\n      n: {0}\n      messages:\n        - {{role: user, content: '{{{{ inputs.q }}}} {0}'}}\n"
    text = "name: long\nsteps:\n" + "".join(step.format(number) for number in range(201))
    spent = []
    for _ in range(3):
        begin = time.process_time()
        read = source.read(text, "w.yaml")
        spent.append(time.process_time() - begin)

    assert read.where(("steps", 200, "with", "messages", 0, "content")).line == 2 + 201 * 7
    assert min(spent) < 0.06


def test_utf8_fault_is_placed() -> None:
    """A byte that is not UTF-8 is named with its place."""
    (problem,) = refused(b"a: 1\nb: \xc3\xa9\xff\n")

    assert "0xFF" in problem.message
    assert (problem.where.line, problem.where.column) == (2, 5)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_other_encodings_are_named(encoding: str) -> None:
    """UTF-16 and UTF-32 are refused by name, with or without byte order mark."""
    assert refused("a: 1\n".encode(encoding))[0].code == "encoding"


def test_files(tmp_path: Path) -> None:
    """A file is read under its path; one that cannot be read is told as a problem."""
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\n")

    assert source.read_file(path).value == {"a": 1}
    with pytest.raises(InvalidSource, match="No such file"):
        source.read_file(tmp_path / "none.yaml")
    with pytest.raises(InvalidSource, match="Is a directory"):
        source.read_file(tmp_path)


# -- places

DOCUMENT = """\
name: x  # a comment
steps:
  - id: one
    with: {to: [me, "you"], 'the subject': hi}
  -
    id: two
empty:
"""


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ((), (1, 1), (1, 1)),
        (("name",), (1, 7), (1, 1)),
        (("steps",), (3, 3), (2, 1)),
        (("steps", 0), (3, 5), (3, 5)),
        (("steps", 0, "with", "to", 1), (4, 21), (4, 21)),
        (("steps", 0, "with", "the subject"), (4, 44), (4, 29)),
        (("steps", 1, "id"), (6, 9), (6, 5)),
        (("steps", 1, "uses"), (6, 5), (6, 5)),
        (("steps", 7, "id"), (3, 3), (3, 3)),
        (("name", "x"), (1, 7), (1, 7)),
        (("empty",), (7, 1), (7, 1)),
        (("absent", "x"), (1, 1), (1, 1)),
    ],
)
def test_where(path: tuple[str | int, ...], value: tuple[int, int], key: tuple[int, int]) -> None:
    """Each value and key has its place; what is absent has that of its nearest ancestor, an empty value its key's."""
    read = source.read(DOCUMENT, "w.yaml")

    assert ("w.yaml", *value) == (read.where(path).file, read.where(path).line, read.where(path).column)
    assert key == (read.where(path, key=True).line, read.where(path, key=True).column)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_places_do_not_depend_on_line_ends(ending: str) -> None:
    """Lines are counted alike whatever ends them, and can be shown."""
    read = source.read("a: é😀x\nb:\n  - 'c'\n".replace("\n", ending), "w.yaml")

    assert (read.where(("b", 0)).line, read.where(("b", 0)).column) == (3, 5)
    assert (read.locate(("a",), 2).line, read.locate(("a",), 2).column) == (1, 6)
    assert [read.line(number) for number in range(1, 6)] == ["a: é😀x", "b:", "  - 'c'", "", ""]


@pytest.mark.parametrize(
    ("text", "offset", "place"),
    [
        ('a: "x\\n{{ y }}"', 2, (1, 8)),
        ('a: "\\u00e9\\x41{{"', 2, (1, 15)),
        ("a: 'it''s {{'", 5, (1, 11)),
        ('a: "one \t\n  two {{"', 8, (2, 7)),
        ('a: "one\\  \n\n  two {{"', 9, (3, 7)),
        ("a: 'one  \n  two {{'", 8, (2, 7)),
        ("a: one\n  two {{\n", 8, (2, 7)),
        ('a: "one\\\n   two {{"', 7, (2, 8)),
        ("a: |\n  one\n  {{\n", 4, (3, 3)),
        ("a: >-\n  one\n\n  two\n   {{\n", 9, (5, 4)),
        ("a: |2\n    {{\n", 2, (2, 5)),
        ("- - |+\n    x\n\n\n", 3, (4, 1)),
        ("a: text", 99, (1, 8)),
        ("a: text", -1, (1, 4)),
        ("a: 12", 1, (1, 4)),
    ],
)
def test_locate(text: str, offset: int, place: tuple[int, int]) -> None:
    """The place of a character is found through quotes, escapes, folded lines and indentation."""
    read = source.read(text, "w.yaml")
    path: tuple[str | int, ...] = (0, 0) if text.startswith("-") else ("a",)
    found = read.locate(path, offset)

    assert place == (found.line, found.column)


SEPARATORS = [
    " ",
    "  ",
    "\t",
    "\n",
    "\n\n",
    "\n\n\n",
    "\n  ",
    " \n",
    "\n\t",
    "'",
    "''",
    '"',
    "\\",
    ": ",
    " #",
    "-",
    "{{ ",
    "é",
]
VALUES = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(SEPARATORS)), min_size=1, max_size=14)


@given(
    VALUES,
    st.sampled_from([None, "'", '"', "|", ">"]),
    st.sampled_from([12, 40, 4_000]),
    st.booleans(),
    st.sampled_from(["\n", "\r\n"]),
)
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_locate_finds_every_character(
    parts: list[tuple[int, str]], style: str | None, width: int, literally: bool, ending: str
) -> None:
    """Whatever a text's style, each of its characters is found where it is written.

    Every letter of the text is another one, so that its place in the document is beyond doubt.
    """
    letters = map(chr, range(0x4E00, 0x9FFF))
    value = "".join("".join(next(letters) for _ in range(count)) + separator for count, separator in parts)
    data = {"a": [{"k": value}]}
    text = yaml.dump(data, default_style=style, width=width, allow_unicode=literally, indent=3)  # type: ignore[call-overload]
    read = source.read(text.replace("\n", ending), "w.yaml")
    assert data == read.value
    starts = [0, *(index + len(ending) for index in range(len(read.text)) if read.text.startswith(ending, index))]

    for offset, letter in enumerate(value):
        if "\u4e00" <= letter <= "\u9fff":
            written = letter if letter in read.text else f"\\u{ord(letter):04X}"
            place = read.locate(("a", 0, "k"), offset)
            assert place.line is not None
            assert place.column is not None
            assert read.text.index(written) == starts[place.line - 1] + place.column - 1
