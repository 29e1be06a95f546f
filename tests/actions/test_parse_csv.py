"""Parse CSV."""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.sdk import ActionError

parse_csv = importlib.import_module("weft_core.actions.parse_csv")

NOTHING: Any = None  #: the action needs nothing of its context
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}


def parse(text: str, **given: Any) -> Any:
    return parse_csv.parse_csv(parse_csv.Arguments.model_validate({"text": text, **given}), NOTHING)


def refused(text: str, **given: Any) -> ActionError:
    with pytest.raises(ActionError) as caught:
        parse(text, **given)
    assert caught.value.effect == "none"
    return caught.value


# -- round trips and no crashes

cells = st.text(
    st.sampled_from('ab ,;|\t"\n\r\u00e9\u2028\x00\x0b\x1c') | st.characters(exclude_categories=["Cs"]), max_size=6
)
tables = st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1))


@given(tables, st.sampled_from(list(DELIMITERS)), st.sampled_from(["\r\n", "\n", "\r"]), st.booleans())
def test_what_was_written_is_read(table: list[list[str]], name: str, end: str, quote_all: bool) -> None:
    """Every table comes back as it was: delimiters, quotes and line breaks in its cells included."""
    out = io.StringIO(newline="")
    breaks = end != "\r\n" and any(mark in cell for row in table for cell in row for mark in "\r\n")
    quoting = csv.QUOTE_ALL if quote_all or breaks else csv.QUOTE_MINIMAL  # the writer quotes only its own line end
    csv.writer(out, delimiter=DELIMITERS[name], lineterminator=end, quoting=quoting).writerows(table)
    text = out.getvalue()
    if text.startswith("\ufeff"):
        return  # a byte order mark is none of the table
    assert parse(text, delimiter=name, header=False)["rows"] == table


@given(st.text(st.sampled_from('a1,;|\t"\n\r\x00 \ufeff')), st.booleans(), st.sampled_from(["error", "fill"]))
def test_any_text_is_read_or_refused(text: str, header: bool, short: str) -> None:
    """Whatever stands there, the answer is rows or an `ActionError`, never another fault."""
    with contextlib.suppress(ActionError):
        output = parse(text, header=header, short_rows=short)
        assert output["count"] == len(output["rows"])


# -- what is read


@pytest.mark.parametrize("name", DELIMITERS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_with_a_header(name: str, end: str) -> None:
    """Rows are mappings by column, whatever the delimiter, which is found by itself."""
    mark = DELIMITERS[name]
    lines = [mark.join(["name", "note"]), mark.join(["Tea", '"a, b; c|d\te ""x""\nf"']), "", mark.join(["Coffee", ""])]
    output = parse("\ufeff" + end.join(lines))
    assert output == {
        "rows": [{"name": "Tea", "note": 'a, b; c|d\te "x"\nf'}, {"name": "Coffee", "note": ""}],
        "columns": ["name", "note"],
        "count": 2,
        "delimiter": name,
    }


def test_rows_without_names() -> None:
    """Without a header rows are lists; names may be given instead, and in place of a header."""
    assert parse("1,2\n3,4", header=False)["rows"] == [["1", "2"], ["3", "4"]]
    assert parse("1,2\n3,4", header=False, columns=["a", "b"])["rows"][1] == {"a": "3", "b": "4"}
    output = parse("x,y\n3,4", columns=["a", "b"])
    assert (output["rows"], output["columns"]) == ([{"a": "3", "b": "4"}], ["a", "b"])


def test_texts_without_rows() -> None:
    """Nothing, blank lines and a header alone make no rows."""
    assert parse("") == {"rows": [], "columns": [], "count": 0, "delimiter": "comma"}
    assert parse("\n\r\n")["rows"] == []
    assert parse("a;b\n")["columns"] == ["a", "b"]
    assert parse('""\n', header=False)["rows"] == [[""]]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a,b\n1,2", "comma"),
        ("a;b\n1,5;2,5", "semicolon"),
        ("name;price, EUR\nTea;3,50\nMilk;2", "semicolon"),
        ("a\tb, c\n1\t2", "tab"),
        ("a|b|c\n1|2;x|3", "pipe"),
        ('"a;b",c\n"1;2",3', "comma"),
        ("only\none", "comma"),
        ("a,b;c\n1,2;3", "comma"),
    ],
)
def test_the_delimiter_is_found(text: str, wanted: str) -> None:
    """It is the one that cuts all rows alike, into the most cells; between equals the comma."""
    assert parse(text)["delimiter"] == wanted


