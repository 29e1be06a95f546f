"""Sessions with SMTP servers that wait for their next mail: connecting and logging in cost more than a mail does.

Each event loop has sessions of its own, by what the connection says, and they end with it. A session that waited is
asked for a sign of life (RSET, RFC 5321 §4.1.1.5) before it is told of a mail, and one that has gone meanwhile is
replaced. So nothing that a pool knows or does not know makes a delivery doubtful.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from aiosmtplib import SMTP, SMTPException

from weft.sdk import ActionError

from ._mail_session import Server, client, drop, leave, log_on

CHECK_S: Final = 5.0  #: for the sign of life


@dataclass(slots=True)
class _Session:
    smtp: SMTP
    mails: int = 0  #: taken on in it
    until: float = 0.0  #: monotonic; how long it waits for the next
    alarm: asyncio.TimerHandle | None = None  #: when it has waited that long


class Lease:
    """The use of one session with a server, for one mail.

    `begin()` waits for its turn and brings a session that is alive; `end()` must follow in any case.
    """

    def __init__(self, where: Server) -> None:
        self._where = where
        self._pool: _Pool | None = None
        self._session: _Session | None = None
        self.waited = False  #: the session has carried a mail before

    @property
    def smtp(self) -> SMTP:
        assert self._session is not None  # noqa: S101 - begin() comes first
        return self._session.smtp

    async def begin(self) -> None:
        """Take a session that waits and is alive, or open one.

        Raises:
            ActionError: None could be opened; nothing was sent.
        """
        pool = await _pool_of(self._where)
        await pool.slots.acquire()
        self._pool = pool
        while pool.waiting:
            self._session = pool.take()
            if await _is_alive(self._session):
                self.waited = True
                return
            drop(self._session.smtp)
        await self._open()

    async def renew(self) -> None:
        """Open a session in the place of one that waited, and that the server ends now."""
        drop(self.smtp)
        await self._open()

    async def _open(self) -> None:
        self.waited = False
        self._session = _Session(client(self._where))
        await log_on(self._session.smtp, self._where)

    async def end(self, *, carried: bool, patience_s: float) -> None:
        """Give the session back when it has carried the mail; after a fault it is not used again."""
        pool, session = self._pool, self._session
        if pool is None or session is None:
            return
        try:
            session.mails += 1
            if carried and self._where.keep_s > 0 and session.mails < self._where.most_mails:
                pool.keep(session, self._where.keep_s)
                return
            if carried and patience_s > 0:
                await leave(session.smtp, patience_s)
            drop(session.smtp)
        finally:
            pool.slots.release()


async def _is_alive(session: _Session) -> bool:
    if not session.smtp.is_connected or time.monotonic() >= session.until:
        return False
    with contextlib.suppress(SMTPException, OSError):
        await session.smtp.rset(timeout=CHECK_S)
        return True
    return False


class _Pool:
    """The sessions with one server that one event loop has."""

    def __init__(self, most: int) -> None:
        self.slots = asyncio.Semaphore(most)
        self.waiting: list[_Session] = []
        self._leaving: set[asyncio.Task[None]] = set()

    def keep(self, session: _Session, keep_s: float) -> None:
        session.until = time.monotonic() + keep_s
        session.alarm = asyncio.get_running_loop().call_later(keep_s, self._expire, session)
        self.waiting.append(session)

    def take(self) -> _Session:
        """Return the session that has waited least: its server is the least likely to have ended it."""
        session = self.waiting.pop()
        if session.alarm is not None:
            session.alarm.cancel()
        return session

    def _expire(self, session: _Session) -> None:
        self.waiting.remove(session)
        task = asyncio.create_task(_say_goodbye(session))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        sessions = [self.take() for _ in list(self.waiting)]
        await asyncio.gather(*map(_say_goodbye, sessions))


async def _say_goodbye(session: _Session) -> None:
    try:
        await leave(session.smtp)
    finally:
        drop(session.smtp)


_Pools = dict[Server, _Pool]
_pools: dict[asyncio.AbstractEventLoop, tuple[_Pools, AsyncGenerator[_Pools]]] = {}


async def _pool_of(where: Server) -> _Pool:
    loop = asyncio.get_running_loop()
    if loop not in _pools:
        keeper = _keep(loop)
        _pools[loop] = await anext(keeper), keeper
    return _pools[loop][0].setdefault(where, _Pool(where.most_sessions))


async def _keep(loop: asyncio.AbstractEventLoop) -> AsyncGenerator[_Pools]:
    pools: _Pools = {}
    try:  # a loop closes the generators it has started before it ends: `loop.shutdown_asyncgens()`
        yield pools
    finally:
        _pools.pop(loop, None)
        await asyncio.gather(*(pool.close() for pool in pools.values()))


def has_ended(error: ActionError) -> bool:
    """Whether an error says that the server has ended the session, not that it refuses the mail."""
    return error.kind == "unreachable" or error.status == 421  # RFC 5321 §3.8
