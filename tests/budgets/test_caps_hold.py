"""A cap is kept by everybody who asks the same journal, whatever becomes of them (rule A27)."""

from __future__ import annotations

import asyncio
import json
import os
from decimal import Decimal

import pytest
from trade import Market, end_of, until

from weft.budgets.keys import Kept, day_of
from weft.journal.base import Listed

RUNS = 100
PRICE = 0.05
DAY = {"day": {"cost": 1.0}}
KILLS = int(os.environ.get("LAB_MARKET_KILLS", "2"))
"""How often all processes are killed in their calls."""


def problem_of(run: Listed) -> str:
    return str(json.loads(run.status.result or "{}")["problem"]["code"])


async def day_key(market: Market) -> str:
    async with market.runtime() as runtime:
        return Kept("cost", "workflow", "trade", day_of(runtime.journal.now()), "USD").key


async def test_many_runs_at_once_do_not_pass_a_cap(market: Market) -> None:
    """A hundred runs of 0.05 beside each other: twenty are made, the others stop before their call."""
    file = market.workflow(DAY, price=PRICE, seconds=0.02)
    async with market.runtime() as runtime:
        plan = runtime.compile(file)
        reports = await asyncio.gather(*(runtime.run(plan, {}) for _ in range(RUNS)))

    assert market.shop.sold == Decimal("1.00")
    assert sum(report.state == "succeeded" for report in reports) == 20
    problems = [report.problem for report in reports if report.problem]
    assert {problem.code for problem in problems} == {"budget_exceeded"}
    assert len(problems) == 80
    key = await day_key(market)
    assert (await market.used(key), await market.used(key, reserved=True)) == (1_000_000_000, 0)


async def test_what_costs_less_than_reserved_makes_room(market: Market) -> None:
    """One after another, what was reserved too much is there for the next."""
    file = market.workflow({"day": {"cost": 1.0}}, price=0.25, most=0.9)
    async with market.runtime() as runtime:
        plan = runtime.compile(file)
        states = [(await runtime.run(plan, {})).state for _ in range(3)]

    assert states == ["succeeded", "failed", "failed"]  # 0.25 are used up, 0.9 more would not fit
    assert market.shop.sold == Decimal("0.25")


async def test_a_price_above_its_estimate_passes_a_cap_by_what_was_under_way(market: Market) -> None:
    """The stated bound: the overrun of the calls that are under way, and nothing begins after it."""
    file = market.workflow(DAY, price=0.3, most=0.25, seconds=0.05)
    async with market.runtime() as runtime:
        plan = runtime.compile(file)
        await asyncio.gather(*(runtime.run(plan, {}) for _ in range(12)))

    assert len(market.shop.sales) == 4
    assert market.shop.sold == Decimal("1.20")  # 1.00, and 0.05 for each of the four calls
    assert await market.used(await day_key(market)) == 1_200_000_000


async def test_a_failed_attempt_costs_what_was_reserved(market: Market) -> None:
    """Nobody knows whether it was sold, so that it counts; each attempt by itself."""
    step = {"retry": {"attempts": 9, "backoff": "1ms", "on": ["sold_out"]}}
    file = market.workflow({"cost": 1.0}, step, price=0.4, fails=True)
    async with market.runtime() as runtime:
        report = await runtime.run(runtime.compile(file), {})

    assert len(market.shop.sales) == 2
    assert report.problem is not None
    assert report.problem.code == "budget_exceeded"
    assert "0.20 USD left of 1.00 USD" in report.problem.message


async def test_what_is_under_way_is_reserved(market: Market) -> None:
    """As long as a call goes on its estimate is told apart; at its end it is what it has cost, and used."""
    file = market.workflow(DAY, price=0.25, most=0.9, seconds=0.5)
    key = await day_key(market)
    async with market.runtime() as runtime:
        run = asyncio.create_task(runtime.run(runtime.compile(file), {}))
        await until(lambda: market.shop.sales)
        assert await runtime.journal.used([key], reserved=True) == {key: 900_000_000}
        await run
        assert await runtime.journal.used([key], reserved=True) == {key: 0}
        assert await runtime.journal.used([key]) == {key: 250_000_000}


@pytest.mark.timeout(400)  # on a loaded machine: runs that were cut off twice go on alone, one process after another
async def test_killed_processes_do_not_pass_a_cap(market: Market) -> None:
    """What a killed process had under way counts in full, and once more when it is repeated (rule A27)."""
    price = PRICE if KILLS < 5 else PRICE / 10
    file = market.workflow(DAY, price=price, seconds=0.3)
    await market.submit(file, round(5 / price))
    for kill in range(KILLS):
        workers = [market.worker("--concurrency", "4") for _ in range(2 - kill % 2)]
        sales = len(market.shop.sales)
        await until(lambda: len(market.shop.sales) >= sales + 3)  # noqa: B023  awaited here
        for worker in workers:
            worker.kill()
        await asyncio.gather(*map(end_of, workers))
    assert await end_of(market.worker("--until-idle"), 300) == 0

    assert market.shop.sold <= Decimal("1.00")
    runs = await market.runs()
    assert {run.status.state for run in runs} == {"succeeded", "failed"}
    assert {problem_of(run) for run in runs if run.status.state == "failed"} == {"budget_exceeded"}
    key, units = await day_key(market), round(price * 1_000_000_000)
    used = await market.used(key)
    assert await market.used(key, reserved=True) == 0
    assert 1_000_000_000 - units < used <= 1_000_000_000
    lost = used - sum(run.status.state == "succeeded" for run in runs) * units
    assert lost >= KILLS * units
    assert market.shop.sold * 1_000_000_000 <= used
