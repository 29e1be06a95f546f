"""The filter `date`: an instant, written for people in a named zone, alike on every machine."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo, available_timezones

from weft.expressions import values
from weft.expressions.limits import Account, Fault

_MONTHS: Final = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_ZONE_NAME = re.compile(r"[A-Za-z0-9_+-]{1,32}(?:/[A-Za-z0-9_+-]{1,32}){0,2}")
_DIRECTIVE = re.compile(r"%(-?)(.)?", re.DOTALL)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)", re.IGNORECASE)

_NUMERALS: Final[dict[str, Callable[[datetime], str]]] = {
    "Y": lambda at: f"{at.year:04}",
    "y": lambda at: f"{at.year % 100:02}",
    "m": lambda at: f"{at.month:02}",
    "d": lambda at: f"{at.day:02}",
    "H": lambda at: f"{at.hour:02}",
    "I": lambda at: f"{(at.hour - 1) % 12 + 1:02}",
    "M": lambda at: f"{at.minute:02}",
    "S": lambda at: f"{at.second:02}",
    "j": lambda at: f"{at.timetuple().tm_yday:03}",
    "V": lambda at: f"{at.isocalendar().week:02}",
}
"""Directives that `%-` writes without leading zeros."""

_DIRECTIVES: Final[dict[str, Callable[[datetime], str]]] = {
    **_NUMERALS,
    "f": lambda at: f"{at.microsecond:06}",
    "p": lambda at: "AM" if at.hour < 12 else "PM",
    "B": lambda at: _MONTHS[at.month - 1],
    "b": lambda at: _MONTHS[at.month - 1][:3],
    "A": lambda at: _DAYS[at.weekday()],
    "a": lambda at: _DAYS[at.weekday()][:3],
    "u": lambda at: str(at.isoweekday()),
    "G": lambda at: f"{at.isocalendar().year:04}",
    "F": lambda at: at.date().isoformat(),
    "T": lambda at: f"{at.hour:02}:{at.minute:02}:{at.second:02}",
    "z": lambda at: at.strftime("%z"),
    "Z": lambda at: at.tzname() or "",
    "s": lambda at: str(int(at.timestamp())),
    "%": lambda at: "%",
}
"""Directives of strftime (C11 7.27.3.5, `%s` and `%-` of GNU), with the names of the C locale."""


def date(account: Account, value: Any, format: Any, zone: Any) -> str:  # noqa: A002 (Jinja's users know this name)
    """Write an instant: ISO 8601 text with an offset, or seconds since 1970."""
    check(account, format, zone)
    try:
        at = _instant(account, value).astimezone(_zone(zone))
    except (OverflowError, OSError, ValueError):
        raise Fault("the instant is outside the years 1 to 9999") from None

    def write(found: re.Match[str]) -> str:
        text = _DIRECTIVES[found[2]](at)
        return (text.lstrip("0") or "0") if found[1] else text

    return account.made_text(_DIRECTIVE.sub(write, format))


def check(account: Account, format: Any = "", zone: Any = "UTC") -> None:  # noqa: A002
    """Refuse a format or a zone that `date` does not know; also called before a run."""
    if len(values.text(account, format, "a format like '%d %B %Y'")) > 200:
        raise Fault("the format of `date` is longer than 200 characters")
    for found in _DIRECTIVE.finditer(format):
        allowed = _NUMERALS if found[1] else _DIRECTIVES
        if found[2] not in allowed:
            raise Fault(
                f"the format of `date` has {found[0]!r}, which is not known",
                f"Known are {', '.join(f'%{letter}' for letter in _DIRECTIVES)}; "
                f"%-d and the like write a number without leading zeros.",
            )
    _zone(values.text(account, zone, "the name of a time zone, like 'Europe/Zurich',"))


def _instant(account: Account, value: Any) -> datetime:
    if type(value) is int or type(value) is float:
        return datetime.fromtimestamp(values.finite(values.number(account, value)), UTC)
    text = values.text(account, value, "an instant: ISO 8601 text with an offset, or seconds since 1970").strip()
    if not _INSTANT.fullmatch(text):
        raise Fault(
            "the text is not an instant: ISO 8601 with an offset, like 2026-11-22T08:00:00Z",
            "Write date, time and offset; a time without offset could mean anything.",
        )
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError:
        raise Fault("the text names a date or time that does not exist") from None


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    if not _ZONE_NAME.fullmatch(name):
        raise Fault("the text is not the name of a time zone", "Use a name of the IANA database, like 'Europe/Zurich'.")
    if name in _zone_names():
        return ZoneInfo(name)
    near = values.nearest(name, sorted(_zone_names()))
    raise Fault(
        f"no time zone is called {name!r}",
        f"Did you mean {near!r}?" if near else "Use a name of the IANA database, like 'Europe/Zurich'.",
    )


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones())
