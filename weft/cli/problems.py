"""Problems as a compiler tells them: what, where with the line itself, and what to do."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TextIO

from rich.cells import cell_len
from rich.text import Text

from weft.cli.state import State
from weft.cli.terminal import Screen, clean, clean_line
from weft.errors import Problem, Where
from weft.redaction import MASK, PATTERNS, Redactor
from weft.types import JsonObject

LARGEST_FILE = 1_000_000
"""Bytes; a document is smaller, and anything larger is not read again for one line of it."""

_TOKEN = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*'|[\w.\-/@]+|\S")
"""What a caret underlines: a quoted text, a word, or one character."""


def tell(problems: Iterable[Problem], state: State, stream: TextIO | None = None) -> None:
    """Print problems, an empty line between them, on `stream` (standard error when left out)."""
    screen = Screen(stream or sys.stderr)
    named = (state.connections, os.environ.get("WEFT_CONNECTIONS"))
    hidden = {"connections.yaml", *(Path(file).name for file in named if file)}
    for number, problem in enumerate(problems):
        if number:
            screen.print()
        told = _with_pack_of_here(problem, state)
        screen.print(render(told, state.redactor, screen.width, hidden), soft_wrap=not screen.is_terminal)


def _with_pack_of_here(problem: Problem, state: State) -> Problem:
    """Return a problem of an unknown action with the remedy that newcomers need: to load the pack they stand in."""
    if problem.code != "unknown_action" or not state.beside:
        return problem
    names = ", ".join(sorted(state.beside)[:5])
    pack = f"The pack in this directory is loaded with --pack . ({names})."
    return replace(problem, remedy=f"{problem.remedy} {pack}" if problem.remedy else pack)


def render(problem: Problem, redactor: Redactor, width: int, hidden: Iterable[str] = ()) -> Text:
    """Return one problem as text of several lines.

    Args:
        problem: What to tell.
        redactor: Masks the secrets known so far.
        width: Cells that the quoted line may take; it is cut around the place.
        hidden: Names of files whose lines are never quoted, because secrets may stand in them.
    """
    told = partial(_told, redactor)
    colour = "red" if problem.severity == "error" else "yellow"
    text = Text.assemble((f"{problem.severity}[{problem.code}]", f"bold {colour}"), (": ", "bold"))
    text.append(told(problem.message) or "no message", "bold")
    where = problem.where
    gutter = len(str(where.line or "0"))
    place = ":".join(str(part) for part in (where.file, where.line, where.column) if part is not None)
    if place:
        text.append(f"\n{' ' * gutter}--> ", "blue").append(told(place))
    line = None if where.file is None or Path(where.file).name in hidden else _line(where)
    if line is not None:
        masked = _masked(redactor, line)
        if masked != line:  # columns count in the line as it is written
            where = replace(where, column=None)
        text.append("\n").append_text(_quote(clean(masked), where, gutter, width, colour))
    if inside := _inside(where):
        text.append(f"\n{' ' * gutter} = ", "blue").append(told(inside))
    if problem.remedy:
        text.append(f"\n{' ' * gutter} = ", "blue").append("help: ", "bold").append(told(problem.remedy))
    return text


def as_json(problem: Problem, redactor: Redactor) -> JsonObject:
    """Return one problem for programs; the shape is documented in docs/cli.md."""
    where = problem.where
    return {
        "code": problem.code,
        "severity": problem.severity,
        "message": redactor.text(problem.message),
        "remedy": None if problem.remedy is None else redactor.text(problem.remedy),
        "where": {
            "file": where.file,
            "line": where.line,
            "column": where.column,
            "step": where.step,
            "field": where.field,
        },
    }


def _told(redactor: Redactor, text: str) -> str:
    return clean_line(_masked(redactor, text))


def _masked(redactor: Redactor, text: str) -> str:
    return PATTERNS.sub(MASK, redactor.text(text))


def _inside(where: Where) -> str:
    parts = [f"step {where.step}" if where.step else "", where.field or ""]
    return ", ".join(part for part in parts if part)


def _line(where: Where) -> str | None:
    """Return the line of the file that the problem speaks of, if it can be read."""
    if where.file is None or where.line is None:
        return None
    file = Path(where.file)
    try:
        if not file.is_file() or file.stat().st_size > LARGEST_FILE:
            return None
        lines = file.read_text(encoding="utf-8-sig", errors="replace").split("\n")
    except OSError:
        return None  # the place was told; quoting it is a courtesy
    return lines[where.line - 1].rstrip("\r") if where.line <= len(lines) else None


def _quote(line: str, where: Where, gutter: int, width: int, colour: str) -> Text:
    """Return the numbered line and, under it, carets below the token at the column."""
    line = line.replace("\t", " ")
    at = min((where.column or 1) - 1, len(line))
    token = _TOKEN.match(line, at)
    length = max(1, len(token[0]) if token else 1)
    line, at = _cut(line, at, max(20, width - gutter - 3))
    text = Text.assemble((f"{' ' * gutter} |\n", "blue"), (f"{where.line} | ", "blue"), line)
    if where.column is not None:
        carets = max(1, cell_len(line[at : at + length]))
        text.append(f"\n{' ' * gutter} | ", "blue")
        text.append(" " * cell_len(line[:at])).append("^" * carets, f"bold {colour}")
    return text


def _cut(line: str, at: int, cells: int) -> tuple[str, int]:
    """Return the part of a long line around character `at`, and where that character is in it."""
    if cell_len(line) <= cells:
        return line, at
    start = max(0, at - cells // 3)
    before = "…" if start else ""
    part = line[start:]
    while cell_len(before + part) > cells - 1:
        part = part[: min(len(part) - 1, cells)]
    cut = before + part + ("…" if start + len(part) < len(line) else "")
    return cut, at - start + len(before)
