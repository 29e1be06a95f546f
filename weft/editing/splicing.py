"""From an operation on the value to cuts in the text: the source splicer.

It writes what it believes to be right; whether it is, the editor finds out by reading the text again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from weft.editing.blocks import Blocks
from weft.editing.cuts import Cut
from weft.editing.flows import Flows
from weft.editing.layout import Layout, Slot
from weft.editing.scalars import Change, Respelling
from weft.editing.writing import Writer, Written, style_of
from weft.errors import EditRefused
from weft.source import Source
from weft.types import DocumentPath, Json

LONGEST_IN_BRACKETS = 200
"""How many characters a collection may have that stays in brackets when it is written anew."""

_TRAILING = re.compile(r"[ \t]+#[^\r\n]*")


class Splicer:
    """Cuts for the text of one document."""

    def __init__(self, document: Source, *, blocks: bool = True) -> None:
        self.document, self._blocks = document, blocks
        self.layout = Layout(document)
        self.text = self.layout.text
        self.blocks, self.flows = Blocks(self.layout), Flows(self.layout)

    @cached_property
    def writer(self) -> Writer:
        return Writer(replace(style_of(self.layout), blocks=self._blocks))

    # -- one value in the place of another

    def replace(self, path: DocumentPath, new: Json, *, wanted: Sequence[Change] | None = None) -> list[Cut]:
        """Return the cuts that give a value to a place that has one."""
        slot, old = self.layout.slot(path), self._value(path)
        if self.layout.is_scalar(slot.node) and not (isinstance(new, dict | list) and new):
            if isinstance(new, str):
                raw = Respelling(self.layout, slot, old, self.writer).text(new, wanted)
                if raw is not None:
                    return [self._inline(slot, raw)]
            elif slot.node.style not in ("|", ">"):
                return [self._inline(slot, self.writer.flow(new))]
        if slot.in_flow:
            return [self._inline(slot, self.writer.flow(new))]
        if old and new and isinstance(new, dict | list) and self.layout.is_flow(slot.node, in_flow=False):
            spelled = self.writer.flow(new)
            if len(spelled) <= LONGEST_IN_BRACKETS:
                return [self._inline(slot, spelled)]
        return [self.lay(slot, self._written(slot, new))]

    def _written(self, slot: Slot, new: Json) -> Written:
        """Return a value written for a slot in lines; behind a dash, with the space that stands there already."""
        near = slot.dash and self.layout.line_of(slot.node.start) == self.layout.line_of(slot.start)
        gap = slot.node.start - slot.start if near and slot.node.start > slot.behind else None
        return self.writer.spaced(gap).value(new, slot.column, dash=slot.dash)

    def _inline(self, slot: Slot, raw: str) -> Cut:
        """Return the cut that puts a value exactly where the old one stands; the rest of its lines stays."""
        node = slot.node
        if node.start == node.end:
            colon = "" if not slot.in_flow or self.text[slot.behind - 1] == ":" else ":"
            return Cut(slot.behind, slot.behind, f"{colon} {raw}")
        end = self.layout.scalar_end(node) if self.layout.is_scalar(node) else self.layout.content_end(node)
        line = self.layout.line_of(node.start)
        if end > self.layout.end(line) or "\n" in raw or "\r" in raw:
            return Cut(node.start, end, raw)
        rest = self.text[end : self.layout.end(line)]
        comment = _TRAILING.fullmatch(rest)
        if comment is None or not self._is_aligned(line, end + len(rest) - len(rest.lstrip(" \t"))):
            return Cut(node.start, end, raw)
        gap = len(rest) - len(rest.lstrip(" \t"))
        return Cut(node.start, end + gap, raw + " " * max(1, gap - len(raw) + end - node.start))

    def _is_aligned(self, line: int, sign: int) -> bool:
        """Return whether the comment that begins at `sign` stands right below or above another one."""
        column = sign - self.layout.begin(line)
        for other in (line - 1, line + 1):
            text = self.layout.line(other) if 0 <= other < self.layout.count else ""
            if text[column : column + 1] == "#" and text[:column].endswith((" ", "\t")) and text[:column].strip():
                return True
        return False

    def lay(self, slot: Slot, written: Written, *, keeps: bool = False) -> Cut:
        """Return the cut that lays a value out anew; a comment behind its colon or dash stays there.

        With `keeps` it ends in a text with `|+`: blank lines below would become part of it, and go.
        """
        layout, node = self.layout, slot.node
        start, last = slot.behind, layout.owned_end(slot) if slot.column >= 0 else layout.last_line(slot)
        if layout.is_scalar(node) and node.start < node.end:
            start = node.start
            head = start + 1 + len(layout.header(node)) if node.style in ("|", ">") else layout.content_end(node)
            last = layout.line_of(layout.content_end(node))
        elif layout.is_scalar(node):
            head = slot.behind
            last = layout.line_of(head)
        elif layout.is_flow(node, slot.in_flow):
            start, head = node.start, layout.content_end(node)
            last = layout.line_of(head)
        else:
            head = self._head_of_block(slot)
            start = start if layout.line_of(node.start) > layout.line_of(slot.behind) else node.start
        if not written.inline and slot.column >= 0:
            start = slot.behind
        tail = self.text[head : layout.end(layout.line_of(head))].rstrip()
        tail = tail if tail.lstrip().startswith("#") else ""
        if keeps:
            last += layout.blanks_from(last + 1)
        return Cut(start, layout.end(last), self._laid(slot, start, written, tail))

    def _head_of_block(self, slot: Slot) -> int:
        """Return the place behind which a comment on the line of a block collection's holder stands."""
        if self.layout.line_of(slot.node.start) > self.layout.line_of(slot.behind) or slot.column < 0:
            return slot.behind
        first = self.layout.entries(slot)[0]
        while not self.layout.is_scalar(first.node) and not self.layout.is_flow(first.node, first.in_flow):
            if self.layout.line_of(first.node.start) > self.layout.line_of(first.behind):
                return first.behind
            first = self.layout.entries(first)[0]
        end = self.layout.content_end(first.node)
        return end if self.layout.line_of(end) == self.layout.line_of(slot.start) else slot.behind

    def _laid(self, slot: Slot, start: int, written: Written, tail: str) -> str:
        newline = self.layout.newline
        if slot.column < 0:
            alone = not self.text[self.layout.begin(self.layout.line_of(start)) : start].strip()
            lines = [*([written.inline + tail] if written.inline or tail or not alone else []), *written.lines]
            return newline.join(lines)
        space = " " if written.inline and start == slot.behind else ""
        if space and slot.dash:
            space *= self.writer.style.gap - 1
        return newline.join([f"{space}{written.inline}{tail}", *written.lines])

    # -- keys

    def add_keys(self, path: DocumentPath, added: dict[str, Json], after: str | None) -> list[Cut]:
        """Return the cuts that add keys to a mapping, behind the key `after` or at its end."""
        holder = self.layout.slot(path)
        entries = self.layout.entries(holder)
        names = list(holder.node.members or {})
        index = len(entries) if after is None else names.index(after) + 1
        if not entries and not holder.in_flow and not self._has_comment(holder):
            return [self.lay(holder, self._written(holder, added))]
        if self.layout.is_flow(holder.node, holder.in_flow):
            return self._into_flow(
                holder, index, [f"{self.writer.key(k)}: {self.writer.flow(v)}" for k, v in added.items()]
            )
        lines: list[str] = []
        for key, value in added.items():
            first, *rest = self.writer.entry(key, value, entries[0].column)
            lines += [" " * entries[0].column + first, *rest]
        return self.blocks.insert(entries, index, lines)

    def remove(self, path: DocumentPath) -> list[Cut]:
        """Return the cuts that take out a key or an item."""
        holder = self.layout.slot(path[:-1])
        index = self._position(holder, path[-1])
        if self.layout.is_flow(holder.node, holder.in_flow):
            if self._is_pair(holder):
                return [self._inline(holder, "{}")]
            return self.flows.remove(holder, index)
        entries = self.layout.entries(holder)
        if len(entries) == 1:
            return self.blocks.empty(holder, "[]" if holder.node.members is None else "{}")
        return self.blocks.remove(entries, index)

    # -- items

    def insert(self, path: DocumentPath, index: int, items: Sequence[Json]) -> list[Cut]:
        """Return the cuts that put items into a list that there is."""
        holder = self.layout.slot(path)
        entries = self.layout.entries(holder)
        in_brackets = self.layout.is_flow(holder.node, holder.in_flow)
        if in_brackets and (entries or holder.in_flow or self._has_comment(holder) or self._stay_in_brackets(items)):
            return self._into_flow(holder, index, [self.writer.flow(item) for item in items])
        column, gap = self._dash_of(holder, entries)
        lines: list[str] = []
        for item in items:
            first, *rest = self.writer.item(item, column, gap)
            lines += [" " * column + first, *rest]
        return self._insert_lines(holder, entries, index, lines)

    def paste(
        self,
        path: DocumentPath,
        index: int,
        lines: Sequence[str],
        column: int,
        items: Sequence[Json],
        *,
        keeps: bool,
        comments: bool,
    ) -> list[Cut]:
        """Return the cuts that put items into a list as they are written, comments too.

        Args:
            path: The list.
            index: Before which item.
            lines: The items as lines of a block list.
            column: Where their dashes are.
            items: What they mean.
            keeps: Whether they end in a text with `|+`.
            comments: Whether there are comments in them.
        """
        holder = self.layout.slot(path)
        entries = self.layout.entries(holder)
        target, _ = self._dash_of(holder, entries)
        if self.layout.is_flow(holder.node, holder.in_flow) and (
            entries or holder.in_flow or self._has_comment(holder)
        ):
            if not comments:
                return self._into_flow(holder, index, [self.writer.flow(item) for item in items])
            if holder.in_flow or self._has_comment(holder):
                raise EditRefused(
                    "A list in brackets cannot take an item that has comments.", remedy="Write the list with dashes."
                )
            old = [f"{' ' * target}- {self.text[entry.start : self.flows.end(entry)]}" for entry in entries]
            lines = [*old[:index], *shifted(lines, target - column), *old[index:]]
            return [self.lay(holder, Written("", lines), keeps=keeps and index == len(entries))]
        return self._insert_lines(holder, entries, index, shifted(lines, target - column), keeps=keeps)

    def _insert_lines(
        self, holder: Slot, entries: list[Slot], index: int, lines: list[str], *, keeps: bool = False
    ) -> list[Cut]:
        if entries:
            return self.blocks.insert(entries, index, lines, keeps=keeps)
        if holder.dash and not lines[0].lstrip(" ").startswith("#"):
            return [self.lay(holder, Written(lines[0].lstrip(" "), lines[1:]), keeps=keeps)]
        return [self.lay(holder, Written("", lines), keeps=keeps)]

    def _dash_of(self, holder: Slot, entries: list[Slot]) -> tuple[int, int | None]:
        """Return the column for the dashes of a list, and what stands between them and their items."""
        if not entries or self.layout.is_flow(holder.node, holder.in_flow):
            style = self.writer.style
            return (0 if holder.column < 0 else holder.column + (style.gap if holder.dash else style.dash)), None
        for entry in entries:
            if entry.node.start > entry.behind and self.layout.line_of(entry.node.start) == self.layout.line_of(
                entry.start
            ):
                return entry.column, entry.node.start - entry.start
        return entries[0].column, None

    def _stay_in_brackets(self, items: Sequence[Json]) -> bool:
        """Return whether items may be put between the brackets of an empty list."""
        return self.writer.style.flow_lists and not any(
            (isinstance(item, dict | list) and item) or (isinstance(item, str) and ("\n" in item or "{{" in item))
            for item in items
        )

    # -- helpers of several

    def _into_flow(self, holder: Slot, index: int, spelled: list[str]) -> list[Cut]:
        if self._is_pair(holder):
            entries = self.layout.entries(holder)
            old = [self.text[entry.start : self.flows.end(entry)] for entry in entries]
            return [self._inline(holder, "{" + ", ".join([*old[:index], *spelled, *old[index:]]) + "}")]
        return self.flows.insert(holder, index, ", ".join(spelled))

    def _is_pair(self, holder: Slot) -> bool:
        """Return whether a mapping is a pair without braces: `[a: 1]`."""
        return holder.in_flow and self.text[holder.node.start] not in "[{"

    def _has_comment(self, holder: Slot) -> bool:
        """Return whether a comment stands between the brackets of an empty collection."""
        return "#" in self.text[holder.node.start : self.layout.content_end(holder.node)]

    def _position(self, holder: Slot, part: str | int) -> int:
        return part if isinstance(part, int) else list(holder.node.members or {}).index(part)

    def _value(self, path: DocumentPath) -> Json:
        value: Any = self.document.value
        for part in path:
            value = value[part]
        return value  # type: ignore[no-any-return]


def shifted(lines: Sequence[str], by: int) -> list[str]:
    """Return lines with more or less indentation; blank ones stay empty."""
    if by >= 0:
        return [" " * by + line if line else "" for line in lines]
    return [line[min(-by, len(line) - len(line.lstrip(" "))) :] for line in lines]
