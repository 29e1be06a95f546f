"""Only so many runs of a key at once: who goes on, who waits, who is kept out, who makes way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from servers.journals import Bench, begun

from weft.errors import JournalRefused, NotFound
from weft.journal import base, decisions
from weft.journal.base import Ended, Gate, Rest, RunQuery, Status

DONE = Ended("succeeded", "{}")


def gate(limit: int = 1, policy: Any = "queue", key: str = "k") -> Gate:
    return Gate(key, limit, policy)


async def submit(bench: Bench, *ids: str, **facts: Any) -> None:
    for run_id in ids:
        await bench.journal.submit(bench.row(run_id, **({"gate": gate()} | facts)))


async def end(bench: Bench, run_id: str, then: Ended = DONE) -> None:
    """Claim a run that is ready, and let it end at once."""
    status = await standing(bench, run_id)
    await bench.journal.write(await bench.journal.claim(run_id), status.news, (), then)


async def standing(bench: Bench, run_id: str) -> Status:
    return (await bench.journal.status(run_id)).status


async def stand(bench: Bench, *ids: str) -> str:
    """Return a letter for each run: its state, or `q` for one that waits before its gate."""
    found = [await standing(bench, run_id) for run_id in ids]
    assert all(status.state == "waiting" for status in found if status.queued)
    return "".join("q" if status.queued else status.state[0] for status in found)


async def refusal(asked: Awaitable[Any]) -> JournalRefused:
    with pytest.raises(JournalRefused) as caught:
        await asked
    return caught.value


async def test_a_gate_is_kept_with_its_run(bench: Bench) -> None:
    """What was submitted comes back whole; a run that waits has not begun, and is no worker's to claim."""
    await submit(bench, "a", "b", gate=Gate("ü", 1, "queue"))

    queued = await (await bench.another()).load("b")
    assert queued.row == bench.row("b", gate=Gate("ü", 1, "queue"))
    assert (queued.status.state, queued.status.queued, queued.status.wake_at, queued.status.epoch) == (
        ("waiting", True, None, 0)
    )
    assert await bench.journal.ready(10) == ["a"]
    assert (await refusal(bench.journal.claim("b"))).problem.code == "not_ready"
    assert [run.row.id for run in await bench.journal.unfinished()] == ["a", "b"]
    assert [run.status.queued for run in await bench.journal.runs(RunQuery(states=("waiting",)))] == [True]


async def test_a_run_with_a_gate_is_submitted(bench: Bench) -> None:
    """To accept it would pass by its gate; it is a fault of the caller, and nothing is kept."""
    with pytest.raises(ValueError, match="gate"):
        await bench.accept("a", gate=gate())
    await submit(bench, "a")


@pytest.mark.parametrize("then", [DONE, Ended("failed", "{}"), Ended("cancelled", "{}", doubt=True)])
async def test_the_one_that_has_waited_longest_comes_next(bench: Bench, then: Ended) -> None:
    """However an admitted run ends, the oldest that waits becomes ready with it, and one only."""
    await submit(bench, "a", "z", "b", "c")
    assert await stand(bench, "a", "z", "b", "c") == "rqqq"
    await end(bench, "a", then)
    assert await stand(bench, "z", "b", "c") == "rqq"
    await end(bench, "z")
    await end(bench, "b")

    assert await bench.journal.ready(10) == ["c"]
    assert (await standing(bench, "c")).queued is False


async def test_as_many_go_on_as_the_limit_says(bench: Bench) -> None:
    """Runs of other keys, and those without a gate, count for themselves."""
    await submit(bench, *"abcde", gate=gate(3))
    await submit(bench, "other", gate=gate(1, key="l"))
    await bench.accept("free")
    assert await stand(bench, *"abcde", "other", "free") == "rrrqqrr"
    await end(bench, "b")
    await end(bench, "other")

    assert await stand(bench, *"acde") == "rrrq"


async def test_a_run_counts_until_it_has_ended(bench: Bench) -> None:
    """Running, waiting, parked, taken from a dead owner: all of it counts."""
    await submit(bench, "a", "b")
    claim = await bench.journal.claim("a")
    await bench.journal.write(claim, 0, [begun()], Rest("waiting", wake_at=bench.journal.now() - 1))
    assert await bench.journal.wake(10) == ["a"]
    await bench.journal.write(await bench.journal.claim("a"), 0, (), Rest("parked", reason="{}"))
    await bench.journal.resume("a")
    claim = await bench.journal.claim("a")
    await bench.journal.release("a", ends=claim.epoch)
    assert await stand(bench, "a", "b") == "rq"
    await end(bench, "a")

    assert await stand(bench, "b") == "r"


async def test_nobody_overtakes(bench: Bench) -> None:
    """Who comes while others wait waits behind them, also when a newer document lets more through."""
    await submit(bench, "a", "b")
    await submit(bench, "c", gate=gate(2))
    assert await stand(bench, *"abc") == "rqq"
    await end(bench, "a")

    assert await stand(bench, *"bc") == "rr"


async def test_a_lower_limit_holds_for_those_that_have_it(bench: Bench) -> None:
    """A run goes on when fewer than its own limit do."""
    await submit(bench, *"ab", gate=gate(2))
    await submit(bench, "c", gate=gate(1))
    await end(bench, "a")
    assert await stand(bench, *"bc") == "rq"
    await end(bench, "b")

    assert await stand(bench, "c") == "r"


