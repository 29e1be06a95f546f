"""What attempts may use up, all together: held before they begin, corrected when they have ended (rule A27)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from servers.journals import Bench, begun

from weft.errors import JournalBehind, JournalRefused, NotFound
from weft.journal.base import Claim, Ended, Full, Journal, Meter, Parent, Record, Rest, Settled

DOLLAR = 1_000_000_000
CENT = DOLLAR // 100
DONE = Ended("succeeded", "{}")


def succeeded(path: str = "/a", n: int = 1) -> Record:
    return Record(path, n, "succeeded", "{}")


def budget(amount: int = 5 * CENT, most: int = DOLLAR, key: str = "b") -> Meter:
    return Meter(key, amount, most)


def slot(most: int = 1) -> Meter:
    return Meter("slots", 1, most, live=True)


def rate(amount: int = 1, most: int = 2, window_s: float = 60.0) -> Meter:
    return Meter("rate", amount, most, window_s=window_s)


async def claims(bench: Bench, count: int) -> list[Claim]:
    return list(await asyncio.gather(*(bench.accept(f"r{number:03}") for number in range(count))))


async def taken_over(bench: Bench, claim: Claim) -> Claim:
    """Let the process of an owner die, and claim the run."""
    await bench.journal.release(claim.run_id, ends=claim.epoch)
    return await bench.journal.claim(claim.run_id)


async def kinds(journal: Journal, run_id: str = "r1") -> list[str]:
    return [record.kind for record in (await journal.load(run_id)).records]


# ---- all that there ever was
async def test_of_a_hundred_attempts_at_once_those_begin_for_which_there_is_enough(bench: Bench) -> None:
    """A27: 100 at once, from two processes, of 0.05 each against 1.00: exactly 20 begin, and nothing is over."""
    other = await bench.another()
    found = await asyncio.gather(
        *(
            [bench.journal, other][number % 2].hold(claim, 0, begun(), [budget()])
            for number, claim in enumerate(await claims(bench, 100))
        )
    )

    assert found.count(None) == 20
    assert {full for full in found if full} == {Full("b", DOLLAR, DOLLAR)}
    assert await bench.journal.used(["b", "unknown"]) == {"b": DOLLAR, "unknown": 0}
    records = [len((await bench.journal.load(f"r{number:03}")).records) for number in range(100)]
    assert sum(records) == 20


async def test_a_crashed_attempt_counts_in_full_besides_its_repeat(bench: Bench) -> None:
    """A27: a call that was under way may have cost all that was reserved; killed 20 times, the budget is still kept."""
    claim = await bench.accept()
    for _ in range(20):
        assert await bench.journal.hold(claim, 0, begun(), [budget()]) is None
        claim = await taken_over(bench, claim)

    assert await bench.journal.hold(claim, 0, begun(), [budget()]) == Full("b", DOLLAR, DOLLAR)
    assert await kinds(bench.journal) == ["begun"]
    assert (await bench.journal.used(["b"])) == {"b": DOLLAR}


async def test_what_was_really_used_takes_the_place_of_what_was_reserved(bench: Bench) -> None:
    """Of this claim's attempt: what was held under an older one stays in full, and keys that are not named stay too."""
    meters = [budget(5 * CENT), budget(100, 10_000, "tokens")]
    first = await bench.accept()
    await bench.journal.hold(first, 0, begun(), meters)
    claim = await taken_over(bench, first)
    await bench.journal.hold(claim, 0, begun(), meters)
    settled = [Settled("/a", 1, {"b": 2 * CENT, "never held": 7})]
    for _ in range(2):  # the answer may be lost
        await bench.journal.write(claim, 0, [succeeded()], settled=settled)

    assert await bench.journal.used(["b", "tokens", "never held"]) == {"b": 7 * CENT, "tokens": 200, "never held": 0}
    await bench.journal.hold(claim, 0, begun("/b"), [budget(1)])
    await bench.journal.write(claim, 0, [succeeded("/b")], DONE, settled=[Settled("/b", 1, {"b": 3 * CENT})])
    assert await bench.journal.used(["b"]) == {"b": 10 * CENT}


