"""Values written as YAML, in the style of the document that they come into."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from weft import source
from weft.editing.layout import Layout
from weft.editing.meaning import same
from weft.errors import EditRefused, InvalidSource
from weft.source import Node
from weft.types import Json

SHORT = 60
"""How many characters a list of plain values may have to be written in one line."""

_SAFE = re.compile(r"[A-Za-z_/][\w./@+-]*(?: [\w./@+()=-]+)*")
_SAFE_KEY = re.compile(r"[A-Za-z_][\w.-]*(?: [\w.-]+)*")
_OLD_TYPES = re.compile(
    r"(?:yes|no|on|off|true|false|null|=|<<)|[-+]?[0-9][0-9_,]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"
    r"|[-+]?(?:0b[01_]+|0x[0-9a-f_]+|0o?[0-7_]+|[0-9][0-9_]*(?:\.[0-9_]*)?(?:e[-+]?[0-9]+)?)"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*|[-+]?\.(?:inf|nan)",
    re.IGNORECASE | re.DOTALL,
)
"""What a reader of YAML 1.1 would take for something else than text."""
_ESCAPED = re.compile('[\0-\x1f"\\\\\x7f-\x9f\xad\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff\U0001fffe\U0001ffff]')
_ESCAPES = {
    "\0": "\\0", "\a": "\\a", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\v": "\\v", "\f": "\\f", "\r": "\\r",
    "\x1b": "\\e", '"': '\\"', "\\": "\\\\", "\x85": "\\N", "\u2028": "\\L", "\u2029": "\\P",
}  # fmt: skip
_UNWRITABLE = re.compile("[^\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff\t]")


@dataclass(frozen=True, slots=True)
class Written:
    """A value as text: what stands behind the colon or dash, and the lines below."""

    inline: str
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Style:
    """The habits of a document."""

    step: int = 2  #: by how much keys in keys are indented
    dash: int = 2  #: by how much the dashes below a key are
    gap: int = 2  #: from a dash to what it is the dash of
    quote: str = '"'
    flow_lists: bool = True  #: whether lists of plain values are written in brackets
    blocks: bool = True  #: whether texts of several lines are written as such


def style_of(layout: Layout) -> Style:
    """Return the habits of a document, by what most of it does."""
    seen: dict[str, Counter[Any]] = {name: Counter() for name in ("step", "dash", "gap", "quote", "flow_lists")}
    _look(layout, layout.source.root, -1, seen)
    usual = {name: counts.most_common(1)[0][0] for name, counts in seen.items() if counts}
    return Style(**usual)


def _look(layout: Layout, node: Node, column: int, seen: dict[str, Counter[Any]]) -> None:
    """Count the habits of a value; `column` is that of the key that it belongs to, -1 for none."""
    if node.style in ("'", '"'):
        seen["quote"][node.style] += 1
    children = [value for _, value in (node.members or {}).values()] + (node.items or [])
    if not children:
        return
    is_flow = layout.text[node.start] in "[{"
    if node.items and column >= 0 and all(layout.is_scalar(child) for child in children):
        seen["flow_lists"][is_flow] += 1
    if is_flow:
        return
    own = layout.column(node.start)
    if column >= 0:
        seen["dash" if node.items else "step"][own - column] += 1
    for child in node.items or ():
        if child.members and layout.line_of(child.start) == layout.line_of(node.start):
            seen["gap"][layout.column(child.start) - own] += 1
        _look(layout, child, -1, seen)
    for key, child in (node.members or {}).values():
        _look(layout, child, layout.column(key), seen)


class Writer:
    """Writes values in one style."""

    def __init__(self, style: Style) -> None:
        self.style = style

    def spaced(self, gap: int | None) -> Writer:
        """Return a writer that puts other space between dashes and items; None for the same."""
        return self if gap is None else Writer(replace(self.style, gap=gap))

    def value(self, value: Json, column: int, *, dash: bool = False) -> Written:
        """Return a value as it stands behind a key or dash at `column`; -1 for the root."""
        match value:
            case str():
                return self._text(value, column, dash=dash)
            case dict() if value:
                return self._mapping(value, column, dash=dash)
            case list() if value:
                return self._list(value, column, dash=dash)
            case _:
                return Written(self.flow(value))

    def entry(self, key: str, value: Json, column: int) -> list[str]:
        """Return the lines of a key with its value; the first one without its indentation."""
        written = self.value(value, column)
        return [f"{self.key(key)}:{' ' if written.inline else ''}{written.inline}", *written.lines]

    def item(self, value: Json, column: int, gap: int | None = None) -> list[str]:
        """Return the lines of an item; the first one without its indentation."""
        writer = self.spaced(gap)
        written = writer.value(value, column, dash=True)
        return [f"-{' ' * (writer.style.gap - 1)}{written.inline}", *written.lines]

    def flow(self, value: Json) -> str:
        """Return a value in one line, as it may stand in brackets."""
        match value:
            case None:
                return "null"
            case bool():
                return "true" if value else "false"
            case int():
                return _integer(value)
            case float():
                return _number(value)
            case str():
                return value if is_plain(value, in_flow=True) else self.quoted(value)
            case list():
                return f"[{', '.join(self.flow(item) for item in value)}]"
            case dict():
                return "{" + ", ".join(f"{self.key(key)}: {self.flow(item)}" for key, item in value.items()) + "}"

    def key(self, key: str) -> str:
        """Return a key as it is written."""
        if _SAFE_KEY.fullmatch(key) and not _OLD_TYPES.fullmatch(key):
            return key
        if key == "on":  # what starts a workflow; only readers of YAML 1.1 take it for true
            return key
        return self.quoted(key)

    def quoted(self, text: str, quote: str | None = None) -> str:
        """Return a text in quotes, those that are usual here if it can be."""
        quote = quote or self.style.quote
        if _UNWRITABLE.search(text) or "\n" in text or "\t" in text:
            quote = '"'
        elif quote == '"' and ('"' in text or "\\" in text) and "'" not in text:
            quote = "'"
        elif quote == "'" and "'" in text and '"' not in text and "\\" not in text:
            quote = '"'
        return in_quotes(text, quote)

    def _text(self, text: str, column: int, *, dash: bool) -> Written:
        if "\n" in text and self.style.blocks:
            indent = column + (self.style.gap if dash else self.style.step) if column >= 0 else self.style.step
            block = block_text(text, indent, max(column, 0))
            if block is not None:
                return block
        return Written(text if is_plain(text, in_flow=False) else self.quoted(text))

    def _mapping(self, value: dict[str, Json], column: int, *, dash: bool) -> Written:
        own = 0 if column < 0 else column + (self.style.gap if dash else self.style.step)
        lines: list[str] = []
        for key, item in value.items():
            first, *rest = self.entry(key, item, own)
            lines += [" " * own + first, *rest]
        return Written(lines[0].lstrip(" "), lines[1:]) if dash else Written("", lines)

    def _list(self, value: list[Json], column: int, *, dash: bool) -> Written:
        if dash or (self.style.flow_lists and column >= 0):
            line = self.flow(value) if not any(isinstance(item, dict | list) and item for item in value) else ""
            if line and len(line) <= SHORT and "\\n" not in line and "{{" not in line:
                return Written(line)
        own = 0 if column < 0 else column + (self.style.gap if dash else self.style.dash)
        lines: list[str] = []
        for item in value:
            first, *rest = self.item(item, own)
            lines += [" " * own + first, *rest]
        return Written(lines[0].lstrip(" "), lines[1:]) if dash else Written("", lines)


def _integer(value: int) -> str:
    if not -(2**63) <= value < 2**63:
        raise EditRefused("An integer has at most 64 bits.", remedy="Give it as text if it is an identifier.")
    return str(value)


def _number(value: float) -> str:
    if not math.isfinite(value):
        raise EditRefused("A number that is not finite cannot be written.", remedy="Give a finite number.")
    return repr(value)


def in_quotes(text: str, quote: str) -> str:
    """Return a text in quotes of one kind."""
    if quote == "'":
        return "'" + text.replace("'", "''") + "'"
    return '"' + _ESCAPED.sub(lambda found: _escape(found[0]), text) + '"'


def _escape(character: str) -> str:
    if "\ud800" <= character <= "\udfff":
        raise EditRefused("Half of a surrogate pair cannot be written.", remedy="Send whole characters.")
    code = ord(character)
    long = f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"
    return _ESCAPES.get(character) or (f"\\x{code:02X}" if code <= 0xFF else long)


def is_plain(text: str, *, in_flow: bool, loose: bool = False) -> bool:
    """Return whether a text may be written without quotes.

    Args:
        text: The text.
        in_flow: Whether it stands within brackets.
        loose: Take what only other readers of YAML would misread, and templates.
    """
    if not text or "\n" in text or "\t" in text or text != text.strip():  # a tab is more than some readers take
        return False
    if text.count("{{") > text.count("}}"):  # a comment behind it would be taken for one that cuts it off
        return False
    if not loose and ("{{" in text or "{%" in text or _OLD_TYPES.fullmatch(text)):
        return False
    if _SAFE.fullmatch(text) and text.isascii() and not _OLD_TYPES.fullmatch(text):
        return True
    probe = f"[[{text}], {{k: {text}}}]" if in_flow else f"- k: {text}\n- {text}\n-\n  - {text}"
    wanted: Json = [[text], {"k": text}] if in_flow else [{"k": text}, text, [text]]
    return reads_as(probe, wanted)


def reads_as(text: str, value: Json) -> bool:
    """Return whether a document reads as a value."""
    try:
        return same(source.read(text, "text").value, value)
    except InvalidSource:
        return False


def block_text(text: str, indent: int, column: int, indicator: str = "|") -> Written | None:
    """Return a text as a block, `|`; None when it cannot be one, or would change with the blank lines below it.

    Args:
        text: The text.
        indent: The column of its lines.
        column: That of the key or dash above, which an indentation that must be named counts from.
        indicator: `|`; or `>` for a text whose lines are short.
    """
    body = text.removesuffix("\n")
    if not body.strip(" \n\t") or body.endswith("\n") or _UNWRITABLE.search(text):
        return None
    lines = body.split("\n")
    first = next(line for line in lines if line)
    named = str(indent - column) if first[0] in " \t" else ""
    if not lines[-1].strip(" ") or (named and not 1 <= indent - column <= 9):
        return None
    head = f"{indicator}{named}{'' if text.endswith(chr(10)) else '-'}"
    return Written(head, [" " * indent + line if line else "" for line in lines])
