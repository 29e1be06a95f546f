"""The places where the dispatchers are tried: which journal, which dispatcher."""

from __future__ import annotations

from pathlib import Path

from advancing import Work
from pgqueuer_adapter import PgQueuerDispatcher

from weft.dispatch.base import Dispatcher
from weft.dispatch.keeper import Keeper
from weft.dispatch.local import LocalDispatcher
from weft.dispatch.procrastinate import ProcrastinateDispatcher
from weft.journal.base import Journal
from weft.journal.memory import MemoryJournal
from weft.journal.postgres import PostgresJournal
from weft.journal.sqlite import SqliteJournal

DEAD_S = 1.5
"""After how long without a beat a process is dead in these tests."""

ENGINES = ("procrastinate", "pgqueuer")
JOB_TABLES = {"procrastinate": "procrastinate_jobs", "pgqueuer": "pgqueuer"}


async def site(kind: str, place: str, *, limit: int = 20) -> tuple[Journal, Dispatcher]:
    """Return an open journal and a dispatcher for one more process at a place (a file, or an address)."""
    journal: Journal
    dispatcher: Dispatcher
    if kind in ENGINES:
        make = ProcrastinateDispatcher if kind == "procrastinate" else PgQueuerDispatcher
        dispatcher = make(place, limit=limit)
        journal = PostgresJournal(place, dead_s=DEAD_S, enqueue=dispatcher.enqueue)
        await journal.open()
        await dispatcher.install()
        return journal, dispatcher
    journal = MemoryJournal() if kind == "memory" else SqliteJournal(Path(place))
    await journal.open()
    return journal, LocalDispatcher(journal, limit=limit, look_s=0.2)


def keeper(journal: Journal, dispatcher: Dispatcher | None, work: Work, *, sweep_s: float = 60.0) -> Keeper:
    """Return a keeper for these short times."""
    return Keeper(
        journal,
        dispatcher,
        work,
        beat_s=DEAD_S / 8,
        attention_s=0.1,
        wake_s=0.2,
        takeover_s=0.2,
        sweep_s=sweep_s,
    )