async def test_the_one_too_many_is_skipped_and_told_why(bench: Bench) -> None:
    """B7: the refusal names who is in the way, the oldest first; nothing is kept, and the id stays free."""
    await submit(bench, "b", "a", gate=gate(2, "skip"))
    error = await refusal(submit(bench, "c", gate=gate(2, "skip")))
    assert error.problem == base.at_the_limit("c", gate(2), ["b", "a"]).problem
    assert len(await bench.journal.runs(RunQuery())) == 2
    await end(bench, "b")

    await submit(bench, "c", gate=gate(2, "skip"))
    assert await stand(bench, "c") == "r"


async def test_a_queue_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """B7: no more wait before a gate than its queue holds."""
    monkeypatch.setattr(decisions, "LARGEST_QUEUE", 2)
    await submit(bench, *"abc")
    assert (await refusal(submit(bench, "d"))).problem.code == "queue_full"
    assert (await refusal(submit(bench, "d", gate=gate(1, "cancel")))).problem.code == "queue_full"
    await end(bench, "a")

    await submit(bench, "d")
    assert await stand(bench, *"bcd") == "rqq"


async def test_the_newest_makes_the_oldest_go(bench: Bench) -> None:
    """With `cancel` each new run cancels the oldest that has not been cancelled, once, and waits for it."""
    newest = {"gate": gate(1, "cancel")}
    await submit(bench, "a", **newest)
    claim = await bench.journal.claim("a")
    await submit(bench, "b", **newest)
    assert await bench.journal.attention() == {"a": 1}
    await submit(bench, "c", **newest)

    assert [record.kind for record in (await bench.journal.load("b")).records] == ["cancel"]
    assert (await standing(bench, "a")).news == 1
    assert await stand(bench, *"abc") == "rrq"
    await bench.journal.write(claim, 1, (), Ended("cancelled", "{}"))
    assert await stand(bench, "c") == "q"
    await end(bench, "b", Ended("cancelled", "{}"))
    assert await stand(bench, "c") == "r"
    await submit(bench, "d", **newest)
    assert (await standing(bench, "c")).news == 1


async def test_a_run_that_makes_way_takes_its_children_along(bench: Bench) -> None:
    """To be cancelled by a gate is to be cancelled."""
    await submit(bench, "a", gate=gate(1, "cancel"))
    claim = await bench.journal.claim("a")
    child = bench.row("child", parent=base.Parent("a", "/call"))
    await bench.journal.write(claim, 0, [base.Record("/call", 1, "waits", '{"deadline":null}')], children=[child])
    await submit(bench, "b", gate=gate(1, "cancel"))

    assert (await standing(bench, "child")).news == 1


async def test_somebody_ends_a_queued_run_that_is_cancelled(bench: Bench) -> None:
    """It becomes ready, and counts from then on; nobody passes the gate in its place before it has ended."""
    await submit(bench, *"abc")
    assert await bench.journal.cancel("b") == 1
    assert await stand(bench, *"abc") == "rrq"
    await end(bench, "a")
    assert await stand(bench, *"bc") == "rq"
    await end(bench, "b", Ended("cancelled", "{}"))

    assert await stand(bench, "c") == "r"


async def test_an_answer_that_was_lost_moves_the_queue_once(bench: Bench) -> None:
    """A8: the end of a run, told again, lets nobody else through."""
    await submit(bench, *"abc")
    claim = await bench.journal.claim("a")
    for _ in range(2):
        await bench.journal.write(claim, 0, (), DONE)

    assert await stand(bench, *"bc") == "rq"


async def test_a_refused_submission_moves_nothing(bench: Bench) -> None:
    """A run that is known, or whose document is not kept, cancels nobody and takes no place."""
    await submit(bench, "a", gate=gate(1, "cancel"))
    for facts, code in (({}, "known_run"), ({"document": "0" * 64}, "unknown_document")):
        row = bench.row("a" if not facts else "b", gate=gate(1, "cancel"), **facts)
        with pytest.raises((JournalRefused, NotFound)) as caught:
            await bench.journal.submit(row)
        assert caught.value.problem.code == code

    assert (await standing(bench, "a")).news == 0


async def test_processes_together_keep_to_the_limit(bench: Bench) -> None:
    """Whoever submits and ends at the same time, from two processes: never more at once, and all have their turn."""
    other = await bench.another()
    rows = [bench.row(f"r{number:02}", gate=gate(2)) for number in range(30)]
    answers = await asyncio.gather(*((bench.journal, other)[number % 2].submit(row) for number, row in enumerate(rows)))
    assert answers == [None] * 30
    done: list[str] = []
    while found := await bench.journal.ready(50):
        assert len(found) <= 2

        async def ended(number: int, run_id: str) -> None:
            journal = (bench.journal, other)[number % 2]
            await journal.write(await journal.claim(run_id), 0, (), DONE)

        await asyncio.gather(*(ended(number, run_id) for number, run_id in enumerate(found)))
        done += found

    assert sorted(done) == [row.id for row in rows]
