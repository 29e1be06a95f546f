"""The one reader of YAML documents: YAML 1.2 core, no more of it than JSON can say, every place remembered.

libyaml delivers events; scalars are resolved here, by the core schema of YAML 1.2.2 chapter 10.3, because PyYAML's own
resolver speaks YAML 1.1 (`no` is false, `22:30` is 1350). What could surprise or harm is refused before a value is built:
anchors, aliases, tags, merge keys, duplicate keys, keys that are not text, further documents, whatever is too deep, too
long or too large. Where libyaml takes what YAML 1.2 forbids, the checks at the end of this module refuse it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from yaml import cyaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)
from yaml.parser import Parser
from yaml.reader import Reader as CharacterReader
from yaml.scanner import Scanner

from weft.errors import InvalidSource, Problem, Where
from weft.lines import Lines
from weft.spelling import BLOCK_HEADER, character_places
from weft.types import DocumentPath, Json
from weft.wording import shown
from weft.yaml_faults import SYNTAX, TAB, Fault, explain, unquoted_template

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_EVENTS = 50_000
MAX_PROBLEMS = 20

_FOREIGN = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER = re.compile(
    r"(?P<integer>[-+]?[0-9]+)|0o(?P<octal>[0-7]+)|0x(?P<hexadecimal>[0-9a-fA-F]+)"
    r"|(?P<float>[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)"
    r"|(?P<special>[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))"
)
_NUMBER_START = frozenset("+-.0123456789")


@dataclass(slots=True)
class Node:
    """Where one value stands: indexes of characters in the text; children as in the value."""

    start: int
    end: int
    style: str | None = None  #: of a scalar: None or "" for plain, `'`, `"`, `|`, `>`
    members: dict[str, tuple[int, Node]] | None = None  #: of a mapping: key → (index of the key, value)
    items: list[Node] | None = None  #: of a sequence


@dataclass(frozen=True)
class Source:
    """A document that was read: its text, its value, and the place of everything in it."""

    file: str
    text: str = field(repr=False)
    value: Json = field(repr=False)
    warnings: tuple[Problem, ...] = ()
    mark: str = field(repr=False, default="")  #: the byte order mark that stood before the text, if one did
    _root: Node = field(repr=False, default_factory=lambda: Node(0, 0))

    @property
    def content(self) -> str:
        """The whole document as it is written: its text, behind the byte order mark if it has one."""
        return self.mark + self.text

    @property
    def root(self) -> Node:
        """Where the whole value stands; not to be changed."""
        return self._root

    def where(self, path: DocumentPath, key: bool = False) -> Where:
        """Return the place of the value at `path`, or of its key; of the nearest ancestor if there is no such value.

        A value that is left empty stands where its key does.
        """
        found, key_start, node = self._find(path)
        key = key or node.start == node.end  # nothing stands after the colon
        return self._place(key_start if key and found and key_start is not None else node.start)

    def locate(self, path: DocumentPath, offset: int) -> Where:
        """Return the place in the file of character `offset` of the text at `path`, whatever its style and escapes."""
        found, _, node = self._find(path)
        value = self.value
        for part in path if found else ():
            value = value[part]  # type: ignore[index]
        if not found or not isinstance(value, str):
            return self._place(node.start)
        places = character_places(_closed(self.text), node.start, node.end, node.style or "", value)
        if places is None:
            return self._place(node.start)
        return self._place(places[min(max(offset, 0), len(value))])

    def line(self, number: int) -> str:
        """Return the text of a line, counted from 1, without its end."""
        return self._lines.line(number)

    def place(self, index: int) -> Where:
        """Return the place of the character at `index` of the whole text."""
        return self._place(index)

    @cached_property
    def _lines(self) -> Lines:
        return Lines(self.text)

    def _place(self, index: int) -> Where:
        line, column = self._lines.place(index)
        return Where(self.file, line, column)

    def copy(self) -> Source:
        """Return a copy whose value can be changed, and whose keys can be renamed, without touching this one."""
        return replace(self, value=copy.deepcopy(self.value), _root=copy.deepcopy(self._root))

    def rename(self, path: DocumentPath, name: str) -> None:
        """Call the key at `path` by another name, in its place; of a copy only."""
        holder: Any = self.value
        for part in path[:-1]:
            holder = holder[part]
        found, _, node = self._find(path[:-1])
        old = str(path[-1])
        holder[name] = holder.pop(old)
        if found and node.members:
            node.members[name] = node.members.pop(old)

    def _find(self, path: DocumentPath) -> tuple[bool, int | None, Node]:
        """Return whether there is a value at `path`, the start of its key, and its node or that of an ancestor."""
        node, key_start = self._root, None
        for part in path:
            if isinstance(part, str) and node.members and part in node.members:
                key_start, node = node.members[part]
            elif isinstance(part, int) and node.items and 0 <= part < len(node.items):
                key_start, node = None, node.items[part]
            else:
                return False, key_start, node
        return True, key_start, node


def read(text: str | bytes, file: str) -> Source:
    """Read a YAML document.

    Args:
        text: The document; bytes must be UTF-8, with or without a byte order mark.
        file: The name that messages give as its place.

    Raises:
        InvalidSource: It is not the YAML that Weft reads; carries up to 20 problems.
    """
    decoded, mark = _decoded(text, file)
    found = _Reader(decoded, file).read()
    return replace(found, mark=mark) if mark else found


def read_file(path: Path) -> Source:
    """Read a YAML document from a file.

    Raises:
        InvalidSource: The file cannot be read, or `read` refuses its content.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 4)
    except OSError as error:
        raise InvalidSource(
            f"The file cannot be read: {error.strerror or type(error).__name__}.",
            remedy="Check its path and its permissions.",
            where=Where(str(path)),
            code="unreadable_file",
        ) from None
    return read(content, str(path))