async def test_reserved_is_what_attempts_under_way_hold(bench: Bench) -> None:
    """An attempt that has an outcome, or whose owner is dead, reserves nothing more: what it holds is used (A27)."""
    one, two, three = await claims(bench, 3)
    for claim in (one, two, three):
        assert await bench.journal.hold(claim, 0, begun(), [budget(), slot(3)]) is None
    began = bench.journal.now() - 3600

    await bench.journal.write(one, 0, [succeeded()], settled=[Settled("/a", 1, {"b": 2 * CENT})])
    again = await taken_over(bench, two)

    assert await bench.journal.used(["b", "slots"]) == {"b": 12 * CENT, "slots": 1}
    for since in (None, began):
        assert await bench.journal.used(["b", "slots", "c"], since=since, reserved=True) == {
            "b": 5 * CENT,
            "slots": 1,
            "c": 0,
        }
    assert await bench.journal.used(["b"], since=bench.journal.now() + 3600, reserved=True) == {"b": 0}
    assert await bench.journal.hold(again, 0, begun(), [budget()]) is None
    assert await bench.journal.used(["b"], reserved=True) == {"b": 10 * CENT}


async def test_room_that_was_settled_is_room_for_others(bench: Bench) -> None:
    """What an attempt did not use up can be held by the next one; what it used beyond, cannot."""
    claim, other = await claims(bench, 2)
    assert await bench.journal.hold(claim, 0, begun(), [budget(90 * CENT)]) is None
    assert await bench.journal.hold(other, 0, begun(), [budget(20 * CENT)]) == Full("b", 90 * CENT, DOLLAR)
    await bench.journal.write(claim, 0, [succeeded()], settled=[Settled("/a", 1, {"b": 80 * CENT})])
    assert await bench.journal.hold(other, 0, begun(), [budget(20 * CENT)]) is None
    await bench.journal.write(other, 0, [succeeded()], settled=[Settled("/a", 1, {"b": 50 * CENT})])

    assert await bench.journal.hold(claim, 0, begun("/c"), [budget(0)]) == Full("b", 130 * CENT, DOLLAR)


async def test_a_hold_is_asked_for_again_without_counting_twice(bench: Bench) -> None:
    """Under the same claim the answer is the same, also when there are news; under another one it counts anew."""
    claim = await bench.accept()
    for _ in range(3):
        assert await bench.journal.hold(claim, 0, begun(), [budget(most=5 * CENT)]) is None
    await bench.journal.cancel("r1")
    assert await bench.journal.hold(claim, 0, begun(), [budget(most=5 * CENT)]) is None
    assert await bench.journal.used(["b"]) == {"b": 5 * CENT}

    with pytest.raises(JournalBehind):
        await bench.journal.hold(claim, 0, begun("/b"), [budget()])
    assert await bench.journal.used(["b"]) == {"b": 5 * CENT}


async def test_what_is_held_already_does_not_fill_a_meter_again(bench: Bench) -> None:
    """Asked again under the same claim for more, only what is new is looked at."""
    claim = await bench.accept()
    first = [budget(most=5 * CENT), rate(2), slot()]
    assert await bench.journal.hold(claim, 0, begun(), first) is None
    assert await bench.journal.hold(claim, 0, begun(), [*first, budget(1, 1, "more")]) is None
    assert await bench.journal.hold(claim, 0, begun(), [*first, budget(2, 1, "full")]) == Full("full", 0, 1)

    assert await bench.journal.used(["b", "rate", "slots", "more"]) == {"b": 5 * CENT, "rate": 2, "slots": 1, "more": 1}


