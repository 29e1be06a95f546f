"""The tables of the journal in one SQLite file."""

from __future__ import annotations

from typing import Final

from weft.journal.sqlite_file import Migrations

MIGRATIONS: Final[Migrations] = (
    (
        # What a run was accepted with, which may be large, and what changes at every turn of it stand apart.
        """
        CREATE TABLE runs(
            run INTEGER PRIMARY KEY, document TEXT NOT NULL, inputs TEXT NOT NULL, trigger TEXT NOT NULL,
            scheduled_at REAL, origin TEXT
        ) STRICT
        """,
        "CREATE INDEX runs_document ON runs(document)",
        """
        CREATE TABLE statuses(
            run INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, workflow TEXT NOT NULL, started_at REAL NOT NULL,
            state TEXT NOT NULL, epoch INTEGER NOT NULL, token TEXT NOT NULL, owner TEXT NOT NULL,
            changed_at REAL NOT NULL, wake_at REAL, news INTEGER NOT NULL DEFAULT 0,
            crashes INTEGER NOT NULL DEFAULT 0, alone INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL,
            claimed_size INTEGER NOT NULL, doubt INTEGER NOT NULL DEFAULT 0, reason TEXT, result TEXT
        ) STRICT
        """,
        "CREATE INDEX statuses_by_state ON statuses(state, started_at, id)",
        "CREATE INDEX statuses_by_workflow ON statuses(workflow, state, started_at, id)",
        # What is to be done is found without looking at the runs that need nothing.
        "CREATE INDEX statuses_ready ON statuses(changed_at, id) WHERE state = 'ready'",
        "CREATE INDEX statuses_wake ON statuses(wake_at, id) WHERE state = 'waiting' AND wake_at IS NOT NULL",
        "CREATE INDEX statuses_running ON statuses(owner, state) WHERE state = 'running'",
        "CREATE INDEX statuses_news ON statuses(owner, id, news) WHERE state = 'running' AND news > 0",
        "CREATE INDEX statuses_ended ON statuses(doubt, changed_at) WHERE result IS NOT NULL",
        # `payload` is null where a blob holds it.
        """
        CREATE TABLE records(
            seq INTEGER PRIMARY KEY, run INTEGER NOT NULL, path TEXT NOT NULL, n INTEGER NOT NULL, kind TEXT NOT NULL,
            payload TEXT, blob TEXT
        ) STRICT
        """,
        "CREATE UNIQUE INDEX records_key ON records(run, path, n, kind)",
        "CREATE INDEX records_blob ON records(blob) WHERE blob IS NOT NULL",
        "CREATE TABLE artifacts(run INTEGER NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (run, hash)) STRICT, WITHOUT ROWID",
        "CREATE INDEX artifacts_hash ON artifacts(hash)",
        "CREATE TABLE blobs(hash TEXT PRIMARY KEY, content BLOB NOT NULL) STRICT",
        "CREATE TABLE documents(hash TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT",
        # Ids of removed runs that must not begin again.
        "CREATE TABLE spent(id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID",
        # `commits` of this `lineage`; below 0 in a copy that was made as a backup.
        "CREATE TABLE file(lineage TEXT NOT NULL, commits INTEGER NOT NULL) STRICT",
        "INSERT INTO file VALUES (lower(hex(randomblob(16))), 0)",
    ),
)
