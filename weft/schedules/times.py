"""The instants that a cron line or an interval names, in a zone.

The rule for daylight saving is that of Debian's cron. Fixed times (neither minute nor hour begins with `*`) happen once
a day: one that the clock jumps over happens right after the jump, one that the clock shows twice happens the first time.
All others go by elapsed time: whenever the clock shows such a time.

The line is read, and its days are chosen, by cronsim. The days are walked here: cronsim's own walk loses times of a
zone whose clock jumps by half an hour.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim

from weft.workflow import Schedule, instant, seconds

YEARS: Final = 50
"""How far the next instant is looked for."""

EARLIEST: Final = 0
LATEST: Final = 253_370_764_800_000  # the year 9999
"""Between which instants there are any; milliseconds since 1970."""

_DAY: Final = timedelta(days=1)
_ANY: Final = datetime(2024, 1, 1)  # noqa: DTZ001  cronsim wants one to read a line; it is not used


@dataclass(frozen=True, slots=True)
class Instant:
    """One of a schedule's instants."""

    at: float  #: seconds since 1970, UTC
    key: str  #: local time with its offset


class _Ticks(Protocol):
    """Instants in milliseconds since 1970."""

    def after(self, ms: int) -> Iterator[int]:
        """Yield those after an instant, the earliest first."""

    def until(self, ms: int) -> Iterator[int]:
        """Yield those until an instant, the latest first."""

    def count(self, first: int, last: int) -> int:
        """Return how many there are, both ends included."""


class Times:
    """The instants of a schedule.

    Args:
        schedule: What the document says.
        anchor: From when an interval without `start` counts; seconds since 1970.
    """

    def __init__(self, schedule: Schedule, anchor: float) -> None:
        self.zone: Final = ZoneInfo(schedule.timezone)
        self._first = EARLIEST if schedule.start is None else _ms_of(schedule.start)
        self._last = LATEST if schedule.end is None else _ms_of(schedule.end)
        self._jitter_s = 0.0 if schedule.jitter is None else seconds(schedule.jitter)
        self._ticks: _Ticks
        if schedule.cron is not None:
            self._ticks = _Cron(schedule.cron, self.zone)
        else:
            every = round(seconds(schedule.every or "") * 1000)
            self._ticks = _Interval(round(anchor * 1000) + every if schedule.start is None else self._first, every)
        self.fixed: Final = isinstance(self._ticks, _Cron) and self._ticks.fixed

    def after(self, at: float) -> Iterator[Instant]:
        """Yield the instants after `at`, the earliest first."""
        found = self._ticks.after(max(_ms(at), self._first - 1))
        return map(self._instant, takewhile(lambda each: each <= self._last, found))

    def until(self, at: float) -> Iterator[Instant]:
        """Yield the instants until `at`, that one included, the latest first."""
        found = self._ticks.until(min(_ms(at), self._last))
        return map(self._instant, takewhile(lambda each: each >= self._first, found))

    def count(self, first: float, last: float) -> int:
        """Return how many instants there are from `first` to `last`, both included."""
        begin, end = max(_ms(first), self._first), min(_ms(last), self._last)
        return self._ticks.count(begin, end) if begin <= end else 0

    def key(self, at: float) -> str:
        """Return the name of an instant: local time with its offset."""
        return (datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=_ms(at))).astimezone(self.zone).isoformat()

    def due(self, schedule_id: str, instant: Instant) -> float:
        """Return when an instant is due: itself, put off by its jitter, the same whoever asks.

        It is never put off beyond the next one: instants are decided in order, and would hold each other up.
        """
        if not self._jitter_s:
            return instant.at
        following = next(self.after(instant.at), None)
        most = self._jitter_s if following is None else min(self._jitter_s, following.at - instant.at)
        digest = hashlib.sha256(f"{schedule_id}\n{instant.key}".encode()).digest()
        share = int.from_bytes(digest[:8], "big") / 2**64
        return instant.at + round(share * most, 3)

    @property
    def jitter_s(self) -> float:
        return self._jitter_s

    def _instant(self, ms: int) -> Instant:
        return Instant(ms / 1000, self.key(ms / 1000))


def _ms(at: float) -> int:
    return round(at * 1000)


def _ms_of(text: str) -> int:
    found = instant(text)
    assert found is not None  # noqa: S101  the model has checked it
    return round(found.timestamp() * 1000)


