"""The audit log on each kind of database: one chain whoever writes, and no change of it goes unseen."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from servers.postgres import Postgres

from weft.access import Audit, Identity
from weft.access.audit import hash_of
from weft.errors import StateUnavailable, WeftError
from weft.state import State

ADA = Identity("ada", "session", frozenset({"admin"}))
GUARDS = {
    "sqlite": ["DROP TRIGGER weft_audit_no_update", "DROP TRIGGER weft_audit_no_delete"],
    "postgresql": ["DROP TRIGGER weft_audit_append_only ON weft_audit"],
}


@pytest.fixture(params=["sqlite", "postgres"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    if request.param == "sqlite":
        return tmp_path / "state.db"
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.database()


@pytest.fixture
async def state(place: Path | str) -> AsyncIterator[State]:
    state = State(place)
    await state.open()
    yield state
    await state.close()


async def _told(state: State, *statements: str) -> None:
    """Do what somebody with the database's own tools can do."""

    def work(connection: sa.Connection) -> None:
        for statement in statements:
            connection.exec_driver_sql(statement)

    await state.run(work)


async def _five(state: State) -> Audit:
    audit = Audit(state, now=lambda: 1_700_000_000.0)
    for number in range(5):
        await audit.record(ADA, "thing.done", f"thing {number}", {"count": number})
    return audit


async def test_chain(state: State) -> None:
    """Each entry carries the hash of the one before it, and the whole is found whole."""
    audit = await _five(state)

    entries = list(reversed(await audit.list()))
    found = await audit.verify()

    assert [entry.number for entry in entries] == [1, 2, 3, 4, 5]
    assert all(later.previous == earlier.hash for earlier, later in itertools.pairwise(entries))
    assert all(entry.hash == hash_of(entry) for entry in entries)
    assert (found.entries, found.faults) == (5, ())
    assert (await audit.verify(f"3:{entries[2].hash}")).faults == ()


async def test_many_writers(place: Path | str) -> None:
    """Several processes' worth of writers at once make one chain without a gap."""
    states = [State(place) for _ in range(4)]
    await asyncio.gather(*(state.open() for state in states))
    audits = [Audit(state) for state in states]

    await asyncio.gather(*(audits[count % 4].record(ADA, "thing.done", str(count)) for count in range(60)))
    found = await audits[0].verify()
    await asyncio.gather(*(state.close() for state in states))

    assert (found.entries, found.faults) == (60, ())


async def test_failures_are_told(state: State) -> None:
    """Whoever wanted an entry that could not be kept is told so, each of them, and later entries are kept."""
    audit = Audit(state)
    await _told(state, "UPDATE weft_audit_head SET id = 2", "DELETE FROM weft_audit_head")

    told = await asyncio.gather(
        *(audit.record(ADA, "thing.done", str(count)) for count in range(5)), return_exceptions=True
    )
    await _told(state, f"INSERT INTO weft_audit_head VALUES (1, 0, '{'0' * 64}')")

    assert all(isinstance(each, StateUnavailable) for each in told)
    assert await audit.record(ADA, "thing.done", "after") == 1
    assert (await audit.verify()).faults == ()


async def test_together(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries that come at once are kept in few transactions, in the order in which they came."""
    audit, count, run = Audit(state), 0, state.run

    async def counted(work: Callable[[sa.Connection], Any]) -> Any:
        nonlocal count
        count += 1
        return await run(work)

    monkeypatch.setattr(state, "run", counted)
    numbers = await asyncio.gather(*(audit.record(ADA, "thing.done", str(each)) for each in range(200)))

    assert numbers == list(range(1, 201))
    assert count <= 3
    assert [entry.target for entry in await audit.list(limit=3)] == ["199", "198", "197"]


@pytest.mark.parametrize(
    "statement",
    ["UPDATE weft_audit SET who = 'eve' WHERE number = 2", "DELETE FROM weft_audit WHERE number = 5"],
)
async def test_only_added_to(state: State, statement: str) -> None:
    """The database itself refuses to change or remove an entry."""
    audit = await _five(state)

    with pytest.raises((WeftError, sa.exc.IntegrityError)):
        await _told(state, statement)

    assert len(await audit.list()) == 5


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE weft_audit SET who = 'eve' WHERE number = 2", "Entry 2 was changed"),
        ("UPDATE weft_audit SET details = '{}' WHERE number = 3", "Entry 3 was changed"),
        ("UPDATE weft_audit SET at_ms = at_ms + 1 WHERE number = 5", "Entry 5 was changed"),
        ("DELETE FROM weft_audit WHERE number = 3", "Entries 3 to 3 are missing"),
        ("DELETE FROM weft_audit WHERE number = 1", "Entries 1 to 1 are missing"),
        ("DELETE FROM weft_audit WHERE number >= 4", "ends at entry 3, and entry 5 was the last"),
        ("DELETE FROM weft_audit", "ends at entry 0, and entry 5 was the last"),
        ("DELETE FROM weft_audit_head", "has lost"),
    ],
)
async def test_changes_are_found(state: State, statement: str, told: str) -> None:
    """Whoever gets around the database's guards is found out by the chain, and by the second place that counts."""
    audit = await _five(state)
    await _told(state, *GUARDS[state.dialect], statement)

    found = await audit.verify()

    assert told in " ".join(found.faults)


async def test_made_anew(state: State) -> None:
    """A log whose tail was cut and written again in good order is found out by an entry that was noted elsewhere."""
    audit = await _five(state)
    noted = (await audit.verify()).head
    third = (await audit.list(limit=3))[-1]
    await _told(
        state,
        *GUARDS[state.dialect],
        "DELETE FROM weft_audit WHERE number > 3",
        f"UPDATE weft_audit_head SET number = 3, hash = '{third.hash}'",
    )
    await audit.record(ADA, "thing.done", "another past")
    await audit.record(ADA, "thing.done", "that never was")

    assert (await audit.verify()).faults == ()
    assert "is not in the log" in (await audit.verify(noted)).faults[0]


async def test_whatever_was_sent(state: State) -> None:
    """Texts that no database takes as they are do not keep an entry from being written."""
    audit = Audit(state)
    eve = Identity("e\0ve\ud800", "oidc", frozenset())

    await audit.record(eve, "thing.done", "\0\udfff" * 3, {"name": "\0\ud800", "deep": [{"a": None}]})

    assert (await audit.verify()).faults == ()
    assert (await audit.list())[0].details == {"name": "\0\ud800", "deep": [{"a": None}]}
