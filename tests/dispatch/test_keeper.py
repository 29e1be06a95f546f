"""The keeper: what others do is heard, who is due is woken, the dead are replaced, and nothing stops its loops."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from advancing import Effects, Work, run_row, submit, until

from weft.dispatch.keeper import Keeper
from weft.dispatch.local import LocalDispatcher
from weft.errors import JournalUnavailable
from weft.journal.base import Claim, Listed, Record, Rest
from weft.journal.memory import MemoryJournal

TURNS = ("beat", "attention", "next_wake", "abandoned", "ready")
"""A method of the journal that each loop calls."""


class Unsteady(MemoryJournal):
    """A journal whose methods fail while a fault is set."""

    fault: Exception | None = None
    asked: int = 0

    def __getattribute__(self, name: str) -> Any:
        if name in TURNS:
            self.asked += 1
            if self.fault is not None:
                raise self.fault
        return super().__getattribute__(name)


class Late(MemoryJournal):
    """A journal whose answer about the dead comes when another process has acted on the same."""

    listed = 0

    async def abandoned(self) -> list[Listed]:
        found = await super().abandoned()
        self.listed += len(found)
        while found and (await self.status(found[0].row.id)).status.state == "running":
            await asyncio.sleep(0.005)
        return found


class Noted(LocalDispatcher):
    """Notes what it is to deliver again."""

    def __init__(self, journal: MemoryJournal) -> None:
        super().__init__(journal)
        self.repeated: list[str] = []

    async def again(self, run_ids: Sequence[str]) -> None:
        self.repeated += run_ids


@pytest.fixture
async def journal() -> Unsteady:
    journal = Unsteady("here")
    await journal.open()
    return journal


@pytest.fixture
async def there(journal: Unsteady) -> MemoryJournal:
    """Another process on the same journal."""
    other = MemoryJournal("there", beside=journal)
    await other.open()
    return other


@pytest.fixture
def work(journal: Unsteady, tmp_path: Path) -> Work:
    return Work(journal, Effects(tmp_path / "effects"))


def quick(journal: MemoryJournal, dispatcher: LocalDispatcher | None, work: Work, **intervals: float) -> Keeper:
    """Return a keeper that does not wait for long."""
    chosen = {"beat_s": 0.02, "attention_s": 0.02, "wake_s": 0.02, "takeover_s": 0.02, "sweep_s": 0.05, **intervals}
    return Keeper(journal, dispatcher, work, **chosen)


async def in_hand(journal: MemoryJournal, work: Work, run_id: str) -> Claim:
    """Have a run claimed by a journal, and in hand if that is the driver's."""
    await submit(journal, run_row(run_id))
    claim = await journal.claim(run_id)
    if journal is work.journal:
        work.live[run_id] = claim
    return claim


# ---- what others do
async def test_news_are_heard_at_once_and_told_once(journal: Unsteady, there: MemoryJournal, work: Work) -> None:
    """A cancel by another process reaches the driver within 250 ms, each piece of news once."""
    await in_hand(journal, work, "r")
    async with Keeper(journal, None, work):
        await asyncio.sleep(0.1)
        for times in (1, 2):
            began = time.monotonic()
            await there.cancel("r")
            await until(lambda times=times: len(work.noticed) == times, 1)  # type: ignore[misc]
            assert time.monotonic() - began < 0.25
        await asyncio.sleep(0.6)
        assert work.noticed == ["r", "r"]


async def test_news_of_a_run_that_is_being_loaded_are_told_later(
    journal: Unsteady, there: MemoryJournal, work: Work
) -> None:
    """What comes between a claim and the run's being in hand is not lost."""
    await in_hand(journal, work, "other")
    claim = await in_hand(journal, work, "r")
    del work.live["r"]
    async with Keeper(journal, None, work):
        await there.cancel("r")
        await asyncio.sleep(0.15)
        assert work.noticed == []
        work.live["r"] = claim
        await until(lambda: work.noticed == ["r"], 0.5)


async def test_an_idle_keeper_asks_next_to_nothing(journal: Unsteady, there: MemoryJournal, work: Work) -> None:
    """With a run in hand and nothing to do, all loops together ask the journal at most four things a second."""
    await in_hand(journal, work, "r")
    async with Keeper(journal, Noted(journal), work):
        await asyncio.sleep(0.3)  # each loop asks at once when it begins
        asked, began = journal.asked, time.monotonic()
        await asyncio.sleep(3)
        passed = time.monotonic() - began

    assert 0 < journal.asked - asked <= 4 * passed + len(TURNS)


# ---- sleepers, the dead, the lost
async def test_sleepers_are_woken_when_they_are_due(journal: Unsteady, work: Work) -> None:
    """A waiting run becomes ready at its instant, not before, and the dispatcher is told (§2.3, pitfall 5)."""
    dispatcher = LocalDispatcher(journal, look_s=30)
    async with Keeper(journal, dispatcher, work):
        running = asyncio.create_task(dispatcher.run(work.advance))
        began = time.monotonic()
        await submit(journal, run_row("r", steps=2, sleep_s=1.5))
        dispatcher.look()
        await until(lambda: work.effects.seen("done"), 4)
        assert 1.5 <= time.monotonic() - began < 3
        dispatcher.stop()
        await running


