"""A worker on PostgreSQL outlives the absence of its database (rules A1, A12, A16)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.postgres import Postgres
from workplace import EFFECTS, ROOT, Workplace, many, until, write_files

AWAY_S = float(many("LAB_AWAY_S", 2))


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Workplace, Postgres]]:
    """A place on a server of its own, which the test may stop."""
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    monkeypatch.setenv(EFFECTS, str(tmp_path / "effects"))
    with Postgres() as server:
        monkeypatch.setenv("WEFT_DATABASE_URL", server.database())
        place = Workplace("postgres", tmp_path / "weft-home", tmp_path / "effects")
        yield place, server
        place.end_all()


async def test_a_database_that_comes_later_is_waited_for(away: tuple[Workplace, Postgres]) -> None:
    """A worker that starts before its database says so, waits, leaves when it is told to, or works when it is there."""
    place, server = away
    await place.submit("marks")
    server.stop()
    worker, other = place.worker("--until-idle"), place.worker()
    worker.until(lambda: worker.events("journal_away") and other.events("journal_away"))
    other.signal(signal.SIGTERM)
    assert other.end(5) == 0

    server.start()

    assert worker.end() == 0, worker.told()
    assert worker.events("journal_back")
    assert await place.states() == {"succeeded": 1}


async def test_a_database_that_goes_away_is_waited_for(away: tuple[Workplace, Postgres]) -> None:
    """While the database is away no worker exits; afterwards every step has begun once (rule A1)."""
    place, server = away
    await place.submit("marks", 10, seconds=AWAY_S / 2)
    workers = [place.started("--concurrency", "5") for _ in range(2)]
    until(lambda: len(place.seen("begin")) >= 10)
    server.stop("immediate")
    await asyncio.sleep(AWAY_S)
    until(
        lambda: all(worker.events("journal_away") for worker in workers),
        told=lambda: "\n".join(worker.told() for worker in workers),
    )
    assert [worker.popen.poll() for worker in workers] == [None, None]
    server.start()
    until(lambda: sum(len(worker.events("run")) for worker in workers) == 10, AWAY_S * 3 + 20)
    until(lambda: all(worker.events("journal_back") for worker in workers))
    for worker in workers:
        worker.signal(signal.SIGTERM)

    assert [worker.end() for worker in workers] == [0, 0]
    assert await place.states() == {"succeeded": 10}
    assert len(place.seen("begin")) == 30


async def test_a_stop_while_the_database_is_away(away: tuple[Workplace, Postgres]) -> None:
    """A worker leaves in time, with exit code 0, also when it cannot put its runs down."""
    place, server = away
    await place.submit("marks", seconds=60)
    worker = place.started("--grace", "0.3")
    until(lambda: place.seen("begin"))
    server.stop("immediate")
    worker.signal(signal.SIGTERM)

    assert worker.end(2) == 0
