"""The judge of cron lines: every minute of a stretch of time is looked at, one by one.

Written from POSIX `crontab(1)` and Debian's `crontab(5)` and `cron(8)`: fields, lists, ranges and steps; day of month and
day of week both when one of them begins with `*`, either otherwise; daylight saving as `cron(8)` has it. It shares
nothing with the code that it judges.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


@lru_cache(maxsize=1_000)
def numbers(text: str, field: int) -> set[int]:
    """Return the numbers that a field names."""
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        if span == "*":
            low, high = LIMITS[field]
        else:
            first, _, last = span.partition("-")
            low = number(first, field)
            high = number(last, field) if last else low
        found |= {each for each in range(low, high + 1) if (each - low) % int(step or 1) == 0}
    return found


def number(text: str, field: int) -> int:
    if field == 3 and text.upper() in MONTHS:
        return MONTHS.index(text.upper()) + 1
    if field == 4 and text.upper() in DAYS:
        return DAYS.index(text.upper())
    return int(text)


def is_day(line: str, at: datetime) -> bool:
    """Tell whether a line names the day of `at`."""
    _, _, dom, month, dow = line.split()
    if at.month not in numbers(month, 3):
        return False
    in_month = at.day in numbers(dom, 2)
    in_week = at.isoweekday() % 7 in {each % 7 for each in numbers(dow, 4)}
    return in_month and in_week if dom[0] == "*" or dow[0] == "*" else in_month or in_week


def is_named(line: str, at: datetime) -> bool:
    minute, hour = line.split()[:2]
    return at.minute in numbers(minute, 0) and at.hour in numbers(hour, 1) and is_day(line, at)


@lru_cache(maxsize=64)
def minutes(zone: str, first: datetime, last: datetime) -> tuple[tuple[datetime, datetime], ...]:
    """Return each minute of a stretch of time, in UTC, with what the clock of a zone shows."""
    found, at, there = [], first, ZoneInfo(zone)
    while at <= last:
        found.append((at, at.astimezone(there).replace(tzinfo=None)))
        at += timedelta(minutes=1)
    return tuple(found)


def instants(line: str, zone: str, first: datetime, last: datetime) -> list[datetime]:
    """Return the instants from `first` to `last`, which are in UTC and whole minutes, that a line names in a zone."""
    shown = minutes(zone, first - timedelta(days=1), last)
    minute, hour = line.split()[:2]
    if minute[0] == "*" or hour[0] == "*":  # by elapsed time
        return [at for at, here in shown if first <= at and is_named(line, here)]
    found: set[datetime] = set()
    latest = shown[0][1]  # the latest time that the clock has shown
    for at, here in shown[1:]:
        if here <= latest:  # put back: it shows what it has shown already
            continue
        between = latest + timedelta(minutes=1)
        while between <= here:  # more than one when the clock was put forward
            if is_named(line, between):
                found.add(at)
            between += timedelta(minutes=1)
        latest = here
    return sorted(at for at in found if first <= at)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
