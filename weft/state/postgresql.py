"""The tables in the PostgreSQL database of an installation.

Nothing stays in a session: a pooler may give the connection to somebody else after each transaction. So each states its
isolation and its limits, and nothing is prepared. The one connection that listens is told from a pooled one by asking.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import secrets
import socket
import time
from collections.abc import Mapping
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.exc import DBAPIError

from weft.errors import StateUnavailable
from weft.state.base import Attempt, Base
from weft.state.news import Told

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

CHANNEL: Final = "weft_state"

LOCK: Final = 0x77656674_73746174
"""Of whoever makes tables; an advisory lock of a transaction."""

CONNECTIONS: Final = 4

SILENCE_S: Final = 10.0
"""Without a word for so long, it is seen whether words still come through."""

ECHO_S: Final = 2.0
DEAF_S: Final = 0.5
"""Between two looks where nothing can be heard (a pooler of transactions lies between)."""

_PASSING: Final = ("40001", "40P01", "55P03")
"""Serialization failure, deadlock, a lock that was not free within a second."""

_LOG = logging.getLogger("weft.state")


class Postgresql(Base):
    """A few connections to one database.

    Args:
        address: A connection string of libpq.
    """

    dialect = "postgresql"
    threads = CONNECTIONS
    name = "The database of WEFT_DATABASE_URL"

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__(
            sa.create_engine(
                "postgresql+psycopg://",
                creator=self._connect,
                pool_size=CONNECTIONS,
                max_overflow=0,
                pool_timeout=5,
                use_native_hstore=False,
                hide_parameters=True,
            )
        )

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._address, autocommit=True, prepare_threshold=None, **self._asked())

    def _asked(self) -> dict[str, Any]:
        known = None
        with contextlib.suppress(psycopg.Error, ValueError):  # their texts would show the password
            known = psycopg.conninfo.conninfo_to_dict(self._address)
        if known is None:
            raise StateUnavailable(
                "WEFT_DATABASE_URL is no address of a database.",
                code="bad_database_url",
                remedy="Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE and percent-encode what is special in the "
                "password (/ is %2F, @ is %40, % is %25).",
            )
        return {name: value for name, value in CONNECT.items() if name not in known}

    # ---- one transaction
    def look(self) -> None:
        """Nothing to see: a lost connection says so."""

    def begin(self, attempt: Attempt, *, writes: bool) -> str:
        left_s = max(1, math.ceil(attempt.until - time.monotonic()))
        kind = "READ COMMITTED, READ WRITE" if writes else "REPEATABLE READ, READ ONLY"
        return (
            f"BEGIN ISOLATION LEVEL {kind}; SET LOCAL statement_timeout = '{left_s}s'; SET LOCAL lock_timeout = '1s';"
            " SET LOCAL idle_in_transaction_session_timeout = '5s'"
        )

    def has_written(self, connection: sa.Connection) -> bool:
        notify = "SELECT pg_notify(%s, '') WHERE txid_current_if_assigned() IS NOT NULL"
        return connection.exec_driver_sql(notify, (CHANNEL,)).first() is not None

    def alone(self, connection: sa.Connection) -> None:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")

    def is_passing(self, error: DBAPIError) -> bool:
        return _state(error) in _PASSING or error.connection_invalidated

    def is_undone(self, error: DBAPIError) -> bool:
        return (_state(error) or "").startswith(("23", "40"))

    def unavailable(self, error: DBAPIError | None) -> StateUnavailable:
        if error is None:
            return StateUnavailable(f"{self.name} has not answered in time.", remedy="See that it works.")
        fault = _state(error) or type(error.orig).__name__  # libpq's text may name what it takes for a host
        _LOG.warning("state_failed %s", fault)
        if _state(error) == "55P03":
            return StateUnavailable(f"{self.name} is busy.", code="state_busy", remedy="Try again.")
        if _state(error) == "42501":
            return StateUnavailable(
                f"{self.name} does not let this user do what is needed (42501).",
                remedy="Let the user make tables in the schema, or run a newer Weft once as one who may.",
            )
        return StateUnavailable(
            f"{self.name} cannot be used ({fault}).", remedy="See that it runs, and that the address is right."
        )

    def cut(self, attempt: Attempt) -> None:
        raw = attempt.raw
        if raw is not None:
            with contextlib.suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(raw.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)

    # ---- news
    async def watch(self, told: Told) -> None:
        try:
            connection = await psycopg.AsyncConnection.connect(
                self._address, autocommit=True, prepare_threshold=None, **self._asked()
            )
            async with connection:
                await self._listen(connection, told)
        except (psycopg.Error, OSError, DBAPIError) as error:
            _LOG.info("state_deaf %s", type(error).__name__)

    async def _listen(self, connection: psycopg.AsyncConnection[Any], told: Told) -> None:
        await asyncio.wait_for(connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL))), SILENCE_S)
        told.tell()  # something may have been said before
        while True:
            word = secrets.token_hex(8)
            await asyncio.to_thread(self._say, word)
            if not await _heard(connection, told, ECHO_S, word):
                return await _look(told)
            await _heard(connection, told, SILENCE_S, None)

    def _say(self, word: str) -> None:
        with self._engine.connect() as connection:
            connection.exec_driver_sql("SELECT pg_notify(%s, %s)", (CHANNEL, word))


async def _heard(connection: psycopg.AsyncConnection[Any], told: Told, seconds: float, word: str | None) -> bool:
    """Tell of what is heard; return True as soon as it is `word`, False after the time."""
    async for note in connection.notifies(timeout=seconds):
        if not note.payload:
            told.tell()
        elif note.payload == word:
            return True
    return False


async def _look(told: Told) -> None:
    """Let everybody look from time to time, since nothing can be heard; after a while it is tried again."""
    _LOG.info("state_deaf no words come through")
    until = time.monotonic() + 6 * SILENCE_S
    while time.monotonic() < until:
        await asyncio.sleep(DEAF_S)
        told.tell()


def _state(error: DBAPIError) -> str | None:
    state = getattr(error.orig, "sqlstate", None)
    return None if state is None else str(state)
