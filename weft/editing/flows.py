"""Entries put into and taken out of collections in brackets, with their commas, lines and comments."""

from __future__ import annotations

from weft.editing.cuts import Cut
from weft.editing.layout import Layout, Slot
from weft.spelling import BREAK


class Flows:
    """The collections in brackets of one document."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.text = layout, layout.text

    def insert(self, holder: Slot, index: int, spelled: str) -> list[Cut]:
        """Return the cuts that put an entry, as it is spelled, before the entry at `index`."""
        entries = self.layout.entries(holder)
        if not entries:
            return self._into_empty(holder, spelled)
        if index < len(entries):
            return [self._before(holder, entries, index, spelled)]
        return self._behind(holder, entries, spelled)

    def remove(self, holder: Slot, index: int) -> list[Cut]:
        """Return the cuts that take an entry out, with its comma and the comments that are its own."""
        entries = self.layout.entries(holder)
        entry, last = entries[index], index == len(entries) - 1
        comma = self._comma(entry, holder)
        if self._on_own_lines(holder, entries, index):
            cuts = [Cut(self.layout.begin(self._owned_begin(entries, index)), self._line_behind(entry, comma))]
            if last and comma is None and index and (before := self._comma(entries[index - 1], holder)) is not None:
                cuts.append(Cut(before, before + 1))
            return cuts
        if not last and not self._has_comment(self.end(entry), entries[index + 1].start):
            return [Cut(entry.start, entries[index + 1].start)]
        if index and not self._has_comment(self.end(entries[index - 1]), entry.start):
            return [Cut(self.end(entries[index - 1]), self.end(entry))]
        if len(entries) == 1 and not self._has_comment(holder.node.start + 1, entry.start):
            behind = self.end(entry) if comma is None else comma + 1
            close = holder.node.end - 1
            if not self._has_comment(behind, close):
                return [Cut(holder.node.start + 1, close)]
        cuts = [Cut(entry.start, self.end(entry))]
        if comma is not None:
            cuts.append(Cut(comma, comma + 1))
        elif index and (before := self._comma(entries[index - 1], holder)) is not None:
            cuts.append(Cut(before, before + 1))
        return cuts

    def move(self, holder: Slot, index: int, place: int) -> list[Cut] | None:
        """Return the cuts that bring an entry with its lines before the entry at `place`; None if lines are shared."""
        entries = self.layout.entries(holder)
        if not all(self._on_own_lines(holder, entries, number) for number in range(len(entries))):
            return None
        entry, commas = entries[index], [self._comma(each, holder) for each in entries]
        begin = self.layout.begin(self._owned_begin(entries, index))
        behind = self._line_behind(entry, commas[index])
        raw, end, comma = self.text[begin:behind], self.end(entry) - begin, commas[index]
        cuts = [Cut(begin, behind)]
        to_end = place == len(entries)
        if to_end and commas[-1] is None:
            raw = raw if comma is None else raw[: comma - begin] + raw[comma - begin + 1 :]
            cuts.append(Cut(self.end(entries[-1]), self.end(entries[-1]), ","))
        elif comma is None:  # it was the last one
            raw = f"{raw[:end]},{raw[end:]}"
            before = commas[index - 1]
            if before is not None:
                cuts.append(Cut(before, before + 1))
        if to_end:
            target = self._line_behind(entries[-1], commas[-1])
        else:
            target = self.layout.begin(self._owned_begin(entries, place))
        return [*cuts, Cut(target, target, raw)]

    def raw(self, holder: Slot, index: int) -> list[str]:
        """Return an entry as the lines of a block list, with the comments that are its own."""
        layout, entries = self.layout, self.layout.entries(holder)
        entry = entries[index]
        first, *rest = BREAK.split(self.text[entry.start : self.end(entry)] or "null")
        least = min((len(line) - len(line.lstrip(" ")) for line in rest if line.strip()), default=0)
        lines = [f"- {first}", *(f"  {line[least:]}" for line in rest)]
        if self._on_own_lines(holder, entries, index):
            above = range(self._owned_begin(entries, index), layout.line_of(entry.start))
            comma = self._comma(entry, holder)
            behind = self.end(entry) if comma is None else comma + 1
            lines[-1] += self.text[behind : layout.end(layout.line_of(behind))].rstrip()
            lines = [*(layout.line(line).strip() for line in above), *lines]
        return lines

    def end(self, entry: Slot) -> int:
        """Return where an entry ends, its comma left out."""
        is_empty = entry.node.start == entry.node.end
        return entry.behind if is_empty else max(self.layout.content_end(entry.node), entry.behind)

    # -- inserting

    def _into_empty(self, holder: Slot, spelled: str) -> list[Cut]:
        start, close = holder.node.start + 1, holder.node.end - 1
        inner = self.text[start:close]
        if not inner.strip(" \t\r\n"):
            pad = " " if self.text[start - 1] == "{" and inner else ""
            return [Cut(start, close, f"{pad}{spelled}{pad}")]
        line = self.layout.line_of(close)  # comments stand within: the entry comes below them
        indent = max(self.layout.indent(line), 1)
        return [Cut(self.layout.begin(line), self.layout.begin(line), " " * indent + spelled + self.layout.newline)]

    def _before(self, holder: Slot, entries: list[Slot], index: int, spelled: str) -> Cut:
        entry = entries[index]
        if self._on_own_lines(holder, entries, index):
            line = self.layout.begin(self._owned_begin(entries, index))
            margin = self.text[self.layout.begin(self.layout.line_of(entry.start)) : entry.start]
            return Cut(line, line, f"{margin}{spelled},{self.layout.newline}")
        return Cut(entry.start, entry.start, f"{spelled}, ")

    def _behind(self, holder: Slot, entries: list[Slot], spelled: str) -> list[Cut]:
        entry = entries[-1]
        end, comma = self.end(entry), self._comma(entry, holder)
        if not self._on_own_lines(holder, entries, len(entries) - 1):
            return [Cut(end, end, f", {spelled}")] if comma is None else [Cut(comma + 1, comma + 1, f" {spelled},")]
        line = self.layout.line_of(end if comma is None else comma)
        below = self.layout.begin(line + 1)
        margin = self.text[self.layout.begin(self.layout.line_of(entry.start)) : entry.start]
        added = Cut(below, below, f"{margin}{spelled}{',' if comma is not None else ''}{self.layout.newline}")
        return [Cut(end, end, ","), added] if comma is None else [added]

    # -- what stands around an entry

    def _comma(self, entry: Slot, holder: Slot) -> int | None:
        """Return where the comma behind an entry stands, None when there is none."""
        index = self.layout.skip_space(self.end(entry))
        return index if index < holder.node.end - 1 and self.text[index] == "," else None

    def _has_comment(self, start: int, end: int) -> bool:
        return "#" in self.text[start:end]

    def _on_own_lines(self, holder: Slot, entries: list[Slot], index: int) -> bool:
        """Return whether nothing else but comments stands on the lines of an entry."""
        layout, entry = self.layout, entries[index]
        first, last = layout.line_of(entry.start), layout.line_of(self.end(entry))
        before = self.end(entries[index - 1]) if index else holder.node.start
        comma = self._comma(entry, holder)
        behind = entries[index + 1].start if index + 1 < len(entries) else holder.node.end - 1
        return (
            layout.line_of(before) < first
            and (comma is None or layout.line_of(comma) == last)
            and layout.line_of(behind) > last
            and not self.text[layout.begin(first) : entry.start].strip(" \t")
        )

    def _owned_begin(self, entries: list[Slot], index: int) -> int:
        line = self.layout.line_of(entries[index].start)
        while self.layout.is_comment(line - 1):
            line -= 1
        return line

    def _line_behind(self, entry: Slot, comma: int | None) -> int:
        return self.layout.begin(self.layout.line_of(self.end(entry) if comma is None else comma) + 1)
