"""The journals that the one suite for all of them is asked of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from servers.journals import Bench, Clock

from weft.journal.base import Journal
from weft.journal.memory import MemoryJournal
from weft.journal.postgres import PostgresJournal
from weft.journal.sqlite import SqliteJournal


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    """One journal of each kind, with what its tests need."""
    clock = Clock()
    async with AsyncExitStack() as closing:

        async def opened(journal: Journal) -> Journal:
            await journal.open()
            closing.push_async_callback(journal.close)
            return journal

        if request.param == "memory":
            memory = MemoryJournal("m0", clock=clock)
            await opened(memory)
            bench = Bench(memory, lambda: opened(MemoryJournal("m1", clock=clock, beside=memory)), clock)
        elif request.param == "postgres":
            address = request.getfixturevalue("postgres_server").database()
            journal = await opened(PostgresJournal(address, dead_s=0.5))
            bench = Bench(journal, lambda: opened(PostgresJournal(address, dead_s=0.5)), dead_s=0.5)
        else:
            file = tmp_path / "home" / "journal.db"
            journal = await opened(SqliteJournal(file, clock=clock))
            bench = Bench(journal, lambda: opened(SqliteJournal(file, clock=clock)), clock)
        bench.document = await bench.journal.keep_document("what runs follow")
        yield bench


@pytest.fixture
def journal(bench: Bench) -> Journal:
    return bench.journal