async def test_runs_of_a_dead_process_are_taken_over_once(
    journal: Unsteady, there: MemoryJournal, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    """Of several observers one ends the dead owner's claim; for the others that is no fault (§2.3, pitfall 9)."""
    await in_hand(there, work, "r")
    third = Late("third", beside=journal)
    await third.open()
    async with quick(third, Noted(third), work):
        await asyncio.sleep(0.1)
        assert third.listed == 0  # its owner lives
        await there.close()
        await until(lambda: third.listed)
        async with quick(journal, Noted(journal), work):
            await asyncio.sleep(0.1)
    status = (await journal.status("r")).status
    assert (status.state, status.epoch, status.crashes) == ("ready", 2, 1)
    assert [record.message.split()[0] for record in caplog.records] == ["run_taken_over"]


async def test_the_sweep_delivers_again_what_has_been_ready_for_long(journal: Unsteady, work: Work) -> None:
    """A ready run that nobody takes is handed to the dispatcher again (§2.3, pitfall 4); a young one is not."""
    dispatcher = Noted(journal)
    await submit(journal, run_row("old"))
    await asyncio.sleep(0.45)
    async with quick(journal, dispatcher, work, sweep_s=0.4):
        await submit(journal, run_row("young"))
        await until(lambda: dispatcher.repeated == ["old"], 0.3)
        await until(lambda: "young" in dispatcher.repeated, 3)


async def test_a_claim_that_got_lost_is_released(journal: Unsteady, work: Work) -> None:
    """A run that this process has claimed, and does not know of, becomes ready; one that it knows of stays."""
    await in_hand(journal, work, "known")
    await in_hand(journal, work, "lost")
    del work.live["lost"]
    async with quick(journal, Noted(journal), work, sweep_s=0.4):
        await asyncio.sleep(0.2)
        assert await journal.ready(2) == []  # seen astray once: it may be on its way
        await asyncio.sleep(0.4)
        assert await journal.ready(2) == ["lost"]


async def test_a_short_process_minds_only_its_own_runs(journal: Unsteady, there: MemoryJournal, work: Work) -> None:
    """Without a dispatcher nothing is woken, taken over or swept up."""
    await in_hand(there, work, "theirs")
    claim = await in_hand(there, work, "asleep")
    await there.write(claim, 0, [Record("/t", 1, "timer", "null")], Rest("waiting", wake_at=there.now()))
    await there.close()
    async with quick(journal, None, work):
        await asyncio.sleep(0.2)
    assert (await journal.status("theirs")).status.state == "running"
    assert (await journal.status("asleep")).status.state == "waiting"


# ---- the journal away
async def test_an_outage_is_told_once_and_survived_by_every_loop(
    journal: Unsteady, there: MemoryJournal, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    """While the journal is away all loops try again, less and less often; when it is back, all go on."""
    dispatcher = Noted(journal)
    await in_hand(journal, work, "r")
    with caplog.at_level(logging.WARNING, "weft.keeper"):
        async with quick(journal, dispatcher, work) as keeper:
            await asyncio.sleep(0.1)
            journal.fault, journal.asked = JournalUnavailable("The journal is away."), 0
            await asyncio.sleep(0.8)
            asked = journal.asked
            failing, beat = keeper.health()["journal_unavailable_s"], keeper.health()["beat_s"]
            assert isinstance(failing, float)
            assert isinstance(beat, float)
            assert 0.6 < failing <= beat < 3
            assert len(TURNS) * 2 <= asked <= len(TURNS) * 5
            journal.fault = None
            await until(lambda: keeper.health()["journal_unavailable_s"] is None, 3)
            await _all_goes_on(journal, there, work, dispatcher)
    assert [record.message for record in caplog.records if "journal" in record.message] == [
        "journal_away The journal is away.",
        "journal_back",
    ]


async def test_no_fault_ends_a_loop(
    journal: Unsteady, there: MemoryJournal, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    """Any other exception is logged, and the loop goes on (A16)."""
    dispatcher = Noted(journal)
    await in_hand(journal, work, "r")
    with caplog.at_level(logging.ERROR, "weft.keeper"):
        async with quick(journal, dispatcher, work) as keeper:
            journal.fault = ValueError("no")
            await asyncio.sleep(0.2)
            journal.fault = None
            assert keeper.health()["journal_unavailable_s"] is None
            await _all_goes_on(journal, there, work, dispatcher)
    told = {record.message for record in caplog.records}
    assert told == {f"keeper_failed {name}" for name in ("beat", "attention", "wake", "takeover", "sweep")}


async def _all_goes_on(journal: Unsteady, there: MemoryJournal, work: Work, dispatcher: Noted) -> None:
    """See each loop do its work."""
    await there.cancel("r")
    await in_hand(there, work, "theirs")
    asleep = await in_hand(there, work, "asleep")
    await there.write(asleep, 0, [Record("/t", 1, "timer", "null")], Rest("waiting", wake_at=there.now()))
    await there.close()
    await until(lambda: work.noticed == ["r"], 4)
    await until(lambda: {"theirs", "asleep"} <= set(dispatcher.repeated), 4)
