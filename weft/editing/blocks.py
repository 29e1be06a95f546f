"""Entries put into and taken out of block collections: whole lines, with the comments and blank lines around them."""

from __future__ import annotations

from weft.editing.cuts import Cut
from weft.editing.layout import Layout, Slot


class Blocks:
    """The block collections of one document."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.newline = layout, layout.newline

    def insert(self, entries: list[Slot], index: int, lines: list[str], *, keeps: bool = False) -> list[Cut]:
        """Return the cuts that put lines before the entry at `index`.

        Args:
            entries: Those that there are; at least one.
            index: Their number to append.
            lines: Those of the new entries, indented as the others are.
            keeps: Whether the lines end in a text with `|+`, which blank lines below would become part of.
        """
        layout, separated = self.layout, self._separated(entries, index)
        if index == 0:
            first = entries[0]
            if layout.is_compact(first):
                text = self.newline.join([*lines, " " * first.column]).lstrip(" ")
                return [Cut(first.start, first.start, text)]
            place = layout.begin(layout.owned_begin(entries, 0))
            return [Cut(place, place, self._joined(lines if keeps or not separated else [*lines, ""]))]
        before = entries[index - 1]
        line = layout.owned_end(before) + 1
        if index < len(entries):
            line = self._below_remarks(line, before.column)
        if separated and not layout.keeps_blanks(before.node):
            lines = ["", *lines]
        place = layout.begin(line)
        end = layout.begin(line + layout.blanks_from(line)) if keeps else place
        return [Cut(place, end, self._joined(lines))]

    def remove(self, entries: list[Slot], index: int) -> list[Cut]:
        """Return the cuts that take out an entry of several, with the comments that are its own."""
        entry = entries[index]
        if self.layout.is_compact(entry):
            return [self._remove_compact(entry, entries[1])]
        first, last = self._with_blanks(entries, index)
        return [Cut(self.layout.begin(first), self.layout.begin(last + 1))]

    def empty(self, holder: Slot, spelled: str) -> list[Cut]:
        """Return the cuts that take the only entry out of a collection and leave it empty, `[]` or `{}`."""
        layout = self.layout
        entries = layout.entries(holder)
        entry = entries[0]
        if layout.is_compact(entry):
            return [Cut(entry.start, layout.end(layout.owned_end(entry)), spelled)]
        first, last = layout.owned_begin(entries, 0), layout.owned_end(entry)
        start, end = layout.begin(first), layout.begin(last + 1)
        if holder.column < 0:
            return [Cut(start, end, spelled + self.newline)]
        return [Cut(holder.behind, holder.behind, f" {spelled}"), Cut(start, end)]

    def raw(self, entries: list[Slot], index: int) -> list[str]:
        """Return the lines that an entry owns, the first one indented as if nothing stood before it."""
        layout, entry = self.layout, entries[index]
        last = layout.owned_end(entry)
        if layout.is_compact(entry):
            line = layout.first_line(entry)
            head = " " * entry.column + layout.text[entry.start : layout.end(line)]
            return [head, *(layout.line(below) for below in range(line + 1, last + 1))]
        return [layout.line(line) for line in range(layout.owned_begin(entries, index), last + 1)]

    def _joined(self, lines: list[str]) -> str:
        return "".join(line + self.newline for line in lines)

    def _separated(self, entries: list[Slot], index: int) -> bool:
        """Return whether blank lines separate the entries around `index`."""
        if len(entries) < 2:
            return False
        below = min(max(index, 1), len(entries) - 1)
        above = entries[below - 1]
        start = self.layout.last_line(above) + 1
        return any(self.layout.is_blank(line) for line in range(start, self.layout.first_line(entries[below])))

    def _below_remarks(self, line: int, column: int) -> int:
        """Return the line below comments that stand directly below an entry and have a blank line below."""
        below = line
        while self.layout.is_comment(below) and self.layout.indent(below) == column:
            below += 1
        return below if self.layout.is_blank(below) else line

    def _remove_compact(self, entry: Slot, following: Slot) -> Cut:
        """Return the cut for the first key behind a dash: the next one takes its place, unless comments are between."""
        layout = self.layout
        last = layout.owned_end(entry)
        if all(layout.is_blank(line) for line in range(last + 1, layout.first_line(following))):
            return Cut(entry.start, following.start)
        start = entry.start
        while layout.text[start - 1] in " \t":
            start -= 1
        return Cut(start, layout.end(last))

    def _with_blanks(self, entries: list[Slot], index: int) -> tuple[int, int]:
        """Return the lines to take out with an entry, so that blank lines still separate what they did."""
        layout = self.layout
        first, last = layout.owned_begin(entries, index), layout.owned_end(entries[index])
        floor = layout.floor(entries, index)
        above = min(layout.blanks_above(first), first - floor - 1)
        below = layout.blanks_from(last + 1)
        if index and first - 1 == floor and layout.keeps_blanks(entries[index - 1].node):
            return first, last + below  # they would become part of the text above
        if index == 0 and floor == first - 1 and floor >= 0:
            return first, last + below if len(entries) > 1 else last
        if above and (below or last + 1 >= layout.count):
            return first - above, last
        return first, last
