"""From text to Jinja's syntax tree, every node of which knows its character in the text.

Only Jinja's lexer and parser are used. Where Jinja keeps a line number we let it keep the offset: tokens carry it
into the nodes and into syntax errors, so that line and column are exact everywhere.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Never, cast

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.lexer import TOKEN_EOF, Lexer, Token, TokenStream, operators
from jinja2.parser import Parser

from weft.errors import ExpressionError, ExpressionLimit, Where
from weft.expressions import mistakes
from weft.expressions.limits import Fault, LimitFault, Limits

_REFUSED_TAGS = frozenset(
    {
        *("autoescape", "block", "break", "call", "continue", "do", "extends", "filter", "from"),
        *("import", "include", "macro", "print", "trans", "with"),
    }
)
_ESCAPE = re.compile(r"\\(?:(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U000[0-9A-Fa-f]{5}|[\\'\"abfnrtv0\n])|)")
_HYPHENATED = re.compile(r"[A-Za-z_]\w*(?:-\w+)+")
_LONGEST_SHOWN = 100


@dataclass(slots=True)
class Origin:
    """The text of a template and where its expressions lie, for telling places in errors."""

    text: str
    spans: list[tuple[int, int]] = field(default_factory=list)  #: of each `{{ … }}` and `{% … %}`

    def error(self, fault: Fault, offset: int | None) -> ExpressionError:
        """Return the error that tells `fault` at the character `offset`."""
        kind = ExpressionLimit if isinstance(fault, LimitFault) else ExpressionError
        where, shown = Where(), ""
        if offset is not None:
            offset = min(max(offset, 0), len(self.text))
            where = self.where(offset)
            around = self._around(offset)
            shown = f"In `{around}`: " if around else ""
        message = fault.message if shown else fault.message[:1].upper() + fault.message[1:]
        error = kind(f"{shown}{message}.", remedy=fault.remedy, where=where, code=fault.code)
        error.offset = offset
        return error

    def where(self, offset: int) -> Where:
        """Return line and column of the character `offset`."""
        before = self.text[:offset]
        return Where(line=before.count("\n") + 1, column=offset - before.rfind("\n"))

    def opened(self, begin: int, closing: str) -> None:
        """Note that an expression begins; its end is the next `closing` until it is known better."""
        end = self.text.find(closing, begin)
        self.spans.append((begin, len(self.text) if end < 0 else end + len(closing)))

    def _around(self, offset: int) -> str:
        """Return the expression that holds the character, shortened around it."""
        position = bisect_right(self.spans, (offset, len(self.text) + 1)) - 1
        start, end = self.spans[position] if position >= 0 else (0, len(self.text))
        if not start <= offset <= end:
            start, end = offset, len(self.text)
        if end - start > _LONGEST_SHOWN:
            first = max(start, min(offset - 40, end - _LONGEST_SHOWN))
            last = min(end, first + _LONGEST_SHOWN)
            shown = f"{'…' if first > start else ''}{self.text[first:last]}{'…' if last < end else ''}"
        else:
            shown = self.text[start:end]
        return " ".join(shown.split())

    def after_space(self, offset: int) -> int:
        """Return the first character from `offset` on that is not white space."""
        while offset < len(self.text) and self.text[offset].isspace():
            offset += 1
        return offset

    def joined(self, offset: int) -> str | None:
        """Return the name with hyphens, `my-step`, of which the name at `offset` is a part, if it looks like one."""
        found = _HYPHENATED.match(self.text, offset)
        return found[0] if found else None

    def hyphen_before(self, offset: int) -> bool:
        """Tell whether the name at `offset` stands directly after a name and a `-`."""
        return offset >= 2 and self.text[offset - 1] == "-" and (self.text[offset - 2].isalnum())


class _Parser(Parser):
    """Refuses, at its place, every statement but `if`, `for` and `set`, and tells in our words what is not closed."""

    def __init__(self, origin: Origin, state: str | None) -> None:
        super().__init__(cast(Any, _Tokens(origin)), origin.text, state=state)
        self._origin = origin
        self._open: list[Token] = []  # names of the statements that have begun

    def parse_statement(self) -> nodes.Node | list[nodes.Node]:
        token = self.stream.current
        if token.type == "name" and token.value in _REFUSED_TAGS:
            self._refuse(f"'{token.value}' is not available in expressions", token.lineno)
        self._open.append(token)
        statement = super().parse_statement()
        self._open.pop()
        return statement

    def parse_set(self) -> nodes.Assign | nodes.AssignBlock:
        start = self.stream.current.lineno
        statement = super().parse_set()
        if isinstance(statement, nodes.AssignBlock):
            self._refuse_block(start)
        if not isinstance(statement.target, nodes.Name):
            self._refuse("'set' sets one name: `{% set name = … %}`", start)
        return statement

    def fail_eof(self, end_tokens: tuple[str, ...] | None = None, lineno: int | None = None) -> Never:
        tag = self._open[-1]
        if tag.value == "set":
            self._refuse_block(tag.lineno)
        raise self._origin.error(mistakes.unclosed(tag.value), tag.lineno)

    def fail_unknown_tag(self, name: str, lineno: int | None = None) -> Never:
        inner = self._open[-2].value if len(self._open) > 1 else None
        raise self._origin.error(mistakes.unknown_tag(name, inner), lineno)

    def _refuse_block(self, offset: int) -> Never:
        self._refuse("'set' needs a value: `{% set name = … %}`; 'endset' is not available", offset)

    def _refuse(self, message: str, offset: int) -> Never:
        raise self._origin.error(Fault(message, mistakes.TAGS, code="expression_not_allowed"), offset)


_LEXER: Final = Lexer(Environment(keep_trailing_newline=True))  # noqa: S701 (nothing is rendered by it)
_SKIPPED: Final = frozenset({"comment_begin", "comment", "comment_end", "raw_begin", "raw_end", "whitespace"})


class _Tokens:
    """Stands in for the environment when the parser asks for tokens."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    def iter_extensions(self) -> Iterator[object]:
        return iter(())

    def _tokenize(self, source: str, name: str | None, filename: str | None, state: str | None) -> TokenStream:
        return TokenStream(_tokens(self._origin, state), name, filename)


