"""Markdown as a flat list of blocks, from which each messenger's own shapes are built.

Messengers read marks of their own in a text: `<!channel>`, `@everyone`, `<@U123>`. Here a text is only ever text: the
words of a block carry no mark, and what makes a message rich stands beside them. A link goes to the web or to a mailbox,
and words that look like another address never hide where it goes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from markdown_it import MarkdownIt
from markdown_it.token import Token

from weft.sdk import ActionError, Where

DEEPEST_LIST = 6  #: levels that are indented further; Slack shows no more than eight
_LINK = re.compile(r"(?i)(?:https?://[^\s<>\"|\\^`{}]+|mailto:[^\s<>\"|\\^`{}]+@[^\s<>\"|\\^`{}]+)")
_OPEN_LINK = re.compile(r"(?i)https?://[^\s<>\"|\\^`{}]*[^\s<>\"|\\^`{}.,;:!?'()*\[\]]")
_LIKE_AN_ADDRESS = re.compile(
    r"(?i)://|\bwww\.|@"
    r"|(?:[\w-]|[^\x00-\x7f])\.[^\W\d_](?:[^\W_]|[^\x00-\x7f])"  # a name of any alphabet
    r"|\b\d{1,3}(?:\.\d{1,3}){3}\b"
)
_LIKE_DOT_AND_SLASH = str.maketrans("。\u2024・\u2044", ".../")
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f]")  # and category Cf
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")

Format = Literal["markdown", "text"]
Kind = Literal["heading", "paragraph", "item", "quote", "code", "table", "rule"]


@dataclass(frozen=True, slots=True)
class Run:
    """Words in one style; nothing in them means anything but itself."""

    text: str
    bold: bool = False
    italic: bool = False
    strike: bool = False
    code: bool = False
    link: str | None = None


Runs = tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a message."""

    kind: Kind
    runs: Runs = ()
    level: int = 0  #: of a heading from 1, of an item from 0
    mark: str | None = None  #: of an item: `•` or `3.`; None for what continues one
    rows: tuple[tuple[Runs, ...], ...] = ()  #: of a table, the first of them its head

    @property
    def text(self) -> str:
        return plain(self.runs)


def refused(message: str, *, field: str, kind: str = "invalid_message", remedy: str | None = None) -> ActionError:
    """Return the error for a message that cannot be sent as it is; nothing has happened yet."""
    return ActionError(message, kind=kind, effect="none", where=Where(field=field), remedy=remedy)


def check_text(text: str, field: str) -> str:
    """Return `text` if it is one that people can read.

    Raises:
        ActionError: It is blank, or holds a control character or half a character.
    """
    if not text.strip():
        raise refused("There is nothing to say: the text is blank.", field=field, remedy="Give it some words.")
    if found := _FORBIDDEN.search(text.replace("\r\n", "\n")):
        raise refused(f"The text has the character U+{ord(found[0]):04X}, which no messenger shows.", field=field)
    return text


def blocks(source: str, form: Format, field: str) -> tuple[Block, ...]:
    """Return what `source` says; as text, every line is a line and no sign has a meaning.

    Raises:
        ActionError: It says nothing, or holds a control character or half a character.
    """
    found = _blocks(check_text(source, field), form)
    if all(block.kind == "rule" for block in found):
        raise refused("There is nothing to say: the text has marks and no words.", field=field)
    return found


def _blocks(source: str, form: Format) -> tuple[Block, ...]:
    if form == "text":
        lines = source.replace("\r\n", "\n").strip("\n")
        return tuple(Block("paragraph", tuple(_linked(Run(part)))) for part in re.split(r"\n{2,}", lines))
    read = _Reader().read(_markdown().parse(source))
    return tuple(block for block in read if block.kind == "rule" or block.rows or block.text.strip())


def plain(runs: Iterable[Run]) -> str:
    """Return the words alone."""
    return "".join(run.text for run in runs)


def outline(found: Sequence[Block]) -> str:
    """Return the whole message as lines of words, for notifications and readers that show no more."""
    return "\n".join(filter(None, map(_line, found)))


def _line(block: Block) -> str:
    if block.kind == "table":
        return table_text(block)
    return f"{block.mark} {block.text}" if block.mark else block.text