async def test_a_refused_write_settles_nothing(bench: Bench) -> None:
    """What was reserved stays, when the outcome is not kept: for a child that is known, or a document that is not."""
    claim = await bench.accept()
    assert await bench.journal.hold(claim, 0, begun(), [budget(), slot()]) is None
    await bench.accept("known")
    parent = Parent("r1", "/call")
    for child in (bench.row("known", parent=parent), bench.row("c", parent=parent, document="0" * 64)):
        with pytest.raises((JournalRefused, NotFound)):
            await bench.journal.write(
                claim,
                0,
                [succeeded(), Record("/call", 1, "waits", '{"deadline":null}')],
                children=[child],
                settled=[Settled("/a", 1, {"b": 1})],
            )

    assert await kinds(bench.journal) == ["begun"]
    assert await bench.journal.used(["b", "slots"]) == {"b": 5 * CENT, "slots": 1}


async def test_a_window_without_length_holds_nothing(bench: Bench) -> None:
    """It is a window all the same, not all that there ever was."""
    claim = await bench.accept()
    for n in (1, 2):
        assert await bench.journal.hold(claim, 0, begun(n=n), [rate(2, window_s=0.0)]) is None
        await bench.sleep(0.01)


async def test_all_of_it_is_held_or_nothing(bench: Bench) -> None:
    """The first meter that is full is told; nothing is on record then, and no other meter has moved."""
    claim = await bench.accept()
    meters = [budget(key="ok"), budget(2, 1, "full"), budget(3, 1, "fuller")]
    assert await bench.journal.hold(claim, 0, begun(), meters) == Full("full", 0, 1)

    assert await kinds(bench.journal) == []
    assert await bench.journal.used(["ok", "full", "fuller"]) == {"ok": 0, "full": 0, "fuller": 0}


async def test_only_the_owner_holds(bench: Bench) -> None:
    """Void claims, ended runs and other content are refused, as with any write, and count nothing."""
    old = await bench.accept()
    claim = await taken_over(bench, old)
    await bench.journal.write(claim, 0, [begun("/b")])
    for mine, record, code in ((old, begun(), "another_owner"), (claim, begun("/b", payload="[]"), "other_content")):
        with pytest.raises(JournalRefused) as caught:
            await bench.journal.hold(mine, 0, record, [budget()])
        assert caught.value.problem.code == code
    await bench.journal.write(claim, 0, (), DONE)
    with pytest.raises(JournalRefused) as caught:
        await bench.journal.hold(claim, 0, begun(), [budget()])
    assert (caught.value.problem.code, await bench.journal.used(["b"])) == ("has_ended", {"b": 0})


async def test_an_attempt_without_meters_begins_as_with_a_write(bench: Bench) -> None:
    """Nothing to hold is nothing to refuse."""
    claim = await bench.accept()
    assert await bench.journal.hold(claim, 0, begun(), []) is None
    assert await kinds(bench.journal) == ["begun"]


async def test_what_was_used_survives_its_run(bench: Bench) -> None:
    """A11: a budget does not grow when old runs are removed; what was used since an instant is told until then."""
    start = bench.journal.now() - 0.5
    claim = await bench.accept()
    await bench.journal.hold(claim, 0, begun(), [budget()])
    await bench.journal.write(claim, 0, [succeeded()], DONE, settled=[Settled("/a", 1, {"b": CENT})])
    assert await bench.journal.used(["b"], since=start) == {"b": CENT}
    assert await bench.journal.used(["b"], since=bench.journal.now() + 60) == {"b": 0}
    await bench.sleep(0.01)
    assert (await bench.journal.purge(bench.journal.now())).runs == 1

    assert await bench.journal.used(["b"]) == {"b": CENT}
    assert await bench.journal.used(["b"], since=start) == {"b": 0}


# ---- what is under way
async def test_slots_are_as_many_as_there_are(bench: Bench) -> None:
    """Of 30 attempts at once, from two processes, exactly 3 are under way; an outcome makes room for one."""
    other = await bench.another()
    mine = await claims(bench, 30)
    found = await asyncio.gather(
        *([bench.journal, other][number % 2].hold(claim, 0, begun(), [slot(3)]) for number, claim in enumerate(mine))
    )
    assert found.count(None) == 3
    assert {full for full in found if full} == {Full("slots", 3, 3)}
    assert await bench.journal.used(["slots"]) == {"slots": 3}

    within = [claim for claim, full in zip(mine, found, strict=True) if full is None]
    beyond = [claim for claim, full in zip(mine, found, strict=True) if full is not None]
    await bench.journal.write(within[0], 0, [succeeded()])  # also when nobody has settled it
    assert await bench.journal.hold(beyond[0], 0, begun(), [slot(3)]) is None
    assert await bench.journal.hold(beyond[1], 0, begun(), [slot(3)]) == Full("slots", 3, 3)


