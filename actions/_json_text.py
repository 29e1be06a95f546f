"""Reading JSON strictly: what two readers could understand differently is refused (RFC 8259, RFC 7493)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

from weft.sdk import Json

DEEPEST: Final = 100  #: what expressions can work with
LONGEST_NUMBER: Final = 1_000  #: digits
_HALF = re.compile("[\ud800-\udfff]")
_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}:,]', re.DOTALL)


class NotJson(ValueError):
    """A text is not JSON; says why and where, and shows nothing of it."""

    def __init__(self, why: str, text: str = "", at: int | None = None) -> None:
        self.why = why
        self.at = at
        self.line = None if at is None else text.count("\n", 0, at) + 1
        self.column = None if at is None else at - text.rfind("\n", 0, at)
        place = "" if at is None else f"line {self.line}, column {self.column}: "
        super().__init__(f"{place}{why}")


class Reader:
    """Reads JSON; with `decimals_as_text` a number with a fraction or an exponent stays as it is written."""

    def __init__(self, *, decimals_as_text: bool = False) -> None:
        self._decoder = json.JSONDecoder(
            object_pairs_hook=_members,
            parse_int=_integer,
            parse_float=_decimal if decimals_as_text else _float,
            parse_constant=_constant,
        )

    def whole(self, text: str) -> Json:
        """Return the value that `text` is, a byte order mark and white space around it left aside.

        Raises:
            NotJson: It is none, or not one that everybody reads alike.
        """
        start = 1 if text.startswith("\ufeff") else 0
        start += len(text) - start - len(text[start:].lstrip(" \t\r\n"))
        value, end = self.beginning(text, start)
        rest = len(text) - len(text[end:].lstrip(" \t\r\n"))
        if rest < len(text):
            raise NotJson("something follows the value", text, rest)
        return value

    def beginning(self, text: str, start: int) -> tuple[Json, int]:
        """Return the value that begins at `start`, and where it ends.

        Raises:
            NotJson: None begins there, or not one that everybody reads alike.
        """
        try:
            value, end = self._decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            raise NotJson(_lower(error.msg), text, error.pos) from None
        except StopIteration:
            raise NotJson("expecting value", text, start) from None
        except RecursionError:
            raise NotJson(f"nested deeper than {DEEPEST}", text, start) from None
        except _Doubtful as error:
            at = _repeated_name(text, start) if error.name else None
            raise NotJson(error.why, text, start if at is None else at) from None
        self._check(value, text, start, end)
        return value, end

    def _check(self, value: Json, text: str, start: int, end: int) -> None:
        halves = _ESCAPED_HALF.search(text, start, end)
        for depth, item in _walk(value):
            if depth >= DEEPEST and isinstance(item, dict | list):
                raise NotJson(f"nested deeper than {DEEPEST}", text, start)
            if halves and isinstance(item, str) and _HALF.search(item):
                raise NotJson("half of a surrogate pair", text, halves.start())


class _Doubtful(Exception):
    """The parser has come to something that readers understand differently."""

    def __init__(self, why: str, *, name: bool = False) -> None:
        self.why = why
        self.name = name  #: a name that stands twice in an object


def _members(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _Doubtful("a name stands twice in one object", name=True)
    return members


def _integer(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise _Doubtful(f"a number of more than {LONGEST_NUMBER} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Doubtful("a number that is too large")
    return value


def _decimal(text: str) -> str:
    if len(text) > LONGEST_NUMBER:
        raise _Doubtful(f"a number of more than {LONGEST_NUMBER} digits")
    return text


def _constant(text: str) -> float:
    raise _Doubtful(f"{text} is no number of JSON")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(": ")


def _walk(value: Json) -> Iterator[tuple[int, Any]]:
    """Yield every value and every name in `value`, with its depth."""
    waiting: list[tuple[int, Any]] = [(0, value)]
    while waiting:
        depth, item = waiting.pop()
        yield depth, item
        if isinstance(item, dict):
            waiting += [(depth + 1, part) for part in item]
            waiting += [(depth + 1, part) for part in item.values()]
        elif isinstance(item, list):
            waiting += [(depth + 1, part) for part in item]


def _repeated_name(text: str, start: int) -> int | None:
    """Return where the first name stands for a second time in its object; what comes before it is well-formed."""
    names: list[set[str] | None] = []
    expected = False  #: whether the next text is a name
    for token in _TOKEN.finditer(text, start):
        mark = token[0]
        if mark in "{[":
            names.append(set() if mark == "{" else None)
            expected = mark == "{"
        elif mark in "}]":
            if names:
                names.pop()
            expected = False
        elif mark == ",":
            expected = bool(names) and names[-1] is not None
        elif mark == ":":
            expected = False
        elif expected and names and (known := names[-1]) is not None:
            name = json.loads(mark, strict=False)
            if name in known:
                return token.start()
            known.add(name)
            expected = False
    return None
