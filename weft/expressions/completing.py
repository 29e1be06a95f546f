"""What may stand at a place of an expression that is being written.

    spot(text, cursor) ──▶ Spot ──candidates(spot, names)──▶ what may stand there, what of the text it replaces

The text need not be a template yet: only what stands before the cursor is read, token by token.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from weft.expressions import methods, words
from weft.expressions.evaluator import LOOP_NAMES
from weft.expressions.known import Known, follow
from weft.expressions.predicates import PREDICATES
from weft.expressions.sequences import FILTERS

Kind = Literal["name", "member", "filter", "test", "operator", "statement"]
Path = tuple[str | int, ...]

_OPENING: Final = re.compile(r"\{\{-?|\{%-?|\{#")
_CLOSING: Final = {"{{": re.compile(r"""-?\}\}|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""), "{#": re.compile(r"#\}")}
_CLOSING["{%"] = re.compile(_CLOSING["{{"].pattern.replace(r"\}\}", r"%\}"))
_TOKEN: Final = re.compile(
    r"""(?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<open>['"].*)|(?P<number>(?<=\.)\d+|\d\w*(?:\.\d+)?)|(?P<name>[A-Za-z_]\w*)"""
    r"""|(?P<sign>\*\*|//|==|!=|<=|>=|[^\s])|(?P<space>\s+)""",
    re.DOTALL,
)
_HOLDERS: Final[Mapping[Any, str]] = {str: "string", dict: "object", list: "array"}
_WORD: Final = re.compile(r"\w*")
_NAME: Final = re.compile(r"[A-Za-z_]\w*")
_OPERATORS: Final = frozenset({"and", "or", "not", "in", "is", "if", "else", "elif", "for", "set"})
_ENDS: Final = frozenset({")", "]", "}"})
_LOCAL: Final = re.compile(r"\{%-?\s*(for|set)\s+(\w+)\s*(?:in|=)\s*([^%]*)")
_SIMPLE: Final = re.compile(r"""[A-Za-z_]\w*(?:\.\w+|\[(?:\d+|'[^'\\]*'|"[^"\\]*")\])*""")
_PART: Final = re.compile(r"""\.?(\w+)|\[(?:(\d+)|'([^'\\]*)'|"([^"\\]*)")\]""")


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in an expression, and what of the text a word that is chosen there replaces."""

    kind: Kind
    start: int  #: first character that is replaced
    end: int  #: the one behind the last
    prefix: str = ""  #: what is written already
    path: Path | None = ()  #: of a member or filter: what it is of; None when that is not a plain path
    opening: int = 0  #: of a member: the dot or bracket
    quote: str = ""  #: of a member in brackets: how it is quoted
    local: Mapping[str, tuple[Path, bool]] = field(
        default_factory=dict
    )  #: names that the template sets; whether an item
    loop: bool = False  #: inside a `for` of the template


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that may stand there."""

    label: str
    insert: str
    kind: Literal["name", "member", "item", "filter", "test", "method", "keyword", "statement", "constant"]
    start: int | None = None  #: where what it replaces begins, where that is not the spot's own start
    type: str | None = None  #: `string`, `array or null`
    signature: str | None = None  #: how a filter, test or method is called
    description: str = ""
    value: str | None = None  #: a few characters of it
    note: str = ""  #: where the value comes from, or `not run yet`
    fits: bool = True  #: it is for values of this type


def spot(text: str, cursor: int, *, bare: bool = False) -> Spot | None:
    """Return what is being written at a character of a template; None where no expression is.

    Args:
        text: The template.
        cursor: Between which of its characters.
        bare: The whole text is one expression when it has no braces: a condition, or a `for_each`.
    """
    cursor = min(max(cursor, 0), len(text))
    opened = _opened(text, cursor)
    if opened is None:
        if not bare or _OPENING.search(text):
            return None
        opened = ("{{", 0)
    braces, begin = opened
    if braces == "{#":
        return None
    tokens = [found for found in _TOKEN.finditer(text, begin, cursor) if found.lastgroup != "space"]
    if tokens and tokens[-1].lastgroup == "open":
        return _quoted(text, cursor, tokens)
    end = _WORD.match(text, cursor).end()  # type: ignore[union-attr]  # it matches the empty text too
    start, prefix = cursor, ""
    if tokens and tokens[-1].lastgroup in ("name", "number") and tokens[-1].end() == cursor:
        start, prefix = tokens[-1].start(), tokens[-1][0]
        if tokens.pop().lastgroup == "number" and not (tokens and tokens[-1][0] == "."):
            return None
    found = _placed(tokens, Spot("name", start, end, prefix), is_statement=braces == "{%")
    local, loop = _set_before(text[:begin])
    return None if found is None else _with(found, local=local, loop=loop)


