"""What YAML's parser could not read, told in our words and at the place where an author has to mend it.

The parser says where it gave up, which is often lines below the fault: an unclosed bracket, a key without its space.
Only words and places depend on what it says, never whether a document is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from yaml import MarkedYAMLError

from weft.lines import Lines

LONGEST_LINE = 4_000
"""How much of a line is looked at to explain a fault in it."""
LONGEST_QUOTED = 200
"""How long a text may be that a remedy repeats."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that cannot be read."""

    code: str
    index: int  #: of the character that it stands at
    message: str
    remedy: str | None


@dataclass(frozen=True, slots=True)
class _Scene:
    """Where the parser gave up, and the line and column, from 1, of what it was reading there."""

    lines: Lines
    index: int
    begun: int  #: index of the begin of what it was reading

    @property
    def line(self) -> int:
        return self.lines.place(self.index)[0]

    def before(self) -> str:
        """Return what stands before the place in its line."""
        return self.lines.text[self.lines.start(self.line) : self.index]

    def rest(self, index: int) -> str:
        """Return what stands in the line from `index` on."""
        line, column = self.lines.place(index)
        return self.lines.line(line)[column - 1 : column - 1 + LONGEST_LINE].rstrip()


def explain(error: MarkedYAMLError, lines: Lines, *, in_flow: bool) -> Fault:
    """Return what an author has to know of a parser's error.

    Args:
        error: What the parser says.
        lines: The document.
        in_flow: Whether it was inside [ ] or { }.
    """
    mark = error.problem_mark or error.context_mark
    index = min(mark.index, len(lines.text)) if mark else 0
    for near in (error.problem_mark, error.context_mark):
        if near and (start := _template(lines, near.line + 1)) is not None:
            return unquoted_template(lines, start, in_flow=in_flow)
    if (tab := _tab(lines, index)) is not None:
        return Fault("tab", tab, TAB, "Replace the tab by spaces.")
    told = error.problem or ""
    begun = min(error.context_mark.index, index) if error.context_mark else index
    if told in _EXPLAINED and (fault := _EXPLAINED[told](_Scene(lines, index, begun))):
        return fault
    message, remedy = SYNTAX.get(told, (f"The YAML cannot be read here: {told}.", None))
    return Fault("syntax", index, message, remedy)


TAB = "A tab stands where YAML wants spaces: tabs cannot indent."


def unquoted_template(lines: Lines, start: int, *, in_flow: bool) -> Fault:
    """Return the fault of a value that begins at `start`, holds a template, and is not in quotes."""
    line, column = lines.place(start)
    value = lines.line(line)[column - 1 :].strip()
    if in_flow:  # what follows the template belongs to the collection
        found = re.match(r"\{\{.*?\}\}|\{%.*%\}", value)
        value = found[0] if found else value
    return Fault(
        "unquoted_template",
        start,
        "A template stands here without quotes; YAML reads '{' as the begin of a mapping.",
        f"Quote the template: {_quoted(value)}"
        if len(value) <= LONGEST_QUOTED
        else "Quote the template: put the whole value between double quotes.",
    )


def _quoted(text: str) -> str:
    """Return a text in the quotes that need the fewest escapes."""
    if '"' in text and "'" not in text:
        return f"'{text}'"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _in_quotes(value: str) -> str:
    """Return the remedy for a value that needs quotes."""
    plain = value and len(value) <= LONGEST_QUOTED and not set(value) & set("\"'#")
    return f'Put it in quotes: "{value}".' if plain and "\\" not in value else "Put the value in quotes."


def _template(lines: Lines, number: int) -> int | None:
    """Return where the value begins that holds a template outside quotes in a line."""
    text = lines.line(number)[:LONGEST_LINE]
    bare = _QUOTED.sub(lambda found: " " * len(found[0]), text)
    found = re.search(r"(?<!\S)\{[{%]|(?<=[\[,{])\{[{%]|\{\{.*\}\}", bare)
    if found is None:
        return None
    key = _KEY.match(bare)
    value = key.end() if key and key.end() <= found.start() else found.start()
    plain = not set(bare[value : found.start()]) & set("[]{},")
    return lines.start(number) + (value if plain and text[value : value + 1] not in {'"', "'"} else found.start())


def _tab(lines: Lines, index: int) -> int | None:
    """Return the index of a tab in the indentation of the line at `index`, or at `index` itself."""
    if lines.text[index : index + 1] == "\t":
        return index
    start = lines.start(lines.place(index)[0])
    indentation = _INDENTATION.match(lines.text, start, start + LONGEST_LINE)
    tab = lines.text.find("\t", start, indentation.end() if indentation else start)
    return tab if tab >= 0 else None


_KEY = re.compile(r"[ ]*(?:-[ ]+)*(?:[\w.-]+:[ ]+)?")
_INDENTATION = re.compile(r"[ \t]*(?:[-?:][ \t]+)*")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"' + r"|'(?:[^']|'')*'")


# -- faults whose place is not where the parser gave up


