from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.postgres import Postgres
from workplace import EFFECTS, ROOT, Workplace, write_files


@pytest.fixture(scope="session")
def worker_database() -> Iterator[Postgres]:
    """A server for the tests that do not stop it."""
    with Postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def workplace(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    """A place on a journal of each kind; no process is left."""
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.setenv(EFFECTS, str(tmp_path / "effects"))
    monkeypatch.setenv("WEFT_WORKSPACE", str(tmp_path / "workflows"))  # with a database it would be in there
    if request.param == "postgres":
        monkeypatch.setenv("WEFT_DATABASE_URL", request.getfixturevalue("worker_database").database())
    place = Workplace(request.param, tmp_path / "weft-home", tmp_path / "effects")
    yield place
    place.end_all()
