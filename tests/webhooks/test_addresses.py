"""Addresses of webhooks and bodies that came before, in both databases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from weft.state import State
from weft.webhooks import addresses
from weft.webhooks.seen import first_of

Another = Callable[[], State]


@pytest.fixture(params=["sqlite", "postgres"])
async def another(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Another]:
    """Opens the tables as one more process would."""
    postgres = request.param == "postgres"
    place = request.getfixturevalue("postgres_server").database() if postgres else tmp_path / "state.db"
    opened: list[State] = []

    def open_() -> State:
        opened.append(State(place))
        return opened[-1]

    yield open_
    for state in opened:
        await state.close()


async def current(state: State) -> int:
    """Return how many addresses of `w/shop` count."""
    counted = (addresses.table.c.workflow == "w") & (addresses.table.c.name == "shop")
    query = sa.select(sa.func.count()).where(counted, addresses.table.c.until.is_(None))
    return int(await state.read(lambda connection: connection.scalar(query)) or 0)


async def test_all_processes_make_one_address(another: Another) -> None:
    """Asked for at once by several, there is one; it is found by its path, and no other path leads to it."""
    states = [another() for _ in range(4)]
    found = await asyncio.gather(*(addresses.address_of(state, "w", "shop") for state in states for _ in range(3)))

    assert len({address.path for address in found}) == 1
    assert await current(states[0]) == 1
    path = found[0].path
    assert len(path) == 43
    known = await addresses.find(states[1], path)
    assert known is not None
    assert (known.workflow, known.name, known.until) == ("w", "shop", None)
    for other in (path[:-1], path + "A", path.swapcase(), "", "'; --", "é" * 43, path[:-1] + "\n"):
        assert await addresses.find(states[0], other) is None
    assert (await addresses.address_of(states[2], "w", "other")).path != path


async def test_an_address_is_turned_over_for_everybody(another: Another) -> None:
    """The old one ends for all processes, at once or when its time is over; there is one that counts, however many turn."""
    one, other = another(), another()
    old = await addresses.address_of(one, "w", "shop")
    new = await addresses.rotate(other, "w", "shop", overlap_s=60)
    kept = await addresses.find(one, old.path)
    assert kept is not None
    assert kept.until is not None
    assert 50 < kept.until - time.time() <= 60
    assert await addresses.address_of(one, "w", "shop") == new

    await asyncio.gather(*(addresses.rotate(state, "w", "shop") for state in (one, other) for _ in range(3)))
    assert await current(other) == 1
    last = await addresses.address_of(one, "w", "shop")
    for path in (old.path, new.path):
        ended = await addresses.find(other, path)
        assert ended is not None
        assert ended.until is not None
        assert ended.until <= time.time()
    assert last.until is None


async def test_addresses_go_along_with_a_name(another: Another) -> None:
    """A workflow that is renamed is reached where it was, and takes the place of what had its new name."""
    state = another()
    moved, displaced = await addresses.address_of(state, "a", "shop"), await addresses.address_of(state, "b", "shop")
    await addresses.rename(state, "a", "b")

    assert (await addresses.address_of(state, "b", "shop")).path == moved.path
    found = await addresses.find(state, displaced.path)
    assert found is not None
    assert found.until is not None
    assert (await addresses.address_of(state, "a", "shop")).path not in (moved.path, displaced.path)


async def test_a_body_has_one_first_time(another: Another) -> None:
    """A11: within the window every process is told the same instant; after it a new one begins; others do not count."""
    states = [another() for _ in range(3)]
    told = await asyncio.gather(*(first_of(state, "w", "shop", "b", 0.6) for state in states for _ in range(4)))
    others = [
        await first_of(states[0], *about, 0.6) for about in (("w", "shop", "c"), ("w", "x", "b"), ("v", "shop", "b"))
    ]

    assert len({*told}) == 1
    assert len({*told, *others}) == 4
    await asyncio.sleep(0.7)
    assert await first_of(states[1], "w", "shop", "b", 0.6) > told[0]
