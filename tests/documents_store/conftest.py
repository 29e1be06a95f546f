from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from document_stores import Store
from servers.postgres import Postgres

from weft.documents.database import DatabaseDocuments
from weft.documents.directory import DirectoryDocuments
from weft.state import State


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(params=["directory", "database"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened: list[tuple[State, DirectoryDocuments | DatabaseDocuments]] = []
    url = request.getfixturevalue("postgres").database() if request.param == "database" else None

    async def another() -> DirectoryDocuments | DatabaseDocuments:
        state = State(url or tmp_path / "home/state.db")

        async def opened_state() -> State:
            await state.open()
            return state

        made: DirectoryDocuments | DatabaseDocuments
        if url:
            made = DatabaseDocuments(opened_state)
        else:
            made = DirectoryDocuments(tmp_path / "workflows", tmp_path / "home", opened_state)
        opened.append((state, made))
        return made

    yield Store(await another(), another)
    for state, made in opened:
        await made.close()
        await state.close()
    await asyncio.sleep(0)
