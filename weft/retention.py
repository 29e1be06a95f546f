"""How long ended runs are kept: the setting, and what applies it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Final

from weft.errors import InvalidInputs
from weft.journal.base import Journal, Purged
from weft.workflow import seconds

SETTING: Final = "WEFT_KEEP_RUNS"
"""`30d`: runs that ended longer ago are removed; unset: runs are kept for ever."""

AT_ONCE: Final = 1_000
"""Runs that one transaction removes, so that nobody waits long for it."""

_LOG = logging.getLogger("weft.retention")


def retention(environ: Mapping[str, str]) -> float | None:
    """Return for how many seconds ended runs are kept; None: for ever.

    Raises:
        InvalidInputs: The setting is no duration.
    """
    text = (environ.get(SETTING) or "").strip()
    return length(text, SETTING) if text else None


def length(text: str, what: str) -> float:
    """Return a duration in seconds.

    Args:
        text: Such as `30d`.
        what: Its name, for the message.

    Raises:
        InvalidInputs: It is none, or it is no time at all.
    """
    try:
        found = seconds(text)
    except ValueError:
        found = 0.0
    if found <= 0:
        raise InvalidInputs(
            f"{what} must be a duration such as 30d, 12h or 90m, got {text!r}.",
            code="not_a_duration",
            remedy="Give a number and a unit: s, m, h or d.",
        )
    return found


async def apply(journal: Journal, keep_s: float) -> Purged:
    """Remove the runs that ended longer ago than `keep_s` seconds, in short transactions, and return what went and what stayed.

    What guards against repetition stays, as `Journal.purge` says.
    """
    before = journal.now() - keep_s
    total: Counter[str] = Counter()
    while True:
        part = await journal.purge(before, limit=AT_ONCE)
        for name in ("runs", "records", "documents", "artifacts"):
            total[name] += getattr(part, name)
        if part.runs == 0:
            break
    kept = ", ".join(f"{count} for {why}" for why, count in sorted(part.kept.items())) or "none"
    if total["runs"] or part.kept:
        counts = ", ".join(f"{total[name]} {name}" for name in ("runs", "records", "documents", "artifacts"))
        _LOG.info("runs_purged %s; kept though old: %s", counts, kept)
    return Purged(total["runs"], total["records"], total["documents"], total["artifacts"], dict(part.kept))
