"""The journal in one SQLite file: the embedded default."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from pathlib import Path
from typing import Final

from weft.errors import JournalRefused, NotFound
from weft.journal.base import (
    Claim,
    Ended,
    OpenRun,
    Record,
    RunRow,
    another_owner,
    has_ended,
    other_content,
    reference,
    refuse_large_artifact,
    unknown_artifact,
)
from weft.journal.sqlite_file import Migrations
from weft.journal.writer import Writer
from weft.types import JsonObject

MIGRATIONS: Final[Migrations] = (
    (
        """
        CREATE TABLE runs(
            id TEXT PRIMARY KEY, workflow TEXT NOT NULL, inputs TEXT NOT NULL, trigger TEXT NOT NULL,
            started_at REAL NOT NULL, scheduled_at REAL,
            epoch INTEGER NOT NULL, token TEXT NOT NULL, owner TEXT NOT NULL, state TEXT, result TEXT
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE records(
            seq INTEGER PRIMARY KEY, run_id TEXT NOT NULL REFERENCES runs(id), path TEXT NOT NULL, n INTEGER NOT NULL,
            kind TEXT NOT NULL, payload TEXT NOT NULL
        ) STRICT
        """,
        "CREATE INDEX runs_unfinished ON runs(started_at) WHERE state IS NULL",
        "CREATE UNIQUE INDEX records_key ON records(run_id, path, n, kind)",
        """
        CREATE TABLE artifacts(
            run_id TEXT NOT NULL REFERENCES runs(id), hash TEXT NOT NULL, content BLOB NOT NULL, PRIMARY KEY (run_id, hash)
        ) STRICT, WITHOUT ROWID
        """,
    ),
)


class SqliteJournal:
    """Keeps runs in a file; any number of processes of one machine may use it at a time.

    Args:
        path: The file.
        owner: The name by which others know this process (`Life.name`); written beside what it claims.
    """

    def __init__(self, path: Path, *, owner: str = "") -> None:
        self.writer = Writer(path, MIGRATIONS)
        self._owner = owner

    async def close(self) -> None:
        """Write what waits, then let go of the file."""
        await self.writer.close()

    async def accept(self, run: RunRow) -> Claim:
        claim = Claim(run.id, 1, secrets.token_hex(16))
        row = (
            run.id,
            run.workflow,
            run.inputs,
            run.trigger,
            run.started_at,
            run.scheduled_at,
            claim.epoch,
            claim.token,
            self._owner,
        )

        def work(connection: sqlite3.Connection) -> Claim:
            known = connection.execute("SELECT 1 FROM runs WHERE id = ?", (run.id,)).fetchone()
            if known is not None:
                raise JournalRefused(f"Run {run.id!r} is known already.", remedy="Give the new run an id of its own.")
            connection.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)", row)
            return claim

        return await self.writer.do(work)

    async def unfinished(self) -> list[OpenRun]:
        def work(connection: sqlite3.Connection) -> list[OpenRun]:
            found = connection.execute(
                "SELECT id, workflow, started_at, epoch, owner FROM runs WHERE state IS NULL ORDER BY started_at, id"
            )
            return [OpenRun(*each) for each in found]

        return await self.writer.do(work)

    async def claim(self, run_id: str, *, ends: int) -> Claim:
        def work(connection: sqlite3.Connection) -> Claim:
            epoch, _, state = _owner(connection, run_id)
            if state is not None:
                raise has_ended(run_id, state)
            if epoch != ends:
                raise another_owner(run_id)
            claim = Claim(run_id, epoch + 1, secrets.token_hex(16))
            connection.execute(
                "UPDATE runs SET epoch = ?, token = ?, owner = ? WHERE id = ?",
                (claim.epoch, claim.token, self._owner, run_id),
            )
            return claim

        return await self.writer.do(work)

    async def load(self, run_id: str) -> tuple[RunRow, list[Record], Ended | None]:
        def work(connection: sqlite3.Connection) -> tuple[RunRow, list[Record], Ended | None]:
            row = connection.execute(
                "SELECT id, workflow, inputs, trigger, started_at, scheduled_at, state, result FROM runs WHERE id = ?",
                (run_id,),
            ).fetchone()
            if row is None:
                raise _no_run(run_id)
            found = connection.execute(
                "SELECT path, n, kind, payload FROM records WHERE run_id = ? ORDER BY seq", (run_id,)
            ).fetchall()
            ended = None if row[6] is None else Ended(row[6], row[7])
            return RunRow(*row[:6]), [Record(*each) for each in found], ended

        return await self.writer.do(work)

    async def record(self, claim: Claim, *records: Record) -> None:
        def work(connection: sqlite3.Connection) -> None:
            _require(connection, claim)
            new: dict[tuple[str, int, str], Record] = {}
            for record in records:
                if not _known(connection, claim.run_id, record):
                    key = record.path, record.n, record.kind
                    if new.setdefault(key, record) != record:
                        raise other_content(claim.run_id, record)
            connection.executemany(
                "INSERT INTO records(run_id, path, n, kind, payload) VALUES (?, ?, ?, ?, ?)",
                [(claim.run_id, each.path, each.n, each.kind, each.payload) for each in new.values()],
            )

        await self.writer.do(work)

    async def finish(self, claim: Claim, ended: Ended) -> None:
        def work(connection: sqlite3.Connection) -> None:
            _require(connection, claim)
            connection.execute(
                "UPDATE runs SET state = ?, result = ? WHERE id = ?", (ended.state, ended.result, claim.run_id)
            )

        await self.writer.do(work)

    async def save_artifact(self, run_id: str, content: bytes, *, name: str, content_type: str) -> JsonObject:
        refuse_large_artifact(content, name)
        artifact = hashlib.sha256(content).hexdigest()

        def work(connection: sqlite3.Connection) -> None:
            _owner(connection, run_id)
            connection.execute(
                "INSERT INTO artifacts VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (run_id, artifact, content)
            )

        await self.writer.do(work)
        return reference(artifact, content, name=name, content_type=content_type)

    async def read_artifact(self, run_id: str, artifact: str) -> bytes:
        def work(connection: sqlite3.Connection) -> bytes:
            _owner(connection, run_id)
            row = connection.execute(
                "SELECT content FROM artifacts WHERE run_id = ? AND hash = ?",
                (run_id, artifact.removeprefix("sha256:")),
            ).fetchone()
            if row is None:
                raise unknown_artifact(artifact)
            return bytes(row[0])

        return await self.writer.do(work)


def _owner(connection: sqlite3.Connection, run_id: str) -> tuple[int, str, str | None]:
    row = connection.execute("SELECT epoch, token, state FROM runs WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        raise _no_run(run_id)
    epoch, token, state = row
    return epoch, token, state


def _require(connection: sqlite3.Connection, claim: Claim) -> None:
    """Refuse a write under a claim that is void, or to a run that has ended."""
    epoch, token, state = _owner(connection, claim.run_id)
    if (epoch, token) != (claim.epoch, claim.token):
        raise another_owner(claim.run_id)
    if state is not None:
        raise has_ended(claim.run_id, state)


def _known(connection: sqlite3.Connection, run_id: str, record: Record) -> bool:
    row = connection.execute(
        "SELECT payload FROM records WHERE run_id = ? AND path = ? AND n = ? AND kind = ?",
        (run_id, record.path, record.n, record.kind),
    ).fetchone()
    if row is not None and row[0] != record.payload:
        raise other_content(run_id, record)
    return row is not None


def _no_run(run_id: str) -> NotFound:
    return NotFound(f"There is no run {run_id!r}.", code="unknown_run")
