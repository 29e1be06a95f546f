"""The connection that hears when something was written; without it one looks from time to time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

import psycopg
from psycopg import sql

from weft.journal.postgres_link import Connection, connect, within

_SILENCE_S: Final = 10.0
"""Without a word for so long, the server is asked whether it is there."""

_LOG = logging.getLogger("weft.journal")


class Listener:
    """Listens from the first question on, and connects again whenever the connection was lost."""

    def __init__(self, address: str, channel: str) -> None:
        self._address = address
        self._channel = channel
        self._event = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def heard(self, timeout_s: float) -> bool:
        """Return True when there may be news, False after the time-out."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            await asyncio.wait_for(self._event.wait(), timeout_s)
        except TimeoutError:
            return False
        self._event.clear()
        return True

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        lost = False
        while True:
            try:
                connection = await connect(self._address)
                try:
                    await self._listen(connection)
                finally:
                    await connection.close()
            except (psycopg.Error, OSError) as error:
                if not lost:
                    _LOG.warning("journal_deaf %s", type(error).__name__)
                lost = True
            await asyncio.sleep(0.5)

    async def _listen(self, connection: Connection) -> None:
        listen = sql.SQL("LISTEN {}").format(sql.Identifier(self._channel))
        await within(connection, connection.execute(listen), _SILENCE_S)
        self._event.set()  # something may have been said before
        while True:
            async for _ in connection.notifies(timeout=_SILENCE_S):
                self._event.set()
            await within(connection, connection.execute("SELECT"), _SILENCE_S)
