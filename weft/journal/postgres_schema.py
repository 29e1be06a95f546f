"""The tables of the journal in PostgreSQL, in a schema of their own, and the way from one version to the next.

A run is two rows: what never changes, and where it stands. Only the second one is written while the run goes on; it is
small, its page has room for its next versions, and no index holds what each write changes (`since` is the instant of
the last change of its state, `changed_at` that of the last write). What ties a run to others stands there, too, though it
never changes: who decides about a run needs it under the run's lock. Texts are kept as texts: `jsonb` would change order
and numbers.

What attempts hold of a meter is a row each, for as long as their runs are kept (`run_id` is null when the run went first);
the sum of all that there ever were is a number, which stays. Rows that are `live` go when their attempt is over.
"""

from __future__ import annotations

from typing import Final

from weft.errors import JournalUnavailable
from weft.journal.postgres_link import Connection

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE weft.documents(hash text PRIMARY KEY, content text NOT NULL);

    CREATE TABLE weft.runs(
        id text PRIMARY KEY, workflow text NOT NULL, document text NOT NULL, inputs text NOT NULL, trigger text NOT NULL,
        started_at double precision NOT NULL, scheduled_at double precision, origin text
    );
    CREATE INDEX runs_youngest ON weft.runs(started_at DESC, id DESC);
    CREATE INDEX runs_of_workflow ON weft.runs(workflow, started_at DESC, id DESC);
    CREATE INDEX runs_of_document ON weft.runs(document);

    CREATE TABLE weft.states(
        id text PRIMARY KEY, started_at double precision NOT NULL,
        state text NOT NULL, epoch bigint NOT NULL, token text NOT NULL, born text NOT NULL, owner text NOT NULL,
        since double precision NOT NULL, changed_at double precision NOT NULL, wake_at double precision,
        news integer NOT NULL DEFAULT 0,
        crashes integer NOT NULL DEFAULT 0, alone boolean NOT NULL DEFAULT false, size bigint NOT NULL DEFAULT 0,
        claimed_size bigint NOT NULL DEFAULT 0, records integer NOT NULL DEFAULT 0,
        reason text, result text, doubt boolean NOT NULL DEFAULT false
    ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
    CREATE INDEX states_listed ON weft.states(state, started_at DESC, id DESC);
    CREATE INDEX states_ready ON weft.states(since, id) WHERE state = 'ready';
    CREATE INDEX states_waking ON weft.states(wake_at) WHERE state = 'waiting' AND wake_at IS NOT NULL;
    CREATE INDEX states_running ON weft.states(owner) WHERE state = 'running';
    CREATE INDEX states_open ON weft.states(started_at, id) WHERE state IN ('ready', 'running', 'waiting', 'parked');
    CREATE INDEX states_ended ON weft.states(since) WHERE state IN ('succeeded', 'failed', 'cancelled');

    CREATE TABLE weft.records(
        run_id text NOT NULL, path text NOT NULL, n integer NOT NULL, kind text NOT NULL, seq integer NOT NULL,
        payload text, hash text,
        PRIMARY KEY (run_id, path, n, kind), CHECK ((payload IS NULL) <> (hash IS NULL))
    );

    CREATE TABLE weft.payloads(
        run_id text NOT NULL, hash text NOT NULL, payload text NOT NULL, PRIMARY KEY (run_id, hash)
    );

    CREATE TABLE weft.files(hash text PRIMARY KEY, content bytea NOT NULL);
    ALTER TABLE weft.files ALTER content SET STORAGE EXTERNAL;

    CREATE TABLE weft.artifacts(run_id text NOT NULL, hash text NOT NULL, PRIMARY KEY (run_id, hash));
    CREATE INDEX artifacts_of_file ON weft.artifacts(hash);

    CREATE TABLE weft.spent(id text PRIMARY KEY, purged_at double precision NOT NULL);

    CREATE TABLE weft.moved(lineage text PRIMARY KEY, commits bigint NOT NULL, at double precision NOT NULL);

    CREATE TABLE weft.processes(
        name text PRIMARY KEY, beat bigint NOT NULL, at timestamptz NOT NULL
    ) WITH (fillfactor = 50);
    """,
    """
    ALTER TABLE weft.states
        ADD schedule text, ADD parent text, ADD parent_path text, ADD parent_n integer,
        ADD gate text, ADD gate_limit integer, ADD gate_policy text, ADD gate_at double precision,
        ADD queued boolean NOT NULL DEFAULT false, ADD children boolean NOT NULL DEFAULT false;
    CREATE INDEX states_of_schedule ON weft.states(schedule, started_at DESC, id DESC) WHERE schedule IS NOT NULL;
    CREATE INDEX states_open_of_schedule ON weft.states(schedule, started_at, id)
        WHERE schedule IS NOT NULL AND state IN ('ready', 'running', 'waiting', 'parked');
    CREATE INDEX states_of_parent ON weft.states(parent, started_at DESC, id DESC) WHERE parent IS NOT NULL;
    CREATE INDEX states_at_gate ON weft.states(gate, queued, gate_at, id)
        WHERE gate IS NOT NULL AND state IN ('ready', 'running', 'waiting', 'parked');

    CREATE TABLE weft.schedules(
        id text PRIMARY KEY, workflow text NOT NULL, source text NOT NULL, spec text NOT NULL, document text NOT NULL,
        watermark double precision NOT NULL, next_at double precision, fire_at double precision,
        paused boolean NOT NULL, retired boolean NOT NULL
    );
    CREATE INDEX schedules_due ON weft.schedules(fire_at, id) WHERE NOT paused AND NOT retired AND fire_at IS NOT NULL;
    CREATE INDEX schedules_of_document ON weft.schedules(document);

    CREATE TABLE weft.occurrences(
        schedule text NOT NULL, key text NOT NULL, at double precision NOT NULL, fate text NOT NULL,
        decided_at double precision NOT NULL, reason text, run_id text, count integer NOT NULL,
        PRIMARY KEY (schedule, key)
    );
    CREATE INDEX occurrences_youngest ON weft.occurrences(at DESC, schedule DESC, key DESC);
    CREATE INDEX occurrences_of_schedule ON weft.occurrences(schedule, at DESC, key DESC);
    CREATE INDEX occurrences_decided ON weft.occurrences(decided_at);

    CREATE TABLE weft.meters(key text PRIMARY KEY, total bigint NOT NULL) WITH (fillfactor = 50);

    CREATE TABLE weft.holds(
        run_id text, path text NOT NULL, n integer NOT NULL, epoch bigint NOT NULL, key text NOT NULL,
        amount bigint NOT NULL, at double precision NOT NULL, window_s double precision, live boolean NOT NULL,
        UNIQUE (run_id, path, n, epoch, key)
    );
    CREATE INDEX holds_of_key ON weft.holds(key, at) INCLUDE (amount);
    CREATE INDEX holds_live ON weft.holds(key) WHERE live;
    CREATE INDEX holds_left ON weft.holds(at) WHERE run_id IS NULL;
    """,
)
"""Each is done once, in a transaction; what has been released is never changed."""

NEWEST: Final = len(MIGRATIONS)
_LOCK: Final = 0x77656674
"""`weft`: the number of the advisory lock under which the schema changes."""


MIGRATION_S: Final = 600.0
"""Seconds that all of it may take."""


async def is_newest(connection: Connection) -> bool:
    """Tell whether nothing is to be done; no right to change the schema is needed to know.

    Raises:
        JournalUnavailable: The schema was made by a newer Weft, or the database cannot keep every text.
    """
    row = await (await connection.execute("SELECT current_setting('server_encoding')")).fetchone()
    if row != ("UTF8",):
        raise JournalUnavailable(
            f"The encoding of this database is {row[0] if row else 'unknown'}; the journal needs UTF8.",
            code="journal_encoding",
            remedy="Make one: CREATE DATABASE weft ENCODING 'UTF8' TEMPLATE template0; or createdb -E UTF8 -T template0 weft",
        )
    return await _version(connection) == NEWEST


async def migrate(connection: Connection) -> None:
    """Bring the schema to the newest version; processes that start together wait for the first of them.

    Raises:
        JournalUnavailable: The schema was made by a newer Weft.
    """
    await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
    try:
        await connection.execute("SET LOCAL statement_timeout = '10min'")
        await connection.execute("SET LOCAL lock_timeout = '10min'")
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        version = await _version(connection)
        if version == 0:
            await connection.execute("CREATE SCHEMA IF NOT EXISTS weft")
            await connection.execute("CREATE TABLE weft.version(number integer NOT NULL)")
            await connection.execute("INSERT INTO weft.version VALUES (0)")
        for number in range(version, NEWEST):
            await connection.execute(MIGRATIONS[number].encode())
        await connection.execute("UPDATE weft.version SET number = %s", (NEWEST,))
        await connection.execute("COMMIT")
    except BaseException:
        if not connection.closed:
            await connection.execute("ROLLBACK")
        raise


async def _version(connection: Connection) -> int:
    # `to_regclass` would answer from a cache that does not know yet what was made while this transaction waited.
    found = await connection.execute(
        "SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE n.nspname = 'weft' AND c.relname = 'version'"
    )
    if not found.rowcount:
        return 0
    row = await (await connection.execute("SELECT number FROM weft.version")).fetchone()
    version = int(row[0]) if row else 0
    if version > NEWEST:
        raise JournalUnavailable(
            f"The journal in this database has version {version}; this Weft knows versions up to {NEWEST}.",
            code="journal_newer",
            remedy="Use the newest Weft that has worked with this database.",
        )
    return version
