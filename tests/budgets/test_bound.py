"""The stated bound, for every order of begins, ends and crashes (rule A27); and the hooks that actions bring."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from trade import ACTION, write_pack

from weft.journal.base import Claim, Meter, Record, RunRow, Settled
from weft.journal.memory import MemoryJournal
from weft.testing import check_pack

KEY = "cost USD workflow 2026-03-01 trade"


@dataclass
class Trade:
    """Runs of one attempt after another against one cap, and what the other side has billed."""

    cap: int
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    claims: dict[str, Claim] = field(default_factory=dict)
    number: int = 0
    under_way: list[tuple[str, int, int, int]] = field(default_factory=list)  #: run, attempt, reserved, billed
    billed: int = 0
    lost: int = 0  #: by how much calls of which nobody heard again cost more than was reserved for them
    counted: int = 0  #: as the sum should be

    async def open(self) -> None:
        await self.journal.open()
        document = await self.journal.keep_document("{}")
        for name in ("a", "b", "c"):
            self.claims[name] = await self.journal.accept(RunRow(name, "trade", document, "{}", "null", 0.0))

    async def begin(self, run: str, amount: int, price: int) -> None:
        """Reserve, and call if it is granted; the bill comes at once, its news perhaps never."""
        self.number += 1
        begun = Record("/buy", self.number, "begun", "{}")
        full = await self.journal.hold(self.claims[run], 0, begun, [Meter(KEY, amount, self.cap)])
        assert (full is None) == (self.counted + amount <= self.cap)
        if full is None:
            self.under_way.append((run, self.number, amount, price))
            self.counted += amount
            self.billed += price
        else:
            assert (full.used, full.most) == (self.counted, self.cap)

    async def end(self, index: int) -> None:
        """Settle one that is under way at what the other side has billed."""
        if not self.under_way:
            return
        run, number, amount, price = self.under_way.pop(index % len(self.under_way))
        outcome = Record("/buy", number, "succeeded", "{}")
        settled = Settled("/buy", number, {KEY: price})
        await self.journal.write(self.claims[run], 0, [outcome], settled=[settled])
        self.counted += price - amount

    async def crash(self, run: str) -> None:
        """Take the run from its owner; what it had under way has no end."""
        await self.journal.release(run, ends=self.claims[run].epoch)
        self.claims[run] = await self.journal.claim(run)
        self.lost += sum(_excess(each) for each in self.under_way if each[0] == run)
        self.under_way = [each for each in self.under_way if each[0] != run]


def _excess(call: tuple[str, int, int, int]) -> int:
    return max(0, call[3] - call[2])


STEP = st.tuples(st.sampled_from(["begin", "begin", "end", "crash"]), st.sampled_from("abc"), st.integers(0, 60))


@settings(max_examples=150, deadline=None)
@given(cap=st.integers(1, 300), steps=st.lists(STEP, max_size=40), over=st.integers(0, 20))
def test_a_cap_is_passed_by_the_excess_alone(cap: int, steps: list[tuple[str, str, int]], over: int) -> None:
    """What is billed is what is counted at most, and what calls under way or lost cost above their estimates (A27)."""

    async def trade() -> None:
        lab = Trade(cap)
        await lab.open()
        for what, run, amount in steps:
            if what == "begin":
                await lab.begin(run, amount, amount + over if amount % 7 == 0 else amount // 2)
            elif what == "end":
                await lab.end(amount)
            else:
                await lab.crash(run)
            assert (await lab.journal.used([KEY]))[KEY] == lab.counted
            assert lab.billed <= lab.counted + lab.lost + sum(map(_excess, lab.under_way))
        await lab.journal.close()

    asyncio.run(trade())


def test_hooks_that_cannot_be_called_are_told(tmp_path: Path) -> None:
    """Who checks his pack hears of it before any money is at stake."""
    write_pack(tmp_path)
    assert check_pack(tmp_path / "pack") == []
    other = tmp_path / "other"
    write_pack(other)
    (other / "pack" / "actions" / "buy.py").write_text(ACTION + "\n\nestimate = 3\nusage = 'much'\n")
    assert [(problem.code, problem.message) for problem in check_pack(other / "pack")] == [
        ("not_callable", "'estimate' is not a function."),
        ("not_callable", "'usage' is not a function."),
    ]