def _opened(text: str, cursor: int) -> tuple[str, int] | None:
    """Return the braces in which a character stands, and where their content begins."""
    at = 0
    while (opening := _OPENING.search(text, at, cursor)) is not None:
        braces, at = opening[0][:2], opening.end()
        begin = at
        while True:
            closing = _CLOSING[braces].search(text, at)
            if closing is None or closing.start() >= cursor or (closing[0][0] in "'\"" and closing.end() > cursor):
                return braces, begin
            at = closing.end()
            if closing[0][0] not in "'\"":
                break
    return None


def _quoted(text: str, cursor: int, tokens: list[re.Match[str]]) -> Spot | None:
    """Return the spot of a key between quotes: `steps['my-`."""
    key = tokens.pop()
    if not tokens or tokens[-1][0] != "[" or not _ends_operand(tokens[:-1]):
        return None
    opening = tokens.pop().start()
    quote = key[0][0]
    end = cursor
    while end < len(text) and (text[end].isalnum() or text[end] in "_-"):
        end += 1
    if text.startswith(f"{quote}]", end):
        end += 2
    return Spot("member", key.start() + 1, end, key[0][1:], _path(tokens), opening, quote)


def _placed(tokens: list[re.Match[str]], found: Spot, *, is_statement: bool) -> Spot | None:
    """Return the spot that follows these tokens."""
    last = tokens[-1] if tokens else None
    if last is None:
        return _with(found, kind="statement") if is_statement else found
    if last[0] == ".":
        tokens.pop()
        return _with(found, kind="member", path=_path(tokens), opening=last.start()) if _ends_operand(tokens) else None
    if last[0] == "|":
        tokens.pop()
        return _with(found, kind="filter", path=_path(tokens))
    if [each[0] for each in tokens[-2:]] == ["is", "not"] or last[0] == "is":
        return _with(found, kind="test")
    if is_statement and len(tokens) == 1 and last[0] in ("for", "set"):
        return None  # a name of one's own
    if _ends_operand(tokens):
        return _with(found, kind="operator")
    return found


def _with(found: Spot, **changes: Any) -> Spot:
    values = {name: getattr(found, name) for name in Spot.__slots__}
    return Spot(**{**values, **changes})


def _ends_operand(tokens: Sequence[re.Match[str]]) -> bool:
    """Return whether what stands here is the end of a value."""
    if not tokens:
        return False
    last = tokens[-1]
    if last.lastgroup == "name":
        return last[0] not in _OPERATORS or (len(tokens) > 1 and tokens[-2][0] == ".")
    return last.lastgroup in ("string", "number") or last[0] in _ENDS


def _path(tokens: list[re.Match[str]]) -> Path | None:
    """Return the path of keys that the tokens end with, None when it is not a plain one."""
    path: list[str | int] = []
    rest = list(tokens)
    while rest:
        last = rest.pop()
        if last[0] == "]" and len(rest) >= 2 and rest[-2][0] == "[":
            key = rest.pop()
            rest.pop()
            if key.lastgroup == "string":
                path.append(key[0][1:-1])
            elif key.lastgroup == "number" and key[0].isdigit():
                path.append(int(key[0]))
            else:
                return None
        elif last.lastgroup in ("name", "number") and rest and rest[-1][0] == ".":
            rest.pop()
            path.append(int(last[0]) if last[0].isdigit() else last[0])
        elif last.lastgroup == "name" and last[0] not in _OPERATORS:
            return (last[0], *path[::-1])
        else:
            return None
    return None


def _set_before(text: str) -> tuple[dict[str, tuple[Path, bool]], bool]:
    """Return the names that statements before have set, and whether a loop is open."""
    found: dict[str, tuple[Path, bool]] = {}
    for statement in _LOCAL.finditer(text):
        simple = _SIMPLE.match(statement[3])
        path = () if simple is None else _parts(simple[0])
        rest = "" if simple is None else statement[3][simple.end() :].strip(" -")
        known = path if not rest or rest.startswith("if ") else ()
        found[statement[2]] = (known, statement[1] == "for")
    loops = len(re.findall(r"\{%-?\s*for\b", text)) - len(re.findall(r"\{%-?\s*endfor\b", text))
    return found, loops > 0


def _parts(path: str) -> Path:
    return tuple(int(part[2]) if part[2] else part[1] or part[3] or part[4] or "" for part in _PART.finditer(path))


