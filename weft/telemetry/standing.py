"""Metrics that the journal knows: they are true for all processes together, whichever is asked."""

from __future__ import annotations

import asyncio
from collections import Counter

from prometheus_client import CollectorRegistry, Gauge

from weft.errors import JournalUnavailable
from weft.journal.base import OPEN, Journal


async def of_journal(journal: Journal, timeout_s: float) -> CollectorRegistry:
    """Return what the journal says of all runs and schedules; that it does not answer is told by `weft_journal_up`."""
    registry = CollectorRegistry()
    up = Gauge("weft_journal_up", "Whether the journal answers.", registry=registry)
    began = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(timeout_s):
            await _fill(registry, journal)
    except (JournalUnavailable, TimeoutError):
        registry = CollectorRegistry()
        up = Gauge("weft_journal_up", "Whether the journal answers.", registry=registry)
        up.set(0)
    else:
        up.set(1)
    took = Gauge("weft_journal_answer_seconds", "How long the journal took for these metrics.", registry=registry)
    took.set(asyncio.get_running_loop().time() - began)
    return registry


async def _fill(registry: CollectorRegistry, journal: Journal) -> None:
    unfinished, now = await journal.unfinished(), journal.now()
    counts: Counter[str] = Counter(run.status.state for run in unfinished)
    runs = Gauge("weft_runs", "Runs that have not ended, of all processes.", ["state"], registry=registry)
    for state in OPEN:
        runs.labels(state).set(counts[state])
    queued = Gauge("weft_runs_queued", "Runs that wait before a gate until others end.", registry=registry)
    queued.set(sum(run.status.queued for run in unfinished))
    ready = [run.status.changed_at for run in unfinished if run.status.state == "ready"]
    age = Gauge(
        "weft_ready_oldest_age_seconds", "How long the oldest ready run has waited for a worker.", registry=registry
    )
    age.set(max(0.0, now - min(ready)) if ready else 0.0)
    left = Gauge(
        "weft_runs_abandoned",
        "Running runs whose process is dead and which nobody has taken over yet.",
        registry=registry,
    )
    left.set(len(await journal.abandoned()))
    schedules = await journal.schedules()
    armed = Gauge(
        "weft_schedules", "Schedules that are armed, by whether they are paused.", ["paused"], registry=registry
    )
    live = [each for each in schedules if not each.retired]
    for paused in (True, False):
        armed.labels(str(paused).lower()).set(sum(each.paused is paused for each in live))
    next_due = await journal.next_due()
    overdue = Gauge("weft_schedule_overdue_seconds", "How late the most overdue schedule is.", registry=registry)
    overdue.set(max(0.0, now - next_due) if next_due is not None else 0.0)
