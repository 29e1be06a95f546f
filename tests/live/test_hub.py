"""Frames from whoever tells to whoever listens, in this process and in others, on both databases."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from weft.live import Frame, Hub, Listening
from weft.live import hub as hubs
from weft.live.frames import LARGEST, Draft, merged
from weft.live.ring import ring_at
from weft.redaction import Redactor, Secret
from weft.types import JsonObject


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where the ring is."""
    if request.param == "sqlite":
        return tmp_path / "live.db"
    return str(request.getfixturevalue("postgres_server").database())


@asynccontextmanager
async def several(place: Path | str, count: int) -> AsyncIterator[list[Hub]]:
    """The hubs of several processes."""
    found = [Hub(place) for _ in range(count)]
    try:
        yield found
    finally:
        for hub in found:
            await hub.close()


async def heard(listening: Listening, until: Callable[[Frame], bool], seconds: float = 5.0) -> list[Frame]:
    """Return what is heard until a frame."""
    found = []
    async with asyncio.timeout(seconds):
        async for frame in listening:
            found.append(frame)
            if until(frame):
                return found
    return found


def number(value: int) -> JsonObject:
    return {"number": value}


def is_last(frame: Frame) -> bool:
    return frame.event == "last"


async def test_every_listener_hears_every_process_in_one_order(place: Path | str) -> None:
    """What three processes tell is heard by listeners of two others, each frame once, in the same order, ids growing."""
    async with several(place, 5) as (*tellers, here, there):
        for teller in tellers:
            teller.stay_awake()
        async with here.listen(["approvals"]) as first, there.listen(["approvals", "runs"]) as second:
            await asyncio.sleep(1.3)  # a process that is idle looks every second
            for i in range(60):
                tellers[i % 3].publish("approvals", "asked", number(i))
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.3)
            tellers[0].publish("approvals", "last", {})
            sides = [await heard(each, is_last) for each in (first, second)]
    told = [[frame for frame in side if frame.event == "asked"] for side in sides]
    assert told[0] == told[1]
    assert sorted(frame.data["number"] for frame in told[0]) == [*range(60)]
    ids = [int(frame.id.rpartition("-")[2]) for frame in told[0]]
    assert ids == sorted(set(ids))


async def test_nothing_is_written_when_nobody_listens(tmp_path: Path) -> None:
    """With no listener there is no file of frames; of a topic that nobody wants, nothing is kept in it."""
    async with several(tmp_path / "live.db", 2) as (teller, listener):
        teller.publish("runs", "run", {"run_id": "1"})
        await asyncio.sleep(0.2)
        assert not [*tmp_path.iterdir()]  # noqa: ASYNC240  a test's own directory
        async with listener.listen(["approvals"]) as listening:
            await asyncio.sleep(1.3)
            for _ in range(20):
                teller.publish("runs", "run", {"run_id": "1"})
            teller.publish("approvals", "last", {})
            await heard(listening, is_last)
        with sqlite3.connect(tmp_path / "live.db") as connection:
            topics = {topic for (topic,) in connection.execute("SELECT topic FROM frames")}
    assert topics == {"", "approvals"}


async def test_whoever_comes_back_misses_nothing(place: Path | str) -> None:
    """A listener that was away hears in another process what it missed, and then what is new, without a gap or a repeat."""
    async with several(place, 3) as (teller, here, there):
        teller.stay_awake()
        async with here.listen(["runs"]) as listening:
            await asyncio.sleep(1.3)
            teller.publish("runs", "last", {"run_id": "0"})
            last = (await heard(listening, is_last))[-1]
        teller.publish("runs", "run", {"run_id": "1"})
        await asyncio.sleep(0.3)
        async with there.listen(["runs"], last.id) as listening:
            assert not listening.missed
            teller.publish("runs", "last", {"run_id": "2"})
            again = await heard(listening, is_last)
    assert [frame.data["run_id"] for frame in again if frame.topic == "runs"] == ["1", "2"]


@pytest.mark.parametrize("after", ["", "x", "-5", "00000000-1", "9" * 90, "superseded"])
async def test_an_id_that_means_nothing_here_begins_anew(place: Path | str, after: str) -> None:
    """An id of another time, or none at all, is told as something missed."""
    async with several(place, 1) as (hub,), hub.listen(["runs"], after) as listening:
        assert listening.missed
        assert not listening.waiting