def table_text(block: Block) -> str:
    """Return a table with its columns under each other."""
    cells = [[plain(cell).replace("\n", " ") for cell in row] for row in block.rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def pieces(runs: Runs, most: int) -> Iterator[Runs]:
    """Yield the runs in parts of at most `most` characters, cut at a blank where there is one."""
    part: list[Run] = []
    room = most
    for run in runs:
        text = run.text
        while len(text) > room:
            cut = max(text.rfind("\n", 0, room), text.rfind(" ", 0, room)) + 1
            if not cut and part:
                yield tuple(part)
                part, room = [], most
                continue
            cut = cut or room
            yield (*part, replace(run, text=text[:cut]))
            text, part, room = text[cut:], [], most
        if text:
            part.append(replace(run, text=text))
            room -= len(text)
    if part:
        yield tuple(part)


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


class _Reader:
    """Walks Markdown's tokens and keeps what is open around them."""

    def __init__(self) -> None:
        self._lists: list[int | None] = []  #: the number of the next item, None where items have none
        self._mark: str | None = None  #: of an item whose first block has not come yet
        self._quotes = 0
        self._heading = 0
        self._rows: list[list[Runs]] = []
        self._in_table = False

    def read(self, tokens: Sequence[Token]) -> Iterator[Block]:
        for token in tokens:
            self._follow(token)
            if (block := self._made(token)) is not None:
                yield block

    def _follow(self, token: Token) -> None:
        """Note what opens or ends here."""
        match token.type:
            case "bullet_list_open":
                self._lists.append(None)
            case "ordered_list_open":
                start = token.attrGet("start")
                self._lists.append(1 if start is None else int(start))
            case "bullet_list_close" | "ordered_list_close":
                self._lists.pop()
            case "list_item_open":
                self._mark = self._next_mark()
            case "blockquote_open" | "blockquote_close":
                self._quotes += token.nesting
            case "heading_open" | "heading_close":
                self._heading = int(token.tag[1:]) if token.nesting > 0 else 0
            case "table_open" | "table_close":
                self._in_table = token.nesting > 0
            case "tr_open":
                self._rows.append([])

    def _made(self, token: Token) -> Block | None:
        """The block that ends here, if one does."""
        match token.type:
            case "inline" if self._in_table:
                self._rows[-1].append(_runs(token.children or []))
            case "inline":
                return self._block(_runs(token.children or []))
            case "table_close":
                rows, self._rows = tuple(map(tuple, self._rows)), []
                return Block("table", rows=rows)
            case "hr":
                return Block("rule")
            case "fence" | "code_block":
                return Block("code", (Run(token.content.rstrip("\n")),))
        return None

    def _next_mark(self) -> str:
        number = self._lists[-1]
        if number is None:
            return "•"
        self._lists[-1] = number + 1
        return f"{number}."

    def _block(self, runs: Runs) -> Block:
        mark, self._mark = self._mark, None
        if self._lists:
            return Block("item", runs, level=min(len(self._lists) - 1, DEEPEST_LIST), mark=mark)
        if self._heading:
            return Block("heading", runs, level=self._heading)
        return Block("quote" if self._quotes else "paragraph", runs)


def _runs(tokens: Sequence[Token]) -> Runs:
    """The words of one block with their styles; neighbours of one style are one run."""
    found: list[Run] = []
    style = Run("")
    start = 0
    for token in tokens:
        match token.type:
            case "text" | "text_special" if style.link is None:
                found += _linked(replace(style, text=token.content))
            case "text" | "text_special":
                found.append(replace(style, text=token.content))
            case "code_inline":
                found.append(replace(style, text=token.content, code=True))
            case "softbreak" | "hardbreak":  # in a chat, a line is a line
                found.append(replace(style, text="\n"))
            case "strong_open" | "strong_close":
                style = replace(style, bold=token.nesting > 0)
            case "em_open" | "em_close":
                style = replace(style, italic=token.nesting > 0)
            case "s_open" | "s_close":
                style = replace(style, strike=token.nesting > 0)
            case "link_open":
                style, start = replace(style, link=str(token.attrGet("href") or "")), len(found)
            case "link_close":
                found[start:] = _link(found[start:], style.link or "")
                style = replace(style, link=None)
            case "image":
                words = token.content or "picture"
                found += _link([replace(style, text=words)], str(token.attrGet("src") or ""))
    return tuple(_joined(run for run in found if run.text))


def _linked(run: Run) -> Iterator[Run]:
    """The words with every address of the web that stands openly in them as a link."""
    at = 0
    for found in _OPEN_LINK.finditer(run.text):
        yield replace(run, text=run.text[at : found.start()])
        yield replace(run, text=found[0], link=found[0])
        at = found.end()
    yield replace(run, text=run.text[at:])


def _link(words: list[Run], address: str) -> list[Run]:
    """The words of a link, and its address behind them where they could be taken for another one."""
    text = plain(words).strip()
    if not _LINK.fullmatch(address):
        return [replace(run, link=None) for run in words]
    named = [replace(run, link=address) for run in words]
    if not text:
        return [Run(address, link=address)]
    seen = _as_seen(text)
    if _LIKE_AN_ADDRESS.search(seen) and not f"{_bare(address)}/".startswith(f"{_bare(seen)}/"):
        return [*(replace(run, link=None) for run in words), Run(" ("), Run(address, link=address), Run(")")]
    return named


def _as_seen(text: str) -> str:
    """Return what a reader takes a text for: without characters that do not show, and with plain dots and slashes."""
    visible = "".join(sign for sign in unicodedata.normalize("NFKC", text) if unicodedata.category(sign) != "Cf")
    return _UNSEEN.sub("", visible).translate(_LIKE_DOT_AND_SLASH)


def _bare(address: str) -> str:
    return re.sub(r"(?i)^(?:https?://|mailto:)", "", address).rstrip("/")


def _joined(runs: Iterable[Run]) -> Iterator[Run]:
    last: Run | None = None
    for run in runs:
        if last is not None and replace(last, text="") == replace(run, text=""):
            last = replace(last, text=last.text + run.text)
            continue
        if last is not None:
            yield last
        last = run
    if last is not None:
        yield last
