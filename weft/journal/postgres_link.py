"""The connections of one process to its database, each with deadlines on both sides.

What a connection was asked and did not answer in time is not asked again on it: it is cut. A proxy that keeps a line
open and forwards nothing answers keep-alives itself, so that only a deadline of our own ends the wait.

A pool of psycopg_pool would wait 1, 2, 4 … seconds between attempts to connect. A process that comes back later than the
others would be taken for dead, so the few connections are kept here, and each attempt is the caller's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from weft.errors import JournalUnavailable

T = TypeVar("T")
Connection: TypeAlias = "psycopg.AsyncConnection[tuple[Any, ...]]"
Work: TypeAlias = "Callable[[Connection], Coroutine[Any, Any, T]]"
Statement: TypeAlias = "tuple[str, Sequence[Any]]"

COMMIT_S: Final = 10.0
"""Seconds that a transaction may take until its connection is cut."""

CONNECT: Final[Mapping[str, Any]] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "application_name": "weft",
    "client_encoding": "UTF8",
}
"""What libpq is told unless the address says otherwise."""

LIMITS: Final = (
    "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', '1s', true),"
    " set_config('idle_in_transaction_session_timeout', '5s', true)"
)
"""Of one transaction; nothing stays in the session, since a pooler may give it to somebody else."""

BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED"
BEGIN_READING: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"


class Link:
    """A few connections to one database.

    Args:
        address: A connection string of libpq.
        most: How many may be in use at a time, beside the one that writes.
        greet: Looks at each new connection before it is used; may refuse it.
    """

    def __init__(self, address: str, *, most: int, greet: Callable[[Connection], Awaitable[None]]) -> None:
        self._address = address
        self._greet = greet
        self._idle: list[Connection] = []
        self._closed = False
        self._room = asyncio.Semaphore(most)

    async def use(self, work: Work[T], *, deadline_s: float = COMMIT_S) -> T:
        """Do `work` on a connection, as soon as one is free, and return its result.

        Raises:
            psycopg.Error, OSError: It failed; when the connection was lost or cut, whether it counts is not known.
        """
        until = time.monotonic() + deadline_s
        await asyncio.wait_for(self._room.acquire(), deadline_s)
        try:
            return await self.use_now(work, deadline_s=_left(until))
        finally:
            self._room.release()

    async def use_now(self, work: Work[T], *, deadline_s: float) -> T:
        """Do `work` without waiting until others are done: beats must not stand behind large files."""
        until = time.monotonic() + deadline_s
        connection = self._idle.pop() if self._idle else await self._connected(until)
        try:
            return await within(connection, work(connection), _left(until))
        finally:
            await self._put(connection)

    async def _connected(self, until: float) -> Connection:
        connection = await asyncio.wait_for(connect(self._address), _left(until))
        try:
            await within(connection, self._greet(connection), _left(until))
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _put(self, connection: Connection) -> None:
        is_idle = connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        if is_idle and not connection.closed and not self._closed:
            self._idle.append(connection)
            return
        if connection.closed:  # the others were probably lost with it
            await self.drop()
        await connection.close()

    async def close(self) -> None:
        """Close all connections, those in use when they are no longer."""
        self._closed = True
        await self.drop()

    async def drop(self) -> None:
        """Close the connections that nobody uses."""
        idle, self._idle = self._idle, []
        for each in idle:
            await each.close()


def _left(until: float) -> float:
    return max(0.05, until - time.monotonic())


def place(address: str) -> str:
    """Return which database an address names, without user and password; raises what `parameters` raises."""
    known = parameters(address)
    return f"{known.get('dbname', '')!r} at {known.get('host', 'this machine')}:{known.get('port', 5432)}"


def parameters(address: str) -> dict[str, Any]:
    """Return what an address tells libpq.

    A password with a bare `/` or `@` ends early, and its rest is taken for a host, a port or a database, which errors
    name. So an address with such names is refused, and the refusal has no part of its text.

    Raises:
        JournalUnavailable: It is no address, or hardly the one that was meant.
    """
    known = None
    with contextlib.suppress(psycopg.Error, ValueError):  # their texts, and they as causes, would show the password
        known = conninfo_to_dict(address)
    if known is None or not _is_plain(known):
        raise JournalUnavailable(
            "WEFT_DATABASE_URL is no address of a database.",
            code="bad_database_url",
            remedy="Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE and percent-encode what is special in the "
            "password (/ is %2F, @ is %40, % is %25).",
        )
    return known


def _is_plain(known: Mapping[str, Any]) -> bool:
    hosts, ports = (str(known.get(name) or "").split(",") for name in ("host", "port"))
    return (
        all(_is_host(host) for host in hosts)
        and all(not port or (port.isascii() and port.isdecimal()) for port in ports)
        and not set(str(known.get("dbname") or "")) & set("@/:")
    )


def _is_host(name: str) -> bool:
    """Tell whether this may be a name, an address or the directory of a socket."""
    if name.startswith("/"):
        return "@" not in name
    if ":" in name:
        with contextlib.suppress(ValueError):
            return bool(ipaddress.IPv6Address(name))
        return False
    return not set(name) & set("@/")


async def connect(address: str) -> Connection:
    """Open a connection that commits by itself and keeps nothing prepared; raises what `parameters` raises, too."""
    known = parameters(address)
    asked = {name: value for name, value in CONNECT.items() if name not in known}
    return await psycopg.AsyncConnection.connect(address, autocommit=True, prepare_threshold=None, **asked)


async def within(connection: Connection, work: Awaitable[T], seconds: float) -> T:
    """Wait for work on a connection; when it takes longer, or the caller is cancelled, cut the connection."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        await _ended(connection, task)
        raise
    if not done:
        await _ended(connection, task)
        raise psycopg.OperationalError(f"no answer within {seconds:.0f} seconds")
    return task.result()