async def test_a_time_in_which_nobody_listened_is_a_gap(place: Path | str) -> None:
    """A topic that was not listened for all the time cannot be gone on with, though the frame is still there."""
    async with several(place, 1) as (hub,):
        async with hub.listen(["runs"]) as listening:
            last = listening.start
        async with hub.listen(["runs", "documents"], last) as listening:
            assert listening.missed
        async with hub.listen(["runs"], last) as listening:
            assert not listening.missed


async def test_a_topic_that_nobody_wanted_for_long_is_told_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the time of the last listener is over, nothing more is kept, and whoever comes back is told of the gap."""
    monkeypatch.setattr("weft.live.sqlite_ring.LEASE_S", 0.2)
    monkeypatch.setattr(hubs, "BEAT_S", 0.05)
    async with several(tmp_path / "live.db", 2) as (teller, listener):
        async with listener.listen(["runs"]) as listening:
            last = listening.start
            await asyncio.sleep(0.5)  # it goes on saying that it is there
            async with listener.listen(["runs"], last) as still:
                assert not still.missed
        await asyncio.sleep(0.4)
        assert ring_at(tmp_path / "live.db").wanted() == frozenset()
        teller.publish("runs", "run", {"run_id": "1"})
        await asyncio.sleep(0.3)
        async with listener.listen(["runs"], last) as listening:
            assert listening.missed


async def test_what_was_removed_is_told_as_missed(place: Path | str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ring keeps so many frames; whoever asks for what was behind an older one reads again."""
    for module in ("sqlite_ring", "postgres_ring"):
        monkeypatch.setattr(f"weft.live.{module}.KEPT", 5)
        monkeypatch.setattr(f"weft.live.{module}.TRIMMED_EVERY", 1)
    ring = ring_at(place)
    head = ring.attend(["runs"])
    for i in range(20):
        ring.write([Draft("runs", "run", number(i))])
    frames = ring.read(0, None, None, 100)
    ring.close()
    assert len(frames) == 5
    async with several(place, 1) as (hub,):
        async with hub.listen(["runs"], f"{head.era}-{head.number}") as listening:
            assert listening.missed
        async with hub.listen(["runs"], frames[0][1].id) as listening:
            assert not listening.missed
            assert [frame.data["number"] for frame in listening.waiting] == [16, 17, 18, 19]


