"""Values made into the type that an author asks for, exactly or not at all."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Final, Literal, get_args

from weft.sdk import Json

Kind = Literal["text", "integer", "number", "boolean", "date", "datetime"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

LARGEST_WHOLE: Final = 2**53  #: up to here a float holds every integer
_INTEGER = re.compile(r"[+-]?[0-9]{1,300}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,300}(\.[0-9]{1,300})?([eE][+-]?[0-9]{1,3})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WORDS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_WANTED: Final = {
    "text": "a text, a number or true or false",
    "integer": "an integer",
    "number": "a number, written like 1200.50",
    "boolean": "true or false, yes or no, 1 or 0",
    "date": "a date, written like 2026-11-22",
    "datetime": "an instant with its offset, written like 2026-11-22T08:00:00+01:00",
}


def convert(value: Json, kind: Kind) -> Json:
    """Return `value` as `kind`; null stays null. Dates and instants become texts of ISO 8601, instants in UTC.

    Raises:
        ValueError: It is none; says what is wanted and never shows the value.
    """
    if value is None:
        return None
    try:
        return _MAKERS[kind](value.strip() if isinstance(value, str) and kind != "text" else value)
    except (ValueError, OverflowError):
        raise ValueError(f"must be {_WANTED[kind]}") from None


def _text(value: Json) -> Json:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise ValueError


def _integer(value: Json) -> Json:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_WHOLE:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError


def _number(value: Json) -> Json:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value) if _INTEGER.fullmatch(value) else float(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value
    raise ValueError


def _boolean(value: Json) -> Json:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _WORDS:
        return _WORDS[value.lower()]
    raise ValueError


def _date(value: Json) -> Json:
    if isinstance(value, str) and _DATE.fullmatch(value):
        return date.fromisoformat(value).isoformat()
    raise ValueError


def _datetime(value: Json) -> Json:
    if isinstance(value, str):
        found = datetime.fromisoformat(value)
        if found.tzinfo is not None:
            return found.astimezone(UTC).isoformat().replace("+00:00", "Z")
    raise ValueError


_MAKERS: Final[dict[Kind, Callable[[Json], Json]]] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
}
