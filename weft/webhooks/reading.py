"""From the bytes of a body to data, by one parser for each content type. What it returns is data and stays data."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from email.message import Message
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl

from weft.types import Json
from weft.webhooks.requests import Headers, Refused

DEEPEST: Final = 64
"""How deep values may be nested."""

MOST_FIELDS: Final = 1_000
"""Of a form, or a query."""

_UTF_8: Final = ("", "utf-8", "utf8", "us-ascii", "ascii")


def body_of(headers: Headers, body: bytes) -> Json:
    """Return what a body says.

    Raises:
        Refused: Its type is not one of those that are taken (415), or it is not what its type says (400).
    """
    kind, charset = _type_of(headers.one("content-type"))
    parse = _parser(kind)
    if charset not in _UTF_8:
        raise Refused(415, "unknown_type", "Texts are taken in UTF-8.")
    try:
        return parse(body.decode())
    except UnicodeDecodeError:
        raise _bad("The body is not UTF-8.") from None


def _parser(kind: str) -> Callable[[str], Json]:
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        return json_of
    if kind == "application/x-www-form-urlencoded":
        return form_of
    if kind.startswith("text/"):
        return str
    raise Refused(415, "unknown_type", "Taken are JSON, forms (application/x-www-form-urlencoded) and text.")


def _type_of(header: str | None) -> tuple[str, str]:
    if not header:
        raise Refused(415, "unknown_type", "The request has no Content-Type.")
    message = Message()
    message["content-type"] = header
    charset = message.get_param("charset", "")
    return header.partition(";")[0].strip().lower(), charset.lower() if isinstance(charset, str) else "?"


def json_of(text: str) -> Json:
    """Return the value of a JSON text (RFC 8259), read strictly.

    Raises:
        Refused: It is none, or holds what others would read differently: NaN, a number beyond all bounds, half of a
            surrogate pair, a key twice; or it is nested too deeply.
    """
    try:
        value: Json = json.loads(text, parse_constant=_constant, parse_float=_number, object_pairs_hook=_object)
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise _bad("The body is not JSON.") from None
    _look_through(value)
    return value


def form_of(text: str) -> Json:
    """Return the fields of a form, each of which may stand there once.

    Raises:
        Refused: It is none.
    """
    if not text:
        return {}
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=MOST_FIELDS
        )
    except ValueError:
        raise _bad("The body is not a form.") from None
    return dict(once(pairs))


def once(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return names with their values.

    Raises:
        Refused: A name stands there twice, or there are too many.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Refused(400, "repeated_name", "A name stands twice in the query or the form.")
    if len(found) > MOST_FIELDS:
        raise _bad(f"There are more than {MOST_FIELDS:,} fields.")
    return found


def _constant(name: str) -> NoReturn:
    raise _bad(f"{name} is not JSON.")


def _number(text: str) -> float:
    if math.isinf(number := float(text)):
        raise _bad("A number is too large.")
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _bad("A key stands twice in one object.")
    return found


def _look_through(value: Json) -> None:
    """Refuse what is nested too deeply, and texts that are no texts; without recursion of its own."""
    level: list[Json] = [value]
    for _ in range(DEEPEST + 1):
        inner: list[Json] = []
        for each in level:
            match each:
                case str():
                    _whole([each])
                case dict():
                    _whole(each)
                    inner += each.values()
                case list():
                    inner += each
        if not inner:
            return
        level = inner
    raise _too_deep()


def _whole(texts: Iterable[str]) -> None:
    for text in texts:
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise _bad("A text holds half of a surrogate pair.") from None


def _bad(message: str) -> Refused:
    return Refused(400, "bad_body", message)


def _too_deep() -> Refused:
    return _bad(f"Values are nested more than {DEEPEST} deep.")
