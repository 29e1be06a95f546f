"""Items as they are written, with their comments: cut out of one place, or sent by a client, and put into another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weft import source
from weft.editing import meaning
from weft.editing.cuts import Cut
from weft.editing.layout import Layout
from weft.editing.splicing import Splicer
from weft.errors import InvalidSource
from weft.types import DocumentPath, Json


@dataclass(frozen=True, slots=True)
class Pasted:
    """The lines of a block list, and the column of its dashes."""

    lines: list[str]
    column: int
    keeps: bool  #: whether they end in a text with `|+`

    def into(self, splicer: Splicer, path: DocumentPath, index: int, items: Sequence[Json]) -> list[Cut]:
        """Return the cuts that put the items, which mean `items`, into a list.

        Where lines are not wanted, because a text in them would take in what stands below, they are written anew;
        unless they have comments.
        """
        comments = self._has_comments()
        if not splicer.writer.style.blocks and not comments:
            return splicer.insert(path, index, items)
        return splicer.paste(path, index, self.lines, self.column, items, keeps=self.keeps, comments=comments)

    def text(self) -> str:
        """Return the lines as a document, their dashes at the margin."""
        return "".join(line[min(self.column, _indent(line)) :] + "\n" for line in self.lines)

    def _has_comments(self) -> bool:
        try:
            return Layout(source.read(self.text(), "text")).has_comments()
        except InvalidSource:
            return True  # not known


def lifted(splicer: Splicer, path: DocumentPath) -> Pasted:
    """Return an item of a list, with the comments that are its own."""
    layout = splicer.layout
    holder, index = layout.slot(path[:-1]), int(path[-1])
    if layout.is_flow(holder.node, holder.in_flow):
        return Pasted(splicer.flows.raw(holder, index), 0, False)
    entries = layout.entries(holder)
    return Pasted(splicer.blocks.raw(entries, index), entries[index].column, layout.keeps_blanks(entries[index].node))


def sent(text: str) -> Pasted:
    """Return what a client has sent; a text that is the item itself is put behind a dash.

    Raises:
        EditRefused: It cannot be read.
    """
    document = meaning.paste(text)
    layout = Layout(document)
    root = layout.root.node
    first, last = layout.blanks_from(0), layout.count
    while last - 1 > layout.last_line(layout.root) and layout.is_blank(last - 1):
        last -= 1
    lines = [layout.line(line) for line in range(first, last)]
    keeps, margin = layout.keeps_blanks(root), layout.column(root.start)
    if meaning.is_dashed(document):
        return Pasted(lines, margin, keeps)
    lead = layout.line_of(root.start) - first
    above, (begin, *rest) = lines[:lead], lines[lead:]
    below = [f"  {line[min(margin, _indent(line)) :]}" if line.strip() else "" for line in rest]
    return Pasted([*above, f"- {begin[margin:]}", *below], 0, keeps)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
