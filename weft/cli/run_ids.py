"""Finds the run that a person means: its id, or the beginning of it."""

from __future__ import annotations

import re

from weft.errors import NotFound
from weft.journal.base import Journal, Listed, RunQuery

SHORTEST = 3
"""Characters of a beginning that are looked for."""

AROUND_S = 3600.0
"""A run's id has the time of the process that made it, its row that of the database: they may differ by this much."""

_TIMED = re.compile(r"[0-9a-f]{1,12}(?:-[0-9a-f]{0,10})?")


async def find(journal: Journal, given: str) -> Listed:
    """Return the run with this id, or the only one whose id begins so.

    Raises:
        NotFound: There is none (`unknown_run`), or several begin so (`ambiguous_run`).
    """
    try:
        return await journal.status(given)
    except NotFound:
        if len(given) < SHORTEST:
            raise
    found = await _beginning_with(journal, given)
    if not found:
        raise NotFound(
            f"There is no run {given!r}, and none whose id begins so.",
            code="unknown_run",
            remedy="`weft runs list` shows all.",
        )
    if len(found) > 1:
        named = ", ".join(each.row.id for each in found[:4]) + (" and more" if len(found) > 4 else "")
        raise NotFound(
            f"Several runs begin with {given!r}: {named}.", code="ambiguous_run", remedy="Give more of the id."
        )
    return found[0]


async def _beginning_with(journal: Journal, given: str) -> list[Listed]:
    """Return the youngest runs that begin so, five at most; only those of the time that the id says are looked at."""
    since = until = None
    if _TIMED.fullmatch(given):
        stamp = given.partition("-")[0]
        since = int(stamp.ljust(12, "0"), 16) / 1000 - AROUND_S
        until = int(stamp.ljust(12, "f"), 16) / 1000 + AROUND_S
    found: list[Listed] = []
    before: str | None = None
    while len(found) < 5:
        page = await journal.runs(RunQuery(text=given, since=since, until=until, limit=100, before=before))
        found += [each for each in page if each.row.id.startswith(given)]
        if len(page) < 100:
            break
        before = page[-1].row.id
    return found[:5]
