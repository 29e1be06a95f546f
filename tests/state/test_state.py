"""The tables beside the journal, on both databases."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from servers.postgres import Postgres
from state_process import COUNTS, count

from weft.errors import StateUnavailable
from weft.state import State, metadata, tables

PROCESS = Path(__file__).parent / "state_process.py"


def run(place: Path | str, what: str, stdout: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, PROCESS, str(place), what], text=True, stdout=stdout)


def put(number: int) -> sa.Insert:
    return COUNTS.insert().values(id=number, times=number)


async def test_four_processes_make_the_same_tables_at_once(place: Path | str, state: State) -> None:
    """All of them open, and the tables are there once."""
    processes = [run(place, "open") for _ in range(4)]
    assert [await asyncio.to_thread(process.wait, 60) for process in processes] == [0, 0, 0, 0]
    assert await state.read(lambda connection: connection.scalar(sa.select(tables.LAYOUTS.c.version))) == tables.LAYOUT
    names = await state.read(lambda connection: sa.inspect(connection).get_table_names())
    assert set(metadata.tables) <= {*names, "weft_test_later"}


async def test_processes_lose_no_update_of_each_other(place: Path | str, state: State) -> None:
    """Three processes read and write one row 25 times each: it counts 75."""
    processes = [run(place, "count") for _ in range(2)]
    await count(state, 25)
    assert [await asyncio.to_thread(process.wait, 60) for process in processes] == [0, 0]
    assert await state.read(lambda connection: connection.scalar(sa.select(COUNTS.c.times))) == 75


async def test_what_fails_is_undone_and_raised(state: State) -> None:
    """An error of the caller's own, and a row that is there already, leave nothing behind."""

    def fail(connection: sa.Connection) -> None:
        connection.execute(put(1))
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await state.run(fail)
    await state.run(lambda connection: connection.execute(put(2)).rowcount)
    with pytest.raises(sa.exc.IntegrityError):
        await state.run(lambda connection: connection.execute(put(2)).rowcount)
    assert await state.read(lambda connection: connection.scalars(sa.select(COUNTS.c.id)).all()) == [2]


async def test_a_reader_writes_nothing(state: State) -> None:
    """On PostgreSQL the database refuses it."""
    await state.open()
    if state.dialect == "postgresql":
        with pytest.raises(StateUnavailable):
            await state.read(lambda connection: connection.execute(put(1)).rowcount)


async def test_a_write_is_heard_by_every_listener_of_every_process(place: Path | str, state: State) -> None:
    """Each listener hears of what another process has written, well within half a second, and of nothing else."""
    other = State(place)
    ears = [state.news(), state.news(), other.news()]
    for ear in ears:
        assert await ear.changed(2)
    await asyncio.sleep(0.4)
    for ear in ears:
        while await ear.changed(0.05):
            pass
    assert [await ear.changed(0.05) for ear in ears] == [False, False, False]
    began = time.monotonic()
    waiting = [asyncio.create_task(ear.changed(2)) for ear in ears]
    await asyncio.sleep(0)
    await other.run(lambda connection: connection.execute(put(1)).rowcount)
    assert await asyncio.gather(*waiting) == [True, True, True]
    assert time.monotonic() - began < 0.5
    await other.close()


async def test_a_table_that_grows_is_widened_where_it_is(place: Path | str) -> None:
    """A column that a newer Weft has is added to a table that an older one made, and its rows have the default."""
    later = sa.MetaData()
    first = State(place)
    name = "weft_test_later"
    old = sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True))
    try:
        await first.run(lambda connection: connection.execute(old.insert().values(id=1)).rowcount)
        metadata.remove(old)
        new = sa.Table(
            name,
            metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("note", sa.Text),
            sa.Column("kind", sa.Text, nullable=False, server_default="plain", index=True),
        )
        second = State(place)
        rows = await second.read(lambda connection: connection.execute(sa.select(new)).all())
        assert [tuple(row) for row in rows] == [(1, None, "plain")]
        indexes = await second.read(lambda connection: sa.inspect(connection).get_indexes(name))
        assert [index["column_names"] for index in indexes] == [["kind"]]
        await first.run(lambda connection: connection.execute(old.insert().values(id=2)).rowcount)
        await second.close()
    finally:
        metadata.remove(metadata.tables[name])
        later.clear()
        await first.close()


