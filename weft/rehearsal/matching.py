"""Where two JSON values differ, part by part, and how that is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from weft import wording
from weft.types import DocumentPath, Json

MISSING: Final[Any] = object()
"""Stands for a value that is not there."""

LONGEST: Final = 160
"""Characters of a value that are shown, around the first place where it differs."""

MOST_LINES: Final = 8
"""Of a text of several lines that are shown around the first line that differs."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place at which two values differ."""

    path: DocumentPath
    expected: Any
    got: Any

    @property
    def field(self) -> str:
        return wording.field(self.path) or "the value"


def differences(expected: Json, got: Any, path: DocumentPath = (), *, subset: bool = False) -> Iterator[Difference]:
    """Yield every place at which `got` is not what was expected.

    Args:
        expected: What should be.
        got: What is; `MISSING` when there is nothing.
        path: Where the two stand.
        subset: Whether mappings may have more keys than were expected; lists have as many items in any case.
    """
    if isinstance(expected, dict) and isinstance(got, dict):
        for key, value in expected.items():
            yield from differences(value, got.get(key, MISSING), (*path, key), subset=subset)
        if not subset:
            yield from (Difference((*path, key), MISSING, value) for key, value in got.items() if key not in expected)
    elif isinstance(expected, list) and isinstance(got, list):
        for i in range(max(len(expected), len(got))):
            one = expected[i] if i < len(expected) else MISSING
            other = got[i] if i < len(got) else MISSING
            if one is MISSING or other is MISSING:
                yield Difference((*path, i), one, other)
            else:
                yield from differences(one, other, (*path, i), subset=subset)
    elif not _same(expected, got):
        yield Difference(path, expected, got)


def _same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal as JSON: 1 is 1.0, and true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def picture(difference: Difference) -> list[str]:
    """Return lines that show what was expected over what was got, with a mark below the first character that differs."""
    one, other = difference.expected, difference.got
    if isinstance(one, str) and isinstance(other, str) and "\n" in one + other:
        return _texts(one, other)
    at, start = _first(difference, LONGEST)
    expected, got = sides(difference, LONGEST)
    lines = [f"  expected │ {expected}", f"  got      │ {got}"]
    return [*lines, f"           │ {' ' * (at - start + (1 if start else 0))}^"] if at > 2 else lines


def sides(difference: Difference, longest: int = 60) -> tuple[str, str]:
    """Return both values as JSON in one line each, cut around the first place where they differ."""
    _, start = _first(difference, longest)
    return _cut(_shown(difference.expected), start, longest), _cut(_shown(difference.got), start, longest)


def _first(difference: Difference, longest: int) -> tuple[int, int]:
    """Return the first character at which two texts differ, and the first that is shown; 0 for other values."""
    if not isinstance(difference.expected, str) or not isinstance(difference.got, str):
        return 0, 0
    one, other = _shown(difference.expected), _shown(difference.got)
    pairs = enumerate(zip(one, other, strict=False))
    at = next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
    return at, max(0, at - longest // 2) if max(len(one), len(other)) > longest else 0


def _texts(expected: str, got: str) -> list[str]:
    """Return two texts of several lines as one, with the lines that only one of them has marked."""
    import difflib  # noqa: PLC0415 - only failing tests need it

    lines = [line for line in difflib.ndiff(expected.splitlines(), got.splitlines()) if not line.startswith("?")]
    first = next((i for i, line in enumerate(lines) if line[:1] in "-+"), 0)
    start = max(0, first - 2)
    shown = [f"  {line[:1]} │ {_cut(line[2:], 0, LONGEST)}" for line in lines[start : start + MOST_LINES]]
    more = len(lines) - start - len(shown)
    return ["  - expected, + got", *shown, *([f"    │ … {more} more lines"] if more > 0 else [])]


def _shown(value: Any) -> str:
    return "(nothing)" if value is MISSING else json.dumps(value, ensure_ascii=False)


def _cut(text: str, start: int, longest: int) -> str:
    end = start + longest
    return f"{'…' if start else ''}{text[start:end]}{'…' if len(text) > end else ''}"