class _Interval:
    """Every so many milliseconds of elapsed time, from a first instant on."""

    def __init__(self, first: int, every: int) -> None:
        self._first = first
        self._every = every

    def after(self, ms: int) -> Iterator[int]:
        at = self._first + max(0, (ms - self._first) // self._every + 1) * self._every
        while True:
            yield at
            at += self._every

    def until(self, ms: int) -> Iterator[int]:
        return iter(range(self._first + (ms - self._first) // self._every * self._every, self._first - 1, -self._every))

    def count(self, first: int, last: int) -> int:
        def until(ms: int) -> int:
            return max(0, (ms - self._first) // self._every + 1)

        return until(last) - until(first - 1)


class _Cron:
    """What a cron line names, day by day."""

    def __init__(self, line: str, zone: ZoneInfo) -> None:
        self._days = CronSim(line, _ANY)
        self._zone = zone
        minute, hour = line.split()[:2]
        self.fixed = not minute.startswith("*") and not hour.startswith("*")
        self._clock = [(h, m) for h in sorted(self._days.hours) for m in sorted(self._days.minutes)]
        self._seconds = [(h * 60 + m) * 60 for h, m in self._clock]
        self._of = lru_cache(maxsize=8)(self._find)

    def after(self, ms: int) -> Iterator[int]:
        last = ms // 1000
        for day in self._forward(self._date(last) - _DAY):
            found = self._of(day)
            for at in found[bisect_right(found, last) :]:
                yield at * 1000
                last = at

    def until(self, ms: int) -> Iterator[int]:
        before = ms // 1000 + 1
        for day in self._backward(self._date(before) + _DAY):
            for at in reversed(self._of(day)):
                if at < before:
                    yield at * 1000
                    before = at

    def count(self, first: int, last: int) -> int:
        begin, end = -(-first // 1000), last // 1000
        total, seen = 0, begin - 1
        whole = self._date(begin) + 2 * _DAY, self._date(end) - 2 * _DAY
        for day in self._forward(self._date(begin) - _DAY):
            if day > self._date(end) + _DAY:
                break
            if whole[0] < day < whole[1] and self._steady(day) and self._steady(day - _DAY):
                total += len(self._clock)  # no need to make them
                continue
            found = [at for at in self._of(day) if seen < at <= end]
            total += len(found)
            seen = max([seen, *found])
        return total

    # ---- days
    def _date(self, at: int) -> date:
        return datetime.fromtimestamp(at, self._zone).date()

    def _forward(self, day: date) -> Iterator[date]:
        """Yield the days that the line names, from one on."""
        last = min(day.year + YEARS, date.max.year - 1)
        while day.year <= last:
            if day.month not in self._days.months:
                day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
                continue
            if self._days.match_day(day):
                yield day
            day += _DAY

    def _backward(self, day: date) -> Iterator[date]:
        first = max(day.year - YEARS, 1970)
        while day.year >= first:
            if day.month not in self._days.months:
                day = day.replace(day=1) - _DAY
                continue
            if self._days.match_day(day):
                yield day
            day -= _DAY

    # ---- the instants of a day
    def _steady(self, day: date) -> bool:
        """Tell whether the clock is not put forward or back on a day."""
        return self._offset(day) == self._offset(day + _DAY)

    def _offset(self, day: date) -> timedelta:
        return _known(datetime(day.year, day.month, day.day, tzinfo=self._zone).utcoffset())

    def _find(self, day: date) -> tuple[int, ...]:
        """Return the instants of a day in seconds, in order."""
        if self._steady(day):
            midnight = int(datetime(day.year, day.month, day.day, tzinfo=self._zone).timestamp())
            return tuple([midnight + each for each in self._seconds])
        found: set[int] = set()
        for hour, minute in self._clock:
            here = datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001  what a clock shows
            if self.fixed:
                found.add(self._right_after(here))
            else:
                found.update(at for at in (self._at(here, 0), self._at(here, 1)) if at is not None)
        return tuple(sorted(found))

    def _right_after(self, here: datetime) -> int:
        """Return when the clock shows a time first, or the first minute after the jump over it."""
        while (at := self._at(here, 0)) is None:
            here += timedelta(minutes=1)
        return at

    def _at(self, here: datetime, fold: int) -> int | None:
        """Return when the clock shows a time, the first or second time; None when it never does."""
        at = int(here.replace(tzinfo=self._zone, fold=fold).timestamp())
        return at if datetime.fromtimestamp(at, self._zone).replace(tzinfo=None) == here else None


def _known(offset: timedelta | None) -> timedelta:
    assert offset is not None  # noqa: S101  the zone is known
    return offset
