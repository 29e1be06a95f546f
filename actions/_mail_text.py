"""The text of a mail that is written in Markdown or HTML: what readers without HTML, and screen readers, get."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from html.parser import HTMLParser

from markdown_it.token import Token

DEEPEST_LIST = 8  #: levels of lists that are indented further in text
WIDEST = 100  #: characters of a table whose columns are aligned; a wider one would be broken by the reader

BLOCKS = frozenset(
    re.findall(
        r"\w+",
        "address article aside blockquote caption center dd details div dl dt figcaption figure footer h1 h2 h3 h4 h5 h6"
        " header hr li main nav ol p pre section summary table tbody td tfoot th thead tr ul",
    )
)


def with_aligned_tables(source: str, tokens: Sequence[Token]) -> str:
    """Return Markdown with the columns of its tables below each other: many write them only for the renderer."""
    lines, written = re.split(r"\r\n?|\n", source), 0  # as the reader of Markdown counts them
    result: list[str] = []
    for at, token in enumerate(tokens):
        if token.type != "table_open" or token.level or token.map is None:
            continue
        rows, sides = _cells(tokens, at)
        aligned = _aligned(rows, sides, least=3)
        rule = "|".join(_rule(side, _width(text) + 2) for side, text in zip(sides, aligned[0], strict=True))
        table = [f"| {' | '.join(row)} |" for row in aligned]
        if _width(table[0]) <= WIDEST:
            result += [*lines[written : token.map[0]], table[0], f"|{rule}|", *table[1:]]
            written = token.map[1]
    return "\n".join(result + lines[written:]) if result else source


def _cells(tokens: Sequence[Token], at: int) -> tuple[list[list[str]], list[str]]:
    """Return the cells of the table that begins there, row by row as they are written, and its columns' sides."""
    rows: list[list[str]] = []
    sides: list[str] = []
    while (token := tokens[at]).type != "table_close":
        at += 1
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "th_open":
            sides.append(str(token.attrGet("style") or "").removeprefix("text-align:"))
        elif token.type == "inline":
            rows[-1].append(token.content.replace("|", "\\|"))
    return rows, sides


def _rule(side: str, width: int) -> str:
    """Return the part of the line below a table's head that says where its column stands."""
    left, right = (":" if side in sides else "-" for sides in (("left", "center"), ("right", "center")))
    return left + "-" * (width - 2) + right


def _aligned(rows: Sequence[Sequence[str]], sides: Sequence[str], *, least: int) -> list[list[str]]:
    widths = [max(least, *map(_width, column)) for column in zip(*rows, strict=True)]
    return [[_padded(*cell) for cell in zip(row, widths, sides, strict=True)] for row in rows]


def _padded(text: str, width: int, side: str) -> str:
    room = width - _width(text)
    before = {"right": room, "center": room // 2}.get(side, 0)
    return " " * before + text + " " * (room - before)


def _width(text: str) -> int:
    """Return how many columns a text takes where all letters are equally wide."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text
    )


def text_of(html: str) -> str:
    """Return sanitised HTML as text: paragraphs apart, list items marked, the address behind a link's words."""
    writer = _Writer()
    writer.feed(html)
    writer.close()
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+(?=\n|$)", "", "".join(writer.parts))).strip() + "\n"


class _Writer(HTMLParser):
    """Collects the text of a page while its elements go by."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._links: list[tuple[str, int]] = []  #: address, and where its words begin
        self._tables: list[int] = []  #: where the open ones begin
        self._lists: list[int | None] = []  #: the number of the next item, None where items have none
        self._verbatim = 0
        self._newlines = 2  #: at the end of what is written
        self._after_space = True
        self._after_mark = False  #: an item's first paragraph goes beside its mark

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        match tag:
            case "table":
                self._break(2)
                self._tables.append(len(self.parts))
            case "br":
                self._write("\n")
            case "hr":
                self._break(2)
                self._write("----\n\n")
            case "img":
                self._write(values.get("alt") or "")
            case "a":
                self._links.append((values.get("href") or "", len(self.parts)))
            case "ul" | "ol":
                start = values.get("start") or "1"
                self._break(1 if self._lists else 2)
                self._lists.append(None if tag == "ul" else int(start) if re.fullmatch(r"[0-9]{1,9}", start) else 1)
            case "li":
                self._item()
            case "td" | "th" if not self._newlines:
                self._write("| " if self._after_space else " | ")
            case _ if tag in BLOCKS:
                self._break(_distance(tag))
        self._verbatim += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._links:
            address, start = self._links.pop()
            words = "".join(self.parts[start:]).strip()
            if address and address.removeprefix("mailto:") != words:
                self._write(f" <{address}>")
        elif tag == "table" and self._tables:
            start = self._tables.pop()
            if start >= 0:
                self._align(start)
            self._tables[-1:] = [-1] if self._tables else []  # a table that holds others is there for its layout
            self._break(2)
        elif tag in ("ul", "ol") and self._lists:
            self._lists.pop()
            self._break(1 if self._lists else 2)
        elif tag in BLOCKS:
            self._break(_distance(tag))
        self._verbatim = max(0, self._verbatim - (tag == "pre"))

    def handle_data(self, data: str) -> None:
        words = data if self._verbatim else re.sub(r"[ \t\r\n\f]+", " ", data)
        self._write(words.lstrip(" ") if self._after_space and not self._verbatim else words)

    def _align(self, start: int) -> None:
        """Write a table's rows again, their cells below each other, where each row is one line."""
        rows = [line.split(" | ") for line in "".join(self.parts[start:]).strip("\n").split("\n")]
        if len(rows[0]) > 1 and all(len(row) == len(rows[0]) for row in rows):
            lines = [" | ".join(row).rstrip() for row in _aligned(rows, [""] * len(rows[0]), least=1)]
            if max(map(_width, lines)) <= WIDEST:
                self.parts[start:] = ["\n".join(lines) + "\n"]
                self._newlines = 1

    def _item(self) -> None:
        self._break(1)
        number = self._lists[-1] if self._lists else None
        if number is not None:
            self._lists[-1] = number + 1
        self._write(
            "  " * min(DEEPEST_LIST, max(0, len(self._lists) - 1)) + ("- " if number is None else f"{number}. ")
        )
        self._after_mark = True

    def _write(self, text: str) -> None:
        if text:
            self.parts.append(text)
            trailing = len(text) - len(text.rstrip("\n"))
            self._newlines = trailing + (self._newlines if trailing == len(text) else 0)
            self._after_space = text[-1] in " \n"
            self._after_mark = False

    def _break(self, lines: int) -> None:
        """End the line, and leave `lines - 1` empty ones."""
        if not self._after_mark:
            self._write("\n" * (lines - self._newlines))


def _distance(tag: str) -> int:
    """How many line ends stand between this element and its neighbours."""
    if tag in ("td", "th"):
        return 0
    return 1 if tag in ("dd", "div", "dt", "li", "tbody", "tfoot", "thead", "tr") else 2
