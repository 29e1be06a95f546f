"""A text that changes in its place: its style, its quotes, its folds and the lines that stay the same are kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from weft.editing.aligning import common_ends, opcodes
from weft.editing.layout import Layout, Slot
from weft.editing.writing import Writer, block_text, in_quotes, is_plain, reads_as
from weft.spelling import BLOCK_HEADER, BREAK, character_places
from weft.types import Json

_WORD = re.compile(r"\s+|[^\s]+")


@dataclass(frozen=True, slots=True)
class Change:
    """One piece of a text that becomes another."""

    start: int
    end: int
    text: str


def changes(old: str, new: str) -> list[Change]:
    """Return what changes between two texts, word by word."""
    prefix, suffix = common_ends(old, new)
    start, end = prefix, len(old) - suffix
    while start and not old[start - 1].isspace():  # whole words
        start -= 1
    while end < len(old) and not old[end].isspace():
        end += 1
    before = _WORD.findall(old[start:end])
    after = _WORD.findall(new[start : len(new) - (len(old) - end)])
    places = [start]
    for word in before:
        places.append(places[-1] + len(word))
    return [
        Change(places[i], places[j], "".join(after[k:m]))
        for tag, i, j, k, m in opcodes(before, after)
        if tag != "equal"
    ]


class Respelling:
    """One scalar of a document, and how it is spelled when it becomes another text."""

    def __init__(self, layout: Layout, slot: Slot, old: Json, writer: Writer) -> None:
        self.layout, self.slot, self.old, self.writer = layout, slot, old, writer
        node = slot.node
        self.start, self.end = node.start, layout.scalar_end(node)
        self.style = node.style or ""
        self.raw = layout.text[self.start : self.end]

    def text(self, new: str, wanted: Sequence[Change] | None = None) -> str | None:
        """Return what stands in the place of the old scalar so that it reads as `new`; None when it must be laid out anew.

        Args:
            new: The text.
            wanted: What changes in it, where that is known.
        """
        return next((raw for raw in self._candidates(new, wanted) if self._reads(raw, new)), None)

    def _candidates(self, new: str, wanted: Sequence[Change] | None) -> Iterator[str]:
        in_block = self.style in ("|", ">")
        one_line = not in_block and not BREAK.search(self.raw)
        if in_block and not new.strip(" \n"):
            return  # a block shows nothing of it
        if isinstance(self.old, str) and self.raw:
            if self.style == "|":
                yield from self._block(self.old, new)
            pieces = self._pieces(self.old, wanted if wanted is not None else changes(self.old, new))
            if pieces is not None and (self.style or not one_line or self._is_plain(new)):
                yield pieces
            if self.style == ">":
                yield from self._block(self.old, new)
        if in_block or ("\n" in new and not self.slot.in_flow):
            return  # it is laid out anew
        if self.style == "" and isinstance(self.old, str) and self._is_plain(new):
            yield new
        if self.style in ("'", '"'):
            yield self.writer.quoted(new, self.style)
        yield self.writer.flow(new) if self.slot.in_flow else self._inline(new)

    def _is_plain(self, new: str) -> bool:
        """Return whether a plain text may stay one: what other readers misread only where they do already."""
        old = str(self.old)
        return is_plain(new, in_flow=self.slot.in_flow) or (
            is_plain(old, in_flow=self.slot.in_flow, loose=True)
            and not is_plain(old, in_flow=self.slot.in_flow)
            and is_plain(new, in_flow=self.slot.in_flow, loose=True)
        )

    def _inline(self, new: str) -> str:
        return new if is_plain(new, in_flow=False) else self.writer.quoted(new)

    def _pieces(self, old: str, wanted: Sequence[Change]) -> str | None:
        """Return the scalar with only the characters of `wanted` changed."""
        if self.style == "" and any("\n" in change.text or "\t" in change.text for change in wanted):
            return None
        text = self.layout.text
        places = character_places(text, self.start, self.end, self.style, old)
        if places is None:
            return None
        raw, behind = "", self.start
        for change in wanted:
            start = places[change.start]
            end = self._after(places, change, start)
            raw += text[behind:start] + self._spelled(change.text)
            behind = end
        return raw + text[behind : self.end]

    def _after(self, places: list[int], change: Change, start: int) -> int:
        """Return where the last character of a change ends: a fold or an indentation that follows stays."""
        if change.end == change.start:
            return start
        last = places[change.end - 1]
        if found := BREAK.match(self.layout.text, last):
            return found.end() if change.end == len(places) - 1 else places[change.end]
        return places[change.end] if self.style in ("'", '"') else last + 1

    def _spelled(self, text: str) -> str:
        """Return a piece of text as it is spelled within the scalar."""
        if self.style == "'":
            return text.replace("'", "''")
        if self.style == '"':
            return in_quotes(text, '"')[1:-1]
        return text

    def _block(self, old: str, new: str) -> Iterator[str]:
        """Yield the block with the lines changed that have to; the others stay as they are, spaces too."""
        header = BLOCK_HEADER.match(self.raw)
        if header is None:
            return
        body = self.raw[header.end() :]
        lines = [found[0] for found in re.finditer(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z", body)]
        solid = [line for line in lines if line.strip(" \r\n")]
        if not solid:
            return
        named = re.search("[0-9]", header["indicators"])
        indent = min(len(line) - len(line.lstrip(" ")) for line in solid)
        if named:
            indent = max(self.slot.column, 0) + int(named[0])
        last = max(
            number for number, line in enumerate(lines) if line.strip(" \r\n") or len(line.rstrip("\r\n")) > indent
        )
        written = block_text(new, indent, max(self.slot.column, 0), self.style)
        if written is None and "+" not in header["indicators"]:
            return
        head = self.raw[: header.end()]
        for chomped in dict.fromkeys((header["indicators"], written.inline[1:] if written else header["indicators"])):
            first = (
                head.replace(header["indicators"], chomped, 1)
                if header["indicators"]
                else head[:1] + chomped + head[1:]
            )
            if "+" in chomped:
                yield first + self._lines(old.split("\n")[:-1], lines, new.split("\n")[:-1], indent)
            elif self.style == "|":
                body_old, body_new = old.removesuffix("\n"), new.removesuffix("\n")
                kept = self._lines(body_old.split("\n"), lines[: last + 1], body_new.split("\n"), indent)
                yield first + kept + "".join(lines[last + 1 :])
            elif written is not None:
                folded = [line for text in written.lines for line in (text, "")][:-1]
                yield first + "".join(line + self.layout.newline for line in folded) + "".join(lines[last + 1 :])

    def _lines(self, old: list[str], lines: list[str], new: list[str], indent: int) -> str:
        """Return the lines of a block, those that stay the same spelled as they were."""
        if len(old) != len(lines):
            return "".join((" " * indent + line if line else "") + self.layout.newline for line in new)
        made: list[str] = []
        for tag, i, j, k, m in opcodes(old, new):
            if tag == "equal":
                made += lines[i:j]
            else:
                made += [(" " * indent + line if line else "") + self.layout.newline for line in new[k:m]]
        return "".join(made)

    def _reads(self, raw: str, new: str) -> bool:
        """Return whether the scalar, in a place like its own, reads as the text."""
        if self.slot.in_flow:
            return reads_as(f"[{raw}\n]", [new]) if not BREAK.search(raw) else reads_as(f"- [{raw}\n  ]", [[new]])
        margin = " " * max(self.slot.column, 0)
        ended = raw if raw.endswith(("\n", "\r")) else raw + "\n"
        if self.slot.dash:
            return reads_as(f"{margin}- {ended}", [new])
        if self.slot.column < 0:
            return reads_as(f"--- {ended}", new) if "\n" in ended[:-1] or raw[:1] in "|>" else reads_as(ended, new)
        return reads_as(f"{margin}k: {ended}", {"k": new})