async def test_tables_of_a_newer_weft_are_left_alone(place: Path | str, state: State) -> None:
    """Where a newer Weft has raised the layout, an older one refuses to write."""
    await state.run(lambda connection: connection.execute(tables.LAYOUTS.insert().values(version=99)).rowcount)
    older = State(place)
    with pytest.raises(StateUnavailable) as caught:
        await older.open()
    assert caught.value.problem.code == "state_too_new"
    await older.close()


# ---- SQLite
async def test_the_file_is_durable_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    """WAL and a sync with each commit are set, the home is 0700 and its file 0600."""
    state = State(tmp_path / "home/state.db")
    facts = await state.read(
        lambda connection: [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")
        ]
    )
    await state.run(lambda connection: connection.execute(put(1)).rowcount)
    assert facts == ["wal", 2]
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in os.scandir(tmp_path / "home")} == {0o600}
    await state.close()


async def test_a_lock_of_another_program_is_waited_for(tmp_path: Path) -> None:
    """A write goes through when the lock is gone; reads do not wait for it."""
    path = tmp_path / "state.db"
    state = State(path)
    await state.open()
    process = run(path, "lock", subprocess.PIPE)
    with process.stdout or contextlib.nullcontext() as lines:
        assert await asyncio.to_thread(lines.readline) == "locked\n"
    assert await state.read(lambda connection: connection.scalar(sa.select(sa.func.count()).select_from(COUNTS))) == 0
    began = time.monotonic()
    await state.run(lambda connection: connection.execute(put(1)).rowcount)
    assert 0.5 < time.monotonic() - began < 5
    await asyncio.to_thread(process.wait, 10)
    await state.close()


async def test_a_lock_without_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the deadline the caller is told who is in the way, and nothing was written."""
    monkeypatch.setattr("weft.state.state.DEADLINE_S", 0.6)
    path = tmp_path / "state.db"
    state = State(path)
    await state.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateUnavailable) as caught:
        await state.run(lambda connection: connection.execute(put(1)).rowcount)
    assert caught.value.problem.code == "state_busy"
    other.execute("ROLLBACK")
    await state.run(lambda connection: connection.execute(put(1)).rowcount)
    other.close()
    await state.close()


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda path: path.write_bytes(b"no database at all, certainly none"), "state_unavailable"),
        (lambda path: path.mkdir(), "state_unavailable"),
        (lambda path: (path.touch(), os.link(path, path.with_name("second"))), "state_linked"),
    ],
    ids=["other bytes", "directory", "hard link"],
)
async def test_what_cannot_be_used_is_told_with_a_remedy(tmp_path: Path, spoil: object, code: str) -> None:
    """A file that is none of ours is refused by name and left as it is (rule A13)."""
    path = tmp_path / "state.db"
    spoil(path)  # type: ignore[operator]
    state = State(path)
    with pytest.raises(StateUnavailable) as caught:
        await state.open()
    assert caught.value.problem.code == code
    assert caught.value.problem.remedy
    await state.close()


async def test_a_file_that_is_taken_away_is_not_written_to(tmp_path: Path) -> None:
    """What would go into a file that nobody sees any more is refused; the next call uses what is there (rule A13)."""
    path = tmp_path / "state.db"
    state = State(path)
    await state.run(lambda connection: connection.execute(put(1)).rowcount)
    path.rename(tmp_path / "away.db")
    with pytest.raises(StateUnavailable) as caught:
        await state.run(lambda connection: connection.execute(put(2)).rowcount)
    assert caught.value.problem.code == "state_moved_away"
    await state.close()


# ---- PostgreSQL
class Proxy:
    """Stands between a client and a server, and forwards nothing any more when told to be silent."""

    def __init__(self, port: int) -> None:
        self.silent = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._target = port
        self._lines: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._lines += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(65_536):
                if not self.silent.is_set():
                    sink.sendall(content)
            sink.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.close()
        for line in self._lines:
            line.close()


@pytest.fixture
def proxy(postgres: Postgres) -> Iterator[Proxy]:
    made = Proxy(postgres.port)
    yield made
    made.close()


async def test_a_line_on_which_nothing_comes_is_cut(
    postgres: Postgres, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is told within the deadline, not after the operating system's."""
    monkeypatch.setattr("weft.state.state.DEADLINE_S", 0.5)
    address = postgres.database()
    state = State(address.replace(str(postgres.port), str(proxy.port)))
    await state.open()
    proxy.silent.set()
    began = time.monotonic()
    with pytest.raises(StateUnavailable):
        await state.run(lambda connection: connection.execute(put(1)).rowcount)
    assert time.monotonic() - began < 4
    proxy.silent.clear()
    await state.close()


