"""The local dispatcher and its hands: bounded, woken, nothing left lying."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from pathlib import Path

import pytest
from advancing import Effects, Work, run_row, submit, until

from weft.dispatch.base import Hands
from weft.dispatch.local import LocalDispatcher
from weft.errors import JournalUnavailable
from weft.journal.memory import MemoryJournal


@pytest.fixture
async def journal() -> MemoryJournal:
    journal = MemoryJournal()
    await journal.open()
    return journal


async def test_a_great_backlog_makes_few_tasks(journal: MemoryJournal, tmp_path: Path) -> None:
    """5,000 ready runs are all advanced, with no more tasks than the limit says (§1.6, pitfall 4)."""
    for number in range(5_000):
        await submit(journal, run_row(f"r{number:04}"))
    ended: set[str] = set()
    tasks, looks = 0, 0
    ready = journal.ready

    async def counted(limit: int, *, for_s: float = 0.0) -> list[str]:
        nonlocal looks
        looks += 1
        return await ready(limit, for_s=for_s)

    journal.ready = counted  # type: ignore[method-assign]

    async def advance(run_id: str) -> None:
        nonlocal tasks
        await journal.claim(run_id)
        tasks = max(tasks, len(asyncio.all_tasks()))
        await asyncio.sleep(0.005 if run_id.endswith("0") else 0)
        ended.add(run_id)

    dispatcher = LocalDispatcher(journal, limit=100)
    running = asyncio.create_task(dispatcher.run(advance))
    await until(lambda: len(ended) == 5_000)
    dispatcher.stop()
    await running
    assert tasks < 110
    assert looks < 5_000 / 100 * 2 + 20  # refilled at half, not at each end


async def test_long_runs_do_not_hold_back_short_ones(journal: MemoryJournal) -> None:
    """With most of the room taken for long, the rest of it goes on being refilled at once."""
    await submit(journal, *(run_row(f"long{number}") for number in range(9)))
    await submit(journal, *(run_row(f"short{number:02}") for number in range(40)))
    begun: list[str] = []
    leave = asyncio.Event()

    async def advance(run_id: str) -> None:
        await journal.claim(run_id)
        begun.append(run_id)
        if run_id.startswith("long"):
            await leave.wait()

    dispatcher = LocalDispatcher(journal, limit=10, look_s=30)
    running = asyncio.create_task(dispatcher.run(advance))
    await until(lambda: len(begun) == 49, 5)
    assert dispatcher.in_hand >= 9
    dispatcher.stop()
    leave.set()
    await running


async def test_the_last_run_may_end_while_another_is_accepted(journal: MemoryJournal, tmp_path: Path) -> None:
    """A run that becomes ready during a look, or just after it, is taken at once when somebody says so (pitfall 3)."""
    work = Work(journal, Effects(tmp_path / "effects"))
    dispatcher = LocalDispatcher(journal, limit=50, look_s=30)
    ready = journal.ready

    async def slow(limit: int, *, for_s: float = 0.0) -> list[str]:
        found = await ready(limit, for_s=for_s)
        await asyncio.sleep(0.02)
        return found

    journal.ready = slow  # type: ignore[method-assign]
    running = asyncio.create_task(dispatcher.run(work.advance))
    for number in range(20):
        await submit(journal, run_row(f"r{number:02}", steps=1))
        dispatcher.look()
        await asyncio.sleep(0.007)
    await until(lambda: len(work.effects.seen("done")) == 20, 2)
    dispatcher.stop()
    await running


async def test_runs_that_nobody_here_can_claim_keep_no_others_back(journal: MemoryJournal) -> None:
    """Runs that stay ready, however many and old, are tried ever more rarely, and younger ones pass them."""
    await submit(journal, *(run_row(f"foreign{number}") for number in range(25)))
    tried: Counter[str] = Counter()

    async def advance(run_id: str) -> None:
        tried[run_id] += 1
        if run_id.startswith("ours"):
            await journal.claim(run_id)

    dispatcher = LocalDispatcher(journal, limit=10, look_s=0.1)
    running = asyncio.create_task(dispatcher.run(advance))
    await asyncio.sleep(0.2)
    await submit(journal, *(run_row(f"ours{number}") for number in range(25)))
    dispatcher.look()
    await until(lambda: sum(tried[f"ours{number}"] for number in range(25)) == 25, 2)
    await asyncio.sleep(0.5)
    assert all(3 < tried[f"foreign{number}"] < 10 for number in range(25))
    dispatcher.stop()
    await running


async def test_deliveries_cut_off_by_a_stop_are_named() -> None:
    """What was delivered and is not tried any more is known at the end, so that it can be delivered to others."""
    hands, leave = Hands(3), asyncio.Event()

    async def advance(run_id: str) -> None:
        if run_id == "unasked":
            raise JournalUnavailable("It is away.")
        await leave.wait()

    for run_id in ("unasked", "twice", "twice", "once"):
        hands.take(run_id, advance)
    await asyncio.sleep(0.05)
    hands.stopping.set()
    leave.set()
    await hands.below(1)
    assert hands.left == {"unasked", "twice"}


async def test_a_run_that_becomes_ready_while_its_advance_is_leaving_is_not_forgotten() -> None:
    """A delivery for a run in hand is kept until its advance has returned, then tried once (pitfall 6)."""
    hands, leave, calls = Hands(2), asyncio.Event(), 0

    async def advance(run_id: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await leave.wait()

    hands.take("r", advance)
    hands.take("r", advance)
    hands.take("r", advance)
    await asyncio.sleep(0)
    assert (calls, len(hands)) == (1, 1)
    leave.set()
    await hands.below(1)
    assert calls == 2


async def test_a_delivery_outlives_a_journal_that_is_away() -> None:
    """An advance that could not ask the journal is tried until it can."""
    hands, calls = Hands(1, pause_s=0.001, longest_pause_s=0.002), 0

    async def advance(run_id: str) -> None:
        nonlocal calls
        calls += 1
        if calls < 20:
            raise JournalUnavailable("It is away.")

    hands.take("r", advance)
    await hands.below(1)
    assert calls == 20


async def test_a_fault_of_one_run_is_none_of_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """An advance that fails is tried a few times, logged each time, and given up without harm."""
    hands, calls = Hands(2, pause_s=0.001), {"bad": 0, "good": 0}

    async def advance(run_id: str) -> None:
        calls[run_id] += 1
        if run_id == "bad":
            raise ValueError("no")

    with caplog.at_level(logging.ERROR, "weft.dispatch"):
        hands.take("bad", advance)
        hands.take("good", advance)
        await hands.below(1)
    assert calls == {"bad": 5, "good": 1}
    assert [record.message for record in caplog.records] == ["advance_failed bad"] * 5


async def test_a_cancelled_dispatcher_leaves_no_task(journal: MemoryJournal) -> None:
    """Cancelled, `run` ends what is in hand, too."""
    await submit(journal, run_row("r"))
    held = asyncio.Event()

    async def advance(run_id: str) -> None:
        held.set()
        await asyncio.sleep(60)

    running = asyncio.create_task(LocalDispatcher(journal).run(advance))
    await held.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}