def _decoded(text: str | bytes, file: str) -> tuple[str, str]:
    """Return the document as text, its size and characters checked, and the byte order mark that stood before it."""
    if len(text) <= MAX_BYTES + 3 and isinstance(text, bytes):
        text = _from_utf8(text, file)
    if isinstance(text, bytes) or len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise InvalidSource(
            f"The document is larger than {MAX_BYTES:,} bytes.",
            remedy="Move long texts into inputs or artifacts, or split the workflow.",
            where=Where(file, 1, 1),
            code="too_large",
        )
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    text = text.removeprefix(mark)
    if foreign := _FOREIGN.search(text):
        _refuse_character(text, foreign.start(), file)
    return text, mark


def _from_utf8(content: bytes, file: str) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:4]:
        raise InvalidSource(
            "The document is encoded in UTF-16 or UTF-32; only UTF-8 is read.",
            remedy="Save it as UTF-8.",
            where=Where(file, 1, 1),
            code="encoding",
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8").removeprefix("\ufeff")
        line, column = Lines(before).place(len(before))
        raise InvalidSource(
            f"Byte 0x{content[error.start]:02X} is not UTF-8.",
            remedy="Save the document as UTF-8.",
            where=Where(file, line, column),
            code="encoding",
        ) from None


_CHARACTERS = {
    "\x85": ("a 'next line' character", "\\N"),
    "\u2028": ("a line separator", "\\L"),
    "\u2029": ("a paragraph separator", "\\P"),
    "\ufeff": ("a byte order mark inside the text", "\\uFEFF"),
}


def _refuse_character(text: str, index: int, file: str) -> None:
    character = text[index]
    name, escape = _CHARACTERS.get(character, ("a control character", f"\\x{ord(character):02X}"))
    if "\ud800" <= character <= "\udfff":
        name, escape = "half of a surrogate pair", ""
    elif character > "\uffef":
        name, escape = "not a character", ""
    line, column = Lines(text).place(index)
    raise InvalidSource(
        f"U+{ord(character):04X} is {name}; it cannot stand in a document.",
        remedy="Delete it" + (f", or write {escape} inside double quotes." if escape else "."),
        where=Where(file, line, column),
        code="character",
    )


def _closed(text: str) -> str:
    """Return the text with its last line ended: the end of a file ends a line too (YAML 1.2.2, 5.4)."""
    return text if text.endswith(("\n", "\r")) else text + "\n"


_Event: TypeAlias = Any
"""An event of PyYAML; its type says that marks may be missing, which they are not when a text is parsed."""


class _PythonParser(CharacterReader, Scanner, Parser):
    """PyYAML's own parser, for installations without libyaml: the same events, about thirty times slower."""

    def __init__(self, text: str) -> None:
        CharacterReader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)


