"""How a document is laid out: which lines belong to which entry, which comments are whose, what stands between.

An *entry* is a key with its value, or an item of a list. In a block collection, one of lines, an entry owns

- its own lines, with the comments that stand on them;
- the comment lines directly above it, without a blank line between;
- the comment lines below it that are indented deeper than the entry itself.

All other comments belong to what is around: those that a blank line separates from the entry below, those at the end of
a list, and the first of a file, its header. They stay where they are whatever happens to entries.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from weft.source import Node, Source
from weft.spelling import BLOCK_HEADER, BREAK
from weft.types import DocumentPath

_SPACE = re.compile(r"(?:[ \t\r\n]|(?:(?<=[ \t\r\n])|(?<![\s\S]))#[^\r\n]*)*")
_QUOTED_KEY = re.compile(r"""'(?:[^']|'')*'|"(?:[^"\\]|\\[\s\S])*\"""")
_COLON = re.compile(r":(?=[\s,\[\]{}]|\Z)")
_EXPLICIT = re.compile(r"\?[ \t]+\Z")


@dataclass(frozen=True, slots=True)
class Slot:
    """An entry, or the root: a value and the place that it has, which a new value has to fit in."""

    node: Node
    path: DocumentPath
    start: int  #: of the key, the `?` before it, or the dash; in brackets, of the item; of the root, of its value
    behind: int  #: behind the colon or dash; where there is none, the start
    column: int  #: of `start`; -1 for the root
    in_flow: bool = False  #: whether it stands within [ ] or { }
    dash: bool = False  #: whether it is an item of a block list


