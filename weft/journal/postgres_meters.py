"""What attempts hold of meters, under the locks of their keys (rule A27)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from weft.journal.base import Full, Meter, Settled
from weft.journal.decisions import amounts, room_at
from weft.journal.postgres_link import Statement
from weft.journal.postgres_needs import Attempt, Needs
from weft.journal.postgres_rows import columns

_TOTALS: Final = "SELECT key, total FROM weft.meters WHERE key = ANY(%s)"

_WINDOW: Final = """
SELECT %s::text, %s::float8, at, sum(amount)::bigint FROM weft.holds
WHERE key = %s AND NOT live AND at > extract(epoch FROM now())::float8 - %s GROUP BY at
"""
"""One for each, with its values: the planner sees how little that is. The start of the transaction is early enough."""

_IS_UNDER_WAY: Final = """
EXISTS (SELECT FROM weft.states AS s WHERE s.id = h.run_id AND s.epoch = h.epoch AND s.state = 'running')
AND NOT EXISTS (SELECT FROM weft.records AS r WHERE r.run_id = h.run_id AND r.path = h.path AND r.n = h.n
    AND r.kind IN ('succeeded', 'failed', 'cancelled'))
"""
"""A claim that is void never comes back, and an outcome stays: what is not under way will not be again."""

_LIVE: Final = f"""
SELECT key, coalesce(sum(amount) FILTER (WHERE live), 0)::bigint, bool_and(live)
FROM (SELECT h.key, h.amount, {_IS_UNDER_WAY} AS live FROM weft.holds AS h WHERE h.live AND h.key = ANY(%s)) AS x
GROUP BY key
"""  # noqa: S608  constants

_CLEAR: Final = f"DELETE FROM weft.holds AS h WHERE h.live AND h.key = ANY(%s) AND NOT ({_IS_UNDER_WAY})"  # noqa: S608  constants

_HELD: Final = """
SELECT h.run_id, h.path, h.n, h.epoch, h.key, h.amount, h.at, h.window_s, h.live
FROM unnest(%s::text[], %s::text[], %s::integer[], %s::bigint[]) AS x(run_id, path, n, epoch)
JOIN weft.holds AS h USING (run_id, path, n, epoch)
"""

_COUNT: Final = """
INSERT INTO weft.meters AS m (key, total) SELECT * FROM unnest(%s::text[], %s::bigint[])
ON CONFLICT (key) DO UPDATE SET total = m.total + excluded.total
"""

_HOLD: Final = """
INSERT INTO weft.holds AS h (run_id, path, n, epoch, key, amount, at, window_s, live)
SELECT * FROM unnest(%s::text[], %s::text[], %s::integer[], %s::bigint[], %s::text[], %s::bigint[], %s::float8[],
    %s::float8[], %s::boolean[])
