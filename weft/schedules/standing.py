"""Where a schedule stands: what its document says, and which of its instants come next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from itertools import takewhile
from typing import Self

from pydantic import BaseModel, ConfigDict

from weft import workflow
from weft.journal.base import Schedule
from weft.schedules.times import Instant, Times


class Spec(BaseModel):
    """What a journal keeps of a schedule beside its columns."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    says: workflow.Schedule
    """What the document says."""
    anchor: float
    """From when an interval without `start` counts."""
    key: str | None = None
    """Of the next instant; made with it, once (rule A23): other zone data does not rename it."""
    skips: int = 0
    """Starts in a row that were skipped because of a run before."""
    paused_at: float | None = None
    file: str | None = None
    """The file that it was armed from last; its name need not be that of the workflow."""


def same_times(one: workflow.Schedule, other: workflow.Schedule) -> bool:
    """Tell whether two schedules name the same instants."""
    return all(getattr(one, name) == getattr(other, name) for name in ("cron", "every", "timezone", "start", "end"))


@dataclass(frozen=True, slots=True)
class Standing:
    """A schedule as the journal has it, read."""

    row: Schedule
    spec: Spec
    times: Times

    @classmethod
    def of(cls, row: Schedule) -> Self:
        spec = _spec(row.spec)
        return cls(row, spec, _times(spec.says, spec.anchor))

    @property
    def is_behind(self) -> bool:
        """Whether the watermark was moved beyond the next instant, as a journal does that was restored (rule A14)."""
        return self.row.next_at is not None and self.row.next_at <= self.row.watermark

    @property
    def next(self) -> Instant | None:
        """The first instant that is not decided."""
        if self.row.next_at is None:
            return None
        if self.is_behind:
            return next(self.times.after(self.row.watermark), None)
        return Instant(self.row.next_at, self.spec.key or self.times.key(self.row.next_at))

    def ahead(self) -> Iterator[Instant]:
        """Yield the instants that are not decided, the earliest first."""
        if (first := self.next) is not None:
            yield first
            yield from self.following(first)

    def following(self, instant: Instant) -> Iterator[Instant]:
        """Yield the instants after one that was kept, perhaps by a process with other zone data.

        Then a fixed time of the same day may come again under another offset; it was this one.
        """
        other_data = self.times.fixed and self.times.key(instant.at) != instant.key
        for each in self.times.after(instant.at):
            if not other_data or _shown(each.key) > _shown(instant.key):
                yield each

    def due(self, now: float) -> Iterator[Instant]:
        """Yield the undecided instants whose time has come; none before those ahead of it."""
        return takewhile(lambda instant: self.times.due(self.row.id, instant) <= now, self.ahead())

    def latest(self, now: float) -> Instant | None:
        """Return the latest instant whose time has come."""
        return next((each for each in self.times.until(now) if self.times.due(self.row.id, each) <= now), None)

    def count(self, until: float) -> int:
        """Return how many undecided instants there are until one, that one included."""
        first = self.next
        if first is None or first.at > until:
            return 0
        return 1 + self.times.count(first.at + 0.001, until)

    def after(self, last: Instant, **changes: object) -> Schedule:
        """Return the schedule with everything decided until an instant."""
        return self.at(next(self.following(last), None), watermark=max(self.row.watermark, last.at), **changes)

    def at(self, instant: Instant | None, *, watermark: float, **changes: object) -> Schedule:
        """Return the schedule with another next instant; `changes` are of its spec."""
        spec = self.spec.model_copy(update={"key": None if instant is None else instant.key, **changes})
        return replace(
            self.row,
            spec=spec.model_dump_json(),
            watermark=watermark,
            next_at=None if instant is None else instant.at,
            fire_at=None if instant is None else self.times.due(self.row.id, instant),
        )


@lru_cache(maxsize=1_000)
def _spec(text: str) -> Spec:
    return Spec.model_validate_json(text)


@lru_cache(maxsize=1_000)
def _times_of(says: str, anchor: float) -> Times:
    return Times(workflow.Schedule.model_validate_json(says), anchor)


def _times(says: workflow.Schedule, anchor: float) -> Times:
    return _times_of(says.model_dump_json(), anchor)


def _shown(key: str) -> datetime:
    """Return what the clock shows at an instant."""
    return datetime.fromisoformat(key).replace(tzinfo=None)