def _tokens(origin: Origin, state: str | None) -> Iterator[Token]:
    """Yield the parser's tokens, with the character they start at in the place of their line."""
    for offset, kind, text in _raw_tokens(origin, state):
        if kind in _SKIPPED:
            continue
        if kind == "operator":
            yield Token(offset, operators[text], text)
        elif kind == "name" and not text.isidentifier():
            raise TemplateSyntaxError("", offset)
        elif kind == "string":
            yield Token(offset, kind, _unescaped(text[1:-1]))
        elif kind == "integer":
            yield Token(offset, kind, _integer(origin, offset, text.replace("_", "")))
        elif kind == "float":
            yield Token(offset, kind, cast(Any, float(text.replace("_", ""))))
        else:
            yield Token(offset, kind, text)
    yield Token(len(origin.text), TOKEN_EOF, "")


def _raw_tokens(origin: Origin, state: str | None) -> Iterator[tuple[int, str, str]]:
    """Yield Jinja's raw tokens, each with the character it starts at, and note where expressions lie."""
    text = origin.text
    source = text.replace("\r\n", "\n").replace("\r", "\n")
    place = _places(text) if "\r" in text else range(len(text) + 1)
    end = 0
    try:
        for _, kind, value in _LEXER.tokeniter(source, None, state=state):
            begin = source.index(value, end)  # what lies between is white space that `-` cuts off
            end = begin + len(value)
            if kind in ("variable_begin", "block_begin"):
                origin.opened(place[begin], "}}" if kind == "variable_begin" else "%}")
            elif kind in ("variable_end", "block_end"):
                origin.spans[-1] = (origin.spans[-1][0], place[end])
            yield place[begin], kind, text[place[begin] : place[end]] if kind == "data" else value
    except TemplateSyntaxError:
        raise TemplateSyntaxError("", place[end]) from None


def _unescaped(text: str) -> str:
    """Return what a quoted text stands for; a backslash without meaning stays."""
    known = _ESCAPE.sub(lambda found: found[0] if found[1] else "\\\\", text)
    return known.encode("ascii", "backslashreplace").decode("unicode-escape")


