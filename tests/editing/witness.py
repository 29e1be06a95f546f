"""A second opinion on a document: its value, where everything stands, and its comments, by a parser that is not ours.

ruamel.yaml's scanner, written in Python, gives nodes and tokens; libyaml, which the reader uses, has no part in it. What
plain scalars mean is decided here, by the core schema of YAML 1.2. Nothing is imported from `weft`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.tokens import ScalarToken

Path = tuple[str | int, ...]

_CONSTANTS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}


@dataclass(frozen=True)
class Comment:
    line: int
    column: int
    text: str


@dataclass
class Place:
    """Where an entry stands, lines from 0, ends included."""

    first: int  #: the line of its key or dash
    last: int  #: the last line of its value
    column: int  #: of its key or dash
    value_first: int
    scalar: bool
    flow: bool  #: the value is a collection in brackets
    in_flow: bool
    style: str | None
    compact: bool  #: something else stands before it on its line
    empty: bool


@dataclass
class Witness:
    """A document as another parser sees it."""

    text: str
    lines: list[str] = field(init=False)
    value: Any = field(init=False)
    places: dict[Path, Place] = field(init=False, default_factory=dict)
    comments: list[Comment] = field(init=False)

    def __post_init__(self) -> None:
        text = self.text.removeprefix("\ufeff")
        closed = text if text.endswith(("\n", "\r")) else text + "\n"
        self.lines = [found[1] for found in re.finditer(r"([^\r\n]*)(?:\r\n|\r|\n)", closed)]
        root = YAML(typ="safe", pure=True).compose(closed)
        self.value = self._value(root)
        self.last = self._last(root)
        self.places[()] = self._place(root, root.start_mark.line, -1, in_flow=False)
        self._walk(root, (), in_flow=False)
        self.comments = _comments(closed)

    # -- values

    def _value(self, node: Node) -> Any:
        if isinstance(node, MappingNode):
            return {key.value: self._value(value) for key, value in node.value}
        if isinstance(node, SequenceNode):
            return [self._value(item) for item in node.value]
        return node.value if node.style else meant(node.value)

    # -- places

    def _walk(self, node: Node, path: Path, *, in_flow: bool) -> None:
        in_flow = in_flow or bool(getattr(node, "flow_style", False))
        if isinstance(node, MappingNode):
            for key, value in node.value:
                inner = (*path, key.value)
                start = self._before_key(key.start_mark.line, key.start_mark.column)
                self.places[inner] = self._place(value, key.start_mark.line, start, in_flow=in_flow)
                self._walk(value, inner, in_flow=in_flow)
        elif isinstance(node, SequenceNode):
            line = node.start_mark.line
            for index, item in enumerate(node.value):
                inner = (*path, index)
                if in_flow:
                    place = self._place(item, item.start_mark.line, item.start_mark.column, in_flow=True)
                else:
                    column = node.start_mark.column
                    first = node.start_mark.line if index == 0 else self._dash(line + 1, column)
                    place = self._place(item, first, column, in_flow=False)
                    line = max(place.last, first)
                self.places[inner] = place
                self._walk(item, inner, in_flow=in_flow)

    def _before_key(self, line: int, column: int) -> int:
        found = re.search(r"\? +\Z", self.lines[line][:column])
        return found.start() if found else column

    def _dash(self, line: int, column: int) -> int:
        """Return the next line that has a dash at a column, behind blank lines and comments."""
        while not (self.lines[line][column : column + 1] == "-" and not self.lines[line][:column].strip()):
            line += 1
        return line

    def _place(self, node: Node, first: int, column: int, *, in_flow: bool) -> Place:
        scalar = isinstance(node, ScalarNode)
        empty = scalar and node.start_mark.index == node.end_mark.index
        return Place(
            first=first,
            last=max(first, self._last(node)),
            column=column,
            value_first=first if empty else node.start_mark.line,
            scalar=scalar,
            flow=bool(getattr(node, "flow_style", False)),
            in_flow=in_flow,
            style=getattr(node, "style", None),
            compact=column >= 0 and bool(self.lines[first][:column].strip()),
            empty=empty or (not scalar and not node.value),
        )

    def _last(self, node: Node) -> int:
        if isinstance(node, ScalarNode):
            if node.style in ("|", ">"):
                return self._last_of_block(node)
            return (
                int(node.end_mark.line) if node.start_mark.index < node.end_mark.index else -1
            )  # where it is not told
        if node.flow_style or not node.value:
            return int(node.end_mark.line)
        if isinstance(node, SequenceNode):
            return max(self._last(item) for item in node.value)
        return max(max(int(key.end_mark.line), self._last(value)) for key, value in node.value)

    def _last_of_block(self, node: ScalarNode) -> int:
        header, last = node.start_mark.line, node.end_mark.line - (1 if node.end_mark.column == 0 else 0)
        last = min(last, len(self.lines) - 1)
        indicators = re.match(r"[|>]([-+0-9]*)", self.lines[header][node.start_mark.column :])
        if indicators and "+" in indicators[1]:
            return int(last)
        indents = [len(line) - len(line.lstrip(" ")) for line in self.lines[header + 1 : last + 1] if line.strip(" ")]
        while last > header and not self.lines[last].strip(" ") and len(self.lines[last]) <= min(indents, default=99):
            last -= 1
        return int(last)

    # -- whose a line is

    def is_comment(self, line: int) -> bool:
        return any(comment.line == line and not self.lines[line][: comment.column].strip() for comment in self.comments)

    def is_blank(self, line: int) -> bool:
        return 0 <= line < len(self.lines) and not self.lines[line].strip()

    def above(self, path: Path) -> list[int]:
        """Return the comment lines directly above an entry, from the top."""
        found: list[int] = []
        line = self.places[path].first - 1
        if self.places[path].compact:
            return []
        while line >= 0 and self.is_comment(line):
            found.insert(0, line)
            line -= 1
        return found

    def below(self, path: Path) -> list[int]:
        """Return the comment lines below an entry that are indented deeper than it."""
        found: list[int] = []
        place = self.places[path]
        line = place.last + 1
        while line < len(self.lines) and (self.is_comment(line) or self.is_blank(line)):
            if self.is_comment(line):
                if len(self.lines[line]) - len(self.lines[line].lstrip(" ")) <= place.column:
                    break
                found.append(line)
            line += 1
        return found


def meant(text: str) -> Any:
    """Return what a plain scalar means in the core schema of YAML 1.2."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if re.fullmatch(r"[-+]?[0-9]+", text):
        return int(text)
    if re.fullmatch(r"0o[0-7]+", text):
        return int(text, 0)
    if re.fullmatch(r"0x[0-9a-fA-F]+", text):
        return int(text, 0)
    if re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", text):
        return float(text)
    return text


def _comments(text: str) -> list[Comment]:
    """Return the comments: what begins with `#` behind white space, outside of every scalar."""
    covered = bytearray(len(text) + 2)
    for token in YAML(typ="safe", pure=True).scan(text):
        if isinstance(token, ScalarToken):
            start = token.start_mark.index
            if token.style in ("|", ">"):
                start = next((m.end() for m in re.finditer(r"\r\n|\r|\n", text[start:])), 0) + start
            for index in range(start, token.end_mark.index):
                covered[index] = 1
    found, line, begin = [], 0, 0
    for ended in re.finditer(r"[^\r\n]*(?:\r\n|\r|\n)", text):
        content = ended[0].rstrip("\r\n")
        for column, character in enumerate(content):
            free = not covered[begin + column]
            if character == "#" and free and (column == 0 or content[column - 1] in " \t"):
                found.append(Comment(line, column, content[column:].rstrip()))
                break
        line, begin = line + 1, ended.end()
    return found