# ---- what may stand there
def candidates(found: Spot, names: Mapping[str, Known]) -> list[Candidate]:
    """Return what may stand at a spot, the likeliest first; all of a kind, whatever is written already."""
    known = {**names, **_local(found, names)}
    match found.kind:
        case "statement":
            return [Candidate(name, name, "statement", description=told) for name, told in words.STATEMENTS.items()]
        case "operator":
            return [Candidate(name, name, "keyword", description=told) for name, told in words.KEYWORDS.items()]
        case "test":
            return list(_tests())
        case "filter":
            return sorted(_filters(_known_types(found.path, known)), key=lambda each: (not each.fits, each.label))
        case "member":
            return list(_members(found, known))
        case "name":
            return list(_names(known))


def described(kind: Literal["filter", "test", "method"]) -> list[Candidate]:
    """Return all filters, tests or methods, by name."""
    if kind == "filter":
        return sorted(_filters(()), key=lambda each: each.label)
    if kind == "test":
        return list(_tests())
    return [
        Candidate(name, name, "method", signature=_signature(name, those[0], 2), description=words.METHODS[name])
        for name, those in sorted(methods.CANDIDATES.items())
    ]


def _local(found: Spot, names: Mapping[str, Known]) -> dict[str, Known]:
    known: dict[str, Known] = {}
    for name, (path, is_item) in found.local.items():
        of = follow({**names, **known}, path) if path else None
        of = of.member(0) if of is not None and is_item else of
        known[name] = of or Known(note="named in this text")
    if found.loop:
        known["loop"] = Known(named={name: Known() for name in LOOP_NAMES}, description="The turns of the loop.")
    return known


def _known_types(path: Path | None, names: Mapping[str, Known]) -> tuple[str, ...]:
    found = follow(names, path) if path else None
    return () if found is None else found.types


def _names(names: Mapping[str, Known]) -> Iterator[Candidate]:
    for name, known in names.items():
        yield _of(name, name, "name", known)
    yield Candidate("range", "range(", "method", signature="range(start, stop, step)", description="Whole numbers.")
    for name, told in words.CONSTANTS.items():
        yield Candidate(name, name, "constant", description=told)


def _members(found: Spot, names: Mapping[str, Known]) -> Iterator[Candidate]:
    known = follow(names, found.path) if found.path else None
    for name, inner in known.members() if known is not None else ():
        if found.quote:
            yield _of(name, f"{_escaped(name, found.quote)}{found.quote}]", "member", inner)
        elif _NAME.fullmatch(name):
            yield _of(name, name, "member", inner)
        else:  # after a dot, `-` would subtract
            yield _of(name, f"[{_quote(name)}]", "member", inner, found.opening)
    if found.quote:
        return
    types = () if known is None else known.types
    if "array" in types and known is not None:
        yield _of("[0]", "[0]", "item", known.member(0) or Known(), found.opening)
    for type_, table in methods.METHODS.items():
        if not types or _HOLDERS[type_] in types:
            for name, method in sorted(table.items()):
                yield Candidate(
                    f"{name}()",
                    f"{name}(",
                    "method",
                    signature=_signature(name, method, 2),
                    description=words.METHODS[name],
                )


def _of(
    label: str, insert: str, kind: Literal["name", "member", "item"], known: Known, start: int | None = None
) -> Candidate:
    return Candidate(
        label,
        insert,
        kind,
        start,
        type=" or ".join(known.types) or None,
        description=known.description,
        value=known.shown,
        note=known.note,
    )


def _quote(name: str) -> str:
    return f"'{_escaped(name, chr(39))}'"


def _escaped(name: str, quote: str) -> str:
    return name.replace("\\", "\\\\").replace(quote, f"\\{quote}").replace("\n", "\\n")


def _filters(types: Sequence[str]) -> Iterator[Candidate]:
    fitting = [words.FITTING[each] for each in types if each in words.FITTING]
    for name, function in FILTERS.items():
        fits = not fitting or any(name in each for each in fitting) or name in ("default", "string", "tojson")
        yield Candidate(
            name, name, "filter", signature=_signature(name, function, 2), description=words.FILTERS[name], fits=fits
        )


def _tests() -> Iterator[Candidate]:
    for name, told in words.TESTS.items():
        yield Candidate(name, name, "test", signature=_signature(name, PREDICATES[name], 2), description=told)


def _signature(name: str, function: Callable[..., Any], own: int) -> str:
    """Return how something is called, without what is not written between its brackets."""
    told = []
    for parameter in list(inspect.signature(function).parameters.values())[own:]:
        written = f"*{parameter.name}" if parameter.kind is parameter.VAR_POSITIONAL else parameter.name
        default = parameter.default
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        if isinstance(default, str | int | float):
            written += f"={str(default).lower() if isinstance(default, bool) else repr(default)}"
        elif default is not parameter.empty:
            written += "?"
        told.append(written)
    return f"{name}({', '.join(told)})" if told else name
