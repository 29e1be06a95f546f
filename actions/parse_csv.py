"""Make rows of a text that is CSV (RFC 4180)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Final, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from weft.sdk import ActionContext, ActionError, Json, JsonObject, Problem, Where

from ._convert import Kind, convert

MOST_ROWS: Final = 100_000
MOST_COLUMNS: Final = 1_000
DELIMITERS: Final = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
LOOKED_AT: Final = 20  #: rows, to find the delimiter

Delimiter = Literal["auto", "comma", "semicolon", "tab", "pipe"]


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    text: Annotated[str, Field(max_length=5_000_000)]
    delimiter: Delimiter = "auto"
    header: bool = True
    columns: Annotated[list[str], Field(min_length=1, max_length=MOST_COLUMNS)] | None = None
    types: dict[str, Kind] | None = None
    short_rows: Literal["error", "fill"] = "error"
    trim: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    line: int  #: of its end, from 1
    cells: list[str]


def parse_csv(arguments: Arguments, context: ActionContext) -> JsonObject:
    """Return the rows: mappings by column where columns have names, else lists.

    Raises:
        ActionError: The text is not CSV (`not_csv`), a row has another length (`ragged`), a name is missing or stands
            twice (`bad_header`), a cell is not of its type (`wrong_type`), or there is too much (`too_large`).
    """
    text = arguments.text.removeprefix("\ufeff")
    name = _delimiter(text) if arguments.delimiter == "auto" else arguments.delimiter
    rows = _rows(text, DELIMITERS[name], trim=arguments.trim)
    columns = arguments.columns
    if arguments.header and (first := next(rows, None)) is not None:
        columns = columns or _header(first)
        _check_width(first, len(columns), fill=False)
    _check_types(arguments.types or {}, columns)
    made: list[Json] = [_made(row, columns, arguments) for row in _even(rows, columns, arguments)]
    return {"rows": made, "columns": list[Json](columns or []), "count": len(made), "delimiter": name}


def _rows(text: str, delimiter: str, *, trim: bool = False) -> Iterator[_Row]:
    """Yield the rows that are not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    count = 0
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            raise _fault(
                "not_csv",
                reader.line_num,
                "a quoted cell is not closed, or is followed by something else than the delimiter, or is too long",
                "Correct the text, or choose the right delimiter.",
            ) from None
        if not cells:
            continue
        count += 1
        if count > MOST_ROWS or len(cells) > MOST_COLUMNS:
            raise _fault("too_large", reader.line_num, f"more than {MOST_ROWS:,} rows or {MOST_COLUMNS:,} columns")
        yield _Row(reader.line_num, [cell.strip() for cell in cells] if trim else cells)


def _fault(kind: str, line: int, what: str, remedy: str | None = None) -> ActionError:
    return ActionError(
        f"The text cannot be read as CSV, line {line}: {what}.",
        kind=kind,
        effect="none",
        remedy=remedy,
        details={"line": line},
    )


def _delimiter(text: str) -> str:
    """Return the delimiter that cuts the first rows into the most cells, all rows alike if any delimiter does so."""
    best, found = (False, 1), "comma"
    for name, mark in DELIMITERS.items():
        try:
            widths = [len(row.cells) for row in islice(_rows(text, mark), LOOKED_AT)]
        except ActionError:
            continue
        if widths and widths[0] > 1 and (quality := (len(set(widths)) == 1, widths[0])) > best:
            best, found = quality, name
    return found


def _header(row: _Row) -> list[str]:
    names = [name.strip() for name in row.cells]
    if not all(names):
        raise _fault("bad_header", row.line, "a column has no name", "Name it, or give `columns`.")
    if len(set(names)) < len(names):
        raise _fault("bad_header", row.line, "two columns have the same name", "Rename one, or give `columns`.")
    return names


def _check_types(types: Mapping[str, Kind], columns: list[str] | None) -> None:
    if columns is not None and (unknown := types.keys() - set(columns)):
        raise ActionError(
            f"A type is given for {min(unknown)!r}, and there is no column of this name.",
            kind="unknown_column",
            effect="none",
            remedy="Correct the name.",
            where=Where(field="types"),
        )


def _even(rows: Iterable[_Row], columns: list[str] | None, arguments: Arguments) -> Iterator[_Row]:
    """Yield the rows, each as long as the columns or the first row."""
    width = None if columns is None else len(columns)
    for row in rows:
        width = len(row.cells) if width is None else width
        _check_width(row, width, fill=arguments.short_rows == "fill")
        yield row


def _check_width(row: _Row, width: int, *, fill: bool) -> None:
    if len(row.cells) > width or (len(row.cells) < width and not fill):
        remedy = "Cells that hold the delimiter stand in quotes; `short_rows: fill` fills rows that are too short."
        raise _fault("ragged", row.line, f"the row has {len(row.cells)} cells, not {width}", remedy)


def _made(row: _Row, columns: list[str] | None, arguments: Arguments) -> Json:
    if columns is None:
        return list(row.cells)
    types = arguments.types or {}
    made: JsonObject = dict.fromkeys(columns)
    for name, cell in zip(columns, row.cells, strict=False):
        made[name] = _cell(cell, name, types.get(name), row.line)
    return made


def _cell(text: str, column: str, kind: Kind | None, line: int) -> Json:
    """Return a cell's value; an empty one of a column with a type other than text is null."""
    if kind is None or kind == "text":
        return text
    try:
        return convert(text, kind) if text.strip() else None
    except ValueError as error:
        raise _fault("wrong_type", line, f"the column {column!r} {error}", "Correct the cell or the type.") from None


def check(arguments: Mapping[str, Json]) -> Iterable[Problem]:
    """Yield what is wrong with the columns and their types."""
    columns, types = arguments.get("columns"), arguments.get("types")
    if isinstance(columns, list) and len(names := cast("list[str]", columns)) > len(set(map(str, names))):
        yield Problem("bad_header", "Two columns have the same name.", "Rename one.", Where(field="columns"))
    if isinstance(types, dict):
        if isinstance(columns, list) and (unknown := types.keys() - set(map(str, columns))):
            message = f"A type is given for {min(unknown)!r}, and there is no column of this name."
            yield Problem("unknown_column", message, "Correct the name.", Where(field="types"))
        if columns is None and arguments.get("header") is False:
            message = "Types are given by column, and the columns have no names."
            yield Problem(
                "unknown_column", message, "Give `columns`, or let the header name them.", Where(field="types")
            )
