"""A second engine behind the same interface, as proof that it can be exchanged: pgqueuer, over asyncpg."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import psycopg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.drivers.psycopg import PsycopgDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.models import Job
from pgqueuer.domain.settings import DBSettings
from pgqueuer.ports.driver import Driver
from pgqueuer.queries import Queries
from psycopg.conninfo import conninfo_to_dict

from weft.dispatch.base import Advance, Hands, first_of
from weft.errors import JournalUnavailable

ENTRYPOINT: Final = "advance"
BATCH: Final = 10
SETTINGS: Final = DBSettings(db_schema="weft_pgqueuer")

_LOG = logging.getLogger("pgqueuer_adapter")


class PgQueuerDispatcher:
    """Delivers runs by the jobs of pgqueuer; its own worker is begun anew whenever the database has gone away."""

    def __init__(self, dsn: str, *, limit: int = 100, retry_s: float = 0.5) -> None:
        self._dsn = dsn
        self._retry_s = retry_s
        self._hands = Hands(limit)

    @property
    def limit(self) -> int:
        return self._hands.limit

    @property
    def in_hand(self) -> int:
        return len(self._hands)

    async def install(self) -> None:
        opening = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True)
        async with opening as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(417)")
            queries = _queries(PsycopgDriver(connection))
            if not await queries.schema_is_installed():
                await queries.install()

    async def enqueue(self, connection: psycopg.AsyncConnection[Any], run_ids: Sequence[str]) -> None:
        many = len(run_ids)
        queries = _queries(PsycopgDriver(connection))
        await queries.enqueue([ENTRYPOINT] * many, [each.encode() for each in run_ids], [0] * many)

    async def again(self, run_ids: Sequence[str]) -> None:
        try:
            async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
                await self.enqueue(connection, run_ids)
        except psycopg.Error as error:
            raise JournalUnavailable("The queue of runs cannot be reached.") from error

    def look(self) -> None:
        """Do nothing: a notification comes with each job."""

    def stop(self) -> None:
        self._hands.stopping.set()

    async def run(self, advance: Advance) -> None:
        try:
            while not self._hands.stopping.is_set():
                await self._attend(advance)
            await self._hands.below(1)
        except BaseException:
            await self._hands.drop()
            raise

    async def _attend(self, advance: Advance) -> None:
        stopping = self._hands.stopping
        try:
            connection = await asyncpg.connect(timeout=5, **_asyncpg(self._dsn))
            try:
                manager = QueueManager(_queries(AsyncpgDriver(connection)))

                @manager.entrypoint(ENTRYPOINT)
                async def deliver(job: Job) -> None:
                    run_id = (job.payload or b"").decode()
                    while self.in_hand >= self.limit and not stopping.is_set():
                        await first_of(self._hands.below(self.limit), stopping.wait())
                    if stopping.is_set():
                        await self.again([run_id])
                    else:
                        self._hands.take(run_id, advance)

                fetching = asyncio.create_task(
                    manager.run(
                        dequeue_timeout=timedelta(seconds=1),
                        batch_size=BATCH,
                        max_concurrent_tasks=2 * BATCH,
                        heartbeat_timeout=timedelta(seconds=5),
                    )
                )
                await first_of(stopping.wait(), asyncio.wait({fetching}))
                manager.shutdown.set()
                await fetching
            finally:
                connection.terminate()
        except Exception as error:  # noqa: BLE001  it exits when the database goes away; this one stays
            _LOG.warning("pgqueuer_away %r", error)
            await first_of(stopping.wait(), timeout_s=self._retry_s)


def _queries(driver: Driver) -> Queries:
    return Queries(
        driver, QueryBuilderEnvironment(SETTINGS), QueryQueueBuilder(SETTINGS), QuerySchedulerBuilder(SETTINGS)
    )


def _asyncpg(dsn: str) -> dict[str, Any]:
    """Return a connection string of libpq as asyncpg's arguments."""
    names = {"host": "host", "port": "port", "user": "user", "password": "password", "dbname": "database"}
    return {names[name]: value for name, value in conninfo_to_dict(dsn).items() if name in names}
