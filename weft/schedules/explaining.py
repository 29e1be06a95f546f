"""A schedule in words, and what the changes of its zone's clock do to it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim

from weft.schedules.times import Times
from weft.workflow import Schedule, seconds

AHEAD: Final = 400
"""Days in which changes of the clock are looked for: every zone that has them has two in a year."""
MOST_TIMES: Final = 6
"""Times of a day that a sentence lists; more are told as a rule."""

_DAYS: Final = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS: Final = tuple(
    "January February March April May June July August September October November December".split()  # noqa: SIM905
)
_ANY: Final = datetime(2024, 1, 1)  # noqa: DTZ001  cronsim wants one to read a line; it is not used


# ---- in words
def sentence(says: Schedule) -> str:
    """Say when a schedule starts runs: `Every weekday at 08:00, by the clock of Europe/Riga.`"""
    if says.cron is None:
        return f"Every {_length(seconds(says.every or ''))}, counted in elapsed time."
    return f"{_cron(says.cron)}, by the clock of {says.timezone}."


def _length(length_s: float, *, one: bool = False) -> str:
    units = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
    parts, left = [], round(length_s)
    for size, name in units:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {name}{'' if count == 1 else 's'}")
    return parts[0].removeprefix("1 ") if len(parts) == 1 and not one else " ".join(parts)


def _cron(line: str) -> str:
    minute, hour, day, month, weekday = line.upper().split()
    read = CronSim(line, _ANY)
    often = _often(minute, hour, sorted(read.minutes), sorted(read.hours))
    days = _days(day, weekday)
    months = (
        ""
        if month.startswith("*") and "/" not in month
        else f" in {_and([_MONTHS[m - 1] for m in sorted(read.months)])}"
    )
    if often.startswith("at "):
        return _first(f"{days or 'every day'}{months} {often}")
    return _first(f"{often}{', ' if days else ''}{days}{months}")


def _first(text: str) -> str:
    return text[:1].upper() + text[1:]


def _often(minute: str, hour: str, minutes: Sequence[int], hours: Sequence[int]) -> str:
    """Say how often a day's times come, or at which times."""
    every = _every(minute, 60)
    if every and hour == "*":
        return "every minute" if every == 1 else f"every {every} minutes"
    if len(minutes) == 1 and (step := _every(hour, 24)):
        past = "" if minutes[0] == 0 else f", at minute {minutes[0]}"
        return f"every hour{past}" if step == 1 else f"every {step} hours{past}"
    if len(minutes) * len(hours) <= MOST_TIMES:
        return f"at {_and([f'{h:02}:{m:02}' for h in hours for m in minutes])}"
    if _follow(hours):
        span = f"from {hours[0]:02}:{minutes[0]:02} to {hours[-1]:02}:{minutes[-1]:02}"
        if every:
            return f"every {'minute' if every == 1 else f'{every} minutes'} {span}"
        if len(minutes) == 1:
            return f"every hour {span}"
    of = "every hour" if hour == "*" else f"the hours {_and(list(map(str, hours)))}"
    return f"at minute{'s' if len(minutes) > 1 else ''} {_and(list(map(str, minutes)))} of {of}"


def _every(field: str, whole: int) -> int | None:
    """Return n of `*` or `*/n` where the last step is as long as the others."""
    if field == "*":
        return 1
    step = field.removeprefix("*/")
    return int(step) if field != step and step.isdigit() and int(step) and whole % int(step) == 0 else None


def _follow(numbers: Sequence[int]) -> bool:
    return len(numbers) > 1 and list(numbers) == list(range(numbers[0], numbers[-1] + 1))


def _days(day: str, weekday: str) -> str:
    """Say on which days; empty for all. Where both fields name days, either is enough, as in Debian's cron."""
    of_month = "" if day == "*" else _of_month(day)
    of_week = "" if weekday in {"*", "0-6", "0-7", "1-7", "SUN-SAT", "MON-SUN"} else _of_week(weekday)
    if of_month and of_week:
        both = day.startswith("*") or weekday.startswith("*")
        return f"{of_month}{' that is also' if both else ' and'} {of_week}"
    return of_month or of_week


def _of_month(field: str) -> str:
    if field == "L":
        return "on the last day of every month"
    if field == "LW":
        return "on the last weekday of every month"
    if field.startswith("*/"):
        return f"on every {field[2:]}. day of every month, from the 1st on"
    numbers = _numbers(field, [])
    if numbers is None:
        return f"on the days {field} of every month"
    return f"on day{'s' if len(numbers) > 1 else ''} {_and(list(map(str, numbers)))} of every month"