def _event_source(text: str) -> Callable[[], _Event]:
    parser: Any = vars(cyaml)["CParser"](text) if yaml.__with_libyaml__ else _PythonParser(text)
    get_event: Callable[[], _Event] = parser.get_event
    return get_event


class _Stop(Exception):
    """Nothing useful can be read after the problem that was just noted."""


class _Reader:
    """Turns one document's events into a value and its places, and notes what it must refuse."""

    def __init__(self, text: str, file: str) -> None:
        self.original = text
        self.text = _closed(text)
        self.file = file
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.events = 0
        self.end = 0  # of the last event; what stands before the next one is white space, comments and indicators
        self.blocks: list[int] = [-1]  # indentation of the open block collections
        self.flow = 0  # number of open flow collections
        self.next_event = _event_source(self.text)

    # -- the document

    def read(self) -> Source:
        value: Json = None
        root: Node | None = None
        try:
            value, root = self.document()
        except _Stop:
            pass
        except yaml.MarkedYAMLError as error:
            self.tell(explain(error, self.lines, in_flow=self.flow > 0))
        except ValueError:  # PyYAML's answer to the escape of a character beyond Unicode
            message, remedy = SYNTAX["found invalid Unicode character escape code"]
            self.problems.append(Problem("syntax", message, remedy, self.where(self.end)))
        if root is None and not self.problems:
            self.problems.append(
                Problem("empty_document", "The document is empty.", "Write at least one key.", self.where(0))
            )
        if root is None or self.problems:
            raise InvalidSource(problems=self.problems)
        return Source(self.file, self.original, value, tuple(self.warnings), "", root)

    def document(self) -> tuple[Json, Node | None]:
        self.next()
        event = self.next()
        if isinstance(event, StreamEndEvent):
            return None, None
        self.directives(event)
        value, node = self.value(self.next())
        self.next()
        event = self.next()  # after the end of the document
        start = event.start_mark.index
        if isinstance(event, DocumentStartEvent):
            self.note(
                "second_document",
                start,
                "A second document begins here; a file holds one.",
                "Move it into a file of its own, or delete the line '---'.",
            )
        return value, node

    def directives(self, event: _Event) -> None:
        if found := _DIRECTIVE.search(self.text, 0, event.end_mark.index):
            remedy = "Delete the line that begins with '%'."
            self.note("directive", found.start(), "Directives are not read, except '%YAML 1.2'.", remedy)

    def next(self) -> _Event:
        event = self.next_event()
        self.events += 1
        start = event.start_mark.index
        if self.events > MAX_EVENTS:
            message = f"The document has more than {MAX_EVENTS:,} elements."
            self.stop("too_large", start, message, "Split it into several.")
        if self.text.find("#", self.end, start) >= 0:
            self.check_comments(start)
        if (
            self.flow and start > self.end and self.text[start - 1] == "?"
        ):  # YAML 1.2 reads `{?a: 1}` as the key `?a`, libyaml as `a`
            self.note("syntax", start - 1, "A '?' touches what follows it.", "Put the text in quotes.")
        self.end = max(self.end, event.end_mark.index)
        return event

    # -- values

    def value(self, event: _Event) -> tuple[Json, Node]:
        """Return the value that begins with `event`, and its places. Depth is bounded, so recursion is safe."""
        start, end = event.start_mark.index, event.end_mark.index
        if isinstance(event, ScalarEvent):
            return self.scalar(event), Node(start, end, event.style)
        if isinstance(event, AliasEvent):
            self.note("alias", start, f"'*{event.anchor}' is an alias; aliases are refused.", "Write the value again.")
            return None, Node(start, end)
        self.enter(event)
        node: Node
        value, node = self.mapping(event) if isinstance(event, MappingStartEvent) else self.sequence(event)
        node.end = self.end
        if event.flow_style:
            self.flow -= 1
            self.check_flow(node.start, self.end)
        else:
            self.blocks.pop()
        return value, node

    def enter(self, event: _Event) -> None:
        start = event.start_mark.index
        self.check_properties(event)
        if event.flow_style:
            if self.text.startswith(("{{", "{%"), start):
                self.unquoted_template(start)
            self.flow += 1
        else:
            self.blocks.append(event.start_mark.column)
        if len(self.blocks) - 1 + self.flow > MAX_DEPTH:
            self.stop(
                "too_deep", start, f"Values are nested more than {MAX_DEPTH} deep.", "Make the structure flatter."
            )

    def sequence(self, event: _Event) -> tuple[Json, Node]:
        values: list[Json] = []
        items: list[Node] = []
        node = Node(event.start_mark.index, event.end_mark.index, items=items)
        while not isinstance(item := self.next(), SequenceEndEvent):
            value, place = self.value(item)
            values.append(value)
            items.append(place)
        return values, node

    def mapping(self, event: _Event) -> tuple[Json, Node]:
        values: dict[str, Json] = {}
        members: dict[str, tuple[int, Node]] = {}
        node = Node(event.start_mark.index, event.end_mark.index, members=members)
        while not isinstance(item := self.next(), MappingEndEvent):
            key = self.key(item)
            value, place = self.value(self.next())
            if key is None:
                continue
            if key in members:
                self.duplicate(key, members[key][0], item.start_mark.index)
                continue
            values[key] = value
            members[key] = (item.start_mark.index, place)
        return values, node

    def key(self, event: _Event) -> str | None:
        """Return a key's text, or None when it is refused."""
        start = event.start_mark.index
        if not isinstance(event, ScalarEvent):
            problems = len(self.problems)
            self.value(event)
            if len(self.problems) == problems:
                self.note("key", start, "A list or mapping cannot be a key.", "Write the key as text.")
            return None
        if event.style is None or event.style == "":
            if event.value == "<<":
                self.note(
                    "merge_key",
                    start,
                    "'<<' is a merge key; merge keys are refused.",
                    "Write the keys themselves; a key of that name goes in quotes.",
                )
                return None
            if event.value in _WORDS or (event.value[0] in _NUMBER_START and _NUMBER.fullmatch(event.value)):
                what = f"The key {event.value} is not text" if event.value else "The key is empty"
                remedy = f"Write it in quotes: '{event.value}'." if event.value else "Write the key before the colon."
                self.note("key", start, f"{what}; keys are text.", remedy)
                return None
        self.check_scalar(event)
        return event.value

    def scalar(self, event: _Event) -> Json:
        text: str = event.value
        if event.style:
            self.check_scalar(event)
            return text
        if event.anchor is not None or event.tag is not None:
            self.check_properties(event)
            return None
        if text in _WORDS:
            return _WORDS[text]
        if text[0] in _NUMBER_START and (number := _NUMBER.fullmatch(text)):
            return self.number(text, number, event.start_mark.index)
        self.check_plain(event)
        return text

    def number(self, text: str, found: re.Match[str], start: int) -> Json:
        match found.lastgroup:
            case "integer":
                return self.integer(text, start)
            case "octal" | "hexadecimal":
                digits, base = found[found.lastgroup], 8 if found.lastgroup == "octal" else 16
                return self.integer(str(int(digits, base)), start) if len(digits) <= 64 else self.too_big(text, start)
            case "float":
                return self.float(text, start)
        self.note(
            "number", start, f"{text} is not a number that JSON knows.", f"Write a finite number, or '{text}' as text."
        )
        return None

    def integer(self, text: str, start: int) -> Json:
        digits = text.lstrip("+-")
        if len(digits) > 1 and digits[0] == "0":
            octal = f", {text.replace(digits, '0o' + (digits.lstrip('0') or '0'))} for an octal number"
            self.note(
                "number",
                start,
                f"{shown(text)} begins with 0: it could be text, or an octal number.",
                f"Write '{text}' in quotes for text{octal if set(digits) <= set('01234567') else ''}, "
                f"or leave the leading zeros out."
                if len(text) <= 20
                else "Write it in quotes.",
            )
            return None
        if len(digits) > 19 or not -(2**63) <= (value := int(text)) < 2**63:
            return self.too_big(text, start)
        return value

    def too_big(self, text: str, start: int) -> Json:
        self.note(
            "number",
            start,
            f"{shown(text)[1:-1]} has {len(text)} characters: integers have at most 64 bits.",
            "Write it in quotes if it is an identifier.",
        )
        return None

    def float(self, text: str, start: int) -> Json:
        value = float(text)
        if value in (float("inf"), float("-inf")):
            self.note(
                "number", start, f"{shown(text)[1:-1]} is too large for a number.", "Write it in quotes for text."
            )
            return None
        mantissa = re.split("[eE]", text)[0]
        fraction = mantissa.partition(".")[2]
        if (len(fraction) > 1 and fraction.endswith("0")) or len(mantissa.strip("+-0").replace(".", "")) > 17:
            self.warnings.append(
                Problem(
                    "number_loses_digits",
                    f"{shown(text)[1:-1]} is read as the number {value!r}: digits are lost.",
                    f"Quote it if it is text, such as a version: '{text}'." if len(text) <= 20 else "Quote it.",
                    self.where(start),
                    "warning",
                )
            )
        return value

    # -- refusals

    def where(self, index: int) -> Where:
        line, column = self.lines.place(index)
        return Where(self.file, line, column)

    @cached_property
    def lines(self) -> Lines:
        return Lines(self.text)

    def note(self, code: str, index: int, message: str, remedy: str | None) -> None:
        self.problems.append(Problem(code, message, remedy, self.where(index)))
        if len(self.problems) >= MAX_PROBLEMS:
            raise _Stop

    def stop(self, code: str, index: int, message: str, remedy: str | None) -> None:
        self.note(code, index, message, remedy)
        raise _Stop

    def duplicate(self, key: str, first: int, second: int) -> None:
        lines = (self.where(first).line, self.where(second).line)
        places = f"in lines {lines[0]} and {lines[1]}" if lines[0] != lines[1] else f"in line {lines[0]}"
        self.note("duplicate_key", second, f"The key {shown(key)} stands twice, {places}.", "Delete one of them.")

    def unquoted_template(self, start: int) -> None:
        self.tell(unquoted_template(self.lines, start, in_flow=self.flow > 0))
        raise _Stop

    def tell(self, fault: Fault) -> None:
        self.problems.append(Problem(fault.code, fault.message, fault.remedy, self.where(fault.index)))

    # -- what libyaml lets pass

    def check_properties(self, event: _Event) -> None:
        start = event.start_mark.index
        if event.anchor is not None:
            self.note(
                "anchor",
                start,
                f"'&{event.anchor}' is an anchor; anchors are refused.",
                "Write the value where it is used.",
            )
        if event.tag is not None:
            self.note("tag", start, f"{shown(event.tag)[1:-1]} is a tag; tags are refused.", "Delete the tag.")

    def check_scalar(self, event: _Event) -> None:
        """Check a scalar in quotes or a block, or one that is a key."""
        self.check_properties(event)
        start, end = event.start_mark.index, event.end_mark.index
        if event.style in ("|", ">"):
            self.check_block(start)
        elif event.style:
            self.check_flow(start, end)
            if not event.value.isascii() and _HALF.search(event.value):  # libyaml refuses them, PyYAML does not
                message, remedy = SYNTAX["found invalid Unicode character escape code"]
                self.note("syntax", start, message, remedy)
        else:
            self.check_plain(event)

    def check_plain(self, event: _Event) -> None:
        """Refuse a lone dash, which YAML allows nowhere, and a template that a comment cuts off."""
        text, end = event.value, event.end_mark.index
        if text == "-":
            self.note("syntax", event.start_mark.index, "A lone '-' is no value.", "Write it in quotes.")
        if "{{" in text and text.count("{{") > text.count("}}") and self.text.startswith("#", self.after_space(end)):
            self.unquoted_template(event.start_mark.index)

    def after_space(self, index: int) -> int:
        while self.text[index : index + 1] in (" ", "\t"):
            index += 1
        return index

    def check_flow(self, start: int, end: int) -> None:
        """Refuse continuation lines that are not indented below the block they stand in (YAML 1.2.2, 6.3 and 7.3)."""
        if self.text[end : end + 1] == "#":
            self.comment_touches(end)
        if self.text.find("\n", start, end) < 0 and self.text.find("\r", start, end) < 0:
            return
        for found in _CONTINUATION.finditer(self.text, start, end):
            spaces, what = found["spaces"], found["what"]
            needed = self.blocks[-1] + 1
            if len(spaces) >= needed or (what in ("]", "}") and len(spaces) == needed - 1):
                continue
            if what == "\t":
                self.note("tab", found.start("what"), TAB, "Replace the tab by spaces.")
            else:
                self.too_far_left(start, found.start("what"), f"{needed} space{'s' if needed > 1 else ''}")
            return

    def too_far_left(self, start: int, index: int, needed: str) -> None:
        """Refuse a line that continues what begins at `start` and is not indented enough; mostly a quote is missing."""
        line = self.where(index).line
        if self.text[start] in "\"'":  # what follows is read inside out: no word of it could be trusted
            message = f"The text in quotes that begins here is not closed before line {line}."
            self.stop("indentation", start, message, f"Write the closing quote, or indent line {line} by {needed}.")
        message = f"This line continues a value and must be indented by at least {needed}."
        self.note("indentation", index, message, "Indent the line.")

    def check_block(self, start: int) -> None:
        """Refuse a block text whose header touches a comment, or whose first lines are blank and too long."""
        header = BLOCK_HEADER.match(self.text, start)
        if header is None:  # pragma: no cover - the parser has read a header here
            return
        if self.text[header.end("indicators") : header.end("indicators") + 1] == "#":
            self.comment_touches(header.end("indicators"))
        if any(character.isdigit() for character in header["indicators"]):
            return
        blanks = _BLANK_LINES.match(self.text, header.end())
        content = blanks.end() if blanks else header.end()
        longest = max(map(len, re.split("[\r\n]", self.text[header.end() : content])))
        indent = self.after_spaces(content) - content
        if self.blocks[-1] < indent < longest and content + indent < len(self.text):
            self.note(
                "indentation",
                content,
                "A blank line before this one has more spaces than the text itself.",
                "Delete the spaces of the blank line.",
            )

    def after_spaces(self, index: int) -> int:
        while self.text[index : index + 1] == " ":
            index += 1
        return index

    def check_comments(self, start: int) -> None:
        """Refuse a comment that touches what stands before it (YAML 1.2.2, 6.6)."""
        begin = max(0, self.end - 1)
        if found := _TOUCHING_COMMENT.search(self.text[begin:start]):
            self.comment_touches(begin + found.end() - 1)

    def comment_touches(self, sign: int) -> None:
        self.note(
            "comment", sign, "A comment must have a space before its '#'.", "Put a space before '#', or quote the text."
        )


_DIRECTIVE = re.compile(r"^%(?!YAML +1\.2\s)", re.MULTILINE)
_HALF = re.compile("[\ud800-\udfff]")
_CONTINUATION = re.compile(r"(?:\r\n|\r|\n)(?P<spaces> *)(?P<what>[^ \r\n])")
_BLANK_LINES = re.compile(r"(?: *(?:\r\n|\r|\n))*")
_TOUCHING_COMMENT = re.compile(r"(?:\A|[\r\n])[^#\r\n]*[^\s#]#")
