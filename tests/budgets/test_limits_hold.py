"""Limits of a connection are kept exactly, by all processes together, and a long wait holds no memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from trade import Market, Shop, end_of, until, write_pack

from weft import packs
from weft.journal.memory import MemoryJournal
from weft.runtime import Runtime


async def test_slots_are_exact_across_processes(market: Market) -> None:
    """Three workers that could do thirty things at once do exactly three, and all of them in the end (A27)."""
    market.connection(concurrency=3)
    await market.submit(market.workflow(price=1, seconds=0.1), 24)
    workers = [market.worker("--until-idle", "--concurrency", "10") for _ in range(3)]

    assert [await end_of(worker) for worker in workers] == [0, 0, 0]
    assert await market.states() == {"succeeded": 24}
    assert len(market.shop.sales) == 24
    assert market.shop.most_inside == 3


async def test_the_slot_of_a_killed_process_is_free_again(market: Market) -> None:
    """A slot is held under a claim: when its owner is dead, others have it, and the run goes on too."""
    market.connection(concurrency=1)
    await market.submit(market.workflow(price=1, seconds=0.5), 2)
    first = market.worker()
    await until(lambda: market.shop.sales)
    first.kill()
    await end_of(first)

    assert await end_of(market.worker("--until-idle")) == 0
    assert await market.states() == {"succeeded": 2}
    assert len(market.shop.sales) == 3
    assert market.shop.most_inside <= 2  # what the dead process had asked for, the shop may still be busy with


@pytest.mark.parametrize("limit", [{"requests_per_minute": 5}, {"tokens_per_minute": 500}])
async def test_a_full_minute_parks_what_is_left_of_it(market: Market, limit: dict[str, int]) -> None:
    """Two workers begin exactly as much as a minute allows; the rest waits on record, in nobody's memory."""
    market.connection(**limit)
    await market.submit(market.workflow(price=1, tokens=100), 8)
    workers = [market.worker("--until-idle") for _ in range(2)]

    assert [await end_of(worker) for worker in workers] == [0, 0]
    assert len(market.shop.sales) == 5
    assert await market.states() == {"succeeded": 5, "waiting": 3}
    async with market.runtime() as runtime:
        now = runtime.journal.now()
    for run in await market.runs():
        if run.status.state == "waiting":
            assert run.status.wake_at is not None
            assert 20 < run.status.wake_at - now <= 60


class Desk:
    """A runtime whose time stands until it is moved."""

    def __init__(self, directory: Path, shop: Shop, **limits: int) -> None:
        self.now = 1_772_366_400.0
        write_pack(directory)
        self.market = Market("memory", directory, directory / "home", shop)
        self.market.connection(**limits)
        self.runtime = Runtime(
            self.market.home,
            packs.discover([directory / "pack"]),
            connections_file=self.market.home / "connections.yaml",
            environ={},
            journal=MemoryJournal(clock=lambda: self.now),
        )

    async def turn(self, runs: list[str]) -> dict[str, str]:
        """Let everything go on that can, and return the states."""
        journal = self.runtime.journal
        await journal.wake(100)
        await asyncio.gather(*(self.runtime.driver.advance(run) for run in await journal.ready(100)))
        assert not any(map(self.runtime.driver.holds, runs))
        return {run: (await journal.status(run)).status.state for run in runs}


async def test_it_goes_on_when_the_minute_has_room(tmp_path: Path) -> None:
    """A parked run begins as soon as enough has left the window, and not before."""
    async with Shop() as shop:
        desk = Desk(tmp_path, shop, requests_per_minute=2)
        async with desk.runtime as runtime:
            await runtime.opened()
            plan = runtime.compile(desk.market.workflow(price=1))
            runs = [await runtime.submit(plan, {}) for _ in range(3)]
            assert sorted((await desk.turn(runs)).values()) == ["succeeded", "succeeded", "waiting"]
            desk.now += 59.9
            assert "waiting" in (await desk.turn(runs)).values()
            desk.now += 0.2
            assert set((await desk.turn(runs)).values()) == {"succeeded"}
    assert len(shop.sales) == 3


async def test_who_needs_more_than_a_minute_has_begins_in_an_empty_one(tmp_path: Path) -> None:
    """A request that is larger than the limit is made once nothing else was in the minute before it."""
    async with Shop() as shop:
        desk = Desk(tmp_path, shop, tokens_per_minute=100)
        async with desk.runtime as runtime:
            await runtime.opened()
            runs = []
            for tokens in (10, 1000):
                plan = runtime.compile(desk.market.workflow(price=1, tokens=tokens))
                runs.append(await runtime.submit(plan, {}))
            assert list((await desk.turn(runs)).values()) == ["succeeded", "waiting"]
            desk.now += 60.1
            assert list((await desk.turn(runs)).values()) == ["succeeded", "succeeded"]