def _colon(scene: _Scene) -> Fault:
    before = scene.before()
    found = re.match(r"\s*(?:- +)*[^\s:]+:\s+(?=\S)", before[:LONGEST_LINE])
    if found:
        value = scene.rest(scene.index - len(before) + found.end())
        return Fault("syntax", scene.index, "A second ':' stands in this value.", _in_quotes(value))
    above = next((n for n in range(scene.line - 1, 0, -1) if scene.lines.line(n).strip()), 0)
    if dash := re.match(r"(\s*)-(?=[^\s-])", scene.lines.line(above)[:LONGEST_LINE]):
        message = "A '-' that begins an item of a list needs a space after it."
        return Fault("syntax", scene.lines.start(above) + dash.end() - 1, message, "Put a space after the '-'.")
    return Fault(
        "syntax",
        scene.index - len(before.lstrip()),
        "As it is indented, this line continues the value above it, which cannot hold a ':'.",
        "Indent it like the keys that it belongs to, or put the whole value in quotes.",
    )


def _no_colon(scene: _Scene) -> Fault:
    if found := re.match(r"([\w.-]+):(?=\S)", scene.rest(scene.begun)):
        message = f"The ':' after {found[1]!r} needs a space after it."
        return Fault("syntax", scene.begun + found.end() - 1, message, "Put a space after the ':'.")
    message = "This is no key: there is no ':' after it."
    return Fault("syntax", scene.begun, message, "Write 'key: value', or put the text in quotes.")


def _indented(of: str, holder: str) -> Callable[[_Scene], Fault | None]:
    def explained(scene: _Scene) -> Fault | None:
        line, column = scene.lines.place(scene.begun)
        _, here = scene.lines.place(scene.index)
        if scene.before().strip() or here == column:
            return None
        message = (
            f"This line begins in column {here}; the {of} of the {holder} of line {line} begin in column {column}."
        )
        return Fault("syntax", scene.index, message, "Indent it as far as the lines that it belongs to.")

    return explained


def _open(what: str, closing: str, between: str) -> Callable[[_Scene], Fault | None]:
    def explained(scene: _Scene) -> Fault | None:
        if scene.lines.place(scene.begun)[0] == scene.line:
            if scene.lines.text[scene.index : scene.index + 1] == ":":
                return Fault("syntax", scene.index, "A second ':' stands in this value.", "Put the value in quotes.")
            return None
        message = f"{what} begins here and is not closed, or lacks a ','."
        return Fault("syntax", scene.begun, message, f"Write {closing} at its end, and ',' between its {between}.")

    return explained


def _open_quote(scene: _Scene) -> Fault:
    return Fault("syntax", scene.begun, "A text in quotes begins here and is not closed.", "Write the closing quote.")


def _sign(scene: _Scene) -> Fault:
    sign, value = scene.lines.text[scene.begun : scene.begun + 1], scene.rest(scene.begun)
    return Fault("syntax", scene.begun, f"A text that begins with '{sign}' needs quotes.", _in_quotes(value))


_EXPLAINED: dict[str, Callable[[_Scene], Fault | None]] = {
    "mapping values are not allowed in this context": _colon,
    "could not find expected ':'": _no_colon,
    "did not find expected key": _indented("keys", "mapping"),
    "did not find expected '-' indicator": _indented("items", "list"),
    "did not find expected ',' or ']'": _open("A list", "']'", "items"),
    "did not find expected ',' or '}'": _open("A mapping", "'}'", "members"),
    "found unexpected end of stream": _open_quote,
    "found unexpected document indicator": _open_quote,
    "did not find expected alphabetic or numeric character": _sign,
    "found character that cannot start any token": _sign,
}

SYNTAX: dict[str, tuple[str, str | None]] = {
    "did not find expected key": (
        "Here should stand a key of the mapping, or its end.",
        "Check the indentation; text after a closing quote belongs inside the quotes.",
    ),
    "did not find expected '-' indicator": (
        "Here should stand the next '-' of the list, or its end.",
        "Check the indentation.",
    ),
    "did not find expected ',' or ']'": ("A list in [ ] is not closed here.", "Write ',' or ']'."),
    "did not find expected ',' or '}'": ("A mapping in { } is not closed here.", "Write ',' or '}'."),
    "did not find expected node content": ("A value is missing here.", "Write a value, or quotes for an empty text."),
    "found unknown escape character": (
        "Double quotes hold an escape that YAML does not know.",
        "Write a backslash twice, or use single quotes.",
    ),
    "found invalid Unicode character escape code": (
        "An escape names half of a surrogate pair, or no character at all.",
        "Write the character itself, or \\U with eight digits.",
    ),
    **dict.fromkeys(
        ("could not find expected directive name", "found unknown directive name", "found incompatible YAML document"),
        (
            "A line that begins with '%' is a directive; only '%YAML 1.2' is read.",
            "Delete the line, or quote the text.",
        ),
    ),
    "did not find expected hexdecimal number": (
        "An escape in double quotes needs more hexadecimal digits.",
        "Write a backslash twice, or use single quotes.",
    ),
    "block sequence entries are not allowed in this context": (
        "A list cannot begin in the line of its key.",
        "Begin it in the next line, or write [ ].",
    ),
    "found a tab character where an indentation space is expected": (TAB, "Replace the tab by spaces."),
    "found undefined tag handle": ("A tag stands here; tags are refused.", "Delete the tag."),
    "did not find expected <document start>": (
        "Text stands after the end of the document.",
        "Check the indentation: the first line of a document sets it.",
    ),
}
"""What the parser says → what we say."""