async def test_a_server_that_comes_back_is_used_again(postgres: Postgres) -> None:
    """Connections that a restart has cut are replaced without the caller noticing."""
    state = State(postgres.database())
    await state.run(lambda connection: connection.execute(put(1)).rowcount)
    postgres.restart()
    await state.run(lambda connection: connection.execute(put(2)).rowcount)
    assert await state.read(lambda connection: connection.scalars(sa.select(COUNTS.c.id)).all()) == [1, 2]
    await state.close()


async def test_each_transaction_states_its_isolation_and_limits(postgres: Postgres) -> None:
    """Whatever the site's default is, writers read committed rows, and nothing stays in the session (rule A25)."""
    state = State(postgres.database())
    names = ("transaction_isolation", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")

    def settings(connection: sa.Connection) -> list[str]:
        return [str(connection.exec_driver_sql(f"SHOW {name}").scalar()) for name in names]

    isolation, statement, lock, idle = await state.run(settings)
    assert (isolation, lock, idle) == ("read committed", "1s", "5s")
    assert statement.endswith("s")
    assert statement != "0"
    assert (await state.read(settings))[0] == "repeatable read"
    assert await asyncio.to_thread(_left_in_sessions, state) == ("0", 0)
    await state.close()


def _left_in_sessions(state: State) -> tuple[str, int]:
    with state._base._engine.connect() as connection:  # type: ignore[attr-defined]
        raw = connection.connection.driver_connection
        assert isinstance(raw, psycopg.Connection)
        timeout = raw.execute("SHOW statement_timeout").fetchone()
        prepared = raw.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
    assert timeout is not None
    assert prepared is not None
    return timeout[0], prepared[0]


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://weft:hunter2-secret@127.0.0.1:1/weft",
        "postgresql://weft:hunter2-secret/x@127.0.0.1:5432/weft",
        "postgresql://weft:hunter2-secret@@@:x/weft",
        "hunter2-secret",
    ],
)
async def test_no_error_names_the_password(address: str, caplog: pytest.LogCaptureFixture) -> None:
    """An address that leads nowhere is told without any part of it, in errors and in the log."""
    caplog.set_level(logging.DEBUG)
    state = State(address)
    with pytest.raises(StateUnavailable) as caught:
        await state.open()
    assert caught.value.problem.remedy
    assert "hunter2" not in str(caught.value) + caplog.text + repr(caught.value.__cause__)
    await state.close()


def test_a_run_does_without_the_tables() -> None:
    """SQLAlchemy costs 0.4 s to load: nothing that `weft run` needs loads it."""
    code = "import sys, weft.cli.app, weft.cli.run, weft.runtime; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
