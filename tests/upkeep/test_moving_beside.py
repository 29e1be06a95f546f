"""What lies beside the journal goes with it to a database (rule A24)."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from servers.postgres import Postgres

from weft.access import Access, Audit, Identity
from weft.connections import Keys
from weft.connections.database import DatabaseStore
from weft.connections.store import Store
from weft.errors import JournalRefused
from weft.redaction import Secret
from weft.state import State
from weft.upkeep.moving import STAYS, carry

BOSS = Identity("boss", "local", frozenset({"admin"}))
KEY = {"WEFT_KEY": "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="}


async def furnish(home: Path) -> str:
    """Put something into the tables of a home; return an API token."""
    state = State(home / "state.db")
    token, _ = await Access(state).create_token("ci", ("view",), by="boss", expires_s=None)
    await Access(state).begin_session("somebody", "session", ("view",))
    for number in range(3):
        await Audit(state).record(BOSS, "token.created", f"t{number}")
    await state.close()
    Store(home / "connections.db", Keys(KEY, home)).write(
        "mine", "http", {"base_url": "x"}, {"token": Secret("hush-hush")}
    )
    return token


async def test_tokens_audit_log_and_connections_go_along(tmp_path: Path, postgres_server: Postgres) -> None:
    """They work there as they did; logins are ended; called again nothing happens twice."""
    home, address = tmp_path, postgres_server.database()
    token = await furnish(home)
    assert (await asyncio.to_thread(carry, home, address, dry_run=True)).rows["weft_audit"] == 3
    assert (home / "state.db").exists()
    with closing(sqlite3.connect(home / "state.db")) as source, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        source.backup(copy)
    carried = await asyncio.to_thread(carry, home, address)
    assert carried.rows["weft_tokens"] == 1
    assert [file.name for file in carried.files] == ["state.db.moved", "connections.db.moved"]
    assert not (home / "state.db").exists()
    state = State(address)
    assert (await Access(state).by_token(token)).scopes == {"view"}
    assert (await Audit(state).verify()).faults == ()
    assert (await Audit(state).verify()).entries == 3
    with psycopg.connect(address) as connection:
        assert connection.execute("SELECT count(*) FROM weft_sessions").fetchone() == (0,)
    store = DatabaseStore(address, Keys(KEY, home))
    assert store.opened("mine")[1]["token"].reveal() == "hush-hush"

    (tmp_path / "copy.db").rename(home / "state.db")  # as if the end of the first call was cut off
    assert (await asyncio.to_thread(carry, home, address)).rows["weft_audit"] == 3
    assert (await Audit(state).verify()).entries == 3
    await Audit(state).record(BOSS, "token.created", "later")
    await state.close()


async def test_what_the_database_knows_otherwise_is_not_overwritten(tmp_path: Path, postgres_server: Postgres) -> None:
    """Two audit logs do not become one; nothing is written then, and the files stay."""
    home, address = tmp_path, postgres_server.database()
    await furnish(home)
    state = State(address)
    await Audit(state).record(BOSS, "token.created", "another")
    with pytest.raises(JournalRefused) as refused:
        await asyncio.to_thread(carry, home, address)
    assert refused.value.problem.code == "state_known"
    assert (home / "state.db").exists()
    assert await Access(state).tokens() == []
    await state.close()


def test_each_table_is_carried_or_it_is_said_why_not(tmp_path: Path) -> None:
    """A table that is new is not forgotten."""
    from weft.state import metadata
    from weft.upkeep import moving

    carry(tmp_path, "postgresql://nowhere", dry_run=True)
    assert set(STAYS) - set(metadata.tables) <= {"weft_outbox"}
    assert set(moving.STORE.values()) <= set(metadata.tables)
