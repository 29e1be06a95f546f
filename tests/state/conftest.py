from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from servers.postgres import Postgres

from weft.state import State


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with Postgres({"fsync": "off", "default_transaction_isolation": "repeatable read"}) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    if request.param == "sqlite":
        return tmp_path / "home/state.db"
    address: str = request.getfixturevalue("postgres").database()
    return address


@pytest.fixture
async def state(place: Path | str) -> AsyncIterator[State]:
    made = State(place)
    yield made
    await made.close()
