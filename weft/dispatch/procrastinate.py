"""The dispatcher of many machines: Procrastinate, on the PostgreSQL database of the journal.

Of the engine it uses the queue: enqueueing in the journal's transaction, fetching by priority and age, notification. A job is
a message: it is deleted as soon as its run has been handed on, and the journal alone knows whose the run is. So a job never
outlives a worker's right to its run: a process that was stopped and wakes up cannot end the job of its successor (§2.3,
pitfall 3), runs that sleep have no job (pitfall 5), and each take-over is a new job. The engine's own worker is not used: it
keeps a job until its task has ended, and when the database goes away it stops to fetch until all of them have (pitfall 6).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

import procrastinate
import psycopg
from procrastinate.exceptions import AlreadyEnqueued, AppNotOpen, ConnectorException
from procrastinate.jobs import Job, Notification
from procrastinate.schema import SchemaManager
from psycopg import sql
from psycopg.conninfo import make_conninfo

from weft.dispatch.base import Advance, Hands, first_of
from weft.errors import JournalUnavailable
from weft.journal.postgres_link import parameters

QUEUE: Final = "weft"
TASK: Final = "advance"
CONNECTIONS: Final = 4
OUTAGES: Final = (psycopg.Error, ConnectorException, AppNotOpen, TimeoutError, OSError)

PLANNER: Final = "-c enable_sort=off -c enable_bitmapscan=off"
"""A queue is usually empty, so the statistics say so, and at a burst each fetch would sort the whole backlog (pitfall 8)."""

LIMITS: Final = "-c statement_timeout=10000"

FETCH: Final = """
WITH RECURSIVE fetched AS (
    SELECT 1 AS number, job.* FROM procrastinate_fetch_job_v2(%(queues)s::varchar[], %(worker)s) AS job
    UNION ALL
    SELECT number + 1, job.* FROM fetched,
        LATERAL procrastinate_fetch_job_v2(%(queues)s::varchar[], %(worker)s + 0 * fetched.number) AS job
    WHERE fetched.id IS NOT NULL AND number < %(most)s
)
SELECT id, args FROM fetched WHERE id IS NOT NULL
"""
"""The engine's own fetch, again and again in one transaction until it finds nothing more: one job each would cost three
round trips and a commit. Unless an argument depends on the row before, the first answer would be taken for all."""

FORGET: Final = "DELETE FROM procrastinate_jobs WHERE id = ANY(%(ids)s::bigint[]) AND status IN ('todo', 'doing')"
"""What the engine's finish does with a job that is to be deleted; of several."""

AT_ONCE: Final = 20
"""Jobs of one fetch: the rest of a burst is for other workers."""

PATH: Final = """
SELECT set_config('search_path', concat_ws(',', %s::text, nullif(current_setting('search_path'), '')), true)
"""
"""Until the transaction ends, names are looked for in the queue's schema first: there may be another such queue."""