async def test_a_slow_listener_holds_up_nobody(place: Path | str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not read is told to read again behind a bounded number of frames; others hear all of them."""
    monkeypatch.setattr(hubs, "MOST_UNHEARD", 150)
    async with several(place, 1) as (hub,), hub.listen(["approvals"]) as slow, hub.listen(["approvals"]) as quick:
        reading = asyncio.create_task(heard(quick, is_last))
        for i in range(300):
            hub.publish("approvals", "asked", number(i))
            if i % 30 == 0:
                await asyncio.sleep(0.08)
        await asyncio.sleep(0.2)
        hub.publish("approvals", "last", {})
        assert len([frame for frame in await reading if frame.event == "asked"]) == 300
        assert len(slow.waiting) <= 150
        missed = await heard(slow, lambda frame: frame.event == "reset")
    assert missed[0].event == "reset"


async def test_a_process_that_begins_to_tell_says_so(place: Path | str) -> None:
    """Who did not know of a listener tells that all before must be read again: nothing lies between snapshot and frames."""
    async with several(place, 2) as (teller, listener):
        teller.stay_awake()
        await asyncio.sleep(0.2)  # it knows now that nobody listens
        async with listener.listen(["runs", "schedules"]) as listening:
            found = await heard(listening, lambda frame: frame.event == "refresh")
    assert found[-1].topic == ""
    assert found[-1].data == {"topics": ["runs", "schedules"]}


async def test_secrets_are_masked_and_texts_cut(tmp_path: Path) -> None:
    """What is told holds no secret, in keys or deep inside, and no frame is larger than it may be."""
    hub = Hub(tmp_path / "live.db", redactor=Redactor([Secret("s3cret-word")]))
    async with hub.listen(["documents"]) as listening:
        hub.publish("documents", "a", {"deep": [{"x s3cret-word": "is s3cret-word", "long": "y" * 9_000}]})
        hub.publish("documents", "b", {"name": "x", "many": ["y" * 1_000] * 100})
        hub.publish("documents", "last", {})
        found = await heard(listening, is_last)
    await hub.close()
    assert "s3cret" not in str(found)
    assert all(len(str(frame.data)) < LARGEST * 2 for frame in found)
    assert found[1].data == {"name": "x", "cut": True}


async def test_what_several_processes_tell_is_heard_once(place: Path | str) -> None:
    """Frames with one key count once, whoever is first."""
    async with several(place, 2) as (one, other), one.listen(["documents"]) as here, other.listen(["documents"]):
        for hub in (one, other):
            hub.publish("documents", "changed", {"name": "a"}, once="a:1")
        await asyncio.sleep(0.3)
        one.publish("documents", "last", {})
        found = await heard(here, is_last)
    assert [frame.event for frame in found if frame.topic] == ["changed", "last"]


async def test_a_damaged_file_is_thrown_away(tmp_path: Path) -> None:
    """A file that a power cut has left in pieces is begun anew; listeners are told to read again."""
    file = tmp_path / "live.db"
    async with several(file, 2) as (teller, listener), listener.listen(["runs"]) as listening:
        before = listening.start
        for end in ("", "-wal", "-shm"):
            Path(f"{file}{end}").unlink(missing_ok=True)  # noqa: ASYNC240
        file.write_bytes(b"not a database, but long enough to be taken for one" * 100)
        found = await heard(listening, lambda frame: frame.event == "reset", 8)
        teller.publish("runs", "last", {"run_id": "1"})
        assert is_last((await heard(listening, is_last))[-1])
    assert found[-1].id.partition("-")[0] != before.partition("-")[0]


async def test_a_database_that_has_crashed_begins_anew(postgres_server: object) -> None:
    """Unlogged tables are empty after a crash of the server: ids are those of another time, and listeners read again."""
    place = str(postgres_server.database())  # type: ignore[attr-defined]
    async with several(place, 1) as (hub,), hub.listen(["runs"]) as listening:
        before = listening.start
        with psycopg.connect(place, autocommit=True) as connection:  # what a crash leaves of them
            connection.execute("TRUNCATE weft_live_ring, weft_live_frames, weft_live_wanted")
        found = await heard(listening, lambda frame: frame.event == "reset", 8)
        hub.publish("runs", "last", {"run_id": "1"})
        assert is_last((await heard(listening, is_last))[-1])
    assert found[-1].id.partition("-")[0] != before.partition("-")[0]


async def test_hanging_up_ends_every_listener(tmp_path: Path) -> None:
    """Two hundred listeners end at once when the process stops."""
    hub = Hub(tmp_path / "live.db")

    async def listen() -> int:
        async with hub.listen(["runs"]) as listening:
            return len([frame async for frame in listening])

    tasks = [asyncio.create_task(listen()) for _ in range(200)]
    while hub.listeners < 200:
        await asyncio.sleep(0.01)
    hub.hang_up()
    async with asyncio.timeout(2):
        await asyncio.gather(*tasks)
    assert hub.listeners == 0
    await hub.close()


def test_pieces_of_an_output_are_put_together() -> None:
    """Pieces of one attempt become one frame; of another attempt or path they stay apart; a run's summary is the last."""
    piece = {"path": "/a", "attempt": 1, "epoch": 1}
    drafts = [
        Draft("run:1", "output", {**piece, "offset": 0, "text": "ab"}),
        Draft("runs", "run", {"run_id": "1", "state": "running"}),
        Draft("run:1", "output", {**piece, "offset": 2, "text": "cd"}),
        Draft("run:1", "output", {**piece, "attempt": 2, "offset": 0, "text": "ef"}),
        Draft("runs", "run", {"run_id": "2", "state": "running"}),
        Draft("runs", "run", {"run_id": "1", "state": "failed"}),
    ]
    told = [(each.data.get("text"), each.data.get("state")) for each in merged(drafts)]
    assert told == [("abcd", None), ("ef", None), (None, "running"), (None, "failed")]


def test_a_summary_that_was_read_before_a_claim_is_left_out() -> None:
    """Of a run's summaries under several claims that of the last claim counts, whenever it was told."""
    taken = Draft("runs", "run", {"run_id": "1", "state": "running", "epoch": 1})
    ready = Draft("runs", "run", {"run_id": "1", "state": "ready", "epoch": 0})
    assert merged([taken, ready]) == merged([ready, taken]) == [taken]
