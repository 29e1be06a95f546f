"""Pages of runs: a cursor stands for a place in the list, also when the run that stood there was removed since."""

from __future__ import annotations

import math
from dataclasses import replace

from weft.errors import NotFound
from weft.journal.base import Journal, Listed, RunQuery
from weft.server.deps import cursor, read_cursor

SAME_INSTANT = 200
"""Runs that were accepted at the very instant of the last one of a page, and are looked through beside it."""


def place_behind(run: Listed) -> str:
    """Return the cursor of the page that begins behind a run."""
    return cursor(run.row.id, repr(run.row.started_at))


async def runs_behind(journal: Journal, query: RunQuery, place: str | None) -> list[Listed]:
    """Return the runs that a query asks for behind a place, the youngest first.

    Raises:
        InvalidInputs: The place is none of this list (`bad_cursor`).
    """
    if place is None:
        return await journal.runs(query)
    run_id, instant = read_cursor(place, str, str)
    try:
        return await journal.runs(replace(query, before=run_id))
    except NotFound:  # it was removed meanwhile: what is older than it was is asked for
        at = _seconds(instant)
        until = math.nextafter(at, math.inf)
        within = until if query.until is None else min(query.until, until)
        found = await journal.runs(replace(query, before=None, until=within, limit=query.limit + SAME_INSTANT))
        return [each for each in found if (each.row.started_at, each.row.id) < (at, run_id)][: query.limit]


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    return found if math.isfinite(found) else 0.0
