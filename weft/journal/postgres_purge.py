"""Retention: runs that ended long ago go, with what only they need."""

from __future__ import annotations

from typing import Any, Final

from weft.journal.base import Purged
from weft.journal.postgres_link import Connection, transaction

LIMIT_S: Final = 55.0

_OLD: Final = """
SELECT s.id FROM weft.states AS s
WHERE s.state IN ('succeeded', 'failed', 'cancelled') AND s.since < %s AND NOT s.doubt
ORDER BY s.since LIMIT %s FOR UPDATE SKIP LOCKED
"""

_DOUBTFUL: Final = """
SELECT count(*) FROM weft.states
WHERE state IN ('succeeded', 'failed', 'cancelled') AND since < %s AND doubt
"""

_SPENT: Final = """
INSERT INTO weft.spent (id, purged_at)
SELECT id, extract(epoch FROM now())::float8 FROM weft.runs WHERE id = ANY(%s) AND trigger <> 'null'
ON CONFLICT DO NOTHING
"""

_DOCUMENTS: Final = (
    "SELECT hash FROM weft.documents WHERE hash = ANY(%s) FOR UPDATE SKIP LOCKED",
    """
    DELETE FROM weft.documents AS d WHERE hash = ANY(%s)
        AND (SELECT max(r.document) FROM weft.runs AS r WHERE r.document = d.hash) IS NULL
        AND NOT EXISTS (SELECT FROM weft.schedules AS s WHERE s.document = d.hash)
    """,
)
_FILES: Final = (
    "SELECT hash FROM weft.files WHERE hash = ANY(%s) FOR UPDATE SKIP LOCKED",
    """
    DELETE FROM weft.files AS f WHERE hash = ANY(%s)
        AND (SELECT max(a.hash) FROM weft.artifacts AS a WHERE a.hash = f.hash) IS NULL
    """,
)
"""How what nobody uses is locked, and how it is removed."""

_HOLDS: Final = "UPDATE weft.holds SET run_id = NULL WHERE run_id = ANY(%s)"

_HOLDS_LEFT: Final = """
DELETE FROM weft.holds
WHERE run_id IS NULL AND at < %s AND (live OR at + coalesce(window_s, 0) <= extract(epoch FROM now())::float8)
"""

_OCCURRENCES: Final = """
DELETE FROM weft.occurrences AS o WHERE (schedule, key) IN (
    SELECT o.schedule, o.key FROM weft.occurrences AS o JOIN weft.schedules AS s ON s.id = o.schedule
    WHERE o.decided_at < %s AND o.at <= s.watermark AND NOT EXISTS (SELECT FROM weft.runs AS r WHERE r.id = o.run_id)
    ORDER BY o.decided_at LIMIT %s
)
"""


async def purge(connection: Connection, before: float, limit: int) -> Purged:
    """Remove runs in one transaction; a document goes when nobody is about to use it."""
    async with transaction(connection, limit_s=LIMIT_S):
        # With few documents a planner thinks that a run of each is found at once; of one that goes, none is.
        await connection.execute("SET LOCAL enable_seqscan = off")
        [(doubtful,)] = await _rows(connection, _DOUBTFUL, before)
        ids = [run_id for (run_id,) in await _rows(connection, _OLD, before, limit)]
        await connection.execute(_SPENT, (ids,))
        records = await _deleted(connection, "DELETE FROM weft.records WHERE run_id = ANY(%s)", ids)
        artifacts = await _rows(connection, "DELETE FROM weft.artifacts WHERE run_id = ANY(%s) RETURNING hash", ids)
        await connection.execute("DELETE FROM weft.payloads WHERE run_id = ANY(%s)", (ids,))
        await connection.execute("DELETE FROM weft.states WHERE id = ANY(%s)", (ids,))
        gone = await _rows(connection, "DELETE FROM weft.runs WHERE id = ANY(%s) RETURNING document", ids)
        await connection.execute(_HOLDS, (ids,))
        await connection.execute(_HOLDS_LEFT, (before,))
        await connection.execute(_OCCURRENCES, (before, limit))
        documents = await _unused(connection, _DOCUMENTS, {document for (document,) in gone})
        await _unused(connection, _FILES, {hash_ for (hash_,) in artifacts})
    kept = {"doubt": doubtful} if doubtful else {}
    return Purged(runs=len(gone), records=records, documents=documents, artifacts=len(artifacts), kept=kept)


async def _unused(connection: Connection, statements: tuple[str, str], hashes: set[str]) -> int:
    """Remove what no run uses. Who is about to use it holds a lock, or has done so before the second statement looks."""
    lock, delete = statements
    return await _deleted(connection, delete, [hash_ for (hash_,) in await _rows(connection, lock, sorted(hashes))])


async def _rows(connection: Connection, text: str, *values: Any) -> list[tuple[Any, ...]]:
    return await (await connection.execute(text.encode(), values)).fetchall()


async def _deleted(connection: Connection, text: str, keys: list[str]) -> int:
    return (await connection.execute(text.encode(), (keys,))).rowcount