ALIVE: Final = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""Parameters of libpq: a connection whose other end is gone is given up within seconds (A12)."""

_LOG = logging.getLogger("weft.dispatch")


class ProcrastinateDispatcher:
    """Delivers runs by the jobs of Procrastinate.

    Its tables stand in a schema of their own, whose name ends in a fingerprint of their definition: another version of the
    engine makes other tables, both live side by side while workers are replaced one after another, and what is left in the
    old ones is found by the sweep.

    Args:
        dsn: The journal's database; a direct connection, since notifications do not pass a pooler.
        limit: How many runs to have in hand at a time.
        schema: Begins the name of the schema.
        poll_s: Seconds between two fetches when no notification comes (pitfall 7).
        beat_s: Seconds between two signs of life for the engine, which go on while this process drains (§2.4).
        stalled_s: After so many without one, what a worker fetched and did not hand on is delivered again.
        retry_s: Seconds between two tries to reach a database that is away.
        deadline_s: For one request, on this side: a connection that is half open would never answer (A12).

    Raises:
        JournalUnavailable: `dsn` is no address of a database.
    """

    def __init__(
        self,
        dsn: str,
        *,
        limit: int = 100,
        schema: str = "weft_jobs",
        poll_s: float = 1.0,
        beat_s: float = 2.0,
        stalled_s: float = 10.0,
        retry_s: float = 1.0,
        deadline_s: float = 10.0,
    ) -> None:
        definition = SchemaManager.get_schema()
        self.schema: Final = f"{schema}_{hashlib.sha256(definition.encode()).hexdigest()[:8]}"
        self._poll_s = poll_s
        self._beat_s = beat_s
        self._stalled_s = stalled_s
        self._retry_s = retry_s
        self._deadline_s = deadline_s
        self._hands = Hands(limit)
        self._news = asyncio.Event()
        self._dsn = _conninfo(dsn, self.schema)
        self._app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(
                conninfo=self._dsn, min_size=1, max_size=CONNECTIONS, timeout=deadline_s
            )
        )
        self._jobs = self._app.job_manager
        self._opened = asyncio.Event()  #: the engine has connections
        self._forgetting: set[asyncio.Task[None]] = set()
        self._worker: int | None = None  #: this process, as the engine knows it
        self._away = False  #: the database, at the last try

    @property
    def limit(self) -> int:
        return self._hands.limit

    @property
    def in_hand(self) -> int:
        return len(self._hands)

    async def install(self) -> None:
        name = sql.Identifier(self.schema)
        with _unavailable():
            async with await psycopg.AsyncConnection.connect(self._dsn) as first, self._open():
                # held until the end of this block: one process at a time looks, and makes what is missing
                await first.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (self.schema,))
                async with await psycopg.AsyncConnection.connect(self._dsn) as other:
                    await other.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name))
                if not await self._app.check_connection_async():
                    await self._app.schema_manager.apply_schema_async()

    async def enqueue(self, connection: psycopg.AsyncConnection[Any], run_ids: Sequence[str]) -> None:
        if not run_ids:
            return
        arguments: list[dict[str, Any]] = [{"run": run_id} for run_id in run_ids]
        jobs = self._app.configure_task(TASK, queue=QUEUE, connection=connection)
        try:
            async with connection.pipeline() if psycopg.Pipeline.is_supported() else contextlib.nullcontext():
                await connection.execute(PATH, (self.schema,))
                await jobs.batch_defer_async(*arguments)
        except ConnectorException as error:  # the journal knows psycopg's errors, not the engine's
            raise error.__cause__ or error from None

    async def again(self, run_ids: Sequence[str]) -> None:
        """Enqueue runs, each only if no job of this kind is waiting for it: a backlog must not grow with each sweep."""
        with _unavailable():
            async with asyncio.timeout(self._deadline_s):
                await self._opened.wait()
            for run_id in run_ids:
                with contextlib.suppress(AlreadyEnqueued):
                    async with asyncio.timeout(self._deadline_s):
                        await self._app.configure_task(TASK, queue=QUEUE, queueing_lock=run_id).defer_async(run=run_id)

    def look(self) -> None:
        """Do nothing: a notification comes with each job."""

    def stop(self) -> None:
        self._hands.stopping.set()

    async def run(self, advance: Advance) -> None:
        try:
            while not (self._hands.stopping.is_set() and len(self._hands) == 0):
                await self._attend(advance)
        except BaseException:
            await self._hands.drop()
            raise

    async def _attend(self, advance: Advance) -> None:
        """Be a worker of the engine until the end, or until the database goes away; what is in hand goes on (A1)."""
        try:
            async with await psycopg.AsyncConnection.connect(self._dsn):
                pass  # the pool below would look for the database ever more rarely
            async with self._open():
                worker = await self._register()
                parts = [self._work(advance, worker), self._beat(worker), self._listen()]
                tasks = {asyncio.create_task(part) for part in parts}
                try:
                    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
                finally:
                    await _end(tasks | self._forgetting)
        except Exception as error:  # noqa: BLE001  a worker stays, whatever the engine meets (A1)
            self._tell(error)
            await asyncio.sleep(self._retry_s)

    async def _work(self, advance: Advance, worker: int) -> None:
        await self._deliver(advance, worker)
        await self._hands.below(1)  # until then the beat goes on (§2.4)
        await asyncio.gather(*self._forgetting)
        await self.again(sorted(self._hands.left))
        await self._unregister()

    async def _deliver(self, advance: Advance, worker: int) -> None:
        stopping = self._hands.stopping
        while not stopping.is_set():
            if len(self._hands) >= self.limit:
                await first_of(stopping.wait(), self._hands.below(self.limit))
                continue
            self._news.clear()  # before the fetch: a notification that comes during it counts (pitfall 7)
            most = min(AT_ONCE, self.limit - len(self._hands))
            async with asyncio.timeout(self._deadline_s):
                jobs = await self._app.connector.execute_query_all_async(
                    FETCH, queues=[QUEUE], worker=worker, most=most
                )
            if self._away:
                self._away = False
                _LOG.warning("dispatch_back")
            if not jobs:
                await first_of(stopping.wait(), self._news.wait(), timeout_s=self._poll_s)
                continue
            for job in jobs:
                run_id = str(job["args"]["run"])
                if stopping.is_set():
                    self._hands.left.add(run_id)
                else:
                    self._hands.take(run_id, advance)
            task = asyncio.create_task(self._forget([job["id"] for job in jobs]))
            self._forgetting.add(task)
            task.add_done_callback(self._forgetting.discard)

    async def _forget(self, jobs: list[int]) -> None:
        """Delete jobs whose runs were handed on; if that fails, the runs are delivered once more, and dropped."""
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._app.connector.execute_query_async(FORGET, ids=jobs)
        except OUTAGES as error:
            _LOG.debug("jobs_stay %s %s", jobs, type(error.__cause__ or error).__name__)

    async def _register(self) -> int:
        """Begin anew: what an earlier try has fetched and not handed on is now without a worker."""
        await self._unregister()
        await self._jobs.prune_stalled_workers(self._stalled_s)
        self._worker = await self._jobs.register_worker()
        await self._redeliver()
        return self._worker

    async def _unregister(self) -> None:
        if self._worker is not None:
            await self._jobs.unregister_worker(self._worker)
            self._worker = None

    async def _redeliver(self) -> None:
        """Enqueue anew what a dead worker had fetched: first the new job, then the end of the old one (pitfall 3)."""
        for job in await self._jobs.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=self._stalled_s):
            await self.again([_run_of(job)])
            await self._forget([job.id] if job.id is not None else [])

    async def _beat(self, worker: int) -> None:
        while True:
            await asyncio.sleep(self._beat_s)
            async with asyncio.timeout(self._deadline_s):
                await self._jobs.update_heartbeat(worker)
                await self._redeliver()

    async def _listen(self) -> None:
        async def heard(*, channel: str, notification: Notification) -> None:
            self._news.set()

        await self._jobs.listen_for_jobs(on_notification=heard, queues=[QUEUE])

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        try:
            await self._app.open_async()
            self._opened.set()
            yield
        finally:
            self._opened.clear()
            await self._app.close_async()

    def _tell(self, error: Exception) -> None:
        """Log an outage once, anything else each time."""
        if not isinstance(error, (*OUTAGES, JournalUnavailable)):
            _LOG.error("dispatch_failed", exc_info=error)
        elif not self._away:
            self._away = True
            _LOG.warning("dispatch_away %s", type(error.__cause__ or error).__name__)


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: one that was just about to wait for a connection can miss it."""
    pending = tasks
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)
    await asyncio.gather(*tasks, return_exceptions=True)


def _run_of(job: Job) -> str:
    return str(job.task_kwargs["run"])


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    """Say in Weft's words that the database does not answer."""
    try:
        yield
    except OUTAGES as error:
        told = error.__cause__ or error
        raise JournalUnavailable(
            f"The queue of runs cannot be reached ({type(told).__name__}).",
            remedy="See that PostgreSQL runs, and that its user may create a schema.",
        ) from error


def _conninfo(dsn: str, schema: str) -> str:
    """Return the connection's parameters; those that the user gave come before ours."""
    given = parameters(dsn)
    options = " ".join((str(given.pop("options", "")), f"-c search_path={schema}", PLANNER, LIMITS)).strip()
    every: dict[str, Any] = {
        **ALIVE,
        "application_name": "weft",
        "client_encoding": "UTF8",
        **given,
        "options": options,
    }
    return make_conninfo(**every)