def _of_week(field: str) -> str:
    numbers = _numbers(field, [name[:3].upper() for name in _DAYS])
    if numbers is None:
        return f"on the days of the week {field}"
    found = sorted({number % 7 for number in numbers}, key=lambda each: (each - 1) % 7)
    if found == [1, 2, 3, 4, 5]:
        return "every weekday"
    return f"every {_and([_DAYS[number] for number in found])}"


def _numbers(field: str, names: Sequence[str]) -> list[int] | None:
    """Return the numbers of a list of numbers, names and ranges; None when it holds anything else."""
    found: list[int] = []
    for part in field.split(","):
        ends = [names.index(end) if end in names else int(end) if end.isdigit() else None for end in part.split("-")]
        if any(end is None for end in ends) or len(ends) > 2:
            return None
        known = [end for end in ends if end is not None]
        found += range(known[0], known[-1] + 1)
    return sorted(set(found))


def _and(words: Collection[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


# ---- changes of the clock
@dataclass(frozen=True, slots=True)
class ClockNote:
    """What a change of the clock does to a schedule."""

    kind: Literal["gap", "twice", "shift"]
    on: date  #: of the change, by the zone's calendar
    message: str
    local: str | None = None  #: the time that is not there, or is there twice: `02:30`
    starts: str | None = None  #: the clock's time of the start in its stead: `03:00`


def clock_notes(says: Schedule, after: float) -> list[ClockNote]:
    """Return what the next changes of the zone's clock do to a schedule's starts; nothing when they pass it by."""
    zone = ZoneInfo(says.timezone)
    found: list[ClockNote] = []
    for change in _changes(zone, datetime.fromtimestamp(after, UTC)):
        found += _of_interval(change) if says.cron is None else _of_cron(says, says.cron, change)
    return found


@dataclass(frozen=True, slots=True)
class _Change:
    """The clock is set at an instant: what it shows then, and what it would have shown."""

    zone: ZoneInfo
    at: datetime  #: UTC
    would: datetime  #: without zone
    shows: datetime


def _changes(zone: ZoneInfo, begin: datetime) -> Iterator[_Change]:
    before = begin
    for _ in range(AHEAD):
        after = before + timedelta(days=1)
        if before.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset():
            yield _change(zone, before, after)
        before = after


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> _Change:
    old = before.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) / 2
        if middle.astimezone(zone).utcoffset() == old:
            before = middle
        else:
            after = middle
    at = after.replace(microsecond=0)
    shows = at.astimezone(zone).replace(tzinfo=None)
    return _Change(zone, at, at.replace(tzinfo=None) + (old or timedelta()), shows)


def _of_interval(change: _Change) -> list[ClockNote]:
    moved = change.shows - change.would
    direction = "later" if moved > timedelta() else "earlier"
    message = f"From {_day(change.shows)} on the clock shows {_length(abs(moved.total_seconds()), one=True)} {direction} at each start."
    return [ClockNote("shift", change.shows.date(), message)]


def _of_cron(says: Schedule, line: str, change: _Change) -> list[ClockNote]:
    times = Times(says, change.at.timestamp())
    first, last = min(change.would, change.shows), max(change.would, change.shows)
    wanted = []
    for local in CronSim(line, first - timedelta(minutes=1)):
        if local >= last:
            break
        wanted.append(local)
    if not wanted:
        return []
    missing = change.shows > change.would
    if not times.fixed:
        clock = f"the clock is set from {change.would:%H:%M} to {change.shows:%H:%M}"
        told = (
            "no start falls into the time between" if missing else "it starts in the hour that comes twice both times"
        )
        kind: Literal["gap", "twice"] = "gap" if missing else "twice"
        return [ClockNote(kind, change.shows.date(), f"{_day(change.shows)}: {clock}; {told}.")]
    if not missing:
        return [
            ClockNote(
                "twice",
                each.date(),
                f"{_day(each)}: {each:%H:%M} comes twice; it starts the first time.",
                f"{each:%H:%M}",
            )
            for each in wanted
        ]
    start = next(times.after(change.at.timestamp() - 1), None)
    shown = None if start is None else datetime.fromisoformat(start.key).strftime("%H:%M")
    return [
        ClockNote(
            "gap",
            each.date(),
            f"{_day(each)}: {each:%H:%M} does not exist{'' if shown is None else f'; it starts at {shown}'}.",
            f"{each:%H:%M}",
            shown,
        )
        for each in wanted
    ]


def _day(at: datetime) -> str:
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}"