ON CONFLICT (run_id, path, n, epoch, key) DO UPDATE SET amount = excluded.amount
"""

_SINCE: Final = """
SELECT key, sum(amount)::bigint FROM weft.holds WHERE key = ANY(%s) AND at >= %s AND NOT live GROUP BY key
"""


_RESERVED: Final = f"""
SELECT h.key, sum(h.amount)::bigint FROM weft.holds AS h
WHERE h.key = ANY(%s) AND h.at >= %s AND NOT h.live AND {_IS_UNDER_WAY} GROUP BY h.key
"""  # noqa: S608  constants


@dataclass(slots=True)
class _Hold:
    amount: int
    at: float
    window_s: float | None
    live: bool


def wanted_by_hold(attempt: Attempt, meters: Iterable[Meter]) -> Needs:
    """Return what has to be known for an attempt to begin."""
    meters = list(meters)
    return Needs(
        meters={meter.key for meter in meters},
        windows={
            (meter.key, float(meter.window_s)) for meter in meters if meter.window_s is not None and not meter.live
        },
        live={meter.key for meter in meters if meter.live},
        attempts={attempt},
    )


def wanted_by_settled(run_id: str, epoch: int, settled: Iterable[Settled]) -> Needs:
    """Return what has to be known to correct what attempts hold."""
    settled = [each for each in settled if each.amounts]
    return Needs(
        meters={key for each in settled for key in each.amounts},
        attempts={(run_id, each.path, each.n, epoch) for each in settled},
    )


class Meters:
    """Meters in one transaction, as they were read and as its decisions leave them."""

    def __init__(self) -> None:
        self._totals: dict[str, int] = {}
        self._windows: dict[tuple[str, float], list[tuple[float, int]]] = {}
        self._live: dict[str, int] = {}
        self._stale: set[str] = set()  #: keys with rows of attempts that are over
        self._held: dict[Attempt, dict[str, _Hold]] = {}
        self._counted: dict[str, int] = {}
        self._changed: set[tuple[Attempt, str]] = set()

    # ---- reading
    @staticmethod
    def reading(needs: Needs) -> dict[str, Statement]:
        asked: dict[str, Statement] = {}
        if needs.meters:
            asked["totals"] = _TOTALS, (sorted(needs.meters),)
        if needs.windows:
            windows = sorted(needs.windows)
            values = [value for key, seconds in windows for value in (key, seconds, key, seconds + 1)]
            asked["windows"] = " UNION ALL ".join([_WINDOW] * len(windows)), values
        if needs.live:
            asked["live"] = _LIVE, (sorted(needs.live),)
        if needs.attempts:
            asked["held"] = _HELD, columns(sorted(needs.attempts))
        return asked

    def take(self, needs: Needs, answers: Mapping[str, Sequence[tuple[Any, ...]]]) -> None:
        self._windows = {window: [] for window in needs.windows}
        self._totals = dict(answers.get("totals", ()))
        for key, seconds, at, amount in answers.get("windows", ()):
            self._windows[key, seconds].append((at, amount))
        for key, amount, is_clean in answers.get("live", ()):
            self._live[key] = amount
            if not is_clean:
                self._stale.add(key)
        for run_id, path, n, epoch, key, *hold in answers.get("held", ()):
            self._held.setdefault((run_id, path, n, epoch), {})[key] = _Hold(*hold)

    # ---- decisions
    def missing(self, attempt: Attempt, meters: Iterable[Meter]) -> list[Meter]:
        """Return the meters that an attempt does not hold under its claim yet."""
        held = self._held.get(attempt, {})
        return [meter for meter in meters if meter.key not in held]

    def full(self, meters: Iterable[Meter], now: float) -> Full | None:
        """Return the first meter that is full."""
        for meter in meters:
            entries = self._entries(meter, now)
            used = self._used(meter, entries)
            if used + meter.amount > meter.most:
                retry_at = room_at(entries, meter, used) if meter.window_s is not None and not meter.live else None
                return Full(meter.key, used, meter.most, retry_at)
        return None

    def _entries(self, meter: Meter, now: float) -> list[tuple[float, int]]:
        """Return when what counts leaves the window, and how much that is."""
        seconds = meter.window_s
        if seconds is None or meter.live:
            return []
        found = self._windows[meter.key, seconds]
        return sorted((at + seconds, amount) for at, amount in found if at + seconds > now)

    def _used(self, meter: Meter, entries: Iterable[tuple[float, int]]) -> int:
        if meter.live:
            return self._live.get(meter.key, 0)
        if meter.window_s is not None:
            return sum(amount for _, amount in entries)
        return self._totals.get(meter.key, 0)

    def hold(self, attempt: Attempt, meters: Iterable[Meter], now: float) -> None:
        held = self._held.setdefault(attempt, {})
        for meter in amounts(meters):
            held[meter.key] = _Hold(meter.amount, now, None if meter.live else meter.window_s, meter.live)
            self._changed.add((attempt, meter.key))
            if meter.live:
                self._live[meter.key] = self._live.get(meter.key, 0) + meter.amount
            else:
                self._count(meter.key, now, meter.amount)

    def settle(self, attempt: Attempt, amounts_: Mapping[str, int]) -> None:
        """Put what was really used in the place of what was reserved."""
        held = self._held.get(attempt, {})
        for key, amount in amounts_.items():
            hold = held.get(key)
            if hold is None or hold.live or hold.amount == amount:  # a live one ends with the outcome
                continue
            self._count(key, hold.at, amount - hold.amount)
            hold.amount = amount
            self._changed.add((attempt, key))

    def _count(self, key: str, at: float, amount: int) -> None:
        self._totals[key] = self._totals.get(key, 0) + amount
        self._counted[key] = self._counted.get(key, 0) + amount
        for (of, _), entries in self._windows.items():
            if of == key:
                entries.append((at, amount))

    # ---- writing
    def writing(self) -> list[Statement]:
        statements: list[Statement] = []
        if self._counted:
            statements.append((_COUNT, columns(sorted(self._counted.items()))))
        if self._changed:
            rows = []
            for attempt, key in sorted(self._changed):
                hold = self._held[attempt][key]
                rows.append((*attempt, key, hold.amount, hold.at, hold.window_s, hold.live))
            statements.append((_HOLD, columns(rows)))
        if stale := sorted(key for key in self._stale if self._live_granted(key)):
            statements.append((_CLEAR, (stale,)))
        return statements

    def _live_granted(self, key: str) -> bool:
        """Tell whether a decision has been made under the lock of this key; nobody else clears its rows away then."""
        return any(key == changed for _, changed in self._changed)


def using(keys: Sequence[str], since: float | None, *, reserved: bool) -> tuple[Statement, Statement]:
    """Return the statements that read what was used up, or is reserved: of keys with a sum, and of live ones."""
    counted: Statement = (_TOTALS, (list(keys),)) if since is None else (_SINCE, (list(keys), since))
    if reserved:
        counted = _RESERVED, (list(keys), -math.inf if since is None else since)
    return counted, (_LIVE, (list(keys),))