@pytest.mark.parametrize("how", ["crash", "rest", "end"])
async def test_a_slot_is_free_when_the_claim_is_void(bench: Bench, how: str) -> None:
    """A27: killed in the call 20 times there are still as many slots; nobody has to end what nobody has any more."""
    claim, other = await bench.accept(), await bench.accept("r2")
    for _ in range(20 if how == "crash" else 1):
        assert await bench.journal.hold(claim, 0, begun(), [slot()]) is None
        assert await bench.journal.hold(other, 0, begun(), [slot()]) == Full("slots", 1, 1)
        if how == "crash":
            claim = await taken_over(bench, claim)
        else:
            await bench.journal.write(claim, 0, (), DONE if how == "end" else Rest("waiting", wake_at=1.0))

    assert await bench.journal.used(["slots"]) == {"slots": 0}
    assert await bench.journal.hold(other, 0, begun(), [slot()]) is None
    assert await bench.journal.used(["slots"]) == {"slots": 1}


# ---- what was in the last seconds
async def test_a_window_lets_through_what_fits_and_tells_when_more_will(bench: Bench) -> None:
    """Exactly as many as may in the last seconds; who comes back at the instant that was told is let through."""
    seconds = 60.0 if bench.clock else 0.6
    meter = rate(window_s=seconds)
    one, two, three = await claims(bench, 3)
    before = bench.journal.now()
    assert await bench.journal.hold(one, 0, begun(), [meter]) is None
    await bench.sleep(seconds / 3)
    assert await bench.journal.hold(two, 0, begun(), [meter]) is None
    full = await bench.journal.hold(three, 0, begun(), [meter])

    assert full is not None
    assert full.retry_at == pytest.approx(before + seconds, abs=0.15)
    await bench.sleep(max(0.0, (full.retry_at or 0) - bench.journal.now() - 0.1))
    assert (await bench.journal.hold(three, 0, begun(), [meter])) == full
    await bench.sleep(0.15 if bench.clock is None else max(0.0, (full.retry_at or 0) - bench.journal.now()))
    assert await bench.journal.hold(three, 0, begun(), [meter]) is None
    assert await bench.journal.used(["rate"]) == {"rate": 3}


async def test_a_window_counts_what_was_really_used(bench: Bench) -> None:
    """Tokens are estimated before and known afterwards; a call that never fits is told so."""
    meters = [rate(80, 100)]
    one, two = await claims(bench, 2)
    await bench.journal.hold(one, 0, begun(), meters)
    refused = await bench.journal.hold(two, 0, begun(), meters)
    assert refused is not None
    assert (refused.used, refused.retry_at is not None) == (80, True)
    await bench.journal.write(one, 0, [succeeded()], settled=[Settled("/a", 1, {"rate": 20})])
    assert await bench.journal.hold(two, 0, begun(), meters) is None

    never = await bench.journal.hold(one, 0, begun("/b"), [rate(101, 100)])
    assert never == Full("rate", 100, 100, None)


async def test_meters_of_every_kind_are_held_together(bench: Bench) -> None:
    """Slot, rate and budget of one attempt: the one that is full is told, in their order."""
    meters: Sequence[Meter] = [slot(2), rate(1, 5), budget(40 * CENT)]
    found = [await bench.journal.hold(claim, 0, begun(), meters) for claim in await claims(bench, 3)]
    assert [full and full.key for full in found] == [None, None, "slots"]
    assert await bench.journal.used(["slots", "rate", "b"]) == {"slots": 2, "rate": 2, "b": 80 * CENT}
