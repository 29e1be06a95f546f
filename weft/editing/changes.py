"""What changed between two texts: as a unified diff, as lines, and as the edits that bring the old one back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from weft.editing.aligning import common_ends, opcodes
from weft.editing.operations import Text, TextEdit
from weft.spelling import BREAK

CONTEXT = 3
"""How many lines around a change a diff shows."""


@dataclass(frozen=True, slots=True)
class Span:
    """Lines that were replaced by others, counted from 0; the end is the first line that stays."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int


@dataclass(frozen=True, slots=True)
class Differences:
    """Two texts by their lines, and where they differ."""

    old: tuple[str, ...]
    new: tuple[str, ...]
    spans: tuple[Span, ...]


def compare(old: str, new: str) -> Differences:
    """Return where two texts differ."""
    before, after = tuple(_lines(old)), tuple(_lines(new))
    spans = tuple(Span(i, j, k, m) for tag, i, j, k, m in opcodes(before, after) if tag != "equal")
    return Differences(before, after, spans)


def changed_lines(found: Differences) -> tuple[tuple[int, int], ...]:
    """Return first and last line, from 1, of each part of the new text that changed.

    Where lines only went away, the first is the line that stands there now, and the last is the one before.
    """
    return tuple((span.new_start + 1, span.new_end) for span in found.spans)


def unified(found: Differences, file: str) -> str:
    """Return the difference in the unified format, as `diff -u` and git have it; empty when there is none."""
    if not found.spans:
        return ""
    hunks = [_hunk(found, group) for group in _groups(found)]
    return "".join([f"--- a/{file.lstrip('/')}\n+++ b/{file.lstrip('/')}\n", *hunks])


def inverse(old: str, new: str, found: Differences) -> Text:
    """Return the operation on the new text that brings the old one back, byte by byte."""
    starts = [0]
    for line in found.new:
        starts.append(starts[-1] + len(line))
    edits = []
    for span in found.spans:
        was = "".join(found.old[span.old_start : span.old_end])
        now = "".join(found.new[span.new_start : span.new_end])
        prefix, suffix = common_ends(was, now)
        start, end = starts[span.new_start] + prefix, starts[span.new_end] - suffix
        edits.append(TextEdit(start=start, end=end, text=was[prefix : len(was) - suffix]))
    return Text(edits=tuple(edits))


def _lines(text: str) -> Iterator[str]:
    begin = 0
    for found in BREAK.finditer(text):
        yield text[begin : found.end()]
        begin = found.end()
    if begin < len(text):
        yield text[begin:]


def _groups(found: Differences) -> Iterator[list[Span]]:
    """Yield the changes that stand so near to each other that one hunk shows them."""
    group: list[Span] = []
    for span in found.spans:
        if group and span.old_start - group[-1].old_end > 2 * CONTEXT:
            yield group
            group = []
        group.append(span)
    yield group


def _hunk(found: Differences, group: list[Span]) -> str:
    first, last = group[0], group[-1]
    lead = min(CONTEXT, first.old_start)
    trail = min(CONTEXT, len(found.old) - last.old_end)
    old_start, old_end = first.old_start - lead, last.old_end + trail
    new_start, new_end = first.new_start - lead, last.new_end + trail
    lines = [f"@@ -{_range(old_start, old_end)} +{_range(new_start, new_end)} @@\n"]
    at = old_start
    for span in group:
        lines += _shown(" ", found.old[at : span.old_start])
        lines += _shown("-", found.old[span.old_start : span.old_end])
        lines += _shown("+", found.new[span.new_start : span.new_end])
        at = span.old_end
    lines += _shown(" ", found.old[at:old_end])
    return "".join(lines)


def _shown(sign: str, lines: tuple[str, ...]) -> list[str]:
    return [
        f"{sign}{line}" if line.endswith("\n") else f"{sign}{line}\n" + _NO_END * (not line.endswith("\r"))
        for line in lines
    ]


_NO_END = "\\ No newline at end of file\n"


def _range(start: int, end: int) -> str:
    length = end - start
    begin = start + 1 if length else start
    return str(begin) if length == 1 else f"{begin},{length}"