class Layout:
    """The lines and entries of a document. All indexes are those of `text`, whose last line is always ended."""

    def __init__(self, source: Source) -> None:
        self.source = source
        first = BREAK.search(source.text)
        self.newline = first[0] if first else "\n"
        self.closed = source.text.endswith(("\n", "\r"))
        self.text = source.text if self.closed else source.text + self.newline
        self._starts = [0, *(found.end() for found in BREAK.finditer(self.text))]

    # -- lines, counted from 0

    @property
    def count(self) -> int:
        """How many lines there are."""
        return len(self._starts) - 1

    def line_of(self, index: int) -> int:
        return bisect_right(self._starts, index) - 1

    def begin(self, line: int) -> int:
        """Return where a line begins; of the line behind the last one, where the text ends."""
        return self._starts[line]

    def column(self, index: int) -> int:
        return index - self._starts[self.line_of(index)]

    def line(self, line: int) -> str:
        """Return a line without its end."""
        return self.text[self._starts[line] : self._starts[line + 1]].rstrip("\r\n")

    def end(self, line: int) -> int:
        """Return where a line's text ends, its break left out."""
        return self._starts[line] + len(self.line(line))

    def is_blank(self, line: int) -> bool:
        return 0 <= line < self.count and not self.line(line).strip(" \t")

    def is_comment(self, line: int) -> bool:
        return 0 <= line < self.count and self.line(line).lstrip(" \t").startswith("#")

    def indent(self, line: int) -> int:
        text = self.line(line)
        return len(text) - len(text.lstrip(" \t"))

    # -- values

    def is_scalar(self, node: Node) -> bool:
        return node.members is None and node.items is None

    def is_flow(self, node: Node, in_flow: bool) -> bool:
        """Return whether a collection is one with brackets, or a pair within them."""
        return in_flow or self.text[node.start] in "[{"

    def scalar_end(self, node: Node) -> int:
        """Return where a scalar ends; a block text with the blank lines below it."""
        end = min(node.end, len(self.text))
        return end + 1 if self.text[end - 1 : end + 1] == "\r\n" else end

    def content_end(self, node: Node) -> int:
        """Return where the last line of a value ends in which something of it stands, comments left out."""
        while (last := self._last(node)) is not None:
            node = last
        if node.style in ("|", ">") and self.text[node.start : node.start + 1] == node.style:
            return self._block_end(node)
        return min(node.end, len(self.text))

    def _last(self, node: Node) -> Node | None:
        """Return the last value of a block collection, or of a pair without braces."""
        if self.text[node.start : node.start + 1] in ("[", "{") and not self.is_scalar(node):
            return None
        if node.members:
            return next(reversed(node.members.values()))[1]
        return node.items[-1] if node.items else None

    def _block_end(self, node: Node) -> int:
        first = self.line_of(node.start) + 1
        last = self.line_of(max(min(node.end, len(self.text)) - 1, node.start))
        if "+" not in self.header(node):
            solid = [self.indent(line) for line in range(first, last + 1) if not self.is_blank(line)]
            indent = min(solid, default=0)
            while last >= first and self.is_blank(last) and (not solid or len(self.line(last)) <= indent):
                last -= 1
        return self.end(last)

    def header(self, node: Node) -> str:
        """Return the indicators in the header of a block text."""
        found = BLOCK_HEADER.match(self.text, node.start)
        return found["indicators"] if found else ""

    def keeps_blanks(self, node: Node) -> bool:
        """Return whether blank lines below the value would be read as part of it: it ends in a text with `|+`."""
        while (last := self._last(node)) is not None:
            node = last
        return node.style in ("|", ">") and "+" in self.header(node)

    # -- slots and entries

    @cached_property
    def root(self) -> Slot:
        start = self.source.root.start
        return Slot(self.source.root, (), start, start, -1)

    def slot(self, path: DocumentPath) -> Slot:
        """Return the slot at a path that exists."""
        slot = self.root
        for part in path:
            slot = self._child(slot, part)
        return slot

    def entries(self, slot: Slot) -> list[Slot]:
        """Return the entries of a collection, in the order of the text."""
        node = slot.node
        if node.members is not None:
            return [self._child(slot, key) for key in node.members]
        return [self._child(slot, index) for index in range(len(node.items or ()))]

    def _child(self, slot: Slot, part: str | int) -> Slot:
        node, path = slot.node, (*slot.path, part)
        in_flow = self.is_flow(node, slot.in_flow)
        if isinstance(part, str):
            key, value = (node.members or {})[part]
            start = self._with_question_mark(key)
            return Slot(value, path, start, self._behind_colon(key, part, value), self.column(start), in_flow)
        items = node.items or ()
        value = items[part]
        if in_flow:
            return Slot(value, path, value.start, value.start, self.column(value.start), in_flow)
        dash = node.start if part == 0 else self.skip_space(items[part - 1].end)
        return Slot(value, path, dash, dash + 1, self.column(dash), dash=True)

    def skip_space(self, index: int) -> int:
        """Return the first character from `index` on that is neither white space nor in a comment."""
        found = _SPACE.match(self.text, index)
        return found.end() if found else index

    def _behind_colon(self, key: int, name: str, value: Node) -> int:
        """Return the index behind a key's colon, or behind the key when it has none: `{a}`."""
        quoted = _QUOTED_KEY.match(self.text, key)
        begin = quoted.end() if quoted else key
        if quoted and (found := re.compile(r"\s*:").match(self.text, begin)):
            return found.end()
        found = _COLON.search(self.text, begin, max(value.start, begin) + 1)
        return found.end() if found else begin + (0 if quoted else len(name))

    def _with_question_mark(self, key: int) -> int:
        found = _EXPLICIT.search(self.text, self._starts[self.line_of(key)], key)
        return found.start() if found else key

    # -- what belongs to an entry of a block collection

    def first_line(self, entry: Slot) -> int:
        return self.line_of(entry.start)

    def is_compact(self, entry: Slot) -> bool:
        """Return whether something else stands before the entry on its line: `- - a`, `- id: a`."""
        return bool(self.text[self.begin(self.first_line(entry)) : entry.start].strip(" \t"))

    def last_line(self, entry: Slot) -> int:
        """Return the last line on which something of the entry's value stands."""
        return self.line_of(max(self.content_end(entry.node), entry.behind, entry.start))

    def owned_end(self, entry: Slot) -> int:
        """Return the last line that an entry owns: the comments below it that are indented deeper are its own."""
        last = line = self.last_line(entry)
        column = self.column(entry.start)
        while self.is_comment(line + 1) and self.indent(line + 1) > column:
            line += 1
            last = line
        while True:
            while self.is_blank(line + 1):
                line += 1
            if not (self.is_comment(line + 1) and self.indent(line + 1) > column):
                return last
            while self.is_comment(line + 1) and self.indent(line + 1) > column:
                line += 1
            if line + 1 < self.count and not self.is_blank(line + 1):  # it is about what stands below
                return last
            last = line

    def owned_begin(self, entries: list[Slot], index: int) -> int:
        """Return the first line that an entry owns: the comments directly above it are its own."""
        entry = entries[index]
        line = first = self.first_line(entry)
        floor = self.floor(entries, index)
        while line - 1 > floor and self.is_comment(line - 1):
            line -= 1
        if line - 1 == floor and entry.path[:-1] == () and index == 0:  # the header of the file
            return first
        return line

    def floor(self, entries: list[Slot], index: int) -> int:
        """Return the last line above an entry that belongs to something else."""
        if index:
            return self.owned_end(entries[index - 1])
        line = self.first_line(entries[0]) - 1
        while self.is_blank(line) or self.is_comment(line):
            line -= 1
        return line

    def blanks_above(self, line: int) -> int:
        """Return how many blank lines stand directly above a line."""
        count = 0
        while self.is_blank(line - 1 - count):
            count += 1
        return count

    def blanks_from(self, line: int) -> int:
        """Return how many blank lines begin with a line."""
        count = 0
        while self.is_blank(line + count):
            count += 1
        return count

    def has_comments(self) -> bool:
        """Return whether a comment stands anywhere in the document."""
        behind, between = 0, ""
        for leaf in sorted(_leaves(self.source.root), key=lambda node: node.start):
            if leaf.style in ("|", ">"):
                between += (
                    self.text[behind : leaf.start] + self.line(self.line_of(leaf.start))[self.column(leaf.start) :]
                )
            else:
                between += self.text[behind : leaf.start] + "_"
            behind = max(behind, self.scalar_end(leaf))
        between += self.text[behind:]
        return re.search(r"(?:\A|\s)#", _QUOTED_KEY.sub("_", between)) is not None


def _leaves(node: Node) -> Iterator[Node]:
    children = [value for _, value in (node.members or {}).values()] + (node.items or [])
    if node.members is None and node.items is None:
        yield node
    for child in children:
        yield from _leaves(child)
