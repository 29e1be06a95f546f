"""What attempts use up, in one SQLite file: sums that do not grow with what there was before."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from weft.journal.base import Full, Meter, Record, Settled
from weft.journal.decisions import amounts, over, room_at


class Attempt(NamedTuple):
    """An attempt under a claim."""

    run: int
    path: str
    n: int
    epoch: int


def missing(connection: sqlite3.Connection, attempt: Attempt, meters: Sequence[Meter]) -> list[Meter]:
    """Return the meters that an attempt does not hold under its claim yet."""
    found = connection.execute(
        "SELECT key FROM holds INDEXED BY holds_of_attempt WHERE run = ? AND path = ? AND n = ? AND epoch = ?", attempt
    )
    held = {key for (key,) in found}
    return [meter for meter in meters if meter.key not in held]


def reserve(connection: sqlite3.Connection, attempt: Attempt, meters: Sequence[Meter], now: float) -> Full | None:
    """Hold what an attempt may use up, or return the first meter that is full."""
    for meter in meters:
        used = _used(connection, meter, now)
        if used + meter.amount > meter.most:
            return Full(meter.key, used, meter.most, _room_at(connection, meter, used, now))
    for meter in amounts(meters):
        window_s = None if meter.live else meter.window_s
        connection.execute(
            "INSERT INTO holds(run, path, n, epoch, key, amount, at, window_s, live) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*attempt, meter.key, meter.amount, now, window_s, meter.live),
        )
        if not meter.live:
            connection.execute(
                "INSERT INTO meters VALUES (?, ?) ON CONFLICT DO UPDATE SET total = total + excluded.total",
                (meter.key, meter.amount),
            )
    return None


_IN_WINDOW = "FROM holds INDEXED BY holds_by_time WHERE key = ?1 AND live = 0 AND at > ?2 - ?3 - 1.0 AND at + ?3 > ?2"
"""Both sides of the exact condition are the sum that `retry_at` is: whoever comes then is let through."""


def _used(connection: sqlite3.Connection, meter: Meter, now: float) -> int:
    if meter.live:
        return _live(connection, meter.key)
    if meter.window_s is None:
        return _total(connection, meter.key)
    (found,) = connection.execute(
        f"SELECT ifnull(sum(amount), 0) {_IN_WINDOW}", (meter.key, now, meter.window_s)
    ).fetchone()
    return int(found)


def _room_at(connection: sqlite3.Connection, meter: Meter, used: int, now: float) -> float | None:
    if meter.live or meter.window_s is None:
        return None
    entries = connection.execute(f"SELECT at + ?3, amount {_IN_WINDOW} ORDER BY at", (meter.key, now, meter.window_s))
    return room_at(entries, meter, used)


def _live(connection: sqlite3.Connection, key: str) -> int:
    (found,) = connection.execute(
        "SELECT ifnull(sum(amount), 0) FROM holds INDEXED BY holds_live WHERE key = ? AND live = 1", (key,)
    ).fetchone()
    return int(found)


def _total(connection: sqlite3.Connection, key: str) -> int:
    row = connection.execute("SELECT total FROM meters WHERE key = ?", (key,)).fetchone()
    return 0 if row is None else int(row[0])


_RESERVED = """
SELECT ifnull(sum(h.amount), 0) FROM holds AS h INDEXED BY holds_by_time JOIN statuses AS s ON s.run = h.run
WHERE h.key = ? AND h.live = 0 AND h.at >= ? AND s.epoch = h.epoch AND s.state = 'running' AND NOT EXISTS (
    SELECT 1 FROM records AS r
    WHERE r.run = h.run AND r.path = h.path AND r.n = h.n AND r.kind IN ('succeeded', 'failed', 'cancelled')
)
"""


def reserved(connection: sqlite3.Connection, keys: Sequence[str], since: float | None) -> dict[str, int]:
    """Return what attempts hold that are under way."""
    start = -math.inf if since is None else since
    found = {key: int(connection.execute(_RESERVED, (key, start)).fetchone()[0]) for key in keys}
    return {key: amount + _live(connection, key) for key, amount in found.items()}


def used(connection: sqlite3.Connection, keys: Sequence[str], since: float | None) -> dict[str, int]:
    if since is None:
        return {key: _total(connection, key) + _live(connection, key) for key in keys}
    asked = "SELECT ifnull(sum(amount), 0) FROM holds INDEXED BY holds_by_time WHERE key = ? AND live = 0 AND at >= ?"
    return {key: int(connection.execute(asked, (key, since)).fetchone()[0]) + _live(connection, key) for key in keys}


def settle(
    connection: sqlite3.Connection, run: int, epoch: int, records: Sequence[Record], settled: Sequence[Settled]
) -> None:
    """End what was held while an attempt went on, and put what it has really used up in the place of what was reserved."""
    connection.executemany(
        "DELETE FROM holds INDEXED BY holds_of_attempt WHERE run = ? AND path = ? AND n = ? AND live = 1",
        [(run, *attempt) for attempt in over(records)],
    )
    for each in settled:
        for key, amount in each.amounts.items():
            row = connection.execute(
                "SELECT hold, amount FROM holds INDEXED BY holds_of_attempt"
                " WHERE run = ? AND path = ? AND n = ? AND epoch = ? AND key = ? AND live = 0",
                (run, each.path, each.n, epoch, key),
            ).fetchone()
            if row is not None:
                connection.execute("UPDATE holds SET amount = ? WHERE hold = ?", (amount, row[0]))
                connection.execute("UPDATE meters SET total = total + ? WHERE key = ?", (amount - row[1], key))


def let_go(connection: sqlite3.Connection, run: int) -> None:
    """End all that was held while attempts of a run went on: its claim is void."""
    connection.execute("DELETE FROM holds INDEXED BY holds_of_attempt WHERE run = ? AND live = 1", (run,))


def forget(connection: sqlite3.Connection, runs: Sequence[tuple[int]], before: float, now: float) -> None:
    """Remove the amounts of runs that are removed, as soon as no window holds them; the sums of all time stay."""
    connection.executemany("UPDATE holds INDEXED BY holds_of_attempt SET run = NULL WHERE run = ?", runs)
    connection.execute(
        "DELETE FROM holds INDEXED BY holds_left WHERE run IS NULL AND at < ? AND at + ifnull(window_s, 0.0) <= ?",
        (before, now),
    )
