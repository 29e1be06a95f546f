"""What attempts use up, in memory."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from weft.journal.base import Full, Meter, Record, Settled
from weft.journal.decisions import amounts, over, room_at

_BY_TIME = attrgetter("at")


@dataclass(slots=True, eq=False)
class _Entry:
    run_id: str | None  #: None when it has been removed
    attempt: tuple[str, int]
    epoch: int
    key: str
    amount: int
    at: float
    window_s: float | None
    live: bool


@dataclass(slots=True)
class Meters:
    """All that was ever held, and what of it is under way."""

    totals: Counter[str] = field(default_factory=Counter)
    entries: dict[str, list[_Entry]] = field(default_factory=dict)  #: by key, each in the order of time
    of_run: dict[str, list[_Entry]] = field(default_factory=dict)

    def missing(self, run_id: str, epoch: int, begun: Record, meters: Sequence[Meter]) -> list[Meter]:
        """Return the meters that an attempt does not hold under its claim yet."""
        attempt = begun.path, begun.n, epoch
        held = {each.key for each in self.of_run.get(run_id, ()) if (*each.attempt, each.epoch) == attempt}
        return [meter for meter in meters if meter.key not in held]

    def reserve(self, run_id: str, epoch: int, begun: Record, meters: Sequence[Meter], now: float) -> Full | None:
        """Hold what an attempt may use up, or return the first meter that is full."""
        for meter in meters:
            used = self._used(meter, now)
            if used + meter.amount > meter.most:
                return Full(meter.key, used, meter.most, self._room_at(meter, used, now))
        for meter in amounts(meters):
            window_s = None if meter.live else meter.window_s
            attempt = begun.path, begun.n
            entry = _Entry(run_id, attempt, epoch, meter.key, meter.amount, now, window_s, meter.live)
            bisect.insort(self.entries.setdefault(meter.key, []), entry, key=_BY_TIME)
            self.of_run.setdefault(run_id, []).append(entry)
            if not meter.live:
                self.totals[meter.key] += meter.amount
        return None

    def _used(self, meter: Meter, now: float) -> int:
        if meter.live:
            return self._live(meter.key)
        if meter.window_s is None:
            return self.totals[meter.key]
        return sum(amount for _, amount in self._in_window(meter.key, meter.window_s, now))

    def _room_at(self, meter: Meter, used: int, now: float) -> float | None:
        if meter.live or meter.window_s is None:
            return None
        return room_at(self._in_window(meter.key, meter.window_s, now), meter, used)

    def _in_window(self, key: str, window_s: float, now: float) -> list[tuple[float, int]]:
        """Return when each entry leaves a window, and its amount; asked then, it has left."""
        entries = self.entries.get(key, [])
        first = bisect.bisect_right(entries, now, key=lambda each: each.at + window_s)
        return [(each.at + window_s, each.amount) for each in entries[first:] if not each.live]

    def _live(self, key: str) -> int:
        return sum(each.amount for each in self.entries.get(key, ()) if each.live)

    def used(self, key: str, since: float | None) -> int:
        if since is None:
            return self.totals[key] + self._live(key)
        return self._live(key) + sum(
            each.amount for each in self.entries.get(key, ()) if each.at >= since and not each.live
        )

    def reserved(self, key: str, since: float | None, is_under_way: Callable[[str, str, int, int], bool]) -> int:
        """Return what attempts hold that are under way, of a run, path, number and epoch each."""
        return sum(
            each.amount
            for each in self.entries.get(key, ())
            if each.live
            or (
                (since is None or each.at >= since)
                and each.run_id is not None
                and is_under_way(each.run_id, *each.attempt, each.epoch)
            )
        )

    def settle(self, run_id: str, epoch: int, records: Iterable[Record], settled: Iterable[Settled]) -> None:
        """End what was held while an attempt went on, and put what it has really used up in the place of what was reserved."""
        ended = set(over(records))
        self._remove([each for each in self.of_run.get(run_id, ()) if each.live and each.attempt in ended])
        for given in settled:
            for each in self.of_run.get(run_id, ()):
                mine = not each.live and each.attempt == (given.path, given.n) and each.epoch == epoch
                if mine and each.key in given.amounts:
                    self.totals[each.key] += given.amounts[each.key] - each.amount
                    each.amount = given.amounts[each.key]

    def let_go(self, run_id: str) -> None:
        """End all that was held while attempts of a run went on: its claim is void."""
        self._remove([each for each in self.of_run.get(run_id, ()) if each.live])

    def forget(self, run_ids: Iterable[str], before: float, now: float) -> None:
        """Remove the amounts of runs that are removed, as soon as no window holds them; the sums of all time stay."""
        for run_id in run_ids:
            for each in self.of_run.pop(run_id, ()):
                each.run_id = None
        for key, entries in self.entries.items():
            self.entries[key] = [
                each
                for each in entries
                if each.run_id is not None or each.at >= before or each.at + (each.window_s or 0.0) > now
            ]

    def _remove(self, entries: Iterable[_Entry]) -> None:
        for each in entries:
            self.entries[each.key].remove(each)
            if each.run_id is not None:
                self.of_run[each.run_id].remove(each)
