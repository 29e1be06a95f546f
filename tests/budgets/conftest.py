from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from trade import Market, Shop, environment, write_pack


@pytest.fixture(params=["sqlite", "postgres"])
async def market(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Market]:
    """A shop and a journal of each kind that keeps what processes share; no process is left."""
    write_pack(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    if request.param == "postgres":
        monkeypatch.setenv("WEFT_DATABASE_URL", request.getfixturevalue("postgres_server").database())
    async with Shop() as shop:
        place = Market(request.param, tmp_path, tmp_path / "weft-home", shop)
        place.connection()
        yield place
        place.end_all()