def test_types_of_columns() -> None:
    """Cells become what their column is; empty ones are null, other columns stay texts."""
    text = "n,i,b,d,t,s\n1.50,007,Yes,2026-11-22,2026-11-22T08:00:00+01:00, x \n,,,,,\n"
    types = {"n": "number", "i": "integer", "b": "boolean", "d": "date", "t": "datetime", "s": "text"}
    first, second = parse(text, types=types)["rows"]
    assert first == {"n": 1.5, "i": 7, "b": True, "d": "2026-11-22", "t": "2026-11-22T07:00:00Z", "s": " x "}
    assert second == {"n": None, "i": None, "b": None, "d": None, "t": None, "s": ""}
    assert parse(text, types=types, trim=True)["rows"][0]["s"] == "x"


def test_short_rows() -> None:
    """They are an error, or are filled with null; a row that is too long is an error in any case."""
    text = "a,b,c\n1,2,3\n4\n"
    error = refused(text)
    assert (error.kind, error.details) == ("ragged", {"line": 3})
    assert parse(text, short_rows="fill")["rows"][1] == {"a": "4", "b": None, "c": None}
    assert refused("a,b\n1,2,3", short_rows="fill").kind == "ragged"
    assert refused("1,2\n3", header=False).kind == "ragged"
    assert parse("1,2\n3", header=False, short_rows="fill")["rows"] == [["1", "2"], ["3"]]
    assert refused("1,2\n3,4", columns=["a"]).kind == "ragged"


@pytest.mark.parametrize(
    ("text", "given", "kind", "line"),
    [
        ('a,b\n1,"2', {}, "not_csv", 2),
        ('a,b\n"1"x,2', {}, "not_csv", 2),
        ('a,b\n\n"x\ny",1\n1,2,3', {}, "ragged", 5),
        ("a,\n1,2", {}, "bad_header", 1),
        ("a,a\n1,2", {}, "bad_header", 1),
        ("a, a\n1,2", {}, "bad_header", 1),
        ("a,b\n1,x", {"types": {"b": "number"}}, "wrong_type", 2),
        ("a,b\n1,2.5", {"types": {"b": "integer"}}, "wrong_type", 2),
        ("a\n" + "x" * 140_000, {}, "not_csv", 2),
        ("x," * 1000, {"header": False}, "too_large", 1),
        ("x\n" * 100_001, {"header": False}, "too_large", 100_001),
    ],
)
def test_what_is_refused(text: str, given: dict[str, Any], kind: str, line: int) -> None:
    """The error names the line and shows nothing of the text."""
    error = refused(text, **given)
    assert (error.kind, error.details) == (kind, {"line": line})
    assert f"line {line}" in str(error)


def test_the_text_is_never_shown() -> None:
    """No error holds a cell."""
    for text, types in (("a\ncanary7", {"a": "date"}), ("a,b\ncanary7", None), ('a\n"canary7', None)):
        error = refused(text, types=types)
        assert "canary7" not in str(error) + json.dumps(error.details)


def test_types_of_columns_that_are_not_there() -> None:
    """They are found before the run where the columns are known, else when they are."""
    assert refused("a\n1", types={"b": "number"}).kind == "unknown_column"
    wrong = [
        {"columns": ["a"], "types": {"b": "number"}},
        {"header": False, "types": {"b": "number"}},
        {"columns": ["a", "a"]},
    ]
    for arguments in wrong:
        assert [problem.severity for problem in parse_csv.check(arguments)] == ["error"]
    assert list(parse_csv.check({"types": {"b": "number"}})) == []
    assert list(parse_csv.check({"columns": ["b"], "types": {"b": "number"}, "header": False})) == []


@pytest.mark.parametrize(
    "text", ['"' * 1_000_000, "," * 1_000_000, "\n" * 1_000_000, '"a"' * 300_000, "a;b,c|d\te\n" * 90_000]
)
def test_a_hostile_text_takes_no_time(text: str) -> None:
    """However the text is made, reading ends soon."""
    begun = time.process_time()
    with contextlib.suppress(ActionError):
        parse(text, short_rows="fill")
    assert time.process_time() - begun < 10  # what is not linear takes minutes
