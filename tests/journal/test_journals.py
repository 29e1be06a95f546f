"""What every journal promises, asked of each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from weft.errors import JournalRefused, NotFound
from weft.journal.base import Claim, Ended, Journal, Record, RunRow
from weft.journal.memory import MemoryJournal
from weft.journal.sqlite import SqliteJournal

AWKWARD = '{"b":1,"a":[1e400,0.1,10000000000000000000001,"\\ud800","\\u0000"],"a":2}'
"""Text that a database which looked into it would change: order, doubles, big numbers, lone surrogate, NUL."""


def row(run_id: str = "r1", **facts: str) -> RunRow:
    return RunRow(run_id, "w", facts.get("inputs", "{}"), "null", 12.5, 10.0)


def begun(path: str = "/a", n: int = 1, payload: str = "{}") -> Record:
    return Record(path, n, "begun", payload)


@pytest.fixture(params=["memory", "sqlite"])
async def journal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Journal]:
    """One journal of each kind."""
    if request.param == "memory":
        yield MemoryJournal()
        return
    kept = SqliteJournal(tmp_path / "home" / "journal.db")
    yield kept
    await kept.close()


async def test_what_was_accepted_and_recorded_is_loaded_byte_for_byte(journal: Journal) -> None:
    """A5: inputs and payloads come back as the text that was given, records in the order of their acceptance."""
    run = row(inputs=AWKWARD)
    claim = await journal.accept(run)
    records = [begun("/z"), Record("/a", 1, "succeeded", AWKWARD), begun("/a[10]"), begun("/a[9]", 2)]
    await journal.record(claim, *records[:2])
    await journal.record(claim, *records[2:])

    assert await journal.load("r1") == (run, records, None)


async def test_a_run_is_accepted_once(journal: Journal) -> None:
    """A second run of the same id is refused and changes nothing."""
    claim = await journal.accept(row())
    with pytest.raises(JournalRefused, match="known already"):
        await journal.accept(row(inputs='{"other":1}'))

    await journal.record(claim, begun())
    assert (await journal.load("r1"))[0] == row()


async def test_the_newest_claim_alone_counts(journal: Journal) -> None:
    """A2, A8: an owner that wakes up late can neither record nor finish, even what is recorded already."""
    old = await journal.accept(row())
    await journal.record(old, begun())
    new = await journal.claim("r1", ends=1)
    for late in (
        journal.record(old, begun()),
        journal.record(old, begun("/b")),
        journal.finish(old, Ended("failed", "{}")),
    ):
        with pytest.raises(JournalRefused, match="another owner"):
            await late

    await journal.record(new, begun("/c"))
    assert new.epoch == old.epoch + 1
    assert [record.path for record in (await journal.load("r1"))[1]] == ["/a", "/c"]


async def test_epoch_and_token_must_both_fit(journal: Journal) -> None:
    """A7: a claim of the same epoch with another token, as a stale copy of a database may give, is void."""
    claim = await journal.accept(row())
    for forged in (Claim("r1", claim.epoch, "0" * 32), Claim("r1", claim.epoch + 1, claim.token)):
        with pytest.raises(JournalRefused, match="another owner"):
            await journal.record(forged, begun())


async def test_the_same_record_twice_is_kept_once_and_another_is_refused(journal: Journal) -> None:
    """A8: a write is answered by what stands under its key; other content there is refused, with all that came along."""
    claim = await journal.accept(row())
    await journal.record(claim, begun(payload='{"x":1}'))
    await journal.record(claim, begun(payload='{"x":1}'), begun(payload='{"x":1}'))
    with pytest.raises(JournalRefused, match="another record"):
        await journal.record(claim, begun("/new"), begun(payload='{"x":2}'))
    with pytest.raises(JournalRefused, match="another record"):
        await journal.record(claim, begun("/twin", payload="1"), begun("/twin", payload="2"))

    assert (await journal.load("r1"))[1] == [begun(payload='{"x":1}')]


async def test_nothing_follows_the_end(journal: Journal) -> None:
    """A run that has ended takes no record, no second end and no claim."""
    claim = await journal.accept(row())
    await journal.finish(claim, Ended("succeeded", AWKWARD))
    for late in (
        journal.record(claim, begun()),
        journal.finish(claim, Ended("failed", "{}")),
        journal.claim("r1", ends=1),
    ):
        with pytest.raises(JournalRefused, match="has ended: succeeded"):
            await late

    assert (await journal.load("r1"))[1:] == ([], Ended("succeeded", AWKWARD))


async def test_an_unknown_run_is_told(journal: Journal) -> None:
    """Whatever is asked of a run that is not there says so."""
    nobody = Claim("r9", 1, "t")
    for asked in (
        journal.claim("r9", ends=1),
        journal.load("r9"),
        journal.record(nobody, begun()),
        journal.finish(nobody, Ended("failed", "{}")),
        journal.save_artifact("r9", b"x", name="x", content_type="text/plain"),
        journal.read_artifact("r9", "sha256:00"),
    ):
        with pytest.raises(NotFound, match="no run 'r9'"):
            await asked


async def test_artifacts_belong_to_their_run(journal: Journal) -> None:
    """A file is found under the hash of its content in its own run alone."""
    await journal.accept(row())
    await journal.accept(row("r2"))
    kept = await journal.save_artifact("r1", b"\0\xff", name="x.bin", content_type="application/octet-stream")
    again = await journal.save_artifact("r1", b"\0\xff", name="y.bin", content_type="application/octet-stream")

    assert kept["artifact"] == again["artifact"]
    assert await journal.read_artifact("r1", str(kept["artifact"])) == b"\0\xff"
    with pytest.raises(NotFound, match="no artifact"):
        await journal.read_artifact("r2", str(kept["artifact"]))


async def test_runs_side_by_side_do_not_mix(journal: Journal) -> None:
    """A refusal to one of many writers at once is that one's alone."""
    claims = [await journal.accept(row(f"r{number}")) for number in range(20)]
    stale = claims[7]
    await journal.claim("r7", ends=1)
    answers = await asyncio.gather(*(journal.record(claim, begun()) for claim in claims), return_exceptions=True)

    assert [type(answer) for answer in answers] == [
        JournalRefused if claim is stale else type(None) for claim in claims
    ]
    assert [len((await journal.load(f"r{number}"))[1]) for number in range(20)] == [1] * 7 + [0] + [1] * 12


async def test_a_run_is_taken_over_from_the_owner_that_was_meant(journal: Journal) -> None:
    """A2: of several that saw the same owner die one gets the run; it is listed until it ends."""
    await journal.accept(row())
    await journal.accept(row("r2"))
    answers = await asyncio.gather(*(journal.claim("r1", ends=1) for _ in range(5)), return_exceptions=True)

    assert [type(answer) for answer in answers] == [Claim, *[JournalRefused] * 4]
    assert {(run.run_id, run.epoch) for run in await journal.unfinished()} == {("r1", 2), ("r2", 1)}
    claim = answers[0]
    assert isinstance(claim, Claim)
    await journal.finish(claim, Ended("succeeded", "{}"))
    assert [run.run_id for run in await journal.unfinished()] == ["r2"]