def _integer(origin: Origin, offset: int, numeral: str) -> Any:
    try:
        return int(numeral, 0)
    except ValueError:
        raise origin.error(LimitFault("integer", "a whole number has more than 4,300 digits"), offset) from None


def _places(text: str) -> list[int]:
    """Return, for each character of the text with plain line ends, its offset in `text`."""
    places = [offset for offset, character in enumerate(text) if character != "\n" or text[offset - 1 : offset] != "\r"]
    return [*places, len(text)]


def parse(origin: Origin, limits: Limits, *, bare: bool = False) -> nodes.Template:
    """Read a template, or with `bare` a single expression without its `{{ }}`.

    Raises:
        ExpressionError: It cannot be read.
        ExpressionLimit: It is too long, too large, or nested too deeply.
    """
    if len(origin.text) > limits.source:
        fault = LimitFault("source", f"a template has at most {limits.source:,} characters", "Shorten it.")
        raise origin.error(fault, 0)
    try:
        tree = _read(origin, bare)
        _measure(origin, tree, limits)
    except TemplateSyntaxError as error:
        raise origin.error(*mistakes.explain(origin.text, _readable(origin.text, bare), error.lineno)) from None
    except RecursionError:
        raise origin.error(LimitFault("depth", f"it is nested deeper than {limits.depth}"), 0) from None
    except LimitFault as fault:
        raise origin.error(fault, 0) from None
    return tree


def _read(origin: Origin, bare: bool) -> nodes.Template:
    parser = _Parser(origin, "variable" if bare else None)
    if not bare:
        return nodes.Template(parser.subparse(), lineno=0)
    origin.spans[:] = [(0, len(origin.text))]
    expression = parser.parse_expression()
    if not parser.stream.eos:
        parser.fail("")
    return nodes.Template([nodes.Output([expression], lineno=0)], lineno=0)


def _measure(origin: Origin, tree: nodes.Template, limits: Limits) -> None:
    """Refuse a tree of too many nodes or too deep, before anything recursive touches it."""
    count, todo = 0, [(cast(nodes.Node, tree), 0)]
    while todo:
        node, depth = todo.pop()
        count += 1
        if count > limits.nodes:
            raise LimitFault("nodes", f"a template has at most {limits.nodes:,} parts", "Split it.")
        if depth > limits.depth:
            raise LimitFault("depth", f"it is nested deeper than {limits.depth}", "Use `set` for parts of it.")
        todo.extend((child, depth + 1) for child in node.iter_child_nodes())


def _readable(text: str, bare: bool) -> list[mistakes.RawToken]:
    """Return the tokens of a text up to what is none."""
    origin = Origin(text, [(0, len(text))] if bare else [])
    found: list[mistakes.RawToken] = []
    with suppress(TemplateSyntaxError):
        found.extend(token for token in _raw_tokens(origin, "variable" if bare else None) if token[1] != "whitespace")
    return found


def start(node: nodes.Node) -> int:
    """Return the character at which the leftmost part of an expression begins."""
    while (inner := _leftmost(node)) is not None:
        node = inner
    return int(node.lineno)


def _leftmost(node: nodes.Node) -> nodes.Node | None:
    if isinstance(node, nodes.Getattr | nodes.Getitem | nodes.Call | nodes.Test | nodes.Filter):
        return node.node
    if isinstance(node, nodes.BinExpr):
        return node.left
    if isinstance(node, nodes.Compare):
        return node.expr
    if isinstance(node, nodes.CondExpr):
        return node.expr1
    if isinstance(node, nodes.Concat):
        return node.nodes[0]
    if isinstance(node, nodes.Tuple) and node.items:
        return node.items[0]
    return None


def constant(node: nodes.Node) -> str | int | None:
    """Return the key that an expression is, when it is written out."""
    if isinstance(node, nodes.Const) and type(node.value) in (str, int):
        return cast(str | int, node.value)
    if isinstance(node, nodes.Neg) and isinstance(node.node, nodes.Const) and type(node.node.value) is int:
        return -node.node.value
    return None