async def _ended(connection: Connection, task: asyncio.Future[Any]) -> None:
    cut(connection)
    await asyncio.wait({task}, timeout=1)  # it sees the end of the stream at once
    if task.cancel():
        await asyncio.wait({task}, timeout=1)
    if task.done() and not task.cancelled():
        task.exception()  # what the caller is told is that there was no answer


def cut(connection: Connection) -> None:
    """End a connection without a word, so that whoever waits on it gets an error at once."""
    with contextlib.suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


async def together(connection: Connection, *statements: Statement) -> list[list[tuple[Any, ...]]]:
    """Send several statements as one message, and return the rows of each.

    A pipeline would send several messages: a process that is stopped between two of them keeps its locks, because the
    server ends idle transactions only between what it has answered.
    """
    cursor = psycopg.AsyncClientCursor(connection)
    values = [value for _, parameters in statements for value in parameters]
    await cursor.execute(";".join(text for text, _ in statements).encode(), values)
    results = []
    for _ in statements:
        results.append(await cursor.fetchall() if cursor.description else [])
        cursor.nextset()
    return results


@contextlib.asynccontextmanager
async def rolled_back(connection: Connection) -> AsyncIterator[None]:
    """Undo the open transaction when the block fails."""
    try:
        yield
    except BaseException:
        if not connection.closed:
            with contextlib.suppress(psycopg.Error):
                await connection.execute("ROLLBACK")
        raise


@contextlib.asynccontextmanager
async def transaction(connection: Connection, *, limit_s: float = COMMIT_S) -> AsyncIterator[None]:
    """A transaction that states its isolation and its limits."""
    async with rolled_back(connection):
        await together(connection, *begin(limit_s))
        yield
        await connection.execute("COMMIT")


async def read(
    connection: Connection, *statements: Statement, limit_s: float = COMMIT_S
) -> list[list[tuple[Any, ...]]]:
    """Return the rows of several queries that see one state of the database, in one round trip."""
    async with rolled_back(connection):
        results = await together(
            connection, (BEGIN_READING, ()), (LIMITS, (f"{limit_s:.0f}s",)), *statements, ("COMMIT", ())
        )
    return results[2:-1]


def begin(limit_s: float = COMMIT_S) -> tuple[Statement, Statement]:
    """Return the two statements that every transaction which writes begins with."""
    return (BEGIN, ()), (LIMITS, (f"{limit_s:.0f}s",))


def is_final(error: BaseException) -> bool:
    """Tell whether the same would fail again because of what is to be kept (SQLSTATE 22, 23, 54; text that is none)."""
    cause = _cause(error)
    if isinstance(cause, psycopg.Error):
        by_class = isinstance(cause, (psycopg.DataError, psycopg.IntegrityError))
        return by_class or (cause.sqlstate or "").startswith("54")
    return not isinstance(cause, OSError)


def is_away(error: BaseException) -> bool:
    """Tell whether no other statement would do better now: lost, starting, stopping, full, a replica (08, 25, 53, 57P)."""
    cause = _cause(error)
    if not isinstance(cause, psycopg.Error):
        return isinstance(cause, OSError)
    state = cause.sqlstate
    return not is_final(cause) and (state is None or state.startswith(("08", "25", "53", "57P")))


def _cause(error: BaseException) -> BaseException:
    while not isinstance(error, (psycopg.Error, OSError)) and error.__cause__ is not None:
        error = error.__cause__  # job engines wrap what the database said
    return error
